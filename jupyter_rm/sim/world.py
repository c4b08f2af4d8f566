"""The world in a box: one broker, its pilots' agents, its clients and everything between them, in virtual time.

A seed is a whole history: setup, a phase of faults, then a phase of healing in which nothing goes wrong any more and
all must become final. Nothing here is real (no socket, sleep or file), everything that decides is: the machines, the
placer, the codec. Read next: :mod:`jupyter_rm.testing.oracles` for what is checked.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field

from ..core.patience import Patience
from ..model import facts as facts_of
from ..model.facts import KIND_FACT
from ..model.states import PilotState
from ..testing.chance import chance
from ..testing.faults import Fault, draw
from ..testing.loop import Loop
from ..testing.network import Network
from ..testing.oracles import Broken, Watch
from ..testing.trace import Trace
from .broker import BrokerHost
from .client import Client
from .inflict import Inflict
from .plan import FAULTY_S, Plan
from .site import Site

PATIENCE = Patience(
    beat=10.0, silent=25.0, resend=3.0, hello=2.0, orphan=600.0, rerun=20.0, kept=5.0, ahead=0.2, ahead_longest=0.2
)
# Within so many seconds after the last fault everything must be final, and canceled tasks much earlier.
HEALED_S = 4000.0
CANCELED_S = 150.0
# Events between two looks at whether all is final; looking costs more than an event.
LOOK_EVERY = 16


@dataclass
class Outcome:
    """What became of a seed; ``broken`` is empty when all promises were kept."""

    seed: int
    broken: str
    digest: str
    tasks: int
    pilots: int
    faults: list[Fault]
    executions: int
    events: int
    frames: int
    seconds: float
    story: str = field(repr=False, default="")

    def __str__(self) -> str:
        what = self.broken or "ok"
        return (
            f"seed {self.seed}: {what} ({self.tasks} tasks, {self.pilots} pilots, {len(self.faults)} faults, "
            f"{self.executions} starts, {self.events} events, {self.seconds:.0f} s of virtual time, "
            f"trace {self.digest})"
        )


class World:
    """One simulated world.

    Args:
        seed: everything that happens follows from it.
        bugs: names of mutations the shells put in on purpose (see :mod:`jupyter_rm.testing.mutations`).
        faults: instead of the schedule drawn from the seed.
    """

    def __init__(
        self, seed: int, bugs: frozenset[str] = frozenset(), faults: list[Fault] | None = None, depth: int = 3000
    ) -> None:
        self.seed, self.bugs, self.patience = seed, bugs, PATIENCE
        self.chance = chance(seed, "world")
        self.staging = chance(seed, "staging")  # of its own: worlds without files stay as they were
        self.services = chance(seed, "readiness")  # likewise
        draws = chance(seed, "setup")
        self.loop = Loop()
        self.trace = Trace(depth)
        self.network = Network(
            self.loop, chance(seed, "network"), self.trace, draws.choice((0.0003, 0.005, 0.1)), draws.random() < 0.7
        )
        self.healing = False
        self._watches: dict[str, Watch] = {}
        self.site = Site(self)
        self.broker = BrokerHost(self)
        self.broker.boot()
        session = "study"
        self.clients = [Client(self, at, session, follow=at == 0) for at in range(draws.randint(1, 3))]
        self.plan = Plan(self, chance(seed, "plan"), self.clients)
        self.pilots = draws.choice((1, 2, 3, 3, 3, 4, 5))
        self.tasks = draws.randint(200, 320) if draws.random() < 0.95 else draws.randint(1, 20)
        self.plan.schedule(self.pilots, self.tasks)
        self.faults = draw(chance(seed, "faults"), 2.0, FAULTY_S) if faults is None else faults
        inflict = Inflict(self)
        for fault in self.faults:
            self.loop.after(fault.at, inflict, fault)

    # ------------------------------------------------------------ what its parts ask

    def watch(self, key: str) -> Watch:
        """Return the watch over a session, by its key."""
        watch = self._watches.get(key)
        if watch is None:
            watch = self._watches[key] = Watch(lambda: self.loop.now)
        return watch

    def watch_of(self, session: str) -> Watch:
        """Return the watch over the first session of a name."""
        return self.watch(f"0-{session}")

    def tick_period(self) -> float:
        """Return seconds until a machine's next tick; rare when nothing happens any more."""
        if self.healing and self.loop.now > FAULTY_S + CANCELED_S:
            return self.chance.uniform(7.0, 9.0)
        return self.chance.uniform(1.0, 3.0)

    def revive_broker(self) -> None:
        """Begin the next life of the broker, if it is dead."""
        if self.broker.machine is None:
            self.broker.boot()

    def damage_journal(self) -> None:
        """Lose rows that were committed but not kept yet, and let the watches know what is left."""
        lost = self.broker.disk.damage(self.chance)
        self.trace.note(self.loop.now, "journal", f"damage took {len(lost)} rows")
        if lost:
            for key, watch in self._watches.items():
                left, gone = (
                    [facts_of.decode(body) for name, kind, body in rows if name == key and kind == KIND_FACT]
                    for rows in (self.broker.disk.rows, lost)
                )
                watch.refold(left, gone)

    # ------------------------------------------------------------ one history

    def run(self) -> Outcome:
        """Live through it all and check every promise."""
        broken = ""
        try:
            self.loop.run(FAULTY_S)
            self._heal()
            late = self.loop.now + CANCELED_S
            if not self.loop.run(late, self._quiet):
                self._no_late_cancels()
                if not self.loop.run(self.loop.now + HEALED_S, self._quiet):
                    raise Broken(f"I5 {self._unfinished()}")
            self._finish()
        except Broken as error:
            broken = str(error)
        except Exception as error:
            broken = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
        watches = self._watches.values()
        return Outcome(
            self.seed,
            broken,
            self.trace.digest(),
            sum(len(tasks.state) for watch in watches for tasks in watch.bulks),
            sum(watch.pilots for watch in watches),
            self.faults,
            sum(watch.executions for watch in watches),
            self.loop.events,
            self.network.frames,
            self.loop.now,
            self.trace.story() if broken else "",
        )

    def _heal(self) -> None:
        self.healing = True
        self.trace.note(self.loop.now, "fault", "healing begins")
        self.network.heal()
        self.site.lying = 0.0
        self.broker.frozen_until = 0.0
        self.broker.undoom()
        self.revive_broker()
        for job in self.site.jobs.values():
            if job.agent is not None:
                job.agent.frozen_until = 0.0
        self.plan.healthy_pilot()

    def _quiet(self) -> bool:
        return (
            self.loop.events % LOOK_EVERY == 0
            and all(client.idle for client in self.clients)
            and self.broker.quiet()
            and all(
                job.agent is None or not (job.agent.machine._total_held() or job.agent.performer.running)
                for job in self.site.jobs.values()
            )
        )

    def _caught_up(self) -> bool:
        return all(client.caught_up(self.broker.tip(client.session)) for client in self.clients)

    def _no_late_cancels(self) -> None:
        for watch in self._watches.values():
            late = watch.late_cancels()
            if late:
                raise Broken(f"I8 {len(late)} tasks were to be canceled long ago and are not final: {late[:5]}")

    def _unfinished(self) -> str:
        """Say what still is not final, for people."""
        parts = []
        if self.broker.machine is None:
            return "the broker is dead in the end"
        for session in self.broker.machine.sessions.values():
            parts.append(f"tasks per state {session.ledger.counts.tolist()}")
            for pilot, row in enumerate(session.ledger.pilots):
                port = session.ports.get(pilot)
                job = self.site.jobs.get((session.key, pilot))
                held = job.agent.machine._total_held() if job is not None and job.agent is not None else None
                state = PilotState(row.state).name
                if port is not None:
                    state += f" ready={port.ready} held={port.held} stock={port.stock}"
                parts.append(f"p.{pilot} {state} agent holds {held}")
        busy = [client.address for client in self.clients if not client.idle]
        return "not final in the end: " + "; ".join([*parts, f"clients without answer: {busy}"])

    def _finish(self) -> None:
        assert self.broker.machine is not None
        for _ in range(10):  # an answer may overtake the facts that follow it; asking again must help
            for client in self.clients:
                client.catch_up()
            if self.loop.run(self.loop.now + 15.0, self._caught_up):
                break
        else:
            raise Broken("I6 a client does not hear of everything in the end")
        self.broker.finish()
        for client in self.clients:
            session = self.broker.machine.sessions[self.broker.machine.names[client.session]]
            client.finish(session.ledger)


def run(seed: int, bugs: frozenset[str] = frozenset()) -> Outcome:
    """Run one seed."""
    return World(seed, bugs).run()
