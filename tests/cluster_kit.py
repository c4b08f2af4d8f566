"""Real clusters for tests: Slurm with four virtual nodes and Grid Engine, each with a login node behind SSH.

One :class:`Cluster` serves a whole test run; each part comes up when a test first needs it (Slurm in about 10 s, Grid
Engine in 3 s) and everything goes down at the end. Runs side by side have states, ports and networks of their own.
By hand: ``python tests/cluster_kit.py up``, then ``JRM_TEST_CLUSTER=STATE pytest ...`` as often as you like, then
``python tests/cluster_kit.py down STATE``. Read next: ``tests/testbed/README.md``.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from jupyter_rm.batch import BatchSystem, load
from jupyter_rm.runtime.batchsite import BatchSite
from jupyter_rm.runtime.connect import Connection, ConnectSettings, Nobody, connect

SCRIPTS = Path(__file__).resolve().parent / "testbed"
FIRST, SIZE, BLOCKS = 12000, 450, 22
DAEMONS = {"slurm": "slurm-up.sh", "sge": "sge-up.sh"}
USER = "alice"


def eventually(check: Callable[[], Any], what: str | Callable[[], str], within_s: float = 60.0) -> Any:
    """Return the first true answer of ``check``; fail with ``what`` when there is none in time."""
    deadline = time.monotonic() + within_s
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < deadline, what() if callable(what) else what
        threading.Event().wait(0.1)


class Cluster:
    """The clusters of one state directory.

    Args:
        state: an existing directory of an earlier ``up``; None makes one.

    Attributes:
        state: directory; client: what a user of it has (``config`` for SSH, keys, known hosts).
        env: variables with which programs outside reach the batch systems (as root of this machine).
    """

    def __init__(self, state: Path | None = None) -> None:
        self.mine = state is None
        self.state = state or Path(tempfile.mkdtemp(prefix="jrm-cluster-", dir="/var/tmp"))
        self.state.chmod(0o755)
        self.client = self.state / "client"
        self._up: set[str] = set()
        self._made: list[Path] = []
        if state is None:
            block, self._lock = _block()
            (self.state / "block").write_text(str(block))
            (self.state / "owner").write_text(_owner(os.getpid()))
        block = int((self.state / "block").read_text())
        self.port = FIRST + block * SIZE
        self._env = {
            **os.environ,
            "TB_STATE": str(self.state),
            "TB_PORT": str(self.port),
            "TB_SGE_PORT": str(self.port + 3),
            "TB_SSH_PORT": str(self.port + 20),
            "TB_SLURM_NET": f"10.84.{block}",
        }
        self.network = self._env["TB_SLURM_NET"]
        self.env = {
            "SLURM_CONF": str(self.state / "etc/slurm/slurm.conf"),
            "SGE_ROOT": str(self.state / "sge/root"),
            "SGE_CELL": "default",
            "SGE_ARCH": "lx-amd64",
            "SGE_QMASTER_PORT": str(self.port + 3),
            "SGE_EXECD_PORT": str(self.port + 4),
        }

    def script(self, *argv: str, env: Mapping[str, str] | None = None) -> None:
        """Run a script of ``tests/testbed``; its output is shown when it fails."""
        with tempfile.TemporaryFile() as log:  # not a pipe: daemons would hold it open
            done = subprocess.run(
                [str(SCRIPTS / argv[0]), *argv[1:]],
                env={**self._env, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=900,  # the first time it may install packages
            )
            log.seek(0)
            assert done.returncode == 0, f"{argv}: {log.read().decode(errors='replace')[-3000:]}"

    def need(self, *names: str) -> Cluster:
        """Bring up ``slurm`` or ``sge`` with its login node, or a further server of ``sshd-up.sh`` by name."""
        for name in names:
            if name not in self._up:
                if name in DAEMONS and (self.mine or not (self.state / name).exists()):
                    self.script(DAEMONS[name])
                self.script("sshd-up.sh", env={"TB_SERVERS": name})
                self._up.add(name)
        return self

    def down(self) -> None:
        """End everything and remove the state."""
        for path in self._made:
            shutil.rmtree(path, ignore_errors=True)
        if self.mine and self.state.exists():
            for name in ("sshd-down.sh", "sge-down.sh", "slurm-down.sh"):
                self.script(name, "--wipe")
            shutil.rmtree(self.state, ignore_errors=True)

    # --- as a user

    def settings(self, transport: str = "auto", **more: Any) -> ConnectSettings:
        """Return settings of connections with which ``tb-slurm`` and ``tb-sge`` are known hosts with a key."""
        control = Path(tempfile.mkdtemp(prefix="jc"))
        self._made.append(control)
        chosen: dict[str, Any] = {
            "control_dir": control,
            "transport": transport,
            "ssh_config": self.client / "config",
            "use_agent": False,
            "attempts_per_min": 1000,
        }
        return ConnectSettings(**{**chosen, **more})

    def url(self, name: str, user: str = USER) -> str:
        """Return the SSH URL of a login node: ``slurm``, ``sge`` or a server of ``sshd-up.sh``."""
        return f"ssh://{user}@tb-{name}"

    def connect(self, transport: str, name: str, user: str = USER) -> Connection:
        """Return a connection: ``local`` (root of this machine), or ``paramiko``, ``openssh`` to a login node."""
        if transport == "local":
            return connect("local", Nobody(), self.settings())
        return connect(self.url(name, user), Nobody(), self.settings(transport))

    def site(self, connection: Connection, system: str | BatchSystem) -> BatchSite:
        """Return the batch system behind a connection of :meth:`connect`."""
        described = load(system) if isinstance(system, str) else system
        local = connection.name == "local"
        user = getpass.getuser() if local else ""
        return BatchSite(connection, described, user, _utc_offset_s(), env=self.env if local else None)

    def run(self, *argv: str, user: str = "root", check: bool = True) -> str:
        """Run a command inside as ``root``, ``alice`` or ``bob`` and return its output: an administrator's hand."""
        uid = {"root": 0, "alice": 29601, "bob": 29602}[user]
        as_user = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid else []
        done = subprocess.run(
            ["unshare", "--mount", str(SCRIPTS / "inside.sh"), str(self.state), *as_user, *argv],
            cwd="/",
            env={**self._env, **self.env, "HOME": str(self.state / "home" / user)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert not check or done.returncode == 0, f"{argv}: {done.stderr}"
        return done.stdout

    @contextlib.contextmanager
    def dead(self, daemon: str) -> Iterator[None]:
        """Have ``slurmctld`` or ``slurmdbd`` down for a while, killed without a word."""
        self.script("slurm-daemon.sh", "kill", daemon)
        try:
            yield
        finally:
            self.script("slurm-daemon.sh", "start", daemon)

    def wait_idle(self, nodes: int = 4) -> None:
        """Wait until every node of Slurm is idle again."""

        def idle() -> bool:
            said = self.run("sinfo", "-h", "-N", "-p", "batch", "-t", "idle", "-o", "%N", check=False)
            return len(set(said.split())) == nodes

        eventually(idle, lambda: self.run("sinfo", "-N", "-l", check=False) + self.run("squeue", check=False), 90)


def _utc_offset_s() -> float:
    return float(time.localtime().tm_gmtoff)


def _owner(pid: int) -> str:
    return f"{pid} {psutil.Process(pid).create_time()}"


def _block() -> tuple[int, int]:
    """Return a block of ports and networks that nobody else has, and the lock that says so while we live."""
    addresses = [one.address for several in psutil.net_if_addrs().values() for one in several]
    for block in range(BLOCKS):
        if any(address.startswith(f"10.84.{block}.") for address in addresses):
            continue  # a bridge that somebody left: packets would go to its nodes
        lock = os.open(f"/run/lock/jrm-cluster-{block}", os.O_CREAT | os.O_RDWR, 0o600)
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            base = FIRST + block * SIZE
            for port in (base, base + 1, base + 2, base + 3, base + 4, *range(base + 20, base + 30)):
                socket.create_server(("", port)).close()
            return block, lock
        os.close(lock)
    raise AssertionError("every block of ports is taken; is something left of earlier runs?")


def _sweep() -> None:
    """End what a run left behind that was killed."""
    for state in Path("/var/tmp").glob("jrm-cluster-*"):
        try:
            owner = (state / "owner").read_text()
            alive = _owner(int(owner.split()[0])) == owner
        except (OSError, ValueError, IndexError):
            continue  # not ours, or just being made
        except psutil.NoSuchProcess:
            alive = False
        if not alive:
            left = Cluster(state)
            left.mine = True
            left.down()


_shared: list[Cluster] = []


def shared() -> Cluster:
    """Return the cluster of this test run."""
    if not _shared:
        assert os.geteuid() == 0, "real batch systems need root: accounts, networks and daemons of their own"
        named = os.environ.get("JRM_TEST_CLUSTER")
        if not named:
            _sweep()
        _shared.append(Cluster(Path(named) if named else None))
        atexit.register(_shared[0].down)
    return _shared[0]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The clusters; nothing of them is up before ``need``."""
    yield shared()
    if _shared:
        _shared.pop().down()


@pytest.fixture(scope="session")
def slurm(cluster: Cluster) -> Cluster:
    """A cluster with Slurm and its login node up."""
    return cluster.need("slurm")


@pytest.fixture(scope="session")
def sge(cluster: Cluster) -> Cluster:
    """A cluster with Grid Engine and its login node up."""
    return cluster.need("sge")


def main(argv: list[str]) -> int:
    """Bring a cluster up or down by hand."""
    if argv[:1] == ["up"]:
        made = Cluster()
        (made.state / "owner").unlink()  # nobody sweeps it away
        made.need("slurm", "sge")
        print(f"export JRM_TEST_CLUSTER={made.state}")
        return 0
    if argv[:1] == ["down"] and len(argv) == 2:
        there = Cluster(Path(argv[1]))
        there.mine = True
        there.down()
        return 0
    print(__doc__)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
