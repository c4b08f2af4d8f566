# shellcheck shell=bash
# Helpers of the test bed scripts. Source, do not execute.
# Everything that changes lives below $TB_STATE. A daemon started through tb_start leaves $TB_STATE/pids/<name>.pid with
# "pid starttime" and runs in a cgroup of its own, so that tb_stop signals nothing but what was started here.
umask 022  # the servers run under other accounts, whatever the caller keeps private
set -u
TB_HOME=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TB_STATE=${TB_STATE:-/var/tmp/jrm-tb}
TB_ID=${TB_ID:-$(printf %s "$TB_STATE" | cksum | cut -d' ' -f1 | tail -c 7)}   # names of namespaces and devices
CG2=/sys/fs/cgroup/unified; [ -e /sys/fs/cgroup/cgroup.procs ] && CG2=/sys/fs/cgroup
CGTB=$CG2/jrm-tb-$TB_ID
mkdir -p "$TB_STATE/pids"; chmod 755 "$TB_STATE"
# what the packages are called; packages.sh installs them all
TB_SSH_PACKAGES="openssh-server openssh-client openssl libpam-google-authenticator util-linux"
TB_NET_PACKAGES="iproute2 iputils-ping python3-minimal"
TB_SLURM_PACKAGES="slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge iproute2 slurmdbd slurm-wlm-mysql-plugin mariadb-server openmpi-bin"
TB_SGE_PACKAGES="gridengine-master gridengine-exec gridengine-client"

tb_log()  { printf '[%s] %s\n' "$(date +%T)" "$*" >&2; }
tb_die()  { tb_log "FATAL: $*"; exit 1; }
# With 32,768 of them the numbers of processes come round within seconds here, and batch systems kill by number.
tb_root() {
  [ "$(id -u)" = 0 ] || tb_die "must run as root"
  [ "$(cat /proc/sys/kernel/pid_max)" -ge 4194304 ] || echo 4194304 2>/dev/null >/proc/sys/kernel/pid_max || true
}

# apt-get install what is missing; no daemon is started by a package's own script, no question is asked, and a network
# that hangs ends it after ten minutes.
tb_apt() {
  local miss=() p rc made=
  for p in "$@"; do dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || miss+=("$p"); done
  [ ${#miss[@]} = 0 ] && return 0
  exec 8>/run/lock/jrm-tb-apt; flock -w 900 8 || tb_die "another installation does not end"   # one writes policy-rc.d
  tb_log "apt-get install ${miss[*]}"
  local prc=/usr/sbin/policy-rc.d
  [ -e $prc ] || { printf '#!/bin/sh\nexit 101\n' >$prc; chmod 755 $prc; made=1; }
  local get=(timeout 600 env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3
    -o Acquire::http::Timeout=30 -o Dpkg::Options::=--force-confold)
  "${get[@]}" install -y --no-install-recommends "${miss[@]}" >"$TB_STATE/apt.log" 2>&1 </dev/null 8>&- || {
    "${get[@]}" update >>"$TB_STATE/apt.log" 2>&1 </dev/null 8>&-   # a fresh machine has no package lists yet
    "${get[@]}" install -y --no-install-recommends "${miss[@]}" >>"$TB_STATE/apt.log" 2>&1 </dev/null 8>&-; }
  rc=$?
  [ -n "$made" ] && rm -f $prc
  exec 8>&-
  [ $rc = 0 ] || { tail -20 "$TB_STATE/apt.log" >&2; tb_die "apt-get failed"; }
}

# The accounts alice and bob: in copies of /etc that only what runs inside.sh sees. Called again it adds what packages
# have brought since, in place: the copies are mounted.
TB_UID=29601
tb_accounts() {
  local S=$TB_STATE f
  mkdir -p "$S"/{etc/slurm,log,bin,totp,auth,home/alice,home/bob,user,client}
  chmod 755 "$S"/{etc,etc/slurm,log,bin,auth,home}; chmod 700 "$S"/{totp,client,user}
  if [ ! -d "$S/etc/pam.d" ]; then
    cp -r /etc/pam.d "$S/etc/pam.d"; cp /etc/passwd /etc/group "$S/etc/"; (umask 077; cp /etc/shadow "$S/etc/shadow")
    cp /etc/hosts "$S/etc/hosts"
    (umask 077; openssl rand -hex 8 >"$S/client/password"; head -c 10 /dev/urandom | base32 | tr -d = >"$S/client/totp")
    sed -i '/^\(alice\|bob\):/d' "$S/etc/passwd" "$S/etc/shadow" "$S/etc/group"
    echo "alice:x:$TB_UID:$TB_UID::$S/home/alice:${TB_SHELL:-/bin/bash}" >>"$S/etc/passwd"; echo "alice:x:$TB_UID:" >>"$S/etc/group"
    echo "bob:x:$((TB_UID+1)):$((TB_UID+1))::$S/home/bob:/bin/bash" >>"$S/etc/passwd"; echo "bob:x:$((TB_UID+1)):" >>"$S/etc/group"
    echo "alice:$(openssl passwd -6 -stdin <"$S/client/password"):20000:0:99999:7:::" >>"$S/etc/shadow"
    echo "bob:*:20000:0:99999:7:::" >>"$S/etc/shadow"
  else
    for f in passwd group shadow; do awk -F: 'NR==FNR {have[$1]; next} !($1 in have)' "$S/etc/$f" "/etc/$f" >>"$S/etc/$f"; done
  fi
  chown -R $TB_UID:$TB_UID "$S/home/alice" "$S/user"; chown -R $((TB_UID+1)):$((TB_UID+1)) "$S/home/bob"
}
IN=(unshare --mount "$TB_HOME/inside.sh" "$TB_STATE")

# Nothing for a zombie: who has inherited it may take its time.
_start_time() { sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" {print $20}'; }
tb_pid()    { awk '{print $1}' "$TB_STATE/pids/$1.pid"; }
tb_alive() { # NAME
  local f="$TB_STATE/pids/$1.pid" pid st; [ -f "$f" ] || return 1
  read -r pid st <"$f"; [ -n "$st" ] && [ "$(_start_time "$pid")" = "$st" ]
}

# tb_start NAME LOGFILE CMD...  (CMD must stay in the foreground)
tb_start() {
  local name=$1 logf=$2; shift 2
  tb_alive "$name" && return 0
  local cg="$CGTB/${TB_CG:-$name}"; mkdir -p "$cg" 2>/dev/null || cg=""   # for finding descendants: no controller is needed
  ( cd /; [ -n "$cg" ] && echo $BASHPID >"$cg/cgroup.procs" 2>/dev/null
    exec setsid "$@" </dev/null >>"$logf" 2>&1 ) &
  local pid=$!
  sleep 0.1
  echo "$pid $(_start_time $pid)" >"$TB_STATE/pids/$name.pid"
  disown "$pid" 2>/dev/null
  tb_alive "$name" || { tail -5 "$logf" >&2; tb_log "$name died at once"; return 1; }
}

# tb_record NAME PID   For a daemon that is a descendant of what was started.
tb_record() { echo "$2 $(_start_time "$2")" >"$TB_STATE/pids/$1.pid"; }
tb_child() { # first child of PID, waiting for it
  local i c; for i in $(seq 100); do read -r c _ <"/proc/$1/task/$1/children" 2>/dev/null; [ -n "${c:-}" ] && { echo "$c"; return 0; }; sleep 0.05; done; return 1; }

tb_stop() { # NAME [SIGNAL] [keepgroup]; ends the daemon and whatever is left in its own cgroup
  local name=$1 signal=${2:-TERM} f="$TB_STATE/pids/$1.pid" pid i
  if tb_alive "$name"; then
    pid=$(tb_pid "$name"); kill -"$signal" "$pid" 2>/dev/null
    for i in $(seq "${TB_PATIENCE:-40}"); do tb_alive "$name" || break; sleep 0.05; done
    tb_alive "$name" && { tb_log "$name ignores $signal"; kill -KILL "$pid"; sleep 0.1; }
  fi
  rm -f "$f"
  [ "${3:-}" = keepgroup ] || tb_reap "${TB_CG:-$name}"
}

tb_reap() { # GROUP; ends every process left in that cgroup
  local cg="$CGTB/$1" i
  [ -d "$cg" ] || return 0
  [ -e "$cg/cgroup.freeze" ] && echo 0 >"$cg/cgroup.freeze"
  if [ -w "$cg/cgroup.kill" ]; then echo 1 >"$cg/cgroup.kill"; else xargs -r kill -KILL <"$cg/cgroup.procs"; fi 2>/dev/null
  for i in $(seq 40); do rmdir "$cg" 2>/dev/null && break; sleep 0.05; done
  rmdir "$CGTB" 2>/dev/null
  return 0
}

tb_wait() { # SECONDS COMMAND...
  local end=$((SECONDS + $1)); shift
  while :; do "$@" >/dev/null 2>&1 && return 0; [ $SECONDS -ge $end ] && return 1; sleep 0.05; done; }
tb_listens() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }
