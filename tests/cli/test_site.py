"""``jrm site`` as people use it: lists, problems with file and line, a guided new file, origins, and a real login."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cluster_kit import Cluster

import jupyter_rm as jrm_package
from jupyter_rm.batch import load, recognise
from jupyter_rm.broker.sites import machine
from jupyter_rm.model.errors import RequestError
from jupyter_rm.notebook.complete import complete
from jupyter_rm.notebook.magics import Magics


class Shell:
    """Runs ``jrm`` with a configuration directory of its own."""

    def __init__(self, place: Path, **env: str) -> None:
        self.sites = place / "jupyter_rm" / "sites"
        self.env = {**os.environ, "XDG_CONFIG_HOME": str(place), "JUPYTER_RM_HOME": str(place / "home"), **env}

    def __call__(self, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "jupyter_rm", *words],
            env=self.env,
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture
def jrm(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_a_new_site_from_the_first_word_to_its_origins(jrm: Shell) -> None:
    made = jrm("site", "new", "box", "--url", "slurm+ssh://me@login", "--set", "queue=batch", "--set", "exclusive=true")
    assert made.returncode == 0, made.stderr
    path = jrm.sites / "box.toml"
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    assert jrm("site", "check", "box").stdout == "box: nothing is wrong with it\n"
    listed = {one["name"]: one for one in json.loads(jrm("site", "list", "--json").stdout)}
    assert (listed["box"]["kind"], listed["box"]["url"]) == ("yours", "slurm+ssh://me@login")
    assert {"local", "ssh", "slurm", "sge", "pbs"} <= set(listed)
    shown = jrm("site", "show", "box").stdout
    assert "at slurm+ssh://me@login" in shown and "default batch" in shown
    origin = jrm("site", "explain", "box", "site.queue").stdout
    assert origin.startswith("site.queue = 'batch'") and f"{path}:5" in origin
    told = json.loads(jrm("site", "show", "box", "--json").stdout)
    assert (told["url"], told["every_s"], str(path) in told["files"]) == ("slurm+ssh://me@login", 30, True)
    queue = next(one for one in told["attributes"] if one["name"] == "queue")
    assert (queue["type"], queue["default"]) == ("string", "batch")
    (one,) = json.loads(jrm("site", "explain", "box", "title", "--json").stdout)
    assert (one["key"], one["value"], one["hides"][-1]["value"]) == ("title", "Slurm", "base") and one["line"] > 0
    hidden = jrm("site", "explain", "box", "title").stdout
    assert "hides 'base'" in hidden
    again = jrm("site", "new", "box", "--url", "sge+ssh://me@login")
    assert again.returncode == 2 and "is there already" in again.stderr and "sge" not in path.read_text()


def test_numbers_are_written_as_such(jrm: Shell) -> None:
    made = jrm("site", "new", "box", "--url", "slurm+ssh://me@login", "--set", "nodes=2", "--set", "project=7")
    assert made.returncode == 0, made.stderr
    assert 'nodes = 2\nproject = "7"\n' in (jrm.sites / "box.toml").read_text()


def test_trying_this_machine_and_one_that_is_not_there(jrm: Shell) -> None:
    here = jrm("site", "try", "local")
    assert here.returncode == 0 and "ok   machine: " in here.stdout, here.stderr
    nobody = jrm("site", "try", "ssh://me@jrm-nowhere.invalid")
    assert nobody.returncode == 3 and "BAD  login: " in nobody.stdout and " [JRM-T" in nobody.stdout, nobody.stdout


def test_a_guided_site_asks_again_until_it_can_be_used(jrm: Shell) -> None:
    answers = "zorp+ssh://a\nsge+ssh://a@b\nmy site\nmine\nMy cluster\nbatch.q\n\nsoon\n1h\n"
    made = jrm("site", "new", given=answers)
    assert made.returncode == 0, made.stderr
    assert "no batch system 'zorp'" in made.stderr and "not a duration" in made.stderr
    system = load("mine", [jrm.sites])
    assert (system.title, system.get("site.walltime"), system.get("extends")) == ("My cluster", "1h", "sge")
    cut = jrm("site", "new", given="sge+ssh://a@b\n")
    assert cut.returncode == 2 and sorted(path.name for path in jrm.sites.iterdir()) == ["mine.toml"]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('extends = "slurm"\n[site]\nurl = "nowhere"\n', 3, "site.url: expected a URL"),
        ('extends = "slurm"\n[site]\nurl = "slurm+ssh://a@b"\nqeue = "x"\n', 4, "did you mean queue?"),
        ('extends = "slurm"\n[site]\nmem = "4GB"\n', 3, "did you mean mem_per_node?"),
        ('extends = "slurm"\n[site]\ncores = 4\n', 3, "did you mean cores_per_node?"),
        ('extends = "slurm"\n[site]\nwalltime = "soon"\n', 3, "walltime: 'soon' is not a duration"),
        ('extends = "slurm"\n[poll]\nevery = 3\n', 3, "unknown key 'every'"),
        ('extends = "slurm"\n[ops.status]\nreader = "nosuch"\n', 3, "found nosuch"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(jrm: Shell, tmp_path: Path, text: str, line: int, words: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    said = jrm("site", "check", str(path))
    assert said.returncode == 1 and said.stdout.startswith(f"{path}:{line}: ") and words in said.stdout, said.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["site", "new", "slurm", "--url", "slurm+ssh://a@b"], "cannot be the name"),
        (["site", "new", "x/../y", "--url", "slurm+ssh://a@b"], "cannot be the name"),
        (["site", "new", "x", "--url", "auto+ssh://a@b"], "does not say which batch system"),
        (["site", "new", "x", "--url", "slurm+ssh://a:secret@b"], "password does not belong"),
        (["site", "new", "x", "--url", "slurm+ssh://a@b", "--set", "nodes=many"], "not a number"),
        (["site", "new", "x", "--url", "base+ssh://a@b"], "there is no batch system 'base'"),
        (["site", "new", "x", "--url", "SSH://a@b"], "did you mean 'ssh'?"),
        (["site", "show", "slrum"], "did you mean 'slurm'"),
        (["site", "explain", "slurm", "attributes.qeue"], "did you mean"),
        (["site"], "ACTION"),
    ],
)
def test_bad_requests_write_nothing(jrm: Shell, words: list[str], told: str) -> None:
    said = jrm(*words)
    assert said.returncode == 2 and told in said.stderr and "next:" in said.stderr, said.stderr
    assert not jrm.sites.exists() or not list(jrm.sites.iterdir())


def test_a_broken_file_harms_its_own_site_only(jrm: Shell) -> None:
    jrm.sites.mkdir(parents=True)
    (jrm.sites / "broken.toml").write_text("extends = [")
    (jrm.sites / "aaa.toml").write_text('extends = "slurm"\n[site]\nurl = "slurm+ssh://a@b"\n')
    listed = {one["name"]: one for one in json.loads(jrm("site", "list", "--json").stdout)}
    assert "not TOML" in listed["broken"]["problem"] and not listed["slurm"]["problem"]
    # Neither it nor a site made of a system is what a machine is recognised as.
    assert recognise(["sbatch", "squeue"], [jrm.sites]) == ("slurm",)


def test_variables_of_a_file_are_those_of_this_program(jrm: Shell) -> None:
    jrm.sites.mkdir(parents=True)
    path = jrm.sites / "box.toml"
    path.write_text('extends = "slurm"\n[site]\nurl = "slurm+ssh://${JRM_WHO}@login"\n')
    told = f"{path}:3: site.url: expected a variable that is set here, or a default (${{JRM_WHO:default}})"
    assert told in jrm("site", "check", "box").stdout
    assert "JRM_WHO" in jrm("site", "show", "box").stderr
    jrm.env["JRM_WHO"] = "me"
    assert jrm("site", "check", "box").stdout == "box: nothing is wrong with it\n"
    listed = {one["name"]: one for one in json.loads(jrm("site", "list", "--json").stdout)}
    assert listed["box"]["url"] == "slurm+ssh://me@login"


def test_an_administrator_gives_sites_to_everybody(tmp_path: Path) -> None:
    jrm = Shell(tmp_path / "mine", XDG_CONFIG_DIRS=str(tmp_path / "all"))
    shared = tmp_path / "all" / "jupyter_rm" / "sites"
    shared.mkdir(parents=True)
    (shared / "big.toml").write_text(
        'extends = "slurm"\ntitle = "Big"\n[site]\nurl = "slurm+ssh://big"\nqueue = "all"\n'
    )
    jrm.sites.mkdir(parents=True)
    listed = {one["name"]: one for one in json.loads(jrm("site", "list", "--json").stdout)}
    assert (listed["big"]["kind"], listed["big"]["url"]) == ("shared", "slurm+ssh://big")
    # A file of the same name changes single keys of it.
    (jrm.sites / "big.toml").write_text('extends = "big"\n[site]\nqueue = "mine"\n')
    said = jrm("site", "explain", "big", "site.*").stdout
    assert "site.queue = 'mine'" in said and "hides 'all'" in said and "site.url = 'slurm+ssh://big'" in said


def test_trying_a_real_cluster(slurm: Cluster, tmp_path: Path) -> None:
    jrm = Shell(tmp_path, JUPYTER_RM_SSH_CONFIG=str(slurm.client / "config"))
    said = jrm("site", "try", "auto+ssh://alice@tb-slurm")
    assert said.returncode == 0, said.stdout + said.stderr
    assert "fits: slurm" in said.stdout and "batch*" in said.stdout and "ok   nodes: 4" in said.stdout
    wrong = jrm("site", "try", "pbs+ssh://alice@tb-slurm")
    assert wrong.returncode == 3 and "BAD  batch system" in wrong.stdout and "fits: slurm" in wrong.stdout
    nobody = jrm("site", "try", "slurm+ssh://alice@tb-nowhere.invalid")
    assert nobody.returncode == 3 and "BAD  login" in nobody.stdout


def test_the_name_of_a_site_is_the_name_of_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("JUPYTER_RM_HOME", str(tmp_path / "home"))
    place = tmp_path / "jupyter_rm" / "sites"
    place.mkdir(parents=True)
    (place / "box.toml").write_text('extends = "slurm"\n[site]\nurl = "slurm://"\n')
    (place / "two.toml").write_text('extends = "slurm"\n[site]\nurl = "slurm+ssh://me@login:23"\n')
    assert [machine(name) for name in ("two", "box", "slurm")] == ["ssh://me@login:23", "local", "slurm"]
    with jrm_package.tunnel("box", 22) as door:
        assert door.port and door.via == "box"
    magics = Magics({})
    magics.cell("sh box --out said", "echo here")
    assert magics.space["said"] == "here\n"
    assert "was closed" in repr(magics.line("sh box --close"))
    magics.close()
    offered = complete("%%jrm sh ", magics)
    assert offered is not None and {"box", "two", "local"} <= set(offered)


def test_the_same_in_a_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    magics = Magics({})
    made = magics.line("site new box --url slurm+ssh://me@login --set queue=batch")
    assert repr(made).startswith(str(tmp_path)) and "text/html" in made._repr_mimebundle_()
    assert "box" in repr(magics.line("site")) and "box" in repr(magics.line("site list"))
    assert repr(magics.line("site check box")) == "box: nothing is wrong with it"
    assert "site.queue = 'batch'" in magics.line("site explain box site.queue")
    for words in ("site show", "site new box2", "site explain nosuch"):
        with pytest.raises(RequestError):
            magics.line(words)
