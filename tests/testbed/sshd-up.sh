#!/bin/bash
# sshd-up.sh [site]   Private OpenSSH servers on loopback, or with "site" on the far side of net-up.sh's slow link:
#   login P+0 key (the bastion)     node  P+1 key (by ProxyJump)            deep P+2 key (by two jumps)
#   mfa   P+3 key, then password + one-time code     mfa0 P+4 password + one-time code only
#   user  P+5 a server without root, run by alice    few  P+6 key, MaxSessions 3     pass P+7 password method only
# "$TB_STATE/client" then holds config, keys, known_hosts, password and TOTP secret. The account alice exists only for
# these servers (see inside.sh); her home is $TB_STATE/home/alice.
. "$(dirname "$0")/lib.sh"; tb_root
S=$TB_STATE; P=${TB_SSH_PORT:-23022}; ADDR=127.0.0.1; SHELL_OF_ALICE=${TB_SHELL:-/bin/bash}; NS=()
[ "${1:-}" = site ] && { ADDR=$(cat "$S/net.far") || tb_die "net-up.sh first"; NS=(nsenter "--net=/run/netns/jrm-tb-$TB_ID"); }
tb_apt openssh-server openssh-client openssl libpam-google-authenticator util-linux
mkdir -p "$S"/{etc,log,bin,totp,auth,home/alice,user} "$S/client"
chmod 755 "$S"/{etc,bin,auth,home}; chmod 700 "$S"/{totp,client,user}
# --- the account
U=29601
if [ ! -d "$S/etc/pam.d" ]; then
  cp -r /etc/pam.d "$S/etc/pam.d"; cp /etc/passwd /etc/group "$S/etc/"; (umask 077; cp /etc/shadow "$S/etc/shadow")
  (umask 077; openssl rand -hex 8 >"$S/client/password"; head -c 10 /dev/urandom | base32 | tr -d = >"$S/client/totp")
  sed -i '/^alice:/d' "$S/etc/passwd" "$S/etc/shadow" "$S/etc/group"
  echo "alice:x:$U:$U::$S/home/alice:$SHELL_OF_ALICE" >>"$S/etc/passwd"; echo "alice:x:$U:" >>"$S/etc/group"
  echo "alice:$(openssl passwd -6 -stdin <"$S/client/password"):20000:0:99999:7:::" >>"$S/etc/shadow"
  cat >"$S/etc/pam.d/tb-sshd-mfa" <<C
auth    required pam_unix.so nodelay
auth    required pam_google_authenticator.so secret=$S/totp/\${USER} user=root no_strict_owner
account required pam_unix.so
session required pam_permit.so
C
fi
# no DISALLOW_REUSE, no RATE_LIMIT: tests log in many times within one 30 s window
(umask 077; rm -f "$S/totp/alice"; printf '%s\n" WINDOW_SIZE 5\n" TOTP_AUTH\n' "$(cat "$S/client/totp")" >"$S/totp/alice"); chmod 400 "$S/totp/alice"
chown -R $U:$U "$S/home/alice" "$S/user"
# --- keys
for k in login node deep mfa mfa0 few pass; do [ -f "$S/etc/host_$k" ] || ssh-keygen -q -t ed25519 -N '' -C "$k" -f "$S/etc/host_$k"; done
[ -f "$S/user/host" ] || { ssh-keygen -q -t ed25519 -N '' -C user -f "$S/user/host"; chown $U:$U "$S"/user/host*; }
[ -f "$S/client/id" ] || ssh-keygen -q -t ed25519 -N '' -C client -f "$S/client/id"
[ -f "$S/client/locked" ] || ssh-keygen -q -t ed25519 -N 'open sesame' -C locked -f "$S/client/locked"
[ -f "$S/client/ca" ] || ssh-keygen -q -t ed25519 -N '' -C ca -f "$S/client/ca"
[ -f "$S/client/signed-cert.pub" ] || { ssh-keygen -q -t ed25519 -N '' -C signed -f "$S/client/signed"
  ssh-keygen -q -s "$S/client/ca" -I alice -n alice "$S/client/signed.pub"; }
cat "$S/client/id.pub" "$S/client/locked.pub" >"$S/auth/alice"; chmod 644 "$S/auth/alice"
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
{ common "$P" "$S/etc/host_login"; keyonly; } >"$S/etc/login.conf"
{ common $((P+1)) "$S/etc/host_node"; keyonly; } >"$S/etc/node.conf"
{ common $((P+2)) "$S/etc/host_deep"; keyonly; } >"$S/etc/deep.conf"
{ common $((P+3)) "$S/etc/host_mfa"; kbd publickey,keyboard-interactive; } >"$S/etc/mfa.conf"
{ common $((P+4)) "$S/etc/host_mfa0"; kbd keyboard-interactive; } >"$S/etc/mfa0.conf"
{ common $((P+5)) "$S/user/host"; keyonly; } >"$S/etc/user.conf"
{ common $((P+6)) "$S/etc/host_few" 3; keyonly; } >"$S/etc/few.conf"
{ common $((P+7)) "$S/etc/host_pass"; printf 'UsePAM no\nPasswordAuthentication yes\nKbdInteractiveAuthentication no\nPubkeyAuthentication no\n'; } >"$S/etc/pass.conf"
# the PAM service is named after argv[0] (OpenSSH before 9.8): the servers that ask for a code run under a name of their own
ln -sfn /usr/sbin/sshd "$S/bin/tb-sshd-mfa"
IN=("${NS[@]}" unshare --mount "$TB_HOME/inside.sh" "$S")
start() { tb_start "sshd-$1" "$S/log/$1.log" "${IN[@]}" "${@:2}" -D -e -f "$S/etc/$1.conf" || exit 1; }
for n in ${TB_SERVERS:-login node deep mfa mfa0 user few pass}; do
  case $n in
    mfa|mfa0) start "$n" "$S/bin/tb-sshd-mfa" ;;
    user) start user setpriv --reuid $U --regid $U --clear-groups env HOME="$S/home/alice" /usr/sbin/sshd ;;
    *) start "$n" /usr/sbin/sshd ;;
  esac
done
# --- what a client needs
names=(login node deep mfa mfa0 user few pass); : >"$S/client/known_hosts"; : >"$S/client/config"
for i in "${!names[@]}"; do n=${names[$i]}; f=$S/etc/host_$n.pub; [ "$n" = user ] && f=$S/user/host.pub
  echo "[$ADDR]:$((P+i)) $(cut -d' ' -f1,2 "$f")" >>"$S/client/known_hosts"
  printf 'Host tb-%s\n  HostName %s\n  Port %s\n' "$n" "$ADDR" $((P+i)) >>"$S/client/config"
  [ "$n" = node ] && echo "  ProxyJump tb-login" >>"$S/client/config"
  [ "$n" = deep ] && echo "  ProxyJump tb-node" >>"$S/client/config"
done
printf 'Host tb-*\n  User alice\n  IdentityFile %s\n  IdentitiesOnly yes\n  UserKnownHostsFile %s\n  GlobalKnownHostsFile /dev/null\n  ConnectTimeout 10\n' \
  "$S/client/id" "$S/client/known_hosts" >>"$S/client/config"
if [ ${#NS[@]} = 0 ]; then for n in ${TB_SERVERS:-login node deep mfa mfa0 user few pass}; do
  port=$(awk '$1 == "Port" {print $2}' "$S/etc/$n.conf"); tb_wait 5 tb_listens "$ADDR" "$port" || tb_die "sshd $n"
done; fi
tb_log "up: ssh -F $S/client/config tb-login"
