"""Ending the broker: it ends once and for good, and one that does not end is named, or killed when asked for."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import zmq
from world_kit import eventually

import jupyter_rm as jrm
from jupyter_rm.client import admin, settings, start
from jupyter_rm.client.connection import Connection
from jupyter_rm.client.session import Session
from jupyter_rm.model.columns import Picks
from jupyter_rm.model.describe import Template
from jupyter_rm.model.errors import LinkError, SiteError
from jupyter_rm.model.facts import KIND_FACT, BulkSubmitted, SessionOpened, TasksWaiting, encode
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


def test_a_broker_on_another_machine_is_not_waited_for(home: Path) -> None:
    admin.stop(timeout_s=60)
    with admin._home().lock() as lock:
        lock.path.write_text(json.dumps({"pid": os.getpid(), "host": "login7"}))
        with pytest.raises(LinkError, match="runs on login7") as caught:
            admin.stop(force=True)
    assert caught.value.code == "JRM-T07" and "on login7: jrm broker stop" in caught.value.hint


def test_a_long_journal_is_waited_for_while_the_broker_reads_on(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    admin.stop(timeout_s=60)
    form = BulkSubmitted(0, b"k" * 16, 1.0, 1, Template(executable="true"))
    again = encode(TasksWaiting(0, Picks.span(0, 1), 2.0))  # no news, but it has to be read
    with Journal.open(admin._home().journal) as journal:
        known = journal.last
        number = 900 + known
        rows = [encode(SessionOpened("long", 1.0, "me", "here")), encode(form), *[again] * 300_000]
        journal.append([(number, KIND_FACT, 1.0, body) for body in rows])
    began = time.monotonic()
    with pytest.raises(SiteError, match="did not start within 0 s"):
        start.start_broker(admin._home(), 0.0)
    settings.change(start_timeout_s=0.3)
    try:
        session = jrm.open("long", create=False)
    finally:
        settings.forget()
    assert time.monotonic() - began > 0.6, "it was read in no time: this proves nothing"
    assert session.counts() == {"WAITING": 1}
    session.close()
    capfd.readouterr()


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
