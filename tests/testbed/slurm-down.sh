#!/bin/bash
# slurm-down.sh [--wipe]   Ends only what slurm-up.sh recorded; --wipe removes its state too.
. "$(dirname "$0")/lib.sh"; tb_root
S=$TB_STATE/slurm
# the nodes go first, with everything in them: nothing is left to be cancelled
for d in "$CGTB"/node-*; do [ -d "$d" ] && tb_reap "$(basename "$d")"; done; rm -f "$TB_STATE"/pids/{slurmd,node}-*.pid
for d in slurmctld slurmdbd mariadbd munged; do [ "${1:-}" = --wipe ] && tb_stop $d KILL || TB_PATIENCE=200 tb_stop $d; done
ip netns list 2>/dev/null | awk '{print $1}' | grep "^jrm-tb-$TB_ID-n" | while read -r n; do ip netns del "$n"; done
ip link del "jb$TB_ID" 2>/dev/null
[ "${1:-}" = --wipe ] && rm -rf "$S"
exit 0
