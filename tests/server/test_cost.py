"""What the extension costs: at the start of the server, and with a million tasks on the screen."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from ledger_kit import BEGIN, WORDS, Held
from server_kit import Server

import jupyter_rm as jrm
from jupyter_rm.model.states import TaskState
from jupyter_rm.views import catalog, pictures, tables
from jupyter_rm.views.feed import Cutter
from jupyter_rm.views.windows import Window

MILLION = 1_000_000
NODES = 100_000
START_MS = 150.0

_START = """
import json, sys, time
from jupyter_server.serverapp import ServerApp
app = ServerApp()
before = set(sys.modules)
began = time.perf_counter()
from jupyter_rm.server import _jupyter_server_extension_points
point = _jupyter_server_extension_points()[0]
made = point["app"]()
made.settings["x"] = 1
made.initialize_settings()
made.initialize_handlers()
took = time.perf_counter() - began
print(json.dumps({"ms": 1000 * took, "heavy": [m for m in ("numpy", "zmq", "pandas", "bokeh", "paramiko", "apsw")
                                               if m in sys.modules and m not in before]}))
"""


def test_the_start_of_a_server_is_not_delayed() -> None:
    told = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", _START], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        told.append(json.loads(done.stdout.splitlines()[-1]))
    assert told[0]["heavy"] == [], "what is heavy is loaded when it is needed"
    assert min(each["ms"] for each in told) <= START_MS, told


def held_by(server: Server) -> tuple[float, float]:
    """Return the MB that a server has in memory, and those that it shares with nobody."""
    lines = Path(f"/proc/{server.process.pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1000 for line in lines}
    return sizes["Rss"], sizes["Private_Clean"] + sizes["Private_Dirty"]


def test_the_extension_adds_little_to_the_memory_of_a_server(home: Path) -> None:
    """Thirty MB, with all views open and their figures drawn; Bokeh alone would take half of that."""
    bare = Server(home, with_ours=False)
    try:
        bare.ask("GET", "/api", path_is_whole=True)
        before, alone = held_by(bare)
    finally:
        bare.stop()
    server = Server(home)
    try:
        server.ask("GET", "/api", path_is_whole=True)
        at_start = held_by(server)[0] - before
        jrm.open("small").array(jrm.Task("work", ["{i}"]), i=range(10))
        feed = server.feed()
        for view in ("tasks", "nodes", "timeline", "usage", "queue"):
            feed.say("subscribe", id=view, view=view, session="small")
            feed.until(lambda view=view: view in feed.shown, view)  # type: ignore[misc]
            assert server.get(f"/figures/{view}?theme=dark")["theme"] == "dark"
        grown, own = held_by(server)[0] - before, held_by(server)[1] - alone
    finally:
        server.stop()
    print(
        f"\nMB more than without: {at_start:.1f} at the start, {grown:.1f} with five views, {own:.1f} of those its own"
    )
    assert at_start < 10 and grown < 30, (at_start, grown, own)


def million() -> Held:
    held = Held()
    held.bulk(MILLION, "job-{x}", x=np.arange(MILLION) % 977)
    held.pilot(nodes=NODES)
    rng = np.random.default_rng(3)
    half = MILLION // 2
    held.start(0, np.arange(MILLION), node=np.arange(MILLION) % NODES, at=BEGIN + rng.uniform(0, 3000, MILLION))
    states = rng.choice([TaskState.DONE, TaskState.FAILED], half, p=[0.99, 0.01])
    held.end(0, np.arange(half), states, at=BEGIN + 3000 + rng.uniform(0, 600, half))
    return held


def test_a_million_tasks_are_shown_in_time_and_size() -> None:
    held = million()
    shots = {
        "summary": lambda: pictures.summary(held, WORDS),
        "tasks": lambda: pictures.tasks(held, WORDS, tables.Query(), 500_000, 200),
        "failed": lambda: pictures.tasks(held, WORDS, tables.Query.of({"state": "FAILED"}), 0, 200),
        "sorted": lambda: pictures.tasks(held, WORDS, tables.Query.of({"sort": "started", "order": "desc"}), 0, 200),
        "by parameter": lambda: pictures.tasks(held, WORDS, tables.Query.of({"sort": "param:x"}), 300_000, 200),
        "activity": lambda: pictures.activity(held, BEGIN + 3700, 200),
    }
    for view in ("nodes", "timeline", "usage", "queue"):
        shots[view] = lambda view=view: catalog.picture(view, held, WORDS, Window(), BEGIN + 3700)  # type: ignore[misc]
    everything = catalog.picture("nodes", held, WORDS, Window(), BEGIN + 3700).tables["cells"].rows
    rack, node = str(everything[7][0]), f"node{NODES // 2}"
    for focus in (rack, node):
        shots[f"nodes in {focus}"] = lambda focus=focus: catalog.picture(  # type: ignore[misc]
            "nodes", held, WORDS, Window(focus=focus), BEGIN + 3700
        )
    told = {}
    for name, shot in shots.items():
        began = time.perf_counter()
        frame = Cutter().cut(shot(), {}) or b""
        told[name] = (round(time.perf_counter() - began, 3), len(frame))
    print("\nseconds and bytes of first views of a million tasks:", told)
    assert all(seconds <= 2.0 and size <= 300_000 for seconds, size in told.values()), told


def test_the_event_loop_stays_free_under_a_million_tasks(home: Path) -> None:
    """A server that takes a million tasks in and shows them still answers everybody else at once."""
    server = Server(home)
    try:
        session = jrm.open("big")
        session.pilot("noop", nodes=4, cores=64).wait(timeout=20)
        server.get("/sessions/big")
        feeds = []
        for window in ({}, {"sort": "ended", "order": "desc"}, {"state": "RUNNING"}):
            feed = server.feed()
            feed.say("subscribe", id="s", view="summary", session="big")
            feed.say("subscribe", id="t", view="tasks", session="big", window=window)
            for view in ("activity", "nodes", "timeline", "usage"):
                feed.say("subscribe", id=view, view=view, session="big")
            feed.until(lambda feed=feed: len(feed.shown) == 6, "first pictures")  # type: ignore[misc]
            feeds.append(feed)
        stop = threading.Event()
        delays: list[float] = []

        def probe() -> None:
            while not stop.is_set():
                began = time.perf_counter()
                server.ask("GET", "/api", path_is_whole=True)
                delays.append(time.perf_counter() - began)
                stop.wait(0.02)

        watcher = threading.Thread(target=probe)
        watcher.start()
        try:
            bulk = session.array(jrm.Task("work", ["{i}"]), i=range(MILLION))
            for feed in feeds:
                feed.until(lambda feed=feed: feed.values("t")["counts"] == {"DONE": MILLION}, "the end", 120.0)  # type: ignore[misc]
            assert bulk.done() or bulk.wait(30)
        finally:
            stop.set()
            watcher.join()
        delays.sort()
        late = delays[int(0.99 * len(delays))]
        worst = delays[-1]
        print(
            f"\n{len(delays)} requests meanwhile: median {1000 * statistics.median(delays):.1f} ms, "
            f"99 % {1000 * late:.1f} ms, worst {1000 * worst:.1f} ms"
        )
        # The bar is 50 ms on a quiet machine; here other programs compute on the same cores.
        assert statistics.median(delays) <= 0.05 and late <= 0.5, (late, worst)
    finally:
        server.stop()
