"""What a task used is what it says it used (RP-52), and unlike tasks share one pilot (RP-25)."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

import jupyter_rm as jrm
from jupyter_rm.client.session import Session


def test_memory_and_processor_time(session: Session) -> None:
    code = (
        "import time; x = bytearray(200_000_000); x[::4096] = b'1' * len(x[::4096]); b = time.process_time()\n"
        "while time.process_time() - b < 1.0: pass\n"
        "print(time.process_time(), 'cpu')"
    )
    program = session.submit(jrm.Task(sys.executable, ["-S", "-c", code]))
    assert program.wait(60) == "DONE", program.reason
    own = float(program.stdout().split()[0])
    row = session.frame().iloc[0]
    assert row["max_rss_mib"] == pytest.approx(200e6 / 2**20, rel=0.15)
    assert row["user_time"] + row["sys_time"] == pytest.approx(own, rel=0.20)
    assert row["run_time"] >= own * 0.8


def test_children_count_too(session: Session) -> None:
    code = "import time\nwhile time.process_time() < 0.6: pass"
    task = session.submit(jrm.Shell(f'{sys.executable} -S -c "{code}"; true'))
    assert task.wait(60) == "DONE", task.reason
    row = session.frame().iloc[0]
    assert row["user_time"] + row["sys_time"] == pytest.approx(0.6, abs=0.25)


def test_five_kinds_side_by_side(bare: Session, tmp_path: Path) -> None:
    pilot = bare.pilot("local", cores=64, gpus=20)
    assert pilot.wait(timeout=20) == "ACTIVE", pilot.reason
    kinds = {
        "serial": jrm.Task("/bin/sleep", ["0.2"], name="serial"),
        "shell": jrm.Shell("sleep 0.2 | cat", name="shell"),
        "wide": jrm.Task("/bin/sleep", ["0.2"], cores=2, name="wide"),
        "ranks": jrm.Shell("sleep 0.2; echo $JRM_RANK", ranks=2, name="ranks"),
        "gpu": jrm.Shell('sleep 0.2; test -n "$CUDA_VISIBLE_DEVICES"', gpus=0.5, name="gpu"),
    }
    mixed = bare.submit([task for _ in range(40) for task in kinds.values()])
    calls = bare.map(lambda n: n * n, range(40))
    assert mixed.wait(60), mixed.counts()
    assert mixed.counts() == {"DONE": 200}, mixed.failed()[0].reason
    assert calls.results(30) == [n * n for n in range(40)]
    frame = mixed.to_frame()
    cores = frame["name"].map({"wide": 2, "ranks": 2}).fillna(1)
    kinds_at, cores_at = [], []
    for moment in frame["started"]:
        running = (frame["started"] <= moment) & (frame["ended"] > moment)
        kinds_at.append(frame["name"][running].nunique())
        cores_at.append(int(cores[running].sum()))
    assert max(kinds_at) >= 3, "never three kinds at once"
    assert max(cores_at) <= 64, "more cores in use than there are"


def test_calls_of_many_threads(session: Session) -> None:
    """RP-16: a thousand calls, from several threads at once, each with its own answer."""
    answers: dict[int, object] = {}

    def ask(base: int) -> None:
        tasks = {n: session.call(pow, n, 2) for n in range(base, base + 250)}
        answers.update({n: task.result(60) for n, task in tasks.items()})

    threads = [threading.Thread(target=ask, args=(base,)) for base in range(0, 1000, 250)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert answers == {n: n * n for n in range(1000)}
