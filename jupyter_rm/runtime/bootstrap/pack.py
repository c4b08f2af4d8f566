"""The archives an environment is made from, packed here from what is installed and kept in the user's cache.

Two parts: ``base`` (the packages of others that an agent needs; they seldom change) and ``own`` (the part of this
package that an agent needs, from the wheel or the checkout alike). Each is named after its content, so what is in
the cache, here or there, is never packed, sent or checked twice.

Knows: installed distributions, tags of wheels, files of this machine. Does not know: connections. Read next:
``wheels.py`` (parts for another Python), ``ensure.py``.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import importlib.metadata as metadata
import io
import os
import re
import secrets
import sys
import tarfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

import jupyter_rm
from jupyter_rm.model.errors import SiteError

BASE = ("numpy", "msgspec", "pyzmq", "psutil", "cloudpickle", "platformdirs")
OLD_BASE = ("tomli",)  # in the standard library since 3.11
# What an agent never imports: the other programs of this package.
NOT_OURS = {"client", "notebook", "server", "views", "broker", "sim", "testing", "labextension", "__pycache__"}
# Parts of the packages of others that only their own tests and compilers need: a third of the bytes.
LEFT_OUT = re.compile(r"(^|/)(tests|f2py|distutils|_pyinstaller)/|\.(pyi|a|h|hpp|pxd|pyx)$|^\.\./|^/")
_GLIBC = re.compile(r"manylinux_(\d+)_(\d+)_(\w+)$")
_OLD_NAMES = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
KEPT_S = 60 * 86400.0
LEVEL = 5  # of gzip, which every Python can read: 6 takes two thirds longer and saves one part in seventy

_packing = threading.Lock()

Version = tuple[int, int]
Entry = tuple[str, Path, bytes | None]  # name in the archive, file here, its content when it was read already


@dataclass(frozen=True)
class Part:
    """One archive.

    Attributes:
        file: its name in both caches, with the hash of its content.
        path: where it is here.
        size, unpacked: bytes.
        versions: of the packages in it.
    """

    file: str
    path: Path
    size: int
    unpacked: int
    versions: Mapping[str, str]


def cache_dir() -> Path:
    """Return the directory for archives on this machine, made 0700 when it is missing."""
    path = Path(platformdirs.user_cache_dir("jupyter_rm")) / "bootstrap"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def python_tag() -> str:
    """Return the tag of this Python, such as ``cp311``."""
    return f"cp{sys.version_info[0]}{sys.version_info[1]}"


@dataclass(frozen=True)
class Own:
    """What an agent needs of this package, as it was when it was read: in a checkout somebody may be editing."""

    key: str
    tag: str
    arch: str
    files: tuple[Entry, ...]


def base_names(tag: str) -> tuple[str, ...]:
    """Return the packages of others that an agent needs with an interpreter."""
    return BASE + (OLD_BASE if tag == "cp310" else ())


def own(tag: str, arch: str) -> Own:
    """Return this package's own part for an interpreter and a machine, and its hash."""
    files = tuple((name, path, path.read_bytes()) for name, path in _own_files(tag, arch))
    digest = hashlib.sha256(f"{tag} {arch}".encode())
    for name, _, data in files:
        digest.update(f"{name}\0".encode() + hashlib.sha256(data).digest())
    return Own(digest.hexdigest()[:20], tag, arch, files)


def base_key(names: Sequence[str] = ()) -> str:
    """Return the hash of what is installed here of the packages of others; ``names``: of these only."""
    digest = hashlib.sha256(python_tag().encode())
    for name in names or base_names(python_tag()):
        found = metadata.distribution(name)
        digest.update(f"{name} {found.version}\0{found.read_text('RECORD') or ''}".encode())
    return digest.hexdigest()[:20]


def base_versions(names: Sequence[str] = ()) -> dict[str, str]:
    """Return the versions of the packages of others that are installed here; ``names``: of these only."""
    return {name: metadata.version(name) for name in names or base_names(python_tag())}


def own_part(found: Own) -> Part:
    """Return this package's own part as an archive, packing it when the cache has none."""
    file = f"own-{found.tag}-{found.arch}-{found.key}.tar.gz"
    return pack(file, found.files, {"jupyter_rm": jupyter_rm.__version__})


def base_part(arch: str, names: Sequence[str] = ()) -> Part:
    """Return the packages of others (``names``: these) as they are installed here, packing them when need be."""
    file = f"base-{python_tag()}-{arch}-{base_key(names)}.tar.gz"
    return pack(file, _base_files(names), base_versions(names))


def portable(arch: str, glibc: Version) -> str:
    """Return why the packages installed here cannot be taken elsewhere as they are, empty when they can.

    Args:
        arch: the machine type there; glibc: the version of the C library there, (0, 0) when it is another one.
    """
    here = os.uname().machine
    if arch != here:
        return f"this machine is {here}, that one {arch}"
    for name in base_names(python_tag()):
        found = metadata.distribution(name)
        tags = re.findall(r"^Tag: *\S+-\S+-(\S+)", found.read_text("WHEEL") or "", re.M)
        if not found.files or not tags:
            return f"{name} was not installed here from a wheel"
        if not any(_fits(tag, arch, glibc) for tag in tags):
            return f"{name} {found.version} as it is installed here ({tags[0]}) does not run with the C library there"
    return ""


def _fits(tag: str, arch: str, glibc: Version) -> bool:
    if tag == "any":
        return True
    for old, version in _OLD_NAMES.items():
        if tag == f"{old}_{arch}":
            return glibc >= version
    found = _GLIBC.match(tag)
    return found is not None and found[3] == arch and glibc >= (int(found[1]), int(found[2]))


def _own_files(tag: str, arch: str) -> Iterator[tuple[str, Path]]:
    """Yield (name in the archive, file) of everything an agent needs of this package, in a fixed order."""
    root = Path(jupyter_rm.__file__).parent
    native = f".cpython-{tag[2:]}-" if tag == python_tag() and arch == os.uname().machine else None
    for folder, folders, files in os.walk(root):
        top = Path(folder) == root
        folders[:] = sorted(name for name in folders if name != "__pycache__" and not (top and name in NOT_OURS))
        for name in sorted(files):
            path = Path(folder) / name
            kind = path.suffix
            if kind == ".so" or name == "jrm-guard":
                if native is None or (kind == ".so" and native not in name and ".abi3." not in name):
                    continue
            elif kind not in (".py", ".toml", ".sh", ".typed") or (top and name.startswith("cli")):
                continue
            yield f"jupyter_rm/{path.relative_to(root)}", path


def _base_files(names: Sequence[str]) -> Iterator[Entry]:
    for name in names or base_names(python_tag()):
        for file in metadata.distribution(name).files or ():
            path = Path(str(file.locate()))
            if not LEFT_OUT.search(str(file)) and path.is_file():
                yield str(file), path, None


def pack(file: str, files: Iterable[Entry], versions: Mapping[str, str]) -> Part:
    """Return the part of that name, making it from ``files`` when the cache has none.

    Args:
        file: name with the hash of the content; files: what goes into it, when it must be made.

    Raises:
        SiteError: JRM-B03, no room here.
    """
    with _packing:  # who wants what is being packed waits for it
        return _pack(file, files, versions)


def _pack(file: str, files: Iterable[Entry], versions: Mapping[str, str]) -> Part:
    path = cache_dir() / file
    with contextlib.suppress(OSError, ValueError, EOFError):
        with path.open("rb") as stream:
            # The last bytes of a gzip file are the length of its content, and a part is written by one rename.
            stream.seek(-4, os.SEEK_END)
            unpacked = int.from_bytes(stream.read(4), "little")
        os.utime(path)
        return Part(file, path, path.stat().st_size, unpacked, versions)
    part = path.with_name(f".{file}.{secrets.token_hex(4)}")
    try:
        with part.open("xb") as sink, gzip.GzipFile("", "wb", LEVEL, sink, 0) as packed:
            part.chmod(0o600)
            with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
                for name, source, data in files:
                    entry = archive.gettarinfo(source, name)
                    entry.size = entry.size if data is None else len(data)
                    entry.uid = entry.gid = 0
                    entry.uname = entry.gname = ""
                    # Compiled files name the time of their source in whole seconds.
                    entry.mtime = int(entry.mtime)
                    with source.open("rb") if data is None else io.BytesIO(data) as content:
                        archive.addfile(entry, content)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise SiteError(
            f"{path}: {error.strerror}", code="JRM-B03", hint="make room in the cache of this machine"
        ) from None
    _sweep(path.parent)
    return _pack(file, (), versions)


def _sweep(folder: Path) -> None:
    """Remove archives that nobody used for two months, and what a killed program left."""
    now = time.time()
    for path in folder.glob("*.tar.gz*"):
        with contextlib.suppress(OSError):
            if now - path.stat().st_mtime > KEPT_S:
                path.unlink()
    for path in folder.glob(".*.tar.gz.*"):
        with contextlib.suppress(OSError):
            if now - path.stat().st_mtime > 86400:
                path.unlink()
