"""A screen: what one open feed shows, and when it is sent something.

A subscription is looked at again when its session has changed. It gets ten frames a second at most, fewer when they are
large or its pictures costly, and none while it is hidden or the line is still busy with the last frame. So a slow
screen gets fewer frames, and each is made from the state of that moment. Knows the hub and a ``send`` function; knows
no tornado. Read next: :mod:`.feed`, :mod:`jupyter_rm.views.feed`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from ..model.errors import JrmError, ProtocolError, RequestError
from ..views.windows import MOVING, VIEWS, Window, said
from .hub import Hub
from .start import described

if TYPE_CHECKING:
    from ..model.sites import SiteView
    from ..views.feed import Cutter

# At most BURST + RATE = 10 frames in any second: what changes now and then is shown at once, what changes always is
# shown evenly.
BURST, RATE = 2, 8.0
GAP_S = 0.02  # least time between two looks
BYTES_PER_S = 1_000_000
COST, LONGEST_S = 8, 3.0  # a picture that takes 0.1 s of computing is made again after 0.8 s; 3 s at most
LOOK_S = 1.0  # how often to look for what no change tells: the line to the broker, time going on
FIRST_RETRY_S, LAST_RETRY_S = 0.5, 8.0
MOST_SUBSCRIPTIONS = 32
Send = Callable[[bytes], Awaitable[None]]


class Subscribe(msgspec.Struct, tag_field="op", tag="subscribe", forbid_unknown_fields=True):
    """Show a view; ``id`` names the subscription in frames, ``cursor`` what the screen shows already."""

    id: str
    view: str
    session: str = ""
    cursor: str = ""
    window: Window = msgspec.field(default_factory=Window)


class Move(msgspec.Struct, tag_field="op", tag="window", forbid_unknown_fields=True):
    """Show another part of the view."""

    id: str
    window: Window


class Visible(msgspec.Struct, tag_field="op", tag="visible", forbid_unknown_fields=True):
    """Hide or show subscriptions (none named: all). Hidden ones cost nothing and are brought up to date when shown."""

    visible: bool
    ids: list[str] = []


class Resync(msgspec.Struct, tag_field="op", tag="resync", forbid_unknown_fields=True):
    """A frame was missed: send a snapshot."""

    id: str


class Unsubscribe(msgspec.Struct, tag_field="op", tag="unsubscribe", forbid_unknown_fields=True):
    """Show it no more."""

    id: str


# Times that what is in memory may still be set aside: before and after the first picture of the process.
_asides = ["first picture", "first screen"]


def set_aside(moment: str) -> None:
    """Take what the server has loaded by now out of all later garbage collections, once per ``moment``.

    Jupyter's own modules are some 180,000 objects that stay for ever. A full collection walks over all of them and
    stops every thread meanwhile, for 70 to 130 ms; pictures make enough small objects to bring one about.
    """
    if moment in _asides:
        _asides.remove(moment)
        gc.freeze()


Command = Subscribe | Move | Visible | Resync | Unsubscribe
_decoder = msgspec.json.Decoder(Command)


def read(message: str | bytes) -> Command:
    """Return the command in a message.

    Raises:
        RequestError: it is none; JRM-Q61.
    """
    try:
        command: Command = _decoder.decode(message)
    except (msgspec.DecodeError, UnicodeError) as error:
        message, hint = said(error)
        raise RequestError(f"feed: {message}", hint=hint, code="JRM-Q61") from None
    if isinstance(command, Subscribe) and (command.view not in VIEWS or not 0 < len(command.id) <= 64):
        raise RequestError(
            f"feed: view {command.view[:40]!r}, id {command.id[:40]!r}",
            hint="an id has 1 to 64 characters; views: " + ", ".join(VIEWS),
            code="JRM-Q61",
        )
    return command


def named(message: str | bytes) -> str | None:
    """Return the id that a message names, though it may be wrong otherwise: whoever asked is told."""
    try:
        id = msgspec.json.decode(message)["id"]
    except (msgspec.DecodeError, UnicodeError, KeyError, TypeError):
        return None
    return id if isinstance(id, str) and 0 < len(id) <= 64 else None


class Subscription:
    """One view on one screen."""

    def __init__(self, asked: Subscribe, wake: Callable[[], None]) -> None:
        self.id = asked.id
        self.view = asked.view
        self.session = asked.session
        self.window = asked.window
        self.known = asked.cursor
        self.visible = True
        self.dirty = True
        self.due = 0.0
        self.connected: bool | None = None
        self.sites: Mapping[str, SiteView] = {}  # of its session, and which of them the last picture was made of
        self.heard: list[SiteView] = []
        self.trouble: tuple[str, str] | None = None
        self.retry_s = FIRST_RETRY_S
        self.whole = False  # the next frame must be a snapshot
        self.still = False  # time going on changes nothing in it: all is over
        self.cutter: Cutter | None = None
        self.frames = float(BURST)  # frames that may be sent at once, as of ``sent_at``
        self.sent_at = 0.0
        self.moves = 0  # how often the person has asked for another part
        self.cost = 0.0  # seconds of computing that the last picture took
        self._wake = wake

    def sent(self, now: float, size: int) -> None:
        """Take note of a frame of ``size`` bytes that began at ``now``, and plan the next one."""
        self.frames = min(BURST, self.frames + (now - self.sent_at) * RATE) - 1.0
        self.sent_at = now
        wait = 0.0 if self.frames >= 1.0 else (1.0 - self.frames) / RATE
        self.due = max(self.due, now + wait, now + size / BYTES_PER_S)

    def mark(self) -> None:
        """Look at it again when it is its turn."""
        if not self.dirty:
            self.dirty = True
            # Changes come in flocks (bound, started, ended): one frame shows them all.
            self.due = max(self.due, time.monotonic() + GAP_S)
            self._wake()


class Screen:
    """One open feed.

    Args:
        hub: what the server shares. send: sends a frame and returns when the line has taken it.
    """

    def __init__(self, hub: Hub, send: Send) -> None:
        set_aside("first screen")
        self.hub = hub
        self.subscriptions: dict[str, Subscription] = {}
        self.frames = 0
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self._closed = False
        self._task = self._loop.create_task(self._run())
        hub.screens.add(self)

    def close(self) -> None:
        """Send nothing more."""
        self._closed = True
        self.subscriptions.clear()
        self.hub.screens.discard(self)
        self._task.cancel()

    def obey(self, command: Command) -> None:
        """Do what the screen asks.

        Raises:
            RequestError: too many subscriptions, or none of this id; JRM-Q61.
        """
        if isinstance(command, Subscribe):
            if len(self.subscriptions) >= MOST_SUBSCRIPTIONS and command.id not in self.subscriptions:
                raise RequestError(
                    f"feed: more than {MOST_SUBSCRIPTIONS} views", hint="close some of them", code="JRM-Q61"
                )
            self.subscriptions[command.id] = Subscription(command, self._woken.set)
        elif isinstance(command, Visible):
            for sub in self._named(command.ids):
                sub.visible = command.visible
        elif isinstance(command, Unsubscribe):
            self.subscriptions.pop(command.id, None)
        else:
            sub = self._named([command.id])[0]
            sub.dirty = True
            if isinstance(command, Move):
                sub.window, sub.due, sub.moves = command.window, 0.0, sub.moves + 1
            else:
                sub.whole = True
        self._woken.set()

    def _named(self, ids: list[str]) -> list[Subscription]:
        try:
            return [self.subscriptions[each] for each in ids] if ids else list(self.subscriptions.values())
        except KeyError as missing:
            raise RequestError(f"feed: no subscription {missing}", hint="subscribe first", code="JRM-Q61") from None

    def mark(self, wanted: Callable[[Subscription], bool]) -> None:
        """Look again at the subscriptions that are ``wanted``."""
        for sub in self.subscriptions.values():
            if wanted(sub):
                sub.mark()

    def again(self) -> None:
        """Try at once what could not be shown."""
        for sub in self.subscriptions.values():
            if sub.trouble is not None:
                sub.due, sub.retry_s = 0.0, FIRST_RETRY_S
        self._woken.set()

    # ------------------------------------------------------------ the pump

    async def _run(self) -> None:
        while not self._closed:
            now = self._loop.time()
            ready = [sub for sub in self.subscriptions.values() if sub.visible and sub.dirty]
            for sub in sorted(ready, key=lambda sub: sub.due):
                if sub.due <= now and self.subscriptions.get(sub.id) is sub:
                    await self._show(sub)
            now = self._loop.time()
            waits = [sub.due - now for sub in self.subscriptions.values() if sub.visible and sub.dirty]
            self._woken.clear()
            try:
                await asyncio.wait_for(self._woken.wait(), max(0.0, min(waits, default=LOOK_S)))
            except asyncio.TimeoutError:
                self._look()

    def _look(self) -> None:
        if not any(sub.visible for sub in self.subscriptions.values()):
            return
        connected = self.hub.keeper.connected
        for sub in self.subscriptions.values():
            moves = sub.view in MOVING and not sub.still
            # What is heard of a site is no fact of the session: it rings no bell.
            moves = moves or (sub.view == "summary" and [*map(id, list(sub.sites.values()))] != [*map(id, sub.heard)])
            if moves or (sub.view != "sessions" and sub.connected not in (None, connected)):
                sub.dirty = True

    async def _show(self, sub: Subscription) -> None:
        began = self._loop.time()
        sub.dirty, moves = False, sub.moves
        try:
            frame = await self.hub.eyes.do(lambda: self._picture(sub), self.hub.timeout)
        except JrmError as error:
            frame = self._excuse(sub, error)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # one view must not take the others of the screen with it
            logging.getLogger("jupyter_rm").exception("view %s of %s", sub.view, sub.session)
            broken = ProtocolError(
                f"the view broke: {type(error).__name__}: {error}", code="JRM-N05", hint="please report this"
            )
            frame = self._excuse(sub, broken)
        else:
            sub.trouble, sub.retry_s, sub.known = None, FIRST_RETRY_S, ""
            # Who has moved on meanwhile does not wait for what the picture of the former place has cost.
            sub.due = began + (max(GAP_S, min(LONGEST_S, COST * sub.cost)) if sub.moves == moves else 0.0)
        if frame is None or self.subscriptions.get(sub.id) is not sub:
            return
        # The next one waits until this one is on its way: a slow line gets fewer frames, never a queue of old ones.
        await self._send(frame)
        self.frames += 1
        sub.sent(began, len(frame))

    def _excuse(self, sub: Subscription, error: JrmError) -> bytes | None:
        """Return the frame that says why there is no picture (once), and plan another try."""
        sub.dirty, sub.due = True, self._loop.time() + sub.retry_s
        sub.retry_s = min(LAST_RETRY_S, 2 * sub.retry_s)
        trouble = (error.code, error.message)
        if trouble == sub.trouble:
            return None
        sub.trouble, sub.whole = trouble, True
        return msgspec.json.encode({"id": sub.id, "kind": "lost", "view": sub.view} | described(error))

    # ------------------------------------------------------------ on the eyes

    def _picture(self, sub: Subscription) -> bytes | None:
        from ..views import catalog, pictures
        from ..views.feed import Cutter
        from . import work

        if sub.cutter is None:
            sub.cutter = Cutter()
        if sub.whole:
            sub.whole = False
            sub.cutter.forget()
        head = {"id": sub.id, "view": sub.view, "session": sub.session, "at": round(time.time(), 3)}
        if sub.view == "sessions":
            if self.hub.trouble is not None:
                raise self.hub.trouble
            lines = self.hub.lines
            if not lines:
                lines = work.listing(self.hub)
                self._loop.call_soon_threadsafe(self.hub.listed, lines)
            return sub.cutter.cut(pictures.sessions(lines), head, sub.known)
        session = self.hub.session(sub.session)
        replica = session._replica
        seen = replica.cursor
        sub.connected = self.hub.keeper.connected
        window, connected = sub.window, sub.connected
        # Whatever a picture is made of: facts, and what sites look like from outside.
        with replica.changed:
            sub.sites, sub.heard = replica.sites, list(replica.sites.values())
            mark = (seen, id(replica), tuple(map(id, sub.heard)))

        def made() -> pictures.Picture:
            picture = catalog.picture(sub.view, replica, work.words(session), window, time.time())
            picture.values["connected"] = connected
            return picture

        key = (sub.session, sub.view, connected, msgspec.structs.astuple(window))
        picture, cost = self.hub.shared.get(key, mark, made)
        # Computing only: neither the first import nor waiting for others makes a picture costly.
        rest = time.thread_time()
        sub.still = sub.view not in ("activity", "sites") and catalog.over(replica)
        frame = sub.cutter.cut(picture, head, sub.known)
        sub.cost = cost + time.thread_time() - rest
        set_aside("first picture")
        self.hub.bell(session, self._loop).wait(seen, sub.mark)
        return frame
