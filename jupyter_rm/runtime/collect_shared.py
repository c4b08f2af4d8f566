"""One collection of a site for all its users: a directory there where whoever comes first puts it, or a URL.

What others wrote is shown and nothing more, unless root or the account that the site's file names wrote it. Whatever is
wrong with it costs nothing but its use: the answer says why, and one's own commands take over. It runs no command of a
batch system. Read next: :mod:`.collect_there` (what runs at the site), :mod:`jupyter_rm.batch.document`,
``docs/collect.md``.
"""

from __future__ import annotations

import http.client
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import msgspec

from ..batch import BatchSystem
from ..batch.document import MOST_BYTES, Part, Refused, Told, read, write
from ..model.errors import JrmError, LinkError
from .collect_there import AHEAD, MARK

if TYPE_CHECKING:
    from .connect import Connection

PROGRAM = Path(__file__).with_name("collect_there.py")
# A part is shown until it is so many pauses old; then one's own commands take over.
TOO_OLD = 3.0
RUN_S, FETCH_S = 30.0, 10.0
# What a URL served counts for so long, and what was wrong with it, s.
FETCH_AGAIN, FAILED_AGAIN = 10.0, 60.0
# So many files that are not believed are stepped over in one look.
TRIES, MOST_KNOWN = 4, 200
REDIRECTS = 3


@dataclass(frozen=True)
class Found:
    """What a look at a shared collection gave.

    Attributes:
        told: the part, None: there is nothing to use; age: of it, s. source: where it is from, for people.
        trusted: written by root or the account that the site's file names.
        turn: the caller is the one who collects now; busy: somebody else is. now: seconds since 1970 there.
        trouble: what was not believed or did not work, for people.
    """

    told: Told | None = None
    age: float = 0.0
    source: str = ""
    trusted: bool = False
    turn: bool = False
    busy: bool = False
    trouble: str = ""
    now: float = 0.0

    def note(self, trouble: str = "") -> str:
        """Return where the part that is shown now comes from, in one line of what can be seen."""
        wrong = trouble or self.trouble
        text = (self.source or "own commands") + (f"; shared collection: {wrong}" if wrong else "")
        return "".join(sign if sign.isprintable() else " " for sign in text)[:300]


class Shared(Protocol):
    """A collection that many share."""

    def look(self, part: Part, pause: float) -> Found:
        """Return what it holds of a part that is wanted anew every ``pause`` s; LinkError: the connection is lost."""

    def give(self, part: Part, told: Told, /) -> str:
        """Let others have what was collected in one's turn; return why they cannot, empty when they can."""


def shared_of(system: BatchSystem, connection: Connection, pythons: list[str]) -> Shared | None:
    """Return the shared collection that a site's file names, None when it names none.

    Args:
        connection: to the site; pythons: interpreters there, the best first.
    """
    said = system.table("collect")
    if said.get("shared"):
        return SharedPlace(connection, said["shared"], said.get("owner", ""), [*pythons, "python3"][0])
    return SharedUrl(said["url"]) if said.get("url") else None


class SharedPlace:
    """A directory at the site.

    Args:
        path: of the directory there; owner: the account whose documents alone count (beside root's), empty: anybody's.
        python: an interpreter there.
    """

    def __init__(self, connection: Connection, path: str, owner: str, python: str) -> None:
        self._connection, self._path, self._owner, self._python = connection, path, owner, python
        # Versions of files that were read and not believed, by part: they are not read again.
        self._known: dict[str, set[str]] = {}

    def look(self, part: Part, pause: float) -> Found:
        """As :class:`Shared` says."""
        known = self._known.setdefault(part, set())
        refused: list[str] = []
        for _ in range(TRIES):
            said, body = self._run(["look", self._path, part, str(pause), self._owner, ",".join(sorted(known))])
            refused += [text for text in said.refused if text not in refused]
            if said.trouble:
                return Found(trouble=said.trouble)
            if said.turn:
                return Found(turn=True, source="collected by you for all", trouble="; ".join(refused), now=said.now)
            if said.uid < 0:
                if said.cannot:
                    refused.append(f"nothing new in {self._path}, and you cannot collect there: {said.cannot}")
                return Found(busy=not said.cannot, trouble="; ".join(refused))
            try:
                told, age = _part(read(body), part, pause, said.now)
            except Refused as error:
                if len(known) > MOST_KNOWN:
                    known.clear()
                known.add(f"{said.uid}:{said.written}")
                refused.append(f"{said.file} {error}")
                continue
            source = f"shared, collected by {said.user}"
            return Found(told, age, source, said.trusted, trouble="; ".join(refused))
        return Found(trouble="; ".join(refused))

    def give(self, part: Part, told: Told) -> str:
        """As :class:`Shared` says."""
        try:
            said, _ = self._run(["put", self._path, part, self._owner], write({part: told}))
        except Refused as error:
            return f"not shared: {error}"
        return said.trouble

    def _run(self, words: list[str], stdin: bytes = b"") -> tuple[_Answer, bytes]:
        """Run our program there and return its answer; what is no answer is trouble, too."""
        argv = [self._python, "-I", "-S", "-c", PROGRAM.read_text("utf-8"), *words]
        try:
            done = self._connection.run(argv, stdin=stdin, timeout=RUN_S)
        except JrmError as error:
            if isinstance(error, LinkError) and error.code not in ("JRM-T27", "JRM-T28"):
                raise
            return _Answer(trouble=f"{self._path}: {error.message}"), b""
        head, _, packed = done.out.partition(MARK.encode())[2].partition(b"\n")
        try:
            return msgspec.json.decode(head, type=_Answer), _unpacked(packed)
        except (msgspec.DecodeError, UnicodeDecodeError, zlib.error):
            return _Answer(trouble=f"{self._path}: {done.complaint or 'no answer'}"), b""


class _Answer(msgspec.Struct):
    """The line before a document; ``uid`` below 0: there is no document."""

    now: float = 0.0
    turn: bool = False
    cannot: str = ""
    refused: list[str] = []
    uid: int = -1
    written: int | str = 0
    user: str = ""
    file: str = ""
    trusted: bool = False
    trouble: str = ""


def _unpacked(packed: bytes) -> bytes:
    if not packed:
        return b""
    opened = zlib.decompressobj()
    # One byte more than is allowed says that it is too large; a small answer must not become a large one here.
    return opened.decompress(packed, MOST_BYTES + 1)


def _part(parts: Mapping[Part, Told], part: Part, pause: float, now: float) -> tuple[Told, float]:
    """Return a part of a document and its age, s; Refused: it is not there, or its time cannot be right."""
    told = parts.get(part)
    if told is None:
        raise Refused(f"holds no {part}")
    if told.at > now + AHEAD:
        raise Refused("is from the future")
    age = max(0.0, now - told.at)
    if age > TOO_OLD * pause:
        raise Refused(f"is {age:.0f} s old")
    return told, age


class SharedUrl:
    """A document that a site serves. Nobody gives it anything and nobody takes turns: it is shown until it is too old.

    Args:
        url: ``https://...``; wall: seconds since 1970.
    """

    def __init__(self, url: str, wall: Callable[[], float] = time.time) -> None:
        self._url, self._wall = url, wall
        self._parts: Mapping[Part, Told] = {}
        self._again = float("-inf")
        self._trouble = ""
        self._fetch: threading.Thread | None = None

    def look(self, part: Part, pause: float) -> Found:
        """As :class:`Shared` says."""
        if time.monotonic() >= self._again:  # one answer serves for all parts
            self._trouble = self._renewed()
            self._again = time.monotonic() + (FAILED_AGAIN if self._trouble else FETCH_AGAIN)
        try:
            told, age = _part(self._parts, part, pause, self._wall())
        except Refused as error:
            return Found(trouble=self._trouble or f"{self._url} {error}")
        return Found(told, age, f"shared, {self._url}", trouble=self._trouble)

    def _renewed(self) -> str:
        """Fetch the document; return why that is not possible, empty when it is."""
        try:
            self._parts = read(self._fetched())
        except Refused as error:
            return f"{self._url} {error}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            # What went wrong below, unless a server answered: then its number says most.
            below = isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError)
            return f"{self._url}: {getattr(error, 'reason', error) if below else error}"
        return ""

    def _fetched(self) -> bytes:
        """Fetch in a thread that nobody waits for: a server that gives a byte now and then holds up no pilot."""
        if self._fetch is not None and self._fetch.is_alive():
            raise TimeoutError("still no answer")
        got: list[bytes | Exception] = []

        def fetch() -> None:
            try:
                got.append(fetched(self._url))
            except Exception as error:  # every kind of it is told below
                got.append(error)

        self._fetch = threading.Thread(target=fetch, name="collect url", daemon=True)
        self._fetch.start()
        self._fetch.join(FETCH_S)
        if not got:
            raise TimeoutError(f"no answer in {FETCH_S:.0f} s")
        if isinstance(got[0], Exception):
            raise got[0]
        return got[0]

    def give(self, _part: Part, _told: Told) -> str:
        """As :class:`Shared` says."""
        return ""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirection to another address of the same kind, a few times."""

    max_redirections = REDIRECTS

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if urllib.parse.urlsplit(newurl).scheme != "https":
            raise urllib.error.URLError("it leads to an address that is no https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetched(url: str) -> bytes:
    """Return what an ``https`` URL serves.

    Raises:
        OSError, HTTPException: it cannot be had. Refused: it is larger than a document, or the URL is of another kind.
    """
    if urllib.parse.urlsplit(url).scheme != "https":
        raise Refused("is no https")
    opener = urllib.request.OpenerDirector()  # not the usual one: that knows files and more
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    asked = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310 (https, see above)
    with opener.open(asked, timeout=FETCH_S / 2) as answer:
        body: bytes = answer.read(MOST_BYTES + 1)
    if len(body) > MOST_BYTES:
        raise Refused(f"is larger than {MOST_BYTES >> 20} MiB")
    return body
