"""One Jupyter server per module, in the home of the module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from server_kit import Server


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    """A Jupyter server with our extension and nothing else; it refuses whatever does not say who may enter."""
    made = Server(home, "--ServerApp.allow_unauthenticated_access=False")
    yield made
    made.stop()
