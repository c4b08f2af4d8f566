"""One Jupyter server per module, in the home of the module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from server_kit import Feed, Server


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    """A Jupyter server with our extension and nothing else; it refuses whatever does not say who may enter."""
    made = Server(home, "--ServerApp.allow_unauthenticated_access=False")
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def feeds_end() -> Iterator[None]:
    """Close what a test leaves open: the server must not go on sending to it."""
    yield
    while Feed.opened:
        Feed.opened.pop().close()
