"""The test bed as an object: servers, a client's files, people who answer, and things that go wrong."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from jupyter_rm.runtime.connect import Connection, ConnectSettings, Question, connect

SCRIPTS = Path(__file__).resolve().parent.parent / "testbed"
SERVERS = ("login", "node", "deep", "mfa", "mfa0", "user", "few", "pass")


def eventually(check: Callable[[], Any], what: str, within_s: float = 10.0) -> Any:
    """Return the first true answer of ``check``; fail with ``what`` when there is none in time."""
    deadline = time.monotonic() + within_s
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < deadline, what
        threading.Event().wait(0.02)


def totp(secret: str, at_s: float | None = None) -> str:
    """Return the one-time code of RFC 6238 (SHA-1, 30 s, 6 digits)."""
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    moment = int(time.time() if at_s is None else at_s) // 30
    digest = hmac.new(key, struct.pack(">Q", moment), hashlib.sha1).digest()
    start = digest[-1] & 15
    return f"{(struct.unpack('>I', digest[start : start + 4])[0] & 0x7FFFFFFF) % 10**6:06d}"


@dataclass
class Person:
    """Answers what it is asked; every question is kept. A value None means: say nothing for now."""

    answers: dict[str, Any]
    seen: list[Question] = field(default_factory=list)

    def ask(self, question: Question) -> None:
        self.seen.append(question)
        value = self.answers.get(question.kind, "")
        text = value() if callable(value) else value
        if text is not None:
            question.answer(text)

    @property
    def kinds(self) -> list[str]:
        return [question.kind for question in self.seen]


class Bed:
    """Running servers on a base port, with the files of a client.

    Args:
        state: directory for everything.
        port: the first of eight.
        site: behind the slow link.
    """

    def __init__(self, state: Path, port: int, site: bool = False, servers: str = "") -> None:
        self.state, self.port, self.site = state, port, site
        self.client = state / "client"
        self._env = {**os.environ, "TB_STATE": str(state), "TB_SSH_PORT": str(port)}
        if servers:
            self._env["TB_SERVERS"] = servers
        self._made: list[Path] = []

    def script(self, *argv: str) -> None:
        # The output goes to a file: daemons would hold a pipe open.
        log = self.state.parent / f"{self.state.name}.log"
        with log.open("ab") as stream:
            done = subprocess.run(
                [str(SCRIPTS / argv[0]), *argv[1:]],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                timeout=240,
            )
        assert done.returncode == 0, f"{argv}: {log.read_text()[-2000:]}"

    def up(self) -> None:
        if self.site:
            self.script("net-up.sh")
        self.script("sshd-up.sh", *(["site"] if self.site else []))

    def down(self) -> None:
        if self.site:
            self.script("net-down.sh")
        self.script("sshd-down.sh", "--wipe")
        (self.state.parent / f"{self.state.name}.log").unlink()
        for path in self._made:
            shutil.rmtree(path, ignore_errors=True)

    # --- the client

    def person(self, **answers: Any) -> Person:
        usual = {
            "password": (self.client / "password").read_text().strip(),
            "otp": lambda: totp((self.client / "totp").read_text().strip()),
            "passphrase": "open sesame",
            "host_key": "yes",
        }
        return Person({**usual, **answers})

    def settings(self, transport: str, **more: Any) -> ConnectSettings:
        control = Path(tempfile.mkdtemp(prefix="jc"))
        self._made.append(control)
        chosen: dict[str, Any] = {
            "control_dir": control,
            "transport": "auto" if transport == "local" else transport,
            "ssh_config": self.client / "config",
            "use_agent": False,
            "keepalive_s": 10.0,
            "backoff_first_s": 0.1,
            "attempts_per_min": 1000,
        }
        return ConnectSettings(**{**chosen, **more})

    def connect(self, transport: str, name: str = "login", person: Person | None = None, **more: Any) -> Connection:
        target = "local" if transport == "local" else f"tb-{name}" if name in SERVERS else name
        return connect(target, person or self.person(), self.settings(transport, **more))

    def config(self, extra: str) -> Path:
        """Return a configuration with lines that come before the usual ones."""
        handle, name = tempfile.mkstemp(prefix="config", dir=self.client)
        os.close(handle)
        path = Path(name)
        path.write_text(extra + "\n" + (self.client / "config").read_text())
        return path

    def port_of(self, name: str) -> int:
        return self.port + SERVERS.index(name)

    # --- what goes wrong

    def listener(self, name: str) -> psutil.Process:
        return psutil.Process(int((self.state / "pids" / f"sshd-{name}.pid").read_text().split()[0]))

    def kill_sessions(self, name: str) -> None:
        """kill -9 of every server process that holds a session, not of the listener."""
        self._kill(name, self._group(name), {self.listener(name).pid})

    def stop(self, name: str) -> None:
        """The machine goes down: the server ends, and every session with it."""
        process, group = self.listener(name), self._group(name)
        process.terminate()
        eventually(lambda: not _lives(process), f"the server {name} does not end")
        self._kill(name, group, set())

    def _kill(self, name: str, group: Path, spared: set[int]) -> None:
        def none_left() -> bool:
            # A login that was just accepted still forks: what was listed before the fork is not all.
            left = [pid for pid in map(int, group.read_text().split()) if pid not in spared and _holds_session(pid)]
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not left

        eventually(none_left, f"sessions of {name} do not end")

    def _group(self, name: str) -> Path:
        """Return the list of what runs in a server's own control group, orphans included."""
        lines = Path(f"/proc/{self.listener(name).pid}/cgroup").read_text().splitlines()
        path = next(line[3:] for line in lines if line.startswith("0::"))
        assert path.endswith(f"/sshd-{name}"), f"no control group of its own: {path}"
        root = Path("/sys/fs/cgroup/unified")
        return (root if root.exists() else root.parent) / path[1:] / "cgroup.procs"

    def start(self, name: str) -> None:
        self._env["TB_SERVERS"] = name
        try:
            self.up()
        finally:
            del self._env["TB_SERVERS"]

    def log(self, name: str) -> str:
        return (self.state / "log" / f"{name}.log").read_text(errors="replace")

    def logins(self, name: str) -> int:
        """How many TCP connections the server's log has ended or begun to authenticate."""
        return self.log(name).count("Accepted ")

    def wan(self, *words: str) -> dict[str, Any]:
        done = subprocess.run(
            ["/usr/bin/python3", str(SCRIPTS / "wanlink.py"), "set", "--ctl", str(self.state / "wan.sock"), *words],
            capture_output=True,
            check=True,
            timeout=10,
        )
        return dict(json.loads(done.stdout))


def _holds_session(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        return _lives(process) and process.name() in ("sshd", "tb-sshd-mfa")
    except psutil.NoSuchProcess:
        return False


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE  # whoever inherited it may take its time
    except psutil.NoSuchProcess:
        return False


class Relay:
    """A port that leads to another one, and can be made to cut, reset or swallow everything."""

    def __init__(self, port: int) -> None:
        self._goal = port
        self.stalled = threading.Event()
        self.refuse = False
        self.accepted = 0
        self.most = 0  # bytes towards the server after which the connection is cut, once
        self._wires: list[socket.socket] = []
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._door.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._door.accept()
            except OSError:
                return
            self.accepted += 1
            if self.refuse:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._goal))
            except OSError:  # its server is down
                near.close()
                continue
            for wire in (near, far):
                wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._wires += [near, far]
            for source, sink, counted in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._copy, args=(source, sink, counted), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                passed += len(data)
                if counted and self.most and passed > self.most:
                    self.most = 0
                    self.reset()
                    return
                while self.stalled.is_set():
                    threading.Event().wait(0.02)
                sink.sendall(data)
        for wire in (source, sink):
            with contextlib.suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """Reset every connection, as a firewall that forgot them does."""
        wires, self._wires = self._wires, []
        for wire in wires:
            with wire, contextlib.suppress(OSError):
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                wire.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        self.stalled.clear()
        self.reset()


@contextlib.contextmanager
def echo_server(path: Path | None = None) -> Iterator[Any]:
    """Serve echo on a unix socket or a loopback port: yields the path or the port."""
    if path is None:
        door = socket.create_server(("127.0.0.1", 0))
    else:
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        door.bind(str(path))
        path.chmod(0o666)
        door.listen(16)

    def serve(wire: socket.socket) -> None:
        with wire, contextlib.suppress(OSError):
            while data := wire.recv(1 << 16):
                wire.sendall(data)

    def accept() -> None:
        while True:
            try:
                wire, _ = door.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(wire,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield door.getsockname()[1] if path is None else str(path)
    finally:
        with contextlib.suppress(OSError):
            door.shutdown(socket.SHUT_RDWR)
        door.close()


def talk(address: Any, data: bytes, timeout_s: float = 10.0) -> bytes:
    """Send to an address of a forward, end sending, return all that comes back."""
    wire: socket.socket
    if address.path:
        wire = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        wire.settimeout(timeout_s)
        try:
            wire.connect(address.path)
        except OSError:
            wire.close()
            raise
    else:
        wire = socket.create_connection((address.host, address.port), timeout=timeout_s)
    with wire:

        def send() -> None:
            with contextlib.suppress(OSError):
                wire.sendall(data)
                wire.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        back = b""
        while part := wire.recv(1 << 16):
            back += part
        sender.join(timeout_s)
        return back
