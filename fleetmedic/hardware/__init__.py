"""The state of simulated machines: one directory that replaces all access to hardware.

    ROOT/NODE/gpu3.state   state of the GPU: identity, faults, counters (`key=value` lines)
    ROOT/NODE/gpu3.load    load by a job; older than 5 s means idle
    ROOT/NODE/boot         boot id, boot time, number of boots
    ROOT/NODE/kmsg         the kernel log, one record per line in the format of /dev/kmsg

The simulated exporter, the jobs, `fleetmedic inject`, reset and reboot read and write this
directory. So a fault and its repair appear in the same metrics as on a real machine.
"""
