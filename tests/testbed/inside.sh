#!/bin/bash
# inside.sh STATE COMMAND...   Run COMMAND where the test bed's own users and PAM services exist: a private mount
# namespace with the state's copies of passwd, shadow, group and pam.d in place. The machine's own files stay untouched.
S=$1; shift
mount --make-rprivate / || exit 1
for f in passwd shadow group pam.d; do mount --bind "$S/etc/$f" "/etc/$f" || exit 1; done
mkdir -p "$S/run-sshd"; chmod 755 "$S/run-sshd"
[ -d /run/sshd ] || mkdir -p /run/sshd   # OpenSSH insists on this empty directory
exec "$@"
