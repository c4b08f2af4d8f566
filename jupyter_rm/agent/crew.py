"""One Python worker as the agent sees it: its process, its two pipes, and the calls that are under way to it.

Knows the frames and the shared area; knows nothing about pools and allocations. The other end of the pipes is
:mod:`jupyter_rm.agent.worker`. Read next: :mod:`jupyter_rm.agent.workers`.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import mmap
import os
import selectors
import shutil
import signal
import struct
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..core.holdings import HeldBulk
from ..model.columns import Picks
from ..model.effects import Tokens
from ..model.ids import tokens
from ..model.states import Cause, TaskState
from ..runtime.process import ENDED, STARTED, Launch, SpawnerLike
from . import worker as far
from .commands import Site
from .environments import Captured
from .leftovers import own_folder
from .notes import code_note, tail

RESULTS, GIVEN_BACK, HELLO = far.RESULTS, far.GIVEN_BACK, far.HELLO
PIPE = 1 << 20
Kind = tuple[int, tuple[tuple[str, str], ...]]
Ending = tuple[TaskState, Cause, str]
_HEAD = struct.Struct("<IIQQ")
_ORDER = struct.Struct("<IIIIQ")
_ONE = struct.Struct("<IHQ")  # the columns of a single call
# Loaded by path, so that a worker does not import the package; the name is freed for a user's own module "worker".
_BOOT = (
    "import sys; sys.path[:1] = [sys.argv[2]]; import worker; del sys.path[0]; "
    "sys.modules['_jrm_worker'] = sys.modules.pop('worker'); a = sys.argv[1]; sys.argv[:] = ['']; worker.serve(a)"
)

# In an environment of the user's: another Python, whose cloudpickle may be missing, or too old for what the client
# made.
_BOOT_THERE = """\
import sys
if sys.version_info < (3, 8):
    sys.exit("%s is Python %d.%d; calls need 3.8 or later" % ((sys.executable,) + sys.version_info[:2]))
if sys.argv[3]:
    import importlib.util
    spec = importlib.util.spec_from_file_location(
        "cloudpickle", sys.argv[3] + "/__init__.py", submodule_search_locations=[sys.argv[3]]
    )
    sys.modules["cloudpickle"] = made = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(made)
    except Exception:
        del sys.modules["cloudpickle"]
    del spec, made
""" + _BOOT.replace("; ", "\n")


@dataclass(slots=True)
class Frame:
    """What a worker sent; arrays of shape (count,) for results, ``serial`` is what the frame says of itself."""

    kind: int
    count: int
    serial: int
    started: npt.NDArray[np.float64]
    ended: npt.NDArray[np.float64]
    sizes: npt.NDArray[np.uint32]
    codes: npt.NDArray[np.uint8]
    data: bytes = b""


class CallPlan:
    """What all calls of a bulk have in common."""

    __slots__ = ("bulk", "cwd", "env", "held", "kind", "sha", "template", "text", "timeout")

    def __init__(
        self, bulk: int, held: HeldBulk, site: Site, captured: Captured, environment: Mapping[str, str]
    ) -> None:
        template = self.template = held.template
        assert captured.env is not None
        extra = {"JRM_SESSION": site.session, "JRM_PILOT": f"p.{site.pilot}"} | dict(environment)
        if site.here is not None:
            extra["JRM_NODE"] = site.nodes[site.here].name
        if "OMP_NUM_THREADS" not in captured.env:
            extra.setdefault("OMP_NUM_THREADS", str(template.request.cores))
        given = os.path.join(site.sandbox, template.sandbox) if template.sandbox else ""  # noqa: PTH118
        # A directory for each call would cost more than most calls take: they share the pilot's, or the one they name.
        self.cwd = extra["JRM_SANDBOX"] = given or site.sandbox
        self.bulk, self.held, self.sha, self.timeout = bulk, held, template.function, template.timeout
        self.kind: Kind = (captured.serial, tuple(sorted(extra.items())))
        prefix = f"{site.sandbox}/{bulk:06d}/"
        self.text = b"\0".join(map(os.fsencode, (prefix, given, template.stdout, template.stderr)))
        self.env = captured

    def holds(self, held: HeldBulk) -> bool:
        """Say whether this is still the plan for what is held."""
        return self.held is held and self.template is held.template


_NONE = np.zeros(0)


class Worker:
    """A worker process.

    Args:
        kind, env: what environment it has; ``env`` is the spawner's number of it.
        cpus: cores it is bound to, [] none.
        cwd: its working directory. python: its interpreter; empty: that of the agent.
        spawner, selector: where it is started and listened to.

    Raises OSError when its pipes cannot be made.
    """

    def __init__(
        self,
        kind: Kind,
        env: int,
        cpus: list[int],
        cwd: str,
        spawner: SpawnerLike,
        selector: selectors.BaseSelector,
        python: str = "",
    ) -> None:
        self.python = python
        self.refused = ""
        self.kind, self._env, self._cpus, self._cwd = kind, env, cpus, cwd
        self._spawner, self._selector = spawner, selector
        self.seat: object = None
        self.ready = False
        self.pid = -1
        self.flight = 0
        self.held_back = False  # asked to give back and not answered yet: nothing more is sent meanwhile
        self.asks = 0  # times it was asked again
        self.doomed: dict[int, Ending] = {}
        self.end_by: float | None = None
        self.due: float | None = None
        self.quiet = 0
        self.told = 0
        self._token = 0
        self._results = 0
        self._frames = 0
        self._sent = 0
        self._since = (0, 0.0)
        self._fifo: deque[Tokens] = deque()
        self._parts: list[bytes] = []
        self._out: deque[memoryview] = deque()
        self._in = bytearray()
        self._functions: dict[bytes, int] = {}
        self._plans: dict[int, tuple[int, object]] = {}
        self._pidfd = -1
        self._folder = own_folder("py")
        self._base = os.path.join(self._folder, "w")  # noqa: PTH118
        self.err_file = self._base + ".err"
        self._source = self._sink = -1
        try:
            os.mkfifo(self._base + ".i", 0o600)
            os.mkfifo(self._base + ".o", 0o600)
            # Opened for both so that opening never waits for the other side.
            self._sink = os.open(self._base + ".i", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            self._source = os.open(self._base + ".o", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            for fd in (self._sink, self._source):
                if hasattr(fcntl, "F_SETPIPE_SZ"):
                    with contextlib.suppress(OSError):
                        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE)
            fd = os.open(self._base, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(fd, far.AREA)
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(fd, 0, far.AREA)  # a full disk is an error here, and a crash later
                self._area = mmap.mmap(fd, far.AREA)
            finally:
                os.close(fd)
        except OSError:
            self._close()
            raise
        self._head = np.frombuffer(self._area, np.uint64, 4)
        self._begun_at = np.frombuffer(self._area, np.float64, far.MOST, far.HEAD)
        selector.register(self._source, selectors.EVENT_READ, self)
        self._writing = False

    # ------------------------------------------------------------ process

    def start(self, token: int) -> None:
        """Start the process under a spawner's token."""
        self._token = token
        here = os.path.dirname(far.__file__)  # noqa: PTH120
        argv = [sys.executable, "-c", _BOOT, self._base, here]
        if self.python:
            found = importlib.util.find_spec("cloudpickle")
            pickler = found.submodule_search_locations if found is not None else None
            argv = [self.python, "-c", _BOOT_THERE, self._base, here, pickler[0] if pickler else ""]
        stdin, stdout, stderr = (os.fsencode(self._base + end) for end in (".i", ".o", ".err"))
        command = [os.fsencode(part) for part in argv]
        launch = Launch(token, command, self._env, os.fsencode(self._cwd), stdin, stdout, stderr, self._cpus)
        self._spawner.start(token, [token], [launch])

    def take_event(self, event: np.void) -> bool:
        """Take the spawner's event in; False when the process is over."""
        if event["kind"] != STARTED:
            return False
        self.pid = int(event["pid"])
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                self._pidfd = os.pidfd_open(self.pid)
        return True

    def greet(self, version: int) -> None:
        """Note that it is ready; its files need no names any more. One that speaks another protocol is ended."""
        if version != far.VERSION:
            self.refused = f"the Python worker speaks protocol {version}, its agent {far.VERSION}"
            self.kill()
            return
        self.ready = True
        for end in ("", ".i", ".o"):
            with contextlib.suppress(OSError):
                os.unlink(self._base + end)  # noqa: PTH108

    def signal(self, number: signal.Signals) -> None:
        """Signal the worker itself, not what its calls started."""
        with contextlib.suppress(OSError):
            if self._pidfd >= 0 and hasattr(signal, "pidfd_send_signal"):
                signal.pidfd_send_signal(self._pidfd, number)
            elif self.pid > 0:
                os.kill(self.pid, number)

    def recall(self) -> None:
        """Ask for everything finished and everything not begun."""
        if self.pid < 0:
            return  # it works already, and word of its start is still on the way: it is asked at the next look
        if not self.held_back and self.ready and self.flight:
            self.held_back = True
        self.signal(signal.SIGUSR1)

    def answered(self) -> None:
        """Note that it said what it gives back."""
        self.held_back, self.asks = False, 0

    def kill(self) -> None:
        """Kill the worker and all its calls started."""
        self._spawner.signal(self._token, signal.SIGKILL)

    def move(self, cpus: list[int]) -> None:
        """Bind an idle worker to other cores."""
        if cpus == self._cpus or not cpus or self.pid < 0 or not hasattr(os, "sched_setaffinity"):
            return
        self._cpus = cpus
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{self.pid}/task"):  # noqa: PTH208
                os.sched_setaffinity(int(thread), cpus)

    def dismiss(self) -> None:
        """Let it end by itself: its input ends."""
        self._close()

    def bury(self) -> None:
        """Forget a process that is over."""
        self._close()

    def _close(self) -> None:
        if self._source >= 0:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(self._source)
            os.close(self._source)
        if self._sink >= 0:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(self._sink)
            os.close(self._sink)
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self._source = self._sink = self._pidfd = -1
        shutil.rmtree(self._folder, ignore_errors=True)

    # ------------------------------------------------------------ what it is doing

    @property
    def begun(self) -> int:
        """How many calls it ever began."""
        return int(self._head[3])

    @property
    def unsent(self) -> int:
        """How many results are finished and not sent."""
        return int(self._head[1]) if int(self._head[0]) == self._frames + 1 else 0

    @property
    def running(self) -> bool:
        """Say whether a call is running."""
        return self.flight > 0 and self.begun > self._results + self.unsent

    def running_token(self) -> int:
        """Return the token of the running call."""
        return int(self.flying()[self.begun - self._results - 1])

    def running_since(self) -> float:
        """Return when the running call began, s since the epoch."""
        return float(self._begun_at[min(int(self._head[1]), far.MOST - 1)])

    def since(self, now: float) -> float:
        """Return when the running call was first seen running, monotonic s."""
        if self._since[0] != self.begun:
            ago = max(0.0, time.time() - self.running_since())
            self._since = (self.begun, now - min(ago, 1.0))
        return self._since[1]

    def wrote(self) -> bool:
        """Say whether the running call wrote to standard output or error."""
        for end in (".out", ".err"):
            with contextlib.suppress(OSError):
                if os.stat(self._base + end).st_size:  # noqa: PTH116
                    return True
        return False

    # ------------------------------------------------------------ calls under way

    def flying(self) -> Tokens:
        """Return the calls under way, in the order they run."""
        if len(self._fifo) > 1:
            self._fifo = deque([np.concatenate(self._fifo)])
        return self._fifo[0] if self._fifo else np.zeros(0, np.uint64)

    def take(self, count: int) -> Tokens:
        """Take the first ``count`` calls out."""
        first = self._fifo[0] if self._fifo else np.zeros(0, np.uint64)
        if len(first) < count:
            first = self.flying()
        self._fifo.popleft() if self._fifo else None
        if len(first) > count:
            self._fifo.appendleft(first[count:])
        self.flight -= count
        return first[:count]

    def counted(self, count: int) -> None:
        """Count a frame of results."""
        self._results += count
        self._frames += 1

    def take_back(self, count: int, received: int) -> Tokens:
        """Take ``count`` calls out that it gives back, the last of the ``received`` that had reached it."""
        unread = self._sent - received
        flying = self.flying()
        stop = len(flying) - unread
        back = flying[stop - count : stop]
        left = np.concatenate((flying[: stop - count], flying[stop:]))
        self._fifo = deque([left] if len(left) else [])
        self.flight = len(left)
        return back

    def send_calls(self, plan: CallPlan, function: bytes, index: npt.NDArray[np.int64], most: int) -> int:
        """Send calls of one bulk, at most about ``most`` bytes of arguments; return how many."""
        number = self._functions.get(plan.sha)
        if number is None:
            number = self._functions[plan.sha] = len(self._functions)
            self._put(far.FUNCTION, 0, number, 0, [function])
        known = self._plans.get(plan.bulk)
        if known is None or known[1] is not plan:
            known = self._plans[plan.bulk] = (len(self._plans), plan)
            self._put(far.PLAN, 0, known[0], 0, [plan.text])
        ends, data = _payload(plan, index)
        if len(data) > most:
            count = max(1, int(np.searchsorted(ends, most, "right")))
            if count < len(index):
                index, ends, data = index[:count], ends[:count], data[: int(ends[count - 1])]
        count = len(index)
        if count == 1:
            segment, row = plan.held.find(int(index[0]))
            columns = _ONE.pack(index[0], segment.attempt[row], len(data))
            self._put(far.CALLS, 1, number, known[0], [columns, data])
            return self._sent_off(plan.bulk, index)
        attempts = plan.held.attempts(index)
        columns = index.astype("<u4").tobytes() + attempts.astype("<u2").tobytes() + ends.astype("<u8").tobytes()
        self._put(far.CALLS, count, number, known[0], [columns, data])
        return self._sent_off(plan.bulk, index)

    def _sent_off(self, bulk: int, index: npt.NDArray[np.int64]) -> int:
        self.push()
        count = len(index)
        self._fifo.append(tokens(bulk, index))
        self.flight += count
        self._sent += count
        if self.due is None:
            self.due = time.monotonic() + 0.02
        return count

    def _put(self, kind: int, count: int, number: int, plan: int, parts: list[bytes]) -> None:
        self._parts += (_ORDER.pack(kind, count, number, plan, sum(map(len, parts))), *parts)

    def push(self) -> None:
        """Write as much as the pipe takes, and listen for room when it is full."""
        if self._parts:  # in one piece: the worker is woken once
            self._out.append(memoryview(b"".join(self._parts)))
            self._parts.clear()
        while self._out and self._sink >= 0:
            try:
                sent = os.write(self._sink, self._out[0])
            except BlockingIOError:
                break
            if sent == len(self._out[0]):
                self._out.popleft()
            else:
                self._out[0] = self._out[0][sent:]
        if bool(self._out) != self._writing and self._sink >= 0:
            self._writing = bool(self._out)
            if self._writing:
                self._selector.register(self._sink, selectors.EVENT_WRITE, self)
            else:
                self._selector.unregister(self._sink)

    # ------------------------------------------------------------ frames from it

    def frames(self) -> list[Frame]:
        """Read what has arrived; return the whole frames."""
        while self._source >= 0:
            try:
                piece = os.read(self._source, PIPE)
            except BlockingIOError:
                break
            if not piece:  # nobody writes any more; the spawner says when the process is over
                with contextlib.suppress(KeyError):
                    self._selector.unregister(self._source)
                break
            self._in += piece
            if len(piece) < 65536:
                break
        out, place = [], 0
        have = bytes(self._in)
        while len(have) - place >= _HEAD.size:
            kind, count, size, serial = _HEAD.unpack_from(have, place)
            whole = _HEAD.size + (count * 21 + size if kind == RESULTS else 0)
            if len(have) - place < whole:
                break
            if kind == RESULTS:
                out.append(_columns(have, place + _HEAD.size, count, size, serial, count))
            else:
                out.append(Frame(kind, count, size, _NONE, _NONE, _NONE, _NONE))  # type: ignore[arg-type]
            place += whole
        if place:
            del self._in[:place]
        return out

    def unsent_frame(self) -> Frame | None:
        """Return the results a dead worker had finished and not sent."""
        count = self.unsent
        if not count:
            return None
        have = bytes(self._area)
        return _columns(have, far.HEAD, count, int(self._head[2]), int(self._head[0]), far.MOST)


def _columns(have: bytes, place: int, count: int, size: int, serial: int, pitch: int) -> Frame:
    """Read results whose columns are ``pitch`` long, starting at ``place``."""
    return Frame(
        RESULTS,
        count,
        serial,
        np.frombuffer(have, "<f8", count, place),
        np.frombuffer(have, "<f8", count, place + pitch * 8),
        np.frombuffer(have, "<u4", count, place + pitch * 16),
        np.frombuffer(have, "u1", count, place + pitch * 20),
        have[place + pitch * 21 : place + pitch * 21 + size],
    )


def _payload(plan: CallPlan, index: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.uint64], bytes]:
    """Return (cumulative ends, joined arguments) of calls; no object per call when they are consecutive."""
    count = len(index)
    if count == 1:
        only = plan.held.payload(int(index[0]))
        return np.array([len(only)], np.uint64), only
    if (run := plan.held.run(index)) is not None:
        segment, row = run
        column = segment.payload
        if column is not None and column.kind == "bytes":
            cut = column.take(Picks.span(row, row + count))
            return np.frombuffer(cut.ends, "<u8"), cut.data
    items = plan.held.payloads(index)
    return np.cumsum([len(item) for item in items], dtype="<u8"), b"".join(items)


def ended_note(event: np.void, err_file: str) -> str:
    """Return a note about how a worker died, with what it wrote last."""
    if int(event["kind"]) != ENDED:
        return f"the Python worker could not be started: {os.strerror(int(event['error']))}"
    code = os.waitstatus_to_exitcode(int(event["status"]))
    how = code_note(code) if code < 0 else f"ended with {code_note(code)}"
    note = f"the Python worker was {how}" if code < 0 else f"the Python worker {how}"
    last = tail(os.path.dirname(err_file), os.path.basename(err_file))  # noqa: PTH119, PTH120
    return f"{note}, under this call; stderr ends: {last}" if last else f"{note}, under this call"
