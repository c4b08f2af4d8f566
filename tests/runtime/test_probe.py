"""Probing a node from made-up /proc and /sys trees, and the real one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from jupyter_rm.runtime import probe
from jupyter_rm.runtime.probe import Gpu, parse_cores, probe_node


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def no_tools(argv: list[str]) -> str:
    raise FileNotFoundError(argv[0])


def test_this_machine() -> None:
    facts = probe_node()
    assert facts.hostname
    assert len(facts.cores) >= 1
    if hasattr(os, "sched_getaffinity"):
        assert facts.cores == sorted(os.sched_getaffinity(0))
    assert facts.mem_mib > 100
    assert sorted(core for group in facts.numa for core in group) == facts.cores
    assert facts.lfs_mib >= 0


def test_a_slurm_like_node(tmp_path: Path) -> None:
    """Two sockets, half of the cores ours, memory and CPU time limited two cgroups up."""
    root = tree(
        tmp_path,
        {
            "proc/meminfo": "MemTotal:       65536000 kB\nMemFree: 1 kB\n",
            "proc/self/cgroup": "0::/job/step/task\n",
            "sys/fs/cgroup/job/memory.max": str(8 << 30),
            "sys/fs/cgroup/job/step/memory.max": "max\n",
            "sys/fs/cgroup/job/cpu.max": "250000 100000\n",
            "sys/fs/cgroup/job/step/task/cpu.max": "max 100000\n",
            "sys/devices/system/node/node0/cpulist": "0-7,16-23\n",
            "sys/devices/system/node/node1/cpulist": "8-15,24-31\n",
        },
    )
    facts = probe_node(tmp_path, root=root, run=no_tools, affinity=[4, 5, 8, 9])
    assert facts.cores == [4, 5, 8, 9]
    assert facts.numa == [[4, 5], [8, 9]]
    assert facts.mem_mib == 8192
    assert facts.cpu_quota == 2.5
    assert any("2.5 cores" in note for note in facts.notes)


def test_the_older_cgroups(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/meminfo": "MemTotal:       65536000 kB\n",
            "proc/self/cgroup": "4:memory:/job\n3:cpu,cpuacct:/job\n",
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": str(2 << 30),
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "400000",
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000",
        },
    )
    facts = probe_node(tmp_path, root=root, run=no_tools, affinity=[0])
    assert facts.mem_mib == 2048
    assert facts.cpu_quota == 4


def test_nothing_readable_is_noted_not_raised(tmp_path: Path) -> None:
    def broken(argv: list[str]) -> str:
        raise subprocess.TimeoutExpired(argv, 2)

    facts = probe_node(tmp_path / "none", root=tmp_path, run=broken, affinity=[3, 1])
    assert facts.cores == [1, 3]
    assert facts.numa == [[1, 3]]
    assert facts.gpus == []
    assert facts.lfs_mib == 0
    assert sum("gpus" in note for note in facts.notes) == 2
    assert any("local disk" in note for note in facts.notes)


@pytest.mark.parametrize("text", ["", "rubbish", "0-", "5-1", "\0", "0-99999999999"])
def test_rubbish_in_sys_is_one_numa_group(tmp_path: Path, text: str) -> None:
    root = tree(tmp_path, {"sys/devices/system/node/node0/cpulist": text, "proc/self/cgroup": "::::\n"})
    assert probe_node(tmp_path, root=root, run=no_tools, affinity=[0, 1]).numa == [[0, 1]]


def test_gpus_of_both_vendors(tmp_path: Path) -> None:
    def tools(argv: list[str]) -> str:
        if argv[0] == "nvidia-smi":
            return "0, NVIDIA A100-SXM4-40GB\n1, NVIDIA A100-SXM4-40GB\n"
        return '{"card1": {"Card Series": "MI250X"}, "card0": {"Card Model": "0x7408"}, "system": {}}'

    assert probe_node(tmp_path, root=tmp_path, run=tools, affinity=[0]).gpus == [
        Gpu("nvidia", 0, "NVIDIA A100-SXM4-40GB"),
        Gpu("nvidia", 1, "NVIDIA A100-SXM4-40GB"),
        Gpu("amd", 0, "0x7408"),
        Gpu("amd", 1, "MI250X"),
    ]
    garbled = probe_node(tmp_path, root=tmp_path, run=lambda argv: "[1, {", affinity=[0])
    assert garbled.gpus == []


def test_a_hanging_tool_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nexec sleep 60\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(probe, "TOOL_SECONDS", 0.2)
    facts = probe_node(tmp_path)
    assert any("nvidia-smi gave no list (TimeoutExpired)" in note for note in facts.notes)


def test_core_lists() -> None:
    assert parse_cores("0-3,8,10-11\n") == [0, 1, 2, 3, 8, 10, 11]
    assert parse_cores("\n") == []
