"""The NVML functions that the exporter calls, and the library's symbols for them.

A fake library must export these symbols; old drivers lack some of them.
"""

from __future__ import annotations

# The binding's name of each function, and the library's symbol.
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
