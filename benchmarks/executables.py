"""10,000 x /bin/true through the whole product, beside a plain C program that does the same, in turn and in one run.

Every task has its own working directory, stdout and stderr files, exit code and usage record here; the C program
(``peers/vfork_limit.c``: vfork, own stdout and stderr files, wait; two processes) is the limit of the machine.

    python benchmarks/executables.py [--tasks 10000] [--rounds 5] [--check]

``--check`` ends with 1 when the median ratio is under the bar of 0.85.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BAR = 0.85
HERE = Path(__file__).parent


def build_limit(place: Path) -> Path:
    """Compile the C program."""
    program = place / "vfork_limit"
    subprocess.run(["cc", "-O2", "-o", str(program), str(HERE / "peers" / "vfork_limit.c")], check=True)
    return program


def main() -> int:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="jrm-bench-") as name:
        place = Path(name)
        (place / "home").mkdir(mode=0o700)
        os.environ["JUPYTER_RM_HOME"] = str(place / "home")
        program = build_limit(place)
        import jupyter_rm as jrm

        session = jrm.open("bench")
        session.pilot("local", cores=2)
        session.submit(jrm.Task("/bin/true")).wait()
        limits, ours, ratios = [], [], []
        for round_ in range(options.rounds):
            files = place / f"files{round_}"
            files.mkdir()
            start = time.perf_counter()
            subprocess.run(
                [str(program), str(options.tasks), "2", str(files), "/bin/true"], check=True, stdout=subprocess.DEVNULL
            )
            limit = options.tasks / (time.perf_counter() - start)
            start = time.perf_counter()
            bulk = session.submit([jrm.Task("/bin/true")] * options.tasks)
            bulk.wait()
            rate = options.tasks / (time.perf_counter() - start)
            assert bulk.counts()["DONE"] == options.tasks, bulk.counts()
            limits.append(limit)
            ours.append(rate)
            ratios.append(rate / limit)
            print(
                f"round {round_}: limit {limit:6.0f}/s   jupyter_rm {rate:6.0f}/s   ratio {rate / limit:.3f}",
                flush=True,
            )
        session.close()
        subprocess.run([sys.executable, "-m", "jupyter_rm", "broker", "stop"], stdout=subprocess.DEVNULL, check=False)
    ratio = statistics.median(ratios)
    print(f"medians: limit {statistics.median(limits):.0f}/s, jupyter_rm {statistics.median(ours):.0f}/s,")
    print(f"ratio {ratio:.3f} (min {min(ratios):.3f}, max {max(ratios):.3f}); bar {BAR}")
    return 1 if options.check and ratio < BAR else 0


if __name__ == "__main__":
    sys.exit(main())
