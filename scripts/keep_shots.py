"""Copy the good screenshots that the browser tests left in ``out/browser`` to ``docs/img``, made small.

Run it after ``make unit ARGS=tests/browser``, and look at them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
KEPT = {
    "tasks-light": "lab-tasks",
    "tasks-dark": "lab-tasks-dark",
    "drilled": "lab-nodes",
    "logs": "lab-logs",
    "timeline-light": "lab-timeline",
    "queue-line": "lab-queue",
    "nodes-by-user": "lab-users",
    "cell": "lab-cell",
    "old-notebook": "lab-old-notebook",
    "notebook-7": "notebook-7",
}
MOST_BYTES = 150_000


def main() -> int:
    """Copy them; return 1 when one is missing or stays too large."""
    bad = 0
    target = ROOT / "docs" / "img"
    target.mkdir(exist_ok=True)
    for shot, name in KEPT.items():
        source = ROOT / "out" / "browser" / f"{shot}.png"
        if not source.is_file():
            print(f"{source} is missing")
            bad = 1
            continue
        made = target / f"{name}.png"
        with Image.open(source) as picture:
            picture.convert("RGB").quantize(128).save(made, optimize=True)
        size = made.stat().st_size
        print(f"{made.relative_to(ROOT)}: {size} bytes")
        bad |= size > MOST_BYTES
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
