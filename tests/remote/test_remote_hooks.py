"""A site file with hooks, probes and an interpreter: each runs at its moment, and what fails is said with its name."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from remote_kit import Far, active, story, until

import jupyter_rm as jrm
from jupyter_rm.client.session import Session

SITE = """
extends = "{system}"
title = "a site with habits"

[site]
url = "{url}"
python = "python3"

[hooks]
before_env = ["echo before_env $JRM_ENV_BASE >>~/marks"]
after_env = "echo after_env >>~/marks"
before_agent = ["echo before_agent >>~/marks", "FROM_SITE=a.module; export FROM_SITE"]
after_agent = "echo after_agent $FROM_SITE >>~/marks"
pre_launch = "echo pre_launch >>~/marks"
pre_exec = "echo pre_exec >>~/marks"
post_exec = "echo post_exec >>~/marks"
post_launch = "echo post_launch >>~/marks"

[probe.scratch]
command = ["printf", "%s", "/scratch/$USER; touch CANARY"]

[probe.modules]
command = "printf 'gcc\\npython\\n'"
type = "list"

[probe.licences]
command = ["printf", '{{"free": [7]}}']
json = "free.0"
type = "int"

[probe.broken]
command = "echo out of order >&2; exit 4"

[probe.load]
where = "node"
command = ["cat", "/proc/loadavg"]
regex = '^(\\S+)'
type = "float"

[probe.batch_host]
where = "node"
command = "echo ${{FROM_SITE-unset}} $(uname -n)"
"""


@pytest.fixture(scope="module")
def sites(far: Far) -> Iterator[Path]:
    """The directory of the user's site files, with one for Slurm and one for a plain machine."""
    texts = {
        "habits": SITE.format(system="slurm", url="slurm+ssh://alice@tb-slurm"),
        "plain": SITE.format(system="local", url="ssh://alice@tb-slurm"),
    }
    with far.site_files(**texts) as place:
        yield place


def home(far: Far) -> Path:
    return far.cluster.state / "home/alice"


def marks(far: Far) -> list[str]:
    path = home(far) / "marks"
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def clean(sites: Path, far: Far, study: Session) -> Session:
    """A session, and no marks of earlier tests."""
    del sites
    (home(far) / "marks").unlink(missing_ok=True)
    return study


def test_each_moment_comes_once_and_in_order(far: Far, clean: Session) -> None:
    pilot = active(clean.pilot("habits", hooks={"before_agent": "echo of the pilot $FROM_SITE >>~/marks"}))
    task = clean.submit(jrm.Shell('echo "$FROM_SITE" >>~/marks', pre_launch="echo of the task >>~/marks"))
    assert task.wait(60) == "DONE", task.reason
    facts = pilot.facts
    pilot.cancel()
    assert pilot.wait("CANCELED", 60) == "CANCELED", pilot.reason
    until(lambda: marks(far)[-1].startswith("after_agent"), lambda: str(marks(far)))
    assert marks(far) == [
        *(f"before_env {home(far)}/.jupyter_rm", "after_env", "before_agent", "of the pilot a.module", "pre_exec"),
        *("pre_launch", "of the task", "a.module", "post_exec", "post_launch", "after_agent a.module"),
    ]
    # What the site was asked, typed; what could not be answered is said and left out.
    assert facts["scratch"] == "/scratch/$USER; touch CANARY"
    assert facts["modules"] == ("gcc", "python")
    assert facts["licences"] == 7
    assert isinstance(facts["load"], float)
    assert facts["batch_host"].startswith("a.module ")
    assert facts["site"] == "habits"
    assert "broken" not in facts
    assert any("probe broken: exit code 4: out of order" in text for _, _, text in story(clean))
    assert any("python3" in text and "is Python 3." in text for _, _, text in story(clean))


def test_a_task_reads_what_a_probe_said(far: Far, clean: Session) -> None:
    active(clean.pilot("plain", cores=1))
    task = clean.submit(jrm.Task("/bin/echo", ["-n", "${facts.scratch} ${facts.licences} ${facts.modules}"]))
    assert task.result(60) == "/scratch/$USER; touch CANARY 7 gcc,python"
    assert not (home(far) / "CANARY").exists()


@pytest.mark.parametrize("site", ["habits", "plain"])
@pytest.mark.parametrize("hook", ["before_env", "after_env", "before_agent"])
def test_a_broken_hook_is_seen_with_its_name_code_and_last_lines(clean: Session, site: str, hook: str) -> None:
    pilot = clean.pilot(site, hooks={hook: ["echo no licence >&2", "exit 3"]})
    assert pilot.wait("DONE", 90) == "FAILED"
    for words in (f"hook {hook} ended with exit code 3", "no licence", "[JRM-B09]; next: "):
        assert words in pilot.reason, pilot.reason
    assert pilot.cause == "BOOT_STEP_FAILED"


@pytest.mark.parametrize("hook", ["before_env", "before_agent"])
def test_a_pilot_is_canceled_while_a_hook_runs(far: Far, clean: Session, hook: str) -> None:
    pilot = clean.pilot("plain", cores=1, hooks={hook: ["echo begun >>~/marks", "sleep 987"]})
    until(lambda: "begun" in marks(far), lambda: f"{marks(far)} {pilot.reason}")
    begun = time.monotonic()
    pilot.cancel()
    assert pilot.wait("CANCELED", 60) == "CANCELED", pilot.reason
    took = time.monotonic() - begun
    until(lambda: not far.cluster.run("pgrep", "-f", "sleep 987", check=False).strip(), "the hook still runs")
    assert took < 30, f"it took {took:.0f} s"


def test_a_pilot_is_canceled_while_its_environment_is_made(far: Far, clean: Session) -> None:
    shutil.rmtree(home(far) / ".jupyter_rm/env", ignore_errors=True)
    pilot = clean.pilot("plain", cores=1)
    until(lambda: pilot.step is not None and pilot.step.step == "environment", lambda: pilot.reason)
    pilot.cancel()
    assert pilot.wait("CANCELED", 60) == "CANCELED", pilot.reason
    again = active(clean.pilot("plain", cores=1))
    assert clean.submit(jrm.Task("/bin/true")).wait(60) == "DONE"
    assert again.state == "ACTIVE"


def test_an_interpreter_is_found_by_name_or_line_or_refused_with_its_version(far: Far, clean: Session) -> None:
    old = home(far) / "old-python"
    old.write_text("#!/bin/sh\necho 3 8 10\n")
    old.chmod(0o755)
    refused = clean.pilot("ssh://alice@tb-slurm", cores=1, python=str(old))
    nowhere = clean.pilot("ssh://alice@tb-slurm", cores=1, python="module load python/3.99")
    line = clean.pilot("ssh://alice@tb-slurm", cores=1, python="PATH=/usr/bin:$PATH; true", env_base="~/other base")
    assert refused.wait("DONE", 60) == "FAILED"
    for words in (str(old), "3.8.10", "3.10 or later", "JRM-B04", "next:"):
        assert words in refused.reason, refused.reason
    assert nowhere.wait("DONE", 60) == "FAILED"
    for words in ("module load python/3.99", "JRM-B04", "next:"):
        assert words in nowhere.reason, nowhere.reason
    active(line)
    assert line.facts["python"].startswith("/usr/bin/python3")
    assert line.facts["env"].startswith(f"{home(far)}/other base/env/")


def test_a_pilot_is_canceled_while_a_login_hangs(clean: Session) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes the connection, and never says a word
        pilot = clean.pilot(f"ssh://alice@127.0.0.1:{mute.getsockname()[1]}", cores=1)
        until(lambda: pilot.step is not None and pilot.step.step == "connect", lambda: pilot.reason)
        begun = time.monotonic()
        pilot.cancel()
        assert pilot.wait("CANCELED", 60) == "CANCELED", pilot.reason
        assert time.monotonic() - begun < 10
