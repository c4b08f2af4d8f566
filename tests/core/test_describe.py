"""Descriptions: what is written comes back, what travels is the same, and every bad input names its field."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_rm.model.describe import ALIASES, FIELDS, Service, Shell, Task, Template
from jupyter_rm.model.errors import RequestError
from jupyter_rm.model.service import STARTUP_S, found, variable

words = st.text(st.characters(codec="utf-8", exclude_characters="\0{}"), max_size=10)
names = st.from_regex(r"[A-Za-z][A-Za-z0-9._-]{0,10}", fullmatch=True)
variables = st.dictionaries(st.from_regex(r"[A-Z_]{1,8}", fullmatch=True), words, max_size=3)
GOOD: dict[str, st.SearchStrategy[Any]] = {
    "arguments": st.lists(words, max_size=4),
    "ranks": st.integers(1, 64),
    "cores_per_rank": st.integers(1, 64),
    "gpus_per_rank": st.sampled_from((0, 0.25, 0.5, 1, 2)),
    "mem_per_rank": st.integers(0, 4096),
    "lfs_per_rank": st.integers(0, 4096),
    "resources": st.dictionaries(names, st.integers(0, 9), max_size=2),
    "exclusive": st.booleans(),
    "numa": st.sampled_from(("compact", "spread", "any")),
    "mpi": st.booleans(),
    "environment": variables,
    "named_env": words,
    "pre_exec": st.lists(words, max_size=2),
    "post_exec": st.lists(words, max_size=2),
    "pre_launch": st.lists(words, max_size=2),
    "post_launch": st.lists(words, max_size=2),
    "stdin": words,
    "stdout": words,
    "stderr": words,
    "sandbox": words,
    "input_staging": st.lists(st.sampled_from(("a", "a > b/", "pilot:///x > y", "http://h/z", "/a > r")), max_size=3),
    "output_staging": st.lists(st.sampled_from(("a", "a > b", "a > session:///b", "d > client:///tmp/")), max_size=3),
    "stage_on_error": st.booleans(),
    "priority": st.integers(-100, 100),
    "timeout": st.floats(0, 1e6),
    "retries": st.integers(0, 9),
    "retry_delay": st.floats(0, 1e6),
    "retry_on": st.sets(st.sampled_from(("TASK_EXIT", "OUT_OF_MEMORY", "CALL_RAISED"))).map(sorted).map(tuple),
    "restart": st.sampled_from(("lost", "never")),
    "on_silence": st.sampled_from(("wait", "rerun")),
    "tags": st.one_of(st.just({}), st.fixed_dictionaries({"colocate": names}, optional={"exclusive": st.booleans()})),
    "pilot": names,
    "requires": st.lists(st.sampled_from(["dataset:x", "gpu", "a/b@1"]), max_size=2),
    "services": st.lists(names, max_size=2, unique_by=variable),
    "partition": st.integers(0, 9),
    "category": words,
    "name": names,
    "metadata": variables,
    "mode": st.sampled_from(("executable", "shell")),
}
BAD: dict[str, list[object]] = {
    "executable": [None, 3, "a\0b"],
    "arguments": ["one string", 5, None, [None], ["a\0"]],
    "ranks": [0, -1, 1.5, "2", None, True],
    "cores_per_rank": [0, 513, "all"],
    "gpus_per_rank": [-1, 1.5, "one"],
    "mem_per_rank": ["lots", -1, "4 apples"],
    "lfs_per_rank": ["lots", -1],
    "ranks_per_node": [-1, "x"],
    "resources": [5, {"1bad": 1}, {"a": -1}, {"a": "x"}],
    "exclusive": ["yes", 1, None],
    "numa": ["close", None],
    "mpi": ["mpirun", 0],
    "environment": [5, {"A=B": "x"}, {"": "x"}, {"A": None}, {"A": "a\0"}],
    "named_env": [5, "a\0"],
    "pre_exec": [5, {"a": 1}, [None]],
    "post_exec": [5, [b"\0"]],
    "pre_launch": [5, [None]],
    "post_launch": [{"a": "b"}],
    "stdin": [5, "a\0"],
    "stdout": [None],
    "stderr": [7],
    "sandbox": [1, "x\0"],
    "input_staging": [5, ["a > ../b"], [3], "a > b > c", [{"target": "x"}], "ftp://h/a", ["a\nb"], [""]],
    "output_staging": [5, ["../a"], "a > http://h/b", [{"source": "a", "action": "teleport"}], "client:///a > b"],
    "stage_on_error": ["yes"],
    "priority": [2**15, "high", 1.5],
    "timeout": ["soon", -1],
    "retries": [-1, 1001, "many"],
    "retry_delay": ["soon", -1],
    "retry_on": [5, "NODE_LOST", ["TASK_EXIT", "NONE"], ["exit"]],
    "restart": ["always", None],
    "on_silence": ["shout"],
    "tags": [5, {"colocated": "a"}, {"exclusive": "yes"}, {"exclusive": True}],
    "pilot": [3],
    "requires": [5, ["a b"], [""], [None]],
    "services": [5, ["a b"], [""], [None], ["a-b", "a_b"], [f"s{n}" for n in range(65)]],
    "service": ["yes", 1, True],
    "ready": [5, "(", "x"],
    "ready_file": [5, "a\0", "x"],
    "startup_timeout": ["soon", -1, 5],
    "partition": [-1, 70_000],
    "category": [1],
    "name": ["two words", "", 5, "-x"],
    "metadata": [5, {"": "x"}],
    "mode": ["call", "magic"],
}


def test_numbers_of_any_kind_are_arguments() -> None:
    task = Task("x", [np.int64(3), np.float32(0.5), Fraction(1, 3)], env={"N": np.uint8(7)})
    assert (task.arguments, task.environment) == (("3", "0.5", "1/3"), (("N", "7"),))


def test_every_field_has_good_and_bad_examples() -> None:
    assert set(BAD) | {"after"} == set(FIELDS)
    serving = {"service", "ready", "ready_file", "startup_timeout"}  # of a service only
    assert set(GOOD) | {"executable", "after", "ranks_per_node"} | serving == set(FIELDS)


@settings(max_examples=300, deadline=None)
@given(words.filter(bool), st.fixed_dictionaries({}, optional=GOOD))
def test_a_description_comes_back_as_it_was_written(executable: str, fields: dict[str, Any]) -> None:
    task = Task(executable, **fields)
    assert Task.from_dict(task.as_dict()) == task
    assert hash(Task.from_dict(task.as_dict())) == hash(task)
    assert task.replace(priority=7).priority == 7
    template = task.template()
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(template), type=Template) == template
    for name in ("executable", "stdout", "retries", "restart", "on_silence", "category", "name"):
        assert getattr(template, name) == getattr(task, name)
    assert template.request.cores == task.cores


@pytest.mark.parametrize(("field", "bad"), [(field, bad) for field, items in BAD.items() for bad in items])
def test_bad_input_names_its_field(field: str, bad: object) -> None:
    with pytest.raises(RequestError) as caught:
        Task(**{"executable": "x", field: bad})
    assert field in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_short_names_mean_the_long_ones(alias: str, name: str) -> None:
    value: Any = {"environment": {"A": "b"}, "arguments": ["a"]}.get(name, 2)
    assert Task("x", **{alias: value}) == Task("x", **{name: value})
    with pytest.raises(RequestError, match="given twice"):
        Task("x", **{alias: value, name: value})


def test_a_service_comes_back_as_it_was_written() -> None:
    task = Service("redis-server", ["--port", 0], name="db", ready=r"port (\d+)", ready_file="log", cores=2)
    assert Task.from_dict(task.as_dict()) == task
    template = task.template()
    assert (template.service, template.name, template.ready, template.ready_file) == (True, "db", r"port (\d+)", "log")
    assert template.startup_timeout == STARTUP_S
    assert task.replace(startup_timeout="2m").template().startup_timeout == 120.0
    assert Task("x").template().startup_timeout == 0.0
    assert variable("my-db.2") == "JRM_INFO_MY_DB_2"


@pytest.mark.parametrize(
    ("pattern", "line", "endpoint"),
    [
        (r"listening", "listening", "node7"),
        (r"on (\S+)", "on 10.0.0.1:80", "10.0.0.1:80"),
        (r"port[ :]*(\d+)", "port: 8080", "node7:8080"),
        (r"(:\d+)", "at :81", "node7:81"),
        (r"on (\S+)", "on 0.0.0.0:80", "node7:80"),
        (r"on (\S+)", "on [::]:80", "node7:80"),
        (r"on (\S+)", "on *:80", "node7:80"),
        (r"on (\S+)", "on http://0.0.0.0:8888/lab?token=1", "http://node7:8888/lab?token=1"),
        (r"on (\S+)", "on 10.0.0.0:80", "10.0.0.0:80"),
        (r"(?:tcp (\S+)|file (\S+))", "file /tmp/x.sock", "/tmp/x.sock"),
        (r"on\s?(\S*)", "on", "node7"),
    ],
)
def test_where_a_service_is_stands_in_its_line(pattern: str, line: str, endpoint: str) -> None:
    match = re.search(pattern, line)
    assert match is not None
    assert found(match, "node7") == endpoint


def test_a_wrong_name_is_answered_with_a_near_one() -> None:
    with pytest.raises(RequestError) as caught:
        Task("x", retrys=3)
    assert "retries" in caught.value.hint


def test_a_task_needs_a_program() -> None:
    with pytest.raises(RequestError, match="executable"):
        Task()


def test_ranks_per_node_cannot_be_more_than_ranks() -> None:
    with pytest.raises(RequestError, match="ranks_per_node"):
        Task("x", ranks=2, ranks_per_node=3)


def test_placeholders_are_found_and_bad_braces_named() -> None:
    task = Task("run-{kind}", ["--seed", "{seed}", "{{literal}}"], stdout="out.{seed}", env={"T": "{temp}"})
    assert task.placeholders() == {"kind", "seed", "temp"}
    with pytest.raises(RequestError, match=r"arguments\[1\]"):
        Task("x", ["a", "{broken"]).placeholders()


def test_a_shell_line_is_a_task() -> None:
    assert Shell("a | b > c", cores=2).template().mode == "shell"
