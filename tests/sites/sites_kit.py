"""A batch system reached in one way, and jobs in it that end when a test says so."""

from __future__ import annotations

import contextlib
import getpass
import itertools
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cluster_kit import Cluster, eventually
from zorp_kit import Zorp

from jupyter_rm.batch import BATCH_SCRIPT, BatchError, BatchSystem, JobRecord, JobState, load, spec_bytes
from jupyter_rm.runtime.batchsite import BatchSite
from jupyter_rm.runtime.connect import Connection, Nobody, connect
from jupyter_rm.simbatch import named

PROGRAM = """\
import json, os, socket, sys, time
place = sys.argv[1]
with open(place + ".env", "w") as file:
    json.dump({"host": socket.gethostname(), **os.environ}, file)
os.rename(place + ".env", place + ".up")
while not os.path.exists(place + ".go"):
    time.sleep(0.05)
sys.exit(int(open(place + ".go").read() or 0))
"""
_numbers = itertools.count()


@dataclass
class Job:
    """One submitted job, and the files through which a test and its program talk."""

    id: str
    token: str
    spec: str
    hand: Hand

    def go(self, code: int = 0) -> None:
        """Let the program end."""
        self.hand.connection.write(self.spec + ".go", str(code).encode())

    def up(self) -> bytes:
        """Return the environment of the running program, as JSON."""
        eventually(
            lambda: self.hand.connection.stat(self.spec + ".up"), lambda: f"{self.id} does not start: {self.seen()}"
        )
        return self.hand.connection.read(self.spec + ".up")

    def seen(self) -> JobRecord:
        return self.hand.site.status([self.id], {self.id: self.token})[0]

    def becomes(self, *states: JobState, within_s: float = 60.0) -> JobRecord:
        """Return the record once the job is in one of the states by the listing."""
        seen: list[JobRecord] = []

        def there() -> bool:
            with contextlib.suppress(BatchError):  # on a busy machine a command may not come to its end in time
                seen.append(self.seen())
            return bool(seen) and seen[-1].state in states

        eventually(there, lambda: f"{self.id} is not {states}: {seen[-1:]}", within_s)
        return seen[-1]

    def ends(self, within_s: float = 60.0) -> JobRecord:
        """Return how the job ended by accounting."""
        found: list[JobRecord | None] = []

        def over() -> bool:
            # A daemon that was just started may not answer yet.
            with contextlib.suppress(BatchError):
                found.append(self.hand.site.final(self.id, self.token))
            return bool(found) and found[-1] is not None

        eventually(over, lambda: f"{self.id} has not ended: {self.seen()}", within_s)
        assert found[-1] is not None
        return found[-1]


@dataclass
class Hand:
    """A site with a directory for jobs."""

    site: BatchSite
    connection: Connection
    place: str
    cluster: Cluster | None
    jobs: list[Job] = field(default_factory=list)

    @property
    def nobody(self) -> str:
        """A job id that nobody has."""
        return "Z999998" if self.site.system.name == "zorp" else "999998"

    def files(self) -> tuple[str, str, str]:
        """Write the program, the constant script and a spec; return spec, script and a place for output."""
        name = f"{self.place}/j{next(_numbers)}"
        self.connection.write(self.place + "/program.py", PROGRAM.encode())
        self.connection.write(self.place + "/batch.sh", BATCH_SCRIPT)
        self.connection.write(name, spec_bytes("/usr/bin/python3", self.place + "/program.py"))
        return name, self.place + "/batch.sh", name + ".out"

    def submit(self, site: BatchSite | None = None, token: str = "", **values: object) -> Job:
        spec, script, out = self.files()
        token = token or "jrm" + secrets.token_hex(8)
        made = (site or self.site).submit(
            {"token": token, "walltime": "5m", "stdout": out, "stderr": out, "workdir": self.place, **values},
            spec,
            script,
        )
        self.jobs.append(Job(made.id, token, spec, self))
        return self.jobs[-1]

    def cancel(self) -> None:
        """Ask for the end of every job."""
        if self.jobs:
            self.site.cancel([job.id for job in self.jobs])
        self.jobs.clear()

    def clear(self) -> None:
        """End every job and wait until nothing of them is listed."""
        self.cancel()
        left = [job.id for job in self.site.queue().mine]
        if left:  # of a test that failed, here or in another directory
            self.site.cancel(left)
        eventually(lambda: not self.site.queue().mine, lambda: f"jobs are left: {self.site.queue().mine}")


def zorp_hand(place: Path) -> Iterator[Hand]:
    """Yield a hand for the invented batch system in a directory."""
    with connect("local", Nobody()) as connection:
        zorp = Zorp(place / "zorp", connection)
        connection.mkdir(str(place / "jobs"))
        yield Hand(zorp.site, connection, str(place / "jobs"), None)


def sim_hand(place: Path, asked: str = "sim://x?nodes=4&wait=0") -> Iterator[Hand]:
    """Yield a hand for a cluster of the batch system that comes with the package."""
    wanted = named.parse(asked.partition("://")[2])
    with connect("local", Nobody()) as connection:
        connection.mkdir(str(place / wanted.name))
        connection.mkdir(str(place / "place"))
        path = f"{named.prepare(place / wanted.name, wanted)}:/usr/bin:/bin"
        site = BatchSite(connection, load("sim"), getpass.getuser(), env={"PATH": path})
        yield Hand(site, connection, str(place / "place"), None)


def hand(
    cluster: Cluster, name: str, transport: str, system: str | BatchSystem = "", user: str = "alice"
) -> Iterator[Hand]:
    """Yield a hand for a batch system of the cluster, reached through ``local``, ``paramiko`` or ``openssh``."""
    account = "root" if transport == "local" else user
    place = f"{cluster.state}/home/{account}/place-{secrets.token_hex(4)}"
    Path(cluster.state / "home/root").mkdir(exist_ok=True)
    with cluster.connect(transport, name, user) as connection:
        connection.mkdir(place)
        yield Hand(cluster.site(connection, system or name), connection, place, cluster)
