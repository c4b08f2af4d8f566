"""Files without files: what an agent's stager and a broker's carrier owe the machines, in virtual time.

Honours StageIn, StageOut, Unstage, Delivered, Bring and Fetch to the letter of :mod:`jupyter_rm.model.effects`, and
tells the watch what is in place. Now and then something is not there. Read next: :mod:`jupyter_rm.testing.oracles`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import numpy as np

from ..core.holdings import Holdings
from ..model.columns import Picks, pack, unpack
from ..model.describe import Template
from ..model.effects import Bring, Brought, Delivered, Effect, Fetch, Fetched, Input, Moved, StageIn, StageOut, Unstage
from ..model.facts import BulkSubmitted
from ..model.ids import INDEX_BITS, INDEX_MASK
from ..model.staging import Directive, Found, from_client
from .chance import Random
from .loop import Loop
from .oracles import Watch

_FAILS = 0.02
_GIVEN_UP = 0.1  # a bringing is given up in the belief that nobody waits for it
_INPUTS = (
    (),
    (Directive("client:///all", "task:///a", "link"),),
    (Directive("client:///{x}", "task:///x", "transfer"), Directive("pilot:///p", "task:///p", "copy")),
    (Directive("session:///s", "task:///s", "copy"),),
)
_OUTPUTS = (
    (),
    (Directive("task:///o", "client:///o", "transfer"),),
    (Directive("task:///o", "pilot:///o", "copy"), Directive("task:///o", "client:///{x}", "transfer")),
    (Directive("task:///o", "session:///o", "move"),),
)


def with_files(template: Template, rng: Random) -> Template:
    """Return a template whose tasks may have files to be put in place."""
    if rng.random() < 0.6:
        return template
    return msgspec.structs.replace(
        template,
        input_staging=rng.choice(_INPUTS),
        output_staging=rng.choice(_OUTPUTS),
        stage_on_error=rng.random() < 0.5,
    )


class Stager:
    """The stager of one life of an agent; ``tell`` takes its answers."""

    def __init__(
        self, loop: Loop, rng: Random, holdings: Holdings, watch: Watch, tell: Callable[[Input], None]
    ) -> None:
        self._loop, self._rng, self._holdings, self._watch, self._tell = loop, rng, holdings, watch, tell
        self._jobs: dict[tuple[int, bool], int] = {}  # (token, out) -> attempt
        self._waiting: dict[int, set[str]] = {}  # token -> sources that have not come
        self._here: dict[int, set[str]] = {}
        self._stopped = False

    def stop(self) -> None:
        """The agent is dead."""
        self._stopped = True

    def perform(self, effect: Effect) -> None:
        """Carry out a StageIn, StageOut, Unstage or Delivered."""
        if isinstance(effect, (StageIn, StageOut)):
            out = isinstance(effect, StageOut)
            ready = []
            for token, attempt in zip(effect.tokens.tolist(), effect.attempts.tolist(), strict=True):
                self._jobs[token, out] = attempt
                missing = set() if out else self._sources(token) - self._here.get(token >> INDEX_BITS, set())
                if missing:
                    self._waiting[token] = missing
                else:
                    ready.append((token, ""))
            self._soon(ready, out)
        elif isinstance(effect, Unstage):
            for token in effect.tokens.tolist():
                self._waiting.pop(token, None)
                self._jobs.pop((token, False), None)
                self._jobs.pop((token, True), None)
        elif isinstance(effect, Delivered):
            self._arrived(effect)

    def _sources(self, token: int) -> set[str]:
        try:
            held = self._holdings.bulks[token >> INDEX_BITS]
            row = held.params(token & INDEX_MASK) if held.template.params else {}
        except KeyError:
            return set()  # given up in the same round
        return {one.source.format_map(row) for one in held.template.input_staging if from_client(one)}

    def _arrived(self, effect: Delivered) -> None:
        good = {source for source, found in effect.found.items() if found.path}
        self._here.setdefault(effect.bulk, set()).update(good)
        ready = []
        for token, missing in list(self._waiting.items()):
            if token >> INDEX_BITS != effect.bulk or not missing & effect.found.keys():
                continue
            bad = missing & effect.found.keys() - good
            missing -= good
            if bad or not missing:
                del self._waiting[token]
                ready.append((token, "it did not come" if bad else ""))
        self._soon(ready, False)

    def _soon(self, ready: list[tuple[int, str]], out: bool) -> None:
        """Let tasks be ready in a few parts, some time later; what is not well has a note."""
        parts: list[list[tuple[int, int, str]]] = [[] for _ in range(min(3, len(ready)))]
        for token, note in ready:
            note = note or ("it is not there" if self._rng.random() < _FAILS else "")
            self._rng.choice(parts).append((token, self._jobs[token, out], note))
        for part in filter(None, parts):
            self._loop.after(self._rng.uniform(0.0, 2.0), self._ended, part, out)

    def _ended(self, part: list[tuple[int, int, str]], out: bool) -> None:
        if self._stopped:
            return
        part = [job for job in part if self._jobs.get((job[0], out)) == job[1]]
        for token, attempt, note in part:
            del self._jobs[token, out]
            if not note:
                self._watch.staged(token >> INDEX_BITS, token & INDEX_MASK, attempt, out=out)
        tokens = np.array([token for token, _, _ in part], np.uint64)
        attempts = np.array([attempt for _, attempt, _ in part], np.uint16)
        self._tell(Moved(tokens, attempts, out, {at: note for at, (_, _, note) in enumerate(part) if note}))


def carry(
    order: Bring | Fetch, form: BulkSubmitted, rng: Random, home: Callable[[int, int], None]
) -> Iterator[tuple[float, Callable[[], Input]]]:
    """Yield (seconds until then, what makes the answer) for an order; ``home`` is told what comes home."""
    count = len(order.picks)
    index = order.picks.array()
    half = count // 2 if rng.random() < 0.3 else count
    for part in (slice(0, half), slice(half, count)):
        mine = index[part]
        if not len(mine):
            continue
        after = rng.choice((0.01, 1.0, 10.0)) * rng.random()
        if isinstance(order, Bring):
            if order.early:
                continue
            if rng.random() < _GIVEN_UP:
                yield after, lambda: Brought(order.session, order.pilot, order.bulk, {})
                continue
            found: dict[str, Found] = {}
            for number in mine.tolist():
                row = {name: column.get(number) for name, column in form.columns.items()}
                for one in form.template.input_staging:
                    if from_client(one):
                        bad = rng.random() < _FAILS
                        found[one.source.format_map(row)] = Found("" if bad else "/there", note="gone" if bad else "")
            yield after, lambda found=found: Brought(order.session, order.pilot, order.bulk, found)  # type: ignore[misc]
            continue
        attempts = unpack(order.attempt, "<u2", count)[part]
        notes = {at: "it is not there" for at in range(len(mine)) if rng.random() < _FAILS}

        def fetched(mine: np.ndarray = mine, attempts: np.ndarray = attempts, notes: dict[int, str] = notes) -> Input:
            for at, (number, attempt) in enumerate(zip(mine.tolist(), attempts.tolist(), strict=True)):
                if at not in notes:
                    home(number, attempt)
            told = pack(attempts, "<u2")
            return Fetched(order.session, order.pilot, order.bulk, Picks.of(mine), told, notes)

        yield after, fetched
