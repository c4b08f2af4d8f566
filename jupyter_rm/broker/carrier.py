"""Files of tasks between this machine and the pilots' sites: there before a task is placed, home after its end.

Every site has threads of its own, so that a slow one holds nobody up. A broken connection is waited for: what arrived
stays, and the rest follows. What a pilot on this machine takes or gives needs no store: it is the file itself. Knows
what tasks say about their files, decides nothing about tasks. Read next: :mod:`jupyter_rm.core.cargo` (who decides),
:mod:`jupyter_rm.runtime.depot` (how it travels).
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..core.session import SITES
from ..model.columns import Array, Picks, pack, unpack
from ..model.effects import Bring, Brought, Carrying, Fetch, Fetched, Input
from ..model.errors import JrmError, LinkError
from ..model.facts import BulkSubmitted
from ..model.ledger import Ledger
from ..model.staging import Directive, Found, base_name, from_client, leaves, spaces, split, to_client
from ..model.states import TaskState
from ..runtime.connect import Connections, Nobody
from ..runtime.depot import PACK_BYTES, SMALL, Content, Depot, Sums, copy_here, pack_tree, packs, put_here
from ..runtime.drive import Drive
from .sites import parse

log = logging.getLogger("jupyter_rm.broker")
THREADS = 2  # of one site: a large file and many small ones can go on at the same time
SAY_EVERY = 1.0
# Pauses after a broken connection and after a login that needs a person, s.
AGAIN_S, PERSON_S = 3.0, 30.0
TOLD_AT_ONCE = 2000
HOME_AT_ONCE = 500
# What the store of one account may hold, bytes.
CACHE_MOST = int(float(os.environ.get("JUPYTER_RM_CACHE_GIB") or 20) * (1 << 30))
TIDY_EVERY = 600.0
NOTE = 1000
# Of each position: where a file lies there, where it goes here, what was said about it.
Items = dict[int, list[tuple[str, Path, Directive]]]


class Unwanted(Exception):
    """Nobody waits for it any more."""


@dataclass(eq=False)
class Errand:
    """One order and what it needs to be carried out without the machine.

    ``form``: the bulk; ``sandbox``: of the pilot, on its machine; ``table``: looked at, never changed.
    """

    order: Bring | Fetch
    site: str
    form: BulkSubmitted
    sandbox: str
    wanted: Callable[[], bool]
    done: set[int] = field(default_factory=set)  # positions of the picks that were answered
    told: set[str] = field(default_factory=set)  # sources that were answered

    @property
    def key(self) -> tuple[str, int, int]:
        """Whose files these are: (session, pilot, bulk)."""
        return self.order.session, self.order.pilot, self.order.bulk


class Carrier:
    """Brings and fetches files for the broker.

    Args:
        drive: the broker's loop. tell: takes the answers, in the loop. ledger: returns a session's ledger, None: gone.
        connections: returns those of all sites. scratch: a directory for archives on their way.
    """

    def __init__(
        self,
        drive: Drive,
        tell: Callable[[Input], None],
        ledger: Callable[[str], Ledger | None],
        connections: Callable[[], Connections],
        scratch: Callable[[], Path],
    ) -> None:
        self._drive, self._tell_machine, self._ledger = drive, tell, ledger
        self._connections, self._scratch = connections, scratch
        self._threads: dict[str, ThreadPoolExecutor] = {}
        self._sums = Sums()
        self._queued: dict[tuple[object, ...], Errand] = {}  # those that no thread has taken up
        self._lock = threading.Lock()
        self._open: list[Errand] = []  # in the loop
        self._said: dict[tuple[str, int, int], float] = {}
        self._tidied: dict[str, float] = {}
        self._shared: Connections | None = None
        self._closed = threading.Event()

    def start(self, order: Bring | Fetch) -> None:
        """Carry out an order (in the loop)."""
        ledger = self._ledger(order.session)
        if ledger is None:
            return
        row, table = ledger.pilots[order.pilot], ledger.bulks[order.bulk]
        if row.spec.site not in SITES:
            self._shared = self._connections()
        states = TaskState.STAGING_OUT if isinstance(order, Fetch) else TaskState.STAGING_IN
        before = slice(TaskState.SUBMITTED, TaskState.STAGING_IN) if isinstance(order, Bring) else slice(0, 0)

        def wanted() -> bool:
            return bool(table.counts[states]) or bool(table.counts[before].any())

        with self._lock:
            # The slower the site, the more is asked for at once.
            waiting = self._queued.get(_kind(order))
            if waiting is not None:
                waiting.order = _joined(waiting.order, order)
                return
            errand = self._queued[_kind(order)] = Errand(order, row.spec.site, table.form, row.sandbox, wanted)
        self._said[errand.key] = time.monotonic()  # what is done in a moment is not worth a word
        self._open.append(errand)
        self._begin(errand)

    @property
    def busy(self) -> bool:
        """Say whether anything is under way."""
        return bool(self._open)

    def _over(self, errand: Errand) -> None:
        self._open.remove(errand)

    def _begin(self, errand: Errand) -> None:
        if self._closed.is_set():
            return
        threads = self._threads.get(errand.site)
        if threads is None:
            threads = self._threads[errand.site] = ThreadPoolExecutor(THREADS, "carrier")
        threads.submit(self._work, errand)

    def close(self) -> None:
        """Give up what is under way; it is taken up again by the next life of the broker."""
        self._closed.set()
        for threads in self._threads.values():
            threads.shutdown(wait=False, cancel_futures=True)

    # ------------------------------------------------------------ on threads

    def _tell(self, news: Input) -> None:
        self._drive.call(lambda: self._tell_machine(news))

    def _work(self, errand: Errand) -> None:
        with self._lock:
            if self._queued.get(_kind(errand.order)) is errand:
                del self._queued[_kind(errand.order)]
        try:
            if isinstance(errand.order, Bring):
                self._bring(errand, errand.order)
            else:
                self._fetch(errand, errand.order)
        except Unwanted:
            self._unwanted(errand)
        except LinkError as error:
            pause = AGAIN_S if error.retry else PERSON_S
            if not self._waits(errand, error):
                return
            self._drive.call(lambda: self._drive.later(pause, lambda: self._begin(errand)))
            return
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            if isinstance(error, JrmError):
                text = f"{error.message} [{error.code}]"
            log.warning("files of %s p.%d t.%d: %s", *errand.key, text, exc_info=not isinstance(error, JrmError))
            self._give_up(errand, text)
        self._drive.call(lambda: self._over(errand))

    def _waits(self, errand: Errand, error: LinkError) -> bool:
        """Say what it waits for; False: nobody waits for it any more."""
        try:
            self._say(errand, f"waits for {errand.site}: {error.message}", always=True)
        except Unwanted:
            self._unwanted(errand)
            self._drive.call(lambda: self._over(errand))
            return False
        return True

    def _unwanted(self, errand: Errand) -> None:
        log.info("files of %s p.%d t.%d: nobody waits for them any more", *errand.key)
        if isinstance(errand.order, Bring) and not errand.order.early and not self._closed.is_set():
            self._tell(Brought(*errand.key, {}))

    def _say(self, errand: Errand, text: str, done: int = 0, size: int = 0, *, always: bool = False) -> None:
        """Say what is under way, now and then; Unwanted when nobody listens any more."""
        if self._closed.is_set() or not errand.wanted():
            raise Unwanted
        now = time.monotonic()
        if always or now - self._said.get(errand.key, 0.0) >= SAY_EVERY:
            self._said[errand.key] = now
            self._tell(Carrying(*errand.key, text, -1, done, size))

    def _give_up(self, errand: Errand, note: str) -> None:
        if isinstance(errand.order, Fetch):
            left = [at for at in range(len(errand.order.picks)) if at not in errand.done]
            self._home(errand, errand.order, left, dict.fromkeys(left, note))
        elif not errand.order.early:
            sources = {one.source for one in self._directives(errand, errand.order.picks.array())}
            self._there(errand, {source: Found("", note=note) for source in sources})

    @staticmethod
    def _directives(errand: Errand, index: Array) -> Iterator[Directive]:
        """Yield the directives of tasks that concern this machine, filled in; of equal ones one."""
        template, columns = errand.form.template, errand.form.columns
        bring = isinstance(errand.order, Bring)
        given = template.input_staging if bring else template.output_staging
        mine = [one for one in given if (from_client(one) if bring else to_client(one))]
        if not template.params:
            yield from mine
            return
        differ = any("{" in one.source or "{" in one.target for one in mine)
        for number in index.tolist() if differ else index[:1].tolist():
            row = {name: column.get(number) for name, column in columns.items()} if differ else {}
            for one in mine:
                # What cannot be filled in is told by the agent, which finds the same.
                with contextlib.suppress(KeyError, ValueError, IndexError, AttributeError, TypeError):
                    yield Directive(one.source.format_map(row), one.target.format_map(row), one.action, one.flags)

    # ------------------------------------------------------------ there

    def _bring(self, errand: Errand, order: Bring) -> None:
        sources = sorted({one.source for one in self._directives(errand, order.picks.array())} - errand.told)
        here = {source: self._here(source) for source in sources}
        if errand.site in SITES:
            self._there(errand, here)
            return
        self._send(errand, here)

    def _send(self, errand: Errand, here: dict[str, Found]) -> None:
        """Bring files to a site's store."""
        made: list[Path] = []  # archives of directories
        try:
            self._send_all(errand, here, made)
        finally:
            for path in made:
                path.unlink(missing_ok=True)

    def _send_all(self, errand: Errand, here: dict[str, Found], made: list[Path]) -> None:
        kinds: dict[str, Found] = {}
        contents: dict[str, Content] = {}
        lost = {source: found for source, found in here.items() if not found.path}
        for source, found in here.items():
            if not found.path:
                continue
            self._say(errand, f"{base_name(source)} is looked through")
            path = Path(found.path)
            try:
                if tree := path.is_dir():
                    made.append(self._scratch() / f"pack.{secrets.token_hex(8)}")
                    pack_tree(path, made[-1])
                    path = made[-1]
                content = self._sums.of(path)
            except OSError as error:
                lost[source] = Found("", note=f"{found.path}: {error.strerror or error}")
                continue
            contents[content.sha256] = content
            kinds[source] = Found(content.sha256, "tar" if tree else "file", found.mode)
        self._there(errand, lost)
        if not contents:
            return
        depot = self._depot(errand)
        root, present = depot.have(contents)

        def arrived(sums: set[str]) -> None:
            came = {source: found for source, found in kinds.items() if found.path in sums}
            self._there(errand, {s: Found(f"{root}/{f.path}", f.kind, f.mode) for s, f in came.items()})

        arrived(present)
        absent = {name: content for name, content in contents.items() if name not in present}
        if not absent:
            return
        small, large = packs(absent)
        done, size = 0, sum(content.size for content in absent.values())
        for each in small:
            self._say(errand, f"{len(absent)} files to {errand.site}", done, size)
            depot.send_many(each)
            done += sum(content.size for content in each)
            arrived({content.sha256 for content in each})
        for content in large:
            name = next(base_name(source) for source, found in kinds.items() if found.path == content.sha256)

            def progress(now: int, _: int, name: str = name, base: int = done) -> None:
                self._say(errand, f"{name} to {errand.site}", base + now, size)

            progress(0, 0)
            depot.send(content, progress)
            done += content.size
            arrived({content.sha256})
        log.info("%d contents, %d bytes, are at %s now", len(absent), size, errand.site)
        self._say(errand, f"{len(absent)} files are at {errand.site}", size, size, always=True)
        if time.monotonic() - self._tidied.get(errand.site, 0.0) > TIDY_EVERY:
            self._tidied[errand.site] = time.monotonic()
            depot.tidy(CACHE_MOST)

    def _depot(self, errand: Errand) -> Depot:
        assert self._shared is not None
        return Depot(self._shared.get(parse(errand.site).target, Nobody()))

    @staticmethod
    def _here(source: str) -> Found:
        """Return a source of this machine as it is."""
        path = split(source)[2]
        try:
            info = Path(path).stat()
            if not stat.S_ISREG(info.st_mode) and not stat.S_ISDIR(info.st_mode):
                return Found("", note=f"{path} is neither a file nor a directory")
            if not os.access(path, os.R_OK):
                return Found("", note=f"{path}: permission denied")
        except (OSError, ValueError) as error:
            return Found("", note=f"{path}: {getattr(error, 'strerror', '') or error}")
        return Found(path, "here", stat.S_IMODE(info.st_mode) & 0o777)

    def _there(self, errand: Errand, found: dict[str, Found]) -> None:
        errand.told |= found.keys()
        if isinstance(errand.order, Bring) and not errand.order.early:
            items = sorted(found.items())
            for start in range(0, len(items), TOLD_AT_ONCE):
                self._tell(Brought(*errand.key, dict(items[start : start + TOLD_AT_ONCE])))

    # ------------------------------------------------------------ home

    def _fetch(self, errand: Errand, order: Fetch) -> None:
        items: dict[int, list[tuple[str, Path, Directive]]] = {at: [] for at in range(len(order.picks))}
        notes: dict[int, str] = {}
        attempts = unpack(order.attempt, "<u2", len(order.picks)).tolist()
        places = spaces(errand.sandbox, order.pilot)
        for at, index in enumerate(order.picks.array().tolist()):
            if at in errand.done:
                continue
            folder = self._folder(errand, index, attempts[at])
            for one in self._directives(errand, order.picks.array()[at : at + 1]):
                scheme, _, path = split(one.source)
                base = {"task": folder, "file": "", **places}[scheme]
                if scheme != "file" and leaves(path):
                    notes[at] = f"{one.source} leaves its directory"
                    continue
                goal = Path(split(one.target)[2])
                if one.target.endswith("/"):
                    goal /= base_name(path)
                items[at].append((f"{base}/{path}" if base else path, goal, one))
        left = [at for at in items if at not in errand.done]
        for start in range(0, len(left), HOME_AT_ONCE):
            some = left[start : start + HOME_AT_ONCE]
            self._say(errand, f"output of {len(left)} tasks from {errand.site}", start, len(left))
            if errand.site == "noop":
                found: dict[int, str] = {}
            elif errand.site in SITES:
                found = self._copied(errand, {at: items[at] for at in some})
            else:
                found = self._gathered(errand, {at: items[at] for at in some})
            self._home(errand, order, some, {**found, **{at: notes[at] for at in some if at in notes}})

    @staticmethod
    def _folder(errand: Errand, index: int, attempt: int) -> str:
        template = errand.form.template
        if template.sandbox:
            row = {name: column.get(index) for name, column in errand.form.columns.items()}
            given = template.sandbox.format_map(row) if template.params else template.sandbox
            return given if given.startswith("/") else f"{errand.sandbox}/{given}"
        return f"{errand.sandbox}/{errand.form.bulk:06d}/{index:06d}.{attempt}"

    def _copied(self, errand: Errand, items: Items) -> dict[int, str]:
        """Copy outputs that lie on this machine; return notes about those that cannot be."""

        def wanted() -> None:
            if self._closed.is_set() or not errand.wanted():
                raise Unwanted

        notes: dict[int, str] = {}
        for at, each in items.items():
            for source, goal, one in each:
                try:
                    copy_here(Path(source), into(goal, source, Path(source).is_dir()), wanted)
                except FileNotFoundError:
                    if not one.optional:
                        notes[at] = f"{source} is not there"
                except OSError as error:
                    notes[at] = f"{error.filename or goal}: {error.strerror or error}"
        return notes

    def _gathered(self, errand: Errand, items: Items) -> dict[int, str]:
        """Fetch outputs from a site; return notes about those that cannot be had."""
        depot = self._depot(errand)
        seen = depot.look(sorted({source for each in items.values() for source, _, _ in each}))
        notes: dict[int, str] = {}
        large: list[tuple[int, str, Path]] = []
        pack_of: list[tuple[int, str, Path]] = []
        bytes_of = 0

        def unpack_them() -> None:
            nonlocal bytes_of
            read = depot.read_many(sorted({source for _, source, _ in pack_of})) if pack_of else {}
            for at, source, goal in pack_of:
                if source not in read:
                    large.append((at, source, goal))  # it changed in this moment, or has an odd name
                    continue
                data, mode = read[source]
                self._noted(notes, at, lambda: put_here(goal, [data], source, mode))  # noqa: B023 (called at once)
            pack_of.clear()
            bytes_of = 0

        for at, each in items.items():
            for source, goal, one in each:
                kind, size = seen.get(source, ("", 0))
                goal = into(goal, source, kind == "dir")
                if not kind:
                    if not one.optional:
                        notes[at] = f"{source} is not there"
                elif kind == "dir" or size > SMALL or "\\" in source:
                    large.append((at, source, goal))
                else:
                    pack_of.append((at, source, goal))
                    bytes_of += size
                    if bytes_of > PACK_BYTES:
                        unpack_them()
        unpack_them()
        for at, source, goal in large:
            kind, size = seen[source]

            def progress(now: int, whole: int, name: str = base_name(source)) -> None:
                self._say(errand, f"{name} from {errand.site}", now, whole)

            progress(0, size)
            if kind == "dir":
                self._noted(notes, at, lambda: depot.get_tree(source, goal, self._scratch(), progress))  # noqa: B023
            else:
                self._noted(notes, at, lambda: depot.get(source, goal, progress))  # noqa: B023
        return notes

    @staticmethod
    def _noted(notes: dict[int, str], at: int, act: Callable[[], None]) -> None:
        try:
            act()
        except LinkError:
            raise
        except JrmError as error:
            notes[at] = error.message
        except (OSError, ValueError) as error:
            notes[at] = f"{getattr(error, 'filename', '') or ''}: {getattr(error, 'strerror', '') or error}"

    def _home(self, errand: Errand, order: Fetch, positions: list[int], notes: dict[int, str]) -> None:
        if not positions:
            return
        errand.done |= set(positions)
        index = order.picks.array()[positions]
        attempt = pack(unpack(order.attempt, "<u2", len(order.picks))[positions], "<u2")
        place = {at: new for new, at in enumerate(positions)}
        told = {place[at]: note[:NOTE] for at, note in notes.items()}
        self._tell(Fetched(*errand.key, Picks.of(index), attempt, told))


def _kind(order: Bring | Fetch) -> tuple[object, ...]:
    return type(order), order.session, order.pilot, order.bulk, isinstance(order, Bring) and order.early


def _joined(one: Bring | Fetch, other: Bring | Fetch) -> Bring | Fetch:
    picks = Picks.of(np.concatenate((one.picks.array(), other.picks.array())))
    if isinstance(one, Fetch) and isinstance(other, Fetch):
        attempts = [unpack(each.attempt, "<u2", len(each.picks)) for each in (one, other)]
        return replace(one, picks=picks, attempt=pack(np.concatenate(attempts), "<u2"))
    return replace(one, picks=picks)


def into(goal: Path, source: str, folder: bool) -> Path:
    """Return where a file goes: into a directory that has its name; a directory's files join those that are there."""
    return goal / base_name(source) if not folder and goal.is_dir() else goal
