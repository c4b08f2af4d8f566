"""The fast spawner's Python side: requests to its host program, event records back.

What it is: `NativeSpawner` starts `jrm-guard --spawn` (C++, a process of its own), packs launches in C++ and sends them
over a socket; the host starts, awaits, times and ends processes on its own threads and writes events into a pipe,
one by one when they are few, 200 times a second when they are many.

What it knows and does not know: it knows which tokens are out, so that a host that dies (killed for memory, say) is
reported: every live token ends as if by KILL, with error EPIPE, and all allocations are the caller's again. It
does not know which launch runs where. Why a process of its own: native/spawner_host.hpp.

Read next: native/spawner_wire.hpp, native/spawner_core.hpp.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal as signals
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from jupyter_rm.native import _spawner
from jupyter_rm.runtime import process_types as base

__all__ = ["NativeSpawner"]

ENV, START, QUEUE, FEED, RETRACT, CANCEL, SIGNAL, STATS, CLOSE = range(1, 10)
HEAD = struct.Struct("=IIQQQ")
CHUNK = 1 << 20
MANY = (1 << 64) - 1


class NativeSpawner:
    """The C++ spawner: vfork, pidfd, epoll and its own threads in a process of its own. Linux 5.3 or later."""

    def __init__(self, threads: int = 0, sweep: bool = True) -> None:
        host = base.guard_path()
        if host is None:
            raise ImportError("jrm-guard is not built: run scripts/build-native.sh")
        if base.EVENT.itemsize != _spawner.EVENT_SIZE:
            raise ImportError("jupyter_rm.native._spawner is from another version: rebuild it")
        self._lock = threading.Lock()
        self._envs = 0
        self._live: set[int] = set()
        self._started: set[int] = set()
        self._rest = b""
        self._closed = False
        self._ended = False
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._pipe, write = os.pipe()
        os.set_blocking(self._pipe, False)
        with contextlib.suppress(OSError):  # some sites allow less than this
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, CHUNK)
        with theirs:
            try:
                self._host = subprocess.Popen(
                    [str(host), "--spawn", str(threads), str(int(sweep))],
                    stdin=theirs.fileno(),
                    stdout=write,
                    start_new_session=True,
                    cwd="/",
                )
            finally:
                os.close(write)

    def __del__(self) -> None:
        # The host sees the socket end and clears up by itself. Nothing here may wait or start a thread: at the end of
        # the interpreter a new thread never comes to life. subprocess reaps the host when it starts another program.
        if hasattr(self, "_host"):
            self._socket.close()
            os.close(self._pipe)

    def fileno(self) -> int:
        return self._pipe

    def env(self, items: Iterable[bytes]) -> int:
        body = _spawner.pack_env(items)
        with self._lock:
            self._send(ENV, body)
            self._envs += 1
            return self._envs

    def start(self, pool: int, allocs: Sequence[int], launches: Sequence[base.Launch]) -> None:
        self._hand_in(START, pool, allocs, launches)

    def queue(self, pool: int, launches: Sequence[base.Launch]) -> None:
        self._hand_in(QUEUE, pool, None, launches)

    def feed(self, pool: int, alloc: int, cpus: Sequence[int] = ()) -> int:
        return self._ask(FEED, _spawner.pack_cpus(cpus), pool, alloc)[0]

    def retract(self, pool: int, n: int = -1) -> list[int]:
        with self._lock:
            self._send(RETRACT, b"", pool, n if n >= 0 else MANY)
            (count,) = self._receive(1)
            tokens = list(self._receive(count))
            self._live.difference_update(tokens)
            return tokens

    def cancel(self, tokens: Sequence[int]) -> None:
        with self._lock:
            self._send(CANCEL, np.asarray(tokens, dtype=np.uint64).tobytes())

    def signal(self, token: int, sig: int) -> bool:
        return bool(self._ask(SIGNAL, b"", token, int(sig))[0])

    def events(self) -> npt.NDArray[np.void]:
        with self._lock:
            self._read()
            data = self._rest
            whole = len(data) - len(data) % base.EVENT.itemsize
            self._rest = data[whole:]
            events = np.frombuffer(data[:whole], dtype=base.EVENT)
            kinds = events["kind"]
            self._started.update(events["token"][kinds == base.STARTED].tolist())
            over = events["token"][kinds != base.STARTED].tolist()
            self._live.difference_update(over)
            self._started.difference_update(over)
            if self._ended and self._live:
                events = np.concatenate([events, self._lost()])
            return events

    def knows(self, token: int) -> bool:
        return token in self._live

    @property
    def adopter(self) -> int:
        return self._host.pid

    @property
    def alive(self) -> bool:
        return not self._ended

    @property
    def running(self) -> int:
        return self._ask(STATS, b"", words=2)[0] if not self._ended else 0

    @property
    def queued(self) -> int:
        return self._ask(STATS, b"", words=2)[1] if not self._ended else 0

    def close(self, kill: bool = True, grace: float = 2.0) -> None:
        with self._lock:
            if not self._closed or kill:
                self._send(CLOSE, b"", int(kill), int(grace * 1000))
            self._closed = True
        if not kill:
            return
        # Its own bounds: close 2 x grace + 3 s, orphans grace + 5 s. It may also wait 1 s for us to read.
        deadline = time.monotonic() + 3 * grace + 9
        readable = select.poll()
        readable.register(self._pipe, select.POLLIN)
        while not self._ended and time.monotonic() < deadline:
            readable.poll(50)
            with self._lock:
                self._read()
        try:
            self._host.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._host.kill()
            self._host.wait()

    def _read(self) -> None:
        parts = [self._rest]
        while not self._ended:
            try:
                part = os.read(self._pipe, CHUNK)
            except BlockingIOError:
                break
            parts.append(part)
            self._ended = not part
        self._rest = b"".join(parts)

    # ---- the wire -----------------------------------------------------------------------------------------------

    def _hand_in(self, op: int, pool: int, allocs: Sequence[int] | None, launches: Sequence[base.Launch]) -> None:
        with self._lock:
            if self._closed or self._ended:
                raise RuntimeError("the spawner is closed" if self._closed else "the spawner's host program has died")
            tokens, bodies = _spawner.pack(launches, allocs, self._envs)
            fresh = set(tokens)
            if len(fresh) < len(tokens) or not self._live.isdisjoint(fresh):
                raise ValueError("a token is given twice or in use")
            self._live |= fresh
            for body in bodies:
                self._send(op, body, pool)

    def _ask(self, op: int, body: bytes, a: int = 0, b: int = 0, words: int = 1) -> tuple[int, ...]:
        with self._lock:
            self._send(op, body, a, b)
            return self._receive(words)

    def _send(self, op: int, body: bytes, a: int = 0, b: int = 0) -> None:
        head = HEAD.pack(op, _spawner.WIRE_VERSION, len(body), a, b)
        try:
            self._socket.sendall(head + body if len(body) < 4096 else head)
            if len(body) >= 4096:
                self._socket.sendall(body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the host is dead: events() tells of everything that was lost

    def _receive(self, words: int) -> tuple[int, ...]:
        data = b""
        while len(data) < 8 * words:
            try:
                part = self._socket.recv(8 * words - len(data))
            except ConnectionResetError:
                part = b""
            if not part:
                return (0,) * words
            data += part
        return struct.unpack(f"={words}Q", data)

    def _lost(self) -> npt.NDArray[np.void]:
        """Events for all that a dead host leaves open: what ran was killed with it, the rest never starts."""
        lost = np.zeros(len(self._live), dtype=base.EVENT)
        lost["token"] = sorted(self._live)
        ran = np.isin(lost["token"], np.array(sorted(self._started), dtype=np.uint64))
        lost["kind"] = np.where(ran, base.ENDED, base.FAILED)
        lost["status"] = np.where(ran, int(signals.SIGKILL), 0)
        lost["step"] = np.where(ran, 0, base.STEPS.index("fork"))
        lost["error"] = errno.EPIPE
        lost["pid"] = -1
        lost["ended"] = time.time()
        self._live.clear()
        self._started.clear()
        return lost
