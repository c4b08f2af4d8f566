"""``jrm bundle``, ``jrm script`` and ``jrm jobs``: work that goes in one job, and batch scripts of one's own.

Only words and printing; what is done stands in :mod:`jupyter_rm.client.bundle` and :mod:`jupyter_rm.client.script`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .model.errors import RequestError

if TYPE_CHECKING:
    from .client.session import Session

Parser = argparse.ArgumentParser
Say = Callable[[argparse.Namespace, Any, str], None]
_TEXTS = ("walltime", "queue", "project", "name", "workdir", "stdout", "stderr")


def add_jobs(
    add: Callable[..., Parser], say: Say, shared: Parser, named: Parser, open_session: Callable[..., Session]
) -> None:
    """Give the parser of ``jrm`` the verbs ``bundle``, ``script`` and ``jobs``.

    Args:
        add: makes a verb; say: prints a value; shared, named: options that verbs have in common.
        open_session: returns the session that the options name; ``create=True`` makes it.
    """
    made = add("bundle", lambda options: options.bundle_command(options), "a pilot and its work in one file", shared)
    actions = made.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=type(made))
    for name, text, base in (
        ("make", "write a file to start from", shared),
        ("check", "say what a file holds, or what is wrong in it", shared),
        ("submit", "submit it as one job that needs nobody from then on", named),
    ):
        one = actions.add_parser(name, help=text, description=text, parents=[base])
        one.add_argument("file")
        if name == "make":
            one.add_argument("--site", default="", help="such as slurm+ssh://me@login")
            one.add_argument("--force", action="store_true", help="replace a file of that name")
            one.set_defaults(bundle_command=lambda options: _make(options, say))
        elif name == "check":
            one.set_defaults(bundle_command=lambda options: _check(options, say))
        else:
            one.add_argument("--wait", action="store_true", help="block until all of it has ended")
            one.set_defaults(bundle_command=lambda options: _submit(options, say, open_session))
    made = add("script", lambda options: _script(options, say, open_session), "submit a batch script as it is", named)
    made.add_argument("site", help="such as slurm+ssh://me@login")
    made.add_argument("file", help="the script; - is standard input")
    made.add_argument("--nodes", type=int)
    for option in _TEXTS:
        made.add_argument(f"--{option}")
    made.add_argument(
        "--set", dest="options", action="append", default=[], metavar="NAME=VALUE", help="another attribute of the site"
    )
    made.add_argument("--wait", action="store_true", help="block until it has ended; ends with its exit code")
    add("jobs", lambda options: _jobs(options, say, open_session), "list the batch scripts", named)


def _make(options: argparse.Namespace, say: Say) -> int:
    from .client import bundle

    path = bundle.make(options.file, options.site, options.force)
    say(options, {"file": str(path)}, f"{path}\n  next: edit it; jrm bundle check {path}; jrm bundle submit {path}")
    return 0


def _check(options: argparse.Namespace, say: Say) -> int:
    from .client import bundle

    text = bundle.described(options.file)
    say(options, text.splitlines(), text)
    return 0


def _submit(options: argparse.Namespace, say: Say, open_session: Callable[..., Session]) -> int:
    made = open_session(options, create=True).bundle(Path(options.file))
    if options.wait and made.wait():
        made.pilot.wait("DONE")  # its job ends by itself a moment after its last task
    counts = made.counts()
    told = {"pilot": made.pilot.uid, "state": str(made.pilot.state), "tasks": counts, "reason": made.pilot.reason}
    say(options, told, repr(made))
    return 1 if made.pilot.state == "FAILED" or counts.get("FAILED") else 0


def _script(options: argparse.Namespace, say: Say, open_session: Callable[..., Session]) -> int:
    pairs = [each.partition("=") for each in options.options]
    wrong = [each[0] for each in pairs if not each[1] or not each[0]]
    if wrong:
        raise RequestError(f"--set: {wrong[0]!r} is not NAME=VALUE", hint="--set qos=high", code="JRM-Q40")
    given = {name: getattr(options, name) for name in ("nodes", *_TEXTS) if getattr(options, name) is not None}
    given |= {name: value for name, _, value in pairs}
    script: Any = sys.stdin.buffer.read() if options.file == "-" else Path(options.file)
    job = open_session(options, create=True).script(options.site, script, **given)
    if options.wait:
        job.wait()
    say(options, job.as_dict(), repr(job))
    if not options.wait:
        return 0
    code = job.exit_code
    return (code if code is not None and 0 < code < 124 else 1) if job.state != "DONE" else 0


def _jobs(options: argparse.Namespace, say: Say, open_session: Callable[..., Session]) -> int:
    found = open_session(options).jobs()
    say(options, [job.as_dict() for job in found], repr(found))
    return 0
