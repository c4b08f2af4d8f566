"""One collection of a site, made once: what an administrator's cron job runs.

It asks for the queue, the nodes and the queues, one command each, and writes the document that brokers read. Read next:
``docs/collect.md``, :mod:`jupyter_rm.runtime.collect_shared`.
"""

from __future__ import annotations

import html
import os
import secrets
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..batch import BatchError, recognise
from ..batch.document import Part, Refused, Told, write
from ..broker.sites import AUTO, PLAIN, description_of, parse, search_path
from ..model.errors import RequestError, SiteError
from ..runtime.batchsite import BatchSite
from ..runtime.bootstrap import SiteFacts, survey
from ..runtime.collect_shared import SharedPlace
from ..runtime.connect import Asker, Connection, ConnectSettings, connect
from .sites import Person, _settings, home


@dataclass(frozen=True)
class Collection:
    """What was collected and where it went; shows itself.

    Attributes:
        to: a directory at the site, a file here, or ``-``: standard output. records: how many, by part.
        failures: by part, why it was not collected. document: the bytes that were written.
    """

    to: str
    records: dict[str, int]
    failures: dict[str, str] = field(default_factory=dict)
    document: bytes = b""

    def __repr__(self) -> str:
        told = ", ".join(f"{part}: {count}" for part, count in self.records.items())
        return "\n".join([f"{self.to}: {told}", *(f"  {part}: {why}" for part, why in self.failures.items())])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": f"<pre>{html.escape(repr(self))}</pre>"}


def collect(site: str, to: str = "", asker: Asker | None = None, settings: ConnectSettings | None = None) -> Collection:
    """Ask the batch system of a site once for queue, nodes and queues, and write the document of it.

    Args:
        site: its name or URL; ``slurm://`` is the batch system of this machine. to: a file here (``-``: standard
            output); empty: the directory that the site's file names in ``[collect] shared``.

    Raises:
        RequestError: JRM-Q40, it is not said where to. SiteError: JRM-S39, nothing was collected, or it cannot be
        written. LinkError: the login failed.
    """
    place = parse(site)
    with connect(place.target, asker or Person(), settings or _settings()) as connection:
        facts = survey(connection)
        name = place.system if place.system != AUTO else next(iter(recognise(facts.commands, search_path())), PLAIN)
        if name == PLAIN:
            raise RequestError(f"{site}: there is no batch system", hint="jrm site list", code="JRM-Q40")
        system = description_of(name)
        said = system.table("collect")
        if not to and not said.get("shared"):
            hint = "--to FILE, or a directory for all users in its file: [collect] shared"
            raise RequestError(f"to: {site} does not say where its collection lies", hint=hint, code="JRM-Q40")
        variables = place.variables(facts, home())
        batch = BatchSite(connection, system, facts.user, float(facts.utc_offset_s), variables)
        parts, failures = _asked(batch, _now(connection))
        if not parts:
            why = "; ".join(f"{part}: {text}" for part, text in failures.items())
            raise SiteError(f"{site}: nothing was collected: {why}", hint=f"jrm site try {site}", code="JRM-S39")
        try:
            body = write(parts)
        except Refused as error:
            raise SiteError(f"{site}: its document is too large: {error}", code="JRM-S39") from None
        if to:
            _written(to, body)
        else:
            _given(connection, facts, said, parts)
        counts = {str(part): len(told.records) for part, told in parts.items()}
        return Collection(to or f"{connection.name}:{said['shared']}", counts, failures, body)


def _asked(batch: BatchSite, now: float) -> tuple[dict[Part, Told], dict[str, str]]:
    parts: dict[Part, Told] = {}
    failures: dict[str, str] = {}
    for part in ("queue", "nodes", "queues"):
        if not batch.can(part):
            continue
        try:
            if part == "queue":
                line = batch.queue()
                parts["queue"] = Told(now, (*line.mine, *line.others), line.whole)
            else:
                parts[part] = Told(now, tuple(batch.nodes() if part == "nodes" else batch.queues()))
        except BatchError as error:
            failures[part] = error.message
    return parts, failures


def _now(connection: Connection) -> float:
    """Return the time there: readers compare it with their site's clock."""
    text = connection.run(["date", "+%s"]).text.strip()
    if not text.isdigit():
        raise SiteError(f"{connection.name}: date +%s says {text[:40]!r}", hint="a POSIX date", code="JRM-S39")
    return float(text)


def _given(connection: Connection, facts: SiteFacts, said: Any, parts: dict[Part, Told]) -> None:
    pythons = [facts.linked, *(path for path, _ in facts.pythons), "python3"]
    shared = SharedPlace(connection, said["shared"], said.get("owner", ""), next(filter(None, pythons)))
    for part, told in parts.items():
        if trouble := shared.give(part, told):
            raise SiteError(
                f"{connection.name}: {part} cannot be shared: {trouble}",
                hint=f"look there: ls -ld {said['shared']}",
                code="JRM-S39",
            )


def _written(to: str, body: bytes) -> None:
    """Write a file that everybody may read: the old one or the new one is there, never a part."""
    if to == "-":
        sys.stdout.buffer.write(body + b"\n")
        sys.stdout.buffer.flush()
        return
    goal = Path(to).expanduser()
    part = goal.with_name(f".{goal.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(body)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        part.replace(goal)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise SiteError(f"{to}: {error.strerror}", hint="choose a place that can be written", code="JRM-S39") from None
