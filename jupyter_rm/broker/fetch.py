"""Files at sites elsewhere, read and moved for clients through the login that the pilots' site has already.

One constant script reads a range of each of many files in one go; whole files go by SFTP, checked at the other end. No
login is begun that would need a person. Runs on threads of its own; knows no pilots.
Read next: :mod:`jupyter_rm.broker.remote`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..model.errors import ErrorForm, JrmError, LinkError, ProtocolError, RequestError
from ..model.facts import PilotSpec
from ..model.messages import FetchFiles, FilesMoved, FilesRead, Message, MoveFiles, Refused
from ..runtime.connect import Connections, Nobody
from ..runtime.depot import Content, Depot, Sums
from ..runtime.home import Home, private_directory
from . import cleanup, prepare
from .sites import parse

MOST_BYTES = 8 << 20  # of one answer
MOST_PATHS = 500
TIMEOUT_S = 60.0
# Paths come on stdin, one a line: what stands in them is data to the shell. A negative offset counts from the end.
# For each: a line "SIZE COUNT", then COUNT bytes; SIZE -1 says that nothing is there.
_READ = """
while IFS= read -r path; do
    if [ -f "$path" ] && [ -r "$path" ]; then
        size=$(wc -c <"$path"); size=$((size))
        first=$1; if [ "$first" -lt 0 ]; then first=$((size + first)); [ "$first" -ge 0 ] || first=0; fi
        count=$((size - first)); [ "$count" -le "$2" ] || count=$2; [ "$count" -ge 0 ] || count=0
        echo "$size $count"
        [ "$count" = 0 ] || tail -c "+$((first + 1))" -- "$path" | head -c "$count"
    else
        echo "-1 0"
    fi
done
"""


_LIST = 'cd -- "$1" 2>/dev/null && find . -type f -print'


def _check(paths: Sequence[str]) -> None:
    for path in paths:
        if (path != "~" and not path.startswith(("/", "~/"))) or any(sign in path for sign in "\n\r\0"):
            raise RequestError(f"files: {path!a} is no absolute path", hint="give a full path", code="JRM-Q19")


def _there(path: str) -> str:
    """Return a path as SFTP takes it: relative ones begin at home."""
    return "." if path in ("~", "~/") else path.removeprefix("~/")


class Fetcher:
    """Reads files for clients.

    Args:
        connections: those of the pilots' sites. home: of this broker.
    """

    def __init__(self, connections: Connections, home: Home) -> None:
        self._connections, self._home = connections, home
        self._sums = Sums()
        self._threads = ThreadPoolExecutor(2, "fetch")
        self._slow = ThreadPoolExecutor(2, "prepare")  # what may take minutes: nobody waits behind it

    def read(self, spec: PilotSpec, asked: FetchFiles | MoveFiles, answer: Callable[[Message], None]) -> None:
        """Read or move files at a pilot's site, and call ``answer`` with the reply on another thread."""
        site = spec.site
        slow = isinstance(asked, MoveFiles) and asked.what in (*prepare.WORDS, cleanup.WORD)

        def work() -> None:
            try:
                if isinstance(asked, FetchFiles):
                    answer(self._read(site, asked))
                elif asked.what == cleanup.WORD:
                    answer(FilesMoved(asked.req, cleanup.carry_out(self._connections, self._home, site, asked.session)))
                elif slow:
                    answer(FilesMoved(asked.req, prepare.carry_out(self._connections, spec, asked)))
                else:
                    answer(self._move(site, asked))
            except JrmError as error:
                answer(Refused(asked.req, ErrorForm.of(error)))
            except Exception as error:  # somebody waits for an answer
                broken = ProtocolError(f"files at {site}: {type(error).__name__}: {error}", code="JRM-N05")
                answer(Refused(asked.req, ErrorForm.of(broken)))

        (self._slow if slow else self._threads).submit(work)

    def _read(self, site: str, asked: FetchFiles) -> FilesRead:
        if len(asked.paths) > MOST_PATHS or not 0 < asked.size * max(1, len(asked.paths)) <= MOST_BYTES:
            raise RequestError("files: too much at once", hint="ask for fewer or smaller parts", code="JRM-Q19")
        _check(asked.paths)
        connection = self._connections.get(parse(site).target, Nobody())
        names = "".join(f"{_there(path)}\n" for path in asked.paths).encode("utf-8", "surrogateescape")
        done = connection.run(
            ["/bin/sh", "-c", _READ, "jrm-read", str(asked.offset), str(asked.size)], stdin=names, timeout=TIMEOUT_S
        )
        sizes, parts, at = [], [], 0
        for path in asked.paths:
            end = done.out.find(b"\n", at)
            words = done.out[at:end].split() if end >= 0 else []
            if len(words) != 2:
                raise LinkError(
                    f"{connection.name}: {path} cannot be read: {done.complaint or 'the answer broke off'}",
                    code="JRM-T11",
                    hint="try again; the file stays where it is",
                    retry=True,
                )
            sizes.append(int(words[0]))
            parts.append(done.out[end + 1 : end + 1 + int(words[1])])
            at = end + 1 + int(words[1])
        return FilesRead(asked.req, tuple(sizes), tuple(parts))

    def _move(self, site: str, asked: MoveFiles) -> FilesMoved:
        _check((*asked.sources, *asked.targets))
        alone = asked.what not in ("put", "get")
        if len(asked.sources) > MOST_PATHS or len(asked.targets) != (0 if alone else len(asked.sources)):
            raise RequestError("files: sources and targets do not match", hint="give pairs", code="JRM-Q19")
        connection = self._connections.get(parse(site).target, Nobody())
        if asked.what == "list":
            names: list[str] = []
            for directory in asked.sources:
                done = connection.run(["/bin/sh", "-c", _LIST, "jrm-list", directory], timeout=TIMEOUT_S)
                found = done.out.decode("utf-8", "surrogateescape").split("\n")
                names += [name.removeprefix("./") for name in found if name]
            return FilesMoved(asked.req, tuple(sorted(names)))
        if asked.what == "ls":
            rows = [entry for directory in asked.sources for entry in connection.list(_there(directory))]
            return FilesMoved(asked.req, tuple(f"{e.kind} {e.size} {e.modified_s} {e.name}" for e in rows))
        if asked.what in ("mkdir", "remove"):
            for path in asked.sources:
                connection.mkdir(_there(path)) if asked.what == "mkdir" else connection.remove(_there(path))
            return FilesMoved(asked.req, asked.sources)
        depot = Depot(connection)
        if asked.what == "put":
            depot.place({_there(to): self._content(one) for one, to in zip(asked.sources, asked.targets, strict=True)})
            return FilesMoved(asked.req, asked.targets)
        for source, target in zip(asked.sources, asked.targets, strict=True):
            info = connection.stat(_there(source))
            if info is not None and info.kind == "dir":
                depot.get_tree(_there(source), Path(target), private_directory(self._home.state / "cargo"))
            else:
                depot.get(_there(source), Path(target))
        return FilesMoved(asked.req, asked.targets)

    def _content(self, path: str) -> Content:
        try:
            return self._sums.of(Path(path))
        except OSError as error:
            raise RequestError(
                f"files: {path}: {error.strerror}", hint="check path and permissions", code="JRM-Q73"
            ) from None

    def close(self) -> None:
        """Take no more requests."""
        for threads in (self._threads, self._slow):
            threads.shutdown(wait=False, cancel_futures=True)
