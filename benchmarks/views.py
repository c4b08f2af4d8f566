"""How quickly, how small and how calmly views of a huge session reach a page: 1,000,000 tasks on 100,000 nodes.

A real Jupyter server with our extension, a real websocket on loopback; only the session behind it is simulated
(``_simulated.py``: the same ledger, filled from facts). Measured per view: first picture (time, bytes), going down,
one node of all, what is sent when 1 % of the tasks change, half of them ending and half beginning (``near``: on 1 % of
the nodes; ``far``: on the same nodes, anywhere, which touches every rack; ``apart``: anywhere, so that every rack is
more or less busy than before; of the 200 jobs in line that the queue view shows two start), the most frames and bytes
of any second while everything changes all the time, what a hidden view costs; and how late the server's event loop is
at worst in a second (median of the seconds), beside an idle loop on the same machine. What a page keeps in memory after
minutes of this is measured by ``page.py``.
The limit beside the times is one pass over the columns (``numpy.bincount``), which no picture of them can do without.
``--check`` ends with an error when a bar is missed; ``--quick`` takes a tenth of everything.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "server"), str(HERE.parent / "tests")]

from server_kit import Feed, Server  # noqa: E402

VIEWS: dict[str, dict[str, Any]] = {
    "tasks": {"limit": 100},
    "nodes": {},
    "timeline": {},
    "usage": {},
    "queue": {},
}
BARS = {
    "first s": 2.0,
    "first kB": 300.0,
    "down s": 0.3,
    "detail s": 0.2,
    "delta %": 5.0,
    "frames/s": 10.0,
    "kB/s": 1000.0,
    "late ms": 50.0,
}


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def subscribed(server: Server, view: str, window: dict[str, Any]) -> tuple[Feed, float, int]:
    """Open a view; return its feed, seconds until its first picture, and that picture's bytes."""
    feed = server.feed()
    began = time.perf_counter()
    feed.say("subscribe", id="v", view=view, session="big", window=window)
    feed.until(lambda: "v" in feed.shown, f"a first picture of {view}", 60)
    return feed, time.perf_counter() - began, feed.sizes[-1]


def moved(feed: Feed, window: dict[str, Any]) -> tuple[float, int]:
    """Move a window; return seconds and bytes until the picture of the new one."""
    settled(feed)
    count = len(feed.frames)
    began = time.perf_counter()
    feed.say("window", id="v", window=window)
    feed.until(lambda: any(frame.get("id") == "v" for frame in feed.frames[count:]), "the new picture", 60)
    return time.perf_counter() - began, feed.sizes[-1]


def settled(feed: Feed) -> None:
    """Take what is still coming."""
    end = time.monotonic() + 6.0
    while time.monotonic() < end and not feed.silent(0.7):
        pass


def deltas(feeds: dict[str, Feed], order: Path, how: str) -> dict[str, float]:
    """Change 1 % once; return per view the largest frame that was sent for it, in % of a whole picture."""
    for feed in feeds.values():
        settled(feed)
    counts = {view: len(feed.frames) for view, feed in feeds.items()}
    order.write_text(f"once {how} {time.time()}")
    told = {}
    for view, feed in feeds.items():
        feed.until(lambda f=feed, n=counts[view]: len(f.frames) > n, f"a change in {view}", 20)  # type: ignore[misc]
        settled(feed)
        changed = max(feed.sizes[counts[view] :])
        feed.say("resync", id="v")
        feed.until(lambda f=feed: f.frames[-1]["kind"] == "snapshot", "the whole", 20)  # type: ignore[misc]
        told[view] = 100 * changed / feed.sizes[-1]
    return told


def streamed(feed: Feed, seconds: float) -> tuple[float, float]:
    """Return the most frames and kB of any second while everything changes."""
    count, end = len(feed.frames), time.monotonic() + seconds
    while time.monotonic() < end:
        feed.silent(0.2)
    at, sizes = np.array(feed.at[count:]), np.array(feed.sizes[count:])
    if not len(at):
        return 0.0, 0.0
    windows = [(at >= begin) & (at < begin + 1.0) for begin in at]
    return float(max(mask.sum() for mask in windows)), max(float(sizes[mask].sum()) for mask in windows) / 1000


def late(notes: Path, begin: float, end: float) -> list[float]:
    """Return how late the event loop was at worst, per second of a span, ms."""
    lines = [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []
    return [worst for at, worst in lines if begin <= at <= end]


def limit(tasks: int, nodes: int) -> float:
    """Return the seconds of one pass over the columns."""
    rng = np.random.default_rng(1)
    column, times = rng.integers(0, nodes, tasks), []
    for _ in range(7):
        began = time.perf_counter()
        np.bincount(column, minlength=nodes)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def measure(server: Server, notes: Path, tasks: int, nodes: int) -> dict[str, dict[str, float]]:
    order, told, feeds = Path(f"{notes}.order"), {}, {}
    for view, window in VIEWS.items():
        feed, seconds, size = subscribed(server, view, window)
        feed.close()
        feed, again, _ = subscribed(server, view, window)
        told[view] = {"first s": seconds, "again s": again, "first kB": size / 1000}
        feeds[view] = feed
    say(f"first pictures: {told}")
    for how in ("near", "far", "apart"):
        say(f"changes {how}")
        for view, share in deltas(feeds, order, how).items():
            told[view][f"delta % {how}"] = share
    # Down the map: a rack, a node, back up; and into the timeline.
    downs = []
    for view in ("nodes", "timeline"):
        feed = feeds[view]
        table = feed.rows("v", "cells" if view == "nodes" else "lanes")
        first = table[len(table) // 3]["key"]
        seconds, _ = moved(feed, {"focus": first})
        downs.append(seconds)
        if view == "nodes":
            inside = feed.rows("v", "cells")
            for focus in (inside[len(inside) // 2]["key"], first, ""):
                downs.append(moved(feed, {"focus": focus})[0])
            node = feed.rows("v", "cells")[0]["label"].partition(" to ")[0]
            told[view]["detail s"] = moved(feed, {"focus": node})[0]
            moved(feed, {})
        told[view]["down s"] = max(downs[-4:] if view == "nodes" else downs[-1:])
        if view == "timeline":
            moved(feed, {})  # the map is back already
    say("going down is measured; now everything changes")
    for feed in feeds.values():
        settled(feed)
    began = time.time()
    order.write_text("always")
    results: dict[str, tuple[float, float]] = {}
    threads = [
        threading.Thread(target=lambda v=view, f=feed: results.__setitem__(v, streamed(f, 8.0)))
        for view, feed in feeds.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    worst, alone = (late(file, began, time.time()) for file in (notes, Path(f"{notes}.alone")))
    for view, (frames, size) in results.items():
        told[view] |= {"frames/s": frames, "kB/s": size}
    # A hidden view: what comes in the five seconds after, while everything still changes.
    hidden = feeds["nodes"]
    hidden.say("visible", visible=False, ids=["v"])
    hidden.silent(0.7)
    count = len(hidden.frames)
    end = time.monotonic() + 5.0
    while time.monotonic() < end:
        hidden.silent(0.5)
    told["nodes"]["hidden frames"] = len(hidden.frames) - count
    order.write_text("")
    told["event loop"] = {
        "late ms": statistics.median(worst or [0.0]),
        "worst ms": max(worst, default=0.0),
        "an idle loop beside it: late ms": statistics.median(alone or [0.0]),
        "worst": max(alone, default=0.0),
    }
    told["limit"] = {"one pass s": limit(tasks, nodes)}
    for feed in feeds.values():
        feed.close()
    return told


def missed(told: dict[str, dict[str, float]]) -> list[str]:
    """Return the bars that were missed."""
    out = []
    for view, figures in told.items():
        for name, value in figures.items():
            bar = BARS.get(name.rpartition(" ")[0] if name.startswith("delta %") else name)
            if bar is not None and value > bar:
                out.append(f"{view}: {name} {value:.3g}, bar {bar:g}")
            # What an idle loop is late too is the machine's doing.
            if name == "worst ms" and value - figures["worst"] > BARS["late ms"]:
                out.append(f"{view}: {name} {value:.3g} beside {figures['worst']:.3g} of an idle loop")
            if name == "hidden frames" and value:
                out.append(f"{view}: {value:g} frames while hidden")
    return out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="end with an error when a bar is missed")
    parser.add_argument("--quick", action="store_true", help="a tenth of the tasks and nodes")
    args = parser.parse_args()
    tasks, nodes = (100_000, 10_000) if args.quick else (1_000_000, 100_000)
    with tempfile.TemporaryDirectory() as place:
        notes = Path(place) / "late"
        os.environ |= {"JRM_BENCH_TASKS": str(tasks), "JRM_BENCH_NODES": str(nodes), "JRM_BENCH_NOTES": str(notes)}
        os.environ["PYTHONPATH"] = f"{HERE}:{os.environ.get('PYTHONPATH', '')}"
        idle = subprocess.Popen(
            [sys.executable, str(HERE / "_simulated.py"), f"{notes}.alone"], stdout=subprocess.DEVNULL
        )
        server = Server(Path(place), "--JupyterRM.start_broker=False", beside=("_simulated",))
        try:
            told = measure(server, notes, tasks, nodes)
        finally:
            server.stop(30)
            idle.kill()
            idle.wait()
    print(f"{tasks:,} tasks on {nodes:,} nodes x 64 cores, {os.cpu_count()} cores here, load {os.getloadavg()[0]:.1f}")
    for view, figures in told.items():
        print(f"  {view:<10} " + "   ".join(f"{name} {value:.3g}" for name, value in figures.items()))
    one = told["limit"]["one pass s"]
    print("  first pictures in passes over the columns: ", end="")
    print(", ".join(f"{view} {told[view]['first s'] / one:.0f}" for view in VIEWS))
    wrong = missed(told)
    print("\n".join(f"  MISSED {line}" for line in wrong) or "  all bars are held")
    return 1 if wrong and args.check else 0


if __name__ == "__main__":
    sys.exit(main())
