"""``jrm tunnel``: an address that another machine can reach as an address here, until Ctrl-C.

Only words and printing; what is done stands in :mod:`jupyter_rm.client.tunnel`.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from typing import Any

Parser = argparse.ArgumentParser
Say = Callable[[argparse.Namespace, Any, str], None]


def add_tunnel(add: Callable[..., Parser], say: Say, shared: Parser) -> None:
    """Give the parser of ``jrm`` the verb ``tunnel``; ``add`` makes a verb, ``say`` prints a value."""
    made = add(
        "tunnel", lambda options: _tunnel(options, say), "make an address there an address here, until Ctrl-C", shared
    )
    made.add_argument("via", help="me@host, a site, an alias of ~/.ssh/config, or a URL ssh://me@host:port")
    made.add_argument("to", help="as seen from there: 8888, n01:8888, or the path of a unix socket")
    made.add_argument("--port", type=int, default=0, help="of the loopback address here (default: any free one)")
    made.add_argument("--private", action="store_true", help="a unix socket that only you can open instead")


def _tunnel(options: argparse.Namespace, say: Say) -> int:
    from .client.tunnel import tunnel

    with tunnel(options.via, options.to, port=options.port, private=options.private) as door:
        told = {"via": door.via, "to": door.to, "host": door.host, "port": door.port, "path": door.path}
        say(options, told, f"{door.path or f'{door.host}:{door.port}'} -> {door.to} through {door.via}; Ctrl-C ends it")
        sys.stdout.flush()
        try:
            _until_told()
        except KeyboardInterrupt:
            return 0
    return 0


def _until_told() -> None:
    """Block until Ctrl-C or an order to end."""

    def end(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    while True:
        signal.pause()
