"""A login node where nothing may stay and few sessions may be open: pilots, tasks, views and cells go on as ever."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from remote_kit import Far, active, until

import jupyter_rm as jrm
from jupyter_rm import cli
from jupyter_rm.batch import check
from jupyter_rm.broker.remote import settings_of
from jupyter_rm.client.session import Session
from jupyter_rm.notebook.kept import KeptShell
from jupyter_rm.notebook.shell import RemoteShell
from jupyter_rm.runtime.connect import Connections, Nobody
from jupyter_rm.runtime.home import Home

STRICT = """
extends = "slurm"

[site]
url = "slurm+ssh://alice@tb-slurm"

[login]
resident = false
sessions = 3
"""
HOST = "alice@tb-slurm"
# How many of these run at once, by the traces they leave.
COUNTED = 'mkdir -p "$1"; : >"$1/$$"; sleep 0.2; ls "$1" | wc -l; rm "$1/$$"'


@pytest.fixture(scope="module")
def strict(far: Far) -> Iterator[Path]:
    """The site file, before the broker starts."""
    with far.site_files(strict=STRICT) as place:
        yield place / "strict.toml"


@pytest.fixture
def connections(strict: Path) -> Iterator[Connections]:
    del strict
    made = Connections(settings_of(Home.locate()))
    yield made
    made.close()


def sessions_there(far: Far) -> list[str]:
    """Return the sessions that are open on the login node: commands, and file sessions, which its server runs."""
    server = psutil.Process(int((far.cluster.state / "pids/sshd-slurm.pid").read_text().split()[0]))
    found = far.on_login_node()
    for each in server.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [line for line in [" ".join(each.cmdline())] if "internal-sftp" in line]
    return found


def test_a_pilot_its_tasks_and_views_leave_nothing_there(
    strict: Path, far: Far, study: Session, tmp_path: Path
) -> None:
    assert check(strict) == []
    pilot = active(study.pilot("strict", nodes=1, walltime="5m"))
    bulk = study.submit([jrm.Task("/bin/echo", [str(n)]) for n in range(50)])
    assert bulk.wait(60) and bulk.counts() == {"DONE": 50}, bulk.counts()
    assert bulk[7].stdout() == "7\n"
    until(lambda: "strict" in study._replica.sites and len(study._replica.sites["strict"].nodes) == 4, "no nodes shown")
    assert cli.main(["export", "queue", str(tmp_path / "queue.json"), "-s", study.name]) == 0
    assert "strict" in (tmp_path / "queue.json").read_text()
    until(lambda: not sessions_there(far), lambda: f"stays on the login node: {sessions_there(far)}")
    assert study.submit(jrm.Task("/bin/true")).wait(60) == "DONE", "its road needs no session"
    assert pilot.state == "ACTIVE" and not sessions_there(far)


def test_what_would_have_to_stay_is_refused_with_the_reason(
    strict: Path, study: Session, connections: Connections
) -> None:
    del strict
    with pytest.raises(jrm.RequestError, match=r"(?s)nothing may stay .*site file strict.*without --keep") as caught:
        KeptShell(HOST, connections).start(Nobody())
    assert caught.value.code == "JRM-Q38" and not connections.all(), "nobody logged in for that"
    pilot = study.pilot(f"ssh://{HOST}", cores=1)
    assert pilot.wait("ACTIVE", 60) == "FAILED" and "nothing may stay" in pilot.reason, pilot.reason


def test_cells_are_shells_of_their_own_in_one_directory(far: Far, connections: Connections) -> None:
    shell = RemoteShell(HOST, connections)
    heard: list[str] = []
    for text in ("cd /tmp; A=7", 'echo "$PWD<$A>"'):
        shell.start(Nobody())
        assert shell.run(text, heard.append, heard.append) == 0
        until(lambda: not sessions_there(far), lambda: f"stays on the login node: {sessions_there(far)}")
    assert "".join(heard) == "/tmp<>\n"


def test_few_sessions_at_once_and_tunnels_as_ever(far: Far, connections: Connections) -> None:
    there = connections.get(HOST, Nobody())
    place = f"{far.cluster.state}/home/alice/counted"
    with ThreadPoolExecutor(9) as pool:
        seen = list(pool.map(lambda _: int(there.run(["sh", "-c", COUNTED, "sh", place]).text), range(9)))
    assert max(seen) <= 3 and len(seen) == 9, seen
    with (
        jrm.tunnel(HOST, far.cluster.port + 28, settings=connections.settings) as door,
        socket.create_connection((door.host, door.port), 10) as through,
    ):
        assert through.recv(8).startswith(b"SSH-2.0")
    assert connections.policy("tb-sge").resident, "another machine, of which nobody said so"


def test_a_file_that_says_it_wrongly_is_found(tmp_path: Path) -> None:
    (tmp_path / "strict.toml").write_text(STRICT.replace("sessions = 3", "sessions = 1\nshells = 2"))
    assert "login.shells" in str(check(tmp_path / "strict.toml")[0])
    (tmp_path / "strict.toml").write_text('extends = "slurm"\n[login]\nsessions = 1\n')
    said = " ".join(map(str, check(tmp_path / "strict.toml")))
    assert "[site] url beside it" in said and "3 or more" in said
