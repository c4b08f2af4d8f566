"""Figures of views for pages, made by a program of its own: one for each theme, started when the first is asked for.

Bokeh takes 16 MB, and a second in which the server's own thread would often come second. Where no program can be
started, figures are made here. Knows no HTTP. Read next: :mod:`.assets`, :mod:`jupyter_rm.views.figures`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from ..model.errors import RequestError
from ..views.palette import THEMES
from ..views.windows import DRAWN

MAKE_S = 30.0
_news = threading.Condition()
_made: dict[tuple[str, str], dict[str, Any]] = {}
_making: set[str] = set()  # themes whose program runs


def figure(view: str, theme: str) -> dict[str, Any]:
    """Return the figure of a view; blocks.

    Raises:
        RequestError: no such view or theme, or Bokeh is not installed; JRM-Q64, JRM-Q65.
    """
    if view not in DRAWN or theme not in THEMES:
        hint = "views: " + ", ".join(DRAWN) + "; themes: " + ", ".join(THEMES)
        raise RequestError(f"no figure {view[:40]!r} in theme {theme[:40]!r}", hint=hint, code="JRM-Q65")
    end = time.monotonic() + MAKE_S
    with _news:
        if (view, theme) not in _made and theme not in _making:
            _making.add(theme)
            threading.Thread(target=_make, args=(view, theme), name="jupyter_rm-figures", daemon=True).start()
        while (view, theme) not in _made and theme in _making and time.monotonic() < end:
            _news.wait(end - time.monotonic())
        known = _made.get((view, theme))
    return known if known is not None else _made.setdefault((view, theme), _here(view, theme))


def _make(first: str, theme: str) -> None:
    """Have all figures of a theme made, the wanted one first."""
    views = [first, *(view for view in DRAWN if view != first and (view, theme) not in _made)]
    words = [sys.executable, "-m", "jupyter_rm.views.figures", theme, *views]
    # It finds the package where this process found it, not in a directory of notebooks.
    where = Path(__file__).resolve().parent.parent.parent
    try:
        with subprocess.Popen(
            words, cwd=where, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as program:
            for line in program.stdout or ():
                told = json.loads(line)
                with _news:
                    _made[told["view"], told["theme"]] = told
                    _news.notify_all()
    except (OSError, ValueError, KeyError):
        pass  # who waits makes it here, and tells what is wrong
    finally:
        with _news:
            _making.discard(theme)
            _news.notify_all()


def _here(view: str, theme: str) -> dict[str, Any]:
    try:
        from ..views import figures
    except ImportError:
        raise RequestError("Bokeh is not installed", hint="pip install jupyter_rm[notebook]", code="JRM-Q64") from None
    return figures.template(view, theme)
