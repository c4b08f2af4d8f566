#!/bin/bash
# sshd-down.sh [--wipe]   Stop the servers of this state; --wipe removes the state too (not while net-up.sh's link is up).
. "$(dirname "$0")/lib.sh"; tb_root
for n in login node deep mfa mfa0 user few pass slurm sge; do tb_stop sshd-$n; done
[ "${1:-}" = --wipe ] && rm -rf "$TB_STATE"
exit 0
