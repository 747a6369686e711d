"""A node without its GPUs: what node_exporter would show, and what its kernel logs."""

from board import NODE, UP, YES, Board, Panel, Row

LABEL = "{{node}}"
DISK = 'device!~"loop.*|ram.*"'
NET = 'device!~"lo|veth.*|docker.*|br-.*|cali.*"'

ROWS = (
    Row("Now", 4, (
        Panel("stat", 4, "Answering", "Nodes whose exporter answers.", "short",
              ((f'sum(up{{job="node",{NODE}}})', "answer"),)),
        Panel("stat", 4, "GPUs missing", "GPUs that they should have and that are not up.", "short",
              ((f"sum(gpu_expected{{{NODE}}}) - sum(gpu_up{{{NODE}}})", "missing"),), bad_from=1,
              link="gpu"),
        Panel("gauge", 4, "Processors busy", "Mean share of time.", "percentunit",
              ((f'1 - avg(rate(node_cpu_seconds_total{{{NODE},mode="idle"}}[$__rate_interval]))',
                "busy"),), top=1),
        Panel("gauge", 4, "Memory used", "Of the node with the least left.", "percentunit",
              ((f"max(1 - node_memory_MemAvailable_bytes{{{NODE}}} / node_memory_MemTotal_bytes)",
                "used"),), bad_from=0.95, top=1),
        Panel("gauge", 4, "Fullest file system", "Share of it that is used.", "percentunit",
              ((f"max(1 - node_filesystem_avail_bytes{{{NODE}}} / node_filesystem_size_bytes)",
                "used"),), bad_from=0.95, top=1),
        Panel("stat", 4, "Up since", "Of the node that started last.", "s",
              ((f"min(time() - node_boot_time_seconds{{{NODE}}})", "since"),)),
    )),
    Row("Processors and memory", 8, (
        Panel("states", 12, "Exporter answers", "Silent is unknown, and not the same as sick.", "short",
              ((f'up{{job="node",{NODE}}}', LABEL),), states=UP),
        Panel("lines", 12, "Processors over time", "Share of time in which they did not idle.", "percentunit",
              ((f'1 - avg by (node) (rate(node_cpu_seconds_total{{{NODE},mode="idle"}}'
                "[$__rate_interval]))", LABEL),), top=1),
        Panel("lines", 8, "Load", "Processes that run or wait, over a minute.", "short",
              ((f"node_load1{{{NODE}}}", LABEL),)),
        Panel("lines", 8, "Memory available", "Share that programs could still have.", "percentunit",
              ((f"node_memory_MemAvailable_bytes{{{NODE}}} / node_memory_MemTotal_bytes", LABEL),),
              top=1),
        Panel("lines", 8, "Pressure", "Share of time in which some task waited for it.", "percentunit",
              ((f"rate(node_pressure_cpu_waiting_seconds_total{{{NODE}}}[$__rate_interval])",
                "{{node}} processors"),
               (f"rate(node_pressure_memory_waiting_seconds_total{{{NODE}}}[$__rate_interval])",
                "{{node}} memory"),
               (f"rate(node_pressure_io_waiting_seconds_total{{{NODE}}}[$__rate_interval])",
                "{{node}} disks")), top=1),
        Panel("lines", 8, "Blocked tasks", "Tasks that wait for a disk or file server and heed no "
              "signal.", "short", ((f"node_procs_blocked{{{NODE}}}", LABEL),), bad_from=32,
              alert="NodeLoadHighBlocked"),
        Panel("lines", 8, "Killed for memory", "Processes that the kernel ended.", "short",
              ((f"round(increase(node_vmstat_oom_kill{{{NODE}}}[$__rate_interval]))", LABEL),)),
        Panel("lines", 8, "Memory errors", "Of the node's own memory, in fifteen minutes.", "short",
              ((f"round(increase(node_edac_correctable_errors_total{{{NODE}}}[15m]))", "{{node}} corrected"),
               (f"round(increase(node_edac_uncorrectable_errors_total{{{NODE}}}[15m]))",
                "{{node}} uncorrected"))),
    )),
    Row("Disks and file systems", 8, (
        Panel("lines", 12, "Space left", "Share of each file system.", "percentunit",
              ((f"node_filesystem_avail_bytes{{{NODE}}} / node_filesystem_size_bytes",
                "{{node}} {{mountpoint}}"),), top=1),
        Panel("states", 12, "Read-only", "File systems that take no writes.", "short",
              ((f"node_filesystem_readonly{{{NODE}}}", "{{node}} {{mountpoint}}"),), states=YES),
        Panel("lines", 12, "Disk traffic", "Read and written.", "Bps",
              ((f"rate(node_disk_read_bytes_total{{{NODE},{DISK}}}[$__rate_interval])",
                "{{node}} {{device}} read"),
               (f"rate(node_disk_written_bytes_total{{{NODE},{DISK}}}[$__rate_interval])",
                "{{node}} {{device}} written"))),
        Panel("lines", 12, "Disks busy", "Share of time in which requests were under way.", "percentunit",
              ((f"rate(node_disk_io_time_seconds_total{{{NODE},{DISK}}}[$__rate_interval])",
                "{{node}} {{device}}"),), top=1),
    )),
    Row("Networks and clock", 8, (
        Panel("lines", 8, "Network traffic", "Received and sent.", "Bps",
              ((f"rate(node_network_receive_bytes_total{{{NODE},{NET}}}[$__rate_interval])",
                "{{node}} {{device}} in"),
               (f"rate(node_network_transmit_bytes_total{{{NODE},{NET}}}[$__rate_interval])",
                "{{node}} {{device}} out"))),
        Panel("lines", 8, "Network errors", "Frames with errors, a second.", "short",
              ((f"rate(node_network_receive_errs_total{{{NODE},{NET}}}[$__rate_interval])",
                "{{node}} {{device}} in"),
               (f"rate(node_network_transmit_errs_total{{{NODE},{NET}}}[$__rate_interval])",
                "{{node}} {{device}} out"))),
        Panel("lines", 8, "InfiniBand ports", "State of each port; 4 is active.", "short",
              ((f"node_infiniband_state_id{{{NODE}}}", "{{node}} {{device}}/{{port}}"),)),
        Panel("lines", 12, "Clock offset", "How far the clock is from its sources.", "s",
              ((f"abs(node_timex_offset_seconds{{{NODE}}})", LABEL),), bad_from=0.05,
              alert="NodeClockSkew"),
        Panel("states", 12, "Clock kept", "Whether something keeps the clock.", "short",
              ((f"node_timex_sync_status{{{NODE}}}", LABEL),),
              states={"0": ("no", "red"), "1": ("yes", "green")}),
    )),
    Row("Kernel and services", 8, (
        Panel("lines", 12, "Kernel events", "What the kernel log told of, by kind.", "short",
              ((f"round(sum by (node, event) (increase(node_kernel_events_total{{{NODE}}}[$__rate_interval])))"
                " > 0", "{{node}} {{event}}"),)),
        Panel("list", 12, "Failed services", "Units of systemd that a GPU host needs and that failed.",
              "short", ((f'max by (node, name) (node_systemd_unit_state{{{NODE},state="failed"}} == 1)',
                         "unit"),)),
    )),
)  # fmt: skip

BOARD = Board(
    "node", "a node", "Processors, memory, disks, networks, clock and kernel of nodes.",
    ("cluster", "node"), ROWS,
)  # fmt: skip
