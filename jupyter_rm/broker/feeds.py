"""Who follows which session, and how much they still have to take in.

Followers get the facts of a session as they are committed. One that does not keep up is skipped, not waited for; when
it speaks again it is told where the session stands, notices its gap and attaches anew. Read next:
:mod:`jupyter_rm.broker.service`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from ..model.messages import Feed, Message

CREDIT_BYTES = 64 << 20


class _Follower:
    __slots__ = ("behind", "label", "owed", "size")

    def __init__(self, label: str) -> None:
        self.label = label
        self.owed: deque[tuple[int, int]] = deque()  # (cursor, bytes) sent and not yet seen
        self.size = 0  # bytes of all that is owed
        self.behind = False

    def owe(self, cursor: int, size: int) -> None:
        self.owed.append((cursor, size))
        self.size += size

    def seen(self, cursor: int) -> None:
        while self.owed and self.owed[0][0] <= cursor:
            self.size -= self.owed.popleft()[1]


class Feeds:
    """Followers of all sessions. ``send(client, message) -> bool`` says whether the client took it."""

    def __init__(self, send: Callable[[bytes, Message], bool]) -> None:
        self._send = send
        self._followers: dict[str, dict[bytes, _Follower]] = {}

    def follow(self, key: str, client: bytes, label: str) -> None:
        """Begin to feed a client; ``label`` is how it calls the session."""
        self._followers.setdefault(key, {})[client] = _Follower(label)

    def leave(self, client: bytes, key: str | None = None) -> None:
        """Feed a client no more, of one session or of all."""
        for session, followers in self._followers.items():
            if key is None or session == key:
                followers.pop(client, None)

    def followers(self, key: str) -> list[tuple[bytes, str]]:
        """Return who follows a session, each with the name it has for it."""
        return [(client, one.label) for client, one in self._followers.get(key, {}).items()]

    def count(self, key: str) -> int:
        """Return how many clients follow a session."""
        return len(self._followers.get(key, ()))

    def publish(self, key: str, before: int, cursor: int, bodies: list[bytes]) -> None:
        """Pass the facts (before, cursor] on to all followers of a session."""
        followers = self._followers.get(key)
        if not followers:
            return
        raws = tuple(msgspec.Raw(body) for body in bodies)
        size = sum(map(len, bodies))
        for client, follower in list(followers.items()):
            if follower.behind:
                continue
            late = follower.size > CREDIT_BYTES
            follower.owe(cursor, size)
            if late or not self._send(client, Feed(follower.label, before, cursor, raws)):
                follower.behind = True

    def seen(self, key: str, client: bytes, cursor: int, tip: int) -> None:
        """A client has folded everything up to ``cursor``."""
        follower = self._followers.get(key, {}).get(client)
        if follower is None:
            return
        follower.seen(cursor)
        if follower.behind and self._send(client, Feed(follower.label, tip, tip, ())):
            follower.behind = False
            follower.seen(tip)
