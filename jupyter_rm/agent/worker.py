"""One warm Python worker: reads batches of calls from standard input, runs them in turn, writes results.

It imports only what the interpreter has loaded anyway (no numpy, no jupyter_rm), so that it starts in a few
milliseconds and user code meets a clean process. It knows no pools, no allocations, nobody but the agent at the other
end of its pipes.

What is finished but not yet sent lies in a file shared with the agent (the *area*), so that a worker that is killed
takes only the call it was running with it. SIGUSR1 means: send what is finished, give back what has not begun. SIGINT
means: break off the running call. The agent's side, and the frames, are in :mod:`jupyter_rm.agent.workers`.
"""

from __future__ import annotations

import mmap
import os
import signal
import sys
from _pickle import dumps, loads
from time import time

TYPE_CHECKING = False  # typing is not imported for it: that takes as long as starting does
if TYPE_CHECKING:
    from typing import Any

    Ints = memoryview[int]
    Piece = bytes | memoryview

VERSION = 1  # of what is said between agent and worker
MOST = 4096  # results in one frame
ROOM = 1 << 20  # bytes of results in one frame
RIDE_ALONG = 256 * 1024  # as in wire/values.py
HEAD = 64
AREA = HEAD + MOST * 21 + ROOM
FLUSH = 0.002  # s between two frames of results while calls go on
RESULTS, GIVEN_BACK, HELLO = 1, 2, 3  # frames to the agent
FUNCTION, PLAN, CALLS = 1, 2, 3  # frames from the agent
DONE, RAISED, BAD, BROKEN_OFF, NO_SPACE = range(5)  # how a call ended
READ = 1 << 20


class Batch:
    """Some calls of one function: payload ``data[ends[i-1]:ends[i]]`` each."""

    __slots__ = ("attempts", "data", "ends", "function", "index", "plan", "size")

    def __init__(
        self, function: int, plan: int, index: Ints, attempts: Ints, ends: list[int], data: memoryview
    ) -> None:
        self.function, self.plan, self.index, self.attempts = function, plan, index, attempts
        self.ends, self.data, self.size = ends, data, len(ends)


class Bad(Exception):
    """Something that cannot be pickled or unpickled; the text names it."""


def of_python(version: str, body: bytes) -> Any:
    """Return what a pickle with code in it stands for: called by the pickles that ``client/functions.py`` makes."""
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if version != here:
        raise RuntimeError(
            f"code in it was made with Python {version}, and the pilot runs Python {here}, which cannot run that: "
            f"use Python {version} there, or put the code into a module that is installed on both sides"
        )
    return loads(body)


def explain(error: BaseException) -> str:
    """Return one line about an exception."""
    try:
        text = str(error).strip()
    except Exception:
        text = "(its text cannot be read)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def form(error: BaseException, skip: int) -> tuple[str, bytes]:
    """Return (note, marker + pickle) of an exception, as wire/values.py describes; ``skip`` frames are ours."""
    import traceback

    tb = error.__traceback__
    while skip and tb is not None:
        tb, skip = tb.tb_next, skip - 1
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        text = "".join(traceback.format_exception(kind, error, tb))
    except Exception:
        text = explain(error)
    pickled = None
    try:
        pickled = dumps(error, 5)
        loads(pickled)
    except BaseException:
        try:
            import cloudpickle

            pickled = cloudpickle.dumps(error, 5)
            loads(pickled)
        except BaseException:
            pickled = None
    if pickled is not None and len(pickled) > RIDE_ALONG // 2:
        pickled = None
    try:
        message = str(error)
    except Exception:
        message = ""
    note = explain(error)[:1000]
    return note, b"\x02" + dumps((pickled, name, message[:20_000], text[-60_000:]), 5)


def pickled(value: object) -> bytes:
    """Return the pickle of a result; Bad if it has none."""
    try:
        return dumps(value, 5)
    except Exception:
        try:
            import cloudpickle

            return bytes(cloudpickle.dumps(value, 5))
        except Exception as error:
            raise Bad(f"the result, a {type(value).__qualname__}, cannot be pickled: {explain(error)}") from error


def serve(area_file: str) -> None:
    """Work until standard input ends."""
    source, sink = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    # What calls write to descriptors 1 and 2 lands in these files and is moved to the task's own after each call.
    for fd, name in ((1, ".out"), (2, ".err")):
        file = os.open(area_file + name, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC, 0o600)
        os.dup2(file, fd)
        os.close(file)
    stdout: Any = sys.stdout
    stderr: Any = sys.stderr
    for stream in (stdout, stderr):
        stream.reconfigure(line_buffering=True, write_through=False, encoding="utf-8", errors="backslashreplace")
    fd = os.open(area_file, os.O_RDWR)
    area = memoryview(mmap.mmap(fd, AREA))
    os.close(fd)
    # head: number of the frame being filled; results in it; their bytes; calls ever begun.
    head = area[:HEAD].cast("Q")
    starts = area[HEAD : HEAD + MOST * 8].cast("d")
    stops = area[HEAD + MOST * 8 : HEAD + MOST * 16].cast("d")
    sizes = area[HEAD + MOST * 16 : HEAD + MOST * 20].cast("I")
    codes = area[HEAD + MOST * 20 : HEAD + MOST * 21]
    data = area[HEAD + MOST * 21 :]
    raw = area[HEAD:]

    functions: dict[int, Any] = {}
    plans: dict[int, list[bytes]] = {}
    buffer = bytearray()
    todo: list[Batch] = []  # not begun
    count = used = begun = received = 0
    frame = 1
    batch: Batch | None = None
    at = stop = 0  # the current batch: calls [at, stop) have not begun
    in_call = recalled = broken_off = reading = False
    handling = interrupted = False  # inside on_recall; and a SIGINT came meanwhile
    began = 0.0

    def send(kind: int, n: int, size: int, *parts: Piece) -> None:
        head_bytes = b"%c\0\0\0" % kind + n.to_bytes(4, "little") + size.to_bytes(8, "little")
        left = [head_bytes + frame.to_bytes(8, "little"), *parts]
        while left:
            sent = os.writev(sink, left)
            while left and sent >= len(left[0]):
                sent -= len(left.pop(0))
            if sent:
                left[0] = memoryview(left[0])[sent:]

    def flush() -> None:
        nonlocal count, used, frame
        if count:
            send(
                RESULTS,
                count,
                used,
                raw[: count * 8],
                raw[MOST * 8 : MOST * 8 + count * 8],
                raw[MOST * 16 : MOST * 16 + count * 4],
                codes[:count],
                data[:used],
            )
            count = used = 0
            frame += 1
            # In this order: a frame the agent has is never taken for one that is still to come.
            head[1] = 0
            head[2] = 0
            head[0] = frame

    def parse() -> None:
        nonlocal received
        place, size = 0, len(buffer)
        if size < 24 or size - 24 < int.from_bytes(buffer[16:24], "little"):
            return
        view = memoryview(bytes(buffer))
        while size - place >= 24:
            kind, n, number, plan = view[place : place + 16].cast("I")
            (length,) = view[place + 16 : place + 24].cast("Q")
            if size - place - 24 < length:
                break
            body = view[place + 24 : place + 24 + length]
            place += 24 + length
            if kind == CALLS:
                index, attempts = body[: n * 4].cast("I"), body[n * 4 : n * 6].cast("H")
                ends = body[n * 6 : n * 14].cast("Q").tolist()
                todo.append(Batch(number, plan, index, attempts, ends, body[n * 14 :]))
                received += n
            elif kind == FUNCTION:
                functions[number] = bytes(body)
            elif kind == PLAN:
                plans[number] = bytes(body).split(b"\0")
        if place:
            del buffer[:place]

    def pull() -> None:
        """Read what has arrived, without waiting."""
        os.set_blocking(source, False)
        try:
            while True:
                piece = os.read(source, READ)
                if not piece:
                    break
                buffer.extend(piece)
        except BlockingIOError:
            pass
        finally:
            os.set_blocking(source, True)
        parse()

    def give_back() -> None:
        """Send what is finished, then say how many of the calls received last will not be run here."""
        nonlocal stop, recalled
        recalled = False
        pull()
        back = stop - at + sum(b.size for b in todo)
        todo.clear()
        stop = at
        flush()
        send(GIVEN_BACK, back, received)

    def folder(of: Batch, i: int) -> bytes:
        prefix, given = plans[of.plan][:2]
        path = given or prefix + b"%06d.%d" % (of.index[i], of.attempts[i])
        os.makedirs(path, 0o700, exist_ok=True)  # noqa: PTH103
        return path

    def spill(of: Batch, i: int) -> None:
        """Move what was written to descriptors 1 and 2 into the files of call ``i``."""
        for fd, name in ((1, plans[of.plan][2]), (2, plans[of.plan][3])):
            size = os.lseek(fd, 0, 2)
            if not size:
                continue
            if name:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
                to = os.open(os.path.join(folder(of, i), name), flags, 0o600)  # noqa: PTH118
                try:
                    place = 0
                    while place < size:
                        place += os.write(to, os.pread(fd, min(READ, size - place), place))
                finally:
                    os.close(to)
            os.ftruncate(fd, 0)

    def on_recall(_signal: int, _stack: object) -> None:
        nonlocal recalled, in_call, handling, interrupted, broken_off
        if reading:
            send(GIVEN_BACK, 0, received)
            return
        if not in_call:
            recalled = True  # the loop sees to it between two calls
            return
        assert batch is not None
        in_call, handling = False, True  # a SIGINT must not break this off
        try:
            give_back()
            starts[count] = began
            for stream in (stdout, stderr):
                try:
                    stream.flush()
                except (RuntimeError, OSError, ValueError):
                    pass  # the call is just writing
            spill(batch, at - 1)
        except OSError:
            pass
        in_call, handling = True, False
        if interrupted:
            interrupted, broken_off = False, True
            raise KeyboardInterrupt("broken off by jupyter_rm")

    def on_interrupt(_signal: int, _stack: object) -> None:
        nonlocal broken_off, interrupted
        if handling:
            interrupted = True
        elif in_call:
            broken_off = True
            raise KeyboardInterrupt("broken off by jupyter_rm")

    def keep(value: bytes, of: Batch, i: int) -> bytes:
        """Return what travels of a long result: the path of a file."""
        path = os.path.join(folder(of, i), b"value.pickle")  # noqa: PTH118
        with open(path + b".part", "wb", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
            file.write(value)
        os.replace(path + b".part", path)  # noqa: PTH105
        return b"\x01" + path

    def load(number: int) -> Any:
        """Return a function, unpickled once; Bad says why it cannot be."""
        function = functions[number]
        if type(function) is bytes:
            try:
                function = loads(function)
            except BaseException as error:
                function = Bad(f"the function cannot be unpickled: {explain(error)}")
                function.__cause__ = error
            functions[number] = function
        return function

    def run() -> None:
        """Run the calls of the current batch from ``at`` to ``stop``."""
        nonlocal at, stop, count, used, begun, in_call, broken_off, began
        of = batch
        assert of is not None
        function = load(of.function)
        ends, payload = of.ends, of.data
        low = ends[at - 1] if at else 0
        flushed = now = time()
        while at < stop:
            if recalled:
                break
            i = at
            at = i + 1
            high = ends[i]
            starts[count] = began = now
            begun += 1
            head[3] = begun
            code, note = DONE, ""
            try:
                try:
                    arguments, named = loads(payload[low:high])
                except BaseException as error:
                    raise Bad(f"the arguments cannot be unpickled: {explain(error)}") from error
                if type(function) is Bad:
                    raise function
                in_call = True
                value = function(*arguments, **named)
                in_call = False
                value = b"\0" + pickled(value)
            except Bad as error:
                in_call = False
                code = BAD
                note, value = form(error.__cause__ or error, 1)
                note = str(error)[:1500]
            except BaseException as error:
                in_call = False
                if broken_off:
                    code, note, value = BROKEN_OFF, "", b""
                else:
                    code = RAISED
                    note, value = form(error, 1)
            broken_off = False
            arguments = named = None
            low = high
            try:
                if code == DONE and len(value) > RIDE_ALONG:
                    value = keep(value[1:], of, i)
                if sys.stdout is not stdout or sys.stderr is not stderr:
                    sys.stdout, sys.stderr = stdout, stderr
                stdout.flush()
                stderr.flush()
                if os.lseek(1, 0, 2) or os.lseek(2, 0, 2):
                    spill(of, i)
            except (OSError, ValueError) as problem:
                if code == DONE:
                    code, value = (NO_SPACE if getattr(problem, "errno", 0) in (28, 122) else BAD), b""
                    note = f"its result or output cannot be kept: {explain(problem)}"
            if code:
                text = note.encode("utf-8", "replace")
                value = len(text).to_bytes(4, "little") + text + value
            size = len(value)
            if used + size > ROOM:
                flush()
                starts[0] = began
            now = time()
            data[used : used + size] = value
            stops[count] = now
            sizes[count] = size
            codes[count] = code
            used += size
            count += 1
            head[2] = used
            head[1] = count
            if now - flushed > FLUSH or count == MOST:
                flush()
                flushed = now = time()
            value = None

    signal.signal(signal.SIGUSR1, on_recall)
    signal.signal(signal.SIGINT, on_interrupt)
    head[0] = frame
    send(HELLO, VERSION, 0)
    while True:
        while at < stop or todo:
            if at >= stop:
                batch = todo.pop(0)
                at, stop = 0, batch.size
            try:
                run()
            except KeyboardInterrupt:
                # It came in the moment a call ended by itself, after its value was lost.
                in_call = broken_off = False
                starts[count] = began
                stops[count], sizes[count], codes[count] = time(), 4, BROKEN_OFF
                data[used : used + 4] = b"\0\0\0\0"
                used, count = used + 4, count + 1
                head[2], head[1] = used, count
            if recalled:
                give_back()
        flush()
        reading = True  # from here on the handler answers by itself
        if recalled:
            recalled = False
            send(GIVEN_BACK, 0, received)
        piece = os.read(source, READ)
        reading = False
        if not piece:
            return
        buffer += piece
        parse()


if __name__ == "__main__":
    serve(sys.argv[1])
