#!/bin/bash
# sshd-up.sh [site]   Private OpenSSH servers on loopback, or with "site" on the far side of net-up.sh's slow link:
#   login P+0 key (the bastion)     node  P+1 key (by ProxyJump)            deep P+2 key (by two jumps)
#   mfa   P+3 key, then password + one-time code     mfa0 P+4 password + one-time code only
#   user  P+5 a server without root, run by alice    few  P+6 key, MaxSessions 3     pass P+7 password method only
# and, only when asked for, the login nodes of two clusters (see slurm-up.sh, sge-up.sh):
#   slurm P+8 key, sees Slurm only, reverse forwards for its nodes (GatewayPorts)  sge P+9 key, sees Grid Engine only
# TB_SERVERS: which of them. "$TB_STATE/client" then holds config, keys, known_hosts, password and TOTP secret. The accounts alice
# and bob exist only for these servers (see inside.sh); her home is $TB_STATE/home/alice.
. "$(dirname "$0")/lib.sh"; tb_root
S=$TB_STATE; P=${TB_SSH_PORT:-23022}; ADDR=127.0.0.1; NS=()
[ "${1:-}" = site ] && { ADDR=$(cat "$S/net.far") || tb_die "net-up.sh first"; NS=(nsenter "--net=/run/netns/jrm-tb-$TB_ID"); }
tb_apt $TB_SSH_PACKAGES
# --- the account
U=$TB_UID
tb_accounts
cat >"$S/etc/pam.d/tb-sshd-mfa" <<C
auth    required pam_unix.so nodelay
auth    required pam_google_authenticator.so secret=$S/totp/\${USER} user=root no_strict_owner
account required pam_unix.so
session required pam_permit.so
C
# no DISALLOW_REUSE, no RATE_LIMIT: tests log in many times within one 30 s window
(umask 077; rm -f "$S/totp/alice"; printf '%s\n" WINDOW_SIZE 5\n" TOTP_AUTH\n' "$(cat "$S/client/totp")" >"$S/totp/alice"); chmod 400 "$S/totp/alice"
# --- keys
for k in login node deep mfa mfa0 few pass slurm sge; do [ -f "$S/etc/host_$k" ] || ssh-keygen -q -t ed25519 -N '' -C "$k" -f "$S/etc/host_$k"; done
[ -f "$S/user/host" ] || { ssh-keygen -q -t ed25519 -N '' -C user -f "$S/user/host"; chown $U:$U "$S"/user/host*; }
[ -f "$S/client/id" ] || ssh-keygen -q -t ed25519 -N '' -C client -f "$S/client/id"
[ -f "$S/client/locked" ] || ssh-keygen -q -t ed25519 -N 'open sesame' -C locked -f "$S/client/locked"
[ -f "$S/client/ca" ] || ssh-keygen -q -t ed25519 -N '' -C ca -f "$S/client/ca"
[ -f "$S/client/signed-cert.pub" ] || { ssh-keygen -q -t ed25519 -N '' -C signed -f "$S/client/signed"
  ssh-keygen -q -s "$S/client/ca" -I alice -n alice "$S/client/signed.pub"; }
cat "$S/client/id.pub" "$S/client/locked.pub" >"$S/auth/alice"; cp "$S/client/id.pub" "$S/auth/bob"; chmod 644 "$S/auth/alice" "$S/auth/bob"
cp "$S/client/ca.pub" "$S/etc/user_ca.pub"
# --- servers
common() { cat <<C
ListenAddress $ADDR
Port $1
HostKey $2
PidFile none
AuthorizedKeysFile $S/auth/%u
TrustedUserCAKeys $S/etc/user_ca.pub
StrictModes no
PermitRootLogin no
PrintMotd no
X11Forwarding no
AllowTcpForwarding yes
AllowStreamLocalForwarding yes
MaxStartups 100
MaxSessions ${3:-10}
LoginGraceTime 30
ClientAliveInterval 15
ClientAliveCountMax 3
Subsystem sftp internal-sftp
C
}
keyonly() { printf 'UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n'; }
kbd() { printf 'UsePAM yes\nPasswordAuthentication no\nKbdInteractiveAuthentication yes\nAuthenticationMethods %s\n' "$1"; }
{ common "$P" "$S/etc/host_login"; keyonly; } >"$S/etc/sshd_login.conf"
{ common $((P+1)) "$S/etc/host_node"; keyonly; } >"$S/etc/sshd_node.conf"
{ common $((P+2)) "$S/etc/host_deep"; keyonly; } >"$S/etc/sshd_deep.conf"
{ common $((P+3)) "$S/etc/host_mfa"; kbd publickey,keyboard-interactive; } >"$S/etc/sshd_mfa.conf"
{ common $((P+4)) "$S/etc/host_mfa0"; kbd keyboard-interactive; } >"$S/etc/sshd_mfa0.conf"
{ common $((P+5)) "$S/user/host"; keyonly; } >"$S/etc/sshd_user.conf"
{ common $((P+6)) "$S/etc/host_few" 3; keyonly; } >"$S/etc/sshd_few.conf"
{ common $((P+7)) "$S/etc/host_pass"; printf 'UsePAM no\nPasswordAuthentication yes\nKbdInteractiveAuthentication no\nPubkeyAuthentication no\n'; } >"$S/etc/sshd_pass.conf"
{ common $((P+8)) "$S/etc/host_slurm"; keyonly; echo "GatewayPorts clientspecified"; } >"$S/etc/sshd_slurm.conf"
{ common $((P+9)) "$S/etc/host_sge"; keyonly; cat "$S/sge/sshd.conf" 2>/dev/null; } >"$S/etc/sshd_sge.conf"
# the PAM service is named after argv[0] (OpenSSH before 9.8): the servers that ask for a code run under a name of their own
ln -sfn /usr/sbin/sshd "$S/bin/tb-sshd-mfa"
IN=("${NS[@]}" "${IN[@]}")
start() { tb_start "sshd-$1" "$S/log/$1.log" "${IN[@]}" "${@:2}" -D -e -f "$S/etc/sshd_$1.conf" || exit 1; }
for n in ${TB_SERVERS:-login node deep mfa mfa0 user few pass}; do
  case $n in
    mfa|mfa0) start "$n" "$S/bin/tb-sshd-mfa" ;;
    user) start user setpriv --reuid $U --regid $U --clear-groups env HOME="$S/home/alice" /usr/sbin/sshd ;;
    slurm) TB_HIDE="qsub qstat qconf qacct" start slurm /usr/sbin/sshd ;;
    sge) TB_HIDE="sbatch squeue sacct sinfo" start sge /usr/sbin/sshd ;;
    *) start "$n" /usr/sbin/sshd ;;
  esac
done
# --- what a client needs
names=(login node deep mfa mfa0 user few pass slurm sge); : >"$S/client/known_hosts"; : >"$S/client/config"
for i in "${!names[@]}"; do n=${names[$i]}; f=$S/etc/host_$n.pub; [ "$n" = user ] && f=$S/user/host.pub
  echo "[$ADDR]:$((P+i)) $(cut -d' ' -f1,2 "$f")" >>"$S/client/known_hosts"
  printf 'Host tb-%s\n  HostName %s\n  Port %s\n' "$n" "$ADDR" $((P+i)) >>"$S/client/config"
  [ "$n" = node ] && echo "  ProxyJump tb-login" >>"$S/client/config"
  [ "$n" = deep ] && echo "  ProxyJump tb-node" >>"$S/client/config"
done
printf 'Host tb-*\n  User alice\n  IdentityFile %s\n  IdentitiesOnly yes\n  UserKnownHostsFile %s\n  GlobalKnownHostsFile /dev/null\n  ConnectTimeout 10\n' \
  "$S/client/id" "$S/client/known_hosts" >>"$S/client/config"
if [ ${#NS[@]} = 0 ]; then for n in ${TB_SERVERS:-login node deep mfa mfa0 user few pass}; do
  port=$(awk '$1 == "Port" {print $2}' "$S/etc/sshd_$n.conf"); tb_wait 60 tb_listens "$ADDR" "$port" || tb_die "sshd $n"
done; fi
tb_log "up: ssh -F $S/client/config tb-login"
