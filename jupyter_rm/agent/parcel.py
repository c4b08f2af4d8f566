"""What lies in the place of a pilot besides its spec: the orders of a bundle, and the agent's word on who it is.

The broker puts the orders there before it asks for the job; the agent writes its hello there, so that a broker that
comes when all is over still learns where things ran. Knows two files. Read next: :mod:`jupyter_rm.core.bundle`.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from ..model.errors import SiteError
from ..model.messages import AgentHello
from ..runtime.home import write_private
from ..wire import codec, letters

log = logging.getLogger("jupyter_rm.agent")


def bundle_in(place: Path) -> list[bytes]:
    """Return the encoded orders of a bundle, in order; SiteError when they are not there or are none."""
    path = place / letters.WORK
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=list[bytes])
    except (OSError, msgspec.MsgspecError) as error:
        raise SiteError(f"{path}: the work of this pilot cannot be read: {error}", code="JRM-A43") from None


class Introduction:
    """The last hello on disk; written again only when it says something else."""

    def __init__(self, place: Path) -> None:
        self._path = place / letters.HELLO
        self._said: tuple[object, ...] = ()

    def write(self, hello: AgentHello) -> None:
        """Leave a hello behind."""
        said = (hello.epoch, hello.nodes, hello.sandbox)
        if said == self._said:
            return
        self._said = said
        try:
            write_private(self._path, codec.encode(hello))
        except OSError as error:
            log.warning("%s: %s", self._path, error)
