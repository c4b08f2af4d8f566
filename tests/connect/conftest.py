"""Real servers for the tests of this directory, started once and gone afterwards."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from connect_kit import Bed


def _free_ports(count: int) -> int:
    """Return the first of ``count`` ports in a row that nobody listens on."""
    # Workers of one test run begin in places of their own: what is free now may be taken a moment later.
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 4
    for first in range(24100 + 1600 * worker, 32000, count):
        try:
            for port in range(first, first + count):
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return first
    raise AssertionError("no free ports")


def _bed(**more: bool | str) -> Iterator[Bed]:
    if os.geteuid() != 0:
        pytest.skip("the servers of these tests need root: accounts and a network of their own")
    state = Path(tempfile.mkdtemp(prefix="jrm-tb-", dir="/var/tmp"))
    state.chmod(0o755)
    bed = Bed(state, _free_ports(8), **more)  # type: ignore[arg-type]
    try:
        bed.up()
        yield bed
    finally:
        bed.down()


@pytest.fixture(scope="session")
def bed() -> Iterator[Bed]:
    """Eight servers on loopback."""
    yield from _bed()


@pytest.fixture(scope="module")
def far() -> Iterator[Bed]:
    """One server behind a link that can be slow or dead."""
    yield from _bed(site=True, servers="login")


@pytest.fixture(autouse=True)
def no_threads_left() -> Iterator[None]:
    """After a test no thread of a connection is left, whatever happened in it."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before and thread.name.startswith("connect")]
    for thread in left:
        thread.join(10)
    assert not [thread.name for thread in left if thread.is_alive()]
