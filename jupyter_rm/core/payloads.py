"""The pickled arguments and functions of calls, as bytes that nobody here opens.

They are large and only agents need them, so they are no part of the ledger. Read next: :mod:`jupyter_rm.core.books`.
"""

from __future__ import annotations

from ..model.columns import Column


class Payloads:
    """The pickled arguments and functions of open bulks; opaque bytes, never unpickled here.

    ``pending`` gathers what the shell has to journal together with the facts of the turn.
    """

    def __init__(self) -> None:
        self._payloads: dict[tuple[str, int], Column] = {}
        self._functions: dict[bytes, bytes] = {}
        self.pending: list[tuple[str, int, Column | None, dict[bytes, bytes]]] = []

    def keep(self, session: str, bulk: int, payload: Column | None, functions: dict[bytes, bytes]) -> None:
        """Take in what a submission brought."""
        new = {sha: body for sha, body in functions.items() if sha not in self._functions}
        self._functions.update(new)
        if payload is not None:
            self._payloads[session, bulk] = payload
        if payload is not None or new:
            self.pending.append((session, bulk, payload, new))

    def restore(self, session: str, bulk: int, payload: Column | None, functions: dict[bytes, bytes]) -> None:
        """Take in what the journal holds, after a restart."""
        self._functions.update(functions)
        if payload is not None:
            self._payloads[session, bulk] = payload

    def drop(self, session: str, bulk: int) -> None:
        """Forget the payloads of a bulk that ended."""
        self._payloads.pop((session, bulk), None)

    def payload(self, session: str, bulk: int) -> Column | None:
        """Return the payload column of an open bulk."""
        return self._payloads.get((session, bulk))

    def knows(self, sha256: bytes) -> bool:
        """Say whether a function's body is here."""
        return sha256 in self._functions

    def function(self, sha256: bytes) -> bytes:
        """Return a pickled function."""
        return self._functions[sha256]
