"""Where the programs of one user keep state, sockets and sandboxes, and who may hold them.

Every directory is private (0700, ours, no symbolic link) and every directory above it can be changed by nobody but its
owner and root; anything else is refused rather than repaired. Nothing is created before it is asked for.

Environment: ``JUPYTER_RM_HOME`` (state, and sockets when short enough), ``JUPYTER_RM_SANDBOX`` (sandboxes),
``JUPYTER_RM_ALLOW_NETWORK_FS=1`` (journal on a network filesystem, against advice), ``XDG_RUNTIME_DIR`` (sockets).

Knows: paths, modes, owners, filesystem kinds, the broker lock. Does not know: what is written there.
Read next: ``journal.py`` for the main tenant.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import re
import stat
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import platformdirs
import psutil

from jupyter_rm.model.errors import RequestError, SiteError

SOCKET_PATH_MAX = 100  # bytes; Linux allows 107, macOS 103, and libzmq adds a little
_SOCKET_NAME_MAX = 24
_HOLDER_BYTES = 1024
_PROFILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Filesystems where another machine can change a file behind this kernel's back, or where locks and syncs are not
# to be relied on. SQLite's write-ahead log needs both.
_NETWORK = re.compile(
    r"(nfs\d?|cifs|smb\d?|smbfs|lustre|lustre_lite|gpfs|mmfs|beegfs\w*|afs|auristorfs|afpfs|ceph|glusterfs|panfs|orangefs|pvfs2"
    r"|ocfs2|gfs2?|wekafs|daos|9p|webdav|davfs|ncpfs|coda|vmhgfs|vboxsf|prl_fs)(\..*)?"
    r"|(fuse|fuseblk|macfuse|osxfuse)\.(sshfs|ceph|glusterfs|s3fs|juicefs|beegfs|gcsfuse|rclone|davfs|dfuse|gpfs|lustre)"
)


@dataclass(frozen=True)
class Home:
    """The places of one profile; make one with :meth:`locate`.

    Attributes:
        profile: name of the profile.
        state_path: directory of journal, log and lock (not yet created).
        sandbox_path: default root of task sandboxes (not yet created).
        network_ok: the user accepts a journal on a network filesystem.
    """

    profile: str
    state_path: Path
    sandbox_path: Path
    socket_choices: tuple[Path, ...]
    network_ok: bool = False

    @classmethod
    def locate(cls, profile: str = "default", environ: Mapping[str, str] | None = None) -> Home:
        """Work out the places of ``profile`` without touching the disk.

        Raises:
            RequestError: JRM-C65 when the profile's name or a path in the environment cannot be used.
        """
        env = os.environ if environ is None else environ
        if not _PROFILE.fullmatch(profile):
            raise RequestError(
                f"profile: {profile!r} is not a profile name",
                code="JRM-C65",
                hint="use letters, digits, dot, dash and underscore, at most 64, beginning with a letter or digit",
            )
        chosen = env.get("JUPYTER_RM_HOME", "")
        base = _absolute("JUPYTER_RM_HOME", chosen) if chosen else Path(platformdirs.user_state_dir("jupyter_rm"))
        state = base / profile
        sockets: list[Path] = []
        if chosen:
            sockets.append(state / "run")
        elif env.get("XDG_RUNTIME_DIR", "").startswith("/"):
            sockets.append(Path(env["XDG_RUNTIME_DIR"]) / "jupyter_rm" / profile)
        if not chosen:
            sockets.append(Path("/tmp") / f"jrm-{os.geteuid()}" / profile)  # noqa: S108 - checked before every use
        sandbox = env.get("JUPYTER_RM_SANDBOX", "")
        return cls(
            profile=profile,
            state_path=state,
            sandbox_path=_absolute("JUPYTER_RM_SANDBOX", sandbox) if sandbox else state / "sandboxes",
            socket_choices=tuple(sockets),
            network_ok=env.get("JUPYTER_RM_ALLOW_NETWORK_FS", "") == "1",
        )

    @property
    def state(self) -> Path:
        """The state directory, created and checked; JRM-C64 when it is not private, JRM-D22 when it cannot be made."""
        return _made(self.state_path, "JUPYTER_RM_HOME")

    @property
    def journal(self) -> Path:
        """The journal file's path."""
        return self.state / "journal"

    @property
    def broker_log(self) -> Path:
        """The broker's log file's path."""
        return self.state / "broker.log"

    @property
    def sandboxes(self) -> Path:
        """Root directory of task sandboxes, created and checked."""
        ours = self.sandbox_path.is_relative_to(self.state_path)
        return _made(self.sandbox_path, "JUPYTER_RM_SANDBOX", leaf_mode=0o700 if ours else None)

    @property
    def run(self) -> Path:
        """The socket directory of this profile on this machine, created and checked, short enough for a socket path."""
        for choice in self.socket_choices:
            if not _fits(choice):
                continue
            with contextlib.suppress(RequestError, OSError):
                # The parent (jupyter_rm/ or jrm-<uid>/) has to be ours too: somebody else's makes us look elsewhere.
                if choice.parent != self.state_path:
                    if not choice.parent.parent.is_dir():
                        continue  # a runtime directory that was never made is not ours to make
                    private_directory(choice.parent)
                return private_directory(choice)
        return self._pointed()

    def socket(self, name: str) -> Path:
        """Return the path of the socket called ``name`` (at most 24 characters), at most 100 bytes long.

        Raises:
            RequestError: JRM-C65 when the name cannot be used.
        """
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,23}", name):
            hint = "use up to 24 of a-z 0-9 - _ ."
            raise RequestError(f"socket: {name!r} is not a socket name", code="JRM-C65", hint=hint)
        return self.run / f"{name}.sock"

    def lock(self) -> HomeLock:
        """Take the profile: one broker at a time; keep the result, closing it (or dying) gives the profile back.

        Raises:
            RequestError: JRM-R08, naming the process and host that hold it.
        """
        return HomeLock.take(self.state / "broker.lock", self.profile)

    def holder(self) -> Holder | None:
        """Return who holds the profile, None when nobody does."""
        try:
            fd = os.open(self.state / "broker.lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        except BlockingIOError:
            return _read_holder(fd)
        finally:
            os.close(fd)

    def _pointed(self) -> Path:
        """Return a short random directory in /tmp, remembered in a file of the state directory for every program."""
        # Per host: the state directory may be on a home shared by several login nodes, /tmp is not.
        pointer = self.state / f"run-{platform.node() or 'host'}"
        fd = os.open(self.state / "run.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            with contextlib.suppress(OSError, RequestError, ValueError):
                known = Path(pointer.read_text(encoding="utf-8"))
                if known.is_absolute() and known.is_dir() and _fits(known):
                    return private_directory(known)
            made = Path(tempfile.mkdtemp(prefix="jrm-", dir="/tmp"))
            write_private(pointer, str(made).encode())
            return made
        finally:
            os.close(fd)


class Holder(NamedTuple):
    """Who holds a profile; ``reading``: the share of its journal that a starting broker has read, -1: it serves."""

    pid: int
    host: str
    reading: float = -1.0


class HomeLock:
    """A held profile; a context manager."""

    def __init__(self, fd: int, path: Path) -> None:
        self._fd = fd
        self.path = path

    @classmethod
    def take(cls, path: Path, profile: str) -> HomeLock:
        """Lock ``path`` for this process or raise RequestError JRM-R08."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read_holder(fd)
            os.close(fd)
            where = "this machine" if holder.host == platform.node() else holder.host or "some machine"
            raise RequestError(
                f"a broker for profile {profile!r} already runs on {where} (pid {holder.pid or 'unknown'})",
                code="JRM-R08",
                hint="use it, or stop it with: jrm broker stop",
            ) from None
        except BaseException:
            os.close(fd)
            raise
        lock = cls(fd, path)
        lock.tell()
        return lock

    def tell(self, reading: float = -1.0) -> None:
        """Say who holds it, and how much of its journal it has read (0..1; -1: it serves)."""
        told = json.dumps({"pid": os.getpid(), "host": platform.node(), "reading": round(reading, 4)}).encode()
        # In one write, over all of an earlier holder's words: whoever reads meanwhile finds one of the two.
        os.pwrite(self._fd, told.ljust(_HOLDER_BYTES), 0)

    def close(self) -> None:
        """Give the profile back; harmless when repeated."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> HomeLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _read_holder(fd: int) -> Holder:
    try:
        told = json.loads(os.pread(fd, _HOLDER_BYTES, 0))
        return Holder(int(told["pid"]), str(told["host"]), float(told.get("reading", -1.0)))
    except (ValueError, KeyError, TypeError):
        return Holder(0, "")


def private_directory(path: Path, *, leaf_mode: int | None = 0o700) -> Path:
    """Create ``path`` (and missing parents) with mode 0700, or check that what is there is safe.

    Args:
        path: absolute path; links above the last component are followed, the last may not be one.
        leaf_mode: mode the last component must have; None accepts what the user made, if nobody else can write there.

    Raises:
        RequestError: JRM-C64, naming the directory and the command that repairs it.
    """
    missing: list[Path] = []
    here = path
    while not here.is_symlink() and not here.exists():
        missing.append(here)
        here = here.parent
    if not missing:
        _check_leaf(path, leaf_mode)
    _check_chain(here if missing else here.parent)
    for new in reversed(missing):
        with contextlib.suppress(FileExistsError):
            # The mode goes in at creation: there is no moment at which others could step in.
            new.mkdir(mode=0o700)
        _check_leaf(new, 0o700)
    return path


def _made(path: Path, setting: str, leaf_mode: int | None = 0o700) -> Path:
    """Return ``path`` as :func:`private_directory` does; SiteError JRM-D22 when the system refuses to make it."""
    try:
        return private_directory(path, leaf_mode=leaf_mode)
    except OSError as error:
        raise SiteError(
            f"{path} cannot be made: {error.strerror} ({error.filename})",
            code="JRM-D22",
            hint=f"point {setting} at a directory on a local disk that you may write to",
        ) from error


def _check_leaf(path: Path, mode: int | None) -> None:
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise _unsafe(path, "is a symbolic link", "remove it or name the real directory")
    if not stat.S_ISDIR(found.st_mode):
        raise _unsafe(path, "is not a directory", "move it away")
    if found.st_uid != os.geteuid():
        raise _unsafe(path, f"belongs to user {found.st_uid}", "choose another directory with JUPYTER_RM_HOME")
    got = stat.S_IMODE(found.st_mode)
    if (mode is not None and got & 0o777 != mode) or got & 0o022:
        raise _unsafe(path, f"has mode {got:04o}", f"run: chmod 0700 '{path}'")


def _check_chain(path: Path) -> None:
    """Refuse a directory above ours in which somebody else could rename or replace our directory."""
    real = path.resolve()
    for parent in (real, *real.parents):
        found = parent.stat()
        if found.st_uid not in (0, os.geteuid()):
            raise _unsafe(parent, f"belongs to user {found.st_uid}", "choose another place with JUPYTER_RM_HOME")
        if found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX:
            mode = f"{stat.S_IMODE(found.st_mode):04o}"
            raise _unsafe(parent, f"can be changed by others (mode {mode})", f"run: chmod go-w '{parent}'")


def _unsafe(path: Path, what: str, hint: str) -> RequestError:
    return RequestError(f"{path} {what}; refused", code="JRM-C64", hint=hint)


def _absolute(field: str, text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_absolute() or "\0" in text or "\n" in text:
        hint = "write a path beginning with /"
        raise RequestError(f"{field}: {text!r} is not an absolute path", code="JRM-C65", hint=hint)
    return path


def _fits(directory: Path) -> bool:
    return len(os.fsencode(directory)) + 1 + _SOCKET_NAME_MAX + len(".sock") <= SOCKET_PATH_MAX


def write_private(path: Path, data: bytes) -> None:
    """Replace ``path`` by a 0600 file holding ``data``, durably and at once for every reader."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:  # a disk that fills up takes a part without a word
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def filesystem_of(path: Path, mounts: Iterable[tuple[str, str]] | None = None) -> tuple[str, str]:
    """Return (filesystem type, mount point) of the nearest existing directory at or above ``path``.

    Args:
        mounts: (mount point, type) pairs in mount order; None asks the operating system.
    """
    if mounts is None:
        mounts = [(part.mountpoint, part.fstype) for part in psutil.disk_partitions(all=True)]
    real = Path(os.path.realpath(path))
    best = ("", "/")
    for point, kind in mounts:
        # At equal length the later mount lies on top.
        if real.is_relative_to(point) and len(point) >= len(best[1]) and kind != "autofs":
            best = (kind, point)
    return best


def is_network(kind: str) -> bool:
    """Tell whether a filesystem type is one on which a journal is not safe."""
    return _NETWORK.fullmatch(kind.lower()) is not None


def require_local(directory: Path, mounts: Iterable[tuple[str, str]] | None = None) -> None:
    """Refuse a directory on a network filesystem.

    Raises:
        SiteError: JRM-D17, naming the mount and the setting to change.
    """
    kind, point = filesystem_of(directory, mounts)
    if is_network(kind):
        raise SiteError(
            f"{directory} is on a network filesystem ({kind} at {point}), where a journal can be damaged",
            code="JRM-D17",
            hint="set JUPYTER_RM_HOME to a directory on a local disk that survives a reboot, such as /var/tmp/$USER; "
            "JUPYTER_RM_ALLOW_NETWORK_FS=1 accepts the risk when only one machine ever opens it",
        )
