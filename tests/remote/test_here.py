"""The batch system of this very machine, whose nodes have names that nobody resolves here."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_kit import Cluster
from remote_kit import active, story, until
from world_kit import end_world, set_home

import jupyter_rm as jrm
from jupyter_rm.broker.links import Road
from jupyter_rm.broker.reach import Contact, describe, reach
from jupyter_rm.client import session as sessions
from jupyter_rm.client.session import Session


@pytest.fixture
def here(slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """A session whose broker has this machine's Slurm in its environment."""
    for name, value in slurm.env.items():
        monkeypatch.setenv(name, value)
    home = Path(tempfile.mkdtemp(prefix="jrmh-", dir="/var/tmp")).resolve()
    monkeypatch.setenv("HOME", str(home))  # /tmp is each node's own; what is put there is not the machine's own
    set_home(home / "h")
    (home / "h").mkdir(mode=0o700)
    yield sessions.open("here")
    end_world(home / "h")
    shutil.rmtree(home, ignore_errors=True)


def test_an_agent_whose_name_is_not_known_here_is_reached_by_its_address(here: Session, slurm: Cluster) -> None:
    pilot = active(here.pilot("slurm://", nodes=1, walltime="10m", queue="batch"), 120)
    with pytest.raises(OSError, match=r"not known|resolution|No address"):
        socket.getaddrinfo(pilot.nodes[0].name, None)
    assert here.submit(jrm.Task("/bin/hostname")).wait(60) == "DONE"
    (text,) = [text for step, status, text in story(here) if (step, status) == ("link", "ok")]
    assert text.startswith(f"{slurm.network}.1") and text.endswith(": connected"), text


def test_where_only_the_nodes_may_dial_an_agent_comes_to_a_port_of_this_machine(here: Session, slurm: Cluster) -> None:
    active(here.pilot("slurm://", nodes=1, walltime="10m", queue="batch", connect="reverse"), 120)
    assert here.submit(jrm.Task("/bin/hostname")).wait(60) == "DONE"
    told = until(lambda: [text for step, status, text in story(here) if (step, status) == ("link", "ok")], "no road")
    assert told[0].startswith("reverse, port ") and f"{slurm.network}." in told[0], told


def test_every_way_that_was_tried_is_named_when_there_is_none() -> None:
    gone = Road(failures=1, said="nobody answers there")
    contact = Contact(port=7, host="n99", hosts=["n99.nowhere.invalid", "127.0.0.9", "::1"])
    none, said = reach(None, contact, True, False, lambda endpoint: gone)  # type: ignore[arg-type]
    assert none is None
    words = describe(said)
    assert "n99.nowhere.invalid:7: " in words
    assert "127.0.0.9:7: nobody answers there" in words and "[::1]:7: nobody answers there" in words
