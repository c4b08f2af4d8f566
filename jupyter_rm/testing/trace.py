"""What happened in a simulated world: a running digest of everything, and the last events in words.

Equal digests mean equal runs, frame by frame. Words are made only when somebody reads them.
Read next: :mod:`jupyter_rm.sim.world`.
"""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from typing import Any

from ..wire import codec

_AT = struct.Struct("<d")
_WIDE = 240


class Trace:
    """Digest and last events of one run; ``depth`` events are remembered."""

    def __init__(self, depth: int = 3000) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._last: deque[tuple[float, str, object]] = deque(maxlen=depth)

    def frame(self, now: float, source: str, target: str, frame: bytes) -> None:
        """Note the arrival of a frame."""
        self._hash.update(_AT.pack(now))
        self._hash.update(frame)
        self._last.append((now, f"{source} -> {target}", frame))

    def rows(self, now: float, bodies: list[bytes]) -> None:
        """Note what the journal took in."""
        for body in bodies:
            self._hash.update(body)
        self._hash.update(_AT.pack(now))

    def note(self, now: float, who: str, what: object) -> None:
        """Note anything else; ``what`` is shown as it prints then."""
        self._hash.update(_AT.pack(now))
        self._hash.update(who.encode())
        self._last.append((now, who, what))

    def digest(self) -> str:
        """Return the digest of everything so far."""
        return self._hash.hexdigest()

    def story(self, most: int = 200) -> str:
        """Return the last ``most`` events, a line each."""
        return "\n".join(f"{now:12.4f}  {who:28}  {_words(what)}" for now, who, what in list(self._last)[-most:])


def _words(what: object) -> str:
    if isinstance(what, bytes):
        what = _decoded(what)
    text = what if isinstance(what, str) else repr(what)
    return text if len(text) <= _WIDE else text[:_WIDE] + " ..."


def _decoded(frame: bytes) -> str:
    for form in (codec.from_agent, codec.to_agent, codec.from_client, codec.from_broker):
        try:
            message: Any = form.decode(frame)
        except Exception:  # noqa: S112 (it is one of the others)
            continue
        body = getattr(message, "body", None)
        if not body:
            return repr(message)
        inner = codec.reports if form is codec.from_agent else codec.orders
        head = f"{type(message).__name__}(e{message.epoch} h{message.hello} i{message.incarnation} "
        return f"{head}#{message.seq} ack {message.ack}) {inner.decode(body)!r}"
    return f"{len(frame)} bytes"
