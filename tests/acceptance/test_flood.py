"""Output that never ends costs those who look on nothing (G15)."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest

import jupyter_rm as jrm
from jupyter_rm.client import admin
from jupyter_rm.client.session import Session

MIB = 1 << 20


def rss(pid: int) -> int:
    return psutil.Process(pid).memory_info().rss


def test_a_flood_of_output(session: Session) -> None:
    holder = admin._home().holder()
    assert holder is not None
    agent = next(
        child.pid
        for child in psutil.Process(int(session.pilots()[0].job_id)).children()
        if "jupyter_rm.agent" in child.cmdline()
    )
    session.submit(jrm.Task("/bin/true")).wait(20)
    before = {pid: rss(pid) for pid in (holder.pid, agent, psutil.Process().pid)}
    flood = session.submit(
        jrm.Shell("head -c 209715200 /dev/zero | tr '\\0' 'x'; head -c 20971520 /dev/zero >&2; exit 7")
    )
    begun = time.monotonic()
    other = session.submit(jrm.Task("/bin/echo", ["still quick"]))
    assert other.result(10) == "still quick\n"
    assert time.monotonic() - begun < 5
    assert flood.wait(60) == "FAILED"
    assert flood.exit_code == 7
    with pytest.raises(jrm.TaskError) as caught:
        flood.result(0)
    assert len(str(caught.value)) < 5_000
    assert len(caught.value.output) <= 4_000
    assert len(flood.reason) < 2_000
    with pytest.raises(jrm.LinkError, match="larger than"):
        flood.stdout()
    shown = flood._repr_mimebundle_()
    assert all(len(text) < 20_000 for text in shown.values())
    piece = next(flood.follow())
    assert 0 < len(piece) <= MIB
    for pid, was in before.items():
        assert rss(pid) - was < 64 * MIB, f"pid {pid} grew by {(rss(pid) - was) / MIB:.0f} MiB"
    assert flood.sandbox is not None
    assert (flood.sandbox / "stdout").stat().st_size == 200 * MIB
    (flood.sandbox / "stdout").unlink()


def test_a_call_that_prints_too_much(session: Session) -> None:
    def talk() -> int:
        for _ in range(200):
            print("y" * 100_000)
        return 5

    agent = int(session.pilots()[0].job_id)
    task = session.call(talk)
    assert task.result(30) == 5
    for process in psutil.Process(agent).children(recursive=True):
        assert process.memory_info().rss < 300 * MIB


def test_a_large_result_does_not_grow_the_broker(session: Session) -> None:
    holder = admin._home().holder()
    assert holder is not None
    session.call(pow, 2, 2).result(20)
    before = rss(holder.pid)
    assert len(session.call(bytes, 50 * MIB).result(40)) == 50 * MIB
    assert rss(holder.pid) - before < 64 * MIB


def test_the_command_line_can_be_cut_off(session: Session) -> None:
    """``jrm log | head`` ends at once and without a traceback."""
    task = session.submit(jrm.Shell("yes | head -c 5000000"))
    assert task.wait(20) == "DONE"
    done = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m jupyter_rm log {task.uid} --session {session.name} | head -n 2"],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.stdout == "y\ny\n", done.stderr
    assert "Traceback" not in done.stderr
