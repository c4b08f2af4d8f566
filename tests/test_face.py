"""The names that users, examples and outside checks rely on exist; to take one away is a decision, not an edit."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import jupyter_rm as jrm
from jupyter_rm.model import describe

ROOT = Path(__file__).resolve().parent.parent

NAMES = """open sessions Task TaskDescription Shell Session Pilot Bulk TaskHandle
    JrmError RequestError SiteError LinkError ProtocolError TaskError"""
SESSION = """pilot submit array map call executor tasks pilots frame events wait cancel detach close on_state
    __enter__ __exit__"""
PILOT = "state job_id queue_position start_estimate reason nodes wait cancel on_state add_done_callback"
TASK = """uid name state cause exit_code attempt pilot node slots sandbox wait result exception done add_done_callback
    remove_done_callback on_state cancel __await__ stdout stderr follow story explain"""
BULK = "__getitem__ __len__ __iter__ counts wait results as_completed failed to_frame cancel retry on_state __await__"
# Fields of the field's habit; those that are refused for now are refused by name, with what to do instead.
FIELDS = """executable arguments ranks cores_per_rank cores gpus_per_rank gpus mem_per_rank mem lfs_per_rank
    ranks_per_node environment named_env pre_exec post_exec pre_launch post_launch stdin stdout stderr input_staging
    output_staging stage_on_error sandbox priority timeout retries on_silence tags after pilot partition category name
    metadata mode"""
GOOD: dict[str, Any] = {"cores": 2, "gpus": 0.5, "mem": "4GiB"}


def missing(thing: object, names: str) -> list[str]:
    return [name for name in names.split() if not hasattr(thing, name)]


@pytest.mark.parametrize(
    ("thing", "names"),
    [("jrm", NAMES), ("Session", SESSION), ("Pilot", PILOT), ("TaskHandle", TASK), ("Bulk", BULK)],
)
def test_names_exist(thing: str, names: str) -> None:
    assert missing(jrm if thing == "jrm" else getattr(jrm, thing), names) == []


def test_every_exported_name_loads() -> None:
    assert missing(jrm, " ".join(jrm.__all__)) == []


def test_the_alias_is_the_class() -> None:
    assert jrm.TaskDescription is jrm.Task


@pytest.mark.parametrize("field", FIELDS.split())
def test_every_field_of_a_task_is_known(field: str) -> None:
    """Each field is taken, or refused for its value or as not supported yet; never as an unknown word."""
    try:
        jrm.Task(**{"executable": "true", field: GOOD.get(field, "true" if field == "executable" else None)})
    except jrm.RequestError as error:
        assert "no such field" not in str(error)


def test_help_and_completion_show_every_field() -> None:
    assert set(inspect.signature(jrm.Task).parameters) == {*describe.FIELDS, *describe.ALIASES} - {"args"}
    for made in (jrm.Shell, jrm.Service):
        assert {"cores", "cores_per_rank", "name", "after"} <= set(inspect.signature(made).parameters)
    assert {"self", "site", "cores", "walltime", "qos"} <= set(inspect.signature(jrm.Session.pilot).parameters)
    for name, (_, _, meaning) in describe.FIELDS.items():
        assert f"    {name}: {meaning}" in str(jrm.Task.__doc__)


def test_what_the_package_offers_is_what_it_exports() -> None:
    assert [name for name in dir(jrm) if not name.startswith("__")] == sorted(jrm.__all__)


def test_errors_carry_what_a_person_needs() -> None:
    for kind in (jrm.RequestError, jrm.SiteError, jrm.LinkError, jrm.ProtocolError, jrm.TaskError):
        error = kind("what happened", hint="what to do")
        assert isinstance(error, jrm.JrmError)
        assert re.fullmatch(r"JRM-[A-Z]\d{2,3}", error.code)
        assert error.hint == "what to do"
        assert error.retry is False


def test_one_version() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (version,) = re.findall(r'^version = "(.+)"$', text, re.MULTILINE)
    assert jrm.__version__ == version


@pytest.mark.parametrize("command", ["demo", "lab", "test", "bench", "check", "help", "clean", "wheel"])
def test_the_makefile_has_the_command(command: str) -> None:
    assert re.search(rf"^{command}:.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
