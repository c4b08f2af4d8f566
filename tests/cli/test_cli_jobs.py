"""Bundles in files, and the verbs for bundles and scripts: ``jrm`` as a program and ``%jrm``."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from test_cli import jrm, told

import jupyter_rm
from jupyter_rm.client import bundle
from jupyter_rm.client.session import Session
from jupyter_rm.notebook.magics import Magics


def test_a_bundle_is_made_checked_and_submitted_from_a_file(bare: Session, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    assert str(path) in jrm("bundle", "make", str(path), "--site", "local")
    assert "is there already" in jrm("bundle", "make", str(path), code=2)
    text = path.read_text()
    path.write_text(text.replace('walltime = "1h"', 'cores = 2\nname = "filed"').replace("count = 100", "count = 20"))
    said = jrm("bundle", "check", str(path))
    assert "20 x /bin/echo" in said
    assert "for local" in said
    value = told("bundle", "submit", "-s", bare.name, str(path), "--wait")
    assert (value["state"], value["tasks"]) == ("DONE", {"DONE": 21})
    assert value["reason"] == "its work is done"
    tasks = bare.tasks()
    assert sorted(tasks[:20].results()) == sorted(f"case {case}\n" for case in range(20))
    assert tasks[20].result() == f"{os.uname().nodename.upper()}\n"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "site: missing"),
        ('site = "local"', "work"),
        ('site = "local"\n[[work]]\n', "work[0]: executable"),
        ('site = "local"\n[[work]]\nexecutable = "/bin/true"\ncorse = 2', "corse"),
        ('site = "local"\nnode = 2\n[[work]]\nexecutable = "/bin/true"', "node"),
        ('site = "local"\n[[work]]\nshell = "a"\nexecutable = "/bin/true"', "one of them"),
        ('site = "local"\n[[work]]\nexecutable = "/bin/{x}"\ncolumns = 3', "columns"),
        ('site = "local"\n[[work]]\nexecutable = "/bin/{x}"\ncolumns.x = {from = 1}', "columns.x"),
        ("site = ", "Invalid value"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, names: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(jupyter_rm.RequestError) as refused:
        bundle.read(path)
    assert names in str(refused.value)
    assert str(path) in str(refused.value) or names == "node"
    with pytest.raises(jupyter_rm.RequestError):
        bundle.read(tmp_path / "not-there.toml")


def test_magics_of_bundles_and_scripts(bare: Session, tmp_path: Path) -> None:
    magics = Magics({"where": str(tmp_path / "run.toml")})
    assert "next: edit it" in magics.line("bundle make $where --site local")
    assert "100 x /bin/echo" in magics.line("bundle check $where")
    text = (tmp_path / "run.toml").read_text()
    (tmp_path / "run.toml").write_text(text.replace('walltime = "1h"', "cores = 2").replace("100", "3"))
    magics.line(f"open {bare.name}")
    made = magics.line("bundle submit $where")
    assert made.wait(60)
    assert made.counts() == {"DONE": 4}
    assert "bundle" in repr(made)
    for line in ("script local", "script ssh://me@host --queue x"):
        with pytest.raises(jupyter_rm.RequestError) as refused:
            magics.cell(line, "#!/bin/sh\necho\n")
        assert refused.value.code == "JRM-Q28"
    assert repr(magics.line("jobs")) == "no scripts"
    assert told("jobs", "-s", bare.name) == []
    assert "takes no batch scripts" in jrm("script", "-s", bare.name, "local", str(tmp_path / "run.toml"), code=2)
