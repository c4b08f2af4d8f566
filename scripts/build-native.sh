#!/bin/sh
# Build the C++ parts straight into the source tree, for people who work on them:
#   scripts/build-native.sh [target ...]      (targets: _placer _spawner jrm-guard; default: all)
set -eu
cd "$(dirname "$0")/.."
py=${PYTHON:-.venv/bin/python}
dir=build/dev
mkdir -p build
cmake -S . -B "$dir" -DCMAKE_BUILD_TYPE="${BUILD_TYPE:-Release}" -DPython_EXECUTABLE="$PWD/$py" \
  -Dnanobind_DIR="$($py -m nanobind --cmake_dir)" >"$dir.log" 2>&1 || { cat "$dir.log" >&2; exit 1; }
if [ $# -eq 0 ]; then set -- all; fi
cmake --build "$dir" --target "$@" -j2
for f in "$dir"/_*.so "$dir"/jrm-guard; do
  [ -e "$f" ] || continue
  # A new file in the old one's place, never an overwritten one: running programs have the old one mapped.
  cp -p "$f" jupyter_rm/native/.new && mv jupyter_rm/native/.new "jupyter_rm/native/$(basename "$f")"
done
