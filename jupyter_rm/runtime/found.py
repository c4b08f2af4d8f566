"""What was found out about sites: queues, limits, projects; one small file each, so that forms offer them at once.

Whoever looks at a site writes what it heard; whoever fills a form reads it, with its age. Nothing secret is in it.
Knows files; asks no site. Read next: :mod:`jupyter_rm.views.forms`, :mod:`jupyter_rm.client.discover`.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

from ..model.sites import SiteQueue
from .home import Home, private_directory

MOST = 1 << 20  # bytes of a file that is read


class Found(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of a site: ``at`` when its queues were heard of (epoch s, 0: never).

    ``failure`` is why not since then, with its ``hint``; ``projects`` are what jobs can be charged to, ``missed`` is
    why they are not known.
    """

    site: str
    at: float = 0.0
    system: str = ""
    queues: tuple[SiteQueue, ...] = ()
    failure: str = ""
    hint: str = ""
    projects: tuple[str, ...] = ()
    missed: str = ""


_decoder = msgspec.json.Decoder(Found)


def _path(home: Home, site: str) -> Path:
    name = hashlib.blake2b(site.encode(), digest_size=9).hexdigest()
    return home.state_path / "found" / f"{name}.json"


def recall(home: Home, site: str) -> Found:
    """Return what was found at a site; with ``at`` 0 when nothing ever was, or when its file cannot be read."""
    path = _path(home, site)
    try:
        if path.stat().st_size > MOST:
            return Found(site)
        known = _decoder.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError):
        return Found(site)
    return known if known.site == site else Found(site)


def remember(home: Home, found: Found) -> None:
    """Write what was found at a site; what it replaces is never half gone.

    Raises:
        OSError: it cannot be written.
    """
    path = _path(home, found.site)
    private_directory(path.parent)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(found))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
