"""Environments of tasks for clients, made at a pilot's site through the login that is there.

What the client resolved is sent and installed (:mod:`jupyter_rm.runtime.bootstrap.prepared`); this only finds out which
machine, interpreter and directory a pilot means. On this machine the same, without a login. Blocks; knows no tasks.
Read next: :mod:`jupyter_rm.client.prepared`.
"""

from __future__ import annotations

import json
import sys

import msgspec

from ..batch import recognise
from ..core.session import SITES
from ..model.errors import RequestError, SiteError
from ..model.facts import PilotSpec
from ..model.messages import MoveFiles
from ..runtime.bootstrap import survey
from ..runtime.bootstrap.lock import Python, Wheel
from ..runtime.bootstrap.prepared import install, interpreter
from ..runtime.connect import Connections, Nobody, Target
from .sites import AUTO, SiteName, completed, description_of, parse, search_path

LOOK, MAKE = "python", "environment"
WORDS = (LOOK, MAKE)


class Order(msgspec.Struct, frozen=True):
    """What is to be made: its name, the interpreter, the wheels resolved for that, and the pip that installs them."""

    name: str
    python: Python
    lock: list[Wheel]
    pip: Wheel


def carry_out(connections: Connections, spec: PilotSpec, asked: MoveFiles) -> tuple[str, ...]:
    """Say which interpreter environments at a pilot's site are made with, or make one; JSON.

    Raises:
        SiteError, LinkError: it cannot be done there now. RequestError: JRM-Q19, no order.
    """
    here = spec.site in SITES
    name = SiteName(spec.site, Target(""), "") if here else parse(spec.site)
    connection = connections.get(name.target, Nobody())
    facts = survey(connection)
    if here:
        whole = spec if spec.python else msgspec.structs.replace(spec, python=getattr(sys, "_base_executable", ""))
    else:
        found = recognise(facts.commands, search_path())[:1] if name.system == AUTO else (name.system,)
        if not found:
            raise SiteError(
                f"{facts.host}: no batch system was recognised there",
                code="JRM-S33",
                hint="name it (slurm+ssh://...), or use ssh:// to run on that machine itself",
            )
        whole = completed(spec, description_of(found[0]), name)
    if asked.what == LOOK:
        python = interpreter(connection, facts, whole.python)
        return (json.dumps({**msgspec.to_builtins(python), "host": facts.host}),)
    try:
        order = msgspec.json.decode(asked.sources[0], type=Order)
    except (msgspec.MsgspecError, IndexError) as error:
        raise RequestError(f"environment: {error}", hint="use s.prepare_env()", code="JRM-Q19") from None
    made = install(connection, facts, whole.env_base, order.name, order.python, order.lock, order.pip)
    return (json.dumps(made),)
