"""Who moves on while a costly picture is made does not wait for what the former place has cost."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from jupyter_rm.client import session as sessions
from jupyter_rm.server import screen as screens
from jupyter_rm.server.hub import Hub
from jupyter_rm.server.screen import Move, Screen, Subscribe
from jupyter_rm.views import catalog
from jupyter_rm.views.windows import Window


def test_a_move_during_a_costly_picture_is_shown_next(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = sessions.open("moves")
    session.pilot("noop", nodes=4, cores=8).wait(timeout=60)
    monkeypatch.setattr(screens, "COST", 1e9)  # every picture is followed by the longest pause there is
    monkeypatch.setattr(screens, "LONGEST_S", 3600.0)
    busy, go_on = threading.Event(), threading.Event()
    made = catalog.picture

    def slow(*words: Any) -> Any:
        busy.set()
        assert go_on.wait(60), "nobody lets it go on"
        return made(*words)

    monkeypatch.setattr(catalog, "picture", slow)

    async def story() -> list[dict[str, Any]]:
        frames: list[dict[str, Any]] = []
        came = asyncio.Event()

        async def take(frame: bytes) -> None:
            frames.append(json.loads(frame))
            came.set()

        screen = Screen(Hub(), take)
        screen.obey(Subscribe(id="n", view="nodes", session="moves"))
        assert await asyncio.to_thread(busy.wait, 60), "no picture is begun"
        screen.obey(Move(id="n", window=Window(color="load")))  # while it is made
        go_on.set()
        while len(frames) < 2:
            came.clear()
            await asyncio.wait_for(came.wait(), 60)
        screen.close()
        return frames

    first, second = asyncio.run(story())
    assert first["values"]["color"] == "state" and second["values"]["color"] == "load", (first, second)
    session.close()
