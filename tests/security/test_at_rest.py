"""What stands on disk, listens, or shows in a process list while work is going on."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from security_kit import broker, eventually, own, programs, sockets

import jupyter_rm as jrm
from jupyter_rm.client import session as sessions
from jupyter_rm.client.session import Session
from jupyter_rm.runtime.home import Home

CANARY = "canary-5f3a9c"


@pytest.fixture(scope="module")
def at_work(home: Path) -> Iterator[Session]:
    """A session in which programs, calls and environments have run, started by somebody with a careless umask."""
    before = os.umask(0)
    try:
        session = sessions.open("security")
        assert session.pilot("local", cores=2).wait(timeout=20) == "ACTIVE"
        secret = {"TOKEN": CANARY}
        script = "mkdir d; echo x > d/file; mkfifo pipe; exec sleep 600"
        running = session.submit(jrm.Shell(script, environment=secret, name="sleeper", pre_exec=[f"export A={CANARY}"]))
        assert session.call(str.upper, CANARY).result(timeout=30) == CANARY.upper()
        eventually(lambda: running.state == "RUNNING", f"the sleeper is {running.state}: {running.explain()}")
        eventually(lambda: list(home.rglob("pipe")), "the sleeper has not made its files")
        yield session
        session.close()
    finally:
        os.umask(before)


def test_the_only_sockets_that_listen_are_two_in_the_private_directory(at_work: Session) -> None:
    run = str(Home.locate().run)
    named = set()
    for protocol, line in sockets(own(programs())):
        assert protocol == "unix", f"a {protocol} socket: {line}"
        words = line.split()
        if len(words) > 7:
            path = words[7]
            assert not path.startswith("@"), f"an abstract socket: {line}"
            assert os.path.dirname(path) == run, f"a socket elsewhere: {line}"
            named.add(os.path.basename(path))
    assert named == {"broker.sock", "agents.sock"}


def test_nothing_in_the_home_can_be_read_by_others(at_work: Session, home: Path) -> None:
    seen = 0
    for folder, names, files in os.walk(home):
        for name in [".", *names, *files]:
            path = os.path.join(folder, name)
            mode = os.lstat(path)
            if stat.S_ISLNK(mode.st_mode):
                continue
            seen += 1
            assert not mode.st_mode & 0o077, f"{path} has mode {stat.S_IMODE(mode.st_mode):04o}"
            assert mode.st_uid == os.geteuid(), f"{path} belongs to {mode.st_uid}"
    assert seen > 15


def test_every_program_makes_private_files_whatever_umask_it_was_started_with(at_work: Session) -> None:
    for process in programs():
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        assert "Umask:\t0077" in status, f"{process.cmdline()} has another umask"


def test_command_lines_of_our_programs_tell_nothing(at_work: Session) -> None:
    ours = own(programs())
    assert len(ours) >= 4, [p.cmdline() for p in ours]
    for process in ours:
        text = " ".join(process.cmdline())
        assert CANARY not in text, text
        assert "sleeper" not in text, text


def test_no_program_of_ours_has_a_secret_in_its_environment(at_work: Session) -> None:
    for process in own(programs()):
        text = Path(f"/proc/{process.pid}/environ").read_text(encoding="utf-8", errors="replace")
        assert CANARY not in text, process.cmdline()


def test_logs_do_not_repeat_what_was_submitted(at_work: Session, home: Path) -> None:
    logs = [path for pattern in ("*.log", "*.trace") for path in home.rglob(pattern)]
    assert logs
    for path in logs:
        assert CANARY not in path.read_text(encoding="utf-8", errors="replace"), path


STRANGER = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
path = sys.argv[1]
for name in sys.argv[2:]:
    try:
        open(name, "rb").close()
        print("read", name)
    except PermissionError:
        pass
link = socket.socket(socket.AF_UNIX)
link.settimeout(5)
try:
    link.connect(path)
    link.sendall(b"\\xff" + bytes(8) + b"\\x7f\\x03" + bytes(53))
    print("heard", len(link.recv(64)))
except (PermissionError, ConnectionResetError, BrokenPipeError) as error:
    print(type(error).__name__)
"""


def _as_nobody(*arguments: str) -> str:
    # It becomes nobody by itself: an interpreter that stands in somebody's home could not be started by nobody.
    done = subprocess.run(
        [sys.executable, "-I", "-c", STRANGER, *arguments], cwd="/", capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("name", ["broker", "agents"])
def test_another_user_neither_connects_nor_reads(at_work: Session, home: Path, name: str) -> None:
    place = Home.locate()
    assert _as_nobody(str(place.socket(name)), str(place.journal), str(place.broker_log)) == "PermissionError"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("name", ["broker", "agents"])
def test_the_kernel_is_asked_who_connects_even_if_directories_were_opened(
    at_work: Session, home: Path, name: str
) -> None:
    path = Home.locate().socket(name)
    opened = [path, *[parent for parent in path.parents if parent.is_relative_to(home)]]
    modes = [stat.S_IMODE(each.stat().st_mode) for each in opened]
    try:
        for each in opened:
            each.chmod(0o777)
        assert _as_nobody(str(path)) in ("heard 0", "ConnectionResetError", "BrokenPipeError")
    finally:
        for each, mode in zip(opened, modes, strict=True):
            each.chmod(mode)
    assert broker().is_running()
