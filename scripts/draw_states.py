"""Draw docs/states.md from the code: the steps of tasks and pilots, and the causes of ends.

    scripts/draw_states.py            write the page
    scripts/draw_states.py --check    exit 1 when the page is not what the code says

Knows only :mod:`jupyter_rm.model.states`, the one place where the states stand. Read next: ``docs/architecture.md``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pages import keep

from jupyter_rm.model.states import (
    CAUSE_TEXT,
    HOPELESS,
    INFRASTRUCTURE,
    PILOT_STEPS,
    TASK_STEPS,
    Cause,
    PilotState,
    TaskState,
)

PAGE = Path(__file__).resolve().parent.parent / "docs" / "states.md"
State = TypeVar("State", TaskState, PilotState)

HEAD = """\
# States and causes

Drawn from `jupyter_rm/model/states.py` by `scripts/draw_states.py` (`make docs`); do not edit by hand. The theory
stands in that file's docstring: a state never goes back, states may be skipped, and a retry is a new *attempt* that
begins again in `WAITING`.
"""


def diagram(steps: Mapping[State, tuple[State, ...]]) -> str:
    """Return a Mermaid state diagram of a table of steps."""
    lines = ["```mermaid", "stateDiagram-v2"]
    first = next(iter(steps))
    lines.append(f"    [*] --> {first.name}")
    for state, following in steps.items():
        lines += [f"    {state.name} --> {after.name}" for after in following]
    lines += [f"    {state.name} --> [*]" for state in steps if state.final]
    lines.append("```")
    return "\n".join(lines)


def table(steps: Mapping[State, tuple[State, ...]]) -> str:
    """Return the same steps as a table, for readers without diagrams."""
    lines = ["| # | state | may be followed by |", "|---|---|---|"]
    for state, following in steps.items():
        after = ", ".join(f"`{one.name}`" for one in following) or "nothing: final"
        lines.append(f"| {int(state)} | `{state.name}` | {after} |")
    return "\n".join(lines)


def causes() -> str:
    """Return the table of causes."""
    lines = ["| # | cause | in words | then |", "|---|---|---|---|"]
    for cause in Cause:
        if cause is Cause.NONE:
            continue
        then = "counts against `retries`"
        if cause in INFRASTRUCTURE:
            then = "new attempt for free, unless the task forbids a second start"
        elif cause in HOPELESS:
            then = "never retried"
        lines.append(f"| {int(cause)} | `{cause.name}` | {CAUSE_TEXT[cause]} | {then} |")
    return "\n".join(lines)


def page() -> str:
    """Return the whole page."""
    parts = [
        HEAD.rstrip(),
        "## Tasks",
        diagram(TASK_STEPS),
        table(TASK_STEPS),
        "## Pilots",
        "`UNREACHABLE` is a flag beside the state: silence is never an end.",
        diagram(PILOT_STEPS),
        table(PILOT_STEPS),
        "## Causes",
        "Why an attempt or a pilot ended as it did.",
        causes(),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.exit(keep(PAGE, page()))
