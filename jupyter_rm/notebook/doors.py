"""``%jrm tunnel``, ``%jrm sh HOST --last``, ``%jrm site install|clean|schema``: doors to other machines, from a line.

Read next: :mod:`jupyter_rm.client.tunnel`, :mod:`.kept`.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from typing import Any

from ..batch.schema import site_schema
from ..client import sitecare
from ..client.show import Text
from ..client.tunnel import Tunnel, tunnel
from ..model.errors import RequestError
from .asking import Desk
from .kept import KeptShell

CARE = ("install", "clean", "schema")


def care(options: Namespace) -> Any:
    """Do what ``%jrm site`` install, clean or schema says.

    Raises:
        RequestError: no name, or what :mod:`jupyter_rm.client.sitecare` refuses. LinkError: the login failed.
    """
    if options.action == "schema":
        return Text(json.dumps(site_schema(), indent=1))
    if not options.name:
        hint = "https://... --sha256 HASH" if options.action == "install" else "NAME"
        raise RequestError("name: missing", hint=f"%jrm site {options.action} {hint}", code="JRM-Q40")
    if options.action == "install":
        path = sitecare.install(options.name, options.sha256, options.key, options.force)
        return Text(f"{path}; next: %jrm site try {path.stem}")
    desk = Desk()
    return desk.during(lambda: sitecare.clean(options.name, options.yes, options.sandboxes, desk))


def tunnels(known: list[Tunnel], options: Namespace, space: dict[str, Any]) -> Any:
    """Do what a line says; ``known`` are those open here and changes with it.

    Raises:
        RequestError: an address is missing or none. LinkError: the login failed.
    """
    if options.close:
        meant = [one for one in known if options.via in ("", one.via) and options.to in ("", one.to)]
        for one in meant:
            one.close()
            known.remove(one)
        return Text("\n".join(map(repr, meant)) or "no such tunnel")
    if not options.via:
        return Text("\n".join(map(repr, known)) or "no tunnels; %jrm tunnel HOST PORT opens one")
    if not options.to:
        raise RequestError("%jrm tunnel: where to?", hint=f"%jrm tunnel {options.via} n01:8888", code="JRM-Q40")
    desk = Desk()
    made: Tunnel = desk.during(
        lambda: tunnel(options.via, options.to, port=options.port, private=options.private, asker=desk)
    )
    known.append(made)
    if options.out:
        space[options.out] = made
    return made


def kept(shell: KeptShell, options: Namespace) -> Text:
    """Show the last cell's output of a shell that stays (``--last``), or end it (``--close``).

    Raises:
        RequestError: no cell has run. LinkError: the host or the shell is gone.
    """
    if options.close:
        shell.end()
        return Text(f"the shell that stays at {shell.target} was ended, and what ran in it")
    code = shell.last(sys.stdout.write, sys.stderr.write)
    return Text(f"exit code {code} at {shell.target}" if code else "")
