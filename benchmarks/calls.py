"""Calls and tasks from a client's seat, through the real broker and one local agent: rates and round trips.

``python benchmarks/calls.py [--quick]`` prints one line per figure. Uses a home of its own in /tmp and cleans up.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


def nothing(x: object = None) -> None:
    """Do nothing."""


def timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def report(name: str, value: str) -> None:
    print(f"{name:<44} {value}", flush=True)


def measure(quick: bool) -> None:
    import jupyter_rm as jrm

    with jrm.open("bench") as s:
        s.pilot("local").wait()
        s.map(nothing, range(1000)).wait()
        few, many = (200, 20_000) if quick else (500, 100_000)

        trips = [timed(lambda: s.call(nothing).result()) for _ in range(few)]
        report("one call, round trip, median", f"{statistics.median(trips) * 1e3:.2f} ms")
        true = jrm.Task("/bin/true")
        trips = [timed(lambda: s.submit(true).wait()) for _ in range(few // 2)]
        report("one executable, round trip, median", f"{statistics.median(trips) * 1e3:.2f} ms")

        with s.executor() as ex:

            def futures(count: int = many // 4) -> None:
                made = [ex.submit(nothing, n) for n in range(count)]
                for each in made:
                    each.result()

            best = min(timed(futures) for _ in range(3))
            report(f"{many // 4} futures one by one", f"{many // 4 / best:,.0f}/s")

        def mapped() -> None:
            assert len(s.map(nothing, range(many)).results()) == many

        best = min(timed(mapped) for _ in range(3))
        report(f"map of {many} no-op calls with results", f"{many / best:,.0f}/s")

        def programs(count: int = many // 40) -> None:
            s.array(true, n=range(count)).wait()

        import warnings

        warnings.simplefilter("ignore")
        best = min(timed(programs) for _ in range(2))
        report(f"array of {many // 40} x /bin/true", f"{many // 40 / best:,.0f}/s")

        s.pilot("noop", nodes=4, cores=64, name="noop").wait()
        count = 200_000 if quick else 1_000_000
        noop = jrm.Task("/bin/true", pilot="noop")
        best = timed(lambda: s.array(noop, n=range(count)).wait())
        report(f"array of {count} tasks on the noop site", f"{count / best:,.0f}/s")
        s.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    home = tempfile.mkdtemp(prefix="jrmb-")
    os.environ["JUPYTER_RM_HOME"] = str(Path(home).resolve())
    from jupyter_rm.client import admin

    try:
        measure(options.quick)
    finally:
        admin.stop(force=True)
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
