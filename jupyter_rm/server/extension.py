"""The extension: settings, routes, start and end.

Importing it and starting the server load nothing heavy. Settings are traits: ``c.JupyterRM.start_broker = False`` in
``jupyter_server_config.py``. Read next: :mod:`.hub`, :mod:`.api`, :mod:`.feed`.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from jupyter_server._tz import utcnow
from jupyter_server.extension.application import ExtensionApp
from traitlets import Bool, Float, Unicode

from .api import Missing
from .assets import API_ROUTES, STATIC
from .feed import Feed
from .hub import Hub
from .notices import SCHEMA, SCHEMA_ID, Watch

STOP_S = 3.0


class JupyterRM(ExtensionApp):  # type: ignore[misc,unused-ignore]
    """Shows and steers jupyter_rm's sessions, pilots and tasks."""

    name = "jupyter_rm"
    extension_url = "/jupyter-rm"
    load_other_extensions = True

    start_broker = Bool(True, help="Start a broker when one is needed and none runs.").tag(config=True)
    keep_alive = Bool(
        True,
        help="Count running pilots as activity, so that an idle server is not shut down under them.",
    ).tag(config=True)
    linger = Float(60.0, min=1.0, help="Seconds that a session nobody looks at is still followed.").tag(config=True)
    request_timeout = Float(40.0, min=1.0, help="Longest time a request may take, seconds.").tag(config=True)
    profile = Unicode("", help="Which broker: profiles share nothing. Empty: as JUPYTER_RM_PROFILE says.").tag(
        config=True
    )
    _alive = 0
    _watching: asyncio.Task[None] | None = None
    _hub: Hub | None = None

    def initialize_settings(self) -> None:
        """Make what the handlers share."""
        self._hub = Hub(self.start_broker, self.request_timeout, self.linger)
        self.settings["jupyter_rm_hub"] = self._hub
        if self.profile:
            from ..client import settings

            settings.change(profile=self.profile)

    def initialize_handlers(self) -> None:
        """Add the routes; Jupyter puts its base URL before them."""
        self.handlers.extend((rf"/jupyter-rm/api/{path}", handler) for path, handler in API_ROUTES)
        self.handlers.extend((rf"/jupyter-rm/static/{path}", handler) for path, handler in STATIC)
        self.handlers.append((r"/jupyter-rm/feed", Feed))
        self.handlers.append((r"/jupyter-rm/api(?:/.*)?", Missing))

    async def _start_jupyter_server_extension(self, serverapp: Any) -> None:
        """Begin to watch, once the server is up."""
        assert self._hub is not None
        serverapp.event_logger.register_event_schema(SCHEMA)
        watch = Watch(self._hub, self._emit, self._count)
        self._watching = asyncio.get_running_loop().create_task(watch.run())

    def _emit(self, notice: dict[str, Any]) -> None:
        if self.serverapp is not None and self.serverapp.event_logger is not None:
            self.serverapp.event_logger.emit(schema_id=SCHEMA_ID, data=notice)

    def _count(self, alive: int) -> None:
        """Take note of how many pilots hold resources; a hub looks at ``last_activity_times``."""
        self._alive = alive
        if alive and self.keep_alive and self.serverapp is not None:
            self.serverapp.web_app.settings.setdefault("last_activity_times", {})["jupyter_rm"] = utcnow()

    def current_activity(self) -> Any:
        """Say whether pilots run (Jupyter asks before it shuts an idle server down)."""
        return bool(self.keep_alive and self._alive)

    async def stop_extension(self) -> None:
        """Say goodbye, in a few seconds at most; sessions, pilots and tasks go on."""
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await asyncio.wait_for(self._watching, STOP_S)
        if self._hub is not None:
            await self._hub.close(STOP_S)
