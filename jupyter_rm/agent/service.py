"""The agent's shell: link in, machine, performers and spool out.

One round takes in frames and news of tasks, lets the machine decide, writes reports to the spool, then starts, ends and
sends. While run-ahead queues keep the machine busy without us, rounds come less often, so that the agent leaves the
cores to the tasks. Read next: :mod:`jupyter_rm.core.agent` and :mod:`jupyter_rm.agent.perform`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..core.agent import AgentMachine
from ..core.endings import blamed, cut, slain
from ..core.patience import DEFAULT, Patience
from ..model.effects import (
    Delivered,
    Effect,
    End,
    Explain,
    Explained,
    Finished,
    Forget,
    FromBroker,
    Input,
    Kill,
    Launch,
    LogRead,
    ReadLog,
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
from ..model.errors import ProtocolError, SiteError
from ..model.logs import LogTold
from ..model.messages import AgentHello
from ..model.resources import Node
from ..model.states import Cause
from ..runtime import spool as spools
from ..runtime.clock import Clock
from ..runtime.drive import Drive
from ..runtime.logs import Tap
from ..wire import codec
from .link import BrokerLink
from .parcel import Introduction

if TYPE_CHECKING:  # most agents put no files in place and run no services
    from .staging import Stager
    from .watch import Watcher

log = logging.getLogger("jupyter_rm.agent")
# Pause between two looks at the performers while they have work queued ahead, seconds: at most this long, and never
# so long that the work could run out.
CALM = 0.05
CALM_LEAST = 0.005
LAST_WORDS = 3.0
# A second word to end counts as another one only this much later, s.
FAMILY = 2.0
# A pause between two ticks beyond this means that the program stood still, s.
FROZEN = 5.0
# How long the end of a task by TERM or KILL is held back in a batch job, s.
HELD = 1.0


class Performs(Protocol):
    """What the shell needs of a performer."""

    @property
    def busy_ahead(self) -> bool: ...

    def perform(self, effect: Effect) -> None: ...
    def preparing(self, bulk: int) -> str: ...
    def flush(self) -> None: ...
    def filenos(self) -> list[int]: ...
    def poll(self) -> list[Input]: ...
    def due(self) -> float | None: ...
    def close(self, grace: float) -> None: ...


class Agent:
    """The agent program.

    Args:
        link: the road to the broker.
        performer: makes the performer, given the machine's holdings and placer.
        bundle: encoded orders of work that came with the pilot, None: there is none. place: the pilot's directory, to
            leave word there for a broker that comes when all is over; None: it is there all the time.
        tap: keeps the lines of its log for whoever asks.
    """

    def __init__(
        self,
        *,
        session: str,
        pilot: int,
        epoch: int,
        nodes: list[Node],
        sandbox: str,
        link: BrokerLink,
        spool: spools.Spool,
        performer: Callable[[AgentMachine], Any],
        host: str,
        patience: Patience = DEFAULT,
        bundle: list[bytes] | None = None,
        place: Path | None = None,
        tap: Tap | None = None,
    ) -> None:
        self.clock = Clock()
        self.tap = tap if tap is not None else Tap(logging.getLogger("jupyter_rm"), epoch)
        self._hello = Introduction(place) if place is not None else None
        self._keeps = bundle is not None
        self.spool = spool
        self._unspooled: deque[Spool] = deque()
        self._spool_trouble = False
        self.machine = AgentMachine(
            session,
            pilot,
            epoch,
            nodes,
            sandbox=sandbox,
            spooled=spool.replay(),
            who=(os.getpid(), host),
            patience=patience,
            now=self.clock.now(),
            bundle=bundle,
        )
        self._ticked = self.clock.now()
        self.drive = Drive(self.clock, self._round)
        self.performer: Performs = performer(self.machine)
        self.link = link
        self._listening = False
        self._heard = False  # the performer has a signal out
        self._calm_until = 0.0
        self._lengthened = False
        self._look_at = 0.0
        self._ending: float | None = None
        self._told: float | None = None
        self._held: list[tuple[float, Finished]] = []
        self.in_job = False  # a batch system may end everything here at once
        self.returns = False  # it starts the job anew after that
        self.noop = False  # nothing is done at this site
        self._stager: Stager | None = None
        self._watcher: Watcher | None = None
        link.open(self.drive, self._frames, self._met)
        self.drive.every(0.25, self._tick)

    def run(self) -> int:
        """Work until the pilot ends; returns the exit code."""
        self._carry_out(self.machine.start(self.clock.now()))
        try:
            self._listen(True)
            self.drive.run()
        finally:
            self.performer.close(2.0)
            if self._stager is not None:
                self._stager.close()
            self._write()
            with contextlib.suppress(SiteError):
                self.spool.sync()
            self.link.close()
            self.drive.close()
            self.tap.close()
        return 0

    def terminate(self) -> None:
        """End because the system says so: kill what runs, say goodbye."""
        now = self.clock.now()
        if self._told is not None:
            # A batch system tells the whole family, and each member passes it on.
            if now - self._told > FAMILY:
                self.drive.stop()
            return
        self._told = now
        # What just died by the same word did not end by itself.
        held, self._held = self._held, []
        for _, news in held:
            self._carry_out(self.machine.handle(now, blamed(news, Cause.PILOT_LOST)))
        self._carry_out(self.machine.stop(now, Cause.PILOT_LOST, self.returns))

    def limit(self, until: float) -> None:
        """End the pilot at ``until`` (this machine's steady clock, s): its time is over."""
        self.drive.later(max(0.0, until - self.clock.now()), self._time_over)

    def drain(self) -> None:
        """Start nothing new: the pilot's time is nearly over."""
        self._carry_out(self.machine.drain(self.clock.now()))

    def _time_over(self) -> None:
        if self._ending is None:
            self._carry_out(self.machine.stop(self.clock.now(), Cause.WALLTIME))

    def _frames(self, frames: list[bytes]) -> None:
        try:
            message = codec.to_agent.decode(frames[-1])
            self._carry_out(self.machine.handle(self.clock.now(), FromBroker(message)))
        except ProtocolError as error:
            log.warning("frame from the broker dropped: %s", error)

    def _met(self) -> None:
        self._carry_out(self.machine.reconnected(self.clock.now(), self.link.listens))

    def _tick(self) -> None:
        now = self.clock.now()
        if now - self._ticked > FROZEN:
            self.machine.last_contact += now - self._ticked  # while its job was stopped nobody could ask for it
        self._ticked = now
        if self._unspooled:
            self._write()
        self.machine.learn_rate(now)
        self._carry_out(self.machine.handle(now, Tick()))

    def _round(self) -> None:
        now = self.clock.now()
        if now >= self._calm_until:
            self._look(now)
        else:
            self._lengthened = False
            self._carry_out(self.machine.flush(now))
            if self._lengthened:
                self._look(now)
        self.performer.flush()
        self.link.flush()
        if self._ending is not None and (self.machine.outbox.unacked == 0 or now > self._ending):
            self.drive.stop()

    def _look(self, now: float) -> None:
        self._lengthened = False
        for news in self._polled():
            if isinstance(news, Finished):
                log.debug("ended: %d tasks", len(news.tokens))
            self._carry_out(self.machine.handle(now, self._sifted(now, news)))
        self._carry_out(self.machine.flush(now))
        calm = self.performer.busy_ahead
        # A line that was lengthened a moment after it had run dry is fed by the next look.
        pause = CALM_LEAST if self._lengthened else min(CALM, max(CALM_LEAST, self.machine.floor.lasts() / 3))
        if calm:
            self._calm_until = now + pause
        self._listen(not calm)
        due = self.performer.due()
        if calm or due is not None:
            wait = pause if calm else max(0.0, (due or 0.0) - time.monotonic())
            if self._look_at <= now or now + wait < self._look_at:
                self._look_at = now + wait
                self.drive.later(wait, _nothing)

    def _sifted(self, now: float, news: Input) -> Input:
        """Hold back for a moment what a batch system may have ended: then its word for us is on the way too."""
        if not self.in_job or not isinstance(news, Finished):
            return news
        dead = slain(news)
        if not bool(dead.any()):
            return news
        ended = cut(news, dead)
        if self._told is not None:
            self._carry_out(self.machine.handle(now, blamed(ended, Cause.PILOT_LOST)))
        else:
            self._held.append((now + HELD, ended))
            self.drive.later(HELD, self._let_go)
        return cut(news, ~dead)

    def _let_go(self) -> None:
        now = self.clock.now()
        while self._held and self._held[0][0] <= now:
            self._carry_out(self.machine.handle(now, self._held.pop(0)[1]))

    def _polled(self) -> list[Input]:
        """Ask the performer when it rang or is due, and always while nobody listens: most rounds are about orders."""
        if self._listening and not self._heard:
            due = self.performer.due()
            if due is None or due > time.monotonic():
                return []
        self._heard = False
        return self.performer.poll()

    def _hear(self) -> None:
        self._heard = True  # the look happens once per round

    def _listen(self, on: bool) -> None:
        """Listen to the performer's signals, or leave them alone while it works by itself."""
        if on != self._listening:
            self._listening = on
            for fd in self.performer.filenos():
                if on:
                    self.drive.watch(fd, self._hear)
                else:
                    self.drive.forget(fd)

    def _write(self) -> None:
        """Write reports to the spool; what a full disk refuses stays in memory and is tried again at every tick.

        Work must not end because a disk is full: a report that is sent before it is spooled is lost only when the agent
        dies as well, and then the broker finds out what became of its tasks.
        """
        try:
            while self._unspooled:
                report = self._unspooled[0]
                self.spool.append(report.seq, report.body)
                self._unspooled.popleft()
                if report.sync:
                    self.spool.sync()
        except SiteError as error:
            if not self._spool_trouble:
                log.warning("reports are kept in memory: %s", error)
            self._spool_trouble = True
            return
        if self._spool_trouble:
            log.info("the spool takes reports again")
            self._spool_trouble = False

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self.link.send(codec.encode(effect.message))
                if self._hello is not None and isinstance(effect.message, AgentHello):
                    self._hello.write(effect.message)
            elif isinstance(effect, Spool):
                self._unspooled.append(effect)
                self._write()
            elif isinstance(effect, Forget):
                while self._unspooled and self._unspooled[0].seq <= effect.seq:
                    self._unspooled.popleft()  # safe in the broker's journal: no need to keep it here
                if not self._keeps:  # with the bundle the whole spool tells the next life where the work stands
                    self.spool.forget(effect.seq)
            elif isinstance(effect, (Launch, RunAhead, Retract, Kill)):
                if not isinstance(effect, Retract):
                    log.debug("%s: %d tasks", type(effect).__name__, len(effect.tokens))
                self.performer.perform(effect)
                self._lengthened |= isinstance(effect, RunAhead)
            elif isinstance(effect, (StageIn, StageOut, Unstage, Delivered)):
                self._files().perform(effect)
            elif isinstance(effect, (Watch, Unwatch)):
                self._services().perform(effect)
            elif isinstance(effect, ReadLog):
                order = effect.order
                part = self.tap.read(order.life, order.after, order.most, order.level)
                self.drive.call(partial(self._heard_beside, LogRead(LogTold(order.ask, part))))
            elif isinstance(effect, Explain):
                why = self.performer.preparing(effect.bulk) or effect.text
                self.drive.call(partial(self._heard_beside, Explained(effect.ask, why)))
            elif isinstance(effect, End):
                log.info("ending: %s", effect.reason)
                self._ending = self.clock.now() + LAST_WORDS

    def _files(self) -> Stager:
        if self._stager is None:
            from .staging import Stager

            machine = self.machine
            self._stager = Stager(
                machine.holdings, machine.sandbox, machine.pilot, self.drive.call, self._heard_beside, noop=self.noop
            )
        return self._stager

    def _services(self) -> Watcher:
        if self._watcher is None:
            from .watch import Watcher

            machine = self.machine
            self._watcher = Watcher(machine.holdings, machine.sandbox, machine.pilot, self.drive, self._heard_beside)
        return self._watcher

    def _heard_beside(self, news: Input) -> None:
        self._carry_out(self.machine.handle(self.clock.now(), news))


def _nothing() -> None:
    """The round that follows does the work."""
