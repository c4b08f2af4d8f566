"""A small ensemble that shows the whole path: executables with parameters, Python calls, one failure that is explained.

Uses a session of its own and closes it. Read next: ``examples/``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..model.describe import Shell, Task
from ..model.units import human_s
from . import session


def square(x: int) -> int:
    """Return x squared."""
    return x * x


def run(count: int = 64, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Run the ensemble; return counts and times.

    Args:
        count: number of executables and of calls.
        say: gets one line per step.
    """
    begun = time.perf_counter()
    with session.open("demo") as s:
        pilot = s.pilot("local")
        say(f"session {s.name!r}; pilot {pilot.uid} on this machine")
        bulk = s.array(Task("/bin/echo", ["seed", "{seed}"], name="echo"), seed=range(count))
        bad = s.submit(Shell("echo 'no such parameter' >&2; exit 3", name="fails"))
        calls = s.map(square, range(count))
        bulk.wait()
        say(f"{count} programs: {bulk.counts()}, the last said {bulk[-1].stdout().strip()!r}")
        total = sum(calls.results())
        say(f"{count} Python calls: {calls.counts()}, sum of squares {total}")
        bad.wait()
        say(f"one task that fails: {bad.reason}")
        told = {
            "programs": bulk.counts(),
            "calls": calls.counts(),
            "sum": total,
            "failed": {"uid": bad.uid, "exit_code": bad.exit_code, "reason": bad.reason},
            "seconds": round(time.perf_counter() - begun, 3),
            "as expected": bulk.counts() == {"DONE": count}
            and total == sum(map(square, range(count)))
            and bad.exit_code == 3,
        }
        s.close()
    say(f"done in {human_s(float(str(told['seconds'])))}")
    return told
