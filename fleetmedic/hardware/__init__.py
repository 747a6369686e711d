"""The state of simulated machines: one folder that stands for everything that would touch hardware.

ROOT/NODE/gpu3.state   what is true of the GPU: identity, faults, counters (`key=value` lines)
ROOT/NODE/gpu3.load    what a job does with it now; older than 5 s means idle
ROOT/NODE/boot         boot id, boot time, number of boots
ROOT/NODE/kmsg         the kernel log, a record a line as /dev/kmsg gives them

The simulated source, the jobs, `inject`, reset and reboot all read and write this folder, so a
fault and its healing are seen by the same sensors as on a real machine.
"""
