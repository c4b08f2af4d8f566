"""The Jupyter server owns nothing: killed, ended or replaced, all work goes on and the next one sees it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psutil
from server_kit import Server
from world_kit import eventually

import jupyter_rm as jrm
from jupyter_rm.client import admin
from jupyter_rm.client.session import Session
from jupyter_rm.notebook.look import picture


def broker_pid() -> int:
    told = admin.status()
    assert told is not None
    return int(told["pid"])


def test_a_killed_server_harms_nothing(home: Path) -> None:
    """Even when it was the server that started broker and pilot: they are nobody's children."""
    server = Server(home)
    server.post("/sessions", {"name": "mine"})
    server.post("/sessions/mine/pilots", {"site": "local", "cores": 2})
    before = broker_pid()
    assert before in {child.pid for child in psutil.Process(server.process.pid).children(recursive=True)}
    feed = server.feed()
    feed.say("subscribe", id="t", view="tasks", session="mine")
    session = jrm.open("mine")
    bulk = session.array(jrm.Task("sh", ["-c", "sleep 0.2; echo {i}"]), i=range(20))
    feed.until(lambda: feed.values("t").get("counts", {}).get("DONE", 0) > 2, "work is under way")
    server.kill()
    assert bulk.wait(30) and bulk.counts() == {"DONE": 20}
    assert broker_pid() == before
    again = Server(home)
    try:
        told = again.get("/sessions/mine")
        assert told["counts"] == {"DONE": 20} and told["pilots_alive"] == 1
        assert again.get(f"/sessions/mine/tasks/{bulk[7].uid}")["stdout"]["text"] == "7\n"
        assert again.ask("DELETE", "/sessions/mine").status == 200
    finally:
        again.stop()


def test_the_end_of_a_server_is_quick_with_everything_open(home: Path, session: Session) -> None:
    server = Server(home)
    feeds = [server.feed() for _ in range(3)]
    for feed in feeds:
        for view in ("sessions", "summary", "tasks", "activity"):
            feed.say("subscribe", id=view, view=view, session=session.name)
        feed.until(lambda feed=feed: len(feed.shown) == 4, "first pictures")  # type: ignore[misc]
    task = session.submit(jrm.Task("sleep", ["60"]))
    eventually(lambda: task.state == "RUNNING", "the task runs")
    assert server.stop(10.0) < 8.0
    assert task.state == "RUNNING" and broker_pid()
    assert "Traceback" not in server.said, server.said
    task.cancel()


def test_views_survive_the_broker(home: Path, server: Server, session: Session) -> None:
    feed = server.feed()
    feed.say("subscribe", id="t", view="tasks", session=session.name)
    bulk = session.array(jrm.Task("sh", ["-c", "sleep 0.3; echo {i}"]), i=range(20))
    feed.until(lambda: feed.values("t").get("counts", {}).get("DONE", 0) > 2, "work is under way")
    old = broker_pid()
    psutil.Process(old).kill()
    feed.until(lambda: feed.values("t").get("counts") == {"DONE": 20}, "the view goes on to the end", 60.0)
    assert bulk.wait(30) and broker_pid() != old
    assert server.get("/status")["broker"]["up"] is True
    feed.close()


def test_a_broker_that_hangs_is_not_shown_as_live(home: Path, server: Server, session: Session) -> None:
    task = session.submit(jrm.Task("true"))
    assert task.wait(timeout=30) == "DONE"
    feed = server.feed()
    feed.say("subscribe", id="t", view="tasks", session=session.name)
    feed.until(lambda: feed.values("t").get("connected") is True, "the view is live")
    assert picture(session, "tasks", {}).values["connected"] is True
    broker = psutil.Process(broker_pid())
    began = time.monotonic()
    broker.suspend()
    try:
        feed.until(lambda: feed.values("t")["connected"] is False, "the view says that it is not", 10.0)
        # One task is asked for meanwhile: what is known here comes soon, and why the rest does not.
        asked = time.monotonic()
        told = server.get(f"/sessions/{session.name}/tasks/{task.uid}")
        assert time.monotonic() - asked < 10.0
        assert told["state"] == "DONE" and "not known now" in told["story"][0], told["story"]
        eventually(lambda: not picture(session, "tasks", {}).values["connected"], "pictures in cells say it too")
    finally:
        broker.resume()
    feed.until(lambda: feed.values("t")["connected"] is True, "it is live again", 10.0)
    print(f"all of it took {time.monotonic() - began:.1f} s")
    feed.close()


def test_a_broker_that_cannot_start_is_said_with_what_to_do(home: Path) -> None:
    place = home / "public"
    place.mkdir()
    place.chmod(0o777)
    # Anybody may write there: no journal is kept in such a place.
    server = Server(place)
    broker: dict[str, Any] = {}
    try:
        told = server.get("/status")["broker"]
        assert told["up"] is False and told["code"] == "JRM-C64" and str(place) in told["message"]
        first = server.ask("GET", "/sessions")
        assert first.status == 400 and str(place) in first.json["message"]
        began = time.monotonic()
        feed = server.feed()
        feed.say("subscribe", id="s", view="sessions")
        assert feed.next()["kind"] == "lost"
        assert time.monotonic() - began < 5.0
        place.chmod(0o700)
        broker = server.post("/broker")["broker"]
        assert broker["up"] is True
        feed.until(lambda: "s" in feed.shown, "the view begins", 2.0)
        feed.close()
    finally:
        server.stop()
        if broker:
            process = psutil.Process(broker["pid"])
            process.terminate()
            eventually(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, "its end")
