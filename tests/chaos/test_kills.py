"""kill -9 of kernel, broker and agent in mid-work: nothing is lost, nothing ends twice, nothing is left over."""

from __future__ import annotations

import collections
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest
import zmq

import jupyter_rm as jrm
from jupyter_rm.model import facts as facts_of
from jupyter_rm.model.columns import unpack
from jupyter_rm.model.facts import KIND_FACT, TasksEnded
from jupyter_rm.model.messages import Hello
from jupyter_rm.runtime.home import Home
from jupyter_rm.runtime.journal import Journal
from jupyter_rm.wire import codec

TASKS = int(os.environ.get("JRM_CHAOS_TASKS", "1500"))
KILLS = int(os.environ.get("JRM_CHAOS_KILLS", "9"))
SEED = int(os.environ.get("JRM_CHAOS_SEED", "7"))
DEADLINE = 180.0
PAUSE = threading.Event()  # never set: the state of other processes sends us no event


def until(what: str, condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for something that leaves no other trace than the state of the system."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        PAUSE.wait(0.02)


def accepting(but: int) -> bool:
    """Ask whether a broker of this home, other than the process ``but``, answers a hello."""
    holder = Home.locate().holder()
    if holder is None or holder.pid == but:
        return False
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(f"ipc://{Home.locate().socket('broker')}")
        socket.send(codec.encode(Hello(1)))
        return bool(socket.poll(200))


class Rig:
    """The processes of one run, found by the home directory in their environment."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.starts = home / "starts"
        self.starts.touch()
        self.kernel: subprocess.Popen[bytes] | None = None

    def start_kernel(self) -> None:
        self.kernel = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("kernel.py")), "chaos", str(self.starts), str(TASKS)],
            stdout=subprocess.PIPE,
            env={**os.environ, "JUPYTER_RM_HOME": str(self.home)},
        )
        assert self.kernel.stdout is not None
        assert self.kernel.stdout.readline() == b"submitted\n"

    def answered(self, killed: int) -> bool:
        """Ask whether another broker accepts; a kernel that has seen the end of all work and gone is started again."""
        if self.over():
            self.start_kernel()
        return accepting(killed)

    def mine(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get("JUPYTER_RM_HOME") == str(self.home) and process.pid != os.getpid()
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue  # it ended while we looked
        return found

    def find(self, module: str) -> psutil.Process | None:
        for process in self.mine():
            try:
                line = process.cmdline()
            except psutil.Error:
                continue
            if module in line and "jrm-guard" not in line[0]:
                return process
        return None

    def over(self) -> bool:
        """Say whether no further start is to be waited for: the kernel has seen the end of all work."""
        return self.kernel is not None and self.kernel.poll() is not None

    def started(self) -> int:
        return self.starts.stat().st_size


def test_twenty_murders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "h"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("JUPYTER_RM_HOME", str(home))
    rig = Rig(home)
    dice = random.Random(SEED)
    rig.start_kernel()
    size = rig.started()
    restarts: list[float] = []
    victims = [("kernel", "jupyter_rm.broker", "jupyter_rm.agent")[n % 3] for n in range(KILLS)]
    dice.shuffle(victims)
    step = TASKS * 8 // (KILLS + 2)  # bytes of the start log between two kills
    for victim in victims:
        goal = size + dice.randrange(1, 2 * step)
        until(
            "some more tasks start",
            lambda goal=goal: rig.started() >= goal or rig.over() or rig.find("jupyter_rm.agent") is None,
            60,
        )
        size = rig.started()
        if victim == "kernel":
            assert rig.kernel is not None
            rig.kernel.kill()
            rig.kernel.wait()
            rig.start_kernel()
        else:
            until(f"{victim} runs", lambda victim=victim: rig.find(victim) is not None)
            process = rig.find(victim)
            assert process is not None
            process.send_signal(signal.SIGKILL)
            killed = time.monotonic()
            if victim == "jupyter_rm.broker":
                # The kernel's client notices and starts the next one; ours only asks until somebody answers.
                until("a broker accepts again", partial(rig.answered, process.pid))
                restarts.append(time.monotonic() - killed)
    assert rig.kernel is not None
    rig.kernel.kill()
    rig.kernel.wait()

    print(f"\n{KILLS} kills; broker killed to accepting again: " + ", ".join(f"{s:.2f} s" for s in restarts))
    session = jrm.open("chaos")
    assert session.wait(DEADLINE), f"not all ended: {session.counts()}"
    counts = session.counts()
    session.close()
    subprocess.run([sys.executable, "-m", "jupyter_rm", "broker", "stop"], check=True, env=os.environ.copy())
    until("all processes of the run are gone", lambda: not rig.mine())

    starts = collections.Counter(tuple(line.split()) for line in rig.starts.read_text().splitlines())
    twice = [key for key, number in starts.items() if number > 1]
    assert not twice, f"attempts that were started more than once: {twice[:5]}"
    never = collections.Counter(uid for uid, _ in starts if uid.startswith("t.1."))
    assert max(never.values()) == 1, "a task that forbids a second start was started twice"

    ends: collections.Counter[tuple[int, int]] = collections.Counter()
    with Journal.open(Home.locate().journal, readonly=True) as journal:
        for row in journal.read():
            if row.kind == KIND_FACT and isinstance(fact := facts_of.decode(row.body), TasksEnded):
                unpack(fact.state, "<u1", len(fact.picks))
                ends.update((fact.bulk, index) for index in fact.picks.array().tolist())
    assert len(ends) == TASKS + TASKS // 10
    assert set(ends.values()) == {1}, "a task ended more than once"
    assert counts["DONE"] >= TASKS, counts
    assert counts.get("FAILED", 0) <= 2 * KILLS, counts
