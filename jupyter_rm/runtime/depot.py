"""Contents at another machine: a store of what was sent there, by SHA-256, and ways to get many files from there.

The store lies in the account's ``~/.jupyter_rm/cache``; a content is sent once however often and by whichever session
it is used. Large files go one by one, resumable; small ones in packs through one command each. A name in the store
stands for a whole and checked content. Blocks; knows a connection, no tasks. Read next:
:mod:`jupyter_rm.broker.carrier`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import secrets
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..model.errors import LinkError, SiteError
from ..model.staging import hidden
from .connect import Connection

CACHE = ".jupyter_rm/cache"
# A content of at most so many bytes travels in a pack of at most so many bytes and files.
SMALL, PACK_BYTES, PACK_FILES = 256 << 10, 8 << 20, 1000
LOOK_FILES = 500
TIMEOUT_S = 600.0
# What was used within this time is never removed from the store, minutes.
YOUNG_MIN = 240
# Constant texts; names come on stdin, one a line, and are data to the shell. tar takes a line that begins with "-" for
# an option of its own, so every one begins with "./".
_HAVE = """umask 077; mkdir -p -- "$1" && cd -- "$1" && pwd -P || exit 73
while IFS= read -r name; do [ -f "$name" ] && touch -c "$name" && echo "$name"; done; exit 0
"""
_UNPACK = """umask 077; cd -- "$1" && mkdir -- ".in.$2" && cd -- ".in.$2" || exit 73
trap 'cd .. && rm -rf -- ".in.$2"' EXIT
tar -xf - || exit 74
(sha256sum -- * 2>/dev/null || shasum -a 256 -- *) | while read -r sum name; do
    name=${name#\\*}; [ "$sum" = "$name" ] && chmod 500 "$name" && mv -f -- "$name" "../$name" && echo "$name"
done
exit 0
"""
_TIDY = """cd -- "$1" || exit 0
ls -nt | awk -v most="$2" '$1 ~ /^-/ && length($NF) == 64 { sum += $5; if (sum > most) print $NF }' |
while IFS= read -r name; do find "$name" -prune -type f -mmin +"$3" -exec rm -f {} \\; ; done
find . -name '.*.part' -prune -type f -mmin +10080 -exec rm -f {} \\;
"""
_LOOK = "LC_ALL=C; export LC_ALL; tr '\\n' '\\0' | xargs -0 ls -lLnd -- 2>/dev/null; exit 0"
_READ = """names=$(cat); printf '%s\\n' "$names" | tr '\\n' '\\0' | {
    xargs -0 sha256sum -- 2>/dev/null || printf '%s\\n' "$names" | tr '\\n' '\\0' | xargs -0 shasum -a 256 --; }
echo; printf '%s\\n' "$names" | sed 's,^/,./,' | tar -chf - -C / -T -
"""
_PACKED = """umask 077; mkdir -p -- "$1" && tar -chf "$1/.out.$2" -C "$3" . || { rm -f "$1/.out.$2"; exit 74; }"""

# A line is "SUM MODE PATH"; a relative path begins at home.
_PLACE = """umask 077; cd || exit 73; n=0
while IFS= read -r line; do
    sum=${line%% *}; line=${line#* }; mode=${line%% *}; path=${line#* }
    n=$((n + 1)); part="${path%/*}/.$sum.$$.$n.part"; case $path in */*) ;; *) part=".$sum.$$.$n.part" ;; esac
    case $path in */*) mkdir -p -- "${path%/*}" || exit 74 ;; esac
    cp -f -- "$1/$sum" "$part" && chmod "$mode" "$part" && mv -f -- "$part" "$path" ||
        { rm -f -- "$part"; exit 75; }
done
exit 0
"""

Progress = Callable[[int, int], None]


def _silent(_done: int, _size: int) -> None:
    pass


@dataclass(frozen=True)
class Content:
    """What is to be sent: a file here with its checksum."""

    path: Path
    sha256: str
    size: int


class Sums:
    """Checksums of files here, remembered while a file stays as it is."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[int, int, int], str]] = {}

    def of(self, path: Path) -> Content:
        """Return a file's content; OSError when it cannot be read."""
        with path.open("rb") as stream:
            info = os.fstat(stream.fileno())
            mark = (info.st_ino, info.st_size, info.st_mtime_ns)
            known = self._known.get(str(path))
            if known is None or known[0] != mark:
                digest = hashlib.sha256()
                while data := stream.read(1 << 20):
                    digest.update(data)
                known = (mark, digest.hexdigest())
                if len(self._known) > 100_000:
                    self._known.clear()
                self._known[str(path)] = known
        return Content(path, known[1], info.st_size)


def pack_tree(folder: Path, target: Path) -> None:
    """Write all files of a directory into an archive that is the same whenever the files are."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for base, folders, files in os.walk(folder):
            folders.sort()
            for name in sorted([*folders, *files]):
                path = Path(base, name)
                if not path.is_file() and not path.is_dir():
                    continue
                info = archive.gettarinfo(str(path.resolve()), str(path.relative_to(folder)))
                info.uid = info.gid = 0
                info.uname = info.gname = ""
                info.mtime = int(info.mtime)
                info.linkname = ""
                if path.is_file():
                    info.type = tarfile.REGTYPE
                    info.size = path.stat().st_size
                    with path.open("rb") as stream:
                        archive.addfile(info, stream)
                else:
                    archive.addfile(info)


def unpack_tree(archive: Path, folder: Path) -> None:
    """Put the files of an archive into a directory, each whole or not at all; ValueError for names that leave it."""
    top = folder.resolve()
    with tarfile.open(archive) as packed:
        for member in packed:
            goal = folder / member.name
            if not goal.resolve().is_relative_to(top):
                raise ValueError(f"{member.name!r} leaves the directory")
            if member.isdir():
                goal.mkdir(parents=True, exist_ok=True)
            elif member.isfile():
                stream = packed.extractfile(member)
                assert stream is not None
                with stream:
                    pieces = iter(lambda stream=stream: stream.read(1 << 20), b"")  # type: ignore[misc]
                    put_here(goal, pieces, member.name, member.mode)


def put_here(goal: Path, pieces: Iterable[bytes], source: str, mode: int = 0o600) -> None:
    """Write a file of this machine: the old content or the whole new one has the name, and is on disk.

    Args:
        source: where it comes from: what an earlier life left half-made of it is written over.
    """
    goal.parent.mkdir(parents=True, exist_ok=True)
    mark = hashlib.sha256(os.fsencode(source)).hexdigest()[:12]
    part = goal.with_name(hidden(goal.name, mark))
    try:
        with part.open("wb") as sink:
            os.fchmod(sink.fileno(), mode & 0o777 | 0o600)
            for piece in pieces:
                sink.write(piece)
            sink.flush()
            os.fsync(sink.fileno())
        part.replace(goal)
    finally:
        part.unlink(missing_ok=True)


def copy_here(source: Path, goal: Path, wanted: Callable[[], None] = lambda: None) -> None:
    """Copy a file or directory of this machine, each file whole or not at all; OSError when it cannot be done."""
    if source.is_dir():
        goal.mkdir(parents=True, exist_ok=True)
        for inside in sorted(source.iterdir()):
            copy_here(inside, goal / inside.name, wanted)
        return

    def pieces(stream: io.BufferedReader) -> Iterator[bytes]:
        while data := stream.read(4 << 20):
            wanted()
            yield data

    # What a task has put there instead of a file must not hold anybody up.
    with open(os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
        info = os.fstat(stream.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise OSError(errno.EINVAL, "neither a file nor a directory", str(source))
        put_here(goal, pieces(stream), str(source), info.st_mode)
    with contextlib.suppress(OSError):
        shutil.copystat(source, goal)


class Depot:
    """The files of one account at one machine.

    Args:
        connection: the login there.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def _run(self, script: str, *arguments: str, stdin: bytes = b"") -> bytes:
        done = self._connection.run(["/bin/sh", "-c", script, "jrm", *arguments], stdin=stdin, timeout=TIMEOUT_S)
        if done.rc:
            raise SiteError(
                f"{self._connection.name}: {CACHE}: {done.complaint or done.rc}",
                code="JRM-F62",
                hint="check free space, quota and permissions of your home directory there",
            )
        return done.out

    # ------------------------------------------------------------ there

    def have(self, sums: Iterable[str]) -> tuple[str, set[str]]:
        """Return (the store's directory, absolute; those contents that are in it); they count as used now."""
        names = "".join(f"{name}\n" for name in sums).encode()
        out = self._run(_HAVE, CACHE, stdin=names).decode("utf-8", "surrogateescape").split("\n")
        return out[0], set(out[1:]) - {""}

    def send(self, content: Content, progress: Progress) -> None:
        """Bring one content into the store, resumable.

        Raises:
            LinkError: the connection broke; send it again. SiteError, RequestError: it cannot be had.
        """
        name = f"{CACHE}/{content.sha256}"
        if self._connection.put(content.path, name, mode=0o500, progress=progress) != content.sha256:
            self._connection.remove(name)
            raise changed(content)

    def send_many(self, contents: Sequence[Content]) -> None:
        """Bring small contents into the store with one command."""
        buffer, wanted = io.BytesIO(), set()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for content in contents:
                data = content.path.read_bytes()
                if hashlib.sha256(data).hexdigest() != content.sha256:
                    raise changed(content)
                info = tarfile.TarInfo(content.sha256)
                info.size, info.mode = len(data), 0o600
                archive.addfile(info, io.BytesIO(data))
                wanted.add(content.sha256)
        came = self._run(_UNPACK, CACHE, secrets.token_hex(6), stdin=buffer.getvalue()).decode().split()
        if lost := wanted - set(came):
            raise LinkError(
                f"{self._connection.name}: {len(lost)} of {len(wanted)} files did not arrive as they were sent",
                code="JRM-T11",
                hint="it is tried again",
                retry=True,
            )

    def place(self, goals: Mapping[str, Content], progress: Progress = _silent) -> None:
        """Bring contents to paths there: each is sent once, whatever is there already is not sent at all.

        Raises:
            LinkError: the connection broke; do it again. SiteError, RequestError: it cannot be done.
        """
        contents = {content.sha256: content for content in goals.values()}
        _, present = self.have(contents)
        small, large = packs({name: content for name, content in contents.items() if name not in present})
        for each in small:
            self.send_many(each)
        for content in large:
            self.send(content, progress)
        lines = (f"{c.sha256} {stat.S_IMODE(c.path.stat().st_mode) & 0o777:o} {path}\n" for path, c in goals.items())
        self._run(_PLACE, CACHE, stdin=os.fsencode("".join(lines)))

    def tidy(self, most: int) -> None:
        """Remove from the store what was not used for longest, until it is no larger than ``most`` bytes."""
        self._run(_TIDY, CACHE, str(most), str(YOUNG_MIN))

    # ------------------------------------------------------------ here

    def look(self, paths: Sequence[str]) -> dict[str, tuple[str, int]]:
        """Return (``file`` or ``dir``, size in bytes) of those paths where something is."""
        found: dict[str, tuple[str, int]] = {}
        for start in range(0, len(paths), LOOK_FILES):
            names = os.fsencode("".join(f"{path}\n" for path in paths[start : start + LOOK_FILES]))
            for line in self._run(_LOOK, stdin=names).split(b"\n"):
                words = line.split(None, 8)
                if len(words) == 9 and words[0][:1] in (b"-", b"d") and words[4].isdigit():
                    kind = "dir" if words[0][:1] == b"d" else "file"
                    found[os.fsdecode(words[8])] = (kind, int(words[4]))
        return found

    def read_many(self, paths: Sequence[str]) -> dict[str, tuple[bytes, int]]:
        """Return (content, permissions) of small files, those that came whole and as they are there."""
        out = self._run(_READ, stdin=os.fsencode("".join(f"{path}\n" for path in paths)))
        head, _, packed = out.partition(b"\n\n")
        sums = {}
        for line in head.split(b"\n"):
            words = line.split(None, 1)
            if len(words) == 2:
                sums[os.fsdecode(words[1].removeprefix(b"*"))] = words[0].decode("ascii", "replace")
        found: dict[str, tuple[bytes, int]] = {}
        try:
            with tarfile.open(fileobj=io.BytesIO(packed), mode="r|", encoding="utf-8", errors="surrogateescape") as tar:
                for member in tar:
                    stream = tar.extractfile(member) if member.isfile() else None
                    data = stream.read() if stream is not None else b""
                    path = "/" + member.name.removeprefix("./").lstrip("/")
                    if stream is not None and hashlib.sha256(data).hexdigest() == sums.get(path):
                        found[path] = (data, member.mode)
        except tarfile.TarError:
            pass  # those that came before it are whole; the others are fetched one by one
        return found

    def get(self, path: str, goal: Path, progress: Progress = _silent) -> None:
        """Fetch one file, resumable."""
        goal.parent.mkdir(parents=True, exist_ok=True)
        self._connection.get(path, goal, progress=progress)

    def get_tree(self, path: str, goal: Path, scratch: Path, progress: Progress = _silent) -> None:
        """Fetch a directory as one archive; ``scratch``: a directory here for it."""
        # The same name each time, so that a transfer that broke off is continued.
        mark = hashlib.sha256(os.fsencode(path)).hexdigest()[:24]
        packed, here = f"{CACHE}/.out.{mark}", scratch / f"out.{mark}"
        self._run(_PACKED, CACHE, mark, path)
        self._connection.get(packed, here, progress=progress)
        try:
            goal.mkdir(parents=True, exist_ok=True)
            unpack_tree(here, goal)
        finally:
            here.unlink(missing_ok=True)
        self._connection.remove(packed)


def changed(content: Content) -> SiteError:
    """Return the error of a file that was written to while it was sent."""
    return SiteError(
        f"{content.path}: it changed while it was sent",
        code="JRM-F63",
        hint="submit again when nobody writes to it any more",
    )


def packs(contents: Mapping[str, Content]) -> tuple[list[list[Content]], list[Content]]:
    """Return (packs of small contents, large ones by themselves)."""
    small: list[list[Content]] = []
    large: list[Content] = []
    size = PACK_BYTES
    for content in contents.values():
        if content.size > SMALL:
            large.append(content)
            continue
        if size + content.size > PACK_BYTES or len(small[-1]) >= PACK_FILES:
            small.append([])
            size = 0
        small[-1].append(content)
        size += content.size
    return small, large
