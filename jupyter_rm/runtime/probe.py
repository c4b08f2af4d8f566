"""What this machine lets us use: cores, memory, GPUs, NUMA groups, local disk.

Looks at what the process may use (affinity, cgroup limits), not at what is built in. Never raises: what cannot be found
out becomes a careful default and a note.

Knows: /proc, /sys, the vendors' listing tools. Does not know: batch systems (they may grant less). Read next:
``model/resources.py``.
"""

from __future__ import annotations

import csv
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import psutil

TOOL_SECONDS = 2.0  # nvidia-smi hangs for minutes on a sick driver
_MIB = 1 << 20

Run = Callable[[list[str]], str]


class Gpu(msgspec.Struct, frozen=True):
    """One GPU as its vendor's tool numbers it."""

    vendor: str
    index: int
    name: str


class NodeFacts(msgspec.Struct, frozen=True):
    """What one machine offers.

    Attributes:
        hostname: its name.
        cores: numbers of the usable cores, ascending.
        cpu_quota: cores' worth of CPU time the cgroup allows, None when unlimited.
        mem_mib: usable memory.
        gpus: GPUs seen.
        numa: core numbers of each NUMA group, usable ones only; one group when unknown.
        lfs_mib: free local disk at the path asked about.
        notes: one sentence for everything that had to be guessed.
    """

    hostname: str
    cores: list[int]
    cpu_quota: float | None
    mem_mib: int
    gpus: list[Gpu]
    numa: list[list[int]]
    lfs_mib: int
    notes: list[str]


def probe_node(
    lfs: Path | str = "/tmp",  # noqa: S108 - only asked for its free space
    *,
    root: Path = Path("/"),
    run: Run | None = None,
    affinity: Iterable[int] | None = None,
) -> NodeFacts:
    """Look at this machine; takes at most about 4 s when a GPU tool hangs.

    Args:
        lfs: path whose filesystem counts as local disk.
        root: where ``proc`` and ``sys`` are looked for.
        run: runs a command and returns its output; raises OSError or SubprocessError when it cannot.
        affinity: usable cores; None asks the operating system.
    """
    notes: list[str] = []
    cores = _cores(affinity, notes)
    return NodeFacts(
        hostname=platform.node() or "localhost",
        cores=cores,
        cpu_quota=_quota(root, notes),
        mem_mib=_memory(root, notes),
        gpus=_gpus(run or _run, notes),
        numa=_numa(root, cores, notes),
        lfs_mib=_disk(Path(lfs), notes),
        notes=notes,
    )


def _cores(affinity: Iterable[int] | None, notes: list[str]) -> list[int]:
    if affinity is not None:
        return sorted(affinity)
    try:
        if hasattr(os, "sched_getaffinity"):
            return sorted(os.sched_getaffinity(0))
    except OSError as error:
        notes.append(f"cores: affinity unknown ({error}); all cores assumed")
    return list(range(os.cpu_count() or 1))


def _cgroups(root: Path) -> list[tuple[Path, str]]:
    """Return (directory, kind) of this process's cgroups and all above them; kind is v2 or a v1 controller."""
    found: list[tuple[Path, str]] = []
    base = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return found
    for line in lines:
        _number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        names = controllers.split(",") if controllers else [""]
        for name in names:
            if name not in ("", "cpu", "memory"):
                continue
            top = base / (controllers if name and (base / controllers).is_dir() else name)
            here = top / path.lstrip("/")
            # Inside a container the path may name what is outside the mount; the top then holds our own limits.
            while here != top.parent and here.is_relative_to(base):
                found.append((here, name or "v2"))
                here = here.parent
    return found


def _quota(root: Path, notes: list[str]) -> float | None:
    best: float | None = None
    for directory, kind in _cgroups(root):
        try:
            if kind == "v2":
                quota, period = (directory / "cpu.max").read_text(encoding="utf-8").split()
            elif kind == "cpu":
                quota = (directory / "cpu.cfs_quota_us").read_text(encoding="utf-8").strip()
                period = (directory / "cpu.cfs_period_us").read_text(encoding="utf-8").strip()
            else:
                continue
            if quota not in ("max", "-1"):
                best = min(best or float("inf"), int(quota) / int(period))
        except (OSError, ValueError, ZeroDivisionError):
            continue
    if best is not None:
        notes.append(f"cores: the cgroup allows {best:g} cores' worth of CPU time")
    return best


def _memory(root: Path, notes: list[str]) -> int:
    try:
        text = (root / "proc/meminfo").read_text(encoding="utf-8")
        total = int(re.search(r"^MemTotal:\s+(\d{1,15}) kB", text, re.MULTILINE)[1]) // 1024  # type: ignore[index]
    except (OSError, ValueError, TypeError):
        try:
            total = int(psutil.virtual_memory().total) // _MIB
        except Exception as error:
            notes.append(f"memory: unknown ({error}); 1024 MiB assumed")
            total = 1024
    for directory, kind in _cgroups(root):
        name = {"v2": "memory.max", "memory": "memory.limit_in_bytes"}.get(kind)
        if name is None:
            continue
        try:
            limit = (directory / name).read_text(encoding="utf-8").strip()
            if limit != "max" and int(limit) // _MIB < total:
                total = int(limit) // _MIB
                notes.append(f"memory: the cgroup allows {total} MiB")
        except (OSError, ValueError):
            continue
    return total


def _run(argv: list[str]) -> str:
    if shutil.which(argv[0]) is None:
        raise FileNotFoundError(argv[0])
    return subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=TOOL_SECONDS,
        check=True,
    ).stdout


def _gpus(run: Run, notes: list[str]) -> list[Gpu]:
    found: list[Gpu] = []
    for vendor, argv, parse in (
        ("nvidia", ["nvidia-smi", "--query-gpu=index,name", "--format=csv,noheader"], _nvidia),
        ("amd", ["rocm-smi", "--showproductname", "--json"], _amd),
    ):
        try:
            found += parse(run(argv))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, TypeError, AttributeError, subprocess.SubprocessError) as error:
            notes.append(f"gpus: {argv[0]} gave no list ({type(error).__name__}); no {vendor} GPUs assumed")
    return found


def _nvidia(text: str) -> list[Gpu]:
    rows = csv.reader(text.splitlines(), skipinitialspace=True)
    return [Gpu("nvidia", int(row[0]), row[1].strip()) for row in rows if len(row) >= 2]


def _amd(text: str) -> list[Gpu]:
    cards = [(re.fullmatch(r"card(\d{1,4})", key), value) for key, value in json.loads(text).items()]
    named = [(int(match[1]), value) for match, value in cards if match]
    keys = ("Card Series", "Card series", "Card Model", "Card model")
    return [Gpu("amd", index, next((str(v[k]) for k in keys if k in v), "GPU")) for index, v in sorted(named)]


def _numa(root: Path, cores: list[int], notes: list[str]) -> list[list[int]]:
    groups: dict[int, list[int]] = {}
    usable = set(cores)
    try:
        for node in (root / "sys/devices/system/node").glob("node*"):
            if node.name[4:].isdigit():
                listed = parse_cores((node / "cpulist").read_text(encoding="utf-8"))
                groups[int(node.name[4:])] = [core for core in listed if core in usable]
    except (OSError, ValueError) as error:
        notes.append(f"numa: not readable ({error}); one group assumed")
        return [cores]
    found = [groups[number] for number in sorted(groups) if groups[number]]
    if sum(map(len, found)) != len(cores):
        if found:
            notes.append("numa: the groups do not cover the usable cores; one group assumed")
        return [cores]
    return found


def parse_cores(text: str) -> list[int]:
    """Return the numbers of a kernel core list such as ``0-3,8,10-11``.

    Raises:
        ValueError: the text is not such a list.
    """
    out: list[int] = []
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            low, high = int(first), int(last or first)
            if not 0 <= low <= high < 1 << 16:
                raise ValueError(f"core list: {part!r}")
            out += range(low, high + 1)
    return sorted(set(out))


def _disk(path: Path, notes: list[str]) -> int:
    try:
        return shutil.disk_usage(path).free // _MIB
    except OSError as error:
        notes.append(f"local disk: {path} cannot be asked ({error.strerror}); 0 MiB assumed")
        return 0
