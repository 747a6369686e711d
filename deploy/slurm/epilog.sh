#!/bin/sh
# Slurm epilog: takes a job out of what prolog.sh wrote, wherever it stands.
jobs="${FLEETMEDIC_SLURM_JOBS:-/run/fleetmedic/slurm-jobs}"
[ -n "$SLURM_JOB_ID" ] && [ -d "$jobs" ] || exit 0
(
  flock -w 5 9 || exit 0
  for file in "$jobs"/[0-9]*; do
    [ -f "$file" ] || continue
    grep -vx "$SLURM_JOB_ID" "$file" >"$jobs/.left"
    if [ -s "$jobs/.left" ]; then mv "$jobs/.left" "$file"; else rm -f "$file" "$jobs/.left"; fi
  done
) 9>"$jobs/.lock"
exit 0
