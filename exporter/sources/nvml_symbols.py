"""The functions of NVML that we call, and the symbols of the library behind them.

A stand-in of the library must export these symbols; a driver that lacks some of them is an old one.
"""

from __future__ import annotations

# The binding's name of every function that is called, and the library's symbol behind it.
SYMBOLS: dict[str, str] = {
    name: name
    for name in (
        "nvmlInitWithFlags", "nvmlShutdown", "nvmlErrorString", "nvmlSystemGetDriverVersion",
        "nvmlSystemGetCudaDriverVersion", "nvmlDeviceGetUUID", "nvmlDeviceGetName",
        "nvmlDeviceGetSerial", "nvmlDeviceGetVbiosVersion", "nvmlDeviceGetArchitecture",
        "nvmlDeviceGetMinorNumber", "nvmlDeviceGetTemperature", "nvmlDeviceGetTemperatureV",
        "nvmlDeviceGetMarginTemperature", "nvmlDeviceGetTemperatureThreshold",
        "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetEncoderUtilization",
        "nvmlDeviceGetDecoderUtilization", "nvmlDeviceGetJpgUtilization",
        "nvmlDeviceGetOfaUtilization", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetBAR1MemoryInfo",
        "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetClockInfo", "nvmlDeviceGetMaxClockInfo",
        "nvmlDeviceGetPerformanceState", "nvmlDeviceGetCurrentClocksEventReasons",
        "nvmlDeviceGetCurrentClocksThrottleReasons", "nvmlDeviceGetViolationStatus",
        "nvmlDeviceGetNumFans", "nvmlDeviceGetFanSpeed_v2", "nvmlDeviceGetFieldValues",
        "nvmlDeviceGetPowerUsage", "nvmlDeviceGetEnforcedPowerLimit",
        "nvmlDeviceGetPowerManagementLimitConstraints", "nvmlDeviceGetPowerManagementDefaultLimit",
        "nvmlDeviceGetMemoryErrorCounter", "nvmlDeviceGetSramEccErrorStatus",
        "nvmlDeviceGetRemappedRows", "nvmlDeviceGetRowRemapperHistogram",
        "nvmlDeviceGetUnrepairableMemoryFlag_v1", "nvmlDeviceGetRetiredPagesPendingStatus",
        "nvmlDeviceGetGpuFabricInfoV", "nvmlDeviceGetGpuFabricInfo", "nvmlDeviceGetNvLinkState",
        "nvmlDeviceGetCurrPcieLinkGeneration", "nvmlDeviceGetMaxPcieLinkGeneration",
        "nvmlDeviceGetCurrPcieLinkWidth", "nvmlDeviceGetMaxPcieLinkWidth",
        "nvmlDeviceGetPcieReplayCounter", "nvmlDeviceGetMigMode", "nvmlDeviceGetMaxMigDeviceCount",
        "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v3",
        "nvmlDeviceGetMigDeviceHandleByIndex", "nvmlDeviceGetGpuInstanceId",
        "nvmlDeviceGetComputeInstanceId", "nvmlDeviceGetProcessesUtilizationInfo",
        "nvmlDeviceGetPersistenceMode", "nvmlDeviceGetAccountingMode", "nvmlDeviceGetComputeMode",
        "nvmlDeviceGetEccMode", "nvmlGpmQueryDeviceSupport", "nvmlGpmSampleAlloc",
        "nvmlGpmSampleFree", "nvmlGpmSampleGet", "nvmlGpmMigSampleGet", "nvmlGpmMetricsGet",
        "nvmlEventSetCreate", "nvmlEventSetWait_v2", "nvmlDeviceRegisterEvents",
        "nvmlDeviceGetSupportedEventTypes",
    )
} | {
    "nvmlDeviceGetCount": "nvmlDeviceGetCount_v2",
    "nvmlDeviceGetHandleByIndex": "nvmlDeviceGetHandleByIndex_v2",
    "nvmlDeviceGetPciInfo": "nvmlDeviceGetPciInfo_v3",
    "nvmlDeviceGetMemoryInfo_v2": "nvmlDeviceGetMemoryInfo_v2",
}  # fmt: skip
