"""Lines of a pilot and of its tasks run at their moments, and tasks may name what a pilot is like."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
from world_kit import eventually

import jupyter_rm as jrm
from jupyter_rm.client import session as sessions
from jupyter_rm.client.pilot import Pilot
from jupyter_rm.client.session import Session

SAY = 'echo "{} ${{SET_BEFORE-}} ${{JRM_EXIT_CODE-}}" >>"$JRM_SANDBOX/order"'


@pytest.fixture(scope="module")
def study(home: Path) -> Iterator[Session]:
    del home
    session = sessions.open("hooks")
    yield session
    session.close()


@pytest.fixture(scope="module")
def hooked(study: Session) -> Pilot:
    """A pilot with lines of its own around each task."""
    hooks = {name: SAY.format(name + " of the pilot") for name in ("pre_launch", "post_exec", "post_launch")}
    hooks["pre_exec"] = ["SET_BEFORE=yes", "export SET_BEFORE"]  # type: ignore[assignment]
    made = study.pilot("local", cores=2, hooks=hooks)
    assert made.wait(timeout=60) == "ACTIVE", made.reason
    return made


def own(name: str) -> list[str]:
    return [SAY.format(name + " of the task")]


def order(task: jrm.TaskHandle) -> list[str]:
    return [line.strip() for line in (Path(str(task.sandbox)) / "order").read_text().splitlines()]


def test_lines_run_in_their_order_those_of_the_pilot_first(study: Session, hooked: Pilot) -> None:
    moments = {name: own(name) for name in ("pre_launch", "post_exec", "post_launch")}
    task = study.submit(jrm.Shell(SAY.format("program"), pilot=hooked.uid, **moments))
    assert task.wait(60) == "DONE", task.reason
    assert order(task) == [
        *("pre_launch of the pilot yes", "pre_launch of the task yes", "program yes"),
        *("post_exec of the pilot yes 0", "post_exec of the task yes 0"),
        *("post_launch of the pilot yes 0", "post_launch of the task yes 0"),
    ]


def test_around_several_ranks_they_run_once(study: Session, hooked: Pilot) -> None:
    task = study.submit(
        jrm.Task("/bin/true", ranks=2, pilot=hooked.uid, post_exec=["exit $JRM_RANK"], post_launch=own("post_launch"))
    )
    assert task.wait(60) == "FAILED", task.reason
    assert task.exit_code == 1
    told = order(task)
    assert told[0] == "pre_launch of the pilot yes 0"
    assert set(told[1:-2]) == {"post_exec of the pilot yes 0"}
    assert told[-2:] == ["post_launch of the pilot yes 1", "post_launch of the task yes 1"]


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("hook", ["pre_launch", "post_launch"])
def test_a_hook_that_fails_is_named_with_its_code_and_last_lines(
    study: Session, hooked: Pilot, hook: str, ranks: int
) -> None:
    lines = ["echo no licence >&2", "exit 3"]
    task = study.submit(jrm.Shell("touch ran", ranks=ranks, pilot=hooked.uid, **{hook: lines}))
    assert task.wait(60) == "FAILED"
    assert task.exit_code == 3
    for words in (f"hook {hook} ended with exit code 3", "no licence"):
        assert words in task.reason, task.reason
    assert (Path(str(task.sandbox)) / "ran").exists() == (hook == "post_launch")


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_task_is_canceled_while_a_hook_runs(study: Session, hooked: Pilot, ranks: int) -> None:
    task = study.submit(jrm.Shell("touch ran", ranks=ranks, pilot=hooked.uid, pre_launch=["touch begun", "sleep 600"]))
    eventually(lambda: task.sandbox and (task.sandbox / "begun").exists(), "the hook does not begin", 60)
    task.cancel()
    assert task.wait(60) == "CANCELED", task.reason
    assert not (Path(str(task.sandbox)) / "ran").exists()


def test_calls_inherit_what_pre_exec_made(study: Session, hooked: Pilot) -> None:
    assert study.map(os.getenv, ["SET_BEFORE"], pilot=hooked.uid).results() == ["yes"]


def test_tasks_read_the_facts_of_their_pilot(study: Session, hooked: Pilot) -> None:
    facts = hooked.facts
    assert facts["host"] == platform.node()
    assert (facts["cores"], facts["python_version"]) == (2, platform.python_version())
    text = "on ${facts.host} with ${facts.cores}, $${facts.host} {}"
    shown = f"on {platform.node()} with 2, ${{facts.host}} {{}}"
    one = study.submit(jrm.Task("/bin/echo", ["-n", text], pilot=hooked.uid))
    two = study.submit([jrm.Task("/bin/echo", ["-n", text, str(n)], pilot=hooked.uid) for n in range(2)])
    many = study.array(jrm.Task("/bin/echo", ["-n", "{n} ${facts.host}"], pilot=hooked.uid), n=[1, 2])
    line = study.submit(jrm.Shell('printf %s "$X"', environment={"X": "${facts.cores}"}, pilot=hooked.uid))
    called = study.map(os.getenv, ["X"], environment={"X": "${facts.cores}"}, pilot=hooked.uid)
    assert one.result(60) == shown
    assert [each.result(60) for each in two] == [f"{shown} 0", f"{shown} 1"]
    assert [each.result(60) for each in many] == [f"1 {platform.node()}", f"2 {platform.node()}"]
    assert line.result(60) == "2"
    assert called.results() == ["2"]


def test_a_fact_that_is_not_there_is_named_with_its_field(study: Session, hooked: Pilot) -> None:
    task = study.submit(jrm.Task("/bin/echo", ["x", "${facts.gpu_model}"], pilot=hooked.uid))
    assert task.wait(60) == "FAILED"
    assert "arguments[1]: ${facts.gpu_model} is no fact of this pilot; known: arch, cores" in task.reason, task.reason
    call = study.map(abs, [1], environment={"X": "${facts.nope}"}, pilot=hooked.uid)[0]
    assert call.wait(60) == "FAILED"
    assert "environment['X']: ${facts.nope}" in call.reason, call.reason


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: jrm.Task("echo", ["${facts.a b}"]), "arguments[0]"),
        (lambda: jrm.Task("echo", environment={"A": "${facts.}"}), "environment['A']"),
        (lambda: jrm.Shell("echo ${facts.host}"), "executable"),
        (lambda: jrm.Task("echo", stdout="${facts.host}"), "stdout"),
    ],
)
def test_facts_where_there_are_none_are_refused_by_field(make: object, says: str) -> None:
    with pytest.raises(jrm.RequestError) as refused:
        make()  # type: ignore[operator]
    assert refused.value.message.startswith(says), refused.value.message


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"hooks": {"after_lunch": "true"}}, "hooks['after_lunch']: there is no such moment"),
        ({"hooks": {"before_env": "true"}}, "hooks['before_env']: this machine has no login"),
        ({"hooks": {"pre_exec": 5}}, "hooks['pre_exec']: 5 is not text"),
        ({"hooks": "true"}, "hooks: 'true' is no mapping"),
        ({"python": "/usr/bin/python3"}, "python: means nothing on this machine"),
        ({"queue": "batch"}, "queue: means nothing on this machine"),
    ],
)
def test_what_means_nothing_on_this_machine_is_refused_by_field(
    study: Session, fields: dict[str, object], says: str
) -> None:
    with pytest.raises(jrm.RequestError) as refused:
        study.pilot("local", **fields)
    assert refused.value.message.startswith(says), refused.value.message


def test_a_task_waits_for_a_pilot_that_offers_what_it_requires(study: Session, hooked: Pilot) -> None:
    other = study.pilot("local", cores=1, capabilities=["licence:abaqus"])
    assert other.wait(timeout=60) == "ACTIVE", other.reason
    tasks = study.submit([jrm.Task("/bin/true", requires={"dataset:x"})] * 20)
    assert study.submit(jrm.Task("/bin/true")).wait(60) == "DONE"  # others pass them
    assert tasks.counts() == {"WAITING": 20}
    assert f"pilot {other.uid} does not offer dataset:x" in str(tasks[0].explain())
    licensed = study.submit(jrm.Task("/bin/true", requires="licence:abaqus"))
    assert licensed.wait(60) == "DONE", licensed.reason
    assert licensed.pilot == other or licensed.pilot.uid == other.uid  # type: ignore[union-attr]
    other.add_capability("dataset:x")
    assert other.capabilities == {"licence:abaqus", "dataset:x"}
    assert tasks.wait(60)
    assert tasks.counts() == {"DONE": 20}
    assert {task.pilot.uid for task in tasks} == {other.uid}
    with pytest.raises(jrm.RequestError, match="requires"):
        jrm.Task("/bin/true", requires={"data set"})
    other.cancel()


def test_on_several_nodes_lines_facts_and_environments_are_the_same(study: Session, tmp_path: Path) -> None:
    tool = tmp_path / "bin" / "tool"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\necho "$JRM_NODE ${SET_BEFORE-unset} $1"\n')
    tool.chmod(0o755)
    (tool.parent / "python").symlink_to("/bin/true")
    lines = ["SET_BEFORE=yes", "export SET_BEFORE"]
    pilot = study.pilot(
        "local", nodes=2, cores=2, launch="fork", hooks={"pre_exec": lines}, envs={"tools": str(tmp_path)}
    )
    assert pilot.wait(timeout=90) == "ACTIVE", pilot.reason
    tasks = study.submit(
        [jrm.Task("tool", ["${facts.cores}"], named_env="tools", pilot=pilot.uid, exclusive=True) for _ in range(4)]
    )
    said = {task.result(60).strip() for task in tasks}
    cores = pilot.facts["cores"]
    assert said == {f"{node.name} yes {cores}" for node in pilot.nodes}
    spread = study.submit(
        jrm.Task("/bin/true", ranks=2, ranks_per_node=1, pilot=pilot.uid, pre_launch='echo "$JRM_NODE" >>nodes')
    )
    assert spread.wait(60) == "DONE", spread.reason
    assert sorted((Path(str(spread.sandbox)) / "nodes").read_text().split()) == sorted(n.name for n in pilot.nodes)
    pilot.cancel()
