#!/bin/bash
# slurm-daemon.sh start|stop|kill slurmctld|slurmdbd   The controller or the accounting of slurm-up.sh; kill is SIGKILL.
. "$(dirname "$0")/lib.sh"; tb_root
S=$TB_STATE/slurm; d=$2; export SLURM_CONF=$TB_STATE/etc/slurm/slurm.conf
[[ $d =~ ^(slurmctld|slurmdbd)$ ]] || tb_die "not a daemon: $d"
case $1 in
start) tb_start "$d" "$S/log/$d.out" "${IN[@]}" "$d" -D || exit 1
  if [ "$d" = slurmdbd ]; then tb_wait 120 sacctmgr -n list cluster; else tb_wait 120 scontrol ping; fi || tb_die "$d does not answer" ;;
stop) tb_stop "$d" ;;
kill) tb_stop "$d" KILL ;;
*) tb_die "usage: $0 start|stop|kill slurmctld|slurmdbd" ;;
esac
