"""What a form offers: each type its input, limits before anything is sent, queues that were found, fields that a person
hides for good. The site is a file of 25 attributes of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyter_rm.batch import load
from jupyter_rm.broker.sites import check, parse, search_path, values_of
from jupyter_rm.client import discover
from jupyter_rm.client.capacity import pilot_spec
from jupyter_rm.client.script import script_spec
from jupyter_rm.core import renewal
from jupyter_rm.model.errors import RequestError
from jupyter_rm.model.facts import PilotSpec
from jupyter_rm.model.sites import SiteQueue
from jupyter_rm.notebook.complete import complete
from jupyter_rm.notebook.magics import Magics
from jupyter_rm.runtime.found import Found, recall, remember
from jupyter_rm.runtime.home import Home
from jupyter_rm.server import forms as served
from jupyter_rm.views import fields
from jupyter_rm.views.forms import form_of, system_of

SITE = "big+ssh://me@login"
TYPES = {
    "string": 'pattern = "[a-z]+"',
    "int": "min = 1\nmax = 16",
    "float": "min = 0.5\nmax = 2.5",
    "bool": "default = false",
    "choice": 'choices = ["slow", "fast"]\ndefault = "slow"',
    "list": "",
    "path": "",
    "duration": 'min = "1m"\nmax = "2d"',
    "memory": 'min = "1MiB"\nmax = "4GiB"',
}
GOOD_AND_BAD: list[tuple[str, object, object, str]] = [
    ("string", "abc", "ABC", "does not fit"),
    ("string", "z", "-z", "starts with '-'"),
    ("string", "q", "a\u202eb", "cannot be passed on"),
    ("int", "16", "17", "is above 16"),
    ("int", "1", "0", "is below 1"),
    ("int", 4, "4.5", "not a whole number"),
    ("int", "+4", "four", "not a number"),
    ("float", "2.5", "2.6", "is above 2.5"),
    ("float", "0.5", "nan", "not a number"),
    ("bool", "true", "perhaps", "not true or false"),
    ("choice", "fast", "faster", "not one of slow, fast"),
    ("list", "a, b", "a, -b", "starts with '-'"),
    ("path", "/scratch", "scratch", "not an absolute path"),
    ("duration", "1h30m", "3d", "is above 2d"),
    ("duration", "90s", "soon", "not a duration"),
    ("memory", "4GiB", "5GiB", "is above 4GiB"),
    ("memory", "512MiB", "much", "not a size"),
]


@pytest.fixture
def big(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A site of 25 attributes of its own: nine types, the others texts, one behind a condition."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("JUPYTER_RM_HOME", str(tmp_path / "home"))
    place = tmp_path / "jupyter_rm" / "sites"
    place.mkdir(parents=True)
    text = 'extends = "slurm"\ntitle = "Big"\n[site]\nurl = "slurm+ssh://me@login"\n'
    for kind, more in TYPES.items():
        text += f'[attributes.x_{kind}]\ntype = "{kind}"\noptional = true\nargs = ["--{kind}={{value}}"]\n{more}\n'
    for number in range(16):
        text += f'[attributes.y{number}]\noptional = true\ndefault = "d{number}"\nargs = ["--y{number}={{value}}"]\n'
    text += "depends = \"x_choice == 'fast'\"\n"  # of the last one
    (place / "big.toml").write_text(text)
    yield "big"


@pytest.fixture
def two(big: str) -> str:
    """A site that gives two nodes for two hours when nothing else is said."""
    text = 'extends = "slurm"\n[site]\nurl = "slurm+ssh://me@login"\nnodes = 2\nwalltime = "2h"\nqueue = "batch"\n'
    (search_path()[0] / "two.toml").write_text(text)
    return big and "two"


def test_what_is_asked_for_comes_before_what_the_site_says(two: str) -> None:
    form = form_of(system_of(two), {"nodes": "3", "queue": "long"}, site=two)
    assert form["errors"] == {} and {"--nodes=3", "--partition=long", "--time=120"} <= set(form["argv"]), form
    assert "--nodes=2" in form_of(system_of(two), {}, site=two)["argv"]
    assert pilot_spec(two, {"nodes": 3}) == PilotSpec(site=two, nodes=3, walltime=7200.0, queue="batch")
    asked = values_of(pilot_spec(two, {"backup": 1}), system_of(two), parse(two), "jrm000000", "/x")
    assert (asked["nodes"], asked["queue"]) == (3, "batch")


def test_what_the_site_says_counts_when_a_pilot_is_checked(two: str) -> None:
    assert pilot_spec(two, {"partitions": 2}).partitions == (1, 1)
    assert pilot_spec(two, {"partitions": [2, 1]}).nodes == 3
    check(pilot_spec(two, {"renew": 3}))
    renewal.check(pilot_spec(two, {"renew": 3}), 0)
    with pytest.raises(RequestError, match=r"drain: 10800\.0 is not within the walltime"):
        check(PilotSpec(site=two, drain=10800.0))
    # A script says itself what it needs.
    assert script_spec(two, b"#!/bin/sh", "x", {}).nodes == 0


@pytest.mark.parametrize(("name", "said"), [("nodes", "nodes"), ("queue", "queue"), ("mem_per_node", "mem")])
def test_an_option_that_is_a_field_is_refused(two: str, name: str, said: str) -> None:
    with pytest.raises(RequestError) as caught:
        check(pilot_spec(two, {"options": {name: "5"}, "queue": "b"}))
    assert (caught.value.code, caught.value.hint) == ("JRM-Q21", f"say {said}=")


def test_only_options_that_are_taken_are_offered(two: str) -> None:
    with pytest.raises(RequestError) as caught:
        check(pilot_spec(two, {"options": {"qoss": "x"}}))
    assert (caught.value.code, caught.value.hint) == ("JRM-Q22", "did you mean qos?")
    with pytest.raises(RequestError) as caught:
        check(pilot_spec(two, {"options": {"zzz": "x"}}))
    known = caught.value.hint.removeprefix("known: ").split(", ")
    assert "constraint" in known and not {"nodes", "token", "script", "user", "stdout"} & set(known)


def field(form: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in form["fields"] if each["name"] == name)


def test_each_type_has_its_input_and_what_does_not_fit_is_not_sent(big: str) -> None:
    system = system_of(big)
    form = form_of(system, {}, site=big)
    own = [each for each in form["fields"] if each["name"].startswith(("x_", "y"))]
    assert len(own) == 25 and {each["name"]: each["type"] for each in own if each["name"].startswith("x_")} == {
        f"x_{kind}": kind for kind in TYPES
    }
    assert field(form, "x_choice")["choices"] == ["slow", "fast"]
    for kind, good, bad, why in GOOD_AND_BAD:
        name = f"x_{kind}"
        fine = form_of(system, {name: good}, site=big)
        assert fine["errors"] == {}, (kind, good)
        assert f"--{kind}=" in fine["command"] or kind == "bool", (kind, good)
        wrong = form_of(system, {name: bad}, site=big)
        assert why in wrong["errors"][name], (kind, bad, wrong["errors"])
        assert not wrong["ready"] and wrong["pilot"] is None and wrong["command"] == ""


def test_a_field_comes_and_goes_with_another_one(big: str) -> None:
    system = system_of(big)
    assert not field(form_of(system, {}, site=big), "y15")["shown"]
    form = form_of(system, {"x_choice": "fast", "y15": "here"}, site=big)
    assert field(form, "y15")["shown"] and "--y15=here" in form["command"]
    assert "y15" not in form_of(system, {"x_choice": "slow", "y15": "here"}, site=big)["command"]


def test_what_is_asked_for_is_told_in_full(big: str) -> None:
    form = form_of(system_of(big), {"x_int": "3", "x_memory": "1GiB"}, site=big)
    assert form["errors"] == {}
    assert (form["resolved"]["x_int"], form["resolved"]["x_memory"], form["resolved"]["y3"]) == ("3", "1024", "d3")
    assert "x_float" in form["left_out"] and not set(form["left_out"]) & set(form["resolved"])
    own = {name: text for name, text in form["resolved"].items() if name.startswith(("x_", "y")) and text != "false"}
    assert len(own) > 15 and all(f"={text}" in form["command"] for text in own.values())


def test_fields_that_are_hidden_stay_hidden_and_their_defaults_are_sent(big: str) -> None:
    before = served.form(big, {})
    away = [f"y{number}" for number in range(9)] + ["x_string"]
    assert served.hide(big, away)["hidden"] == sorted(away)
    program = "import json, sys; from jupyter_rm.server.forms import form; print(json.dumps(form(sys.argv[1], GIVEN)))"
    program = program.replace("GIVEN", repr({"x_string": "abc"}))
    told = subprocess.run([sys.executable, "-c", program, big], capture_output=True, text=True, timeout=60, check=True)
    form = json.loads(told.stdout)  # another process: a restarted kernel or server
    assert sorted(each["name"] for each in form["fields"] if each["hidden"]) == sorted(away)
    assert form["command"] == before["command"] and "--y3=d3" in form["command"], "hidden ones are sent as ever"
    assert "abc" not in form["command"], "what cannot be seen is not sent"
    assert oct((fields.folder() / "forms.json").stat().st_mode)[-3:] == "600"
    served.hide(big, [])
    assert not any(each["hidden"] for each in served.form(big, {})["fields"])


def test_six_queues_are_six_choices_with_their_limits(big: str) -> None:
    queues = tuple(SiteQueue(f"q{n}", default=n == 2, walltime=3600.0 * (n + 1), nodes=n + 1) for n in range(6))
    home = Home.locate("default")
    remember(home, Found(big, time.time() - 120, "Big", (*queues, SiteQueue("shut", open=False))))
    form = served.form(big, {"walltime": "3h"})
    queue = field(form, "queue")
    assert (queue["type"], queue["choices"], queue["default"]) == ("choice", [f"q{n}" for n in range(6)], "q2")
    assert "found 2 min" in form["found"]["text"] and form["errors"] == {}, "what the default queue allows"
    form = served.form(big, {"queue": "q1", "walltime": "3h", "nodes": 3})
    assert "at most 2 h" in form["errors"]["walltime"] and "at most 2" in form["errors"]["nodes"]
    assert "2 nodes" in field(form, "queue")["help"] and not form["ready"]
    assert "is not one of q0" in served.form(big, {"queue": "shut"})["errors"]["queue"]
    assert served.form(big, {"queue": "q5", "walltime": "3h", "nodes": 6})["ready"]
    assert oct(home.state_path.joinpath("found").stat().st_mode)[-3:] == "700"


def test_projects_that_were_found_are_choices_else_they_are_typed_in(big: str) -> None:
    home, queues = Home.locate("default"), (SiteQueue("batch"),)
    remember(home, Found(big, time.time(), "Big", queues, projects=("relax", "train")))
    form = served.form(big, {"project": "relax"})
    assert field(form, "project")["choices"] == ["relax", "train"] and form["ready"]
    assert "1 queue, 2 projects, found" in form["found"]["text"]
    assert "is not one of relax, train" in served.form(big, {"project": "other"})["errors"]["project"]
    assert complete(f"%jrm pilot {big} --project t", Magics({})) == ["train"]
    remember(home, Found(big, time.time(), "Big", queues, missed="its accounting is not available"))
    form = served.form(big, {"project": "other"})
    assert form["ready"] and field(form, "project")["type"] == "string"
    assert form["found"]["failure"] == "Projects were not found: its accounting is not available; type yours in"
    assert field(form, "queue")["choices"] == ["batch"], "what was found stands"
    assert complete(f"%jrm pilot {big} --queue ", Magics({})) == ["batch"]


def test_a_form_opens_though_nothing_can_be_found(big: str) -> None:
    site = "slurm+ssh://me@127.0.0.1:1"
    form = served.form(site, {}, refresh=True)
    assert form["ready"] and form["found"]["failure"].startswith("Queues were not found:")
    assert field(form, "queue")["type"] == "string", "it is typed in"
    assert recall(Home.locate("default"), site).failure
    remember(
        Home.locate("default"), Found(site, time.time(), "Slurm", (SiteQueue("batch"),), "the login failed", "look")
    )
    form = served.form(site, {}, refresh=True)  # asked a moment ago: not asked again
    assert field(form, "queue")["choices"] == ["batch"] and "the login failed" in form["found"]["failure"]
    assert discover.known("nobody+wrote://this").at == 0 and load("slurm").title
