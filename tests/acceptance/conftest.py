"""One world for all acceptance tests that do not break it; those that do get a home of their own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from world_kit import end_world, eventually, left_behind, set_home

from jupyter_rm.client import listing
from jupyter_rm.client import session as sessions


def end_all(path: Path) -> None:
    """End what is left in a home, also when its broker has gone: only a broker can end the pilots."""
    if left_behind(path):
        for line in listing.sessions():
            if line.state == "open":
                sessions.open(line.name).close()
        # An agent whose broker goes first waits for it a while.
        eventually(lambda: not any("jupyter_rm.agent" in line for line in left_behind(path)), "the agents end", 15)
    end_world(path)


@pytest.fixture(scope="package")
def home() -> Iterator[Path]:
    """An empty home, shared by the tests of this directory."""
    path = Path(tempfile.mkdtemp(prefix="jrmt-")).resolve()
    set_home(path)
    try:
        yield path
    finally:
        set_home(path)
        end_all(path)


@pytest.fixture
def own_home(home: Path) -> Iterator[Path]:
    """A home that one test may damage; the shared one is used again afterwards."""
    path = Path(tempfile.mkdtemp(prefix="jrmo-")).resolve()
    set_home(path)
    try:
        yield path
    finally:
        set_home(path)
        try:
            end_all(path)
        finally:
            set_home(home)
