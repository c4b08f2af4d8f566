"""The agent's hands: turns its effects into processes and calls, and what becomes of them into inputs.

Routes tasks by the mode of their bulk: programs and shell lines to :mod:`~jupyter_rm.agent.executables`, Python calls
to :mod:`~jupyter_rm.agent.workers`, and on the site ``noop`` everything to :mod:`~jupyter_rm.agent.noop`. It decides
nothing: which task runs where is the machine's business. Read next: :mod:`jupyter_rm.agent.executables`.
"""

from __future__ import annotations

import errno
import os
import selectors
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.holdings import Holdings
from ..model.effects import Effect, Input, Kill, Launch, Retract, RunAhead, TakenBack
from ..model.ids import INDEX_BITS, by_bulk
from ..model.late import Value
from ..model.resources import Node
from ..runtime.process import ENDED, EVENT, STARTED, Spawner, SpawnerLike
from .commands import Site, Unstartable
from .environments import Environments, task_environment
from .executables import Executables
from .news import Bell, News
from .noop import NoopPerformer
from .strays import Strays
from .workers import Workers

# Processes that are no tasks (ranks, workers, environments) have tokens from here on.
INTERNAL = 1 << 63
_QUIET = np.zeros(0, EVENT)


class Performer:
    """Performs the effects Launch, RunAhead, Retract and Kill; answers with Begun, Finished, Freed and TakenBack.

    Every token handed in comes back exactly once, in a Finished or (run-ahead only) a TakenBack; every allocation
    exactly once in a Freed. A RunAhead for a pool without allocations comes straight back in a TakenBack.

    Args:
        holdings: what stands behind a token.
        placer: ``placer.slots(alloc)`` says which nodes, cores and GPUs an allocation is.
        nodes: the pilot's nodes, in the placer's order.
        sandbox: directory of this agent's tasks.
        pin: bind each process to its cores.
        environ: the environment the agent itself was started in; the user's tasks start from it.
        session, pilot: told to tasks.
        here: the number of the node on which processes are started here; None: the pilot has but one.
        grace: s between asking a task to end and killing it.
        spawner: starts the processes; made when None.
        noop: end every task at once instead of running it, see :class:`~jupyter_rm.agent.noop.NoopPerformer`.
        methods: launch methods of the site, the best first; ``launch``: the one that was asked for.
        hooks: lines of site and pilot that run with each task; ``facts``: what tasks may ask of the pilot;
            ``envs``: paths of its named environments.
    """

    def __init__(
        self,
        holdings: Holdings,
        placer: Any,
        nodes: Sequence[Node],
        sandbox: Path,
        *,
        pin: bool = False,
        environ: Mapping[str, str] | None = None,
        session: str = "",
        pilot: int = 0,
        here: int | None = None,
        grace: float = 5.0,
        spawner: SpawnerLike | None = None,
        noop: bool = False,
        methods: Sequence[str] = (),
        launch: str = "",
        hooks: Mapping[str, str] | None = None,
        facts: Mapping[str, Value] | None = None,
        envs: Mapping[str, str] | None = None,
    ) -> None:
        self._noop = NoopPerformer() if noop else None
        self._holdings = holdings
        self._spawner = spawner if spawner is not None else Spawner()
        self._selector = selectors.DefaultSelector()
        self._spawner_fd = self._spawner.fileno()
        self._selector.register(self._spawner_fd, selectors.EVENT_READ)
        self._bell = Bell()
        self._selector.register(self._bell.fileno(), selectors.EVENT_READ)
        self._news = News()
        self._handlers: dict[int, Callable[[np.void], None]] = {}
        self._serial = INTERNAL
        self._calls: dict[int, bool] = {}
        self._closed = False
        self._broken = False
        self.site = site = Site(os.fspath(sandbox.absolute()), session, pilot, nodes, pin, here, grace)
        site.methods, site.launch = tuple(methods), launch
        site.hooks, site.facts, site.envs = hooks or {}, facts or {}, envs or {}
        base = task_environment(os.environ if environ is None else environ)
        self.environments = Environments(self._spawner, self._internal, base)
        self.executables = Executables(
            holdings, placer.slots, site, self._spawner, self.environments, self._internal, self._news
        )
        self.workers = Workers(
            holdings, placer.slots, site, self._spawner, self.environments, self._internal, self._news, self._selector
        )

        mark = (f"JRM_SESSION={session}", f"JRM_PILOT=p.{pilot}")
        self._strays = Strays(self._spawner.adopter, tuple(map(os.fsencode, mark)), self._lives, grace)

    def _lives(self, bulk: int, index: int, attempt: int) -> bool:
        """Say whether an attempt of a program has not ended here."""
        token, held = (bulk << INDEX_BITS) + index, self._holdings.bulks.get(bulk)
        if held is None or not (self._spawner.knows(token + 1) or self.executables.runs_ranks(token)):
            return False
        try:
            return int(held.attempts(np.array([index]))[0]) == attempt
        except KeyError:
            return False

    # ------------------------------------------------------------ effects

    def perform(self, effect: Effect) -> None:
        """Carry out a Launch, RunAhead, Retract or Kill; TypeError for any other effect."""
        if self._noop is not None:
            self._noop.perform(effect)
        elif isinstance(effect, Launch):
            if len(effect.tokens):
                self._of(effect.pool, int(effect.tokens[0])).launch(effect.pool, effect.tokens, effect.allocs)
        elif isinstance(effect, RunAhead):
            if len(effect.tokens):
                self._of(effect.pool, int(effect.tokens[0])).ahead(effect.pool, effect.tokens)
        elif isinstance(effect, Retract):
            self._retract(effect.pool)
        elif isinstance(effect, Kill):
            self._kill(effect)
        else:
            raise TypeError(f"{type(effect).__name__} is not for the performer")
        if self._news:
            self._bell.ring()  # some answers are known at once

    def preparing(self, bulk: int) -> str:
        """Return what has to end before tasks of a bulk can start here, empty: nothing."""
        held = self._holdings.bulks.get(bulk)
        if self._noop is not None or held is None:
            return ""
        try:
            where = self.site.environment(held.template.named_env)
        except Unstartable:
            return ""
        return self.environments.running(self.site.lines(held.template, "pre_exec"), where)

    def flush(self) -> None:
        """Nothing is gathered here: every effect was carried out at once."""

    def _of(self, pool: int, token: int) -> Executables | Workers:
        calls = self._calls.get(pool)
        if calls is None:
            mode = self._holdings.bulks[token >> INDEX_BITS].template.mode
            calls = self._calls[pool] = mode == "call"
        return self.workers if calls else self.executables

    def _retract(self, pool: int) -> None:
        calls = self._calls.get(pool, False)
        tokens = (self.workers if calls else self.executables).retract(pool)
        self._news.taken.append(TakenBack(pool, tokens))

    def _kill(self, effect: Kill) -> None:
        for bulk, where, _ in by_bulk(effect.tokens):
            held = self._holdings.bulks.get(bulk)
            if held is not None:
                part = self.workers if held.template.mode == "call" else self.executables
                part.kill(effect.tokens[where])

    def _internal(self, handler: Callable[[np.void], None]) -> int:
        self._serial += 1
        self._handlers[self._serial] = handler
        return self._serial

    # ------------------------------------------------------------ news

    def filenos(self) -> list[int]:
        """Return the descriptors that are readable when :meth:`poll` has something to do; :meth:`due` is the rest."""
        return self._noop.filenos() if self._noop is not None else [self._selector.fileno()]

    def due(self) -> float | None:
        """Return the ``time.monotonic()`` at which :meth:`poll` is to be called even without news, None: never."""
        times = [at for at in (self.workers.due(), self._strays.due) if at is not None]
        return min(times) if times else None

    def poll(self) -> list[Input]:
        """Return what happened since the last call, as few inputs as possible; never blocks.

        Raises RuntimeError once the spawner has died, after everything that had ended before was returned. The agent
        ends with it and is started again: what ran is lost with the agent then, instead of having failed by itself.
        """
        if self._noop is not None:
            return self._noop.poll()
        if self._broken:
            raise RuntimeError("the program that starts processes has died")
        self._bell.quiet()
        ready = self._selector.select(0)
        events = self._spawner.events() if any(key.fd == self._spawner_fd for key, _ in ready) else _QUIET
        if not self._spawner.alive and not self._closed:
            self._broken = True
            events = events[events["error"] != errno.EPIPE]
        if len(events):
            mine = events["token"] >= np.uint64(INTERNAL)
            if mine.any():
                self.executables.take(events[~mine])
                for event in events[mine]:
                    number = int(event["token"])
                    handler = self._handlers[number] if event["kind"] == STARTED else self._handlers.pop(number)
                    handler(event)
            else:
                self.executables.take(events)
            if bool((events["kind"] == ENDED).any()):
                self._strays.ended()
        self._strays.look()
        self.workers.turn([key.data for key, _ in ready if key.data is not None])
        self.executables.settle()
        return self._news.take()

    @property
    def busy_ahead(self) -> bool:
        """Say whether processes are queued inside the spawner and nothing here waits for an end.

        Then allocations pass on without Python, and polling every 10 ms is enough.
        """
        return (
            not self._closed
            and self.executables.ahead_inside
            and not self.executables.backlog
            and not self.workers.busy
            and self._spawner.queued > 0
        )

    def close(self, grace: float = 2.0) -> None:
        """End everything that runs (TERM, after ``grace`` s KILL) and wait for it."""
        if self._closed:
            return
        self._closed = True
        self.workers.close()
        self._strays.close()
        self._spawner.close(True, grace)
        self.environments.close()
        self._selector.close()
        self._bell.close()
        if self._noop is not None:
            self._noop.close()
