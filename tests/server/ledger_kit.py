"""Ledgers of any size and state for tests of views, made from facts as everywhere."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from jupyter_rm.model import facts as f
from jupyter_rm.model.columns import Column, Picks, pack
from jupyter_rm.model.describe import Template
from jupyter_rm.model.ledger import Ledger
from jupyter_rm.model.resources import Node
from jupyter_rm.model.states import Cause, PilotState, TaskState
from jupyter_rm.views.pictures import Words

WORDS = Words(task=lambda table, index: TaskState(int(table.state[index])).name.lower(), pilot=lambda row: row.reason)
BEGIN = 1_700_000_000.0


class Held:
    """A ledger with its lock; the methods fold facts in."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.changed = threading.RLock()
        self.apply(f.SessionOpened("big", BEGIN))

    def apply(self, fact: f.Fact) -> None:
        with self.changed:
            self.ledger.apply(fact)

    def bulk(self, count: int, name: str = "", **columns: Any) -> int:
        number = len(self.ledger.bulks)
        template = Template(executable="simulate", name=name, params=bool(columns))
        made = {key: Column.of(values) for key, values in columns.items()}
        self.apply(f.BulkSubmitted(number, number.to_bytes(16, "big"), BEGIN + 1, count, template, made))
        return number

    def pilot(self, nodes: int = 1, cores: int = 64) -> int:
        number = len(self.ledger.pilots)
        self.apply(f.PilotRequested(number, number.to_bytes(16, "big"), BEGIN + 2, f.PilotSpec(cores=cores)))
        hosts = tuple(Node(f"node{place}", cores, 0, 1 << 20) for place in range(nodes))
        self.apply(f.PilotChanged(number, PilotState.ACTIVE, BEGIN + 3, reason="takes tasks", nodes=hosts))
        return number

    def start(self, bulk: int, index: Any, pilot: int = 0, node: Any = 0, at: Any = BEGIN + 10) -> None:
        picks = Picks.of(np.asarray(index))
        started = np.broadcast_to(np.asarray(at, float), (len(picks),))
        self.apply(f.TasksAssigned(bulk, picks, pilot, BEGIN + 5))
        nodes = np.broadcast_to(np.asarray(node), (len(picks),))
        self.apply(f.TasksStarted(bulk, picks, pilot, f.ONE, pack(nodes, "<u4"), pack(started, "<f8")))

    def end(self, bulk: int, index: Any, state: Any = TaskState.DONE, pilot: int = 0, at: Any = BEGIN + 20) -> None:
        picks = Picks.of(np.asarray(index))
        count = len(picks)
        table = self.ledger.bulks[bulk]
        where = picks.where
        states = np.broadcast_to(np.asarray(state), (count,))
        failed = states == TaskState.FAILED
        ends = f.Ends(
            cause=pack(np.where(failed, Cause.TASK_EXIT, Cause.NONE), "<u1"),
            code=pack(failed.astype(int), "<i4"),
            node=pack(table.node[where], "<u4"),
            started=pack(table.started[where], "<f8"),
            ended=pack(np.broadcast_to(np.asarray(at, float), (count,)), "<f8"),
            user=pack(np.ones(count), "<f4"),
            sys=pack(np.zeros(count), "<f4"),
            rss=pack(np.full(count, 1000), "<u4"),
        )
        self.apply(f.TasksEnded(bulk, picks, pilot, f.ONE, pack(states, "<u1"), ends))
