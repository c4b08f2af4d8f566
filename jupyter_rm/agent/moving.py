"""One file or directory from here to there: whole or not at all.

Every file is made under a hidden name beside its goal and renamed when it is complete; what other tasks or later
sessions may take from is on disk before it has its name. Knows directives with their placeholders filled in, no tasks'
states. Read next: :mod:`jupyter_rm.agent.staging`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ..model.staging import WEB, Directive, Found, base_name, hidden, owner_of, spaces, split

PIECE = 4 << 20
SLOW = 16 << 20  # bytes of a file that are worth a word while they are under way
WEB_S = 60.0
_DIR = 0o700


class Stop(Exception):
    """Nobody wants it any more."""


class Places:
    """Where the schemes lead to, for one attempt.

    Attributes:
        folder: its own sandbox.
    """

    def __init__(self, sandbox: str, pilot: int, bulk: int, index: int, attempt: int) -> None:
        self.sandbox, self.pilot = sandbox.rstrip("/"), pilot
        self.bulk, self.index, self.attempt = bulk, index, attempt
        self.spaces = spaces(sandbox, pilot)
        self.folder = f"{self.sandbox}/{bulk:06d}/{index:06d}.{attempt}"
        self._given = False

    def own(self, given: str) -> None:
        """Take the directory that the user chose instead."""
        self.folder, self._given = os.path.join(self.sandbox, given), True  # noqa: PTH118 (text stays text)

    def path(self, url: str) -> Path | None:
        """Return the path a place stands for; None: an attempt before the first.

        Raises:
            FileNotFoundError: no such attempt is known here.
        """
        scheme, owner, path = split(url)
        if scheme == "file":
            return Path(path)
        if scheme != "task":
            return Path(self.spaces[scheme], path)
        named = owner_of(owner)
        if named is None:
            return Path(self.folder, path)
        folder = self._attempt(*named, url)
        return None if folder is None else folder / path

    def _attempt(self, bulk: int, index: int, attempt: int, url: str) -> Path | None:
        if bulk < 0:
            bulk, index = self.bulk, self.index
            if attempt <= 0:
                attempt = self.attempt + (attempt or -1)
                if attempt < 1:
                    return None
            if self._given:
                return Path(self.folder)  # of the user's choice: the same one for every attempt
        above, _, name = self.sandbox.rpartition("/")
        roots = [Path(self.sandbox)]
        if name == f"p.{self.pilot}":  # another pilot of the session may have had it
            roots += sorted(root for root in Path(above).glob("p.*") if root != roots[0])
        found: list[tuple[int, Path]] = []
        for root in roots:
            for folder in Path(root, f"{bulk:06d}").glob(f"{index:06d}.*"):
                number = folder.name.partition(".")[2]
                if number.isdigit() and (attempt == 0 or int(number) == attempt):
                    found.append((int(number), folder))
        if not found:
            raise FileNotFoundError(2, "no such attempt", url)
        return max(found)[1]


class Mover:
    """Carries out the directives of one attempt.

    Args:
        found: where what comes from the client lies.
        say: is told what is under way: text, bytes done, bytes in all.

    Attributes:
        source, target: of the directive that is being carried out, for messages.
    """

    def __init__(
        self,
        places: Places,
        found: Mapping[str, Found],
        stop: threading.Event,
        say: Callable[[str, int, int], None],
    ) -> None:
        self._places, self._found, self._stop, self._say = places, found, stop, say
        self.source = self.target = self._named = ""

    def carry(self, one: Directive) -> None:
        """Put one file or directory in place.

        Raises:
            Stop: nobody wants it any more. OSError: it cannot be done. ValueError: it makes no sense there.
        """
        self.source = self.target = one.target
        scheme, _, rest = split(one.source)
        goal = self._places.path(one.target)
        assert goal is not None, "targets name no attempt"
        if one.target.endswith("/"):
            goal /= base_name(rest.partition("?")[0])
        self.source, self.target, self._named = one.source, str(goal), rest
        Path(self._places.folder).mkdir(_DIR, parents=True, exist_ok=True)
        goal.parent.mkdir(_DIR, parents=True, exist_ok=True)
        if scheme in WEB:
            self._download(one.source, goal)
        elif scheme == "client":
            self._from_client(self._found[one.source], goal, link=one.action == "link")
        else:
            source = self._places.path(one.source)
            if source is None:
                return  # the first attempt has none before it
            self.source = str(source)
            if not source.exists():
                raise FileNotFoundError(2, "not there", self.source)
            if one.action == "link":
                self._link(source, goal)
            elif one.action == "move":
                self._move(source, goal)
            else:
                self.copy(source, goal)

    # ------------------------------------------------------------ what comes from the client

    def _from_client(self, found: Found, goal: Path, *, link: bool) -> None:
        source = Path(found.path)
        self.source = found.path
        if found.kind == "here":
            self._link(source, goal) if link else self.copy(source, goal)
            return
        if not link:
            if found.kind == "tar":
                with self._beside(goal) as part:
                    part.mkdir(_DIR)
                    self._unpack(source, part)
                    settle(part, goal)
            else:
                self.copy(source, goal, found.mode)
            return
        # One copy for all tasks of this pilot: the account's store of contents may be tidied up meanwhile.
        shared = Path(self._places.spaces["pilot"], ".client", source.name)
        if not shared.exists():
            shared.parent.mkdir(_DIR, parents=True, exist_ok=True)
            with self._beside(shared) as part:
                if found.kind == "tar":
                    part.mkdir(_DIR)
                    self._unpack(source, part)
                else:
                    try:
                        os.link(source, part)
                    except OSError:
                        self._pour(source, part, 0o500)
                with contextlib.suppress(OSError):  # another task was faster with a directory
                    part.rename(shared)
        self._link(shared, goal)

    def _unpack(self, source: Path, folder: Path) -> None:
        with tarfile.open(source) as archive:
            for member in archive:
                self._wanted()
                goal = folder / member.name
                if not goal.resolve().is_relative_to(folder.resolve()):
                    raise ValueError(f"{member.name!r} leaves the directory")
                if member.isdir():
                    goal.mkdir(_DIR, parents=True, exist_ok=True)
                elif member.isfile():
                    goal.parent.mkdir(_DIR, parents=True, exist_ok=True)
                    stream = archive.extractfile(member)
                    assert stream is not None
                    with stream, goal.open("xb") as sink:
                        shutil.copyfileobj(stream, sink, PIECE)
                    goal.chmod(member.mode & 0o777 | 0o200)
                    os.utime(goal, (member.mtime, member.mtime))

    # ------------------------------------------------------------ on this machine

    def copy(self, source: Path, goal: Path, mode: int = -1) -> None:
        """Copy a file (into a directory that has its name), or a directory with all that is in it."""
        if not source.is_dir():
            if goal.is_dir():
                goal /= base_name(self._named)
            with self._beside(goal) as part:
                self._pour(source, part, mode)
                part.replace(goal)
            return
        if goal.resolve().is_relative_to(source.resolve()):
            raise ValueError("a directory cannot be copied into itself")
        with self._beside(goal) as part:
            part.mkdir(_DIR)
            for base, folders, files in os.walk(source):
                inside = part / Path(base).relative_to(source)
                for name in folders:
                    (inside / name).mkdir(_DIR, exist_ok=True)
                for name in files:
                    self._pour(Path(base, name), inside / name, -1)
            settle(part, goal)

    def _move(self, source: Path, goal: Path) -> None:
        try:
            if source.is_dir() and goal.is_dir():
                settle(source, goal)
            else:
                source.replace(goal)
        except OSError as error:
            if error.errno != 18:  # another file system
                raise
            self.copy(source, goal)
            shutil.rmtree(source) if source.is_dir() else source.unlink()

    def _link(self, source: Path, goal: Path) -> None:
        with self._beside(goal) as part:
            part.symlink_to(source)
            part.replace(goal)

    def _download(self, url: str, goal: Path) -> None:
        import urllib.error
        import urllib.request

        self.source = url
        try:
            with self._beside(goal) as part, urllib.request.urlopen(url, timeout=WEB_S) as stream:  # noqa: S310
                size = int(stream.headers.get("Content-Length") or 0)
                done = 0
                with part.open("xb") as sink:
                    while data := stream.read(1 << 18):
                        self._wanted()
                        sink.write(data)
                        done += len(data)
                        if size > SLOW:
                            self._say(goal.name, done, size)
                    if size and done < size:
                        raise ValueError(f"it broke off after {done} of {size} bytes")
                    self._durable(sink.fileno(), goal)
                part.replace(goal)
        except urllib.error.HTTPError as error:
            raise ValueError(f"the server says {error.code} {error.reason}") from None
        except urllib.error.URLError as error:
            raise ValueError(f"it cannot be had: {error.reason}") from None

    def _pour(self, source: Path, part: Path, mode: int) -> None:
        # What a task has put there instead of a file must not hold anybody up.
        with open(os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            info = os.fstat(stream.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise ValueError(f"{source} is neither a file nor a directory")
            size, done = info.st_size, 0
            with part.open("xb") as sink:
                while True:
                    self._wanted()
                    count = _piece(stream.fileno(), sink.fileno())
                    if not count:
                        break
                    done += count
                    if size > SLOW:
                        self._say(source.name, done, size)
                os.fchmod(sink.fileno(), (stat.S_IMODE(info.st_mode) & 0o777 | 0o200) if mode < 0 else mode | 0o600)
                self._durable(sink.fileno(), part)
        with contextlib.suppress(OSError):
            os.utime(part, ns=(info.st_atime_ns, info.st_mtime_ns))

    def _durable(self, fd: int, goal: Path) -> None:
        """What a sandbox holds is as good as its attempt; whatever lies elsewhere must be on disk before it counts."""
        if not str(goal).startswith(self._places.folder + "/"):
            os.fsync(fd)

    def _wanted(self) -> None:
        if self._stop.is_set():
            raise Stop

    @contextlib.contextmanager
    def _beside(self, goal: Path) -> Iterator[Path]:
        """Give a hidden name beside the goal, of this task's own; what is left under it, also earlier, is removed."""
        part = goal.with_name(hidden(goal.name, f"{self._places.bulk:x}.{self._places.index:x}"))
        _remove(part)
        try:
            yield part
        finally:
            _remove(part)


def _remove(part: Path) -> None:
    if part.is_dir() and not part.is_symlink():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)


def settle(part: Path, goal: Path) -> None:
    """Give a finished directory its name; into one that is there already its files go one by one."""
    if not goal.is_dir():
        part.rename(goal)
        return
    for base, folders, files in os.walk(part):
        inside = goal / Path(base).relative_to(part)
        for name in folders:
            (inside / name).mkdir(_DIR, exist_ok=True)
        for name in files:
            Path(base, name).replace(inside / name)


def _piece(source: int, sink: int) -> int:
    """Copy the next piece of a file inside the kernel where that can be; return how many bytes."""
    if hasattr(os, "copy_file_range"):
        try:
            return os.copy_file_range(source, sink, PIECE)
        except OSError:
            pass  # other file systems, or one that cannot
    data = os.read(source, PIECE)
    at = 0
    while at < len(data):
        at += os.write(sink, data[at:])
    return len(data)
