#!/bin/bash
# slurm-node.sh start|stop|kill|freeze|thaw|cut|heal NODE  |  exec NODE COMMAND...
#   stop   SIGTERM to slurmd only; its job steps live on (a site's "slurmd restart")
#   kill   death of the node: slurmd, every step and every task of that node at once
#   freeze, thaw  a node that hangs        cut, heal  its cable        exec  run a command in it
. "$(dirname "$0")/lib.sh"; tb_root
S=$TB_STATE/slurm; n=$2; ns=jrm-tb-$TB_ID-$n; cg=$CGTB/node-$n; export TB_CG=node-$n SLURM_CONF=$TB_STATE/etc/slurm/slurm.conf
[[ $n =~ ^n[0-9]{2}$ ]] || tb_die "not a node: $n"
init() { tb_child "$(tb_pid "node-$n")"; }
inside() { nsenter -t "$(init)" --net --uts --pid --mount "$@"; }
case $1 in
start) mkdir -p "$S/spool/$n" "$S/tmp/$n"; chmod 1777 "$S/tmp/$n"
  if ! tb_alive "node-$n"; then
    rm -f "$S/run/ready-$n"
    # nsenter, not "ip netns exec": that one mounts /sys anew, and slurmd then misses its control groups.
    # bash is the first process of the node (it buries); slurmd is not, so that it can be restarted under living steps.
    tb_start "node-$n" "$S/log/node-$n.out" "${IN[@]}" nsenter --net="/run/netns/$ns" \
      unshare --uts --pid --mount --fork --kill-child=KILL --mount-proc bash -c \
      "hostname $n; mount --bind $S/tmp/$n /tmp; : >$S/run/ready-$n; trap : TERM INT HUP; while :; do sleep 3600 & wait; done" || exit 1
    tb_wait 10 test -e "$S/run/ready-$n" || tb_die "$n: namespace"
  fi
  tb_alive "slurmd-$n" && exit 0
  tb_start "slurmd-$n" "$S/log/slurmd-$n.out" nsenter -t "$(init)" --net --uts --pid --mount slurmd -D -N "$n" || exit 1
  tb_record "slurmd-$n" "$(tb_child "$(tb_pid "slurmd-$n")")" ;;
stop)   tb_stop "slurmd-$n" TERM keepgroup ;;
kill)   tb_reap "node-$n"; rm -f "$TB_STATE/pids/"{slurmd,node}-"$n.pid" ;;
freeze) echo 1 >"$cg/cgroup.freeze" ;;
thaw)   echo 0 >"$cg/cgroup.freeze" ;;
cut)    ip link set "v$TB_ID$n" down ;;
heal)   ip link set "v$TB_ID$n" up ;;
exec)   shift 2; inside "$@" ;;
*) tb_die "usage: $0 start|stop|kill|freeze|thaw|cut|heal NODE | exec NODE COMMAND..." ;;
esac
