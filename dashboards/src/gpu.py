"""One or more GPUs: health, load, temperature, power, memory, links and allocations."""

from board import GPU, UP, YES, Board, Panel, Row

ACTIONS = {
    "0": ("none", "green"), "1": ("restart application", "yellow"), "2": ("reset GPU", "orange"),
    "3": ("drain and reset", "orange"), "4": ("reboot node", "red"), "5": ("inspect", "red"),
}  # fmt: skip
NAME = "{{node}}/{{gpu}}"

ROWS = (
    Row("Current state", 4, (
        Panel("stat", 3, "GPUs up", "Number of selected GPUs that are present and respond. Normal is all of "
              "them.", "short",
              ((f"sum(gpu_up{{{GPU}}})", "up"),)),
        Panel("stat", 3, "Recommended action", "The most severe action recommended for a selected GPU by the "
              "driver, XID errors, memory repairs or loss of the GPU. Normal is none.",
              "short", ((f"max(gpu_recommended_action{{{GPU}}})", "action"),),
              states=ACTIONS),
        Panel("stat", 3, "XID errors", "Number of XID errors of all codes in the selected time range. "
              "Normal is 0; see XID errors by code.", "short",
              ((f"round(sum(increase(gpu_xid_events_total{{{GPU}}}[$__range])))", "XID errors"),), bad_from=1),
        Panel("gauge", 3, "Max temperature", "Temperature of the hottest selected GPU, in °C. See GPU "
              "temperature for the slowdown threshold.", "celsius",
              ((f'max(gpu_temperature_celsius{{{GPU},sensor="gpu"}})', "max"),), top=110),
        Panel("gauge", 3, "Mean utilization", "Share of time in which kernels ran, averaged over the selected "
              "GPUs.", "percentunit",
              ((f"avg(gpu_utilization_ratio{{{GPU}}})", "utilization"),), top=1),
        Panel("gauge", 3, "Memory usage", "Share of the memory of the selected GPUs that is in use.",
              "percentunit",
              ((f"sum(gpu_memory_used_bytes{{{GPU}}}) / sum(gpu_memory_total_bytes{{{GPU}}})", "used"),),
              top=1),
        Panel("gauge", 3, "Power usage", "Power draw of the selected GPUs as a share of their default power "
              "limit. Normal is below 100 %.", "percentunit",
              ((f'sum(gpu_power_watts{{{GPU},scope="gpu"}}) / '
                f'sum(gpu_power_limit_watts{{{GPU},kind="default"}})', "power"),), top=1),
        Panel("stat", 3, "Unowned processes", "Number of processes that use a GPU and belong to no job or "
              "container that holds it. Normal is 0; see the runbook of alert GpuUnownedProcesses.",
              "short", ((f"sum(gpu_unowned_processes{{{GPU}}})", "processes"),), bad_from=1),
    )),
    Row("Health", 8, (
        Panel("states", 12, "GPU up", "Whether each GPU is present and responds. Normal is \"up\"; \"down\" means "
              "lost or hung.", "short", ((f"gpu_up{{{GPU}}}", NAME),),
              states=UP),
        Panel("states", 12, "GPU driver response", "Whether driver calls about each GPU return in time. Normal "
              "is \"responding\". A hung call alone is not a reason to act on the GPU.",
              "short", ((f"gpu_responding{{{GPU}}}", NAME),),
              states={"0": ("hung", "red"), "1": ("responding", "green")}),
        Panel("table", 12, "XID errors by code", "Number of XID errors in the selected time range, by GPU and "
              "code. Normal is an empty table; the runbooks of the XID alerts explain the codes.", "short",
              ((f"round(sum by (node, gpu, xid) (increase(gpu_xid_errors_total{{{GPU}}}[$__range]))) > 0",
                "XID errors"),)),
        Panel("list", 12, "GPU allocations", "Jobs and containers that hold each GPU.", "short",
              ((f"max by (node, gpu, job_id, user, namespace, pod) (gpu_allocation_info{{{GPU}}})",
                "allocation"),)),
    )),
    Row("Load", 8, (
        Panel("lines", 8, "GPU utilization", "Share of time in which kernels ran on each GPU.", "percentunit",
              ((f"gpu_utilization_ratio{{{GPU}}}", NAME),), top=1),
        Panel("lines", 8, "SM activity", "Share of time in which at least one warp was resident, averaged over "
              "the multiprocessors (SMs). Low activity at high utilization means that the GPU does little "
              "work.", "percentunit",
              ((f"gpu_sm_active_ratio{{{GPU}}}", NAME),), top=1),
        Panel("lines", 8, "Tensor core activity", "Share of time in which the tensor cores were active.",
              "percentunit",
              ((f'gpu_tensor_active_ratio{{{GPU},kind="any"}}', NAME),), top=1),
        Panel("lines", 8, "GPU memory used", "Device memory in use, in bytes.", "bytes",
              ((f"gpu_memory_used_bytes{{{GPU}}}", NAME),)),
        Panel("lines", 8, "SM clock", "SM clock of each GPU, in Hz. A throttled GPU has a lower clock than its "
              "peers; see SM clock throttling by reason.", "hertz",
              ((f'gpu_clock_hertz{{{GPU},domain="sm"}}', NAME),)),
        Panel("lines", 8, "GPU processes", "Number of processes that use each GPU.", "short",
              ((f"sum by (node, gpu) (gpu_processes{{{GPU}}})", NAME),)),
    )),
    Row("Temperature, power and throttling", 8, (
        Panel("lines", 8, "GPU temperature", "Temperature of each GPU, in °C. The line \"slowdown\" is the "
              "lowest temperature at which a selected GPU reduces its clocks.", "celsius",
              ((f'gpu_temperature_celsius{{{GPU},sensor="gpu"}}', NAME),
               (f'min(gpu_temperature_threshold_celsius{{{GPU},threshold="slowdown"}})', "slowdown"))),
        Panel("lines", 8, "GPU memory temperature", "Temperature of the memory of each GPU, in °C. Above 92 °C "
              "it is close to the limit of the memory; see the runbook of alert GpuMemoryTemperatureHigh.",
              "celsius", ((f'gpu_temperature_celsius{{{GPU},sensor="memory"}}', NAME),), bad_from=92,
              alert="GpuMemoryTemperatureHigh"),
        Panel("lines", 8, "GPU power draw", "Power draw of each GPU board, in watts.", "watt",
              ((f'gpu_power_watts{{{GPU},scope="gpu"}}', NAME),)),
        Panel("lines", 24, "SM clock throttling by reason", "Share of time in which the driver reduced the "
              "clocks, by reason. Hardware thermal slowdown (hw_thermal_slowdown) above 10 % is the threshold "
              "of alert GpuThermalSlowdownHardware.",
              "percentunit",
              ((f"rate(gpu_clock_event_seconds_total{{{GPU}}}[$__rate_interval]) > 0",
                "{{node}}/{{gpu}} {{reason}}"),), bad_from=0.1, alert="GpuThermalSlowdownHardware",
              top=1),
    )),
    Row("Memory and links", 8, (
        Panel("lines", 8, "ECC error rate", "ECC memory errors per second, corrected and uncorrected. Normal is no "
              "uncorrected error; such errors corrupt results, see the runbook of alert GpuEccUncorrectable.", "short",
              ((f'sum by (node, gpu, error) (rate(gpu_ecc_errors_total{{{GPU},scope="volatile"}}'
                f"[$__rate_interval]))", "{{node}}/{{gpu}} {{error}}"),)),
        Panel("states", 8, "Row remap pending", "Whether a memory row waits to be remapped. Normal is no; the "
              "remap needs a reset of the GPU.", "short",
              ((f"gpu_row_remap_pending{{{GPU}}}", NAME),), states=YES),
        Panel("lines", 8, "Active NVLinks", "Number of active NVLinks of each GPU. Normal is the same number on "
              "all GPUs of a node; see the runbook of alert GpuNvlinkDown.", "short",
              ((f"gpu_nvlink_active_links{{{GPU}}}", NAME),)),
        Panel("lines", 8, "NVLink errors", "Number of CRC, replay and recovery errors in 10 minutes over all "
              "NVLinks of a GPU. Alert GpuNvlinkErrorsHigh fires above 600.",
              "short", ((f"increase(gpu_nvlink_faults_total{{{GPU}}}[10m])", NAME),), bad_from=600,
              alert="GpuNvlinkErrorsHigh"),
        Panel("lines", 8, "PCIe link width", "Number of PCIe lanes in use. Normal is the same number as the "
              "peers; fewer lanes usually mean a badly seated card (alert GpuPcieLinkDowngraded).", "short",
              ((f'gpu_pcie_link_width{{{GPU},which="current"}}', NAME),)),
        Panel("lines", 8, "PCIe replay rate", "PCIe packets sent again per second. Normal is 0; alert "
              "GpuPcieReplayRateHigh fires above 1.", "short",
              ((f"rate(gpu_pcie_replay_total{{{GPU}}}[$__rate_interval])", NAME),), bad_from=1,
              alert="GpuPcieReplayRateHigh"),
        Panel("lines", 12, "NVLink throughput", "Payload received (rx) and sent (tx) over all NVLinks, in bytes "
              "per second.", "Bps",
              ((f"rate(gpu_nvlink_receive_bytes_total{{{GPU}}}[$__rate_interval])", f"{NAME} rx"),
               (f"rate(gpu_nvlink_transmit_bytes_total{{{GPU}}}[$__rate_interval])", f"{NAME} tx"))),
        Panel("lines", 12, "PCIe throughput", "Bytes received (rx) and sent (tx) over PCIe per second.", "Bps",
              ((f"rate(gpu_pcie_receive_bytes_total{{{GPU}}}[$__rate_interval])", f"{NAME} rx"),
               (f"rate(gpu_pcie_transmit_bytes_total{{{GPU}}}[$__rate_interval])", f"{NAME} tx"))),
    )),
    Row("Inventory", 8, (
        Panel("list", 24, "GPU inventory", "Model, serial number, PCI address, driver and VBIOS version of each "
              "GPU.", "short",
              ((f"max by (node, gpu, uuid, name, pci_bus_id, serial, driver, vbios) (gpu_info{{{GPU}}})",
                "GPU"),)),
    )),
)  # fmt: skip

BOARD = Board(
    "gpu", "GPU", "Health, load, temperature, power, throttling, memory, links and allocations of GPUs.",
    ("cluster", "node", "gpu"), ROWS,
)  # fmt: skip
