#!/bin/bash
# inside.sh STATE COMMAND...   Run COMMAND where the test bed's own users, PAM services, host names and Slurm's
# configuration exist: a private mount namespace with the state's copies in place. The machine's own files stay
# untouched. TB_HIDE: commands that are not there inside.
S=$1; shift
mount --make-rprivate / || exit 1
for f in passwd shadow group hosts pam.d; do mount --bind "$S/etc/$f" "/etc/$f" || exit 1; done
[ -d /etc/slurm ] && { mount --bind "$S/etc/slurm" /etc/slurm || exit 1; }
for f in ${TB_HIDE:-}; do [ ! -e "/usr/bin/$f" ] || mount --bind /dev/null "/usr/bin/$f" || exit 1; done
mkdir -p "$S/run-sshd"; chmod 755 "$S/run-sshd"
[ -d /run/sshd ] || mkdir -p /run/sshd   # OpenSSH insists on this empty directory
exec "$@"
