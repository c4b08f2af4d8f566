# Facts of this machine as lines "name<TAB>value"; the arguments are commands to look for. Constant text: nothing that a
# person typed is part of it. Runs in any POSIX shell; whatever is missing here is left out, and nothing is left behind.
LC_ALL=C; export LC_ALL
tab=$(printf '\t')
say() { printf '%s\t%s\n' "$1" "$2"; }
if command -v timeout >/dev/null 2>&1; then most() { timeout "$@"; }; else most() { shift; "$@"; }; fi

say host "$(uname -n)"; say user "$(id -un)"; say uid "$(id -u)"; say home "$HOME"; say shell "$SHELL"
say system "$(uname -s)"; say arch "$(uname -m)"; say offset "$(date +%z)"; say tmp "${TMPDIR:-/tmp}"
say cores "$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null)"
[ -r /proc/meminfo ] && say mem_kib "$(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo)"
libc=$(getconf GNU_LIBC_VERSION 2>/dev/null)
[ -n "$libc" ] || for file in /lib/ld-musl-*; do [ -e "$file" ] && libc=$("$file" 2>&1 | sed -n 's/^Version /musl /p'); done
say libc "$libc"
say free_kib "$(df -Pk "$HOME" 2>/dev/null | awk 'NR == 2 { print $4 }')"
quota=$(most 2 quota 2>/dev/null | tr '\n' ';'); [ -n "$quota" ] && say quota "$quota"
probe=$HOME/.jupyter_rm.$$
if (umask 077; : >"$probe") 2>/dev/null; then rm -f "$probe"; say writable yes; else say writable no; fi

# Sites put their commands on the path of login shells, which a command over SSH does not get.
path=$PATH
case $SHELL in */bash | */zsh | */ksh | */dash | */ash | */sh)
  more=$(most 5 "$SHELL" -l -c 'printf "\njrm-path:%s\n" "$PATH"' </dev/null 2>/dev/null | sed -n 's/^jrm-path://p')
  [ -n "$more" ] && path=$path:$more ;;
esac
say path "$path"
PATH=$path
for name in "$@"; do
  found=$(command -v "$name" 2>/dev/null)
  case $found in /*) say command "$name$tab$found" ;; esac
done

seen=:
look() {
  [ -x "$1" ] || return
  case $1 in */shims/*) return ;; esac
  real=$(readlink -f "$1" 2>/dev/null || echo "$1")
  case $seen in *:"$real":*) return ;; esac
  seen=$seen$real:
  most 10 "$1" -I -S -c 'import sys
base = getattr(sys, "_base_executable", None) or sys.executable
flags = "t" if "t" in getattr(sys, "abiflags", "") else ""
bits = "" if sys.maxsize > 2**32 else "32"
print("python\t%s\t%d.%d.%d\t%s%s%s" % ((base,) + sys.version_info[:3] + (sys.implementation.name, flags, bits)))' \
    </dev/null 2>/dev/null
}
linked=$HOME/.jupyter_rm/python
if [ -x "$linked" ]; then say linked "$(readlink -f "$linked" 2>/dev/null || echo "$linked")"; look "$linked"; fi
rest=$path:
while [ -n "$rest" ]; do
  folder=${rest%%:*}; rest=${rest#*:}
  case $folder in /*) for file in "$folder"/python3 "$folder"/python3.[0-9] "$folder"/python3.1[0-9]; do look "$file"; done ;; esac
done
for file in "$HOME"/.pyenv/versions/*/bin/python3 "$HOME"/.local/share/uv/python/*/bin/python3 "$HOME"/mini*/bin/python3 \
  "$HOME"/*conda*/bin/python3 "$HOME"/mamba*/bin/python3 /opt/*/bin/python3 /opt/python*/*/bin/python3; do look "$file"; done
say end yes
