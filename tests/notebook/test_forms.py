"""Launch forms: generated from typed attributes, checked field by field, and true about what would be sent."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import yaml

from jupyter_rm.batch import known, load
from jupyter_rm.broker.sites import parse, values_of
from jupyter_rm.client.capacity import pilot_spec
from jupyter_rm.model.errors import RequestError
from jupyter_rm.server import forms
from jupyter_rm.server.api import SPEC
from jupyter_rm.views.forms import LATER, PLACE, form_of, system_of

SYSTEMS = sorted(set(known()) - {"base"})
GIVEN = {"name": "big", "queue": "batch", "nodes": "2", "cores_per_node": "8", "walltime": "1h30m"}


def field(form: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in form["fields"] if each["name"] == name)


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_command_shown_is_the_command_that_is_sent(name: str) -> None:
    site = "ssh://me@login" if name == "local" else f"{name}+ssh://me@login"
    system = load(name)
    offered = {each["name"] for each in form_of(system, {}, site=site)["fields"]}
    values = {key: value for key, value in GIVEN.items() if key in offered}
    form = form_of(system, values, site=site)
    assert form["errors"] == {}
    assert form["pilot"]["walltime"] == 5400.0
    # The way of a pilot: what a person asks for, what the broker asks the batch system for, the command.
    fields = {key: value for key, value in form["pilot"].items() if key != "site"}
    spec = pilot_spec(form["pilot"]["site"], fields)
    asked = values_of(spec, load(name), parse(site), LATER["token"], PLACE)
    sent = load(name).render("submit", {**asked, "script": f"{PLACE}/job.sh", "spec": f"{PLACE}/spec"})
    assert form["command"] == sent.line()
    assert form["argv"] == list(sent.argv)
    assert form["stdin"].encode() == sent.stdin
    assert form["ready"] and form["script"].startswith("#!/bin/sh")


def test_every_field_says_what_is_wrong_with_it() -> None:
    form = form_of(system_of("slurm+ssh://me@login"), {"nodes": "none", "walltime": "soon", "queue": "a b", "x": "1"})
    assert set(form["errors"]) == {"nodes", "walltime", "queue", ""}
    assert "not a number" in field(form, "nodes")["error"]
    assert "duration" in field(form, "walltime")["error"]
    assert "x: this site has no such field" in form["errors"][""]
    assert not form["ready"] and form["command"] == "" and form["pilot"] is None


def test_a_field_that_means_nothing_is_hidden_and_not_sent() -> None:
    system = system_of("pbs")  # a reservation is a queue there: both at once is impossible
    assert field(form_of(system, {"reservation": "R1"}), "reservation")["shown"]
    form = form_of(system, {"reservation": "R1", "queue": "batch"})
    assert not field(form, "reservation")["shown"]
    assert form["errors"] == {} and "R1" not in form["command"]


def test_values_become_a_pilot() -> None:
    values = {"nodes": "2", "cores_per_node": "8", "mem_per_node": "4GiB", "qos": "high", "exclusive": "true"}
    values |= {"env_mode": "update", "python": "module load python", "before_agent": "ulimit -s unlimited"}
    form = form_of(system_of("slurm+ssh://me@login"), values, site="slurm+ssh://me@login")
    assert form["pilot"] == {
        "site": "slurm+ssh://me@login",
        "nodes": 2,
        "cores": 16,
        "mem": "4096MiB",
        "options": {"qos": "high", "exclusive": "true"},
        "env_mode": "update",
        "python": "module load python",
        "hooks": {"before_agent": "ulimit -s unlimited"},
    }


def test_discovered_queues_are_choices() -> None:
    form = form_of(system_of("slurm"), {"queue": "nope"}, choices={"queue": ["batch", "gpu"]})
    queue = field(form, "queue")
    assert (queue["type"], queue["choices"]) == ("choice", ["batch", "gpu"])
    assert "is not one of batch, gpu" in queue["error"]


def test_here_there_is_no_command() -> None:
    form = form_of(system_of("local"), {"cores_per_node": 2}, site="local")
    assert form["command"] == "" and "this machine" in form["note"]
    assert form["pilot"] == {"site": "local", "cores": 2}
    assert not form_of(system_of("auto+ssh://me@x"), {})["command"]


def test_an_unknown_system_is_named() -> None:
    with pytest.raises(RequestError, match="slurn") as caught:
        system_of("slurn+ssh://me@login")
    assert "slurm" in caught.value.hint


def test_the_server_sends_what_its_description_says() -> None:
    description = yaml.safe_load(SPEC.read_text())
    for name, told in (
        ("Form", forms.form("slurm+ssh://me@login", {"nodes": "x", "walltime": "1h"})),
        ("Form", forms.form("noop", {"nodes": 4, "cores_per_node": 64})),
        ("Site", forms.sites()["systems"][0]),
    ):
        schema = description["components"]["schemas"][name]
        jsonschema.Draft202012Validator({**schema, "components": description["components"]}).validate(told)
    assert {"slurm", "sge", "pbs"} <= {each["name"] for each in forms.sites()["systems"]}
