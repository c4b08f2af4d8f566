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

tb_log()  { printf '[%s] %s\n' "$(date +%T)" "$*" >&2; }
tb_die()  { tb_log "FATAL: $*"; exit 1; }
tb_root() { [ "$(id -u)" = 0 ] || tb_die "must run as root"; }

# apt-get install what is missing; no daemon is started by a package's own script.
tb_apt() {
  local miss=() p rc made=
  for p in "$@"; do dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || miss+=("$p"); done
  [ ${#miss[@]} = 0 ] && return 0
  tb_log "apt-get install ${miss[*]}"
  local prc=/usr/sbin/policy-rc.d
  [ -e $prc ] || { printf '#!/bin/sh\nexit 101\n' >$prc; chmod 755 $prc; made=1; }
  local get=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
  "${get[@]}" install -y --no-install-recommends "${miss[@]}" >"$TB_STATE/apt.log" 2>&1 || {
    "${get[@]}" update >>"$TB_STATE/apt.log" 2>&1   # a fresh machine has no package lists yet
    "${get[@]}" install -y --no-install-recommends "${miss[@]}" >>"$TB_STATE/apt.log" 2>&1; }
  rc=$?
  [ -n "$made" ] && rm -f $prc
  [ $rc = 0 ] || { tail -20 "$TB_STATE/apt.log" >&2; tb_die "apt-get failed"; }
}

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
  local cg="$CGTB/$name"; mkdir -p "$cg" 2>/dev/null || cg=""   # for finding descendants: no controller is needed
  ( cd /; [ -n "$cg" ] && echo $BASHPID >"$cg/cgroup.procs" 2>/dev/null
    exec setsid "$@" </dev/null >>"$logf" 2>&1 ) &
  local pid=$!
  sleep 0.1
  echo "$pid $(_start_time $pid)" >"$TB_STATE/pids/$name.pid"
  disown "$pid" 2>/dev/null
  tb_alive "$name" || { tail -5 "$logf" >&2; tb_log "$name died at once"; return 1; }
}

tb_stop() { # NAME; ends the daemon and whatever is left in its own cgroup
  local name=$1 f="$TB_STATE/pids/$1.pid" pid i
  if tb_alive "$name"; then
    pid=$(tb_pid "$name"); kill -TERM "$pid" 2>/dev/null
    for i in $(seq 40); do tb_alive "$name" || break; sleep 0.05; done
    tb_alive "$name" && { tb_log "$name ignores TERM"; kill -KILL "$pid"; sleep 0.1; }
  fi
  rm -f "$f"
  local cg="$CGTB/$name"
  [ -d "$cg" ] || return 0
  if [ -w "$cg/cgroup.kill" ]; then echo 1 >"$cg/cgroup.kill"; else xargs -r kill -KILL <"$cg/cgroup.procs"; fi 2>/dev/null
  for i in $(seq 40); do rmdir "$cg" 2>/dev/null && break; sleep 0.05; done
  rmdir "$CGTB" 2>/dev/null
  return 0
}

tb_wait() { # SECONDS COMMAND...
  local end=$((SECONDS + $1)); shift
  while :; do "$@" >/dev/null 2>&1 && return 0; [ $SECONDS -ge $end ] && return 1; sleep 0.05; done; }
tb_listens() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }
