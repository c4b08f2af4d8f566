"""A view of a session as a file: a page that needs no server, or its data; with or without names.

``session.view("nodes").save("map.html")``, ``%jrm export`` and ``jrm export`` come here. Knows sessions and views;
writes one file. Read next: :mod:`jupyter_rm.views.export`, :mod:`jupyter_rm.views.anonymous`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from .model.errors import RequestError, SiteError
from .model.states import CAUSE_TEXT

if TYPE_CHECKING:
    from .client.session import Session

KINDS = (".html", ".json")
FORMAT = 1  # of the data; counts on when it changes


def save(
    session: Session,
    view: str,
    path: str | os.PathLike[str],
    window: Mapping[str, Any] | None = None,
    anonymous: bool = False,
    theme: str = "light",
) -> Path:
    """Write what a view shows now to a file that only you can read; return its path.

    Args:
        view: ``tasks``, ``nodes``, ``queue``, ``timeline`` or ``usage``; as data also ``summary``, ``sites`` and
            ``activity``. path: ends in ``.html`` (a page with its figure, no network needed) or ``.json`` (values and
            tables, as in docs/server.md). window: what part of it, such as ``{"focus": "rack1"}``. anonymous: people,
            jobs, tasks, hosts, sites and queues get other names. theme: ``light`` or ``dark``, of a page.

    Raises:
        RequestError: no such view, theme or kind of file; JRM-Q60, JRM-Q62, JRM-Q65. SiteError: it cannot be written;
            JRM-S62.
    """
    from .client import show
    from .views import catalog, export
    from .views.anonymous import Veil
    from .views.pictures import Words
    from .views.windows import DRAWN, VIEWS, read

    target = Path(path).expanduser()
    kind = target.suffix.lower()
    if kind not in KINDS:
        raise RequestError(
            f"export: {target.name!r}",
            hint="name a file that ends in .html or .json; the button Save picture of a view makes a .png",
            code="JRM-Q62",
        )
    if view not in VIEWS or (kind == ".html" and view not in DRAWN):
        hint = "a page shows " + ", ".join(DRAWN)
        raise RequestError(f"export: no page or data of {view!r}", hint=hint, code="JRM-Q65")
    shown = read(window or {})
    words = Words(lambda table, index: show.reason_of(session, table, index), show.pilot_reason)
    at = time.time()
    picture = catalog.picture(view, session._replica, words, shown, at)
    if anonymous:
        plain = {*show._PLAIN.values(), *show._PILOT_PLAIN.values(), *CAUSE_TEXT.values()}
        picture = Veil(plain).picture(picture)
    if kind == ".html":
        data = export.page(view, picture, theme, at).encode()
    else:
        tables = {name: {"columns": list(each.columns), "rows": each.rows} for name, each in picture.tables.items()}
        told = {"format": FORMAT, "view": view, "at": at, "values": picture.values, "tables": tables}
        data = msgspec.json.format(msgspec.json.encode(told), indent=1)
    try:
        _write(target, data)
    except OSError as error:
        why = error.strerror or error
        raise SiteError(f"export: {target}: {why}", hint="choose another place", code="JRM-S62") from None
    return target


def _write(target: Path, data: bytes) -> None:
    half = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with open(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
        half.replace(target)  # whoever reads it meanwhile sees the old one
    finally:
        half.unlink(missing_ok=True)
