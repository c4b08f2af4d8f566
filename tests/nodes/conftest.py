"""Fixtures of the tests of several nodes."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "agent"))
sys.path.insert(0, str(Path(__file__).parent.parent / "remote"))

from cluster_kit import Cluster
from remote_kit import Far
from span_kit import spans

from jupyter_rm.client import session as sessions
from jupyter_rm.client.session import Session

__all__ = ["spans"]
_numbers = itertools.count()


@pytest.fixture(scope="module")
def far(slurm: Cluster) -> Iterator[Far]:
    """A home whose broker knows the login nodes of a real cluster."""
    with Far(slurm) as made:
        yield made


@pytest.fixture
def study(far: Far) -> Iterator[Session]:
    """A new session."""
    del far
    session = sessions.open(f"n{next(_numbers)}")
    yield session
    if not session.closed:
        session.close()
