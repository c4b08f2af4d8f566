"""``jrm`` as a program: what it prints, its JSON, its exit codes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from world_kit import eventually

from jupyter_rm.client import session as sessions
from jupyter_rm.client.session import Session
from jupyter_rm.model.describe import Service


def jrm(*words: str, code: int = 0) -> str:
    """Run ``jrm`` and return what it printed (standard error after standard output)."""
    done = subprocess.run([sys.executable, "-m", "jupyter_rm", *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


def told(*words: str, code: int = 0) -> Any:
    """Run ``jrm VERB --json`` and return the value it printed."""
    return json.loads(jrm(words[0], "--json", *words[1:], code=code))


def test_run_passes_output_and_code_on(session: Session) -> None:
    assert jrm("run", "-s", session.name, "--", "/bin/echo", "hello") == "hello\n"
    assert "ended FAILED" in jrm("run", "-s", session.name, "--", "/bin/sh", "-c", "echo bad >&2; exit 7", code=7)
    value = told("run", "-s", session.name, "--name", "greet", "--", "/bin/echo", "{x}")
    assert (value["state"], value["stdout"], value["name"], value["exit_code"]) == ("DONE", "{x}\n", "greet", 0)
    assert "cores" in jrm("run", "-s", session.name, "--cores", "999", "--", "/bin/true", code=2)
    assert "no command" in jrm("run", "-s", session.name, code=2)
    again = ("--retries", "1", "--retry-delay", "1s", "--retry-on")
    assert "did you mean TASK_EXIT" in jrm("run", "-s", session.name, *again, "TASKEXIT", "--", "/bin/true", code=2)
    assert jrm("run", "-s", session.name, *again, "TASK_EXIT,DISK_FULL", "--", "/bin/true") == ""


def test_a_view_becomes_a_file(session: Session, tmp_path: Path) -> None:
    assert jrm("run", "-s", session.name, "--name", "wolfgang", "--", "/bin/true") == ""
    data, page, bare = (tmp_path / name for name in ("tasks.json", "usage.html", "bare.json"))
    assert told("export", "-s", session.name, "tasks", str(data)) == {"file": str(data)}
    made = json.loads(data.read_text())
    assert (made["view"], made["values"]["counts"], made["values"]["session"]) == ("tasks", {"DONE": 1}, session.name)
    jrm("export", "-s", session.name, "tasks", str(bare), "--anonymous")
    assert "wolfgang" in data.read_text() and "wolfgang" not in bare.read_text()
    assert session.name not in bare.read_text() and json.loads(bare.read_text())["values"]["counts"] == {"DONE": 1}
    jrm("export", "-s", session.name, "usage", str(page), "--theme", "dark")
    assert page.read_text().startswith("<!DOCTYPE html>") and page.stat().st_mode & 0o777 == 0o600
    assert "JRM-Q62" in jrm("export", "-s", session.name, "tasks", "tasks.png", code=2)
    assert "JRM-Q65" in jrm("export", "-s", session.name, "moon", str(data), code=2)
    assert "JRM-S62" in jrm("export", "-s", session.name, "tasks", str(tmp_path / "no" / "x.json"), code=3)


def test_sql(session: Session) -> None:
    jrm("run", "-s", session.name, "--name", "ok", "--", "/bin/true")
    query = "select name, cause as why, exit_code, run_time < 0 as bad from tasks where state = 'DONE'"
    assert told("sql", "-s", session.name, query) == [{"name": "ok", "why": "", "exit_code": 0.0, "bad": 0}]
    lines = ["name  why  exit_code  bad", "ok         0.0        0"]
    assert jrm("sql", "-s", session.name, query).splitlines() == lines
    assert jrm("sql", "-s", session.name, "select", "uid", "from", "bulks", "where", "1=0") == "uid\n"
    assert "JRM-Q56" in jrm("sql", "-s", session.name, "drop table tasks", code=2)


def test_the_queue_says_where_pilots_stand(session: Session) -> None:
    pilot = session.pilot("sim://told?nodes=2&cores=1&busy=4", nodes=2, walltime="5m")
    try:
        with session._replica.changed:
            seen = session._replica.changed.wait_for(lambda: pilot.queue_position, 60)
        assert seen, pilot.reason
        (row,) = told("queue", "-s", session.name)
        assert (row["pilot"], row["state"], row["job"]) == (pilot.uid, "QUEUED", pilot.job_id)
        assert row["place"] >= 1 and row["expected start"] and "position" in row["why"]
        text = jrm("queue", "-s", session.name)
        assert "place" in text and row["why"] in text
    finally:
        pilot.cancel()
        pilot.wait("CANCELED", 60)


def test_looking_at_tasks(session: Session) -> None:
    uid = jrm("submit", "-s", session.name, "--", "/bin/sh", "-c", "echo out; echo err >&2").strip()
    assert uid == "t.0.0"
    assert told("wait", "-s", session.name) == {"ended": True, "tasks": {"DONE": 1}}
    assert jrm("log", "-s", session.name, uid) == "out\n"
    assert jrm("log", "-s", session.name, "--stderr", uid) == "err\n"
    assert jrm("follow", "-s", session.name, uid) == "out\n"
    assert told("nodes", "-s", session.name)[0]["pilot"] == "p.0"
    assert told("queue", "-s", session.name) == []
    assert "submitted" in jrm("story", "-s", session.name, uid)
    assert "DONE" in told("explain", "-s", session.name, uid)["text"]
    assert [task["uid"] for task in told("tasks", "-s", session.name)] == [uid]
    assert uid in jrm("tasks", "-s", session.name, "--state", "done")
    assert told("pilots", "-s", session.name)[0]["state"] == "ACTIVE"
    assert told("status", "-s", session.name)["tasks"] == {"DONE": 1}
    assert session.name in [each["name"] for each in told("sessions")]
    assert session.name in jrm("sessions")


def test_services_are_listed_and_named(session: Session) -> None:
    assert jrm("services", "-s", session.name) == "no services\n"
    service = session.submit(Service("/bin/sleep", ["600"], name="plain"))
    endpoint = service.wait_ready(20)
    where = {"name": "out-side", "state": "READY", "endpoint": "db:54=32", "uid": "", "variable": "JRM_INFO_OUT_SIDE"}
    plain = {"name": "plain", "state": "READY", "endpoint": endpoint, "uid": "t.0.0", "variable": "JRM_INFO_PLAIN"}
    assert told("services", "-s", session.name, "out-side=db:54=32") == [where, plain]
    shown = jrm("services", "-s", session.name).splitlines()
    assert [line.split() for line in shown] == [
        ["out-side", "READY", "db:54=32", "-", "JRM_INFO_OUT_SIDE"],
        ["plain", "READY", endpoint, "t.0.0", "JRM_INFO_PLAIN"],
    ]
    assert [task["endpoint"] for task in told("tasks", "-s", session.name)] == [endpoint]
    words = ["--services", "plain,out-side", "--", "/bin/sh", "-c", 'echo "$JRM_INFO_PLAIN $JRM_INFO_OUT_SIDE"']
    assert jrm("run", "-s", session.name, *words) == f"{endpoint} db:54=32\n"
    assert told("services", "-s", session.name, "out-side=")[0] == {**where, "state": "ENDED", "endpoint": ""}
    assert "'out-side' has ended" in jrm("submit", "-s", session.name, *words, code=2)
    assert "'plain' is there already" in jrm("services", "-s", session.name, "plain=db:1", code=2)


def test_logs_of_broker_and_agents(session: Session) -> None:
    lines = told("logs", "-s", session.name, "broker", "p.0")
    assert list(lines[0]) == ["at", "component", "level", "name", "text"]
    assert {line["component"] for line in lines} == {"broker", "p.0"}
    assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)
    assert "p.0     INFO    life 0 of the agent of p.0\n" in jrm("logs", "-s", session.name)
    jrm("logs", "-s", session.name, "p.0", "--level", "debug")
    jrm("run", "-s", session.name, "--", "/bin/true")
    assert "p.0     DEBUG   ended: 1 tasks" in jrm("logs", "-s", session.name, "p.0", "--level", "INFO")
    assert "'loud' is no level" in jrm("logs", "-s", session.name, "--level", "loud", code=2)
    assert "known: broker, p.0" in jrm("logs", "-s", session.name, "p.7", code=2)


def test_logs_are_followed_until_ctrl_c(session: Session) -> None:
    words = [sys.executable, "-m", "jupyter_rm", "logs", "--json", "-s", session.name, "p.0", "--follow"]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert json.loads(child.stdout.readline())["component"] == "p.0"
    os.kill(child.pid, signal.SIGINT)
    _, err = child.communicate(timeout=20)
    assert (child.returncode, err) == (130, "")


def test_cancel_and_wait_codes(session: Session) -> None:
    uid = jrm("submit", "-s", session.name, "--", "/bin/sleep", "600").strip()
    jrm("wait", "-s", session.name, "--timeout", "0.1", code=124)
    assert told("cancel", "-s", session.name, uid) == {uid: 1}
    assert session[uid].wait(20) == "CANCELED"
    jrm("submit", "-s", session.name, "--", "/bin/sleep", "600")
    assert "which tasks" in jrm("cancel", "-s", session.name, code=2)
    assert told("cancel", "-s", session.name, "--all") == {"all": 1}
    jrm("submit", "-s", session.name, "--", "/bin/false")
    jrm("wait", "-s", session.name, code=1)


def test_pilot_open_close(home: Path) -> None:
    assert told("open", "made-here")["name"] == "made-here"
    value = told("pilot", "-s", "made-here", "local", "--cores", "1", "--wait")
    assert (value["state"], value["cores"]) == ("ACTIVE", 1)
    jrm("close", "made-here")
    assert next(each for each in told("sessions") if each["name"] == "made-here")["state"] == "closed"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["status", "-s", "never-made"], "never-made"),
        (["log", "-s", "bad name", "t.0"], "bad name"),
        (["story", "t.0.0", "-s", "never-made"], "never-made"),
        (["replay", "/nowhere/journal"], "journal"),
        (["replay", "/tmp"], "such as /tmp/journal"),
        (["demo", "--count", "0"], "give 1 or more"),
        (["nonsense"], "nonsense"),
        (["stauts"], "did you mean status?"),
        (["attach", "x"], "did you mean open?"),
        (["broker", "stpo"], "did you mean stop?"),
        (["log"], "next: jrm log --help"),
        (["tasks", "-s", "never-made"], "jrm open never-made makes it"),
        (["pilot", "--cores", "x"], "cores"),
        (["services", "db"], "'db' is not NAME=HOST:PORT"),
    ],
)
def test_wrong_use_is_code_2(home: Path, words: list[str], says: str) -> None:
    shown = jrm(*words, code=2)
    assert says in shown
    assert "Traceback" not in shown
    assert len(shown.splitlines()) == 2, "one line and what to do next"


def test_alone_it_says_how_to_begin(home: Path) -> None:
    shown = jrm()
    assert "jrm run -- echo hello" in shown
    assert "Exit codes" in shown


@pytest.mark.parametrize("verb", ["status", "sessions"])
def test_a_home_that_cannot_be_made_is_named(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "file"
    place.touch()
    monkeypatch.setenv("JUPYTER_RM_HOME", str(place))
    shown = jrm(verb, code=3)
    assert str(place) in shown
    assert "point JUPYTER_RM_HOME" in shown
    assert "Traceback" not in shown


def test_errors_as_json(home: Path) -> None:
    value = json.loads(jrm("status", "--json", "-s", "never-made", code=2))
    assert value["error"] == "RequestError"
    assert value["hint"]


def test_doctor_broker_settings_version(home: Path) -> None:
    assert all(each["ok"] for each in told("doctor")), told("doctor")
    assert told("broker", "status")["pid"] == told("broker")["pid"] > 0
    assert "incarnation" in jrm("broker", "log")
    assert told("settings")["profile"] == {"value": "default", "from": "default"}
    assert "file:" in jrm("settings", "--why")
    assert told("version")["version"]
    assert json.loads(jrm("--json", "version")) == told("version")


def test_settings_say_where_they_came_from(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_RM_REQUEST_TIMEOUT_S", "90s")
    path = tmp_path / "jupyter_rm_config.json"
    path.write_text('{"JupyterRM": {"progress": false}}')
    value = told("settings")
    assert value["request_timeout_s"] == {"value": 90.0, "from": "JUPYTER_RM_REQUEST_TIMEOUT_S"}
    assert value["progress"] == {"value": False, "from": str(path)}
    path.write_text('{"JupyterRM": {"porgress": false}}')
    assert "porgress" in jrm("settings", code=2)
    path.write_text("{")
    assert str(path) in jrm("settings", code=2)


def test_demo(home: Path) -> None:
    value = told("demo", "--count", "8")
    assert value["as expected"]
    assert value["programs"] == {"DONE": 8}
    assert "sum of squares" in jrm("demo", "--count", "4")


def test_the_demo_leaves_work_of_that_name_alone(home: Path) -> None:
    jrm("submit", "-s", "demo", "--", "/bin/sleep", "600")
    assert "session 'demo-2'" in jrm("demo", "--count", "2")
    listed = {each["name"]: each for each in told("sessions") if not each["earlier"]}
    assert listed["demo"]["state"] == "open"
    assert "CANCELED" not in listed["demo"]["tasks"]
    assert listed["demo-2"]["state"] == "closed"
    jrm("close", "demo")


def test_replay_of_a_dead_session(session: Session, home: Path, tmp_path: Path) -> None:
    session.submit(jrm_task("/bin/echo", ["x"])).wait(20)
    name = session.name
    session.close()
    jrm("broker", "stop", "--force")
    shutil.copytree(
        home / "default", tmp_path / "copy", ignore=shutil.ignore_patterns("run", "*.sock", "pilots", "sim")
    )
    value = told("replay", str(tmp_path / "copy" / "journal"))
    line = next(each for each in value["sessions"] if each["name"] == name)
    assert line["tasks"] == {"DONE": 1}
    assert line["closed"]
    assert name in jrm("replay", str(tmp_path / "copy" / "journal"))
    assert "ended DONE" in jrm("replay", "-s", name, str(tmp_path / "copy" / "journal"), "t.0.0")
    assert "never-made" in jrm("replay", "-s", "never-made", str(tmp_path / "copy" / "journal"), "t.0.0", code=2)
    assert jrm("broker", "status").strip() == "no broker runs"
    sessions._open.clear()


def jrm_task(*words: Any) -> Any:
    from jupyter_rm import Task

    return Task(*words)


def test_ctrl_c_is_130_and_the_task_goes_on(session: Session) -> None:
    words = [sys.executable, "-m", "jupyter_rm", "run", "-s", session.name, "--", "/bin/sleep", "600"]
    child = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    eventually(lambda: session.counts().get("RUNNING") == 1, "the task runs")
    os.kill(child.pid, signal.SIGINT)
    _, err = child.communicate(timeout=20)
    assert child.returncode == 130
    assert "still running" in err
    assert session.counts() == {"RUNNING": 1}
    session.cancel()
