"""Costly pictures: who moves on meanwhile does not wait for them, and pages that show the same share them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import jupyter_rm as jrm
from jupyter_rm.client import session as sessions
from jupyter_rm.model.sites import SiteView
from jupyter_rm.server import screen as screens
from jupyter_rm.server import shared
from jupyter_rm.server.hub import Hub
from jupyter_rm.server.screen import Move, Screen, Subscribe
from jupyter_rm.views import catalog, pictures
from jupyter_rm.views.feed import patch
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


def test_two_pages_that_show_the_same_cost_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = sessions.open("shared")
    session.pilot("noop", nodes=4, cores=8).wait(timeout=60)
    monkeypatch.setattr(shared, "FRESH_S", 3600.0)
    count: Counter[str] = Counter()
    moments: set[object] = set()  # the pilot may have more to say while the first pictures are made
    made = catalog.picture

    def counted(view: str, source: Any, *words: Any) -> Any:
        count[view] += 1
        moments.add(source.cursor)
        return made(view, source, *words)

    monkeypatch.setattr(catalog, "picture", counted)

    async def story() -> list[list[str]]:
        frames: list[list[bytes]] = [[], [], [], []]
        came = asyncio.Event()
        hub = Hub()

        async def take(mine: list[bytes], frame: bytes) -> None:
            mine.append(frame)
            came.set()

        async def until(many: int) -> None:
            while any(len(each) < many for each in frames):
                came.clear()
                await asyncio.wait_for(came.wait(), 60)

        pages = [Screen(hub, lambda frame, mine=mine: take(mine, frame)) for mine in frames]  # type: ignore[misc]
        windows = (Window(), Window(), Window(), Window(color="load"))
        for page, window in zip(pages, windows, strict=True):
            page.obey(Subscribe(id="n", view="nodes", session="shared", window=window))
        await until(1)
        assert count["nodes"] <= 2 * len(moments) + 1, "two different pictures for four pages"
        await asyncio.to_thread(lambda: session.submit([jrm.Task("x")] * 7).wait(60))
        await until(2)
        for page in pages:
            page.close()
        return [[json.loads(frame)["cursor"] for frame in each] for each in frames]

    *same, other = asyncio.run(story())
    assert len({each[0] for each in same}) <= len(moments) and other[0] not in {each[0] for each in same}
    assert all(each[0] != each[-1] for each in same), "what is shared is not kept when something happens"
    session.close()


def test_what_is_heard_of_a_site_is_shown_though_nothing_happened(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which buttons a pilot has hangs on what its batch system can do, and that may be heard after its last news."""
    del home
    session = sessions.open("heard")
    pilot = session.pilot("noop", nodes=1, cores=1)
    pilot.wait(timeout=60)
    pilot.cancel()  # from whose end on nothing happens
    assert pilot.wait("CANCELED", timeout=60) == "CANCELED"
    monkeypatch.setattr(pictures, "HERE", ())  # as if it were at a site that is looked at

    async def story() -> list[Any]:
        frames: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

        async def take(frame: bytes) -> None:
            frames.put_nowait(json.loads(frame))

        async def until(ready: Callable[[dict[str, Any]], bool], what: str) -> None:
            while not ready(shown):
                try:
                    shown.update(patch(shown, await asyncio.wait_for(frames.get(), 60)))
                except asyncio.TimeoutError:
                    raise AssertionError(f"{what}: {shown}") from None

        def ops() -> Any:
            return dict(zip(shown["tables"]["pilots"]["columns"], shown["tables"]["pilots"]["rows"][0], strict=True))[
                "ops"
            ]

        hub, shown = Hub(), dict[str, Any]()
        replica = (await asyncio.to_thread(hub.session, "heard"))._replica
        screen = Screen(hub, take)
        screen.obey(Subscribe(id="s", view="summary", session="heard"))
        await until(lambda now: bool(now) and bool(now["values"]["connected"]), "no picture")
        assert ops() is None
        with replica.changed:
            replica.sites["noop"] = SiteView("noop", ops=("status", "suspend", "resume"))
        await until(lambda _: ops() is not None, "nothing of what was heard")
        screen.close()
        return ops()

    assert asyncio.run(story()) == ["suspend", "resume"]
    session.close()
