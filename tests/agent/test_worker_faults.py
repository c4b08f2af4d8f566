"""Workers that die, hang or are told to stop: each call ends once, and only the guilty one is lost."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from perform_kit import Rig, children, descriptors

from jupyter_rm.agent import crew
from jupyter_rm.model.describe import Task
from jupyter_rm.model.states import Cause, TaskState

DONE, FAILED, CANCELED = TaskState.DONE, TaskState.FAILED, TaskState.CANCELED


def gate(rig: Rig, name: str = "gate") -> Path:
    path = rig.root.parent / name
    os.mkfifo(path)
    return path


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ("import os; os._exit(3)", "exit code 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV"),
        ("import os; os.write(2, b'last words'); os.abort()", "last words"),
    ],
)
def test_only_the_call_that_kills_its_worker_is_lost(rig: Rig, how: str, word: str) -> None:
    bulk = rig.calls(exec, ["pass"] * 40 + [how] + ["pass"] * 40)
    ends = rig.run(bulk)
    assert [i for i, end in enumerate(ends) if end.state != DONE] == [40], ends[40]
    assert ends[40].cause == Cause.WORKER_LOST and word in ends[40].note, ends[40]
    assert ends[40].started > 0
    rig.drained()


def test_calls_run_before_a_death_run_only_once(rig: Rig) -> None:
    """Results that were finished but not sent are read from what the dead worker left."""
    log = rig.root.parent / "log"

    def note(path: str, i: int) -> int:
        import os

        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, f"{i}\n".encode())
        os.close(fd)
        if i % 50 == 49:
            os._exit(1)
        return i

    bulk = rig.calls(note, [pickle.dumps(((str(log), i), {}), 5) for i in range(1000)])
    ends = rig.run(bulk, timeout=60)
    lost = [i for i, end in enumerate(ends) if end.state == FAILED]
    assert lost == list(range(49, 1000, 50))
    assert sorted(map(int, log.read_text().split())) == list(range(1000))
    rig.drained()


def test_kill_9_under_load(rig: Rig) -> None:
    def work(x: int) -> int:
        return sum(range(x % 2000)) * 0 + x

    bulk = rig.calls(work, list(range(30_000)))
    rig.ahead(bulk, rig.launch(bulk))
    kills = 0
    for goal in range(2000, 28_000, 3000):
        rig.until(lambda goal=goal: rig.done(bulk) >= goal, what=f"{goal} ends")
        for w in rig.p.workers._workers:
            if w.ready:
                w.signal(signal.SIGKILL)
                kills += 1
                break
    ends = rig.wait(bulk, 60)
    lost = [end for end in ends if end.state != DONE]
    assert kills > 5 and len(lost) <= kills
    assert all(end.cause == Cause.WORKER_LOST and "SIGKILL" in end.note for end in lost)
    rig.drained()


def test_a_worker_that_cannot_start_fails_its_call(rigs: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "_BOOT", "import sys; sys.exit('no library here')")
    rig = rigs()
    for end in rig.run(rig.calls(len, ["a"] * 5)):
        assert (end.state, end.cause) == (FAILED, Cause.WORKER_LOST) and "no library here" in end.note, end
    rig.drained()


def test_an_idle_worker_that_dies_is_replaced(rig: Rig) -> None:
    bulk = rig.calls(lambda _: os.getpid(), [0])
    pid = pickle.loads(rig.run(bulk)[0].value[1:])
    rig.drained()
    os.kill(pid, signal.SIGKILL)
    rig.until(lambda: not rig.p.workers._workers, what="the news of its death")
    again = pickle.loads(rig.run(rig.calls(lambda _: os.getpid(), [0]))[0].value[1:])
    assert again != pid


# ---------------------------------------------------------------- long calls


def test_a_worker_that_no_longer_hears_the_agent_is_let_go(rigs: Callable[..., Rig]) -> None:
    """A call may take away the signal by which the agent asks; nothing waits for the answer for long."""
    rig = rigs(cores=1)

    def deaf(seconds: float) -> int:
        import os
        import signal
        import threading

        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        print("while it writes, it is asked", flush=True)
        threading.Event().wait(seconds)
        return os.getpid()

    first = rig.run(rig.calls(deaf, [0.3, 0.0, 0.0]))
    alone = rig.run(rig.calls(deaf, [0.3]))
    rig.drained()  # this worker is idle now, and owes its answer still
    after = rig.run(rig.calls(deaf, [0.0]))
    assert {end.state for end in first + alone + after} == {DONE}
    pids = [pickle.loads(end.value[1:]) for end in first + alone + after]
    assert pids[0] != pids[1] == pids[2] == pids[3] != pids[4], "workers that did not answer were kept"
    rig.drained()


def test_nothing_waits_behind_a_call_that_turns_out_long(rig: Rig) -> None:
    path = gate(rig)

    def mixed(i: int, where: str) -> int:
        if i == 500:
            with open(where) as file:
                file.read()
        return i

    bulk = rig.calls(mixed, [pickle.dumps(((i, str(path)), {}), 5) for i in range(2000)])
    rig.ahead(bulk, rig.launch(bulk))
    rig.until(lambda: rig.done(bulk) == 1999, what="all but the long one")  # those taken back are launched anew
    assert (bulk, 500) not in rig.ends
    assert bulk << 32 | 500 in rig.begun
    path.write_text("")
    assert all(end.state == DONE for end in rig.wait(bulk))
    rig.drained()


def test_retract_takes_back_what_no_worker_has(rig: Rig) -> None:
    path = gate(rig)

    def wait_at(path: str) -> str:
        with open(path) as file:
            return file.read()

    bulk = rig.calls(wait_at, [str(path)] * 10)
    placed = rig.launch(bulk)
    rig.ahead(bulk, placed)
    back = rig.retract()
    assert (back & np.uint64(0xFFFFFFFF)).tolist() == list(range(placed, 10))
    fd = os.open(path, os.O_RDWR)
    rig.until(lambda: len(rig.begun) == placed, what="both to run")
    os.close(fd)
    rig.until(lambda: rig.done(bulk) == placed, what="both ends")
    rig.drained()


def test_run_ahead_without_allocations_comes_straight_back(rig: Rig) -> None:
    bulk = rig.calls(len, ["a"] * 3)
    rig.ahead(bulk, 0)
    rig.until(lambda: rig.taken, what="TakenBack")
    assert len(rig.taken[0].tokens) == 3


# ---------------------------------------------------------------- cancel and timeout


def test_cancel_a_running_call(rig: Rig) -> None:
    def busy(_: int) -> None:
        while True:
            pass

    bulk = rig.calls(busy, [0])
    rig.launch(bulk)
    rig.until(lambda: rig.begun, what="its start")
    pids = [w.pid for w in rig.p.workers._workers]
    rig.kill(bulk, 0)
    (end,) = rig.wait(bulk)
    assert (end.state, end.cause) == (CANCELED, Cause.USER_CANCEL)
    rig.drained()
    assert [w.pid for w in rig.p.workers._workers] == pids, "an interrupted worker stays"
    assert rig.run(rig.calls(len, ["abc"]))[0].state == DONE


def test_cancel_what_will_not_be_interrupted(rigs: Callable[..., Rig]) -> None:
    rig = rigs(grace=0.2)

    def stubborn(_: int) -> None:
        while True:
            try:
                while True:
                    pass
            except KeyboardInterrupt:
                continue

    def in_c(_: int) -> None:
        import signal

        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGUSR1])
        while True:
            pass

    for function in (stubborn, in_c):
        bulk = rig.calls(function, [0])
        rig.launch(bulk)
        rig.until(lambda bulk=bulk: bulk << 32 in rig.begun, what="its start")
        rig.kill(bulk, 0)
        (end,) = rig.wait(bulk)
        assert (end.state, end.cause) == (CANCELED, Cause.USER_CANCEL), end
        rig.drained()


def test_cancel_right_after_launch(rig: Rig) -> None:
    for _ in range(20):
        bulk = rig.calls(lambda _: __import__("time").sleep(100), [0])
        rig.launch(bulk)
        rig.kill(bulk, 0)
        assert rig.wait(bulk)[0].state == CANCELED
        rig.drained()


def test_what_was_reported_canceled_never_runs(rig: Rig) -> None:
    folder = rig.root.parent / "ran"
    folder.mkdir()

    def mark(where: str, i: int) -> None:
        import os

        os.close(os.open(f"{where}/{i}", os.O_CREAT))

    bulk = rig.calls(mark, [pickle.dumps(((str(folder), i), {}), 5) for i in range(6000)])
    rig.ahead(bulk, rig.launch(bulk))
    rig.until(lambda: rig.done(bulk) > 500, what="some ends")
    rig.kill(bulk, *range(3000, 6000))
    ends = rig.wait(bulk)
    canceled = {i for i, end in enumerate(ends) if end.state == CANCELED}
    ran = {int(name) for name in os.listdir(folder)}
    assert {end.state for end in ends} <= {DONE, CANCELED}
    assert len(canceled) > 1000 and min(canceled) >= 3000
    assert not canceled & ran and canceled | ran == set(range(6000))
    rig.drained()


def test_cancel_of_all_at_any_moment(rig: Rig) -> None:
    """Whatever the moment, each call ends once and all allocations come back."""
    for round_ in range(15):
        bulk = rig.calls(lambda x: sum(range(x)), [300] * 2000)
        rig.ahead(bulk, rig.launch(bulk))
        rig.until(lambda bulk=bulk, goal=round_ * 120: rig.done(bulk) >= goal, what="a moment")
        rig.kill(bulk, *range(2000))
        assert {end.state for end in rig.wait(bulk)} <= {DONE, CANCELED}
        rig.drained()


def test_a_timeout_ends_the_call_alone(rig: Rig) -> None:
    def mixed(i: int) -> int:
        if i == 5:
            while True:
                pass
        return i

    bulk = rig.calls(mixed, list(range(100)), timeout=0.3)
    ends = rig.run(bulk)
    assert [i for i, end in enumerate(ends) if end.state != DONE] == [5]
    assert ends[5].cause == Cause.TASK_TIMEOUT and "0.3 s" in ends[5].note
    assert 0.25 < ends[5].ended - ends[5].started < 10
    rig.drained()


def test_a_timeout_of_a_call_that_ignores_it(rigs: Callable[..., Rig]) -> None:
    rig = rigs(grace=0.2)

    def hang(_: int) -> None:
        import signal

        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while True:
            pass

    bulk = rig.calls(hang, [0], timeout=0.2)
    (end,) = rig.run(bulk)
    assert (end.state, end.cause) == (FAILED, Cause.TASK_TIMEOUT)
    rig.drained()


# ---------------------------------------------------------------- nothing is left


def test_what_a_call_started_goes_with_its_worker(rig: Rig) -> None:
    def start(_: int) -> int:
        import subprocess

        return subprocess.Popen(["sleep", "100"]).pid

    pid = pickle.loads(rig.run(rig.calls(start, [0]))[0].value[1:])
    assert Path(f"/proc/{pid}").exists()
    rig.p.close(1.0)
    assert not Path(f"/proc/{pid}").exists()


def test_no_descriptor_process_or_file_is_left(tmp_path: Path) -> None:
    def life() -> None:
        rig = Rig(tmp_path / "p")
        rig.run(rig.bulk(Task("true"), 300))
        rig.run(rig.calls(exec, ["pass"] * 300 + ["import os; os._exit(1)"] * 3), pool=1)
        rig.drained()
        rig.p.close(1.0)

    life()
    gc.collect()
    before, own, temporary = descriptors(), children(), set(os.listdir(os.environ.get("TMPDIR", "/tmp")))
    for _ in range(3):
        life()
    gc.collect()
    assert descriptors() <= before
    assert children() <= own
    left = set(os.listdir(os.environ.get("TMPDIR", "/tmp"))) - temporary
    assert not [name for name in left if name.startswith(("jrm-py-", "jrm-env-")) and _mine(name)]


def _mine(name: str) -> bool:
    """Say whether a folder was made by this test: others may run on the machine at the same time."""
    return any(f"/{name}/" in os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is(fd))


def _is(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


def test_latency_of_one_call(rig: Rig) -> None:
    """The bar is 0.4 ms on a quiet machine; the best of many must come near it in any company."""
    times: list[float] = []
    function: Any = len
    for _ in range(100):
        bulk = rig.calls(function, ["abc"])
        started = time.perf_counter()
        rig.run(bulk)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.002
