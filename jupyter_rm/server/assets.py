"""What pages need to draw: the figures of views, and BokehJS from the installed package: no network is needed.

Made on the hands when first asked for; a page keeps both (ETag). Needs a login as everything else. Read next:
:mod:`.api`, :mod:`.drawn`.
"""

from __future__ import annotations

import functools
import gzip
import hashlib

from ..model.errors import RequestError
from . import drawn
from .api import READ, ROUTES, SESSIONS, Api, guarded
from .jobs import JOB_ROUTES
from .logs import LOG_ROUTES
from .questions import QUESTION_ROUTES

FILES = "|".join(("bokeh", "bokeh-widgets", "bokeh-tables", "bokeh-api", "bokeh-gl"))
# What a page asks for holds the version in its query; without one it asks again after a minute.
_LONG, _SHORT = "private, max-age=31536000, immutable", "private, max-age=60"


class Figure(Api):
    """The figure of one view: a template without data."""

    @guarded(READ, SESSIONS)
    async def get(self, view: str) -> None:
        """Send it."""
        theme = self.get_query_argument("theme", "light")
        told = await self.hub.do(lambda: drawn.figure(view, theme))
        self.set_header("Etag", f'"{told["version"]}"')
        self.set_header("Cache-Control", "private, no-cache")
        if self.check_etag_header():
            self.set_status(304)
            self.finish()
            return
        self.reply(told)

    def compute_etag(self) -> str | None:
        """Leave it as it was set."""
        return None


@functools.lru_cache(maxsize=8)
def _script(name: str) -> tuple[str, bytes, bytes]:
    """Return version, bytes and compressed bytes of a file of BokehJS; blocks."""
    from pathlib import Path

    try:
        import bokeh
    except ImportError:
        raise RequestError("Bokeh is not installed", hint="pip install jupyter_rm[notebook]", code="JRM-Q64") from None
    path = Path(bokeh.__file__).parent / "server" / "static" / "js" / name
    if not path.is_file():
        raise RequestError(f"{name}: not in Bokeh {bokeh.__version__}", hint="reload the page", code="JRM-Q66")
    data = path.read_bytes()
    return hashlib.blake2b(data, digest_size=9).hexdigest(), data, gzip.compress(data, 6, mtime=0)


class Script(Api):
    """A file of BokehJS."""

    @guarded(READ, SESSIONS)
    async def get(self, name: str) -> None:
        """Send it."""
        version, plain, packed = await self.hub.do(lambda: _script(name))
        self.set_header("Etag", f'"{version}"')
        self.set_header("Cache-Control", _LONG if self.get_query_argument("v", "") else _SHORT)
        self.set_header("Vary", "Accept-Encoding")
        if self.check_etag_header():
            self.set_status(304)
            self.finish()
            return
        if "gzip" in self.request.headers.get("Accept-Encoding", ""):
            self.set_header("Content-Encoding", "gzip")
            plain = packed
        self.finish(plain, set_content_type="text/javascript; charset=utf-8")

    def compute_etag(self) -> str | None:
        """Leave it as it was set."""
        return None


API_ROUTES: list[tuple[str, type[Api]]] = [
    *(*ROUTES, *JOB_ROUTES, *QUESTION_ROUTES, *LOG_ROUTES),
    ("figures/([a-z]+)", Figure),
]
STATIC: list[tuple[str, type[Api]]] = [(rf"bokeh/((?:{FILES})\.min\.js)", Script)]
