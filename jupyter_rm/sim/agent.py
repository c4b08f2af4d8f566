"""One life of an agent in a simulated world: the real machine in the shell that the real program has.

Inputs at hand are handled, then ``flush``, then the effects in order, Spool before Send, a Launch only after the Spool
before it is synced. A death can fall between any two effects. Read next: :mod:`jupyter_rm.core.agent`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.agent import AgentMachine
from ..model.effects import (
    Delivered,
    Effect,
    End,
    Explain,
    Explained,
    Forget,
    FromBroker,
    Heard,
    Input,
    Kill,
    Launch,
    Retract,
    RunAhead,
    Send,
    Spool,
    StageIn,
    StageOut,
    Tick,
    Unstage,
    Unwatch,
    Watch,
)
from ..model.ids import INDEX_BITS
from ..model.messages import AgentHello, Down
from ..testing.oracles import Broken
from ..testing.performer import Performer
from ..testing.stager import Stager
from ..wire import codec

if TYPE_CHECKING:
    from .site import Job
    from .world import World

LINGER = 20.0  # seconds an agent that ends waits for its last words to be acknowledged


class AgentLife:
    """From the start of the agent's process to its end."""

    def __init__(self, world: World, job: Job) -> None:
        self._world, self.job = world, job
        self.alive = True
        self.frozen_until = 0.0
        self._doom: float | None = None
        self._inbox: list[Input] = []
        self._planned = False
        self._ending: float | None = None
        now = job.clock.boot()
        spooled = [] if "spool-ignored" in world.bugs else job.spool.load()
        self.machine = AgentMachine(
            job.session, job.pilot, job.epoch, job.nodes, spooled=spooled, patience=world.patience, now=now,
            bundle=job.bundle,
        )  # fmt: skip
        self.performer = Performer(
            world.loop, world.chance, job.clock, self.machine.holdings, world.watch(job.session), job.pilot, self._plan
        )
        self.stager = Stager(world.loop, world.staging, self.machine.holdings, world.watch(job.session), self._moved)
        world.network.listen(job.address, self._frame)
        world.trace.note(world.loop.now, job.address, f"agent starts, epoch {job.epoch}")
        self._perform(self.machine.start(now))
        self._tick()

    # ------------------------------------------------------------ life and death

    def die(self) -> None:
        """End at once."""
        self.alive = False
        self.performer.stop()
        self.stager.stop()
        self._world.network.listen(self.job.address, None)
        self._world.trace.note(self._world.loop.now, self.job.address, f"agent is dead, epoch {self.job.epoch}")

    def doom(self, where: float) -> None:
        """Let it die in its next round with effects, after the part ``where`` (0..1) of them; at the latest in 3 s."""
        self._doom = where
        self._world.loop.after(3.0, self._expire)

    def _expire(self) -> None:
        if self.alive and not (self._world.healing and self._doom is None):
            self._world.site.kill_agent(self.job, restart=True)

    # ------------------------------------------------------------ inputs

    def reconnected(self) -> None:
        """The transport noticed that its road was closed and is open again."""
        if self.alive and self._world.loop.now >= self.frozen_until:
            self._perform(self.machine.reconnected(self.job.clock.boot()))

    def _moved(self, news: Input) -> None:
        self._inbox.append(news)
        self._plan()

    def _frame(self, source: str, frame: bytes) -> None:
        del source
        self._inbox.append(FromBroker(codec.to_agent.decode(frame)))
        self._plan()

    def _tick(self) -> None:
        if self.alive:
            self._inbox.append(Tick())
            self._plan()
            self._world.loop.after(self._world.tick_period(), self._tick)

    def _plan(self) -> None:
        if not self._planned:
            self._planned = True
            self._world.loop.after(self._world.chance.uniform(0.001, 0.01), self._round)

    # ------------------------------------------------------------ one round

    def _round(self) -> None:
        self._planned = False
        if not self.alive:
            return
        if self._world.loop.now < self.frozen_until:
            self._planned = True
            self._world.loop.after(self.frozen_until - self._world.loop.now, self._round)
            return
        now = self.job.clock.boot()
        news: list[Input] = [*self._inbox, *self.performer.take()]
        self._inbox.clear()
        effects: list[Effect] = []
        for item in news:
            effects += self._handle(now, item)
        self.machine.learn_rate(now)
        effects += self.machine.flush(now)
        self._perform(effects)
        if self.alive and self._ending is not None and (not self.machine.outbox.unacked or now >= self._ending):
            self._world.site.kill_agent(self.job, restart=False)
            self._world.site.exited(self.job)

    def _handle(self, now: float, item: Input) -> list[Effect]:
        message = item.message if isinstance(item, FromBroker) else None
        if not isinstance(message, Down):
            return self.machine.handle(now, item)
        machine = self.machine
        connection = (machine.epoch, machine.hello, machine.incarnation)
        stale = (message.epoch, message.hello, message.incarnation) != connection
        before = machine.inbox.last
        effects = machine.handle(now, item)
        if stale and (effects or machine.inbox.last != before):
            raise Broken(f"I4 {self.job.address} took an order of a stale connection: {message!r}"[:400])
        return effects

    def _perform(self, effects: list[Effect]) -> None:
        cut = int(self._doom * (len(effects) + 1)) if self._doom is not None and effects else -1
        for at, effect in enumerate(effects):
            if at == cut:
                self._expire()
                return
            self._one(effect)

    def _one(self, effect: Effect) -> None:
        if isinstance(effect, Send):
            self._world.network.send(self.job.address, "broker", codec.encode(effect.message))
            if isinstance(effect.message, AgentHello):
                self.job.hello = codec.encode(effect.message)
        elif isinstance(effect, Spool):
            self.job.spool.append(effect.seq, effect.body, effect.sync)
        elif isinstance(effect, Forget):
            if self.job.bundle is None:
                self.job.spool.forget(effect.seq)
        elif isinstance(effect, Launch):
            self.performer.launch(effect.pool, effect.tokens, effect.allocs)
        elif isinstance(effect, RunAhead):
            self.performer.ahead(effect.pool, effect.tokens)
        elif isinstance(effect, Retract):
            self.performer.retract(effect.pool)
        elif isinstance(effect, Kill):
            self.performer.kill(effect.tokens)
        elif isinstance(effect, (StageIn, StageOut, Unstage, Delivered)):
            self.stager.perform(effect)
        elif isinstance(effect, Watch):
            self._listen(effect)
        elif isinstance(effect, Explain):
            self._world.loop.after(0.0, self._moved, Explained(effect.ask, effect.text))
        elif isinstance(effect, Unwatch):
            pass  # what is heard of it then is of an attempt that has ended
        elif isinstance(effect, End):
            self._world.trace.note(self._world.loop.now, self.job.address, f"agent ends: {effect.reason}")
            if self._ending is None:
                self._ending = self.job.clock.boot() + LINGER
        else:
            raise TypeError(type(effect).__name__)

    def _listen(self, effect: Watch) -> None:
        """A service is ready after a while, or its time is over."""
        rng = self._world.services
        timeout = self.machine.holdings.bulks[effect.token >> INDEX_BITS].template.startup_timeout
        after = rng.uniform(0.0, timeout) if rng.random() < 0.9 else timeout
        place = f"{effect.host}:{rng.randint(1024, 65535)}" if after < timeout else ""
        self._world.loop.after(after, self._moved, Heard(effect.token, effect.attempt, place))
