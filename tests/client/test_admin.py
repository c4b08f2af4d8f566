"""Ending the broker: it ends once and for good, and one that does not end is named, or killed when asked for."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest
import zmq
from world_kit import eventually

import jupyter_rm as jrm
from jupyter_rm.client import admin
from jupyter_rm.client.connection import Connection
from jupyter_rm.client.session import Session
from jupyter_rm.model.errors import LinkError


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
