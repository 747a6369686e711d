#!/bin/sh
# Slurm prolog: records which job holds which GPU of this node, for fleetmedic's exporter
# (--collector.allocation.slurm-jobs) and other readers of dcgm-exporter's job mapping. The format is a
# directory with one file for each GPU, named by its index, with one job per line.
#
# slurm.conf: Prolog=/etc/fleetmedic/slurm/prolog.sh
#             Epilog=/etc/fleetmedic/slurm/epilog.sh
#             PrologFlags=Alloc
# The script always exits with 0, because Slurm drains a node whose prolog fails.
jobs="${FLEETMEDIC_SLURM_JOBS:-/run/fleetmedic/slurm-jobs}"
[ -n "$SLURM_JOB_ID" ] && [ -n "$SLURM_JOB_GPUS" ] || exit 0
umask 022 # readers do not need root
mkdir -p "$jobs" || exit 0
(
  flock -w 5 9 || exit 0
  for gpu in $(echo "$SLURM_JOB_GPUS" | tr ',' ' '); do
    case "$gpu" in *[!0-9.]* | "") continue ;; esac
    grep -qsx "$SLURM_JOB_ID" "$jobs/$gpu" || echo "$SLURM_JOB_ID" >>"$jobs/$gpu"
  done
) 9>"$jobs/.lock"
exit 0
