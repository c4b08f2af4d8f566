"""Pages that are made from the code: written anew, or compared with what the code says today."""

from __future__ import annotations

import sys
from pathlib import Path


def keep(page: Path, text: str) -> int:
    """Write a page; with ``--check`` on the command line say only whether it is current. Returns the exit code."""
    if "--check" in sys.argv[1:]:
        if page.is_file() and page.read_text(encoding="utf-8") == text:
            return 0
        print(f"{page.name} is not what the code says; run: make docs", file=sys.stderr)
        return 1
    page.write_text(text, encoding="utf-8")
    return 0
