"""Two ordered streams over a network that may lose, repeat, delay and reorder.

Theory. Each side numbers what it sends and keeps it until the other side has acknowledged it; the receiver takes only
the next number and answers with the last one it took (go-back-N). Streams live inside a *connection*, named by (broker
incarnation, agent epoch, hello): a frame of any other connection is stale and dropped, so nothing delayed across a
restart can be mistaken for news. Orders are numbered from 1 in every connection. Reports keep their numbers over
connections and restarts (they come from the agent's spool), so the journal can say exactly which it has.

No sockets, no clock: ``now`` is passed in, in seconds. Read next: :mod:`jupyter_rm.core.port` (the broker's end) and
:mod:`jupyter_rm.core.agent` (the agent's end).
"""

from __future__ import annotations

from collections import deque

# Frames under way at once, and their bytes: enough for 100,000 tasks/s at 200 ms, little enough to resend.
WINDOW_FRAMES = 64
WINDOW_BYTES = 32 << 20


class Outbox:
    """Numbered bodies: sent in order, held until acknowledged, kept until the other side says they are safe for good.

    Args:
        last: number of the last body ever put in (0: none).
        patience: seconds without progress after which everything unacknowledged is sent again.
        filler: a body that means nothing, to stand for numbers whose bodies are lost.
    """

    def __init__(self, last: int = 0, patience: float = 2.0, filler: bytes = b"") -> None:
        self._filler = filler
        self._held: deque[bytes] = deque()  # numbers _first .. last
        self._first = last + 1
        self.last = last
        self.acked = last
        self.sent = last
        self._flying = 0
        self._patience = patience
        self._progress = 0.0

    @property
    def unacked(self) -> int:
        """Return how many bodies are not acknowledged yet."""
        return self.last - self.acked

    def put(self, body: bytes) -> int:
        """Take a body in and return its number."""
        self.last += 1
        self._held.append(body)
        return self.last

    def restore(self, seq: int, body: bytes) -> None:
        """Take in a body that got its number in an earlier life, in order; left out numbers become fillers."""
        if not self._held:
            self._first = seq
            self.last = self.acked = self.sent = seq - 1
        while self.last + 1 < seq:
            self.put(self._filler)
        if seq == self.last + 1:
            self.put(body)

    def ack(self, seq: int, now: float) -> None:
        """Note that the other side has everything up to ``seq``."""
        seq = min(seq, self.last)
        if seq <= self.acked:
            return
        for number in range(max(self.acked + 1, self._first), min(seq, self.sent) + 1):
            self._flying -= len(self._held[number - self._first])
        self.acked = seq
        self.sent = max(self.sent, seq)
        self._progress = now

    def forget(self, seq: int) -> bool:
        """Drop acknowledged bodies up to ``seq`` for good; say whether there were any."""
        before = self._first
        while self._held and self._first <= min(seq, self.acked):
            self._held.popleft()
            self._first += 1
        return self._first > before

    def rewind(self, acked: int, now: float) -> None:
        """Start over after ``acked``, in a new connection or because nothing moves.

        The other side may have more than we remember: a node that went down lost what it had not synced. The numbers
        it knows are never used again, or news would be taken for a repetition. It may also want what is lost for good,
        when its journal or our spool was damaged: fillers stand for that, so that the stream goes on.
        """
        if acked > self.last:
            self._held.clear()
            self._first, self.last = acked + 1, acked
        while self._first > acked + 1:
            self._held.appendleft(self._filler)
            self._first -= 1
        self.acked = self.sent = acked
        self._flying = 0
        self._progress = now

    def overdue(self, now: float) -> bool:
        """Say whether sent bodies have waited too long for their acknowledgement."""
        return self.sent > self.acked and now - self._progress > self._patience

    def take(self, now: float) -> list[tuple[int, bytes]]:
        """Return (number, body) of what may be sent now, within the window, and count it as sent."""
        if self.sent == self.acked:
            self._progress = now  # nothing was under way; the wait starts here
        out: list[tuple[int, bytes]] = []
        while self.sent < self.last and self.sent - self.acked < WINDOW_FRAMES:
            body = self._held[self.sent + 1 - self._first]
            if self._flying and self._flying + len(body) > WINDOW_BYTES:
                break
            self._flying += len(body)
            self.sent += 1
            out.append((self.sent, body))
        return out


class Inbox:
    """The receiving end: takes exactly the next number."""

    def __init__(self, last: int = 0) -> None:
        self.last = last

    def take(self, seq: int) -> bool:
        """Say whether the body numbered ``seq`` is the next one; repeated and early ones are not."""
        if seq != self.last + 1:
            return False
        self.last = seq
        return True
