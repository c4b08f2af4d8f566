"""The grammar of ``%jrm``: verbs and their options, from which parsing, help and completion are made.

Knows nothing about sessions. Read next: :mod:`.magics`.
"""

from __future__ import annotations

import argparse
import difflib
import re
from typing import Any, NoReturn

from ..client import elsewhere
from ..client.prepared import add_words
from ..model.errors import RequestError
from ..views.controls import CONTROLS


class HelpAsked(Exception):
    """``--help`` was given; the text is the help."""


class Parser(argparse.ArgumentParser):
    """A parser that raises one-line errors with a suggestion and never ends the program."""

    def error(self, message: str) -> NoReturn:
        """Raise RequestError with the options that come near."""
        hint = f"see: {self.prog} --help"
        words = re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", message)
        known = [option for action in self._actions for option in action.option_strings]
        near = [match for word in words if word not in known for match in difflib.get_close_matches(word, known, 1)]
        if near:
            hint = f"did you mean {near[0]}?"
        raise RequestError(f"{self.prog}: {message}", hint=hint, code="JRM-Q40")

    def print_help(self, file: Any = None) -> None:  # noqa: ARG002 (argparse's signature)
        """Raise HelpAsked instead of printing."""
        raise HelpAsked(self.format_help())

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Raise instead of ending the kernel."""
        raise RequestError(message or f"{self.prog} ended ({status})", code="JRM-Q40")


def _resources(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", help="a name for people")
    parser.add_argument("--cores", type=int, help="cores of each rank")
    parser.add_argument("--gpus", type=float, help="GPUs of each rank, fractions allowed")
    parser.add_argument("--mem", help="memory of each rank, such as 4GiB")
    parser.add_argument("--timeout", help="longest run time, such as 10m")
    parser.add_argument("--retries", type=int, help="further attempts after a failure")
    parser.add_argument("--retry-delay", help="pause before the next attempt, such as 30s; twice as long each time")
    parser.add_argument("--retry-on", type=_listed, metavar="A,B", help="causes after which there is one")
    parser.add_argument("--pilot", help="run on this pilot only")
    parser.add_argument("--partition", type=int, help="run in this part of a pilot only")
    parser.add_argument("--priority", type=int, help="larger starts earlier")
    parser.add_argument("--named-env", help="environment to run in: a name of the pilot's envs, or a path")
    parser.add_argument("--services", type=_listed, metavar="A,B", help="services that must be ready before it starts")


def _listed(text: str) -> list[str]:
    return text.split(",")


_LINE: dict[str, str] = {
    "open": "create or re-attach a session and make it the current one",
    "attach": "attach to a session that exists and make it the current one",
    "sessions": "list all sessions",
    "pilot": "ask a site for a pilot",
    "pilots": "list the pilots",
    "prepare": "make an environment for tasks at the pilots' sites from wheels sent from here",
    "bundle": "make, check or submit a file that holds a pilot and its work",
    "script": "submit a batch script of your own as it is",
    "jobs": "list the batch scripts",
    "status": "show the current session",
    "hold": "keep a pilot's job from starting",
    "release": "let a held job wait for its turn again",
    "suspend": "stop a pilot's running job for a while",
    "resume": "let a suspended job go on",
    "tasks": "list tasks",
    "services": "list the services, or say where one is that is no task",
    "nodes": "show the nodes of the pilots",
    "queue": "show what waits, and where the pilots stand in their queues",
    "timeline": "show what ran where and when",
    "usage": "show cores, GPUs and memory busy against those held",
    "export": "write a view to a file: a page (.html) or data (.json)",
    "form": "fill in a form for a pilot at a site",
    "site": "list, show, check, explain, try or add sites",
    "sh": "list the shells on other machines, or close one",
    "tunnel": "make an address that another machine can reach an address here; list or close those open",
    "log": "show what a task wrote",
    "follow": "show what a task writes until it ends",
    "logs": "show what broker and agents log, in order of time",
    "story": "show everything that happened to a task",
    "explain": "say why a task waits",
    "cancel": "cancel tasks, bulks or pilots",
    "wait": "wait until all tasks have ended",
    "sql": "ask the tables tasks, pilots and bulks",
    "detach": "stop following the session; everything goes on",
    "close": "end the session: cancel what is open, end its pilots",
    "doctor": "look at everything that must be right",
    "traceback": "show the last error in full",
    "help": "show this",
}
_CELL = {
    "run": "run the cell as a shell script, as a task",
    "python": "run the cell's Python in a worker",
    "sh": "run the cell in a shell on another machine that keeps directory and variables",
    "script": "submit the cell as a batch script, as it is",
}
JOB_VERBS = ("hold", "release", "suspend", "resume")
UID_VERBS = ("log", "follow", "story", "explain", "cancel")
NAME_VERBS = ("open", "attach")
VIEW_VERBS = ("nodes", "queue", "timeline", "usage")
_FILTERS = {
    "bulk": "only tasks of this submission",
    "pilot": "only tasks on this pilot",
    "cause": "only those that ended for this cause",
    "search": "a text in name, command or failure",
    "sort": "a column, or param:NAME",
}
_WATCH = "to watch: %jrm status, " + ", ".join(("tasks", *VIEW_VERBS))
# Words of other programs, and what to say instead.
_ELSEWHERE = {"monitor": _WATCH, "watch": _WATCH, "view": _WATCH, "submit": "%%jrm run", "kill": "%jrm cancel"}


def _settings(parser: argparse.ArgumentParser, *views: str) -> None:
    """Let a line set what a person can change about a view at its page."""
    known: set[str] = set()
    for each in [control for view in views for control in CONTROLS[view]]:
        name = each.get("field", "")
        if not name or name in known or each["kind"] == "drill":
            continue
        known.add(name)
        if each["kind"] == "choice":
            choices = [value for value, _ in each["choices"] if value] if len(views) == 1 else None
            parser.add_argument(f"--{name}", choices=choices, help=each["label"].lower())
        elif each["kind"] == "slider":
            parser.add_argument(f"--{name}", type=float, help="as it was then, seconds since 1970")
        else:
            parser.add_argument(f"--{name}", help=each.get("hint", "a rack, a node, or the key of a cell"))
    if "tasks" in views:
        for name, text in _FILTERS.items():
            if name not in known:
                parser.add_argument(f"--{name}", help=text)
        parser.add_argument("--order", choices=("asc", "desc"))


def _build(verb: str, cell: bool) -> Parser:
    prog = f"%%jrm {verb}" if cell else f"%jrm {verb}"
    parser = Parser(prog=prog, description=(_CELL if cell else _LINE)[verb], allow_abbrev=False)
    add = parser.add_argument
    if verb in NAME_VERBS:
        add("name", nargs="?" if verb == "open" else None, default="default", help="the session's name")
    elif verb == "pilot":
        add("site", nargs="?", default="local", help="local, noop, or a URL such as slurm+ssh://me@login")
        for option, kind in (("cores", int), ("gpus", int), ("nodes", int)):
            add(f"--{option}", type=kind)
        for option in ("mem", "walltime", "queue", "project", "name", "sandbox", "qos", "reservation", "constraint"):
            add(f"--{option}")
        for option in ("launch", "env", "env-mode", "env-source", "env-base", "env-prefer", "connect", "drain"):
            add(f"--{option}")
        add("--python", help="the interpreter there: a path, a command, or a line such as 'module load python'")
        add("--hook", dest="hooks", action="append", metavar="MOMENT=LINE", help="a shell line run at that moment")
        add("--backup", type=int, help="nodes beyond --nodes that stand in for lost ones")
        add("--renew", type=int, help="how many pilots like it follow, each asked for before the walltime is over")
        add("--partitions", type=int, help="cut its nodes into so many parts; tasks may name one")
        add("--exclusive", action="store_true", default=None, help="share the nodes with nobody")
        add("--set", dest="options", action="append", metavar="NAME=VALUE", help="another attribute of the site")
        add("--wait", action="store_true", help="block until it is active")
    elif verb == "site":
        actions = ("list", "show", "check", "explain", "try", "new", "install", "clean", "schema")
        add("action", nargs="?", default="list", choices=actions)
        add("name", nargs="?", default="", help="a site, a URL, a batch system or a file")
        add("key", nargs="?", default="", help="for explain: such as attributes.queue")
        add("--url", default="", help="for new: such as slurm+ssh://me@login")
        add("--title", default="", help="for new")
        add("--set", dest="options", action="append", default=[], metavar="NAME=VALUE", help="for new: defaults")
        add("--force", action="store_true", help="for new, install: replace a file of that name")
        add("--sha256", default="", help="for install: of the file's bytes, as its publisher states it")
        add("--yes", action="store_true", help="for clean: remove what of ours lies there")
        add("--sandboxes", action="store_true", help="for clean: what tasks left behind too")
    elif verb == "close":
        add("--cleanup", action="store_true", help="remove its files at all sites; what sessions share stays")
        add("--force", action="store_true", help="with --cleanup: although tasks have not ended")
    elif verb == "prepare":
        add_words(parser)
    elif verb == "export":
        add("view", help="tasks, nodes, queue, timeline or usage")
        add("file", help="such as map.html or map.json")
        add("--anonymous", action="store_true", help="other names for people, jobs, tasks, hosts, sites")
        add("--theme", choices=("light", "dark"), default="light")
        add("--state", help="for tasks: only those in this state")
        _settings(parser, "tasks", *VIEW_VERBS)
    elif verb in VIEW_VERBS:
        _settings(parser, verb)
    elif verb == "bundle":
        add("action", choices=("make", "check", "submit"))
        add("file", help="the bundle's file")
        add("--site", default="", help="for make: such as slurm+ssh://me@login")
        add("--force", action="store_true", help="for make: replace a file of that name")
    elif verb == "script":
        add("site", help="such as slurm+ssh://me@login")
        if not cell:
            add("file", help="the script")
        add("--nodes", type=int)
        for option in ("walltime", "queue", "project", "name", "workdir", "stdout", "stderr"):
            add(f"--{option}")
        add("--set", dest="options", action="append", default=[], metavar="NAME=VALUE", help="another attribute")
        if cell:
            add("-o", "--out", default="", help="store the handle under this name")
    elif verb == "form":
        add("site", nargs="?", default="local", help="as for %%jrm pilot")
    elif verb == "sh":
        add("host", nargs=None if cell else "?", default="", help="a site, me@host, an SSH alias, or local")
        if cell:
            add("-o", "--out", default="", help="store what it printed under this name")
        else:
            add("--close", action="store_true", help="end the shell at this host")
            add("--last", action="store_true", help="show all output of the last cell of the shell that stays")
        add("--keep", action="store_true", help="the one that stays there when kernel and connection are gone")
    elif verb == "tasks":
        add("--state", default="", help="only those in this state")
        add("--limit", type=int, default=50)
        _settings(parser, "tasks")
    elif verb == "services":
        elsewhere.add_words(parser)
    elif verb in UID_VERBS:
        add("uid", nargs="*" if verb == "cancel" else None, help="such as t.3.17")
        if verb == "cancel":
            add("--all", action="store_true", help="all tasks of the session that have not ended")
        if verb in ("log", "follow"):
            add("--stderr", action="store_true", help="standard error instead of output")
    elif verb == "logs":
        add("component", nargs="*", help="broker, or pilots such as p.0 (default: all in contact)")
        add("--follow", action="store_true", help="go on as they log, until the cell is interrupted")
        add("--level", default="", help="what they log from now on: DEBUG, INFO, WARNING or ERROR")
    elif verb == "tunnel":
        add("via", nargs="?", default="", help="me@host, a site, or an alias of ~/.ssh/config")
        add("to", nargs="?", default="", help="as seen from there: 8888, n01:8888, or the path of a unix socket")
        add("--port", type=int, default=0, help="of the loopback address here (default: any free one)")
        add("--private", action="store_true", help="a unix socket that only you can open instead")
        add("--close", action="store_true", help="shut the one through VIA to TO, or all")
        add("-o", "--out", default="", help="store it under this name")
    elif verb == "status":
        add("--refresh", action="store_true", help="ask the batch systems now how the pilots stand")
    elif verb in JOB_VERBS:
        add("uid", help="such as p.0")
        parser.set_defaults(verb=verb)
    elif verb == "wait":
        add("--timeout", type=float)
    elif verb == "sql":
        add("query", nargs="+")
    elif verb == "run":
        _resources(parser)
        add("--ranks", type=int, help="number of equal processes")
        add("--env", action="append", default=[], metavar="NAME=VALUE", help="an environment variable")
        add("--after", action="append", default=[], metavar="UID", help="run after this task or bulk is DONE")
        for way, verb_of in (("in", "takes: 'in.dat > x.dat'"), ("out", "gives: 'out.dat > results/'")):
            dest, what = f"{way}put_staging", f"a file it {verb_of}"
            add(f"--stage-{way}", dest=dest, action="append", default=[], metavar="FILE", help=what)
        add("--block", action="store_true", help="wait for its end and show its output")
        add("-o", "--out", default="", help="store the handle under this name")
    elif verb == "python":
        _resources(parser)
        add(
            "-i",
            "--in",
            dest="inputs",
            action="append",
            default=None,
            help="variables that travel (default: those read)",
        )
        add("-o", "--out", dest="outputs", action="append", default=[], help="variables that come back")
        add("--noblock", action="store_true", help="return at once; -o names are set when it has ended")
    return parser


LINE_PARSERS: dict[str, Parser] = {verb: _build(verb, False) for verb in _LINE}
CELL_PARSERS: dict[str, Parser] = {verb: _build(verb, True) for verb in _CELL}


def parse(words: list[str], cell: bool) -> tuple[str, argparse.Namespace]:
    """Return (verb, options).

    Raises:
        RequestError: JRM-Q40, naming what is not understood. HelpAsked: help was asked for.
    """
    parsers = CELL_PARSERS if cell else LINE_PARSERS
    if not words:
        if cell:
            raise RequestError("%%jrm: which verb?", hint="%%jrm run or %%jrm python", code="JRM-Q40")
        words = ["status"]
    verb, rest = words[0], words[1:]
    if verb in ("-h", "--help", "-?") or (verb == "help" and not rest):
        raise HelpAsked(overview())
    if verb == "help":
        verb, rest = rest[0], ["--help"]
        parsers = {**LINE_PARSERS, **CELL_PARSERS}
    if verb not in parsers:
        mark = "%%jrm" if cell else "%jrm"
        other = LINE_PARSERS if cell else CELL_PARSERS
        if verb in other:
            hint = f"{'%jrm' if cell else '%%jrm'} {verb} is the form for {'a line' if cell else 'a whole cell'}"
        else:
            near = difflib.get_close_matches(verb, parsers, 1)
            hint = f"did you mean {near[0]}?" if near else "verbs: " + ", ".join(parsers)
            hint = _ELSEWHERE.get(verb, hint)
        raise RequestError(f"{mark}: no verb {verb!r}", hint=hint, code="JRM-Q40")
    return verb, parsers[verb].parse_args(rest)


def overview() -> str:
    """Return the help of all verbs."""
    lines = ["%jrm VERB [options]       (%jrm help VERB for more)"]
    lines += [f"  %jrm {verb:<10} {text}" for verb, text in _LINE.items()]
    lines += [f"  %%jrm {verb:<9} {text}" for verb, text in _CELL.items()]
    return "\n".join(lines)


def options(verb: str, cell: bool) -> list[str]:
    """Return the options of a verb, for completion."""
    parser = (CELL_PARSERS if cell else LINE_PARSERS).get(verb)
    if parser is None:
        return []
    return [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
