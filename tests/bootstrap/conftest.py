"""A real server with an empty account, and packed archives in a cache of the tests' own."""

from __future__ import annotations

import functools
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "connect"))

from bootstrap_kit import Account, free_ports
from connect_kit import Bed

from jupyter_rm.runtime.bootstrap import pack

# Workers of one test run begin in places of their own: what is free now may be taken a moment later.
_PORTS = range(32100 + 200 * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 3), 32700, 8)


def _bed(**more: bool | str) -> Iterator[Bed]:
    if os.geteuid() != 0:
        pytest.skip("the servers of these tests need root: accounts and a network of their own")
    # In memory where that is possible: whole environments come and go, and other tests wait for the same disk.
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 2 << 30
    roomy = roomy and not os.statvfs(memory).f_flag & os.ST_NOEXEC
    state = Path(tempfile.mkdtemp(prefix="jrm-tb-", dir=memory if roomy else "/var/tmp"))
    state.chmod(0o755)
    bed = Bed(state, free_ports(_PORTS), **more)  # type: ignore[arg-type]
    try:
        bed.up()
        yield bed
    finally:
        bed.down()


@pytest.fixture(scope="session", autouse=True)
def cache() -> Iterator[Path]:
    """A cache of archives for all tests of this directory: packed once, and not the user's."""
    patch = pytest.MonkeyPatch()
    with tempfile.TemporaryDirectory(prefix="jrm-cache-") as path:
        patch.setenv("XDG_CACHE_HOME", path)
        # In a checkout that somebody is editing the package is another one each time it is looked at.
        patch.setattr(pack, "own", functools.cache(pack.own))
        yield Path(path)
    patch.undo()


@pytest.fixture(scope="session")
def bed() -> Iterator[Bed]:
    """One server on loopback."""
    yield from _bed(servers="login")


@pytest.fixture
def account(bed: Bed, caplog: pytest.LogCaptureFixture) -> Iterator[Account]:
    """An account whose home is empty, and a connection to it; what both ends say of it is told with a failure."""
    caplog.set_level(logging.DEBUG, "paramiko")
    made = Account(bed)
    yield made
    made.close()
    print(bed.log("login")[-3000:])


@pytest.fixture
def far_account() -> Iterator[Account]:
    """The same on a machine without any way to the internet."""
    for bed in _bed(site=True, servers="login"):
        made = Account(bed)
        yield made
        made.close()
