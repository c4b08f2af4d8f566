"""Progress of a blocking wait: one display in a notebook, one line in a terminal, nothing elsewhere.

Plain HTML that follows the theme's own colours; the last state stays in the saved notebook. Never waits for a front
end. Knows nothing about tasks but their number per state. Read next: :mod:`.show`.
"""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..model.units import human_s

if TYPE_CHECKING:
    from .settings import Settings

Picture = Callable[[], dict[str, int]]
_COLORS = {"DONE": "#2a7fb8", "RUNNING": "#5aae61", "FAILED": "#c2410c", "CANCELED": "#8a8a8a"}


def in_notebook() -> bool:
    """Is there a Jupyter kernel around this code?"""
    if "ipykernel" not in sys.modules or "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    shell = get_ipython()
    return shell is not None and getattr(shell, "kernel", None) is not None


def line(what: str, counts: dict[str, int], seconds: float) -> str:
    """Return one line: what, how far, how long."""
    total = sum(counts.values())
    ended = sum(counts.get(name, 0) for name in ("DONE", "FAILED", "CANCELED"))
    parts = [f"{number} {name.lower()}" for name, number in counts.items() if number and name != "DONE"]
    rest = f" ({', '.join(parts)})" if parts else ""
    return f"{what}: {ended} of {total} ended{rest}, {human_s(seconds)}"


def bar(counts: dict[str, int], text: str) -> str:
    """Return a bar of the shares per state as HTML that a screen reader can read."""
    total = max(1, sum(counts.values()))
    ended = sum(counts.get(name, 0) for name in ("DONE", "FAILED", "CANCELED"))
    cells = "".join(
        f'<span style="display:inline-block;height:0.8em;width:{100 * counts[name] / total:.2f}%;'
        f'background:{color}"></span>'
        for name, color in _COLORS.items()
        if counts.get(name)
    )
    return (
        f'<div role="progressbar" aria-label="{html.escape(text, quote=True)}" aria-valuemin="0" '
        f'aria-valuemax="{total}" aria-valuenow="{ended}" style="max-width:48em">'
        f'<div style="border:1px solid currentColor;height:0.8em;line-height:0;white-space:nowrap">{cells}</div>'
        f"<small>{html.escape(text)}</small></div>"
    )


class Progress:
    """Draws at most every ``settings.progress_interval_s`` seconds."""

    def __init__(self, what: str, settings: Settings, picture: Picture) -> None:
        self._what = what
        self._picture = picture
        self._interval = settings.progress_interval_s
        self._begun = time.monotonic()
        self._next = self._begun + settings.progress_after_s
        self._handle: Any = None
        self._drawn = False
        self._notebook = in_notebook()
        self._tty = not self._notebook and sys.stderr is not None and sys.stderr.isatty()

    def update(self, last: bool = False) -> None:
        """Draw, unless it is too early."""
        now = time.monotonic()
        if not (self._notebook or self._tty) or (now < self._next and not last):
            return
        self._next = now + self._interval
        self._drawn = True
        counts = self._picture()
        text = line(self._what, counts, now - self._begun)
        if self._tty:
            sys.stderr.write(f"\r\x1b[K{text[:200]}" + ("\n" if last else ""))
            sys.stderr.flush()
            return
        from IPython.display import display

        bundle = {"text/plain": text, "text/html": bar(counts, text)}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(bundle, raw=True)

    def close(self) -> None:
        """Draw the end, if anything was drawn."""
        if self._drawn:
            self.update(last=True)
