"""Which kinds of sites work, seen by using each: writes docs/targets.md.

    python benchmarks/targets.py [--write] [--only NAME ...]

On each target a pilot is asked for, 500 programs and 50 Python calls run in it, and it is ended. When all of it went as
it should, the level is ``stable``; else there is none, and the page says what was seen. Nothing is written by hand.
Needs root: Slurm and Grid Engine are the real ones of the tests (``tests/cluster_kit.py``).
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "remote"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from cluster_kit import shared
from remote_kit import Far

import jupyter_rm as jrm

ROOT = Path(__file__).resolve().parent.parent
TASKS, CALLS = 500, 50
TARGETS: dict[str, tuple[str, dict[str, Any], str]] = {
    "this machine": ("local", {"cores": 2}, ""),
    "several nodes of this machine": ("local", {"nodes": 2, "cores": 4, "launch": "fork"}, ""),
    "a machine behind SSH": ("ssh://alice@tb-slurm", {"cores": 2}, ""),
    "Slurm behind SSH": ("slurm+ssh://alice@tb-slurm", {"nodes": 1, "walltime": "10m"}, "sinfo --version"),
    "Slurm behind SSH, 4 nodes": ("slurm+ssh://alice@tb-slurm", {"nodes": 4, "walltime": "10m"}, "sinfo --version"),
    "Grid Engine behind SSH": ("sge+ssh://alice@tb-sge", {"walltime": "10m"}, "qstat -help"),
}


def used(name: str, far: Far) -> tuple[str, str, str]:
    """Use one target; return (its level or a dash, version of its batch system, what was seen)."""
    site, fields, asks = TARGETS[name]
    version = ""
    began = time.monotonic()
    session = jrm.open("target-" + "".join(sign for sign in name if sign.isalnum()))
    try:
        if asks:
            said = far.cluster.run(*asks.split(), check=False).splitlines()
            version = said[0].strip() if said else ""
        pilot = session.pilot(site, **fields)
        if pilot.wait("ACTIVE", 180) != "ACTIVE":
            return "-", version, f"no pilot: {pilot.reason}"
        active = time.monotonic() - began
        programs = session.submit([jrm.Task("/bin/true")] * TASKS)
        calls = session.map(pow, range(CALLS), [2] * CALLS)
        if not programs.wait(180) or programs.counts() != {"DONE": TASKS}:
            return "-", version, f"programs: {programs.counts()}"
        if calls.results(timeout=180) != [n * n for n in range(CALLS)]:
            return "-", version, "calls gave other values"
        pilot.cancel()
        if pilot.wait("CANCELED", 90) != "CANCELED":
            return "-", version, f"it did not end: {pilot.state}"
        return "stable", version, f"active after {active:.0f} s; {TASKS} programs, {CALLS} calls, ended when told"
    except (jrm.JrmError, TimeoutError, AssertionError) as error:
        return "-", version, " ".join(str(error).split())[:200]
    finally:
        session.close()


def main() -> int:
    """Use the targets and print or write the page; 1 when one has no level."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--write", action="store_true", help="write docs/targets.md")
    parser.add_argument("--only", nargs="*", help="these only")
    given = parser.parse_args()
    rows = []
    with Far(shared().need("slurm", "sge")) as far:
        for name in given.only or TARGETS:
            level, version, seen = used(name, far)
            site = TARGETS[name][0].replace("alice@tb-slurm", "me@login").replace("alice@tb-sge", "me@login")
            rows.append((name, f"`{site}`", version, level, seen))
            print(*rows[-1], sep=" | ", flush=True)
    page = [
        "# Targets",
        "",
        f"Written by `benchmarks/targets.py` on {time.strftime('%Y-%m-%d')} with version {jrm.__version__} on "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}; do not edit by hand.",
        "`stable`: a pilot, programs, Python calls and its end went as they should in this very run. A target that",
        "fails loses its level. Other batch systems are tested against recorded output only:",
        "see [batch-systems.md](batch-systems.md).",
        "",
        "| target | site | system | level | seen |",
        "|---|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    if given.write:
        (ROOT / "docs/targets.md").write_text("\n".join(page) + "\n", encoding="utf-8")
    return int(any(row[3] == "-" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
