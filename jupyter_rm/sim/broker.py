"""The broker in a simulated world: the real machine in the shell that the real program has, life after life.

Inputs at hand are handled, then ``flush``, then facts and payloads are committed in one transaction, then the effects
follow in order, then the followers are fed. A death can fall before the commit, after it, and between any two effects.
Read next: :mod:`jupyter_rm.core.broker`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ..core.broker import BrokerMachine
from ..core.payloads import Payloads
from ..model import facts as facts_of
from ..model.effects import Bring, Effect, EndPilot, Fetch, FromAgent, FromClient, Input, Send, StartPilot, Tick
from ..model.errors import ErrorForm, JrmError
from ..model.facts import (
    KIND_FACT,
    KIND_PAYLOAD,
    BulkSubmitted,
    CancelRequested,
    Fact,
    PilotRequested,
    SessionClosed,
    SessionOpened,
)
from ..model.ledger import Ledger
from ..model.messages import AgentHello, Attach, Attached, Feed, Message, Refused, Up
from ..model.states import PilotState, TaskState
from ..testing.clock import Clock
from ..testing.disk import JournalDisk
from ..testing.oracles import Broken, agreed
from ..testing.stager import carry
from ..wire import codec

if TYPE_CHECKING:
    from .world import World

ADDRESS = "broker"
# What clients were promised; damage that takes it cannot be healed by agents (they never had it).
_PROMISED = (SessionOpened, SessionClosed, BulkSubmitted, PilotRequested, CancelRequested)


class BrokerHost:
    """The broker's machine, its disk, its clock, and the lives of the broker on it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.disk = JournalDisk()
        self.clock = Clock(world.loop, world.chance)
        self.machine: BrokerMachine | None = None
        self.frozen_until = 0.0
        self._life = 0
        self._doom: float | None = None
        self._pause = 1.0
        self._inbox: list[Input] = []
        self._planned = False
        self._kept_at = 0.0
        self._dirty = False
        self._followers: dict[str, dict[bytes, str]] = {}
        self._tips: dict[str, int] = {}
        self._hellos: dict[tuple[str, int], tuple[int, int]] = {}
        self._heard: dict[tuple[str, int], float] = {}

    # ------------------------------------------------------------ life and death

    def boot(self) -> None:
        """Begin a life from the journal."""
        world = self._world
        self._life += 1
        self.disk.incarnation += 1
        payloads = Payloads(self._function)
        self.machine = BrokerMachine(
            self.disk.incarnation, payloads=payloads, wall=self.clock.wall, host="sim", patience=world.patience
        )
        self._doom, self._planned, self._dirty = None, False, True
        self._inbox.clear()
        self._followers.clear()
        self._hellos.clear()
        self._heard.clear()
        for key, ledger in replay(self.disk).items():
            self.machine.adopt(key, ledger)
            for pilot in range(len(ledger.pilots)):
                self._heard[key, pilot] = self.clock.boot()
            for kind, body in ((kind, body) for name, kind, body in self.disk.rows if name == key):
                if kind == KIND_PAYLOAD:
                    bulk, payload, functions = body
                    is_open = bulk < len(ledger.bulks) and bool(ledger.bulks[bulk].open)
                    called = ledger.bulks[bulk].form.template.function if is_open else b""
                    payloads.restore(key, bulk, payload if is_open else None, functions, called)
        self._tips = {}
        for number, (key, kind, _) in enumerate(self.disk.rows, 1):
            if kind == KIND_FACT:
                self._tips[key] = number
        world.trace.note(world.loop.now, ADDRESS, f"broker starts, incarnation {self.disk.incarnation}")
        world.network.listen(ADDRESS, self._frame)
        turn = self.machine.recover(self._now())
        self._carry_out(turn.facts, turn.effects)
        self._tick(self._life)
        world.site.new_broker()
        world.loop.after(world.chance.uniform(0.0, 5.0), self._poll, self._life)

    def _function(self, sha256: bytes) -> bytes | None:
        for _, kind, body in self.disk.rows:
            if kind == KIND_PAYLOAD and sha256 in body[2]:
                function: bytes = body[2][sha256]
                return function
        return None

    def die(self, pause: float | None = None) -> None:
        """End at once; the next life begins ``pause`` seconds later (None: as ``doom`` was told)."""
        if self.machine is not None:
            self._world.loop.after(self._pause if pause is None else pause, self._world.revive_broker)
            self.machine = None
            self._life += 1
            self._world.network.listen(ADDRESS, None)
            self._world.trace.note(self._world.loop.now, ADDRESS, "broker is dead")

    def doom(self, where: float, pause: float) -> None:
        """Let it die inside its next round that decides something, at the latest in 3 s, for ``pause`` seconds.

        ``where`` 0..1: below 0.3 before the commit, else after that part of the effects.
        """
        self._doom, self._pause = where, pause
        self._world.loop.after(3.0, self._expire, self._life)

    def undoom(self) -> None:
        """Let it live after all."""
        self._doom = None

    def _expire(self, life: int) -> None:
        if life == self._life and self._doom is not None:
            self.die()

    # ------------------------------------------------------------ inputs

    def _now(self) -> float:
        return self.clock.wall() if "wall-clock-lease" in self._world.bugs else self.clock.boot()

    def input(self, news: Input) -> None:
        """Take something in, to be handled in the next round."""
        if self.machine is not None:
            self._inbox.append(news)
            self._plan()

    def _plan(self) -> None:
        if not self._planned:
            self._planned = True
            self._world.loop.after(self._world.chance.uniform(0.001, 0.012), self._round, self._life)

    def _frame(self, source: str, frame: bytes) -> None:
        if source.startswith("a."):
            self.input(FromAgent(codec.from_agent.decode(frame)))
        else:
            self.input(FromClient(source.encode(), codec.from_client.decode(frame)))

    def _tick(self, life: int) -> None:
        if life == self._life:
            self.input(Tick())
            self._world.loop.after(self._world.tick_period(), self._tick, life)

    def _poll(self, life: int) -> None:
        if life == self._life:
            self._world.site.poll()
            self._world.loop.after(self._world.chance.uniform(4.0, 16.0), self._poll, life)

    # ------------------------------------------------------------ one round

    def _round(self, life: int) -> None:
        if life != self._life or self.machine is None:
            return
        self._planned = False
        if self._world.loop.now < self.frozen_until:
            self._planned = True
            self._world.loop.after(self.frozen_until - self._world.loop.now, self._round, life)
            return
        now = self._now()
        news, self._inbox = self._inbox, []
        for item in news:
            self._handle(now, item)
            if life != self._life:
                return
        self._flush(now)
        if life != self._life or self.machine is None:
            return
        if self._dirty and now - self._kept_at >= self._world.patience.kept:
            self._kept_at, self._dirty = now, False
            self.disk.checkpoint()
            self.machine.kept()
            self._plan()

    def _flush(self, now: float) -> None:
        assert self.machine is not None
        turn = self.machine.flush(now)
        if turn.facts or turn.effects or self.machine.payloads.pending:
            self._carry_out(turn.facts, turn.effects)

    def _handle(self, now: float, item: Input) -> None:
        assert self.machine is not None
        if isinstance(item, FromAgent):
            self._agent(now, item)
        elif isinstance(item, FromClient) and isinstance(item.message, Attach):
            try:
                self._attach(now, item.client, item.message)
            except JrmError as error:
                self._to(item.client, Refused(item.message.req, ErrorForm.of(error)))
        else:
            if isinstance(item, Tick):
                self._excuse()
            self.machine.handle(now, item)

    def _agent(self, now: float, item: FromAgent) -> None:
        assert self.machine is not None
        message = item.message
        assert isinstance(message, (AgentHello, Up))
        key = (message.session, message.pilot)
        known = self._hellos.get(key, (-1, -1))
        said = (message.epoch, message.hello)
        session = self.machine.sessions.get(message.session)
        stale = said < known or (isinstance(message, Up) and message.incarnation != self.machine.incarnation)
        if not stale:
            self._heard[key] = self.clock.boot()
        facts = len(session._turn.facts) if session is not None else 0
        self.machine.handle(now, item)
        if stale and session is not None and len(session._turn.facts) != facts:
            raise Broken(f"I4 the broker took news of a stale connection: {message!r}"[:400])
        if isinstance(message, AgentHello) and said > known:
            self._hellos[key] = said

    def _excuse(self) -> None:
        """Note what may be run again because its pilot is truly silent, by the only clock that counts."""
        assert self.machine is not None
        world = self._world
        now = self.clock.boot()
        for key, session in self.machine.sessions.items():
            for pilot, row in enumerate(session.ledger.pilots):
                heard = self._heard.setdefault((key, pilot), now)
                if row.state.final or now - heard < world.patience.silent + world.patience.rerun:
                    continue
                for bulk, table in enumerate(session.ledger.bulks):
                    if table.form.template.on_silence == "rerun":
                        for index in session.ledger.held(bulk, pilot).tolist():
                            world.watch(key).excuse(bulk, index, int(table.attempt[index]))

    def _carry_out(self, facts: list[tuple[str, Fact]], effects: list[Effect]) -> None:
        world, machine = self._world, self.machine
        assert machine is not None
        if "effects-before-journal" in world.bugs:
            effects = self._perform_early(effects)
        elif "ack-before-commit" in world.bugs:
            answers = [isinstance(effect, Send) and isinstance(effect.to, bytes) for effect in effects]
            self._perform_early([effect for effect, answer in zip(effects, answers, strict=True) if answer])
            effects = [effect for effect, answer in zip(effects, answers, strict=True) if not answer]
        doom = self._doom if facts or effects else None
        if doom is not None and doom < 0.3:
            self.die()
            return
        fed = self._commit(facts)
        cut = int((doom - 0.3) / 0.7 * (len(effects) + 1)) if doom is not None else -1
        for at, effect in enumerate(effects):
            if at == cut:
                break
            self._perform(effect)
        if doom is not None:
            self.die()
            return
        for key, (before, bodies) in fed.items():
            for client, label in self._followers.get(key, {}).items():
                self._to(client, Feed(label, before, self._tips[key], tuple(map(msgspec.Raw, bodies))))

    def _perform_early(self, effects: list[Effect]) -> list[Effect]:
        for effect in effects:
            self._perform(effect)
        return []

    def _commit(self, facts: list[tuple[str, Fact]]) -> dict[str, tuple[int, list[bytes]]]:
        assert self.machine is not None
        pending = self.machine.payloads.pending
        rows: list[tuple[str, int, Any]] = [
            (key, KIND_PAYLOAD, (bulk, payload, functions)) for key, bulk, payload, functions in pending
        ]
        pending.clear()
        fed: dict[str, tuple[int, list[bytes]]] = {}
        number = len(self.disk.rows) + len(rows)
        for key, fact in facts:
            body = facts_of.encode(fact)
            rows.append((key, KIND_FACT, body))
            number += 1
            fed.setdefault(key, (self._tips.get(key, 0), []))[1].append(body)
            self._tips[key] = number
        if rows:
            self.disk.commit(rows, safe=any(isinstance(fact, _PROMISED) for _, fact in facts))
            self._dirty = True
        for _, bodies in fed.values():
            self._world.trace.rows(self._world.loop.now, bodies)
        for key, fact in facts:
            self._world.trace.note(self._world.loop.now, "journal", fact)
            self._world.watch(key).committed(fact)
        return fed

    def _perform(self, effect: Effect) -> None:
        if isinstance(effect, Send):
            self._to(effect.to, effect.message)
        elif isinstance(effect, StartPilot):
            self._world.site.start(effect)
        elif isinstance(effect, EndPilot):
            self._world.site.end(effect)
        elif isinstance(effect, (Bring, Fetch)):
            self._carry(effect)
        else:
            raise TypeError(type(effect).__name__)

    def _carry(self, order: Bring | Fetch) -> None:
        """Have files carried, some time later, if this life of the broker lasts so long."""
        assert self.machine is not None
        world, life = self._world, self._life
        watch, form = world.watch(order.session), self.machine.sessions[order.session].ledger.bulks[order.bulk].form

        def arrived(news: Input) -> None:
            if life == self._life:
                self.input(news)

        def home(index: int, attempt: int) -> None:
            watch.staged(order.bulk, index, attempt, home=True)

        for after, news in carry(order, form, world.staging, lambda *who: home(*who) if life == self._life else None):
            world.loop.after(after, lambda news=news: arrived(news()))

    def _to(self, to: object, message: Message) -> None:
        if isinstance(to, bytes):
            address = to.decode()
        else:
            assert isinstance(to, tuple)
            address = f"a.{to[0]}.{to[1]}"
        self._world.network.send(ADDRESS, address, codec.encode(message))

    # ------------------------------------------------------------ readers

    def _attach(self, now: float, client: bytes, message: Attach) -> None:
        assert self.machine is not None
        life = self._life
        session, created = self.machine.open(message.session, message.owner, create=message.create)
        self._flush(now)  # what was decided so far is committed before the snapshot is taken
        if life != self._life:
            return
        tip = self._tips[session.key]
        self._followers.setdefault(session.key, {})[client] = message.session
        if 0 < message.cursor <= tip:
            self._to(client, Attached(message.req, message.session, message.cursor, b"", created))
            missed = tuple(
                msgspec.Raw(body)
                for key, kind, body in self.disk.rows[message.cursor :]
                if key == session.key and kind == KIND_FACT
            )
            self._to(client, Feed(message.session, message.cursor, tip, missed))
        else:
            self._to(client, Attached(message.req, message.session, tip, session.ledger.dump(), created))

    # ------------------------------------------------------------ the end

    def quiet(self) -> bool:
        """Say whether every task is final and no port holds anything."""
        return self.machine is not None and all(
            not session.ledger.counts[: TaskState.DONE].any() and not any(port.held for port in session.ports.values())
            for session in self.machine.sessions.values()
        )

    def tip(self, session: str) -> int:
        """Return the number of the last fact of the latest session of that name."""
        return self._tips[self.machine.names[session]] if self.machine is not None else 0

    def finish(self) -> None:
        """Check ports and ledgers against journal and snapshots."""
        assert self.machine is not None
        ledgers = replay(self.disk)
        for key, session in self.machine.sessions.items():
            agreed(session.ledger, ledgers[key], "the replayed journal")
            agreed(session.ledger, Ledger.load(session.ledger.dump()), "its own snapshot")
            for pilot, port in session.ports.items():
                if port.held:
                    state = PilotState(session.ledger.pilots[pilot].state).name
                    raise Broken(f"I5 the broker thinks that p.{pilot} ({state}) holds {port.held} tasks in the end")
            self._world.watch(key).finish(session.ledger)


def replay(disk: JournalDisk) -> dict[str, Ledger]:
    """Return the ledgers that the committed facts make."""
    ledgers: dict[str, Ledger] = {}
    for key, kind, body in disk.rows:
        if kind == KIND_FACT:
            ledgers.setdefault(key, Ledger()).apply(facts_of.decode(body))
    return ledgers
