"""``%jrm`` and ``%%jrm``: parse, call the client library, return an object that shows itself.

The current session is the one ``%jrm`` opened last, else the one that Python opened last here, else "default".
Read next: :mod:`.words` for the grammar.
"""

from __future__ import annotations

import functools
import html
import re
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..client import session, show
from ..client.bulk import Bulk
from ..client.pilot import Pilot
from ..client.requested import Requested
from ..client.script import Job
from ..client.session import Session
from ..client.task import TaskHandle
from ..model import hooks
from ..model.describe import Shell
from ..model.errors import RequestError
from .remote import names_bound, names_read, run_cell
from .words import HelpAsked, parse

_EXPAND = re.compile(r"\{([A-Za-z_]\w*)\}|\$([A-Za-z_]\w*)")
_OF_TASKS = (
    *("name", "cores", "gpus", "mem", "timeout", "retries", "retry_delay", "retry_on"),
    *("pilot", "partition", "priority", "named_env", "services"),
)
_HIDDEN = frozenset({"In", "Out", "get_ipython", "exit", "quit", "open", "__builtins__", "__name__"})


class NoSession:
    """What ``%jrm status`` shows when no session is open here: what there is, and how to open it."""

    def __init__(self, why: str) -> None:
        from ..client import admin, listing

        self.why = why
        # Looking must not start a broker either.
        self.sessions = listing.sessions() if admin.status() is not None else listing.SessionList()
        open_ones = [each.name for each in self.sessions if each.state == "open"]
        self.hint = "%jrm open " + (" or %jrm open ".join(open_ones[-3:]) or "NAME")

    def __repr__(self) -> str:
        return "\n".join([f"{self.why} (next: {self.hint})", *(f"  {each!r}" for each in self.sessions)])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        line = f"<p>{html.escape(self.why)} (next: <code>{html.escape(self.hint)}</code>)</p>"
        table = self.sessions._repr_mimebundle_()["text/html"] if self.sessions else ""
        return {"text/plain": repr(self), "text/html": line + table}


class Magics:
    """What the magics do, apart from IPython's own calling conventions.

    Args:
        space: the user's variables.
    """

    def __init__(self, space: dict[str, Any]) -> None:
        self.space = space
        show.viewer = _live
        self._session: Session | None = None
        self._ended: Session | None = None  # the last one that was closed or detached here
        self._shells: dict[str, Any] = {}
        self._connections: Any = None
        self._tunnels: list[Any] = []
        self.show_last_error: Callable[[], None] = lambda: None

    @property
    def session(self) -> Session:
        """The current session.

        Raises:
            RequestError: JRM-Q41, there is none; looking never makes one.
        """
        known = self.known_session
        if known is None:
            raise RequestError(f"%jrm: {self._none()}", hint="%jrm open NAME; %jrm sessions lists them", code="JRM-Q41")
        return known

    def _working(self) -> Session:
        """Return the current session for new work: "default" when none was ever opened here."""
        if self.known_session is None and self._ended is None:
            self._session = session.open("default")
            sys.stderr.write("jupyter_rm: no session was open here; opened 'default'\n")
        return self.session

    def _none(self) -> str:
        """Say in words why there is no current session."""
        gone = self._ended
        if gone is None:
            return "no session is open here"
        why = gone._replica.error
        last = f"session {gone.name!r} was closed" if gone.closed or why is None else why.message
        return f"no session is open here; {last}"

    @property
    def known_session(self) -> Session | None:
        """The current session if there is one; never opens any."""
        if self._session is not None and self._session._replica.error is None:
            return self._session
        if self._session is not None:
            self._session, self._ended = None, self._session
        # Mixing s = jrm.open("x") and %jrm is common; an empty "default" beside it would puzzle everyone.
        alive = [each for each in session._open.values() if each._replica.error is None]
        return alive[-1] if alive else None

    def line(self, line: str) -> Any:
        """Run one ``%jrm`` line."""
        try:
            verb, options = parse(self._words(line), cell=False)
        except HelpAsked as asked:
            return show.Text(str(asked))
        return getattr(self, f"_{verb}")(options)

    def cell(self, line: str, body: str) -> Any:
        """Run one ``%%jrm`` cell."""
        try:
            verb, options = parse(self._words(line), cell=True)
        except HelpAsked as asked:
            return show.Text(str(asked))
        return getattr(self, f"_cell_{verb}")(options, body)

    def _words(self, line: str) -> list[str]:
        """Split a line; ``{name}`` and ``$name`` become the values of variables that exist."""
        verb, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        try:
            # A query is passed on as it stands: quotes are part of the language.
            words = [verb, rest] if verb == "sql" and rest and rest[0] not in "-\"'" else shlex.split(line)
        except ValueError as error:
            raise RequestError(f"%jrm: {error}", hint="close the quotes", code="JRM-Q40") from None

        def value(match: re.Match[str]) -> str:
            name = match[1] or match[2]
            return str(self.space[name]) if name in self.space else match[0]

        return [_EXPAND.sub(value, word) for word in words]

    # ------------------------------------------------------------ sessions

    def _open(self, options: Namespace) -> Session:
        self._session = session.open(options.name)
        return self._session

    def _attach(self, options: Namespace) -> Session:
        self._session = session.open(options.name, create=False)
        return self._session

    def _sessions(self, _: Namespace) -> Any:
        from ..client.listing import sessions

        return sessions()

    def _status(self, options: Namespace) -> Any:
        known = self.known_session
        if known is None:
            return NoSession(self._none())
        if options.refresh:
            known.refresh()
        return known

    def _detach(self, _: Namespace) -> Any:
        return self._end("detach", "goes on without this notebook")

    def _close(self, options: Namespace) -> Any:
        return self._end("close", "is closed", cleanup=options.cleanup, force=options.force)

    def _end(self, how: str, said: str, **more: bool) -> Any:
        known = self.session
        name = known.name
        made = getattr(known, how)(**more)
        self._session, self._ended = None, known
        return show.Text(f"session {name!r} {said}" + (f"\n{made!r}" if made is not None else ""))

    def _wait(self, options: Namespace) -> Session:
        self.session.wait(options.timeout)
        return self.session

    # ------------------------------------------------------------ pilots

    def _pilot(self, options: Namespace) -> Pilot:
        given = {
            key: value for key, value in vars(options).items() if value is not None and key not in ("site", "wait")
        }
        if options.options:
            given["options"] = _pairs(options.options, "--set")
        if options.hooks:
            given["hooks"] = hooks.typed(options.hooks)
        pilot = self._working().pilot(options.site, **given)
        if options.wait:
            pilot.wait()
        return pilot

    def _pilots(self, _: Namespace) -> Any:
        return self.session.pilots()

    def _job(self, options: Namespace) -> Pilot:
        pilot = self.session[options.uid]
        if not isinstance(pilot, Pilot):
            raise RequestError(f"{options.uid}: not a pilot", hint="name one, such as p.0", code="JRM-Q03")
        getattr(pilot, options.verb)()
        return pilot

    _hold = _release = _suspend = _resume = _job

    def _prepare(self, options: Namespace) -> Any:
        from ..client.prepared import from_words

        return from_words(self.session, options)

    def _form(self, options: Namespace) -> Any:
        from .launch import Launch

        return Launch(self._working(), options.site)

    # ------------------------------------------------------------ tasks

    def _tasks(self, options: Namespace) -> Any:
        return self.session.view("tasks", **{"order": "desc", **_window(options)})

    def _services(self, options: Namespace) -> Any:
        session = self._working() if options.elsewhere else self.session
        for name, endpoint in options.elsewhere:
            session.register_service(name, endpoint)
        return session.services()

    def _nodes(self, options: Namespace) -> Any:
        return self.session.view("nodes", **_window(options))

    def _queue(self, options: Namespace) -> Any:
        return self.session.view("queue", **_window(options))

    def _timeline(self, options: Namespace) -> Any:
        return self.session.view("timeline", **_window(options))

    def _usage(self, options: Namespace) -> Any:
        return self.session.view("usage", **_window(options))

    def _export(self, options: Namespace) -> Any:
        from .. import snapshot

        window = _window(options)
        path = snapshot.save(self.session, options.view, options.file, window, options.anonymous, options.theme)
        return show.Text(f"wrote {path}")

    def _sql(self, options: Namespace) -> Any:
        return self.session.sql(" ".join(options.query))

    def _jobs(self, _: Namespace) -> Any:
        return self.session.jobs()

    def _bundle(self, options: Namespace) -> Any:
        from ..client import bundle

        if options.action == "make":
            path = bundle.make(options.file, options.site, options.force)
            return show.Text(f"{path}\n  next: edit it; %jrm bundle check {path}; %jrm bundle submit {path}")
        if options.action == "check":
            return show.Text(bundle.described(options.file))
        return self._working().bundle(Path(options.file))

    def _script(self, options: Namespace) -> Job:
        return self._own_script(options, Path(options.file))

    def _cell_script(self, options: Namespace, body: str) -> Job:
        job = self._own_script(options, body.encode("utf-8", "surrogateescape"))
        if options.out:
            self.space[options.out] = job
        return job

    def _own_script(self, options: Namespace, script: bytes | Path) -> Job:
        given = _fields(options, ("nodes", "walltime", "queue", "project", "name", "workdir", "stdout", "stderr"))
        return self._working().script(options.site, script, **given, **_pairs(options.options, "--set"))

    def _writer(self, uid: str) -> TaskHandle | Job:
        found = self.session[uid]
        return found if isinstance(found, Job) else self._task(uid)

    def _task(self, uid: str) -> TaskHandle:
        found = self.session[uid]
        if not isinstance(found, TaskHandle):
            such = f"{uid}.0" if isinstance(found, Bulk) else "t.0.0"
            raise RequestError(f"{uid}: not one task", hint=f"name one, such as {such}", code="JRM-Q03")
        return found

    def _log(self, options: Namespace) -> show.Text:
        task = self._writer(options.uid)
        return show.Text(task.stderr() if options.stderr else task.stdout())

    def _follow(self, options: Namespace) -> TaskHandle | Job:
        task = self._writer(options.uid)
        for piece in task.follow("stderr" if options.stderr else "stdout"):
            sys.stdout.write(piece)
            sys.stdout.flush()
        return task

    def _logs(self, options: Namespace) -> Any:
        found = self.session.logs(*options.component, level=options.level, follow=options.follow)
        if isinstance(found, list):
            return found
        try:
            for one in found:
                sys.stdout.write(f"{one}\n")
                sys.stdout.flush()
        except KeyboardInterrupt:  # how it is ended, no accident
            return None
        return None

    def _story(self, options: Namespace) -> show.Text:
        return self._task(options.uid).story()

    def _explain(self, options: Namespace) -> show.Text:
        found = self.session[options.uid]
        return found.explain() if isinstance(found, Requested) else self._task(options.uid).explain()

    def _cancel(self, options: Namespace) -> show.Text:
        said = []
        if options.all == bool(options.uid):
            raise RequestError("%jrm cancel: which tasks?", hint="%jrm cancel t.3, or --all", code="JRM-Q40")
        if options.all:
            said.append(f"{self.session.cancel()} tasks of session {self.session.name!r} cancelled")
        for uid in options.uid:
            found = self.session[uid]
            if isinstance(found, (Job, Pilot)):
                found.cancel()
                said.append(f"{'script' if isinstance(found, Job) else 'pilot'} {uid} is being ended")
            elif isinstance(found, Bulk):
                said.append(f"{found.cancel()} tasks of {uid} cancelled")
            else:
                said.append(f"{uid} {'cancelled' if found.cancel() else 'had ended already'}")
        return show.Text("\n".join(said))

    # ------------------------------------------------------------ the rest

    def _site(self, options: Namespace) -> Any:
        from ..client import sites
        from .doors import CARE, care

        if options.action in CARE:
            return care(options)
        return sites.do(
            options.action, options.name, options.key, options.url, options.title, options.options, options.force
        )

    def _doctor(self, _: Namespace) -> Any:
        from ..client.doctor import doctor

        return doctor()

    def _traceback(self, _: Namespace) -> None:
        self.show_last_error()

    def _help(self, _: Namespace) -> Any:
        raise AssertionError("unreachable")  # parse answers help itself

    # ------------------------------------------------------------ shells on other machines

    def _sh(self, options: Namespace) -> show.Text:
        known = self._shells
        if options.last or (options.close and options.keep):
            from .doors import kept

            return kept(self._shell(options.host, True), options)
        if options.close:
            if options.host not in known:
                hint = "open: " + (", ".join(known) or "none")
                raise RequestError(f"%jrm sh: no shell at {options.host!r}", hint=hint, code="JRM-Q40")
            known.pop(options.host).close()
            return show.Text(f"the shell at {options.host} was closed")
        lines = [f"{host}  in {shell.directory or 'its home'}" for host, shell in known.items()]
        return show.Text("\n".join(lines) or "no shells; %%jrm sh HOST starts one")

    def _tunnel(self, options: Namespace) -> Any:
        from .doors import tunnels

        return tunnels(self._tunnels, options, self.space)

    def _shell(self, host: str, keep: bool) -> Any:
        """Return a shell at a host, logged in."""
        from ..broker.remote import settings_of
        from ..broker.sites import machine
        from ..client.settings import current
        from ..runtime.connect import Connections
        from ..runtime.home import Home
        from .asking import Desk
        from .kept import KeptShell
        from .shell import RemoteShell

        if self._connections is None:
            self._connections = Connections(settings_of(Home.locate(current().profile)))
        name = f"{host} --keep" if keep else host
        host = machine(host)
        shell = self._shells.get(name)
        if shell is None:
            shell = KeptShell(host, self._connections) if keep else RemoteShell(host, self._connections)
        desk = Desk()
        desk.during(lambda: shell.start(desk))
        self._shells[name] = shell
        return shell

    def _cell_sh(self, options: Namespace, body: str) -> None:
        shell = self._shell(options.host, options.keep)
        heard: list[str] = []

        def out(text: str) -> None:
            heard.append(text)
            if not options.out:
                sys.stdout.write(text)
                sys.stdout.flush()

        code = shell.run(body, out, lambda text: sys.stderr.write(text))
        if options.out:
            self.space[options.out] = "".join(heard)
        if code:
            sys.stderr.write(f"jupyter_rm: exit code {code} at {options.host}\n")

    def close(self) -> None:
        """End the shells on other machines and hang up there."""
        for shell in self._shells.values():
            shell.close()
        self._shells.clear()
        for tunnel in self._tunnels:
            tunnel.close()
        self._tunnels.clear()
        if self._connections is not None:
            self._connections.close()
            self._connections = None

    # ------------------------------------------------------------ cells

    def _cell_run(self, options: Namespace, body: str) -> TaskHandle | None:
        fields = _fields(options, (*_OF_TASKS, "ranks"))
        if options.env:
            fields["environment"] = _pairs(options.env, "--env")
        if options.after:
            fields["after"] = options.after
        fields |= {name: given for name in ("input_staging", "output_staging") if (given := getattr(options, name))}
        if not body.strip():
            raise RequestError("%%jrm run: the cell is empty", hint="write a shell script below", code="JRM-Q40")
        task = self._working().submit(Shell(body, **fields))
        if options.out:
            self.space[options.out] = task
        if options.block:
            task.wait()
            for rank in range(options.ranks or 1):
                sys.stdout.write(task.stdout(rank))
            error = task.exception(0)
            if error is not None:
                raise error
        return task

    def _cell_python(self, options: Namespace, body: str) -> Any:
        outputs = tuple(name for each in options.outputs for name in each.split(",") if name)
        for name in outputs:
            if not name.isidentifier():
                raise RequestError(f"-o: {name!r} is not a variable name", hint="-o result", code="JRM-Q40")
        inputs = self._inputs(options.inputs, body)
        fields = _fields(options, _OF_TASKS)
        task = self._working().map(functools.partial(run_cell, body, outputs=outputs), [inputs], **fields)[0]
        if options.noblock:
            if outputs:
                task.add_done_callback(self._bring_back)
            return task
        task.wait()
        sys.stdout.write(task.stdout())
        sys.stderr.write(task.stderr())
        brought, value = task.result(0)
        self.space.update(brought)
        return value

    def _bring_back(self, task: TaskHandle) -> None:
        if task.exception(0) is None:
            self.space.update(task.result(0)[0])

    def _inputs(self, asked: list[str] | None, body: str) -> dict[str, Any]:
        from ..client.functions import dump_arguments

        if asked is not None:
            names = [name for each in asked for name in each.split(",") if name]
            missing = [name for name in names if name not in self.space]
            if missing:
                raise RequestError(f"-i: there is no variable {missing[0]!r}", hint="assign it first", code="JRM-Q40")
            return {name: self.space[name] for name in names}
        found, bound = {}, names_bound(body)
        for name in names_read(body):
            if name in self.space and name not in _HIDDEN and not name.startswith("_"):
                try:
                    dump_arguments((self.space[name],), {})
                except RequestError as error:
                    text = f"{name} does not travel: {error.message.partition(': ')[2]}"
                    if name not in bound:  # sure to be missed there
                        raise RequestError(text, hint=error.hint, code=error.code) from None
                    sys.stderr.write(f"jupyter_rm: {text}\n")
                    continue
                found[name] = self.space[name]
        return found


def _window(options: Namespace) -> dict[str, Any]:
    """Return what a line says of a view's window."""
    beside = ("view", "file", "anonymous", "theme")
    return {name: value for name, value in vars(options).items() if name not in beside and value not in (None, "")}


def _pairs(given: list[str], option: str) -> dict[str, str]:
    pairs = [each.partition("=") for each in given]
    if any(not mark for _, mark, _ in pairs):
        raise RequestError(f"{option}: write NAME=VALUE", hint=f"{option} SEED=7", code="JRM-Q40")
    return {name: value for name, _, value in pairs}


def _live() -> Any:
    from . import live

    return live


def _fields(options: Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}
