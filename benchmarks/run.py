"""Run the benchmarks one after another and print one table of how each ended: ``make bench``.

    python benchmarks/run.py                 all of them
    python benchmarks/run.py journal spawn   only these
    python benchmarks/run.py --quick --check passed on to those that know the option

Knows nothing of what is measured: a benchmark is a program in this directory that prints its own tables, takes its
peers' figures in the same run, and (with ``--check``) ends with an error when it misses its bar. Everything printed
is kept in ``out/bench/``, with what the machine was doing at the time. Read next: ``benchmarks/README.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
OPTIONS = ("--check", "--quick")


def programs() -> dict[str, Path]:
    """Return the benchmarks by name."""
    return {
        path.stem: path for path in sorted(HERE.glob("*.py")) if path.stem != "run" and not path.stem.startswith("_")
    }


def machine() -> dict[str, object]:
    """Return what a reader of a figure must know about where it was taken."""
    return {
        "system": platform.system(),
        "kernel": platform.release(),
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def processor() -> str:
    """Return the name of the processor, as far as the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def run_one(name: str, path: Path, options: list[str], limit: float, out: Path) -> dict[str, object]:
    """Run one benchmark, showing and keeping what it prints; return how it ended.

    Args:
        name: of the benchmark. path: of the program.
        options: passed on as far as the program's text names them.
        limit: seconds until it is stopped and counts as failed.
        out: directory for the text.
    """
    text = path.read_text(encoding="utf-8")
    command = [sys.executable, "-u", str(path), *(option for option in options if option in text)]
    print(f"\n=== {name} " + "=" * max(0, 70 - len(name)), flush=True)
    before = os.getloadavg()[0]
    began = time.monotonic()
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=env, text=True, timeout=limit, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        printed, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired as late:
        raw = late.stdout or b""
        printed = (raw.decode(errors="replace") if isinstance(raw, bytes) else raw) + f"\nstopped after {limit:.0f} s\n"
        code = 124
    print(printed, end="" if printed.endswith("\n") else "\n", flush=True)
    (out / f"{name}.txt").write_text(printed, encoding="utf-8")
    return {"name": name, "exit": code, "seconds": round(time.monotonic() - began, 1), "load before": round(before, 2)}


def main() -> int:
    """Run what was asked for; return 1 when any of it failed."""
    known = programs()
    parser = argparse.ArgumentParser(description="Run the benchmarks.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"which (default: all): {', '.join(known)}")
    parser.add_argument("--check", action="store_true", help="end with an error when a bar is missed")
    parser.add_argument("--quick", action="store_true", help="shorter runs, rougher figures")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds any one may take (default: 600)")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in known]
    if unknown:
        parser.error(f"no benchmark named {', '.join(unknown)}; there are: {', '.join(known)}")
    options = [option for option in OPTIONS if getattr(args, option[2:])]
    out = ROOT / "out" / "bench"
    out.mkdir(parents=True, exist_ok=True)
    about = machine()
    print("  ".join(f"{key}: {value}" for key, value in about.items()))
    results = [run_one(name, known[name], options, args.limit, out) for name in args.names or known]
    (out / "summary.json").write_text(
        json.dumps({"machine": about, "runs": results}, indent=2) + "\n", encoding="utf-8"
    )
    print("\n=== summary " + "=" * 63)
    for row in results:
        ended = "ok" if row["exit"] == 0 else "stopped" if row["exit"] == 124 else f"FAILED ({row['exit']})"
        print(f"  {row['name']!s:<16} {ended:<12} {row['seconds']:>7} s   load before: {row['load before']}")
    print("  texts and summary.json: out/bench/")
    return 1 if any(row["exit"] for row in results) else 0


if __name__ == "__main__":
    sys.exit(main())
