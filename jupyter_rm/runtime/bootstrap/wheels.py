"""Packages of others for another Python, machine or C library than this one, as wheels from the package index.

They are downloaded here, once, and packed like those that are installed here: the target needs no network.

Knows: tags of platforms, pip. Does not know: connections. Read next: ``pack.py``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from jupyter_rm.model.errors import SiteError
from jupyter_rm.runtime.bootstrap import pack

DOWNLOAD_S = 600
# What manylinux names before PEP 600 stand for.
_OLD = {(2, 5): "manylinux1", (2, 12): "manylinux2010", (2, 17): "manylinux2014"}
_LEAST_GLIBC = 17
_FILE = re.compile(r"(?P<name>[^-]+)-(?P<version>[^-]+)-.*\.whl$")


def platforms(arch: str, libc: str) -> list[str]:
    """Return the platform tags that a machine can run, the newest first.

    Args:
        arch: as ``uname -m`` says it; libc: ``glibc 2.36`` or ``musl 1.2.3``.
    """
    name, _, version = libc.partition(" ")
    numbers = [int(part) for part in version.split(".")[:2] if part.isdigit()]
    if len(numbers) < 2:
        return []
    major, minor = numbers
    if name == "musl":
        return [f"musllinux_{major}_{n}_{arch}" for n in range(minor, -1, -1)]
    tags = [f"manylinux_2_{n}_{arch}" for n in range(minor, _LEAST_GLIBC - 1, -1)]
    return tags + [f"{old}_{arch}" for (_, n), old in sorted(_OLD.items(), reverse=True) if n <= minor]


def base_key(tag: str, arch: str, libc: str, names: Sequence[str] = ()) -> str:
    """Return the hash of the packages for a Python (``names``: of these only), having them downloaded when need be.

    Raises:
        SiteError: JRM-B05, there are none, or no index can be reached.
    """
    return _resolved(tag, arch, libc, names)[0]


def base_part(tag: str, arch: str, libc: str, names: Sequence[str] = ()) -> pack.Part:
    """Return the packages for a Python (``names``: these only) as one archive."""
    key, versions = _resolved(tag, arch, libc, names)
    return pack.pack(_name(tag, arch, key), (), versions)


def _name(tag: str, arch: str, key: str) -> str:
    return f"base-{tag}-{arch}-{key}.tar.gz"


def _resolved(tag: str, arch: str, libc: str, names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Return (hash, versions) of an archive that is in the cache."""
    names = tuple(names) or pack.base_names(tag)
    wish = json.dumps([tag, arch, libc, names, pack.base_versions()])
    note = pack.cache_dir() / f"wheels-{hashlib.sha256(wish.encode()).hexdigest()[:20]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError):
        known = json.loads(note.read_text("utf-8"))
        if (pack.cache_dir() / _name(tag, arch, known["key"])).exists():
            return known["key"], known["versions"]
    with tempfile.TemporaryDirectory(prefix="wheels-", dir=pack.cache_dir()) as scratch:
        found = _download(tag, arch, libc, names, Path(scratch))
        digest = hashlib.sha256()
        versions: dict[str, str] = {}
        for path in found:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
            match = _FILE.match(path.name)
            if match:
                versions[match["name"]] = match["version"]
            with zipfile.ZipFile(path) as wheel:
                wheel.extractall(Path(scratch) / "all")
        key = digest.hexdigest()[:20]
        pack.pack(_name(tag, arch, key), _files(Path(scratch) / "all"), versions)
    part = note.with_suffix(".new")
    part.write_text(json.dumps({"key": key, "versions": versions}), "utf-8")
    part.replace(note)
    return key, versions


def download(tag: str, tags: list[str]) -> list[str]:
    """Return the command that downloads wheels for a Python and platforms; requirements and options follow."""
    argv = [sys.executable, "-m", "pip", "download", "--only-binary=:all:", "--no-input", "-q"]
    argv += ["--disable-pip-version-check", "--implementation", "cp", "--python-version", tag[2:], "--abi", tag]
    return argv + ["--abi", "abi3", "--abi", "none"] + [word for one in tags for word in ("--platform", one)]


def _files(root: Path) -> Iterator[pack.Entry]:
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_file() and not pack.LEFT_OUT.search(name):
            yield name, path, None


def _download(tag: str, arch: str, libc: str, names: Sequence[str], scratch: Path) -> list[Path]:
    """Return the wheels of all packages: the versions of here where they exist for that Python, else what will do."""
    tags = platforms(arch, libc)
    if not tags:
        raise SiteError(f"no wheels for the C library {libc!r} on {arch}", code="JRM-B05", hint="use source 'index'")
    argv = [*download(tag, tags), "--no-deps"]
    here = pack.base_versions()
    wanted = {name: asked_range(name) for name in names}
    same = {name: f"=={here[name]}" if name in here else wanted[name] for name in wanted}
    wishes = [[name + version for name, version in wish.items()] for wish in (same, wanted)]
    said = ""
    for number, wish in enumerate(wishes):
        goal = scratch / f"try{number}"
        goal.mkdir()
        try:
            done = subprocess.run([*argv, "-d", str(goal), *wish], capture_output=True, timeout=DOWNLOAD_S, check=False)
        except subprocess.TimeoutExpired:
            raise SiteError(
                f"no wheels for {tag} on {arch} within {DOWNLOAD_S} s",
                code="JRM-B05",
                hint="check how this machine reaches its package index: `pip download numpy`",
            ) from None
        if not done.returncode:
            return sorted(goal.glob("*.whl"))
        said = done.stderr.decode("utf-8", "replace").strip()[-600:]
        shutil.rmtree(goal)
    raise SiteError(
        f"no wheels for {tag} on {arch} with {libc}: {said}",
        code="JRM-B05",
        hint="check how this machine reaches its package index: `pip download numpy`",
    )


def asked_range(name: str) -> str:
    """Return what this package itself asks of another one, such as ``>=1.26``."""
    for line in metadata.requires("jupyter_rm") or []:
        match = re.match(r"([A-Za-z0-9_-]+)\s*([^;]*)", line)
        if match and match[1] == name and "extra ==" not in line:
            return match[2].strip()
    return ""
