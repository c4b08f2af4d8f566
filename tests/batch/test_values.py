"""Typed values, templates, conditions, node lists, times: the small parts, each on its own."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from jupyter_rm.batch import BatchError, expand, load
from jupyter_rm.batch.conditions import ConditionError, holds, names
from jupyter_rm.batch.fields import epoch_of, mib_of, seconds_of
from jupyter_rm.batch.nodelist import of_file, of_form
from jupyter_rm.batch.templates import Hole, TemplateError, fill
from jupyter_rm.batch.values import Attribute, accept, written
from jupyter_rm.model.errors import RequestError, SiteError


@pytest.mark.parametrize(
    ("template", "result"),
    [
        ("--n={n}", "--n=2"),
        ("{n}{w}", "2gone?"),
        ("{x}", None),
        ("a{x}", None),
        ("a<{x}>b", "ab"),
        ("a<:{n}><:{x}>", "a:2"),
        ("<{x}>", None),
        ("<{x}><{n}>", "2"),
        ("{{n}}", "{n}"),
        ("<<{n}>>", "<2>"),
        ("plain", "plain"),
        ("", ""),
        ("{n:hms}", "2hms"),
    ],
)
def test_templates(template: str, result: str | None) -> None:
    values = {"n": "2", "w": "gone?"}

    def value(hole: Hole) -> str | None:
        return values[hole.name] + hole.form if hole.name in values else None

    assert fill(template, value) == result


@pytest.mark.parametrize(
    "template", ["{", "}", "{N}", "{n", "n}", "<{n}", "{n}>", "<<{n}>", "<a>", "<{n}<{m}>>", "{n:}", "{n!r}", "{0}"]
)
def test_templates_that_cannot_be_read(template: str) -> None:
    with pytest.raises(TemplateError):
        fill(template, lambda hole: "x")


def test_values_are_never_templates() -> None:
    assert fill("--x={n}", lambda hole: "{n}<{m}>") == "--x={n}<{m}>"


@pytest.mark.parametrize(
    ("condition", "result"),
    [
        ("exclusive", True),
        ("not exclusive", False),
        ("nodes", True),
        ("absent", False),
        ("queue == 'gpu'", True),
        ("queue == gpu", True),
        ("queue != 'gpu'", False),
        ("absent == ''", True),
        ("nodes == 2 and exclusive", True),
        ("nodes == 3 or exclusive", True),
        ("not (nodes == 2 and queue == 'gpu')", False),
        ("nodes == 3 or nodes == 1 and exclusive", False),
        ("exclusive == true", True),
        ("not not exclusive", True),
    ],
)
def test_conditions(condition: str, result: bool) -> None:
    values = {"exclusive": True, "nodes": 2, "queue": "gpu"}
    assert holds(condition, values) is result


@pytest.mark.parametrize(
    "condition", ["", "and", "a ==", "a b", "(a", "a)", "a = b", "'a'", "__import__('os')", "a; b", "(" * 100 + "a"]
)
def test_conditions_that_cannot_be_read(condition: str) -> None:
    with pytest.raises(ConditionError):
        names(condition)


@pytest.mark.parametrize(
    ("attribute", "given", "text"),
    [
        ({"type": "int"}, 3, "3"),
        ({"type": "int"}, "3", "3"),
        ({"type": "int", "min": 1, "max": 3}, 3.0, "3"),
        ({"type": "float"}, 1.5, "1.5"),
        ({"type": "bool"}, True, "true"),
        ({"type": "bool", "map": {"true": "y"}}, True, "y"),
        ({"type": "choice", "choices": ["a", "b"]}, "b", "b"),
        ({"type": "choice", "choices": ["a", "b"], "map": {"b": "B!"}}, "b", "B!"),
        ({"type": "list"}, ["a", "b"], "a,b"),
        ({"type": "list"}, "a", "a"),
        ({"type": "list", "separator": ":"}, [1, 2], "1:2"),
        ({"type": "path"}, "/a b", "/a b"),
        ({"type": "duration"}, "1h30m", "5400"),
        ({"type": "duration"}, 0.2, "1"),
        ({"type": "memory"}, "4GiB", "4096"),
        ({"type": "memory"}, 1500, "1500"),
        ({"type": "string"}, "a b'c", "a b'c"),
        ({"type": "string", "pattern": "[a-z]+"}, "abc", "abc"),
    ],
)
def test_values_that_are_taken(attribute: dict[str, Any], given: object, text: str) -> None:
    one = Attribute(name="x", **attribute)
    assert written(one, accept(one, given)) == text


@pytest.mark.parametrize(
    ("attribute", "given"),
    [
        ({"type": "int"}, "3.5"),
        ({"type": "int"}, "three"),
        ({"type": "int"}, True),
        ({"type": "int"}, float("nan")),
        ({"type": "int"}, None),
        ({"type": "int", "min": 1, "max": 3}, 4),
        ({"type": "int", "min": 1}, 0),
        ({"type": "float"}, float("inf")),
        ({"type": "bool"}, 1),
        ({"type": "choice", "choices": ["a"]}, "b"),
        ({"type": "list"}, []),
        ({"type": "list"}, ["a,b"]),
        ({"type": "list"}, ["-a"]),
        ({"type": "list"}, [["a"]]),
        ({"type": "path"}, "a/b"),
        ({"type": "path"}, "~/b"),
        ({"type": "path"}, "/a\nb"),
        ({"type": "duration"}, "1 fortnight"),
        ({"type": "duration", "max": "1h"}, "61m"),
        ({"type": "memory"}, "4 XB"),
        ({"type": "memory", "min": "1GiB"}, "1MiB"),
        ({"type": "string"}, ""),
        ({"type": "string"}, "-x"),
        ({"type": "string"}, 5),
        ({"type": "string"}, b"x"),
        ({"type": "string"}, "a\0b"),
        ({"type": "string", "max_length": 3}, "abcd"),
        ({"type": "string", "pattern": "[a-z]+"}, "abc\n"),
    ],
)
def test_values_that_are_refused(attribute: dict[str, Any], given: object) -> None:
    with pytest.raises(RequestError) as caught:
        accept(Attribute(name="field_x", **attribute), given)
    assert caught.value.message.startswith("field_x: ") and caught.value.hint


@pytest.mark.parametrize(
    ("form", "seconds", "text"),
    [
        ("hms", 5400, "01:30:00"),
        ("hms", 360000, "100:00:00"),
        ("minutes", 61, "2"),
        ("minutes", 1, "1"),
        ("hm", 5401, "1:31"),
        ("dhms", 90061, "1-01:01:01"),
        ("s", 59.01, "60"),
    ],
)
def test_durations_round_up(form: str, seconds: float, text: str) -> None:
    assert written(Attribute(name="x", type="duration"), seconds, form) == text


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("n1", ("n1",)),
        ("n[01-04,7],m5", ("n01", "n02", "n03", "n04", "n7", "m5")),
        ("n[8-11]", ("n8", "n9", "n10", "n11")),
        ("n[098-101]-ib", ("n098-ib", "n099-ib", "n100-ib", "n101-ib")),
        ("r[1-2]n[1-2]", ("r1n1", "r1n2", "r2n1", "r2n2")),
        ("n[1-7:3]", ("n1", "n4", "n7")),
        ("a, b  c", ("a", "b", "c")),
        ("", ()),
    ],
)
def test_host_lists(text: str, hosts: tuple[str, ...]) -> None:
    assert expand(text) == hosts


@pytest.mark.parametrize(
    "text",
    ["n[", "n]", "n[1-]", "n[4-1]", "n[a]", "n[[1]]", "n[1-99999999]", "a[1-999]b[1-999]", "n;rm", "$(x)", "n[]"],
)
def test_host_lists_that_are_none(text: str) -> None:
    with pytest.raises(SiteError):
        expand(text)


@pytest.mark.parametrize(
    ("form", "text", "nodes"),
    [
        ("exec_host", "n1/0*4+n2/1*4", (("n1", 4), ("n2", 4))),
        ("exec_host", "n1/0+n1/1+n2/0", (("n1", 2), ("n2", 1))),
        ("exec_host", "n1/0-3,8+n2/5", (("n1", 5), ("n2", 1))),
        ("nodefile", "n2\nn1\nn2\n", (("n2", 2), ("n1", 1))),
        ("pe_hostfile", "n1 4 batch.q@n1 UNDEFINED\nn2 2 batch.q@n2 <NULL>\n", (("n1", 4), ("n2", 2))),
        ("pairs", "hostA 4 hostB 2", (("hostA", 4), ("hostB", 2))),
        ("counts", "4*hostA:2*hostB", (("hostA", 4), ("hostB", 2))),
        ("counts", "hostA:hostA", (("hostA", 2),)),
        ("words", "a b a", (("a", 2), ("b", 1))),
        ("slot", "slot1_2@node07.example.org", (("node07.example.org", 0),)),
    ],
)
def test_node_lists_of_every_form(form: str, text: str, nodes: tuple[tuple[str, int], ...]) -> None:
    assert of_form(form, text) == nodes


def test_an_empty_node_file_is_an_error() -> None:
    with pytest.raises(SiteError, match="names no host"):
        of_file("nodefile", "\n")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1-00:00:00", 86400),
        ("3-12", None),
        ("00:05:00", 300),
        ("5:00", 300),
        ("90", 90),
        ("1440.0", 1440),
        ("48.0/vm", 48),
        ("UNLIMITED", None),
        ("2-01:30", 178200),
        ("", None),
        ("16038 second(s)", None),
        ("15s", 15),
    ],
)
def test_durations_that_systems_print(text: str, seconds: float | None) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    ("text", "epoch"),
    [
        ("1795313936", 1795313936.0),
        ("2026-11-22T02:18:56", 1795313936.0),
        ("2026-11-22 02:18:56.25", 1795313936.0),
        ("2026-11-22T04:18:56+02:00", 1795313936.0),
        ("2026-11-22T02:18:56Z", 1795313936.0),
        ("Sun Nov 22 02:18:56 2026", 1795313936.0),
        ("Nov 22 02:18:56 2026 L", 1795313936.0),
        ("11/22/2026 02:18:56", 1795313936.0),
        ("Nov 22 02:18", None),
        ("N/A", None),
        ("0", None),
        ("2026-13-40T99:99:99", None),
        ("99999999999999", None),
    ],
)
def test_times_that_systems_print(text: str, epoch: float | None) -> None:
    assert epoch_of(text) == epoch
    if epoch and not text.isdecimal() and not text.endswith(("Z", "+02:00")):
        assert epoch_of(text, 3600) == epoch - 3600


@pytest.mark.parametrize(
    ("text", "mib"),
    [("16777216kb", 16384), ("23.5G", 24064), ("4000+", 4000), ("1T", 1048576), ("-", None), ("5x", None)],
)
def test_sizes_that_systems_print(text: str, mib: int | None) -> None:
    assert mib_of(text) == mib


def test_an_error_keeps_everything_when_it_travels() -> None:
    system = load("slurm")
    with pytest.raises(BatchError) as caught:
        system.read("submit", "", "sbatch: error: invalid partition specified: x\n", 1)
    again = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(again, BatchError) and str(again) == str(caught.value)
    for name in ("op", "rc", "raw", "translation", "refused", "code", "hint", "retry"):
        assert getattr(again, name) == getattr(caught.value, name)


@pytest.mark.parametrize(
    ("op", "out", "err", "rc", "code", "refused", "retry"),
    [
        ("submit", "", "sh: sbatch: command not found", 127, "JRM-S27", True, False),
        ("status", "", "sh: squeue: command not found", 127, "JRM-S27", True, False),
        ("submit", "", "what is this", 1, "JRM-S31", False, False),
        ("submit", "", "", 0, "JRM-S28", False, False),
        ("submit", "all well", "", 0, "JRM-S28", False, False),
        ("submit", "", "", None, "JRM-S28", False, False),
        ("status", "", "", None, "JRM-S28", False, True),
        ("status", "what", "", 0, "JRM-S28", False, True),
        ("status", "", "what", 2, "JRM-S28", False, True),
    ],
)
def test_failures_nobody_described(
    op: str, out: str, err: str, rc: int | None, code: str, refused: bool, retry: bool
) -> None:
    with pytest.raises(BatchError) as caught:
        load("slurm").read(op, out, err, rc)
    error = caught.value
    assert (error.code, error.refused, error.retry) == (code, refused, retry)
    if op == "submit" and not refused:
        assert "token" in error.hint, "a submit with an unclear end is looked for, not repeated"
