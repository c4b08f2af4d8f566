"""The REST interface: who may ask, how a request is read, how an answer or an error is written.

Every method says by itself that its caller is authenticated, and for which action on which resource authorized:
Jupyter's decorator without arguments would remember the first resource it saw. What the requests do is in
:mod:`.work`; what they look like is in ``openapi.yaml``. Read next: :mod:`.screen` for the feed.
"""

from __future__ import annotations

from collections.abc import Callable
from http.client import responses
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from jupyter_core.utils import ensure_async
from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.extension.handler import ExtensionHandlerMixin
from tornado import web

from ..model.errors import JrmError, LinkError, ProtocolError, RequestError, SiteError
from .hub import Hub
from .start import described

SESSIONS, TASKS, PILOTS, ADMIN = (f"jupyter_rm:{name}" for name in ("sessions", "tasks", "pilots", "admin"))
READ, WRITE, EXECUTE = "read", "write", "execute"
# What there is to be allowed: pages ask, so that their buttons say beforehand what would be refused.
RIGHTS = {
    SESSIONS: (READ, WRITE),
    PILOTS: (READ, WRITE),
    TASKS: (READ, WRITE, EXECUTE),
    ADMIN: (READ, WRITE, EXECUTE),
}
SPEC = Path(__file__).parent / "openapi.yaml"
MOST_BODY = 2 << 20  # bytes
MOST_OUTPUT = 256 << 10  # bytes
_MISSING = ("JRM-Q03", "JRM-Q08")
_HINTS = {
    401: "log in: reload the page",
    403: "log in again (reload the page), or ask who runs this server for the right to do this",
    404: "see jupyter_rm/server/openapi.yaml",
    405: "see jupyter_rm/server/openapi.yaml",
}
T = TypeVar("T")


def status_of(error: JrmError) -> int:
    """Return the HTTP status that says whose turn it is."""
    if isinstance(error, RequestError):
        return 404 if error.code in _MISSING else 400
    if isinstance(error, LinkError):
        return 503
    if isinstance(error, SiteError):
        return 503 if error.code == "JRM-S02" else 502
    return 502 if isinstance(error, ProtocolError) else 500


def guarded(action: str, resource: str) -> Callable[[T], T]:
    """Decorate a method: only for authenticated users who may do ``action`` on ``resource``."""

    def wrap(method: Any) -> Any:
        checked: Any = web.authenticated(authorized(action, resource)(method))
        checked.guarded = (action, resource)
        return checked

    return wrap


class Api(ExtensionHandlerMixin, APIHandler):  # type: ignore[misc,unused-ignore]
    """Base of all our handlers."""

    # An open panel must not keep a hub's server alive for ever; see JupyterRM.keep_alive for what should.
    _track_activity = False

    @property
    def hub(self) -> Hub:
        """What all handlers share."""
        hub: Hub = self.settings["jupyter_rm_hub"]
        return hub

    async def ask(self, what: Callable[[Any], T]) -> T:
        """Return ``what(work)``, done on the hands; ``work`` is :mod:`.work`."""

        def job() -> T:
            from . import work

            return what(work)

        return await self.hub.do(job)

    def reply(self, value: Any, status: int = 200) -> None:
        """Send JSON."""
        self.set_status(status)
        self.finish(msgspec.json.encode(value))

    def body(self, kind: type[T]) -> T:
        """Read the request's body.

        Raises:
            RequestError: it is no JSON, too large, or a field is wrong (named); JRM-Q61.
        """
        if len(self.request.body) > MOST_BODY:
            raise RequestError("the request is too large", hint=f"at most {MOST_BODY >> 20} MiB", code="JRM-Q61")
        try:
            return msgspec.json.decode(self.request.body.strip() or b"{}", type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RequestError(f"body: {error}", hint="see openapi.yaml", code="JRM-Q61") from None

    def number(self, name: str, default: int, most: int) -> int:
        """Read a whole number of the query; RequestError when it is none or out of range."""
        text = self.get_query_argument(name, "") or str(default)
        if not (text.isdecimal() and text.isascii() and len(text) < 16 and int(text) <= most):
            raise RequestError(f"{name}: {text[:40]!r}", hint=f"give a whole number, 0 to {most}", code="JRM-Q61")
        return int(text)

    @web.authenticated
    def options(self, *_: Any, **__: Any) -> None:  # type: ignore[override,unused-ignore]
        """Refuse: pages of other origins have no business here."""
        raise web.HTTPError(405)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Send an error as ``{code, message, hint, retry}``."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, JrmError):
            self.set_status(status_of(error))
            if error.retry:
                self.set_header("Retry-After", "2")
            self.finish(msgspec.json.encode(described(error)))
            return
        message = responses.get(status_code, "error")
        if isinstance(error, web.HTTPError):
            message = error.log_message or message
            if error.args:
                message = message % error.args
        elif error is not None:
            message = f"{type(error).__name__} in the server extension; the server's log has all of it"
        hint = _HINTS.get(status_code, "please report this" if status_code >= 500 else "")
        told = {"code": f"JRM-H{status_code}", "message": message, "hint": hint, "retry": False}
        self.finish(msgspec.json.encode(told))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log our own errors in one line: they are answers, not accidents."""
        if isinstance(value, JrmError):
            level = self.log.info if isinstance(value, RequestError) else self.log.warning
            level("jupyter_rm: %s %s: %s [%s]", self.request.method, self.request.path, value.message, value.code)
            return
        if isinstance(value, web.HTTPError):
            super().log_exception(typ, value, tb)
        else:
            self.log.error("jupyter_rm: uncaught exception: %s", self._request_summary(), exc_info=(typ, value, tb))

    def _request_summary(self) -> str:
        """Return what was asked for log lines: without the query, which may hold a token."""
        return f"{self.request.method} {self.request.path} ({self.request.remote_ip})"


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    """Base of request bodies: an unknown field is a mistake worth telling."""


class OpenSession(Strict):
    """Body of POST sessions."""

    name: str = "default"


class StartPilot(Strict):
    """Body of POST pilots; fields as of ``Session.pilot``, checked there."""

    site: str = "local"
    name: str | None = None
    nodes: int | str | None = None
    cores: int | str | None = None
    gpus: int | str | None = None
    mem: int | str | None = None
    walltime: float | str | None = None
    queue: str | None = None
    project: str | None = None
    sandbox: str | None = None
    options: dict[str, str | int | float | bool] | None = None
    launch: str | None = None
    drain: float | str | None = None
    env: str | None = None
    env_mode: str | None = None
    env_source: str | None = None
    env_base: str | None = None
    env_prefer: str | None = None
    connect: str | None = None
    python: str | None = None
    hooks: dict[str, str | list[str]] | None = None
    envs: dict[str, str] | None = None
    capabilities: list[str] | None = None
    key: str = ""


class FillForm(Strict):
    """Body of POST form: what a person gave so far, by field."""

    values: dict[str, str | int | float | bool | list[str] | None] = {}
    refresh: bool = False


class HideFields(Strict):
    """Body of POST fields: the names of those that shall not be shown."""

    hidden: list[str]


class CancelPilot(Strict):
    """Body of POST cancel of a pilot."""

    drain: bool = False


class ChooseTasks(Strict):
    """Body of cancel and retry: ``uids``, or ``filter``, or ``all``; an empty one is a slip, not all."""

    uids: list[str] = []
    filter: dict[str, str] | None = None
    all: bool = False

    def wanted(self) -> dict[str, str] | None:
        """Return the filter that is meant, an empty one for all; None: the uids.

        Raises:
            RequestError: an empty filter, or more than one of the three; JRM-Q61.
        """
        if self.all and not self.uids and self.filter is None:
            return {}
        empty = self.filter is not None and not any(self.filter.values())
        if self.all or empty or (self.filter is not None and self.uids):
            why = "filter: it is empty" if empty else "body: one of uids, filter and all is meant"
            raise RequestError(
                why, hint='give {"uids": [...]}, {"filter": {"state": ...}} or {"all": true}', code="JRM-Q61"
            )
        return self.filter


# ------------------------------------------------------------ routes


class Status(Api):
    """How the server half and the broker are, and what the asking person may do."""

    @guarded(READ, SESSIONS)
    async def get(self) -> None:
        """Tell it; never starts a broker, answers within some seconds whatever happens."""

        def job() -> dict[str, Any]:
            from . import work

            return work.status(self.hub)

        try:
            told = await self.hub.pulse.do(job, 5.0)
        except LinkError as error:
            told = {"broker": {"up": False, **described(error)}}
        self.reply({"extension": "ok", "screens": len(self.hub.screens), "may": await self._may(), **told})

    async def _may(self) -> dict[str, list[str]]:
        may: dict[str, list[str]] = {}
        for resource, actions in RIGHTS.items():
            allowed = may[resource.partition(":")[2]] = []
            for action in actions:
                told = self.authorizer.is_authorized(self, self.current_user, action, resource)
                if await ensure_async(told):
                    allowed.append(action)
        return may


class Broker(Api):
    """The broker as such."""

    @guarded(EXECUTE, ADMIN)
    async def post(self) -> None:
        """Reach it, starting it when there is none, even when that failed a moment ago."""
        told = await self.ask(lambda work: work.start_broker(self.hub))
        for screen in self.hub.screens:
            screen.again()
        self.reply(told)


class BrokerLog(Api):
    """The broker's log."""

    @guarded(READ, ADMIN)
    async def get(self) -> None:
        """Send its last lines."""
        lines = self.number("lines", 200, 5000)
        self.reply(await self.ask(lambda work: work.broker_log(self.hub, lines)))


class Sessions(Api):
    """All sessions."""

    @guarded(READ, SESSIONS)
    async def get(self) -> None:
        """List them."""
        self.reply(await self.ask(lambda work: work.sessions(self.hub)))

    @guarded(WRITE, SESSIONS)
    async def post(self) -> None:
        """Open one; 201 when it was made."""
        name = self.body(OpenSession).name
        told, created = await self.ask(lambda work: work.open_session(self.hub, name))
        self.reply(told, 201 if created else 200)


class Session(Api):
    """One session."""

    @guarded(READ, SESSIONS)
    async def get(self, name: str) -> None:
        """Tell how it is."""
        self.reply(await self.ask(lambda work: work.session(self.hub, name)))

    @guarded(WRITE, SESSIONS)
    async def delete(self, name: str) -> None:
        """Close it: cancel what is open, end its pilots."""
        self.reply(await self.ask(lambda work: work.close_session(self.hub, name)))


class Detach(Api):
    """Following a session."""

    @guarded(WRITE, SESSIONS)
    async def post(self, name: str) -> None:
        """Stop it in this server; everything goes on."""
        self.reply(await self.ask(lambda work: work.detach_session(self.hub, name)))


class Pilots(Api):
    """The pilots of a session."""

    @guarded(READ, PILOTS)
    async def get(self, name: str) -> None:
        """List them."""
        self.reply(await self.ask(lambda work: work.pilots(self.hub, name)))

    @guarded(WRITE, PILOTS)
    async def post(self, name: str) -> None:
        """Ask for one; 202, since it becomes active later."""
        given = msgspec.structs.asdict(self.body(StartPilot))
        site, key = given.pop("site"), given.pop("key")
        fields = {field: value for field, value in given.items() if value is not None}
        self.reply(await self.ask(lambda work: work.start_pilot(self.hub, name, site, fields, key)), 202)


class PilotCancel(Api):
    """The end of a pilot."""

    @guarded(WRITE, PILOTS)
    async def post(self, name: str, uid: str) -> None:
        """Ask for it."""
        drain = self.body(CancelPilot).drain
        self.reply(await self.ask(lambda work: work.cancel_pilot(self.hub, name, uid, drain)), 202)


class Tasks(Api):
    """The tasks of a session."""

    @guarded(READ, TASKS)
    async def get(self, name: str) -> None:
        """Send a page of them."""
        offset, limit = self.number("offset", 0, 1 << 40), self.number("max_items", 100, 1000)
        ours = ("offset", "max_items", "token", "no_track_activity", "_")
        filters = {each: self.get_query_argument(each) for each in self.request.query_arguments if each not in ours}
        self.reply(await self.ask(lambda work: work.tasks(self.hub, name, filters, offset, limit)))


class TasksCancel(Api):
    """Canceling tasks."""

    @guarded(WRITE, TASKS)
    async def post(self, name: str) -> None:
        """Cancel the named ones."""
        given = self.body(ChooseTasks)
        wanted = given.wanted()
        self.reply(await self.ask(lambda work: work.cancel_tasks(self.hub, name, given.uids, wanted)), 202)


class TasksRetry(Api):
    """Trying tasks again."""

    @guarded(EXECUTE, TASKS)
    async def post(self, name: str) -> None:
        """Submit those of the named that failed or were canceled again."""
        given = self.body(ChooseTasks)
        wanted = given.wanted()
        self.reply(await self.ask(lambda work: work.retry_tasks(self.hub, name, given.uids, wanted)), 202)


class Task(Api):
    """One task."""

    @guarded(READ, TASKS)
    async def get(self, name: str, uid: str) -> None:
        """Tell everything about it."""
        self.reply(await self.ask(lambda work: work.task(self.hub, name, uid)))


class Output(Api):
    """What a task wrote."""

    @guarded(READ, TASKS)
    async def get(self, name: str, uid: str, stream: str) -> None:
        """Send the end of it, as text."""
        size = self.number("max_bytes", 64 << 10, MOST_OUTPUT)
        self.reply(await self.ask(lambda work: work.output(self.hub, name, uid, stream, size)))


class Sites(Api):
    """Where pilots can be asked for."""

    @guarded(READ, PILOTS)
    async def get(self) -> None:
        """List them."""

        def job() -> dict[str, Any]:
            from . import forms

            return forms.sites()

        self.reply(await self.hub.do(job))


class SiteForm(Api):
    """The launch form of a site."""

    async def _form(self, site: str, values: dict[str, Any], refresh: bool = False) -> None:
        def job() -> dict[str, Any]:
            from . import forms

            return forms.form(site, values, refresh)

        self.reply(await self.hub.do(job))

    @guarded(READ, PILOTS)
    async def get(self, site: str) -> None:
        """Send it as it is before anybody has filled it."""
        await self._form(site, {})

    @guarded(READ, PILOTS)
    async def post(self, site: str) -> None:
        """Check values: the same form with what is wrong, and the command that would be run."""
        given = self.body(FillForm)
        await self._form(site, dict(given.values), given.refresh)


class SiteFields(Api):
    """Which fields of a site's form are shown to this person."""

    @guarded(WRITE, PILOTS)
    async def post(self, site: str) -> None:
        """Keep those that shall not be."""
        hidden = self.body(HideFields).hidden

        def job() -> dict[str, Any]:
            from . import forms

            return forms.hide(site, hidden)

        self.reply(await self.hub.do(job))


class Missing(Api):
    """All other addresses below that of the interface."""

    @guarded(READ, SESSIONS)
    def get(self) -> None:
        """Say so, as all errors are said."""
        raise web.HTTPError(404, "the interface has no such address")

    head = post = put = patch = delete = get


class Spec(Api):
    """The description of this interface."""

    @guarded(READ, SESSIONS)
    async def get(self) -> None:
        """Send it."""
        self.finish(SPEC.read_bytes(), set_content_type="text/x-yaml")


_NAME = r"([^/]+)"
ROUTES: list[tuple[str, type[Api]]] = [
    ("status", Status),
    ("spec.yaml", Spec),
    ("broker", Broker),
    ("broker/log", BrokerLog),
    ("sites", Sites),
    (f"sites/{_NAME}/form", SiteForm),
    (f"sites/{_NAME}/fields", SiteFields),
    ("sessions", Sessions),
    (f"sessions/{_NAME}", Session),
    (f"sessions/{_NAME}/detach", Detach),
    (f"sessions/{_NAME}/pilots", Pilots),
    (f"sessions/{_NAME}/pilots/{_NAME}/cancel", PilotCancel),
    (f"sessions/{_NAME}/tasks", Tasks),
    (f"sessions/{_NAME}/tasks/cancel", TasksCancel),
    (f"sessions/{_NAME}/tasks/retry", TasksRetry),
    (f"sessions/{_NAME}/tasks/{_NAME}", Task),
    (f"sessions/{_NAME}/tasks/{_NAME}/(stdout|stderr)", Output),
]
