"""A broker of its own with the login nodes of a real cluster, for the tests of one module."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from cluster_kit import Cluster
from remote_kit import Far

from jupyter_rm.client import session as sessions
from jupyter_rm.client.session import Session

_numbers = itertools.count()


@pytest.fixture(scope="module")
def far(slurm: Cluster) -> Iterator[Far]:
    """A home whose broker knows the login nodes."""
    with Far(slurm) as made:
        yield made


@pytest.fixture
def study(far: Far) -> Iterator[Session]:
    """A new session."""
    del far
    name = f"r{next(_numbers)}"
    yield sessions.open(name)
    session = sessions.open(name)
    if not session.closed:
        session.close()
