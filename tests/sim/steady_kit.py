"""A simulated world in which nothing goes wrong but what a test wants: pilots begin and end when it says."""

from __future__ import annotations

import gc
import hashlib
import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jupyter_rm.core.patience import Patience
from jupyter_rm.model.columns import Picks
from jupyter_rm.model.describe import Template
from jupyter_rm.model.facts import PilotSpec
from jupyter_rm.model.messages import RequestPilot, Submit
from jupyter_rm.model.states import Cause, TaskState
from jupyter_rm.sim.broker import BrokerHost
from jupyter_rm.sim.client import Client
from jupyter_rm.sim.site import Job, Site
from jupyter_rm.sim.world import PATIENCE, World
from jupyter_rm.testing.chance import chance
from jupyter_rm.testing.loop import Loop
from jupyter_rm.testing.network import Network
from jupyter_rm.testing.performer import behaviour
from jupyter_rm.testing.trace import Trace


class TimedSite(Site):
    """Jobs wait as long as their option ``after`` says (s) and end with their walltime, whatever runs in them."""

    def _run(self, job: Job) -> None:
        assert isinstance(self._world, Steady)
        spec = self._world.ledger.pilots[job.pilot].spec
        self._world.loop.after(float(spec.options.get("after", "0")), super()._run, job)
        if spec.walltime:
            self._world.loop.after(
                float(spec.options.get("after", "0")) + spec.walltime, self.lose, job, Cause.WALLTIME
            )


class Steady(World):
    """A world without faults, with one client.

    Args:
        pause: s between two looks of a program at what it has to do, shortest and longest.
    """

    def __init__(self, patience: Patience = PATIENCE, pause: tuple[float, float] = (1.0, 3.0), seed: int = 1) -> None:
        self.seed, self.bugs, self.patience = seed, frozenset(), patience
        self.chance, self.staging = chance(seed, "world"), chance(seed, "staging")
        self.loop, self.trace = Loop(), Trace(100)
        self.network = Network(self.loop, chance(seed, "network"), self.trace, 0.0003, True)
        self.healing = False
        self._pause = pause
        self._watches = {}
        self.site = TimedSite(self)
        self.broker = BrokerHost(self)
        self.broker.boot()
        self.client = Client(self, 0, "study", follow=False)
        self.clients = [self.client]
        self._asked = 0

    def tick_period(self) -> float:
        """Return seconds until a machine's next tick."""
        return self.chance.uniform(*self._pause)

    def _key(self) -> bytes:
        self._asked += 1
        return hashlib.md5(f"steady/{self._asked}".encode()).digest()

    def pilot(self, **fields: Any) -> None:
        """Ask for a pilot."""
        message = RequestPilot(0, "study", self._key(), PilotSpec(mem=16_384, queue="now", **fields))
        self.client.when_attached(lambda: self.client.ask(message))

    def submit(self, count: int, kind: str = "medium", after: Sequence[int] = (), **fields: Any) -> None:
        """Submit tasks that run as long as ``kind`` says."""
        template = Template(executable="/bin/simulated", arguments=behaviour(kind, 0.0), **fields)
        named = tuple((bulk, Picks.span(0, 1)) for bulk in after)
        message = Submit(0, "study", self._key(), count, template, {}, None, {}, named)
        self.client.when_attached(lambda: self.client.ask(message))

    @property
    def ledger(self) -> Any:
        """The broker's ledger of the session."""
        assert self.broker.machine is not None
        return self.broker.machine.find("study").ledger

    def until_done(self, count: int, within_s: float) -> float:
        """Live until so many tasks are DONE; return when that was."""

        def done() -> bool:
            if self.loop.events % 16:
                return False
            return int(self.ledger.counts[TaskState.DONE]) >= count

        assert self.loop.run(self.loop.now + within_s, done), f"not done: {self.ledger.counts.tolist()}"
        return self.loop.now


# ------------------------------------------------------------ for days

DAY = 86_400.0
# As in the programs themselves, but slower: for days nothing goes wrong, and every look is an event.
CALM = Patience(beat=120.0, silent=600.0, resend=60.0, hello=30.0, orphan=7200.0, rerun=600.0, kept=60.0)
_CODE = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType)
_PASSED_BY = (*_CODE, World, BrokerHost)


def size_of(*roots: object) -> int:
    """Return the bytes of memory that objects and all they hold take, the simulated world itself left out."""
    seen: set[int] = set()
    left, total = list(roots), 0
    while left:
        one = left.pop()
        if id(one) in seen or isinstance(one, _PASSED_BY):
            continue
        seen.add(id(one))
        total += sys.getsizeof(one)  # of an array its data too, when it owns them
        left += gc.get_referents(one)
    return total


@dataclass
class Day:
    """The end of one day: tasks DONE so far, bytes in the broker's machine, in the agents' that live, pilots so far."""

    number: int
    done: int
    broker: int
    agents: int
    pilots: int


def soak(days: int, tasks: int, walltime: float, bulk: int = 100) -> tuple[Steady, list[Day]]:
    """Live for days with one pilot that renews itself and a bulk now and then; return the world and each day's end.

    Args:
        tasks: in all, spread evenly. walltime: of each pilot, s. bulk: tasks of one submission.
    """
    world = Steady(CALM, (30.0, 60.0))
    world.pilot(nodes=1, cores=8, walltime=walltime, renew=int(days * DAY / walltime) + 10)
    count = tasks // bulk
    for number in range(count):
        world.loop.after(10.0 + number * days * DAY / count, world.submit, bulk)
    ends = []
    for day in range(1, days + 1):
        world.loop.run(day * DAY - 1.0)
        agents = [job.agent.machine for job in world.site.jobs.values() if job.agent is not None]
        done = int(world.ledger.counts[TaskState.DONE])
        assert world.broker.machine is not None
        ends.append(Day(day, done, size_of(world.broker.machine), size_of(*agents), len(world.ledger.pilots)))
    world.until_done(tasks, DAY)
    return world, ends
