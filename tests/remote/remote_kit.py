"""Pilots on other machines for tests: a broker of its own, real login nodes, and things that go wrong between them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from cluster_kit import Cluster
from world_kit import end_world, set_home

from jupyter_rm.client import connection
from jupyter_rm.client import session as sessions
from jupyter_rm.client.offline import replay
from jupyter_rm.client.pilot import Pilot
from jupyter_rm.client.session import Session
from jupyter_rm.model.facts import PilotStep
from jupyter_rm.runtime.home import Home

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "connect"))
from connect_kit import Relay, totp

PAUSE = threading.Event()  # never set: what other programs do sends us no event


def until(check: Callable[[], Any], what: str | Callable[[], str], within_s: float = 60.0) -> Any:
    """Return the first true answer of ``check``; fail with ``what`` when there is none in time."""
    deadline = time.monotonic() + within_s
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < deadline, what() if callable(what) else what
        PAUSE.wait(0.02)


class Far:
    """A home whose broker knows the login nodes of a cluster.

    Attributes:
        relay: between this machine and the login node ``tb-cut``, which is Slurm's.
        code_relay: between this machine and ``tb-cutcode``, a server that wants key, password and one-time code.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.dir = Path(tempfile.mkdtemp(prefix="jrmf-")).resolve()
        self.relay = Relay(cluster.port + 28)
        self._more = [Relay(cluster.port + 28), Relay(cluster.port + 28), Relay(cluster.port + 23)]
        self.code_relay = self._more[2]
        self._saved = {name: os.environ.get(name) for name in ("JUPYTER_RM_SSH_CONFIG", "JUPYTER_RM_SSH_AGENT")}

    def __enter__(self) -> Far:
        (self.dir / "config").write_text(self._config())
        os.environ["JUPYTER_RM_SSH_CONFIG"] = str(self.dir / "config")
        os.environ["JUPYTER_RM_SSH_AGENT"] = "0"
        set_home(self.dir / "home")
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            end_world(self.dir / "home")
            until(lambda: not self.agents(), lambda: f"left there: {self.agents()}", 30)
        finally:
            for name, value in self._saved.items():
                os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
            for relay in (self.relay, *self._more):
                relay.close()
            shutil.rmtree(self.dir, ignore_errors=True)

    def _config(self) -> str:
        """Return the usual configuration with further names: behind the relay, of an unknown and of a changed key."""
        client = self.cluster.client
        key = self.host_key("slurm")
        other = self.host_key("sge")
        (self.dir / "known_cut").write_text(f"[127.0.0.1]:{self.relay.port} {key}\n")
        (self.dir / "known_other").write_text(f"[127.0.0.1]:{self._more[1].port} {other}\n")
        (self.dir / "known_code").write_text(f"[127.0.0.1]:{self.code_relay.port} {self.host_key('mfa')}\n")
        text = ""
        for name, port, known in (
            ("cut", self.relay.port, "known_cut"),
            ("cutcode", self.code_relay.port, "known_code"),
            ("unknown", self._more[0].port, "known_none"),
            ("changed", self._more[1].port, "known_other"),
        ):
            text += f"Host tb-{name}\n  HostName 127.0.0.1\n  Port {port}\n  UserKnownHostsFile {self.dir / known}\n"
        return text + (client / "config").read_text()

    @contextlib.contextmanager
    def site_files(self, **texts: str) -> Iterator[Path]:
        """Have a directory of the user's site files with these in it; yield it. Before the broker starts."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CONFIG_HOME", str(self.dir / "config-home"))
            place = self.dir / "config-home/jupyter_rm/sites"
            place.mkdir(parents=True)
            for name, text in texts.items():
                (place / f"{name}.toml").write_text(text)
            yield place

    def host_key(self, name: str) -> str:
        return (self.cluster.state / "etc" / f"host_{name}.pub").read_text().rsplit(" ", 1)[0].strip()

    # --- what is there

    def agents(self) -> list[str]:
        """Return what of pilots runs on the other side."""
        mark = str(self.cluster.state / "home")
        found = []
        for process in psutil.process_iter(["pid"]):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                line = process.cmdline()
                if any(mark in word and ".jupyter_rm/pilots" in word for word in line) and self._ours(line):
                    found.append(f"{process.pid}: {' '.join(line)}")
        return found

    def _ours(self, line: list[str]) -> bool:
        return any(f".{self.broker_id}/" in word for word in line)

    @property
    def broker_id(self) -> str:
        path = self.dir / "home" / "default" / "broker.id"
        return path.read_text() if path.exists() else "none"

    def agent_pids(self) -> list[int]:
        """Return the agents themselves, not their guards and start programs."""
        return [
            int(line.split(":")[0]) for line in self.agents() if "-m jupyter_rm.agent" in line and "guard" not in line
        ]

    def on_login_node(self) -> list[str]:
        """Return what the account has running on the login node itself, beside the server's own processes."""
        here = Path("/proc/self/ns/net").readlink()
        found = []
        for process in psutil.process_iter(["pid"]):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
                ours = process.environ().get("HOME") == str(self.cluster.state / "home/alice")
                mine = ours and Path(f"/proc/{process.pid}/ns/net").readlink() == here
                if mine and process.name() != "sshd" and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(f"{process.pid}: {' '.join(process.cmdline())}")
        return found

    def connections(self, port: int) -> int:
        """Return how many TCP connections the broker has to a port."""
        holder = Home.locate().holder()
        assert holder is not None
        found = psutil.Process(holder.pid).net_connections("tcp")
        return len([one for one in found if one.raddr and one.raddr.port == port and one.status == "ESTABLISHED"])

    def place(self, session: str, pilot: int = 0) -> Path:
        found = list((self.cluster.state / "home/alice/.jupyter_rm/pilots").glob(f"*-{session}.{self.broker_id}"))
        assert len(found) == 1, found
        return found[0] / f"p.{pilot}"

    def record(self, session: str, pilot: int = 0) -> dict[str, Any]:
        """Return what the broker has written down about a pilot; {} before it did."""
        for path in (self.dir / "home/default/pilots").glob(f"*-{session}/p.{pilot}/remote.json"):
            with contextlib.suppress(ValueError, OSError):
                return dict(json.loads(path.read_text()))
        return {}

    def jobs_of(self, token: str) -> list[str]:
        """Return the ids of all jobs that Slurm ever had with this token."""
        said = self.cluster.run("sacct", "-X", "-n", "-P", "-a", "-o", "JobIDRaw,Comment", check=False)
        listed = self.cluster.run("squeue", "-h", "-a", "-t", "all", "-o", "%i|%k", check=False)
        rows = {tuple(line.split("|")) for line in (said + listed).splitlines() if "|" in line}
        return sorted({row[0] for row in rows if row[1] == token})

    def code(self) -> str:
        return totp((self.cluster.client / "totp").read_text().strip())

    @property
    def password(self) -> str:
        return (self.cluster.client / "password").read_text().strip()

    # --- what goes wrong

    def kill_broker(self) -> None:
        """kill -9 of the broker."""
        holder = Home.locate().holder()
        assert holder is not None, "no broker runs"
        process = psutil.Process(holder.pid)
        process.send_signal(signal.SIGKILL)
        process.wait(10)

    @staticmethod
    def new_client(name: str) -> Session:
        """Return the session as a new client sees it, whose broker is started when there is none."""
        connection.close_all()
        sessions._open.clear()
        return sessions.open(name)


def active(pilot: Pilot, within_s: float = 90.0) -> Pilot:
    """Return the pilot once it is active; its reason is told when it does not get so far."""
    state = pilot.wait(timeout=within_s)
    assert state == "ACTIVE", f"{pilot.uid} is {state}: {pilot.reason}"
    return pilot


def story(session: Session) -> list[tuple[str, str, str]]:
    """Return (step, status, text) of every step of the session's pilots, from the journal."""
    with tempfile.TemporaryDirectory() as copy:  # the broker has the file itself
        for path in Home.locate().journal.parent.glob("journal*"):
            shutil.copy(path, copy)
        told = replay(str(Path(copy) / "journal"))
    number = max(number for number, ledger in told.sessions.items() if ledger.name == session.name)
    return [(fact.step, fact.status, fact.text) for _, _, fact in told._told[number] if isinstance(fact, PilotStep)]


def answered(session: Session, kind: str, answer: str, within_s: float = 30.0) -> Any:
    """Answer the next open question, which must be of ``kind``; return it."""
    one = until(lambda: session.questions, f"no question of {session.name}", within_s)[0]
    assert one.kind == kind, one
    one.answer(answer)
    return one


def no_secret_in(directory: Path, *secrets: str) -> None:
    """Assert that no file of a directory holds a secret."""
    for path in directory.rglob("*"):
        if path.is_file():
            body = path.read_bytes()
            for secret in secrets:
                assert not re.search(re.escape(secret.encode()), body), path


@contextlib.contextmanager
def line_of(path: Path, prefix: str) -> Iterator[None]:
    """Put ``prefix`` before every line of a file for a while."""
    before = path.read_text()
    path.write_text("".join(prefix + line + "\n" for line in before.splitlines()))
    try:
        yield
    finally:
        path.write_text(before)
