"""A list of requirements, locked: the exact wheels that satisfy it on a Python of another machine, kept here.

pip of this Python resolves and downloads them, from the index it is configured for or from a directory. The same list
for the same Python gives the same lock again without asking anybody, as long as its wheels are in the cache.

Knows: pip, wheels, the cache of this machine. Does not know: connections. Read next: ``prepared.py``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import msgspec

from jupyter_rm.model.errors import RequestError
from jupyter_rm.runtime.bootstrap import pack, wheels

_SECRET = re.compile(r"//[^/@]*@")
_NAME = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)(-\d[^-]*)?-[^-]+-[^-]+-[^-]+\.whl")
_DATE = (1980, 1, 1, 0, 0, 0)
_MAIN = "import sys\nfrom pip._internal.cli.main import main\nsys.exit(main())\n"


class Wheel(msgspec.Struct, frozen=True):
    """One wheel of a lock: ``file`` is its name, ``size`` and ``unpacked`` are bytes."""

    name: str
    version: str
    file: str
    sha256: str
    size: int
    unpacked: int

    @property
    def path(self) -> Path:
        """Where it lies on this machine."""
        return _store() / self.sha256


@dataclass(frozen=True)
class Python:
    """An interpreter that an environment is made with: its path there, version, machine type and C library."""

    path: str
    version: tuple[int, int, int]
    arch: str
    libc: str

    @property
    def tag(self) -> str:
        """Such as ``cp311``."""
        return f"cp{self.version[0]}{self.version[1]}"


@dataclass(frozen=True)
class Requirements:
    """What is to be installed, and where it is found.

    Attributes:
        lines: as pip takes them, such as ``numpy==2.*``; file: of more of them; "": none.
        wheels: a directory of wheels, and nothing else is asked; "": the index.
        index_url: another index than the one pip is configured for; find_links: further places, as pip takes them.
    """

    lines: tuple[str, ...] = ()
    file: str = ""
    wheels: str = ""
    index_url: str = ""
    find_links: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.lines and not self.file:
            raise _bad("requirements", "there are none", 'such as ["numpy==2.*"], or the path of a requirements file')
        for line in self.lines:
            if not line.strip() or line.lstrip().startswith("-") or any(sign in line for sign in "\n\r\0"):
                raise _bad("requirements", f"{line!r} is no requirement", "one package a line, such as 'numpy==2.*'")
        if self.file and not Path(self.file).is_file():
            raise _bad("requirements", f"{self.file!r} is not there", "give the path of a requirements file, or a list")
        if self.wheels and not Path(self.wheels).is_dir():
            raise _bad("wheels", f"{self.wheels!r} is no directory", "give the directory in which the wheels lie")
        for name, text in (("index_url", self.index_url), *(("find_links", one) for one in self.find_links)):
            if text.startswith("-") or any(sign in text for sign in "\n\r\0"):
                raise _bad(name, f"{text!r} is no address", "give a URL")
            if _SECRET.search(text):
                raise _bad(name, "a password does not belong in a URL", "put it into ~/.netrc or pip.conf")

    def mark(self) -> list[object]:
        """Return what tells this list from others: also when a wheel in its directory was replaced."""
        near = [Path(one) for one in (self.wheels, *self.find_links) if one and Path(one).is_dir()]
        inside = [
            (path.name, path.stat().st_size, path.stat().st_mtime_ns)
            for folder in near
            for path in sorted(folder.glob("*.whl"))
        ]
        text = Path(self.file).read_text("utf-8") if self.file else ""
        return [self.lines, text, self.wheels, self.index_url, self.find_links, inside]


def _bad(field: str, why: str, hint: str) -> RequestError:
    return RequestError(f"{field}: {why}", code="JRM-B11", hint=hint)


def _store() -> Path:
    path = pack.cache_dir() / "wheels"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def locked(wanted: Requirements, python: Python, anew: bool = False) -> list[Wheel]:
    """Return the wheels that satisfy a list on a Python, all in the cache of this machine.

    Args:
        anew: ask the index again although the answer is known.

    Raises:
        RequestError: JRM-B11, pip's own words: no such package, no wheel for that Python, or no index.
    """
    wish = json.dumps([python.tag, python.arch, python.libc, *wanted.mark()])
    note = _store() / f"{hashlib.sha256(wish.encode()).hexdigest()[:32]}.json"
    if not anew:
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            known = msgspec.json.decode(note.read_bytes(), type=list[Wheel])
            if all(wheel.path.exists() for wheel in known):
                for used in (note, *(wheel.path for wheel in known)):
                    used.touch()
                return known
    with tempfile.TemporaryDirectory(prefix=".new-", dir=_store()) as scratch:
        _download(wanted, python, scratch)
        found = [_kept(path) for path in sorted(Path(scratch).iterdir())]
    part = note.with_suffix(".new")
    part.write_bytes(msgspec.json.encode(found))
    part.replace(note)
    _sweep()
    return found


def _download(wanted: Requirements, python: Python, folder: str) -> None:
    tags = wheels.platforms(python.arch, python.libc)
    # A wheel that was made on such a machine, and for no other.
    argv = [*wheels.download(python.tag, [*tags, f"linux_{python.arch}"]), "-d", folder]
    if wanted.wheels:
        argv += ["--no-index", "--find-links", wanted.wheels]
    if wanted.index_url:
        argv += ["--index-url", wanted.index_url]
    for place in wanted.find_links:
        argv += ["--find-links", place]
    argv += ["-r", wanted.file] if wanted.file else []
    what = f"for Python {python.tag[2]}.{python.tag[3:]} on {python.arch} with {python.libc}"
    try:
        limit = wheels.DOWNLOAD_S
        done = subprocess.run(
            [*argv, *wanted.lines], stdin=subprocess.DEVNULL, capture_output=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        raise _bad(
            "requirements", f"{what}: not done after {limit} s", "check how this machine reaches its index"
        ) from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()[-1500:]
        hint = "only wheels are sent; build one for that Python (pip wheel), and name its directory: wheels="
        raise _bad("requirements", f"{what}: {said}", hint)


def _kept(path: Path) -> Wheel:
    """Move a wheel into the cache under its checksum."""
    named = _NAME.fullmatch(path.name)
    if named is None:
        raise _bad("requirements", f"{path.name} is no wheel", "build one (pip wheel), and name its directory: wheels=")
    with path.open("rb") as stream:
        digest = hashlib.sha256()
        while data := stream.read(1 << 20):
            digest.update(data)
    try:
        with zipfile.ZipFile(path) as packed:
            unpacked = sum(entry.file_size for entry in packed.infolist())
    except zipfile.BadZipFile:
        raise _bad("requirements", f"{path.name} is damaged", "build or download it again") from None
    made = Wheel(named["name"], named["version"], path.name, digest.hexdigest(), path.stat().st_size, unpacked)
    path.chmod(0o600)
    path.replace(made.path)
    return made


def pip() -> Wheel:
    """Return the pip of this Python as one file that any Python can run: the target needs none.

    Raises:
        RequestError: JRM-B11, there is no pip here.
    """
    try:
        found = metadata.distribution("pip")
    except metadata.PackageNotFoundError:
        raise _bad("requirements", "this Python has no pip", f"{sys.executable} -m ensurepip") from None
    inside = sorted((str(file), Path(str(file.locate()))) for file in found.files or ())
    note = _store() / f"pip-{found.version}-{hashlib.sha256(repr(inside).encode()).hexdigest()[:16]}.json"
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        known = msgspec.json.decode(note.read_bytes(), type=Wheel)
        if known.path.exists():
            for used in (note, known.path):
                used.touch()
            return known
    with tempfile.TemporaryDirectory(prefix=".new-", dir=_store()) as scratch:
        made = Path(scratch) / f"pip-{found.version}-py3-none-any.whl"
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr(zipfile.ZipInfo("__main__.py", _DATE), _MAIN)
            for name, path in inside:
                if name.startswith("pip/") and "__pycache__" not in name and path.is_file():
                    entry = zipfile.ZipInfo(name, _DATE)
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    packed.writestr(entry, path.read_bytes())
        wheel = _kept(made)
    note.write_bytes(msgspec.json.encode(wheel))
    return wheel


def _sweep() -> None:
    """Remove what nobody used for two months."""
    now = time.time()
    for path in _store().iterdir():
        with contextlib.suppress(OSError):
            if path.is_file() and now - path.stat().st_mtime > pack.KEPT_S:
                path.unlink()


def lines(lock: Sequence[Wheel]) -> str:
    """Return a lock as pip reads it, with the checksum of each wheel."""
    return "".join(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n" for wheel in lock)
