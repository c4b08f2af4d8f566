"""A small ensemble that shows the whole path: executables with parameters, Python calls, one failure that is explained.

Uses a session of its own and closes it. Read next: ``examples/``.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

from ..model.describe import Shell, Task
from ..model.errors import RequestError
from ..model.units import human_s
from . import listing, session


def square(x: int) -> int:
    """Return x squared."""
    return x * x


def run(count: int = 64, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Run the ensemble; return counts and times.

    Args:
        count: number of executables and of calls, 1 or more.
        say: gets one line per step.

    Raises:
        RequestError: fewer than one.
    """
    if count < 1:
        raise RequestError(f"count: {count} is too few", hint="give 1 or more", code="JRM-Q05")
    begun = time.perf_counter()
    with session.open(_free_name()) as s:
        try:
            told = _play(s, count, say)
        finally:
            s.close()
    told["seconds"] = round(time.perf_counter() - begun, 3)
    say(f"done in {human_s(told['seconds'])}")
    return told


def _free_name() -> str:
    """Return a name that no open session has: somebody may have work in one that is called "demo"."""
    taken = {each.name for each in listing.sessions() if each.state == "open"}
    names = itertools.chain(["demo"], (f"demo-{number}" for number in itertools.count(2)))
    return next(name for name in names if name not in taken)


def _play(s: session.Session, count: int, say: Callable[[str], None]) -> dict[str, Any]:
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
    return {
        "programs": bulk.counts(),
        "calls": calls.counts(),
        "sum": total,
        "failed": {"uid": bad.uid, "exit_code": bad.exit_code, "reason": bad.reason},
        "as expected": bulk.counts() == {"DONE": count}
        and total == sum(map(square, range(count)))
        and bad.exit_code == 3,
    }
