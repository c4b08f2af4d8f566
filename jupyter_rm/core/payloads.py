"""The pickled arguments and functions of calls, as bytes that nobody here opens.

They are large and only agents need them, so they are no part of the ledger. A function stays in memory while an open
bulk calls it; after that the journal has it, should it be called again. Read next: :mod:`jupyter_rm.core.books`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from ..model.columns import Column

LATEST_BYTES = 1 << 20


class Payloads:
    """The pickled arguments and functions of open bulks; opaque bytes, never unpickled here.

    ``pending`` gathers what the shell has to journal together with the facts of the turn.

    Args:
        fetch: returns the body of a function that was journalled, None when it is not there; without it nothing that
            came in is ever let go.
    """

    def __init__(self, fetch: Callable[[bytes], bytes | None] | None = None) -> None:
        self._fetch = fetch
        self._payloads: dict[tuple[str, int], Column] = {}
        self._functions: dict[bytes, bytes] = {}
        self._journalled: set[bytes] = set()
        self._called: dict[tuple[str, int], bytes] = {}  # open bulk -> its function
        self._callers: Counter[bytes] = Counter()
        self._latest: tuple[bytes, bytes] | None = None  # the function last let go: the next call is often one of it
        self.pending: list[tuple[str, int, Column | None, dict[bytes, bytes]]] = []

    def keep(
        self, session: str, bulk: int, payload: Column | None, functions: dict[bytes, bytes], called: bytes
    ) -> None:
        """Take in what a submission brought; ``called`` is the function it calls (empty: none)."""
        new = {sha: body for sha, body in functions.items() if sha not in self._journalled}
        self._functions.update(new)
        self._journalled.update(new)
        self._open(session, bulk, payload, called)
        if payload is not None or new:
            self.pending.append((session, bulk, payload, new))

    def restore(
        self, session: str, bulk: int, payload: Column | None, functions: Iterable[bytes], called: bytes
    ) -> None:
        """Take in what the journal holds, after a restart; ``payload`` and ``called`` are empty when the bulk ended."""
        self._journalled.update(functions)
        self._open(session, bulk, payload, called)

    def _open(self, session: str, bulk: int, payload: Column | None, called: bytes) -> None:
        if payload is not None:
            self._payloads[session, bulk] = payload
        if called:
            self._called[session, bulk] = called
            self._callers[called] += 1

    def drop(self, session: str, bulk: int) -> None:
        """Forget what belongs to a bulk that ended."""
        self._payloads.pop((session, bulk), None)
        called = self._called.pop((session, bulk), b"")
        if called:
            self._callers[called] -= 1
            if self._callers[called] == 0:
                del self._callers[called]
                if self._fetch is not None:
                    body = self._functions.pop(called, None)
                    if body is not None and len(body) <= LATEST_BYTES:
                        self._latest = (called, body)

    def payload(self, session: str, bulk: int) -> Column | None:
        """Return the payload column of an open bulk."""
        return self._payloads.get((session, bulk))

    def function(self, sha256: bytes) -> bytes | None:
        """Return a pickled function; None when it never came, or was lost with a part of the journal."""
        body = self._functions.get(sha256)
        if body is None and self._latest is not None and self._latest[0] == sha256:
            body = self._latest[1]
            if self._callers[sha256]:
                self._functions[sha256] = body
        if body is None and self._fetch is not None and sha256 in self._journalled:
            body = self._fetch(sha256)
            if body is not None and self._callers[sha256]:
                self._functions[sha256] = body
        return body
