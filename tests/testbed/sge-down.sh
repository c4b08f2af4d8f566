#!/bin/bash
# sge-down.sh [--wipe]   Ends only what sge-up.sh recorded; --wipe removes its state too.
. "$(dirname "$0")/lib.sh"; tb_root
S=$TB_STATE/sge
tb_stop sge_execd; if [ "${1:-}" = --wipe ]; then tb_stop sge_qmaster KILL; else TB_PATIENCE=400 tb_stop sge_qmaster; fi
[ "${1:-}" = --wipe ] && rm -rf "$S"
exit 0
