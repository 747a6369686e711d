"""Nodes without their GPUs: the metrics of node_exporter, and events from the kernel log."""

from board import NODE, UP, YES, Board, Panel, Row

LABEL = "{{node}}"
DISK = 'device!~"loop.*|ram.*"'
NET = 'device!~"lo|veth.*|docker.*|br-.*|cali.*"'

ROWS = (
    Row("Current state", 4, (
        Panel("stat", 4, "Nodes up", "Number of selected nodes whose exporter responds. Normal is all of them.",
              "short",
              ((f'sum(up{{job="node",{NODE}}})', "up"),)),
        Panel("stat", 4, "GPUs missing", "Number of expected GPUs minus GPUs up. Normal is 0; see the GPU "
              "dashboard.", "short",
              ((f"sum(gpu_expected{{{NODE}}}) - sum(gpu_up{{{NODE}}})", "missing"),), bad_from=1,
              link="gpu"),
        Panel("gauge", 4, "CPU utilization", "Share of time in which the CPUs were not idle, averaged over the "
              "selected nodes.", "percentunit",
              ((f'1 - avg(rate(node_cpu_seconds_total{{{NODE},mode="idle"}}[$__rate_interval]))',
                "utilization"),), top=1),
        Panel("gauge", 4, "Max memory usage", "Memory usage of the node with the smallest share of available "
              "memory. Normal is below 95 %; see the runbook of alert NodeMemoryPressure.", "percentunit",
              ((f"max(1 - node_memory_MemAvailable_bytes{{{NODE}}} / node_memory_MemTotal_bytes)",
                "used"),), bad_from=0.95, top=1),
        Panel("gauge", 4, "Fullest file system", "Used share of the fullest file system. Normal is below 95 %; "
              "see File system space available.", "percentunit",
              ((f"max(1 - node_filesystem_avail_bytes{{{NODE}}} / node_filesystem_size_bytes)",
                "used"),), bad_from=0.95, top=1),
        Panel("stat", 4, "Shortest uptime", "Time since the most recent boot of a selected node.", "s",
              ((f"min(time() - node_boot_time_seconds{{{NODE}}})", "uptime"),)),
    )),
    Row("CPU and memory", 8, (
        Panel("states", 12, "Exporter up", "Whether Prometheus can scrape the exporter of each node. \"down\" "
              "means that the state of the node is unknown; the node itself can be healthy.", "short",
              ((f'up{{job="node",{NODE}}}', LABEL),), states=UP),
        Panel("lines", 12, "CPU utilization by node", "Share of time in which the CPUs of each node were not "
              "idle.", "percentunit",
              ((f'1 - avg by (node) (rate(node_cpu_seconds_total{{{NODE},mode="idle"}}'
                "[$__rate_interval]))", LABEL),), top=1),
        Panel("lines", 8, "Load average (1 min)", "Number of processes that run or wait, averaged over one "
              "minute. A load above the number of CPUs means that processes wait.", "short",
              ((f"node_load1{{{NODE}}}", LABEL),)),
        Panel("lines", 8, "Memory available", "Share of the memory that programs can still allocate. Alert "
              "NodeMemoryPressure fires below 5 %.", "percentunit",
              ((f"node_memory_MemAvailable_bytes{{{NODE}}} / node_memory_MemTotal_bytes", LABEL),),
              top=1),
        Panel("lines", 8, "Pressure stall (PSI)", "Share of time in which some task waited for CPU, memory or "
              "disk I/O. A share that stays high means that the node lacks this resource.", "percentunit",
              ((f"rate(node_pressure_cpu_waiting_seconds_total{{{NODE}}}[$__rate_interval])",
                "{{node}} CPU"),
               (f"rate(node_pressure_memory_waiting_seconds_total{{{NODE}}}[$__rate_interval])",
                "{{node}} memory"),
               (f"rate(node_pressure_io_waiting_seconds_total{{{NODE}}}[$__rate_interval])",
                "{{node}} I/O")), top=1),
        Panel("lines", 8, "Blocked processes", "Number of processes in uninterruptible sleep (state D), which "
              "wait for a disk, file server or driver and cannot be killed. Alert NodeLoadHighBlocked fires "
              "above 32.", "short", ((f"node_procs_blocked{{{NODE}}}", LABEL),), bad_from=32,
              alert="NodeLoadHighBlocked"),
        Panel("lines", 8, "OOM kills", "Number of processes that the kernel killed because memory ran out. "
              "Normal is 0; see the runbook of alert NodeOomKill.", "short",
              ((f"round(increase(node_vmstat_oom_kill{{{NODE}}}[$__rate_interval]))", LABEL),)),
        Panel("lines", 8, "Memory errors (EDAC)", "Number of errors of the node's main memory in 15 minutes. "
              "Normal is 0; any uncorrected error fires alert NodeHardwareMemoryErrors.", "short",
              ((f"round(increase(node_edac_correctable_errors_total{{{NODE}}}[15m]))", "{{node}} corrected"),
               (f"round(increase(node_edac_uncorrectable_errors_total{{{NODE}}}[15m]))",
                "{{node}} uncorrected"))),
    )),
    Row("Disks and file systems", 8, (
        Panel("lines", 12, "File system space available", "Share of each file system that is available. Alert "
              "NodeFilesystemAlmostFull fires below 5 %.", "percentunit",
              ((f"node_filesystem_avail_bytes{{{NODE}}} / node_filesystem_size_bytes",
                "{{node}} {{mountpoint}}"),), top=1),
        Panel("states", 12, "Read-only file systems", "Whether each file system is mounted read-only. A file "
              "system that turns read-only usually has errors; see the runbook of alert "
              "NodeFilesystemReadOnly.", "short",
              ((f"node_filesystem_readonly{{{NODE}}}", "{{node}} {{mountpoint}}"),), states=YES),
        Panel("lines", 12, "Disk throughput", "Bytes read and written per second, by disk.", "Bps",
              ((f"rate(node_disk_read_bytes_total{{{NODE},{DISK}}}[$__rate_interval])",
                "{{node}} {{device}} read"),
               (f"rate(node_disk_written_bytes_total{{{NODE},{DISK}}}[$__rate_interval])",
                "{{node}} {{device}} written"))),
        Panel("lines", 12, "Disk utilization", "Share of time in which each disk processed requests. A disk "
              "that stays near 100 % is saturated.", "percentunit",
              ((f"rate(node_disk_io_time_seconds_total{{{NODE},{DISK}}}[$__rate_interval])",
                "{{node}} {{device}}"),), top=1),
    )),
    Row("Network and clock", 8, (
        Panel("lines", 8, "Network throughput", "Bytes received (rx) and sent (tx) per second, by device.", "Bps",
              ((f"rate(node_network_receive_bytes_total{{{NODE},{NET}}}[$__rate_interval])",
                "{{node}} {{device}} rx"),
               (f"rate(node_network_transmit_bytes_total{{{NODE},{NET}}}[$__rate_interval])",
                "{{node}} {{device}} tx"))),
        Panel("lines", 8, "Network error rate", "Frames with errors per second, received (rx) and sent (tx). "
              "Normal is 0; see the runbook of alert NodeNetworkErrors.", "short",
              ((f"rate(node_network_receive_errs_total{{{NODE},{NET}}}[$__rate_interval])",
                "{{node}} {{device}} rx"),
               (f"rate(node_network_transmit_errs_total{{{NODE},{NET}}}[$__rate_interval])",
                "{{node}} {{device}} tx"))),
        Panel("lines", 8, "InfiniBand port state", "State of each port: 1 down, 2 init, 3 armed, 4 active, 5 "
              "deferred. Normal is 4 for a connected port.", "short",
              ((f"node_infiniband_state_id{{{NODE}}}", "{{node}} {{device}}/{{port}}"),)),
        Panel("lines", 12, "Clock offset (NTP/PTP)", "Absolute difference between the clock and its time "
              "source, in seconds. Alert NodeClockSkew fires above 0.05 s.", "s",
              ((f"abs(node_timex_offset_seconds{{{NODE}}})", LABEL),), bad_from=0.05,
              alert="NodeClockSkew"),
        Panel("states", 12, "Clock synchronised (NTP/PTP)", "Whether a time service (NTP or PTP) synchronises the "
              "clock. Normal is yes; see the runbook of alert NodeClockNotSynchronised.", "short",
              ((f"node_timex_sync_status{{{NODE}}}", LABEL),),
              states={"0": ("no", "red"), "1": ("yes", "green")}),
    )),
    Row("Kernel and services", 8, (
        Panel("lines", 12, "Kernel events", "Number of fault events in the kernel log, by kind, for example "
              "oom_kill or hung_task. Normal is none; see the runbook of alert NodeKernelFault.", "short",
              ((f"round(sum by (node, event) (increase(node_kernel_events_total{{{NODE}}}[$__rate_interval])))"
                " > 0", "{{node}} {{event}}"),)),
        Panel("list", 12, "Failed systemd units", "Systemd units that are required on a GPU node and have "
              "failed. Normal is an empty list; see the runbook of alert NodeGpuServiceFailed.",
              "short", ((f'max by (node, name) (node_systemd_unit_state{{{NODE},state="failed"}} == 1)',
                         "unit"),)),
    )),
)  # fmt: skip

BOARD = Board(
    "node", "Node", "CPU, memory, disks, network, clock, kernel and services of nodes.",
    ("cluster", "node"), ROWS,
)  # fmt: skip
