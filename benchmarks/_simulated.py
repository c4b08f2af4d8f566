"""A Jupyter server extension that shows a simulated session of any size through our feed, for ``views.py``.

It stands after ours: the hub's sessions are replaced by one ledger made from facts, which a thread changes as news of
an agent would. Everything from the ledger to the websocket is the real thing. It also notes how late the event loop is.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "server"))

from ledger_kit import Held  # noqa: E402

from jupyter_rm.batch import JobRecord, JobState  # noqa: E402
from jupyter_rm.batch.picture import Part, SitePicture, picture  # noqa: E402
from jupyter_rm.broker.seen import view_of  # noqa: E402
from jupyter_rm.client.replica import Replica  # noqa: E402
from jupyter_rm.model import facts as f  # noqa: E402
from jupyter_rm.model.errors import LinkError  # noqa: E402
from jupyter_rm.model.states import TaskState  # noqa: E402

TASKS = int(os.environ.get("JRM_BENCH_TASKS", "1000000"))
NODES = int(os.environ.get("JRM_BENCH_NODES", "100000"))
LINE, SITE = 200, "slurm+ssh://me@login.example.org"
NOTES = Path(os.environ.get("JRM_BENCH_NOTES", "/dev/null"))


class Followed(Held):
    """A ledger in a replica, so that screens are told of changes."""

    def __init__(self) -> None:
        self.replica = Replica("big")
        self.replica.attached = True
        super().__init__()
        self.replica.ledger = self.ledger
        self.changed = self.replica.changed  # type: ignore[assignment]
        self.begun = 0  # jobs of the line that have started

    def move_line(self) -> None:
        """Let two jobs of the line begin: all others move up."""
        self.begun += 2
        jobs = [
            JobRecord(str(n), JobState.RUNNING, queue="batch", user=f"user{n % 17}", start=time.time(), nodes=("n01",))
            if n < self.begun
            else JobRecord(str(n), JobState.QUEUED, queue="batch", user=f"user{n % 17}", priority=1e6 - n, submit=1e9)
            for n in range(max(0, self.begun - 20), self.begun + LINE)
        ]
        seen = SitePicture(self.begun, {}, queue=picture(jobs, "me"), parts={"queue": Part(time.time())})
        with self.replica.changed:
            self.replica.sites = {SITE: view_of(SITE, "Slurm", seen)}

    def apply(self, fact: f.Fact) -> None:
        with self.replica.changed:
            self.ledger.apply(fact)
            self.replica.cursor += 1

    def tell(self) -> None:
        """Wake who waits for news."""
        with self.replica.changed:
            ready = self.replica._met()
            self.replica.changed.notify_all()
        for call in ready:
            call()


class Session:
    """What the server needs of a session."""

    name = "big"

    def __init__(self, held: Followed) -> None:
        self._replica = held.replica


def made() -> Followed:
    """Return the session: half of the tasks done, four tenths running, the rest waiting."""
    held, rng, now = Followed(), np.random.default_rng(5), time.time()
    held.ledger.opened_at = now - 3600
    held.move_line()
    held.pilot(nodes=NODES, cores=64)
    held.ledger.pilots[0].times = {1: now - 3590, 4: now - 3500}
    held.bulk(TASKS, "job")
    busy = np.arange(int(0.9 * TASKS))
    held.start(0, busy, node=rng.integers(0, NODES, len(busy)), at=now - rng.uniform(60, 3400, len(busy)))
    half = np.arange(TASKS // 2)
    states = rng.choice([TaskState.DONE, TaskState.FAILED], len(half), p=[0.99, 0.01])
    held.end(0, half, states, at=held.ledger.bulks[0].started[half] + rng.uniform(1, 55, len(half)))
    return held


def change(held: Followed, rng: Any, how: str, count: int) -> None:
    """End ``count`` tasks and start as many; when too few wait, some are submitted.

    Args:
        how: ``near``: on 1 % of the nodes; ``far``: on the same nodes, anywhere; ``apart``: each on any node.
    """
    now, low = time.time(), int(rng.integers(0, max(1, NODES - NODES // 100)))
    bulks = held.ledger.bulks
    if bulks[-1].counts[TaskState.WAITING] < count:
        held.bulk(TASKS // 5, "more")
    left, last = count, len(bulks) - 1
    for number, table in enumerate(bulks):
        running = np.flatnonzero(table.state == TaskState.RUNNING)
        if how == "near":
            running = running[(table.node[running] >= low) & (table.node[running] < low + NODES // 100)]
        if not len(running) or not left:
            continue
        ended = np.unique(running[rng.integers(0, len(running), left)])
        begun = np.flatnonzero(bulks[last].state == TaskState.WAITING)[: len(ended)]
        nodes = rng.integers(0, NODES, len(begun)) if how == "apart" else table.node[ended].copy()
        held.end(number, ended, TaskState.DONE, at=now)
        held.start(last, begun, node=nodes, at=now)
        left = 0 if len(ended) > count // 2 else count - len(ended)
    held.move_line()
    held.tell()


async def lateness(notes: Path) -> None:
    """Write to ``notes``, once a second, how late the event loop was at worst, ms."""
    worst, wrote, last = 0.0, time.monotonic(), time.perf_counter()
    while True:
        await asyncio.sleep(0.005)
        here = time.perf_counter()
        worst, last = max(worst, here - last - 0.005), here
        if time.monotonic() - wrote >= 1.0:
            with notes.open("a") as file:
                file.write(json.dumps([time.time(), round(1000 * worst, 1)]) + "\n")
            worst, wrote, last = 0.0, time.monotonic(), time.perf_counter()


def nobody(*_: Any, **__: Any) -> None:
    """Refuse to reach a broker: who looks for other sessions would start one, which outlives the benchmark."""
    raise LinkError("the session is simulated", hint="ask for nothing else", code="JRM-T02")


def _load_jupyter_server_extension(app: Any) -> None:
    """Wait: our extension is loaded after this one."""


async def _start_jupyter_server_extension(app: Any) -> None:
    hub = app.web_app.settings["jupyter_rm_hub"]
    held = made()
    session = Session(held)
    hub.session = lambda name, create=False: session
    hub.keeper.connection = nobody
    type(hub.keeper).connected = property(lambda self: True)
    order = Path(f"{NOTES}.order")

    def obey() -> None:
        """Change the session as the file says: "" nothing, "once near", "once far", "once apart", "often", "always"."""
        rng, done, last = np.random.default_rng(9), "", 0.0
        pause = threading.Event()
        while not pause.wait(0.05):
            text = order.read_text() if order.exists() else ""
            if text.startswith("once") and text != done:
                change(held, rng, text.split()[1], TASKS // 200)
            elif text == "always":
                change(held, rng, "apart", TASKS // 200)
            elif text == "often" and time.monotonic() - last >= 0.5:
                last = time.monotonic()
                change(held, rng, "apart", TASKS // 2000)
            done = text

    threading.Thread(target=obey, daemon=True).start()
    app.jrm_lateness = asyncio.get_running_loop().create_task(lateness(NOTES))


if __name__ == "__main__":  # nothing but the clock: what lateness this machine has by itself
    asyncio.run(lateness(Path(sys.argv[1])))
