"""A shell on another machine that stays: ``%%jrm sh HOST`` cells share its directory, variables and functions.

One ``sh`` per host runs behind one login of this kernel; nothing is installed or left there. Each cell is sent as one
encoded line and evaluated by that shell, so that it can never read what belongs to the next cell; words at the end of
both streams say that it is over. Knows no magics. Read next: :mod:`jupyter_rm.runtime.connect`.
"""

from __future__ import annotations

import codecs
import contextlib
import secrets
import threading
from collections.abc import Callable
from typing import Any

from ..model.errors import JrmError, LinkError, RequestError
from ..runtime.connect import Asker, Connections, Nobody, Stream
from ..runtime.connect.quote import encoded

MOST = 2 << 20  # bytes of one cell's output that are shown
MOST_CELL = 256 << 10  # bytes of one cell
LOOK_S = 0.1
# bash where there is one, since people write bash. No start-up files: what a cell does depends on cells alone.
_START = ["sh", "-c", "if command -v bash >/dev/null 2>&1; then exec bash --noprofile --norc; else exec sh; fi"]
# What runs is a function, so that Ctrl-C can leave it (and any loop in it) without ending the shell.
_BEGIN = "trap 'return 130' INT\njrm_run() { command eval \"$jrm_cell\" </dev/null; }\n"
# ``command`` keeps a syntax error from ending the shell.
_LINE = (
    "jrm_cell=$(printf '%b' '{code}'; printf .); jrm_cell=${{jrm_cell%.}}; "
    "jrm_run; jrm_code=$?; printf '{mark} %d %s\\n' \"$jrm_code\" \"$PWD\"; printf '{mark}\\n' >&2\n"
)
# Everything in the shell's process group but its leader, which would end with it.
_CTRL_C = [
    "sh",
    "-c",
    "ps -A -o pid=,pgid= | while read -r pid group; do "
    'if [ "$group" = "$1" ] && [ "$pid" != "$1" ]; then kill -s INT "$pid"; fi; done 2>/dev/null',
    "sh",
]
Write = Callable[[str], object]


class RemoteShell:
    """One shell at one machine.

    Args:
        target: ``me@host``, ``ssh://me@host:port``, an alias of the SSH configuration, or ``local``.

    Attributes:
        directory: where it stood after the last cell; empty before the first.
    """

    def __init__(self, target: str, connections: Connections) -> None:
        self.target = target
        self.directory = ""
        self._connections = connections
        self._stream: Stream | None = None
        self._once = False  # nothing may stay there between two cells
        self._busy = threading.Lock()

    @property
    def open(self) -> bool:
        """Does it run?"""
        return self._stream is not None

    def start(self, ask: Asker) -> None:
        """Log in, if need be, and start the shell; harmless when it runs.

        Raises:
            RequestError, LinkError: as :func:`jupyter_rm.runtime.connect.connect`.
        """
        if self._stream is not None and self._stream.rc is None:
            return
        connection = self._connections.get(self.target, ask)
        self._once = not connection.policy.resident
        self._stream = connection.start(_START)
        self._stream.write(_BEGIN.encode())
        if self.directory:
            # The shell is a new one (the last one ended, or its connection): at least the place is the same.
            self._stream.write(f"cd \"$(printf '%b' '{encoded(self.directory)}')\"\n".encode("ascii"))

    def run(self, text: str, out: Write, err: Write) -> int:
        """Run a cell and return its exit code; its output is passed on as it comes, at most :data:`MOST` bytes.

        Raises:
            RequestError: the cell is too long, or the shell is busy with another one.
            LinkError: the shell or its connection ended meanwhile.
            KeyboardInterrupt: Ctrl-C; what ran there was interrupted too, the shell goes on.
        """
        if len(text.encode("utf-8", "replace")) > MOST_CELL or "\0" in text:
            raise RequestError(
                f"sh: the cell is larger than {MOST_CELL >> 10} KiB or holds a NUL",
                hint="put it into a file there",
                code="JRM-Q40",
            )
        if not self._busy.acquire(blocking=False):
            raise RequestError(
                f"sh: the shell at {self.target} is busy", hint="wait for the other cell", code="JRM-Q40"
            )
        try:
            return self._run(text, out, err)
        finally:
            if self._once:
                self.close()  # the next cell starts another one in the same directory
            self._busy.release()

    def _run(self, text: str, out: Write, err: Write) -> int:
        stream = self._stream
        assert stream is not None
        mark = "jrm-end-" + secrets.token_hex(8)
        stream.write(_LINE.format(code=encoded(text), mark=mark).encode("ascii"))
        ended = threading.Event()
        tail = _Until(mark, err)
        thread = threading.Thread(target=lambda: _pump(stream.err, tail, ended), name="jrm-sh", daemon=True)
        thread.start()
        head = _Until(mark, out)
        interrupted = False
        while not head.over:
            try:
                _pump(stream.out, head, ended, once=True)
            except KeyboardInterrupt:
                if interrupted:  # it does not react: end it
                    ended.set()
                    self.close()
                    raise
                interrupted = True
                self._interrupt(stream)
            if head.ended:
                break
        if not head.over:
            ended.set()
            self._stream, code = None, None
            with contextlib.suppress(LinkError):
                code = stream.wait(5.0)
            raise LinkError(
                f"the shell at {self.target} ended" + (f" with exit code {code}" if code is not None else ""),
                code="JRM-T21",
                hint="the next cell starts a new one in the same directory; variables are lost",
            )
        thread.join(5.0)
        ended.set()
        if interrupted:
            raise KeyboardInterrupt
        code_text, _, self.directory = head.last.partition(" ")
        return int(code_text)

    def _interrupt(self, stream: Stream) -> None:
        """Send Ctrl-C there."""
        with contextlib.suppress(JrmError):
            connection = self._connections.get(self.target, Nobody())
            connection.run([*_CTRL_C, str(stream.group(10))], timeout=10)

    def close(self) -> None:
        """End the shell; the login stays for others."""
        stream, self._stream = self._stream, None
        if stream is not None:
            with contextlib.suppress(JrmError, OSError):
                stream.close()


class _Until:
    """Passes text on until a line of its own says that the cell is over."""

    def __init__(self, mark: str, write: Write) -> None:
        self._mark = mark.encode()
        self._write = write
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._held = b""
        self._shown = 0
        self.over = False
        self.ended = False
        self.last = ""

    def take(self, data: bytes) -> None:
        """Take what came; an empty one is the end of the stream."""
        if not data:
            self.ended = True
            self._pass(self._held)
            return
        self._held += data
        place = self._held.find(self._mark)
        line, end, _ = self._held[max(0, place) :].partition(b"\n")
        if place >= 0 and end:
            self._pass(self._held[:place])
            self.last = line[len(self._mark) :].strip().decode("utf-8", "surrogateescape")
            self.over = True
            return
        if place < 0:
            # The end of what came may be the beginning of the mark.
            lengths = range(min(len(self._mark), len(self._held)), 0, -1)
            place = len(self._held) - next((n for n in lengths if self._held.endswith(self._mark[:n])), 0)
        self._pass(self._held[:place])
        self._held = self._held[place:]

    def _pass(self, data: bytes) -> None:
        room = MOST - self._shown
        self._shown += len(data)
        text = self._decode(data[: max(0, room)])
        if text:
            self._write(text)
        if room >= 0 and len(data) > room:
            self._write(f"\n[more than {MOST >> 20} MiB of output; the rest is not shown]\n")


def _pump(pipe: Any, until: _Until, stop: threading.Event, once: bool = False) -> None:
    while not (until.over or until.ended or stop.is_set()):
        try:
            until.take(pipe.read(timeout=LOOK_S))
        except TimeoutError:
            pass
        if once:
            return
