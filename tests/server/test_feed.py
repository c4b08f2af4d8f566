"""The feed through a real server: views follow, hidden ones are silent, mistakes are answered, rates are kept."""

from __future__ import annotations

import itertools
import json
import socket
import statistics
import time
from collections.abc import Iterator
from typing import Any

import pytest
import websocket
from server_kit import TOKEN, Feed, Server

import jupyter_rm as jrm
from jupyter_rm.client.session import Session


@pytest.fixture
def feed(server: Server) -> Iterator[Feed]:
    made = server.feed()
    yield made
    made.close()


def test_views_follow_a_session(server: Server, feed: Feed, session: Session) -> None:
    for view in ("summary", "tasks", "activity"):
        feed.say("subscribe", id=view, view=view, session=session.name, window={"limit": 50})
    feed.say("subscribe", id="all", view="sessions")
    feed.until(lambda: len(feed.shown) == 4, "first pictures")
    bulk = session.array(jrm.Task("sh", ["-c", "test {i} -lt 30"]), i=range(40))
    assert bulk.wait(30)
    feed.until(lambda: feed.values("summary").get("counts") == {"DONE": 30, "FAILED": 10}, "the counts of the end")
    feed.until(lambda: feed.values("tasks").get("counts") == {"DONE": 30, "FAILED": 10}, "the table of the end")
    rows = feed.rows("tasks", "tasks")
    assert [row["uid"] for row in rows] == [f"t.0.{index}" for index in range(40)]
    assert all((row["state"] == "FAILED") == (index >= 30) for index, row in enumerate(rows))
    assert "exit code 1" in rows[35]["reason"]
    (pilot,) = feed.rows("summary", "pilots")
    assert pilot["state"] == "ACTIVE" and pilot["cores"] == 2 and pilot["reason"]
    assert feed.values("summary")["failures"] == {"TASK_EXIT": 10} and feed.values("summary")["connected"] is True
    feed.until(lambda: sum(row["started"] for row in feed.rows("activity", "activity")) == 40, "all starts")
    feed.until(
        lambda: any(
            line["name"] == session.name and line["tasks"] == {"DONE": 30, "FAILED": 10}
            for line in feed.rows("all", "sessions")
        ),
        "the list of sessions",
    )
    # What the page shows now is what a page that opens now sees.
    other = server.feed()
    other.say("subscribe", id="tasks", view="tasks", session=session.name, window={"limit": 50})
    other.until(lambda: other.shown, "a first picture")
    assert other.shown["tasks"] == feed.shown["tasks"]
    other.close()


def test_a_window_moves(feed: Feed, session: Session) -> None:
    session.array(jrm.Task("sh", ["-c", "test {i} -lt 30"]), i=range(40)).wait(30)
    feed.say("subscribe", id="t", view="tasks", session=session.name, window={"limit": 5})
    feed.until(lambda: feed.values("t").get("counts") == {"DONE": 30, "FAILED": 10}, "the end")
    feed.say("window", id="t", window={"limit": 3, "state": "FAILED", "sort": "param:i", "order": "desc"})
    feed.until(lambda: feed.values("t")["matched"] == 10, "the filter")
    assert [row["uid"] for row in feed.rows("t", "tasks")] == ["t.0.39", "t.0.38", "t.0.37"]
    feed.say("window", id="t", window={"offset": 20, "limit": 2})
    feed.until(lambda: feed.values("t")["offset"] == 20, "the offset")
    assert [row["uid"] for row in feed.rows("t", "tasks")] == ["t.0.20", "t.0.21"]


def test_a_page_that_comes_back_gets_what_it_lacks(server: Server, feed: Feed, session: Session) -> None:
    session.array(jrm.Task("true", ["{i}"]), i=range(5)).wait(30)
    feed.say("subscribe", id="t", view="tasks", session=session.name)
    feed.until(lambda: feed.values("t").get("counts") == {"DONE": 5}, "the end")
    cursor = feed.frames[-1]["cursor"]
    again = server.feed()
    again.say("subscribe", id="t", view="tasks", session=session.name, cursor=cursor)
    assert again.next()["kind"] == "same"
    again.say("resync", id="t")
    again.until(lambda: again.frames[-1]["kind"] == "snapshot", "a snapshot on request")
    again.close()


def test_hidden_views_cost_nothing_and_catch_up(feed: Feed, session: Session) -> None:
    feed.say("subscribe", id="t", view="tasks", session=session.name)
    feed.say("subscribe", id="s", view="summary", session=session.name)
    feed.until(lambda: len(feed.shown) == 2, "first pictures")
    feed.say("visible", visible=False)
    # The socket keeps its order: whatever was on its way is before the answer to a mistake.
    feed.say("resync", id="unknown")
    feed.until(lambda: feed.frames[-1]["kind"] == "error", "an answer")
    feed.calm(0.3)
    session.array(jrm.Task("true", ["{i}"]), i=range(20)).wait(30)
    assert feed.silent(1.0), feed.frames[-1]
    feed.say("visible", visible=True, ids=["s"])
    feed.until(lambda: feed.values("s").get("counts") == {"DONE": 20}, "the shown one catches up")
    assert "DONE" not in feed.values("t")["counts"], "the other one is hidden still"
    feed.say("visible", visible=True)
    feed.until(lambda: feed.values("t").get("counts") == {"DONE": 20}, "the other one catches up")
    feed.say("unsubscribe", id="t")
    feed.say("unsubscribe", id="s")
    feed.say("resync", id="unknown")
    feed.until(lambda: feed.frames[-1]["kind"] == "error", "an answer")
    session.submit(jrm.Task("true")).wait(30)
    assert feed.silent(0.5)


def test_at_most_ten_frames_and_a_megabyte_a_second(feed: Feed, session: Session) -> None:
    feed.say("subscribe", id="t", view="tasks", session=session.name, window={"limit": 1000, "sort": "ended"})
    feed.until(lambda: feed.shown, "a first picture")
    bulk = session.array(jrm.Task("true", ["{i}"]), i=range(1500))
    feed.until(lambda: feed.values("t")["counts"] == {"DONE": 1500}, "the end", 60.0)
    assert bulk.done()
    for first in range(len(feed.at)):
        span = [size for at, size in zip(feed.at, feed.sizes, strict=True) if 0 <= at - feed.at[first] < 1.0]
        # What was made before the span may arrive within it.
        assert len(span) <= 12 and sum(span) <= 1_100_000 + max(span), (len(span), sum(span))


def test_mistakes_are_answered_and_harm_nobody(feed: Feed, session: Session) -> None:
    wrong = [
        b"{",
        b"\xff\xfe",
        b"[]",
        json.dumps({"op": "dance"}),
        json.dumps({"op": "subscribe", "id": "x", "view": "moon", "session": session.name}),
        json.dumps({"op": "subscribe", "id": "", "view": "tasks", "session": session.name}),
        json.dumps({"op": "subscribe", "id": "x", "view": "tasks", "colour": 1}),
        json.dumps({"op": "subscribe", "id": "x", "view": "tasks", "window": {"offset": "7"}}),
        json.dumps({"op": "window", "id": "none", "window": {}}),
        json.dumps({"op": "visible", "visible": True, "ids": ["none"]}),
    ]
    for message in wrong:
        (feed.socket.send_binary if isinstance(message, bytes) else feed.socket.send)(message)
        told = feed.next()
        assert (told["kind"], told["code"]) == ("error", "JRM-Q61") and told["message"] and told["hint"], message
    for name, value in (("offset", "7"), ("at", "12:00"), ("state", ["DONE"])):
        feed.say("window", id="mine", window={name: value})
        told = feed.next()
        assert (told["kind"], told["id"]) == ("error", "mine") and f"{name}: not " in told["message"], told
        assert told["hint"].startswith("give ") and "$" not in told["message"], told
    for moment in (-1e308, 1e300):
        feed.say("subscribe", id="odd", view="usage", session=session.name, window={"begin": moment})
        told = feed.next()
        assert (told["kind"], told["code"], told["message"][:6]) == ("lost", "JRM-Q60", "begin:"), told
    feed.say("unsubscribe", id="odd")
    feed.frames.clear()
    feed.say("subscribe", id="bad", view="tasks", session=session.name, window={"sort": "moon"})
    feed.say("subscribe", id="far", view="tasks", session=session.name, window={"limit": 5000})
    feed.say("subscribe", id="bins", view="activity", session=session.name, window={"bins": 10**9})
    feed.say("subscribe", id="name", view="tasks", session="../../etc")
    feed.until(lambda: sum(frame["kind"] == "lost" for frame in feed.frames) == 4, "all four are told")
    assert {frame["code"] for frame in feed.frames if frame["kind"] == "lost"} == {"JRM-Q60", "JRM-Q02"}
    feed.say("subscribe", id="good", view="summary", session=session.name)
    feed.until(lambda: "good" in feed.shown, "a good one beside them")
    numbers = itertools.count()
    for _ in range(40):
        feed.say("subscribe", id=f"n{next(numbers)}", view="summary", session=session.name)
    feed.until(lambda: any("more than 32" in frame.get("message", "") for frame in feed.frames), "a limit")


def test_a_view_of_no_session_begins_when_there_is_one(server: Server, feed: Feed) -> None:
    name = f"later-{time.time_ns()}"
    feed.say("subscribe", id="t", view="summary", session=name)
    feed.until(lambda: feed.frames[-1]["kind"] == "lost", "it says that there is none")
    assert feed.frames[-1]["code"] == "JRM-Q08"
    server.post("/sessions", {"name": name})
    feed.until(lambda: feed.values("t").get("state") == "open", "the view begins")
    server.ask("DELETE", f"/sessions/{name}")
    feed.until(lambda: feed.values("t").get("state") == "closed", "the view says that it is closed")
    server.post("/sessions", {"name": name})
    feed.until(lambda: feed.values("t").get("state") == "open", "the view follows the new one of that name")


def test_notices_reach_the_event_stream(server: Server, feed: Feed, bare: Session) -> None:
    url = f"ws://{server.host}{server.base}api/events/subscribe"
    events = websocket.create_connection(
        url, header=[f"Authorization: token {TOKEN}"], timeout=20, suppress_origin=True
    )
    feed.say("subscribe", id="all", view="sessions")
    feed.until(lambda: "all" in feed.shown, "a first list")
    feed.until(lambda: bare.name in {line["name"] for line in feed.rows("all", "sessions")}, "the session is listed")
    pilot = bare.pilot("local", cores=1)
    assert pilot.wait(timeout=20) == "ACTIVE"
    # Long enough to be seen at work in a list of sessions.
    bare.submit(jrm.Shell("sleep 2; false")).wait(20)
    seen: set[str] = set()
    end = time.monotonic() + 20
    while not {"pilot-active", "tasks-failed", "tasks-ended"} <= seen:
        assert time.monotonic() < end, seen
        event = json.loads(events.recv())
        if event.get("session") == bare.name:
            seen.add(event["kind"])
    events.close()


def test_a_slow_line_gets_few_frames_and_the_latest_state(server: Server, session: Session) -> None:
    """A screen that reads nothing for a while is not sent a queue of old pictures, and holds nobody else up."""
    slow, quick = server.feed(sockopt=((socket.SOL_SOCKET, socket.SO_RCVBUF, 4096),)), server.feed()
    wide = {"limit": 1000, "sort": "ended", "order": "desc"}
    for number in range(8):
        slow.say("subscribe", id=f"t{number}", view="tasks", session=session.name, window=wide)
    quick.say("subscribe", id="t", view="tasks", session=session.name, window=wide)
    bulk = session.array(jrm.Task("sh", ["-c", "echo {i}"], name="a-name-that-takes-some-room-{i}"), i=range(1200))
    quick.until(lambda: quick.values("t").get("counts") == {"DONE": 1200}, "the quick one sees the end", 60.0)
    assert bulk.done()
    slow.until(lambda: all(slow.values(f"t{n}").get("counts") == {"DONE": 1200} for n in range(8)), "the slow one too")
    assert slow.shown["t0"]["tables"] == quick.shown["t"]["tables"]
    # Each of its eight views got far fewer frames than the one of the quick screen, or hardly any.
    assert len(slow.frames) <= 8 * max(3, len(quick.frames) / 3), (len(slow.frames), len(quick.frames))
    slow.close()
    quick.close()


def test_a_change_is_shown_at_once(feed: Feed, session: Session) -> None:
    """From the end of a task, by the agent's clock, to the frame that shows it."""
    window = {"order": "desc", "limit": 5}
    feed.say("subscribe", id="t", view="tasks", session=session.name, window=window)
    feed.until(lambda: feed.shown, "a first picture")

    def newest() -> dict[str, Any]:
        return (feed.rows("t", "tasks") or [{"uid": "", "ended": None}])[0]

    late = []
    for _ in range(10):
        uid = session.submit(jrm.Task("true")).uid
        feed.until(lambda uid=uid: newest()["uid"] == uid and newest()["ended"], uid)  # type: ignore[misc]
        late.append(time.time() - newest()["ended"])
        feed.calm(0.3)
    print(f"\nfrom a task's end to its frame: median {1000 * statistics.median(late):.0f} ms, worst {max(late):.3f} s")
    assert statistics.median(late) < 2, late  # shown, not polled for; how fast it is says the benchmark
