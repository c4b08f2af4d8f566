"""What survives what: brokers that die, kernels that are killed, two clients, Ctrl-C, races at the start."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from world_kit import eventually

import jupyter_rm as jrm
from jupyter_rm.client import admin, blocking
from jupyter_rm.client.connection import Connection
from jupyter_rm.client.session import Session

GATED = "while not __import__('os').path.exists({gate!r}): __import__('time').sleep(0.005)"


def python(code: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def gated(gate: Path) -> jrm.Task:
    os.mkfifo(gate)
    return jrm.Shell(f"read x < {gate}; echo $x")


def broker_pid(home: Path) -> int:
    holder = admin._home().holder()
    assert holder is not None
    return int(holder.pid)


def test_import_is_quick_and_light() -> None:
    code = (
        "import time, sys; b = time.perf_counter(); import jupyter_rm; t = time.perf_counter() - b;"
        "heavy = {'numpy', 'pandas', 'zmq', 'IPython', 'msgspec'} & set(sys.modules); print(t, heavy)"
    )
    said = python(code).communicate(timeout=20)[0].split(" ", 1)
    assert said[1].strip() == "set()"
    assert float(said[0]) < 0.25


def test_many_clients_start_one_broker(home: Path) -> None:
    code = "import jupyter_rm as jrm; from jupyter_rm.client.listing import broker_status; print(broker_status().pid)"
    children = [python(code) for _ in range(4)]
    said = [child.communicate(timeout=40) for child in children]
    assert len({out for out, _ in said}) == 1, said
    assert int(said[0][0]) == broker_pid(home)


def test_two_clients_see_one_session(session: Session) -> None:
    session.submit(jrm.Task("/bin/echo", ["first"])).wait(20)
    code = f"""
import jupyter_rm as jrm
s = jrm.open({session.name!r}, create=False)
print(s["t.0"].result(10).strip(), s.submit(jrm.Task("/bin/echo", ["second"])).result(20).strip())
"""
    out, err = python(code).communicate(timeout=40)
    assert out.strip() == "first second", err
    eventually(lambda: session.counts() == {"DONE": 2}, "the other client's task is seen here")
    assert session["t.1"].stdout() == "second\n"


def test_open_without_create(home: Path) -> None:
    with pytest.raises(jrm.RequestError):
        jrm.open("never-made", create=False)
    for bad in ("", "a b", "../x", "1x", "x" * 65, None):
        with pytest.raises(jrm.RequestError):
            jrm.open(bad)  # type: ignore[arg-type]


def test_open_twice_is_the_same_session(bare: Session) -> None:
    assert jrm.open(bare.name) is bare
    assert bare.name in [line.name for line in jrm.sessions()]


def test_detach_and_attach_again(session: Session, tmp_path: Path) -> None:
    task = session.submit(gated(tmp_path / "gate"))
    values = session.map(pow, range(10), [2] * 10)
    values.wait(20)
    name = session.name
    session.detach()
    with pytest.raises(jrm.LinkError):
        session.wait(1)
    again = jrm.open(name, create=False)
    assert again is not session
    assert again["t.1"].results(20) == [n * n for n in range(10)]
    assert again["t.1.3"].result(20) == 9
    (tmp_path / "gate").write_text("through\n")
    assert again[task.uid].result(20) == "through\n"
    again.close()


def test_a_killed_broker_is_replaced(session: Session, home: Path, tmp_path: Path) -> None:
    before = session.map(pow, range(100), [2] * 100)
    assert before.wait(20)
    task = session.submit(gated(tmp_path / "gate"))
    session._replica.wait(lambda: task.state == "RUNNING", 20)
    with session.executor() as ex:
        mark = tmp_path / "go"
        call = ex.submit(exec, GATED.format(gate=str(mark)))
        eventually(lambda: call.uid, "the call is recorded")
        old = broker_pid(home)
        os.kill(old, signal.SIGKILL)
        (tmp_path / "gate").write_text("still here\n")
        mark.touch()
        assert task.result(40) == "still here\n"
        assert call.result(40) is None
    assert broker_pid(home) != old
    assert session.submit(jrm.Task("/bin/echo", ["new"])).result(20) == "new\n"
    assert before.results(20) == [n * n for n in range(100)]
    assert task.attempt == 1


def test_a_stopped_broker_comes_back_when_needed(session: Session, home: Path) -> None:
    session.submit(jrm.Task("/bin/true")).wait(20)
    child = python("from jupyter_rm.client import admin; print(admin.stop(force=True))")
    assert child.communicate(timeout=30)[0].strip() == "True"
    eventually(lambda: not Connection.shared().connected, "this process sees that the broker has gone")
    assert admin._home().holder() is None
    assert session.submit(jrm.Task("/bin/echo", ["back"])).result(30) == "back\n"


def test_a_killed_kernel_loses_nothing(session: Session, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    code = f"""
import jupyter_rm as jrm, sys, time
s = jrm.open({session.name!r})
t = s.submit(jrm.Shell("read x < {gate}; echo $x"))
b = s.map(lambda n: n + 1, range(50))
print("submitted", flush=True)
t.wait()
"""
    child = python(code)
    assert child.stdout is not None
    assert child.stdout.readline() == "submitted\n"
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    gate.write_text("kept\n")
    eventually(lambda: len(session.tasks()) == 51, "all tasks are known here")
    assert session["t.0"].result(20) == "kept\n"
    assert session["t.1"].results(20) == [n + 1 for n in range(50)]
    child.communicate()


def test_what_was_called_last_is_sent_at_exit(session: Session) -> None:
    code = f"import jupyter_rm as jrm; s = jrm.open({session.name!r}); [s.call(pow, 2, n) for n in range(20)]"
    child = python(code)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 0, err
    eventually(lambda: session.counts() == {"DONE": 20}, "all calls arrive")


def test_interrupt_ends_the_wait_only(session: Session) -> None:
    code = f"""
import jupyter_rm as jrm
s = jrm.open({session.name!r})
t = s.submit(jrm.Task("/bin/sleep", ["600"]))
print("waiting", flush=True)
try:
    t.wait()
except KeyboardInterrupt:
    print(t.state.final)
"""
    child = python(code)
    assert child.stdout is not None
    assert child.stdout.readline() == "waiting\n"
    process = psutil.Process(child.pid)
    eventually(lambda: process.status() == psutil.STATUS_SLEEPING, "the child waits")
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=10)
    assert out == "False\n", err
    assert f"still running: t.0.0 of session {session.name!r}; cancel with jrm cancel -s {session.name} t.0.0" in err
    assert session["t.0"].cancel()


def test_an_interrupted_program_ends_as_programs_do(session: Session) -> None:
    task = session.submit(jrm.Task("/bin/sleep", ["600"]))
    session._replica.wait(lambda: task.state == "RUNNING", 20)
    child = python(f"import jupyter_rm as jrm; b = jrm.open({session.name!r}).tasks(); print(b, flush=True); b.wait()")
    assert child.stdout is not None
    assert "1 RUNNING" in child.stdout.readline()
    process = psutil.Process(child.pid)
    eventually(lambda: process.status() == psutil.STATUS_SLEEPING, "the child waits")
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=10)
    assert child.returncode == -signal.SIGINT, err
    assert task.cancel()


def test_closing_ends_everything(session: Session) -> None:
    task = session.submit(jrm.Task("/bin/sleep", ["600"]))
    session._replica.wait(lambda: task.state == "RUNNING", 20)
    name = session.name
    session.close()
    line = next(line for line in jrm.sessions() if line.name == name)
    assert line.state == "closed"
    eventually(
        lambda: next(each for each in jrm.sessions() if each.name == name).tasks == {"CANCELED": 1},
        "the task is cancelled",
    )


def test_a_closed_name_begins_anew(session: Session) -> None:
    session.submit(jrm.Task("/bin/true")).wait(20)
    code = f"import jupyter_rm as jrm; jrm.open({session.name!r}).close()"
    _, err = python(code).communicate(timeout=30)
    eventually(lambda: session.closed, f"the close by another client is seen here {err}")
    with pytest.raises(jrm.RequestError, match="closed"):
        session.submit(jrm.Task("/bin/true"))
    assert session.counts() == {"DONE": 1}
    again = jrm.open(session.name)
    assert again is not session
    assert len(again.tasks()) == 0
    lines = [line for line in jrm.sessions() if line.name == session.name]
    assert [(line.state, line.earlier) for line in lines] == [("closed", True), ("open", False)]
    assert f"{session.name!r} closed, earlier ({lines[0].key})" in repr(lines[0])
    assert "earlier" in jrm.sessions()._repr_mimebundle_()["text/html"]
    again.close()
    assert repr(again) == f"<session {session.name!r} closed: it had 0 pilots, no tasks>"


def test_a_closed_session_says_so(session: Session) -> None:
    task = session.submit(jrm.Task("/bin/sleep", ["600"]))
    session._replica.wait(lambda: task.state == "RUNNING", 20)
    session.close()
    assert session.closed
    assert "alive" not in repr(session)
    assert "closed: it had 1 pilot, 1 CANCELED" in repr(session)


def test_waiting_without_any_pilot_says_so(
    session: Session, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocking, "WORRY_S", 0.1)
    ex = session.executor(cores=2)
    running = session.submit(jrm.Task("/bin/sleep", ["600"]))
    session._replica.wait(lambda: running.state == "RUNNING", 20)
    task = session.submit(jrm.Task("/bin/true", cores=2))
    future = ex.submit(pow, 2, 3)
    eventually(lambda: future.uid, "the call is recorded")
    session.pilots()[0].cancel()
    session._replica.wait(lambda: session.pilots()[0].state.final, 20)
    assert not task.done()

    async def patient() -> object:
        return await asyncio.wait_for(_awaited(task), 0.5)

    def with_timeout() -> object:
        return future.result(0.5)

    for wait in (lambda: task.wait(0.5), lambda: session.wait(0.5), lambda: asyncio.run(patient()), with_timeout):
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError, concurrent.futures.TimeoutError):
            wait()
        assert "no pilot" in capfd.readouterr().err
    assert "no pilot" in task.reason
    assert "no pilot" in str.__str__(task.explain())
    session.pilot("local", cores=2)
    assert task.wait(20) == "DONE"
    assert future.result(20) == 8
    session.cancel()


async def _awaited(task: Any) -> object:
    return await task
