"""Services for real: they say where they are; tasks start with them, go there, and end with them."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest
from world_kit import eventually

import jupyter_rm as jrm
from jupyter_rm.client import admin
from jupyter_rm.client.session import Session
from jupyter_rm.client.task import TaskHandle

ECHO = """
import socketserver
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.readline().upper())
server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
print("ready 127.0.0.1:%d" % server.server_address[1], flush=True)
server.serve_forever()
"""
ASK = """
import os, socket
host, port = os.environ["JRM_INFO_ECHO"].split(":")
with socket.create_connection((host, int(port))) as wire:
    wire.sendall(os.environ["JRM_TASK_UID"].encode() + b"\\n")
    print(wire.makefile().readline().strip())
"""


@pytest.fixture
def session(bare: Session) -> Session:
    """A new session with room for services and those who use them."""
    assert bare.pilot("local", cores=6).wait(timeout=20) == "ACTIVE"
    return bare


def echo(**fields: object) -> jrm.Task:
    return jrm.Service(sys.executable, ["-c", ECHO], name="echo", ready=r"ready (\S+)", **fields)


def running(task: TaskHandle) -> bool:
    return task._session._replica.wait(lambda: task.state == "RUNNING", 20)


def process_of(task: TaskHandle) -> psutil.Process:
    sandbox = str(task.sandbox)
    return next(p for p in psutil.process_iter(["environ"]) if (p.info["environ"] or {}).get("JRM_SANDBOX") == sandbox)


def test_twenty_tasks_are_told_where_their_service_is(session: Session) -> None:
    service = session.submit(echo())
    users = session.submit([jrm.Task(sys.executable, ["-c", ASK], services=["echo"])] * 20)
    calls = session.map(lambda _: os.environ["JRM_INFO_ECHO"], range(3), services="echo")
    assert users.results(60) == [f"T.{users.uid[2:]}.{at}\n" for at in range(20)]
    endpoint = service.wait_ready(0)
    assert calls.results(30) == [endpoint] * 3
    assert service.endpoint == endpoint and endpoint.startswith("127.0.0.1:")
    assert f"ready at {endpoint}" in str(service.story())
    assert [(one.name, one.state, one.endpoint, one.uid) for one in session.services()] == [
        ("echo", "READY", endpoint, service.uid)
    ]
    assert session.wait(20), "a service keeps nobody waiting"
    assert service.state == "RUNNING"


def test_tasks_wait_for_a_service_and_say_so(bare: Session, tmp_path: Path) -> None:
    bare.pilot("local", cores=2)
    file = tmp_path / "where"
    slow = bare.submit(jrm.Service("sleep", ["1000"], name="slow", ready=r"port=(\d+)", ready_file=str(file)))
    user = bare.submit(jrm.Shell('echo "$JRM_INFO_SLOW"', services="slow"))
    assert running(slow)
    assert user.state == "WAITING" and "service 'slow', which is not ready yet" in str(user.explain())
    assert slow.endpoint is None
    with pytest.raises(TimeoutError, match="not ready yet"):
        slow.wait_ready(0.05)
    file.write_text("port=80")
    with file.open("a") as out:
        out.write("80\n")
    assert user.result(20) == f"{slow.node}:8080\n", "a port alone is one of its node; half a line is none"


def test_one_without_a_pattern_is_ready_when_it_runs(session: Session) -> None:
    service = session.submit(jrm.Service("sleep", ["1000"], name="plain"))
    assert service.wait_ready(20) == service.node


def test_who_never_says_a_word_fails_in_time_and_takes_its_users_along(session: Session) -> None:
    mute = session.submit(jrm.Service("sleep", ["1000"], name="mute", ready="never", startup_timeout=1))
    user = session.submit(jrm.Task("true", services=["mute"]))
    assert mute.wait(20) == "FAILED" and mute.cause == "TASK_TIMEOUT"
    assert "startup_timeout of 1 s" in mute.reason and "'never'" in mute.reason
    assert mute.ended is not None and mute.started is not None
    assert 1.0 <= mute.ended - mute.started < 3.0
    assert user.wait(20) == "FAILED" and user.cause == "SERVICE_LOST" and "'mute' has ended" in user.reason
    with pytest.raises(jrm.TaskError, match="startup_timeout"):
        mute.wait_ready(5)


@pytest.mark.parametrize("how", ["killed", "canceled"])
def test_what_runs_with_a_service_ends_with_it(session: Session, how: str) -> None:
    service = session.submit(echo())
    users = session.submit([jrm.Task("sleep", ["1000"], services=["echo"])] * 3)
    other = session.submit(jrm.Task("sleep", ["1000"]))
    assert running(users[0])
    if how == "killed":
        process_of(service).kill()
    else:
        service.cancel()
    assert users.wait(20)
    assert {(task.state, task.cause) for task in users} == {("FAILED", "SERVICE_LOST")}
    assert service.wait(20) == ("FAILED" if how == "killed" else "CANCELED")
    assert not other.done()
    with pytest.raises(jrm.RequestError, match="'echo' has ended") as caught:
        session.submit(jrm.Task("true", services=["echo"]))
    assert caught.value.code == "JRM-Q95"


def test_a_service_with_retries_comes_back_and_its_users_with_it(session: Session) -> None:
    service = session.submit(echo(retries=2))
    first = service.wait_ready(20)
    user = session.submit(jrm.Shell('echo "$JRM_INFO_ECHO" > where; sleep 1000', services="echo", retries=1))
    late = session.submit(jrm.Task(sys.executable, ["-c", ASK], services="echo", after=[]))
    assert late.result(30)
    assert running(user)
    process_of(service).kill()
    session._replica.wait(lambda: user.attempt == 2 and user.state == "RUNNING", 30)
    assert (service.attempt, user.attempt, user.state) == (2, 2, "RUNNING")
    second = service.wait_ready(0)
    assert second != first
    assert user.sandbox is not None
    where = user.sandbox / "where"
    eventually(lambda: where.exists() and where.read_text() == second + "\n", "the second attempt knows the new place")
    assert "a service it uses ended" in str(user.story())


def test_a_service_outlives_broker_and_kernel(own_home: Path) -> None:
    session = jrm.open("lasting")
    session.pilot("local", cores=2)
    service = session.submit(echo())
    endpoint = service.wait_ready(30)
    holder = admin._home().holder()
    assert holder is not None
    os.kill(holder.pid, signal.SIGKILL)
    assert session.submit(jrm.Task(sys.executable, ["-c", ASK], services="echo")).result(60).startswith("T.")
    assert service.wait_ready(0) == endpoint
    session.close()


def test_a_draining_pilot_ends_when_only_services_are_left(session: Session) -> None:
    service = session.submit(jrm.Service("sleep", ["1000"], name="idle"))
    user = session.submit(jrm.Shell("sleep 0.3", services="idle"))
    assert running(user)
    pilot = session.pilots()[0]
    pilot.cancel(drain=True)
    assert session._replica.wait(lambda: pilot.state.final, 20)
    assert (pilot.state, user.state) == ("DONE", "DONE")
    assert service.state == "WAITING" and service.attempt == 2, "it may go on with another pilot"


def test_what_waits_behind_a_service_goes_to_a_pilot_that_comes_later(bare: Session) -> None:
    bare.pilot("local", cores=1, name="full")
    assert bare.submit(jrm.Service("sleep", ["1000"], name="long")).wait_ready(20)
    stuck = bare.submit(jrm.Shell("echo through"))
    assert bare._replica.wait(lambda: stuck.state == "SCHEDULED", 20), "the full pilot holds it"
    bare.pilot("local", cores=1, name="free")
    assert stuck.result(30) == "through\n"
    assert stuck.pilot is not None and stuck.pilot.name == "free"
    assert "gave it back before it began" in str(stuck.story())


def test_services_elsewhere_are_registered_and_taken_back(session: Session) -> None:
    with pytest.raises(jrm.RequestError, match="there is no service 'outside'"):
        session.submit(jrm.Task("true", services="outside"))
    session.register_service("outside", "db.example.org:5432")
    assert session.submit(jrm.Shell('echo "$JRM_INFO_OUTSIDE"', services="outside")).result(20) == (
        "db.example.org:5432\n"
    )
    user = session.submit(jrm.Task("sleep", ["1000"], services="outside"))
    assert running(user)
    session.register_service("outside", "")
    assert user.wait(20) == "FAILED" and user.cause == "SERVICE_LOST"
    assert [(one.name, one.state, one.endpoint) for one in session.services()] == [("outside", "ENDED", "")]


def test_what_a_task_says_itself_goes_before_what_it_is_told(session: Session) -> None:
    session.register_service("a-b", "{here}:1")
    told = session.array(jrm.Task("sh", ["-c", 'echo "$JRM_INFO_A_B {n}"'], services="a-b"), n=range(2))
    assert told.results(20) == ["{here}:1 0\n", "{here}:1 1\n"]
    own = session.submit(jrm.Shell('echo "$JRM_INFO_A_B"', services="a-b", environment={"JRM_INFO_A_B": "mine"}))
    assert own.result(20) == "mine\n"


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda s: s.submit([echo(), echo()]), r"tasks\[0\]"),
        (lambda s: s.array(echo(), n=range(2)), "task"),
        (lambda s: (s.submit(jrm.Service("sleep", ["9"], name="twin")), s.submit(echo().replace(name="twin"))), "name"),
        (lambda s: s.register_service("twin two", "x:1"), "name"),
        (lambda s: s.register_service("twin", "x\n:1"), "endpoint"),
        (lambda s: s.submit(jrm.Task("true", services=["no such"])), "services"),
        (lambda s: s.submit(jrm.Task("true", services=["a-b", "a_b"])), "JRM_INFO_A_B"),
        (lambda s: s.submit(jrm.Task("true", ready="x")), "ready"),
        (lambda s: jrm.Service("true", name="x", ready="("), "ready"),
        (lambda s: s.map(abs, [1], service=True), "service"),
        (lambda s: s.bundle("local", jrm.Service("true", name="x")), "on its own"),
        (lambda s: s.bundle("local", jrm.Task("true", services="x")), r"work\[0\].services"),
        (lambda s: s.submit(jrm.Task("true")).wait_ready(1), "is no service"),
    ],
)
def test_bad_input_names_the_field(session: Session, make: object, field: str) -> None:
    with pytest.raises(jrm.RequestError, match=field):
        make(session)  # type: ignore[operator]
