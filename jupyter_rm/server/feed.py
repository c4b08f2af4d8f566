"""The feed: the one websocket through which a screen is kept up to date.

It speaks Jupyter's rules: an authenticated user, the page's own origin, the authorizer's word. It only shows, so it
needs ``read``: on sessions to be opened, on tasks for views of tasks. Read next: :mod:`.screen`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import msgspec
from jupyter_core.utils import ensure_async
from jupyter_server.auth.decorator import ws_authenticated
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from jupyter_server.extension.handler import ExtensionHandlerMixin
from tornado import web
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from .. import __version__
from ..model.errors import JrmError, RequestError
from .api import READ, SESSIONS, TASKS
from .hub import Hub
from .screen import Screen, Subscribe, named, read
from .start import described

MOST_MESSAGE = 64 << 10  # bytes that a screen may say at once
MOST_MISTAKES = 50
FORMAT = 3  # of frames; pages that know another one ask to be reloaded
QUEUE = 128 << 10  # bytes that wait for a slow screen
STUCK_S = 60.0  # a line that takes no byte for so long is closed


def _resource(view: str) -> str:
    """Return what a view shows: sessions and their pilots, or tasks."""
    return SESSIONS if view in ("sessions", "summary", "queue") else TASKS


class Feed(ExtensionHandlerMixin, WebSocketMixin, WebSocketHandler, JupyterHandler):  # type: ignore[misc,unused-ignore]
    """One open feed."""

    screen: Screen | None = None
    _mistakes = 0

    @property
    def max_message_size(self) -> int:
        """What a client may say at once, bytes."""
        return MOST_MESSAGE

    async def _may(self, resource: str) -> bool:
        allowed = self.authorizer.is_authorized(self, self.current_user, READ, resource)
        return bool(await ensure_async(allowed))

    @ws_authenticated
    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Open it: 403 without a user, from another origin, or without the right to read sessions."""
        if not await self._may(SESSIONS):
            raise web.HTTPError(403)
        await super().get(*args, **kwargs)

    def open(self, *args: Any, **kwargs: Any) -> None:
        """Greet."""
        super().open(*args, **kwargs)
        self.set_nodelay(True)
        self._keep_short()
        hub: Hub = self.settings["jupyter_rm_hub"]
        self.screen = Screen(hub, self._send)
        self.write_message(msgspec.json.encode({"kind": "hello", "version": __version__, "feed": FORMAT}).decode())

    def _keep_short(self) -> None:
        """Keep the system's own queue short: what waits there is old by the time a slow screen sees it."""
        stream = getattr(self.ws_connection, "stream", None)
        if stream is not None and stream.socket is not None:
            with contextlib.suppress(OSError):
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, QUEUE)

    async def _send(self, frame: bytes) -> None:
        """Send a frame; returns when the line has taken it."""
        try:
            await asyncio.wait_for(self.write_message(frame.decode()), STUCK_S)
        except asyncio.TimeoutError:
            self.log.warning("jupyter_rm: a screen takes nothing for %g s; closing its feed", STUCK_S)
            self.close(1013, "too slow")
        except WebSocketClosedError:
            if self.screen is not None:
                self.screen.close()

    async def on_message(self, message: str | bytes) -> None:
        """Do what the screen asks; a mistake is answered, not punished."""
        if self.screen is None:
            return
        command = None
        try:
            command = read(message)
            if isinstance(command, Subscribe) and not await self._may(_resource(command.view)):
                raise RequestError(
                    f"you may not look at {command.view}", hint="ask who runs this server", code="JRM-H403"
                )
            self.screen.obey(command)
        except JrmError as error:
            self._mistakes += 1
            if self._mistakes > MOST_MISTAKES:
                self.close(1008, "too many mistakes")
                return
            told = {"kind": "error", "id": getattr(command, "id", None) or named(message)} | described(error)
            await self._send(msgspec.json.encode(told))

    def on_close(self) -> None:
        """Forget the screen."""
        if self.screen is not None:
            self.screen.close()
        super().on_close()
