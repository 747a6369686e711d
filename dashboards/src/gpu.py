"""One GPU, or some: health, load, heat, memory, links, and whose it is."""

from board import GPU, UP, YES, Board, Panel, Row

ACTIONS = {
    "0": ("none", "green"), "1": ("restart the program", "yellow"), "2": ("reset", "orange"),
    "3": ("drain and reset", "orange"), "4": ("reboot the node", "red"), "5": ("inspect", "red"),
}  # fmt: skip
NAME = "{{node}}/{{gpu}}"

ROWS = (
    Row("Now", 4, (
        Panel("stat", 3, "GPUs up", "GPUs chosen above that are present and answer.", "short",
              ((f"sum(gpu_up{{{GPU}}})", "up"),)),
        Panel("stat", 3, "Recommended action", "The strongest of what the driver, XIDs, memory repairs "
              "and loss call for.", "short", ((f"max(gpu_recommended_action{{{GPU}}})", "action"),),
              states=ACTIONS),
        Panel("stat", 3, "XIDs in this range", "Errors of the driver, of all codes.", "short",
              ((f"round(sum(increase(gpu_xid_events_total{{{GPU}}}[$__range])))", "XIDs"),), bad_from=1),
        Panel("gauge", 3, "Hottest", "The hottest of them.", "celsius",
              ((f'max(gpu_temperature_celsius{{{GPU},sensor="gpu"}})', "hottest"),), top=110),
        Panel("gauge", 3, "Busy", "Mean share of time in which kernels ran.", "percentunit",
              ((f"avg(gpu_utilization_ratio{{{GPU}}})", "busy"),), top=1),
        Panel("gauge", 3, "Memory used", "Share of their memory that is in use.", "percentunit",
              ((f"sum(gpu_memory_used_bytes{{{GPU}}}) / sum(gpu_memory_total_bytes{{{GPU}}})", "used"),),
              top=1),
        Panel("gauge", 3, "Power", "Share of the limit that they draw.", "percentunit",
              ((f'sum(gpu_power_watts{{{GPU},scope="gpu"}}) / '
                f'sum(gpu_power_limit_watts{{{GPU},kind="default"}})', "power"),), top=1),
        Panel("stat", 3, "Processes of nobody", "Processes that belong to no job that holds the GPU.",
              "short", ((f"sum(gpu_unowned_processes{{{GPU}}})", "processes"),), bad_from=1),
    )),
    Row("Health", 8, (
        Panel("states", 12, "Up", "Present and answering.", "short", ((f"gpu_up{{{GPU}}}", NAME),),
              states=UP),
        Panel("states", 12, "Answers", "Whether calls into the driver return in time; alone it is no "
              "reason to act.", "short", ((f"gpu_responding{{{GPU}}}", NAME),),
              states={"0": ("hung", "red"), "1": ("answers", "green")}),
        Panel("table", 12, "XIDs by code", "By code; the pages of the alerts say what each asks "
              "for.", "short",
              ((f"round(sum by (node, gpu, xid) (increase(gpu_xid_errors_total{{{GPU}}}[$__range]))) > 0",
                "XID"),)),
        Panel("list", 12, "Who holds it", "Jobs and containers that hold the GPU.", "short",
              ((f"max by (node, gpu, job_id, user, namespace, pod) (gpu_allocation_info{{{GPU}}})",
                "holder"),)),
    )),
    Row("Load", 8, (
        Panel("lines", 8, "Utilization", "Share of time in which kernels ran.", "percentunit",
              ((f"gpu_utilization_ratio{{{GPU}}}", NAME),), top=1),
        Panel("lines", 8, "Multiprocessors at work", "Share of time in which a multiprocessor had work; "
              "low beside high utilization means little is done.", "percentunit",
              ((f"gpu_sm_active_ratio{{{GPU}}}", NAME),), top=1),
        Panel("lines", 8, "Tensor cores", "Share of time in which tensor cores were used.", "percentunit",
              ((f'gpu_tensor_active_ratio{{{GPU},kind="any"}}', NAME),), top=1),
        Panel("lines", 8, "Memory in use", "Of the GPU's own memory.", "bytes",
              ((f"gpu_memory_used_bytes{{{GPU}}}", NAME),)),
        Panel("lines", 8, "SM clock", "A GPU that is held down runs slower than its peers.", "hertz",
              ((f'gpu_clock_hertz{{{GPU},domain="sm"}}', NAME),)),
        Panel("lines", 8, "Processes", "Processes on the GPU.", "short",
              ((f"sum by (node, gpu) (gpu_processes{{{GPU}}})", NAME),)),
    )),
    Row("Heat and power", 8, (
        Panel("lines", 8, "GPU temperature", "With the limit at which it slows down.", "celsius",
              ((f'gpu_temperature_celsius{{{GPU},sensor="gpu"}}', NAME),
               (f'min(gpu_temperature_threshold_celsius{{{GPU},threshold="slowdown"}})', "slowdown"))),
        Panel("lines", 8, "Memory temperature", "From 92 degrees it is close to what the memory bears.",
              "celsius", ((f'gpu_temperature_celsius{{{GPU},sensor="memory"}}', NAME),), bad_from=92,
              alert="GpuMemoryTemperatureHigh"),
        Panel("lines", 8, "Power draw", "Of the GPU itself.", "watt",
              ((f'gpu_power_watts{{{GPU},scope="gpu"}}', NAME),)),
        Panel("lines", 24, "Held down", "Share of time in which the driver held clocks down, by reason.",
              "percentunit",
              ((f"rate(gpu_clock_event_seconds_total{{{GPU}}}[$__rate_interval]) > 0",
                "{{node}}/{{gpu}} {{reason}}"),), bad_from=0.1, alert="GpuThermalSlowdownHardware",
              top=1),
    )),
    Row("Memory and links", 8, (
        Panel("lines", 8, "ECC errors", "A second, since the driver was loaded; uncorrected ones make "
              "results wrong.", "short",
              ((f'sum by (node, gpu, error) (rate(gpu_ecc_errors_total{{{GPU},scope="volatile"}}'
                f"[$__rate_interval]))", "{{node}}/{{gpu}} {{error}}"),)),
        Panel("states", 8, "Repair of memory pending", "A row waits for a reset to be replaced.", "short",
              ((f"gpu_row_remap_pending{{{GPU}}}", NAME),), states=YES),
        Panel("lines", 8, "NVLinks", "Links that are active.", "short",
              ((f"gpu_nvlink_active_links{{{GPU}}}", NAME),)),
        Panel("lines", 8, "NVLink faults", "CRC, replay and recovery errors in ten minutes, all links.",
              "short", ((f"increase(gpu_nvlink_faults_total{{{GPU}}}[10m])", NAME),), bad_from=600,
              alert="GpuNvlinkErrorsHigh"),
        Panel("lines", 8, "PCIe width", "Lanes in use; fewer than its peers is a bad seat.", "short",
              ((f'gpu_pcie_link_width{{{GPU},which="current"}}', NAME),)),
        Panel("lines", 8, "PCIe replays", "Packets sent again, a second.", "short",
              ((f"rate(gpu_pcie_replay_total{{{GPU}}}[$__rate_interval])", NAME),), bad_from=1,
              alert="GpuPcieReplayRateHigh"),
        Panel("lines", 12, "NVLink traffic", "Received and sent, all links.", "Bps",
              ((f"rate(gpu_nvlink_receive_bytes_total{{{GPU}}}[$__rate_interval])", f"{NAME} in"),
               (f"rate(gpu_nvlink_transmit_bytes_total{{{GPU}}}[$__rate_interval])", f"{NAME} out"))),
        Panel("lines", 12, "PCIe traffic", "Received and sent.", "Bps",
              ((f"rate(gpu_pcie_receive_bytes_total{{{GPU}}}[$__rate_interval])", f"{NAME} in"),
               (f"rate(gpu_pcie_transmit_bytes_total{{{GPU}}}[$__rate_interval])", f"{NAME} out"))),
    )),
    Row("What it is", 8, (
        Panel("list", 24, "Cards", "Model, place and versions.", "short",
              ((f"max by (node, gpu, uuid, name, pci_bus_id, serial, driver, vbios) (gpu_info{{{GPU}}})",
                "card"),)),
    )),
)  # fmt: skip

BOARD = Board(
    "gpu", "a GPU", "Health, load, heat, memory and links of GPUs, and whose they are.",
    ("cluster", "node", "gpu"), ROWS,
)  # fmt: skip
