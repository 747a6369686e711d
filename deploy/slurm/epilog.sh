#!/bin/sh
# Slurm epilog: removes a job from all files that prolog.sh wrote.
jobs="${FLEETMEDIC_SLURM_JOBS:-/run/fleetmedic/slurm-jobs}"
[ -n "$SLURM_JOB_ID" ] && [ -d "$jobs" ] || exit 0
umask 022
(
  flock -w 5 9 || exit 0
  for file in "$jobs"/[0-9]*; do
    [ -f "$file" ] || continue
    grep -vx "$SLURM_JOB_ID" "$file" >"$jobs/.left"
    # exit code 2 is a read or write error: keep the file, because it may contain other jobs
    case $? in
      0) mv "$jobs/.left" "$file" ;;
      1) rm -f "$file" "$jobs/.left" ;;
    esac
  done
) 9>"$jobs/.lock"
exit 0
