"""A whole world for tests: broker and agents in a directory of their own, and proof that nothing of it is left."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_kit import cluster, sge, slurm
from world_kit import end_world, eventually, left_behind, new_home, set_home

from jupyter_rm.client import session as sessions
from jupyter_rm.client.session import Session

__all__ = ["cluster", "end_world", "eventually", "left_behind", "set_home", "sge", "slurm"]

_numbers = itertools.count()


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """An empty home for the tests of one module."""
    with new_home() as path:
        yield path


@pytest.fixture
def bare(home: Path) -> Iterator[Session]:
    """A new session without pilots."""
    session = sessions.open(f"s{next(_numbers)}")
    yield session
    if session._replica.error is None and not session.closed:
        session.close()


@pytest.fixture
def session(bare: Session) -> Session:
    """A new session with an active pilot of two cores on this machine."""
    pilot = bare.pilot("local", cores=2)
    assert pilot.wait(timeout=20) == "ACTIVE", pilot.reason
    return bare
