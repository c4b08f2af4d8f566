"""``jrm``: the same verbs as ``%jrm``, from a shell.

Exit codes: 0 success, 1 a task failed or a check is bad, 2 wrong usage or impossible request, 3 a site refused,
4 the broker cannot be reached, 5 protocol, 124 a time limit passed, 130 Ctrl-C. ``--json`` prints one JSON value on
standard output; errors go to standard error. Read next: :mod:`jupyter_rm.client.session`.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from .cli_jobs import add_jobs
from .cli_site import add_site
from .cli_tunnel import add_tunnel
from .client import elsewhere
from .client.prepared import add_words
from .model.errors import JrmError, LinkError, ProtocolError, RequestError, SiteError, TaskError

if TYPE_CHECKING:
    from .client.session import Session
    from .client.task import TaskHandle

CODES: dict[type[BaseException], int] = {
    RequestError: 2,
    SiteError: 3,
    LinkError: 4,
    ProtocolError: 5,
    TaskError: 1,
    TimeoutError: 124,
}
Command = Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line and what to do next, as all errors here."""

    def error(self, message: str) -> NoReturn:
        """Print the error and end with code 2."""
        hint = f"{self.prog} --help"
        found = re.search(r"invalid choice: '([^']*)'", message)
        if found:
            message = message.partition(" (choose from")[0]
            choices = [str(each) for action in self._actions for each in action.choices or ()]
            near = difflib.get_close_matches({"attach": "open"}.get(found[1], found[1]), choices, 1)
            hint = f"did you mean {near[0]}?" if near else "one of " + ", ".join(choices)
        self.exit(2, f"{self.prog}: {message}\n  next: {hint}\n")


def _say(options: argparse.Namespace, value: Any, text: str) -> None:
    if options.json:
        print(json.dumps(value, default=str, ensure_ascii=False))
    elif text:
        print(text)


def _session(options: argparse.Namespace, create: bool = False) -> Session:
    from .client import session

    try:
        return session.open(options.session, create=create)
    except RequestError as error:
        if error.code == "JRM-Q08":
            error.hint += f"; jrm open {options.session} makes it"
        raise


# ------------------------------------------------------------ sessions


def _sessions(options: argparse.Namespace) -> int:
    from .client.listing import sessions

    found = sessions()
    _say(options, [each.as_dict() for each in found], repr(found))
    return 0


def _open(options: argparse.Namespace) -> int:
    session = _session(options, create=True)
    _say(options, {"name": session.name, "tasks": session.counts()}, repr(session))
    return 0


def _status(options: argparse.Namespace) -> int:
    session = _session(options)
    if options.refresh:
        session.refresh()
    text = "\n".join([repr(session), *(f"  {pilot!r}" for pilot in session.pilots())])
    _say(options, session.as_dict(), text)
    return 0


def _close(options: argparse.Namespace) -> int:
    made = _session(options).close(options.cleanup, options.force)
    told = {"closed": options.session} | ({"removed": made.removed, "kept": made.kept} if made else {})
    _say(options, told, f"session {options.session!r} is closed" + (f"\n{made!r}" if made else ""))
    return 0


def _wait(options: argparse.Namespace) -> int:
    session = _session(options)
    ended = session.wait(options.timeout)
    counts = session.counts()
    _say(options, {"ended": ended, "tasks": counts}, repr(session))
    if not ended:
        return 124
    return 1 if counts.get("FAILED") else 0


# ------------------------------------------------------------ pilots


# What is done to the job of a pilot: methods of it.
_JOB_WORDS = {
    "hold": "keep a pilot's job from starting",
    "release": "let a held job wait for its turn again",
    "suspend": "stop a pilot's running job for a while",
    "resume": "let a suspended job go on",
}
_PILOT_NUMBERS = ("cores", "gpus", "nodes", "backup", "partitions", "renew")
_PILOT_TEXTS = (
    *("mem", "walltime", "queue", "project", "name", "sandbox", "qos", "reservation", "constraint"),
    *("launch", "env", "env_mode", "env_source", "env_base", "env_prefer", "python", "connect", "drain"),
)


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise RequestError(f"--set: {text!r} is not NAME=VALUE", hint="--set qos=high", code="JRM-Q40")
    return name, value


def _pilot(options: argparse.Namespace) -> int:
    names = (*_PILOT_NUMBERS, *_PILOT_TEXTS, "exclusive")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.options:
        given["options"] = dict(_pair(text) for text in options.options)
    if options.hooks:
        from .model import hooks

        given["hooks"] = hooks.typed(options.hooks)
    pilot = _session(options, create=True).pilot(options.site, **given)
    if options.wait:
        pilot.wait()
    _say(options, pilot.as_dict(), repr(pilot))
    return 1 if pilot.state == "FAILED" else 0


def _job(options: argparse.Namespace) -> int:
    from .client.pilot import Pilot

    pilot = _session(options)[options.uid]
    if not isinstance(pilot, Pilot):
        raise RequestError(f"{options.uid}: not a pilot", hint="name one, such as p.0", code="JRM-Q03")
    getattr(pilot, options.verb)()
    _say(options, pilot.as_dict(), repr(pilot))
    return 0


def _prepare(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from .client.prepared import from_words

    made = from_words(_session(options), options)
    _say(options, [asdict(each) for each in made], repr(made))
    return 0


def _pilots(options: argparse.Namespace) -> int:
    pilots = _session(options).pilots()
    _say(options, [pilot.as_dict() for pilot in pilots], "\n".join(map(repr, pilots)) or "no pilots")
    return 0


# ------------------------------------------------------------ services


def _services(options: argparse.Namespace) -> int:
    session = _session(options, create=bool(options.elsewhere))
    for name, endpoint in options.elsewhere:
        session.register_service(name, endpoint)
    found = session.services()
    _say(options, [one._asdict() for one in found], repr(found))
    return 0


# ------------------------------------------------------------ tasks


def _describe(options: argparse.Namespace) -> Any:
    from .model.describe import Task

    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        raise RequestError("no command given", hint="jrm run -- program argument ...", code="JRM-Q40")
    names = ["name", "ranks", "cores", "gpus", "mem", "timeout", "retries", "pilot", "partition", "services"]
    names += ["retry_delay", "retry_on"]
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return Task(command[0], command[1:], **given)


def _submit(options: argparse.Namespace) -> int:
    task = _session(options, create=True).submit(_describe(options))
    _say(options, task.as_dict(), task.uid)
    return 0


def _run(options: argparse.Namespace) -> int:
    task = _session(options, create=True).submit(_describe(options))
    task.wait()
    if options.json:
        _say(options, {**task.as_dict(), "stdout": task.stdout(), "stderr": task.stderr()}, "")
    else:
        sys.stdout.write(task.stdout())
        sys.stdout.flush()
        sys.stderr.write(task.stderr())
    if task.state == "DONE":
        return 0
    if not options.json:
        sys.stderr.write(f"jrm: {task.uid} ended {task.state}: {task.reason}\n")
    code = task.exit_code
    return code if code is not None and 0 < code < 126 else 1


def _tasks(options: argparse.Namespace) -> int:
    from .client import overview

    session = _session(options)
    if options.json:
        every = session.tasks()
        chosen = every.where(options.state.upper()) if options.state else every
        _say(options, [task.as_dict() for task in chosen[max(0, len(chosen) - options.limit) :]], "")
    else:
        print(repr(overview.tasks(session, options.state.upper(), options.limit)))
    return 0


def _overview(options: argparse.Namespace) -> int:
    from .client import overview

    session = _session(options)
    found = overview.queue(session) if options.verb == "queue" else overview.nodes(session)
    _say(options, found.as_list(), repr(found))
    return 0


def _sql(options: argparse.Namespace) -> int:
    from .client.tables import answer

    names, rows = answer(_session(options), " ".join(options.query), options.limit)
    cells = [names, *(["" if value is None else str(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
    _say(options, [dict(zip(names, row, strict=True)) for row in rows], "\n".join(lines))
    return 0


def _export(options: argparse.Namespace) -> int:
    from . import snapshot

    path = snapshot.save(_session(options), options.view, options.file, {}, options.anonymous, options.theme)
    _say(options, {"file": str(path)}, str(path))
    return 0


def _follow(options: argparse.Namespace) -> int:
    for piece in _writer(options).follow("stderr" if options.stderr else "stdout"):
        sys.stdout.write(piece)
        sys.stdout.flush()
    return 0


def _writer(options: argparse.Namespace) -> Any:
    """Return what writes output: a task or a script."""
    from .client.script import Job

    found = _session(options)[options.uid]
    return found if isinstance(found, Job) else _one(options)


def _one(options: argparse.Namespace) -> TaskHandle:
    from .client.task import TaskHandle

    found = _session(options)[options.uid]
    if not isinstance(found, TaskHandle):
        raise RequestError(f"{options.uid}: not one task", hint="name one, such as t.0.0", code="JRM-Q03")
    return found


def _log(options: argparse.Namespace) -> int:
    task = _writer(options)
    text = task.stderr() if options.stderr else task.stdout()
    if options.json:
        _say(options, {"uid": task.uid, "text": text}, "")
    else:
        sys.stdout.write(text)
    return 0


def _story(options: argparse.Namespace) -> int:
    text = str.__str__(_one(options).story())
    _say(options, text.splitlines(), text)
    return 0


def _explain(options: argparse.Namespace) -> int:
    from .client.requested import Requested

    found = _session(options)[options.uid]
    text = str.__str__((found if isinstance(found, Requested) else _one(options)).explain())
    _say(options, {"uid": options.uid, "text": text}, text)
    return 0


def _cancel(options: argparse.Namespace) -> int:
    from .client.pilot import Pilot
    from .client.script import Job

    if options.all == bool(options.uid):
        raise RequestError("which tasks?", hint="jrm cancel t.3, or jrm cancel --all", code="JRM-Q40")
    session = _session(options)
    hit = {"all": session.cancel()} if options.all else {}
    for uid in options.uid:
        found = session[uid]
        if isinstance(found, (Job, Pilot)):
            found.cancel()
            hit[uid] = 1
        else:
            hit[uid] = int(found.cancel())
    _say(options, hit, "\n".join(f"{uid}: {count} cancelled" for uid, count in hit.items()))
    return 0


# ------------------------------------------------------------ the machinery


def _doctor(options: argparse.Namespace) -> int:
    from .client.doctor import doctor

    found = doctor()
    _say(options, [vars(each) for each in found], repr(found))
    return 0 if found.ok else 1


def _broker(options: argparse.Namespace) -> int:
    from .client import admin
    from .model.units import human_s

    if options.action == "log":
        text = admin.log_tail(options.lines)
        _say(options, text.splitlines(), text)
        return 0
    if options.action == "stop":
        said = admin.stop(options.force)
        gone = "the broker has stopped; pilots of open sessions go on"
        _say(options, {"stopped": said}, gone if said else "no broker runs")
        return 0
    told = admin.status()
    if told is None:
        _say(options, None, "no broker runs")
        return 0
    shown = {**told, "uptime": human_s(told["uptime"])}
    _say(options, told, "\n".join(f"{name:<15} {value}" for name, value in shown.items()))
    return 0


def _logs(options: argparse.Namespace) -> int:
    found = _session(options).logs(*options.component, level=options.level, follow=options.follow)
    if isinstance(found, list):
        _say(options, [one._asdict() for one in found], repr(found))
        return 0
    for one in found:
        print(json.dumps(one._asdict(), ensure_ascii=False) if options.json else one, flush=True)
    return 0


def _settings(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from .client import settings

    values, why = settings.load()
    told = {name: {"value": value, "from": why[name]} for name, value in asdict(values).items()}
    lines = [
        f"{name:<20} {each['value']}" + (f"   ({each['from']})" if options.why else "") for name, each in told.items()
    ]
    _say(options, told, "\n".join([*lines, f"file: {settings.config_file()}"] if options.why else lines))
    return 0


def _replay(options: argparse.Namespace) -> int:
    from .client import offline

    found = offline.replay(options.journal)
    if options.uid:
        lines = found.story(options.session, options.uid)
        _say(options, lines, "\n".join(lines))
        return 0
    _say(options, found.as_dict(), repr(found))
    return 0


def _demo(options: argparse.Namespace) -> int:
    from .client import demo

    told = demo.run(options.count, say=lambda _: None if options.json else print(_))
    _say(options, told, "")
    return 0 if told["as expected"] else 1


def _version(options: argparse.Namespace) -> int:
    from . import __version__

    _say(options, {"version": __version__}, f"jupyter_rm {__version__}")
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    shared = Parser(add_help=False)
    # Before or after the verb; the verb's parser must not put its own default over what stands before it.
    shared.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
    named = Parser(add_help=False, parents=[shared])
    named.add_argument("-s", "--session", default="default", help="name of the session")
    root = Parser(
        prog="jrm",
        description="Drive pilots and tasks. First steps: jrm demo; jrm run -- echo hello; jrm tasks; jrm VERB --help.",
        epilog=(__doc__ or "").split("\n\n")[1].partition(" Read next")[0].replace("``", ""),
    )
    root.add_argument("--json", action="store_true", help="print JSON")
    root.set_defaults(command_of=None)
    verbs = root.add_subparsers(dest="verb", metavar="VERB")

    def verb(name: str, command: Command, text: str, base: Parser = named) -> Parser:
        made: Parser = verbs.add_parser(name, help=text, description=text, parents=[base])
        made.set_defaults(command_of=command)
        return made

    verb("sessions", _sessions, "list all sessions", shared)
    for name, command, text in (("open", _open, "create or re-attach a session"), ("close", _close, "end a session")):
        made = verb(name, command, text, shared)
        made.add_argument("session", nargs="?", default="default")
    made.add_argument("--cleanup", action="store_true", help="remove its files at all sites; what sessions share stays")
    made.add_argument("--force", action="store_true", help="with --cleanup: although tasks have not ended")
    made = verb("status", _status, "show a session")
    made.add_argument("--refresh", action="store_true", help="ask the batch systems now how the pilots stand")
    for name, text in _JOB_WORDS.items():
        verb(name, _job, text).add_argument("uid", help="such as p.0")
    verb("wait", _wait, "wait until all tasks have ended").add_argument("--timeout", type=float)
    made = verb("pilot", _pilot, "ask a site for a pilot")
    made.add_argument("site", nargs="?", default="local")
    for option in _PILOT_NUMBERS:
        made.add_argument(f"--{option}", type=int)
    for option in _PILOT_TEXTS:
        made.add_argument(f"--{option.replace('_', '-')}")
    made.add_argument("--exclusive", action="store_true", default=None, help="share the nodes with nobody")
    made.add_argument("--hook", dest="hooks", action="append", metavar="MOMENT=LINE", help="a shell line run then")
    made.add_argument(
        "--set", dest="options", action="append", metavar="NAME=VALUE", help="another attribute of the site"
    )
    made.add_argument("--wait", action="store_true", help="block until it is active; asks what the login asks")
    made = verb("prepare", _prepare, "make an environment for tasks at the pilots' sites from wheels sent from here")
    add_words(made)
    verb("pilots", _pilots, "list the pilots")
    for name, command, text in (
        ("run", _run, "run a command as a task, wait, pass on its output and exit code"),
        ("submit", _submit, "submit a command as a task and print its uid"),
    ):
        made = verb(name, command, text)
        for option, kind in (("ranks", int), ("cores", int), ("gpus", float), ("retries", int), ("partition", int)):
            made.add_argument(f"--{option}", type=kind)
        for option in ("name", "mem", "timeout", "pilot"):
            made.add_argument(f"--{option}")
        made.add_argument("--services", type=lambda text: text.split(","), metavar="A,B", help="services it waits for")
        made.add_argument("--retry-delay", help="pause before the next attempt, such as 30s; twice as long each time")
        made.add_argument("--retry-on", type=lambda text: text.split(","), metavar="A,B", help="after these only")
        made.add_argument("command", nargs=argparse.REMAINDER, help="-- program arguments")
    made = verb("tasks", _tasks, "list tasks")
    made.add_argument("--state", default="")
    made.add_argument("--limit", type=int, default=50)
    elsewhere.add_words(verb("services", _services, "list the services, or say where one is that is no task"))
    verb("nodes", _overview, "list the nodes of the pilots")
    verb("queue", _overview, "show what waits")
    made = verb("sql", _sql, "ask the tables tasks, pilots and bulks")
    made.add_argument("query", nargs="+", help="such as \"select uid from tasks where state = 'FAILED'\"")
    made.add_argument("--limit", type=int, default=100_000, help="rows at most")
    made = verb("export", _export, "write a view to a file: a page (.html) or data (.json)")
    made.add_argument("view", help="tasks, nodes, queue, timeline or usage")
    made.add_argument("file", help="such as map.html or map.json")
    made.add_argument("--anonymous", action="store_true", help="other names for people, jobs, tasks, hosts, sites")
    made.add_argument("--theme", choices=("light", "dark"), default="light")
    for name, command, text in (
        ("log", _log, "print what a task wrote"),
        ("follow", _follow, "print what a task writes until it ends"),
    ):
        made = verb(name, command, text)
        made.add_argument("uid", help="such as t.3.17")
        made.add_argument("--stderr", action="store_true", help="standard error instead of output")
    verb("story", _story, "print everything that happened to a task").add_argument("uid")
    verb("explain", _explain, "say why a task waits, or a pilot").add_argument("uid")
    made = verb("cancel", _cancel, "cancel tasks, bulks or pilots")
    made.add_argument("uid", nargs="*")
    made.add_argument("--all", action="store_true", help="all tasks of the session that have not ended")
    add_site(verb, _say, shared)
    add_tunnel(verb, _say, shared)
    add_jobs(verb, _say, shared, named, _session)
    verb("doctor", _doctor, "look at everything that must be right", shared)
    made = verb("broker", _broker, "look at, stop, or read the log of the broker", shared)
    made.add_argument("action", nargs="?", default="status", choices=("status", "stop", "log"))
    made.add_argument("--force", action="store_true", help="kill it if it does not end by itself; agents go on")
    made.add_argument("--lines", type=int, default=50)
    made = verb("logs", _logs, "print what broker and agents log, in order of time")
    made.add_argument("component", nargs="*", help="broker, or pilots such as p.0 (default: all in contact)")
    made.add_argument("--follow", action="store_true", help="go on until Ctrl-C; with --json: one object a line")
    made.add_argument("--level", default="", help="what they log from now on: DEBUG, INFO, WARNING or ERROR")
    verb("settings", _settings, "print the settings", shared).add_argument("--why", action="store_true")
    made = verb("replay", _replay, "read a journal without a broker")
    made.add_argument("journal")
    made.add_argument("uid", nargs="?", default="", help="print the story of this task")
    verb("demo", _demo, "run a small ensemble and say how it went", shared).add_argument(
        "--count", type=int, default=64
    )
    verb("version", _version, "print the version", shared)
    return root


def main(argv: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    options = parser().parse_args(argv)
    if options.command_of is None:
        parser().print_help()
        return 0
    try:
        return int(options.command_of(options))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has left; there is nobody to tell.
        sys.stderr.close()
        return 0
    except (JrmError, TimeoutError) as error:
        code = next((number for kind, number in CODES.items() if isinstance(error, kind)), 1)
        if options.json and isinstance(error, JrmError):
            told = {"error": type(error).__name__, "code": error.code, "message": error.message, "hint": error.hint}
            print(json.dumps(told), file=sys.stderr)
        else:
            print(f"jrm: {error}", file=sys.stderr)
        return code


if __name__ == "__main__":
    sys.exit(main())
