"""``python -m jupyter_rm.simbatch --at sim://NAME VERB``: the batch system by hand, and as ``sim.toml`` calls it.

``--at`` is a cluster's URL, or its directory. ``fail NODE`` and ``repair NODE`` are for those who want to see what a
lost node does. Read next: :mod:`.commands`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from ..model.errors import JrmError
from . import commands, control, launcher
from .named import SCHEME, parse, prepare
from .store import Store

_JOBS: dict[str, Callable[[Store, argparse.Namespace], None]] = {
    "cancel": commands.each(commands.cancel),
    "hold": commands.each(commands.hold),
    "release": commands.each(commands.release),
    "suspend": commands.each(commands.suspend),
    "resume": commands.each(commands.resume),
}
_PLAIN: dict[str, Callable[[Store, argparse.Namespace], None]] = {
    "nodes": commands.nodes,
    "queues": commands.queues,
    "projects": commands.projects,
}


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="simbatch", description="a small batch system on virtual nodes of this machine")
    made.add_argument("--at", required=True, help="sim://NAME, or a directory")
    verbs = made.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("submit")
    for name in ("name", "token", "project", "spec"):
        one.add_argument(f"--{name}", default="")
    one.add_argument("--queue", default="batch")
    one.add_argument("--nodes", type=int, default=1)
    one.add_argument("--cores", type=int, default=1)
    one.add_argument("--time", type=float, default=0.0)
    for name in ("exclusive", "hold", "requeue", "no-kill"):
        one.add_argument(f"--{name}", action="store_true")
    one.add_argument("--workdir", default="/")
    one.add_argument("--stdout", default="/dev/null")
    one.add_argument("--stderr", default="/dev/null")
    one.add_argument("script")
    one.set_defaults(do=commands.submit)
    one = verbs.add_parser("list")
    one.add_argument("--ids", default="")
    one.add_argument("--user", default="")
    one.set_defaults(do=commands.listed)
    one = verbs.add_parser("ended")
    one.add_argument("ids", type=int, nargs="*")
    one.set_defaults(do=commands.ended)
    for name, act in _JOBS.items():
        one = verbs.add_parser(name)
        one.add_argument("ids", type=int, nargs="+")
        one.set_defaults(do=act)
    for name, act in _PLAIN.items():
        verbs.add_parser(name).set_defaults(do=act)
    one = verbs.add_parser("fail")
    one.add_argument("nodes", nargs="+")
    one.add_argument("--why", default="it failed")
    one.set_defaults(do=commands.fail)
    one = verbs.add_parser("repair")
    one.add_argument("nodes", nargs="+")
    one.set_defaults(do=commands.repair)
    one = verbs.add_parser("run")
    one.add_argument("--node", default="")
    one.add_argument("--ranks", type=int, default=0)
    one.set_defaults(do=launcher.run)
    verbs.add_parser("control").set_defaults(do=lambda store, _: control.main(store))
    verbs.add_parser("version").set_defaults(do=lambda _, __: _version())
    return made


def _version() -> None:
    from .. import __version__

    sys.stdout.write(f"simbatch {__version__}\n")


def place_of(text: str) -> Path:
    """Return the directory of a cluster; one that a URL names is made when it is not there.

    Raises:
        RequestError: the URL is wrong, or the directory is not private.
    """
    if not text.startswith(f"{SCHEME}://"):
        return Path(text)
    from ..runtime.home import Home, private_directory

    wanted = parse(text.partition("://")[2])
    place = private_directory(private_directory(Home.locate().state / SCHEME) / wanted.name)
    prepare(place, wanted)
    return place


def main(argv: list[str] | None = None) -> int:
    """Run one program; returns the exit code."""
    words = sys.argv[1:] if argv is None else argv
    # Words of a program that is to be run are its own, whatever they look like.
    cut = words.index("--") if "--" in words else len(words)
    asked = _parser().parse_args(words[:cut])
    asked.argv = words[cut + 1 :]
    try:
        asked.do(Store(place_of(asked.at)), asked)
    except (commands.Refused, JrmError) as error:
        sys.stderr.write(f"simbatch: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
