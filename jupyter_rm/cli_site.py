"""``jrm site``: what sites there are, whether a file is right, where a value came from, a new one, trying, cleaning.

Only words and printing; what is done stands in :mod:`jupyter_rm.client.sites`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from .model.errors import RequestError

Parser = argparse.ArgumentParser
Say = Callable[[argparse.Namespace, Any, str], None]


def add_site(add: Callable[..., Parser], say: Say, shared: Parser) -> None:
    """Give the parser of ``jrm`` the verb ``site``; ``add`` makes a verb, ``say`` prints a value."""
    made = add(
        "site",
        lambda options: options.site_command(options, say),
        "sites: list, show, check, explain, new, install, try, clean, collect, schema",
        shared,
    )
    actions = made.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=type(made))
    for name, command, text in (
        ("list", _list, "the sites there are"),
        ("show", _show, "what a site is and what can be asked of it"),
        ("check", _check, "say what is wrong with a site file"),
        ("explain", _explain, "where each value of a site came from"),
        ("new", _new, "write a site file; asks for what is not given"),
        ("install", _install, "take a site file from a URL or path; a URL needs its SHA-256"),
        ("try", _try, "log in and look at the batch system; submits nothing"),
        ("clean", _clean, "say what of jupyter_rm lies in the account there; with --yes remove it"),
        ("collect", _collect, "look at the batch system once, for all users: what an administrator's cron runs"),
        ("schema", _schema, "print the JSON Schema of site files, for editors"),
    ):
        one = actions.add_parser(name, help=text, description=text, parents=[shared])
        one.set_defaults(site_command=command)
        if name in ("show", "explain", "try", "clean", "collect"):
            one.add_argument("name", help="a site, a URL or a batch system")
        if name == "check":
            one.add_argument("file")
        if name == "explain":
            one.add_argument("key", nargs="?", default="", help="such as attributes.queue; * is allowed")
        if name == "install":
            one.add_argument("source", help="https://... or a path")
            one.add_argument("--sha256", default="", help="of its bytes, as its publisher states it")
            one.add_argument("--name", default="", help="of the site here (default: the file's)")
            one.add_argument("--force", action="store_true", help="replace a file of that name")
        if name == "collect":
            text = "a file here, - for standard output (default: the directory of [collect] shared in the site's file)"
            one.add_argument("--to", default="", metavar="FILE", help=text)
        if name == "clean":
            one.add_argument("--yes", action="store_true", help="remove it")
            one.add_argument("--sandboxes", action="store_true", help="what tasks left behind too")
        if name == "new":
            one.add_argument("name", nargs="?")
            one.add_argument("--url", help="such as slurm+ssh://me@login")
            one.add_argument("--title")
            one.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="what pilots ask for")
            one.add_argument("--force", action="store_true", help="replace a file of that name")


def _list(options: argparse.Namespace, say: Say) -> int:
    from .client import sites

    found = sites.listing()
    say(options, [sites.as_json(one) for one in found], repr(found))
    return 0


def _show(options: argparse.Namespace, say: Say) -> int:
    from .client import sites

    say(options, sites.facts_of(options.name), sites.shown(options.name))
    return 0


def _check(options: argparse.Namespace, say: Say) -> int:
    from .client import sites

    found = sites.check(options.file)
    say(options, [sites.as_json(one) for one in found], repr(found))
    return 1 if found else 0


def _explain(options: argparse.Namespace, say: Say) -> int:
    from .client import sites

    say(options, sites.origins(options.name, options.key), sites.explain(options.name, options.key))
    return 0


def _new(options: argparse.Namespace, say: Say) -> int:
    from .client import sites

    defaults = sites.given(options.set)
    name, url, title = options.name, options.url, options.title or ""
    if not name or not url:
        given = {key: value for key, value in (("name", name), ("url", url), ("title", options.title)) if value}
        name, url, title, defaults = sites.guide(_ask, _tell, {**given, "defaults": defaults})
    path = sites.new(name, url, title, defaults, options.force)
    say(options, {"name": name, "file": str(path)}, f"{path}\n  next: jrm site try {name}; jrm pilot {name}")
    return 0


def _install(options: argparse.Namespace, say: Say) -> int:
    from .client import sitecare

    path = sitecare.install(options.source, options.sha256, options.name, options.force)
    say(options, {"name": path.stem, "file": str(path)}, f"{path}\n  next: jrm site try {path.stem}")
    return 0


def _clean(options: argparse.Namespace, say: Say) -> int:
    from .client import sitecare

    found = sitecare.clean(options.name, options.yes, options.sandboxes)
    told = {"host": found.host, "mib": found.parts, "running": found.running, "removed": found.removed}
    more = "" if found.removed or not found.parts else f"\n  next: jrm site clean {options.name} --yes"
    say(options, told, repr(found) + more)
    return 0


def _collect(options: argparse.Namespace, say: Say) -> int:
    from .client import sitecollect

    made = sitecollect.collect(options.name, options.to)
    told = {"to": made.to, "records": made.records, "failures": made.failures}
    if options.to != "-":
        say(options, told, repr(made))
    elif made.failures:
        _tell(repr(made))
    return 3 if made.failures else 0


def _schema(options: argparse.Namespace, say: Say) -> int:
    import json

    from .batch.schema import site_schema

    say(options, site_schema(), json.dumps(site_schema(), indent=1))
    return 0


def _ask(question: str) -> str:
    sys.stderr.write(f"{question}\n> ")
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise RequestError("the answers ended", hint="jrm site new NAME --url URL", code="JRM-Q40")
    return line


def _tell(text: str) -> None:
    sys.stderr.write(text + "\n")


def _try(options: argparse.Namespace, say: Say) -> int:
    from .client import sites
    from .client.doctor import Findings

    found = Findings()
    for finding in sites.attempt(options.name):
        found.append(finding)
        if not options.json:
            say(options, None, str(finding))
    if options.json:
        say(options, [sites.as_json(one) for one in found], "")
    return 0 if found.ok else 3
