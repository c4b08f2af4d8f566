"""Ending the broker: it ends once and for good, and one that does not end is named, or killed when asked for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import zmq
from world_kit import eventually

import jupyter_rm as jrm
from jupyter_rm.client import admin, start
from jupyter_rm.client.connection import Connection
from jupyter_rm.client.session import Session
from jupyter_rm.model.columns import Picks
from jupyter_rm.model.describe import Template
from jupyter_rm.model.errors import LinkError
from jupyter_rm.model.facts import KIND_FACT, BulkSubmitted, SessionOpened, TasksWaiting, encode
from jupyter_rm.runtime.home import Holder
from jupyter_rm.runtime.journal import Journal


def test_whoever_stops_a_broker_never_starts_one(home: Path) -> None:
    """A broker that ends in the very moment in which it is asked to, over and over."""
    place = admin._home()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    for turn in range(20):
        lock = place.lock()
        ear = context.socket(zmq.ROUTER)
        ear.bind(f"ipc://{place.socket('broker')}")
        said: list[bool] = []
        asking = threading.Thread(target=lambda said=said: said.append(admin.stop(timeout_s=20)))
        asking.start()
        try:
            assert ear.poll(20_000), f"turn {turn}: nobody asked"
        finally:
            ear.close(0)
            lock.close()
            asking.join(30)
        assert said == [True]
    assert not place.broker_log.exists(), place.broker_log.read_text()
    context.term()


def test_a_broker_that_does_not_end_is_named_and_killed_on_request(session: Session, home: Path) -> None:
    ends = session.submit([jrm.Task("/bin/true")] * 10)
    assert ends.wait(20)
    holder = admin._home().holder()
    assert holder is not None
    os.kill(holder.pid, signal.SIGSTOP)
    with pytest.raises(LinkError, match=f"pid {holder.pid}.*has not ended within 0.3 s") as caught:
        admin.stop(timeout_s=0.3)
    assert caught.value.code == "JRM-T02" and "--force" in caught.value.hint
    assert admin._home().holder() == holder
    assert admin.stop(force=True, timeout_s=0.3)
    assert admin._home().holder() is None
    again = jrm.open(session.name, create=False)
    eventually(lambda: Connection.shared().connected, "a new broker is there")
    assert again[ends.uid].results(20) == [""] * 10
    again.close()


def test_a_second_broker_started_by_hand_says_who_serves(session: Session, home: Path) -> None:
    holder = admin._home().holder()
    assert holder is not None
    words = [sys.executable, "-m", "jupyter_rm.broker"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0
    assert f"already runs on this machine (pid {holder.pid})" in done.stderr


def test_a_broker_on_another_machine_is_not_waited_for(home: Path) -> None:
    admin.stop(timeout_s=60)
    with admin._home().lock() as lock:
        lock.path.write_text(json.dumps({"pid": os.getpid(), "host": "login7"}))
        with pytest.raises(LinkError, match="runs on login7") as caught:
            admin.stop(force=True)
    assert caught.value.code == "JRM-T07" and "on login7: jrm broker stop" in caught.value.hint


def test_a_broker_that_starts_says_how_much_of_its_journal_it_has_read(home: Path) -> None:
    admin.stop(timeout_s=60)
    form = BulkSubmitted(0, b"k" * 16, 1.0, 1, Template(executable="true"))
    again = encode(TasksWaiting(0, Picks.span(0, 1), 2.0))  # no news, but it has to be read
    with Journal.open(admin._home().journal) as journal:
        number = 900 + journal.last
        rows = [encode(SessionOpened("long", 1.0, "me", "here")), encode(form), *[again] * 150_000]
        journal.append([(number, KIND_FACT, 1.0, body) for body in rows])
    seen: set[float] = set()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            holder = admin._home().holder()
            if holder is not None:
                seen.add(holder.reading)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        session = jrm.open("long", create=False)
    finally:
        over.set()
        watcher.join()
    assert session.counts() == {"WAITING": 1}
    assert any(0 < share < 1 for share in seen) and -1 in seen, seen
    session.close()


def test_whoever_starts_a_broker_waits_as_long_as_it_reads_on() -> None:
    reading, writing = os.pipe()

    class Slow:
        """A home whose broker reads a tenth of its journal between two looks."""

        looks = 0

        def holder(self) -> Holder:
            self.looks += 1
            if self.looks == 10:
                os.write(writing, b"ok\n")
            return Holder(1, "here", self.looks / 10)

    slow = Slow()
    assert start._read_line(reading, start.LOOK_S / 2, slow) == b"ok"  # type: ignore[arg-type]
    assert slow.looks == 10
    stuck = Slow()
    stuck.holder = lambda: Holder(1, "here", 0.5)  # type: ignore[method-assign]
    assert start._read_line(reading, start.LOOK_S / 2, stuck) is None  # type: ignore[arg-type]
    os.close(reading)
    os.close(writing)


def test_who_waits_for_long_is_told_how_far_it_is(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    admin.stop(timeout_s=60)
    with admin._home().lock() as lock:
        look = start.Reading()
        look._said = -1e9
        lock.tell(0.25)
        assert look.moved(admin._home()) and not look.moved(admin._home())
        lock.tell()
        assert not look.moved(admin._home())
    assert "reading its journal (25 %)" in capfd.readouterr().err
