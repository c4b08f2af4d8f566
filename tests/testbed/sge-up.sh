#!/bin/bash
# sge-up.sh [SLOTS=8]   A private Grid Engine cell on this machine: its master and one host, queues batch.q and debug.q.
# The accounts of sshd-up.sh exist inside. From outside: . $TB_STATE/sge/env.sh; through SSH: server "sge" of sshd-up.sh.
. "$(dirname "$0")/lib.sh"; tb_root
SLOTS=${1:-8}; S=$TB_STATE/sge; R=$S/root; HOST=$(hostname -s); PB=${TB_SGE_PORT:-17800}
tb_apt openssl $TB_SGE_PACKAGES
tb_accounts
mkdir -p "$R/default/common" "$S"/{db,qmaster,execd,log}; chmod 755 "$S" "$R"
for l in bin lib util utilbin; do ln -sfn /var/lib/gridengine/$l "$R/$l"; done
chown -R sgeadmin: "$S"/{db,qmaster,execd,log} "$R/default"
E="SGE_ROOT=$R SGE_CELL=default SGE_ARCH=lx-amd64 SGE_QMASTER_PORT=$PB SGE_EXECD_PORT=$((PB+1)) SGE_CLUSTER_NAME=jrmtb"
echo "export $E" >"$S/env.sh"; echo "SetEnv $E" >"$S/sshd.conf"
. "$S/env.sh"; C=$R/default/common; cp "$S/env.sh" "$C/settings.sh"
echo "$HOST" >"$C/act_qmaster"; echo jrmtb >"$C/cluster_name"
# the host's name resolves to 127.0.0.1, which resolves back to "localhost"
echo "$HOST localhost" >"$C/host_aliases"
cat >"$C/bootstrap" <<B
admin_user              sgeadmin
default_domain          none
ignore_fqdn             true
spooling_method         berkeleydb
spooling_lib            libspoolb
spooling_params         $S/db
binary_path             /usr/sbin
qmaster_spool_dir       $S/qmaster
security_mode           none
listener_threads        2
worker_threads          2
scheduler_threads       1
B
touch "$C/accounting"   # without it qacct fails until a first job has ended
chown -R sgeadmin: "$R/default"
if [ ! -e "$S/db/sge" ]; then
  L=/usr/lib/gridengine; D=/usr/share/gridengine
  { $L/spoolinit berkeleydb libspoolb "$S/db" init
    sed "s|^execd_spool_dir.*|execd_spool_dir $S/execd|; s|^min_uid.*|min_uid 0|; s|^min_gid.*|min_gid 0|; s|^gid_range.*|gid_range 65400-65500|; s|^reporting_params .*|reporting_params accounting=true reporting=false flush_time=00:00:01 accounting_flush_time=00:00:00 joblog=false sharelog=00:00:00|" $D/default-configuration >"$S/global"
    $L/spooldefaults configuration "$S/global"; $L/spooldefaults complexes $D/util/resources/centry
    $L/spooldefaults usersets $D/util/resources/usersets; $L/spooldefaults managers root sgeadmin; } >"$S/log/init.log" 2>&1
  chown -R sgeadmin: "$S/db"
fi
export SGE_ND=1                                       # stay in the foreground
tb_start sge_qmaster "$S/log/qmaster.out" "${IN[@]}" sge_qmaster || exit 1
tb_wait 120 qconf -sh || tb_die "qmaster: $(tail -3 "$S/qmaster/messages")"
q() { qconf "$@" >>"$S/log/qconf.log" 2>&1; }
q -ah "$HOST"; q -as "$HOST"
T=$(mktemp -d)
qconf -sel 2>/dev/null | grep -qx "$HOST" || { printf 'hostname %s\nload_scaling NONE\ncomplex_values NONE\nuser_lists NONE\nxuser_lists NONE\nprojects NONE\nxprojects NONE\nusage_scaling NONE\nreport_variables NONE\n' "$HOST" >"$T/e"; q -Ae "$T/e"; }
qconf -shgrp @allhosts >/dev/null 2>&1 || { printf 'group_name @allhosts\nhostlist %s\n' "$HOST" >"$T/h"; q -Ahgrp "$T/h"; }
for pe in smp:'$pe_slots' mpi:'$round_robin'; do qconf -sp "${pe%%:*}" >/dev/null 2>&1 || {
  printf 'pe_name %s\nslots 999\nuser_lists NONE\nxuser_lists NONE\nstart_proc_args NONE\nstop_proc_args NONE\nallocation_rule %s\ncontrol_slaves TRUE\njob_is_first_task FALSE\nurgency_slots min\naccounting_summary FALSE\nqsort_args NONE\n' "${pe%%:*}" "${pe#*:}" >"$T/p"; q -Ap "$T/p"; }; done
for qn in batch.q:48:00:00:0 debug.q:00:10:00:-10; do n=${qn%%:*}; qconf -sq "$n" >/dev/null 2>&1 && continue
  rt=$(echo "$qn" | cut -d: -f2-4)
  cat >"$T/q" <<Q
qname $n
hostlist @allhosts
seq_no 0
load_thresholds NONE
suspend_thresholds NONE
nsuspend 1
suspend_interval 00:05:00
priority 0
min_cpu_interval 00:05:00
processors UNDEFINED
qtype BATCH INTERACTIVE
ckpt_list NONE
pe_list smp mpi
rerun FALSE
slots $SLOTS
tmpdir /tmp
shell /bin/bash
prolog NONE
epilog NONE
shell_start_mode unix_behavior
starter_method NONE
suspend_method NONE
resume_method NONE
terminate_method NONE
notify 00:00:10
owner_list NONE
user_lists NONE
xuser_lists NONE
subordinate_list NONE
complex_values NONE
projects NONE
xprojects NONE
calendar NONE
initial_state default
s_rt INFINITY
h_rt $rt
s_cpu INFINITY
h_cpu INFINITY
s_fsize INFINITY
h_fsize INFINITY
s_data INFINITY
h_data INFINITY
s_stack INFINITY
h_stack INFINITY
s_core INFINITY
h_core INFINITY
s_rss INFINITY
h_rss INFINITY
s_vmem INFINITY
h_vmem INFINITY
Q
  q -Aq "$T/q"; done
# scheduler: 2 s instead of 15 s, and react to submit/finish at once
qconf -ssconf 2>/dev/null | sed 's/^schedule_interval.*/schedule_interval 0:0:2/; s/^flush_submit_sec.*/flush_submit_sec 1/; s/^flush_finish_sec.*/flush_finish_sec 1/; s/^schedd_job_info.*/schedd_job_info true/' >"$T/s"; q -Msconf "$T/s"
rm -rf "$T"
tb_start sge_execd "$S/log/execd.out" "${IN[@]}" sge_execd || exit 1
tb_wait 120 bash -c "qhost -h $HOST | tail -1 | grep -qv ' - .* - .* - '" || tb_die "execd reports nothing"
tb_log "up: . $S/env.sh"
