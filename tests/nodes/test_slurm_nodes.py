"""Pilots over several nodes of a real Slurm cluster: node agents through srun, MPI ranks across nodes."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import psutil
import pytest
from remote_kit import Far, active, until

import jupyter_rm as jrm
from jupyter_rm.client.session import Session

URL = "slurm+ssh://alice@tb-slurm"
# Where the mpich and mpi4py wheels of this environment are copied to: the nodes need not see the environment itself.
PARTS = "$HOME/parts"
SITE = f"{PARTS}/{Path(sysconfig.get_path('purelib')).relative_to(sys.prefix)}"
# MPICH's shared memory does not work between nodes that are namespaces of one kernel.
MPICH = [
    f'export PATH="{PARTS}/bin:$PATH"',
    f'export LD_LIBRARY_PATH="{PARTS}/lib"',
    f'export PYTHONPATH="{SITE}"',
    "export UCX_TLS=tcp,self",
]
WORLD = """
import os, socket
from mpi4py import MPI
world = MPI.COMM_WORLD
names = world.gather(socket.gethostname())
total = world.allreduce(world.Get_rank() + 1)
if world.Get_rank() == 0:
    print(world.Get_size(), total, *sorted(set(names)), os.environ["JRM_NODES"])
"""


OPEN_MPI = [f'export PYTHONPATH="{SITE}"']  # Debian's, which is on everybody's PATH


@pytest.fixture(scope="module", autouse=True)
def parts(far: Far) -> None:
    """Copy what MPI programs need into the account on the cluster."""
    there = far.cluster.state / "home" / "alice" / "parts"
    for name in ("mpich", "mpi4py"):
        for file in distribution(name).files or ():
            source = Path(str(file.locate())).resolve()
            goal = there / source.relative_to(Path(sys.prefix).resolve())
            if source.suffix != ".pyc" and source.exists():
                goal.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, goal)
    for path in (there, *there.rglob("*")):
        path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))


def world(ranks: int, pre_exec: list[str] = MPICH, **more: object) -> jrm.Task:
    """Return a task whose ranks say how many they are, and where."""
    return jrm.Task("/usr/bin/python3", ["-c", WORLD], ranks=ranks, mpi=True, pre_exec=pre_exec, timeout=120, **more)


def proved(task: object, ranks: int, nodes: int) -> None:
    """Check that the ranks of a :func:`world` were one world on so many nodes."""
    size, total, *names = task.result(timeout=150).split()  # type: ignore[attr-defined]
    assert (int(size), int(total)) == (ranks, ranks * (ranks + 1) // 2), task.stderr()  # type: ignore[attr-defined]
    assert len(names[:-1]) == nodes and sorted(names[-1].split(",")) == names[:-1]


def node_agents(far: Far, start: str = "") -> list[str]:
    """Return the numbers of what runs of our node agents on the nodes."""
    return far.cluster.run("pgrep", "-f", f"{start}[.]{far.broker_id}/.*nodes[.]0[.]json", check=False).split()


def test_tasks_calls_and_mpi_ranks_use_all_nodes_of_a_job(far: Far, study: Session) -> None:
    pilot = active(study.pilot(URL, nodes=3, walltime="20m", queue="batch"), 120)
    assert [node.name[0] for node in pilot.nodes] == ["n"] * 3
    assert [node.cores for node in pilot.nodes] == [4] * 3

    bulk = study.submit([jrm.Task("/bin/sh", ["-c", "hostname; sleep 0.3"])] * 36)
    assert bulk.wait(120) and bulk.counts() == {"DONE": 36}
    assert {task.stdout().strip() for task in bulk} == {node.name for node in pilot.nodes}
    assert all(task.stdout().strip() == task.node for task in bulk)

    # srun is told to speak what MPICH understands; with the other dialect each rank would be a world of its own.
    proved(study.submit(world(6, ranks_per_node=2)), 6, 3)
    # Uneven: every rank's host is named in a file.
    proved(study.submit(world(9)), 9, 3)
    # Debian's srun lists pmix and lacks its library: Open MPI's own launcher does it.
    proved(study.submit(world(6, OPEN_MPI, ranks_per_node=2)), 6, 3)

    # Ranks that are no MPI: each is started by the node agent of its node.
    ranks = study.submit(jrm.Task("/bin/sh", ["-c", "hostname"], ranks=12))
    assert ranks.wait(120) == "DONE", ranks.reason
    texts = {(Path(ranks.sandbox) / f"stdout{f'.{n}' if n else ''}").read_text().strip() for n in range(12)}
    assert texts == {node.name for node in pilot.nodes}

    # A node agent that dies takes only what ran on its node along, and that runs again.
    slow = study.submit([jrm.Task("/bin/sh", ["-c", "until [ -e ../../go ]; do sleep 0.2; done"])] * 12)
    until(lambda: slow.counts().get("RUNNING") == 12, lambda: str(slow.counts()), 120)
    gate = Path(slow[0].sandbox).parent.parent / "go"
    agents = node_agents(far, "^[^ ]*python3? -c .*")
    assert agents, "no node agent was found"
    far.cluster.run("kill", "-9", agents[-1])
    until(lambda: any(task.attempt > 1 for task in slow), lambda: str(slow.counts()), 120)
    gate.touch()
    assert slow.wait(120) and slow.counts() == {"DONE": 12}
    assert sum(task.attempt > 1 for task in slow) <= 4
    study.close()
    until(lambda: not node_agents(far), "node agents are left")


def test_ranks_start_through_the_launcher_that_was_asked_for(far: Far, study: Session) -> None:
    for launch, lines in (("mpiexec", MPICH), ("mpirun", OPEN_MPI)):
        pilot = active(study.pilot(URL, nodes=2, walltime="20m", queue="batch", launch=launch), 120)
        proved(study.submit(world(4, lines, ranks_per_node=2, pilot=pilot.uid)), 4, 2)
        bad = study.submit(world(2, [], pilot=pilot.uid, cores=2)) if launch == "mpiexec" else None
        if bad is not None:
            assert bad.wait(60) == "FAILED" and "mpiexec is not on PATH" in bad.reason
        pilot.cancel()
        assert pilot.wait("CANCELED", 60) == "CANCELED"


@pytest.fixture
def ssh_between(far: Far) -> Iterator[None]:
    """Let alice go from node to node: a server in each, her key, and the names she knows."""
    state, config = far.cluster.state, far.cluster.state / "etc" / "sshd_between.conf"
    home = state / "home/alice/.ssh"
    config.write_text(
        f"Port 22\nHostKey {state}/etc/host_node\nAuthorizedKeysFile {state}/auth/%u\nStrictModes no\nUsePAM no\n"
        "PidFile none\nPasswordAuthentication no\n"
    )
    home.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(state / "client/id", home / "id_ed25519")
    key = " ".join((state / "etc/host_node.pub").read_text().split()[:2])
    (home / "known_hosts").write_text("".join(f"n0{number} {key}\n" for number in range(1, 5)))
    for path in (home, *home.iterdir()):
        os.chown(path, 29601, 29601)
    (home / "id_ed25519").chmod(0o600)
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for number in range(1, 5):
        far.cluster.script("slurm-node.sh", "exec", f"n0{number}", "/usr/sbin/sshd", "-f", str(config))
    yield
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(config) in " ".join(process.cmdline()):
                process.kill()
    shutil.rmtree(home)


def test_node_agents_start_through_ssh_where_the_site_has_nothing_else(
    far: Far, study: Session, ssh_between: None
) -> None:
    del ssh_between
    pilot = active(study.pilot(URL, nodes=3, walltime="20m", queue="batch", launch="ssh"), 120)
    others = [node.name for node in pilot.nodes][1:]
    lines = [line for line in far.agents() if " -o BatchMode=yes " in line]
    assert len(lines) == 2 and all(any(f" {name} " in line for line in lines) for name in others), far.agents()
    bulk = study.submit([jrm.Task("/bin/sh", ["-c", "hostname; sleep 0.3"])] * 24)
    assert bulk.wait(120) and bulk.counts() == {"DONE": 24}
    assert {task.stdout().strip() for task in bulk} == {node.name for node in pilot.nodes}
    ranks = study.submit(jrm.Task("/bin/sh", ["-c", "hostname"], ranks=12))
    assert ranks.wait(120) == "DONE", ranks.reason
    proved(study.submit(world(6, OPEN_MPI, ranks_per_node=2)), 6, 3)
    study.close()
    until(lambda: not node_agents(far), "node agents are left")


SERVED = """
import os, socket, socketserver
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(os.environ["JRM_TASK_ATTEMPT"].encode() + b"\\n")
server = socketserver.ThreadingTCPServer(("0.0.0.0", 0), Handler)
print("port", server.server_address[1], flush=True)
server.serve_forever()
"""
ASKED = """
import os, socket
host, port = os.environ["JRM_INFO_COUNTER"].split(":")
with socket.create_connection((host, int(port)), 20) as wire:
    print(os.environ["JRM_NODE"], host, wire.makefile().readline().strip())
"""


def test_tasks_on_all_nodes_reach_a_service_on_one_also_after_it_moved(far: Far, study: Session) -> None:
    active(study.pilot(URL, nodes=2, walltime="20m", queue="batch"), 120)
    python = "/usr/bin/python3"
    service = study.submit(jrm.Service(python, ["-c", SERVED], name="counter", ready=r"port (\d+)", retries=1))
    # Half a node each: so both nodes have some of them at once, and again when they are tried again.
    user = jrm.Task(python, ["-c", f"{ASKED}\nimport time; time.sleep(2)"], services="counter", retries=2)
    first = [task.stdout().split() for task in study.submit([user] * 8) if task.wait(120) == "DONE"]
    place = service.wait_ready(0).split(":")[0]
    assert len(first) == 8 and {host for _, host, _ in first} == {place}
    assert len({node for node, _, _ in first}) == 2
    far.cluster.run("pkill", "-u", "alice", "-f", "ThreadingTCPServer")
    study._replica.wait(lambda: service.attempt == 2 and service.endpoint is not None, 60)
    again = study.submit([user] * 4)
    assert again.wait(120) and again.counts() == {"DONE": 4}
    assert {line.split()[2] for line in again.results()} == {"2"}
