"""Write docs/task.md from the code: the fields of a task, what they mean, and what holds when they are not given.

    scripts/list_fields.py            write the page
    scripts/list_fields.py --check    exit 1 when the page is not what the code says

Knows only :mod:`jupyter_rm.model.describe`, the one place where the fields stand. Read next: ``docs/tutorial.md``.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pages import keep

from jupyter_rm.model.describe import ALIASES, FIELDS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "task.md"

HEAD = """\
# The fields of a task

Written from `jupyter_rm/model/describe.py` by `scripts/list_fields.py` (`make docs`); do not edit by hand.

`jrm.Task(executable, arguments, **fields)` describes a program, `jrm.Shell(line, **fields)` a shell line, and
`jrm.Service(executable, arguments, name=..., **fields)` what others use while it runs ([services.md](services.md)).
`s.call` takes none of these fields, `s.map` and `s.executor` those that say what a call needs. A wrong field or value
is refused by name before anything is submitted. `jrm.Task?` shows the same list.
"""


def page() -> str:
    """Return the whole page."""
    short = {full: alias for alias, full in ALIASES.items()}
    lines = [HEAD, "| field | short | when not given | meaning |", "|---|---|---|---|"]
    for name, (_, default, meaning) in FIELDS.items():
        said = "" if default in ("", (), {}) or name == "partition" else f"`{default!r}`"
        alias = f"`{short[name]}`" if name in short else ""
        text = meaning.removesuffix(f" (short: {short.get(name)})").replace("|", "\\|").replace("<", "&lt;")
        lines.append(f"| `{name}` | {alias} | {said} | {text} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(keep(PAGE, page()))
