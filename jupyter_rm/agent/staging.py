"""The agent's hands for files: copies, links, moves, downloads, beside its loop, on a few threads.

A file is made under another name and renamed when it is whole, so that whatever dies in between, nothing half-made is
taken for whole. What comes from the client's machine is brought by the broker into a directory of the account; until
it is announced, the tasks that take it wait here. Decides nothing. Read next: :mod:`jupyter_rm.agent.moving` (one
file), :mod:`jupyter_rm.core.staging` (who orders).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from ..core.holdings import HeldBulk, Holdings
from ..model.columns import Scalar
from ..model.effects import Delivered, Effect, Input, Moved, Moving, StageIn, StageOut, Tokens, Unstage
from ..model.ids import INDEX_BITS, INDEX_MASK, by_bulk
from ..model.staging import Directive, Found, from_client, leaves, split, to_client, with_texts
from .moving import Mover, Places, Stop

THREADS = 4
AT_ONCE = 32  # tasks of one errand of a thread
SAY_EVERY = 2.0  # s between two words about what is under way
NOTE = 1000


@dataclass(slots=True, eq=False)
class Job:
    """The files of one attempt, before its start or (``out``) after its end."""

    token: int
    attempt: int
    out: bool
    places: Places
    steps: tuple[Directive, ...]
    found: dict[str, Found] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    stop: threading.Event = field(default_factory=threading.Event)
    note: str = ""


class Stager:
    """Puts files in place for one agent.

    Args:
        holdings: what stands behind a token.
        sandbox, pilot: directory of this agent's tasks, and whose they are.
        call: has something done in the agent's loop soon; may be called from any thread.
        tell: takes the answers: Moved, one per token handed in that was not taken back, and Moving now and then.
        noop: put nothing in place and say so at once.
    """

    def __init__(
        self,
        holdings: Holdings,
        sandbox: str,
        pilot: int,
        call: Callable[[Callable[[], None]], None],
        tell: Callable[[Input], None],
        *,
        noop: bool = False,
    ) -> None:
        self._holdings, self._sandbox, self._pilot = holdings, sandbox, pilot
        self._call, self._tell, self._noop = call, tell, noop
        self._threads: ThreadPoolExecutor | None = None
        self._jobs: dict[tuple[int, bool], Job] = {}
        self._found: dict[int, dict[str, Found]] = {}
        self._waiting: dict[int, set[Job]] = {}
        self._over: deque[Job] = deque()
        self._lock = threading.Lock()
        self._rung = False
        self._said = 0.0

    def perform(self, effect: Effect) -> None:
        """Carry out a StageIn, StageOut, Unstage or Delivered; TypeError for any other effect."""
        if isinstance(effect, (StageIn, StageOut)):
            self._take_up(effect)
        elif isinstance(effect, Unstage):
            self._drop(effect.tokens)
        elif isinstance(effect, Delivered):
            self._arrived(effect.bulk, effect.found)
        else:
            raise TypeError(f"{type(effect).__name__} is not for the stager")

    def close(self) -> None:
        """Give up what is under way."""
        for job in self._jobs.values():
            job.stop.set()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    # ------------------------------------------------------------ in the loop

    def _take_up(self, effect: StageIn | StageOut) -> None:
        out = isinstance(effect, StageOut)
        ready: list[Job] = []
        for bulk, where, index in by_bulk(effect.tokens):
            held = self._holdings.bulks.get(bulk)
            for at, number in zip(where.tolist(), index.tolist(), strict=True):
                try:
                    job = self._job(held, bulk, number, int(effect.attempts[at]), out) if held is not None else None
                except KeyError:
                    job = None
                if job is None:
                    continue  # given up in the moment it came
                self._jobs[(job.token, out)] = job
                if job.missing and not job.note:
                    self._waiting.setdefault(bulk, set()).add(job)
                else:
                    ready.append(job)
        self._begin(ready)

    def _job(self, held: HeldBulk, bulk: int, index: int, attempt: int, out: bool) -> Job:
        template = held.template
        row: Mapping[str, Scalar] = held.params(index) if template.params else {}
        places = Places(self._sandbox, self._pilot, bulk, index, attempt)
        job = Job((bulk << INDEX_BITS) + index, attempt, out, places, ())
        try:
            given = template.output_staging if out else template.input_staging
            if template.sandbox:
                places.own(filled(template.sandbox, "sandbox", row, template.params))
            job.steps = steps_of([one for one in given if not (out and to_client(one))], row, template.params, out)
        except ValueError as error:
            job.note = str(error)
            return job
        known = self._found.setdefault(bulk, {})
        for one in job.steps:
            if from_client(one):
                if one.source in known:
                    job.found[one.source] = known[one.source]
                else:
                    job.missing.add(one.source)
        return job

    def _begin(self, jobs: list[Job]) -> None:
        if self._noop:
            for job in jobs:
                job.note = ""
                self._ended(job)
            return
        if jobs and self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, "staging")
        size = min(AT_ONCE, -(-len(jobs) // (4 * THREADS)))  # few enough that all threads have some
        for start in range(0, len(jobs), max(1, size)):
            assert self._threads is not None
            self._threads.submit(self._errand, jobs[start : start + size])

    def _drop(self, tokens: Tokens) -> None:
        for token in tokens.tolist():
            for out in (False, True):
                job = self._jobs.pop((token, out), None)
                if job is not None:
                    job.stop.set()
                    self._waiting.get(token >> INDEX_BITS, set()).discard(job)

    def _arrived(self, bulk: int, found: Mapping[str, Found]) -> None:
        known = self._found.setdefault(bulk, {})
        known.update({source: one for source, one in found.items() if one.path})
        ready = []
        for job in list(self._waiting.get(bulk, ())):
            for source in job.missing & found.keys():
                if found[source].path:
                    job.found[source] = found[source]
                    job.missing.discard(source)
                elif all(one.optional for one in job.steps if one.source == source):
                    job.steps = tuple(one for one in job.steps if one.source != source)
                    job.missing.discard(source)
                else:
                    job.note = found[source].note or f"{source} did not come"
            if job.note or not job.missing:
                self._waiting[bulk].discard(job)
                ready.append(job)
        ready.sort(key=lambda job: job.token)
        self._begin(ready)
        for gone in [number for number in self._found if number != bulk and number not in self._holdings.bulks]:
            self._found.pop(gone)
            self._waiting.pop(gone, None)

    def _collect(self) -> None:
        """Hand over what the threads are done with (in the loop)."""
        with self._lock:
            self._rung = False
            over, self._over = self._over, deque()
        for out in (False, True):
            mine = [job for job in over if job.out == out and self._jobs.get((job.token, out)) is job]
            for job in mine:
                del self._jobs[(job.token, out)]
            if mine:
                self._tell(
                    Moved(
                        np.array([job.token for job in mine], np.uint64),
                        np.array([job.attempt for job in mine], np.uint16),
                        out,
                        {at: job.note[:NOTE] for at, job in enumerate(mine) if job.note},
                        time.time(),
                    )
                )

    # ------------------------------------------------------------ on threads

    def _errand(self, jobs: list[Job]) -> None:
        for job in jobs:
            if job.stop.is_set():
                continue
            if not job.note:
                job.note = self._carry_out(job)
            self._ended(job)

    def _carry_out(self, job: Job) -> str:
        """Return what went wrong, '' when nothing did."""
        mover = Mover(job.places, job.found, job.stop, lambda text, done, size: self._say(job, text, done, size))
        for one in job.steps:
            try:
                mover.carry(one)
            except Stop:
                return "given up"
            except FileNotFoundError as error:
                if not one.optional or error.filename != mover.source:
                    return f"{shown(one)}: {error.filename or mover.source} is not there"
            except OSError as error:
                return f"{shown(one)}: {error.filename or mover.target}: {error.strerror or error}"
            except ValueError as error:
                return f"{shown(one)}: {error}"
            except Exception as error:  # somebody waits for the answer
                return f"{shown(one)}: {type(error).__name__}: {error}"
        return ""

    def _ended(self, job: Job) -> None:
        with self._lock:
            self._over.append(job)
            if self._rung:
                return
            self._rung = True
        self._call(self._collect)

    def _say(self, job: Job, text: str, done: int, size: int) -> None:
        now = time.monotonic()
        if now - self._said >= SAY_EVERY:
            self._said = now
            bulk, index = job.token >> INDEX_BITS, job.token & INDEX_MASK
            self._call(lambda: self._tell(Moving(bulk, index, text, done, size)))


def shown(one: Directive) -> str:
    """Return a directive as people write it."""
    return f"{one.action} {one.source} > {one.target}"


def filled(text: str, field: str, row: Mapping[str, Scalar], params: bool) -> str:
    """Return a text with its placeholders filled in; ValueError when that cannot be."""
    if not params or ("{" not in text and "}" not in text):
        return text
    try:
        text = text.format_map(row)
    except (KeyError, ValueError, IndexError, AttributeError, TypeError) as error:
        what = f"no column named {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{field}: {text!r}: {what}") from None
    if any(sign in text for sign in "\0\n\r"):
        raise ValueError(f"{field}: {text!r} holds a line break or a NUL character")
    return text


def steps_of(given: list[Directive], row: Mapping[str, Scalar], params: bool, out: bool) -> tuple[Directive, ...]:
    """Return the directives of one task; ValueError for one that leaves its directory once it is filled in."""
    field = "output_staging" if out else "input_staging"
    made = with_texts(given, [filled(text, field, row, params) for one in given for text in (one.source, one.target)])
    for at, one in enumerate(made):
        for text in (one.source, one.target):
            scheme, _, path = split(text)
            if scheme in ("task", "pilot", "session", "resource") and leaves(path):
                raise ValueError(f"{field}[{at}]: {text!r} leaves its directory")
    return made
