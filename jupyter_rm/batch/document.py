"""The document of a collection that many share: what a site's queue, nodes and queues looked like, as bounded JSON.

One format for all: files in a directory of the site, and what a URL serves. It is data of others: everything in it has
a limit, unknown fields and signs that cannot be seen are refused, and no job in it is ever over. Pure: bytes to records
and back. Its fields are listed in ``docs/collect.md``. Read next: :mod:`jupyter_rm.runtime.collect_shared`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from .records import DETAILS, JobRecord, JobState, NodeRecord, QueueRecord

FORMAT = 1
MOST_BYTES = 16 << 20
MOST_JOBS, MOST_NODES, MOST_QUEUES = 100_000, 50_000, 2_000
WORD, TEXT = 256, 1000

Part = Literal["queue", "nodes", "queues"]

_Name = Annotated[str, Meta(min_length=1, max_length=WORD)]
_Word = Annotated[str, Meta(max_length=WORD)]
_Text = Annotated[str, Meta(max_length=TEXT)]
_Seconds = Annotated[float, Meta(ge=0, le=1e11)]
_Count = Annotated[int, Meta(ge=0, le=1 << 40)]
_Real = Annotated[float, Meta(ge=-1e15, le=1e15)]


class JobLine(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A job that waits or runs, without its name, paths and comment."""

    id: _Name
    state: Literal["queued", "running", "unknown"]
    detail: _Word = ""
    raw_state: _Word = ""
    reason: _Text = ""
    reason_text: _Text = ""
    queue: _Word = ""
    position: _Count | None = None
    priority: _Real | None = None
    submit: _Seconds | None = None
    start: _Seconds | None = None
    estimate: _Seconds | None = None
    ends_by: _Seconds | None = None
    limit_s: _Seconds | None = None
    nodes: Annotated[tuple[_Name, ...], Meta(max_length=MOST_NODES)] = ()
    user: _Word = ""


class NodeLine(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A node."""

    name: _Name
    state: Literal["free", "busy", "mixed", "offline", "unknown"] = "unknown"
    raw_state: _Word = ""
    cores: _Count | None = None
    mem_mib: _Count | None = None
    gpus: _Count | None = None
    load: _Real | None = None
    reason: _Text = ""
    queues: Annotated[tuple[_Name, ...], Meta(max_length=MOST_QUEUES)] = ()


class QueueLine(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A queue with its limits."""

    name: _Name
    open: bool = True
    default: bool = False
    max_walltime_s: _Seconds | None = None
    max_nodes: _Count | None = None
    nodes: _Count | None = None
    cores_per_node: _Count | None = None
    mem_mib: _Count | None = None
    running: _Count | None = None
    queued: _Count | None = None


class Jobs(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everybody's jobs at ``at``, seconds since 1970; ``whole``: none was left out."""

    at: _Seconds
    jobs: Annotated[tuple[JobLine, ...], Meta(max_length=MOST_JOBS)]
    whole: bool = True


class Nodes(Struct, frozen=True, forbid_unknown_fields=True):
    """The nodes at ``at``, seconds since 1970."""

    at: _Seconds
    nodes: Annotated[tuple[NodeLine, ...], Meta(max_length=MOST_NODES)]


class Queues(Struct, frozen=True, forbid_unknown_fields=True):
    """The queues at ``at``, seconds since 1970."""

    at: _Seconds
    queues: Annotated[tuple[QueueLine, ...], Meta(max_length=MOST_QUEUES)]


class Document(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The whole of it; a part that was not collected is left out."""

    format: Literal[1]
    queue: Jobs | None = None
    nodes: Nodes | None = None
    queues: Queues | None = None


class Refused(ValueError):
    """A document that is not believed; the text says why, and holds nothing of its content."""


@dataclass(frozen=True)
class Told:
    """One part: heard at ``at`` (seconds since 1970 by the clock there), its records, and whether none was left out."""

    at: float
    records: tuple[Any, ...]
    whole: bool = True


def write(parts: Mapping[Part, Told]) -> bytes:
    """Return the document of some parts; what would not be read again is left out or made plain.

    Raises:
        Refused: it would be larger than a reader takes.
    """
    made: dict[str, Any] = {}
    for part, told in parts.items():
        if part == "queue":
            alive = [job for job in told.records if not job.state.final]
            lines = tuple(_job(job) for job in alive[:MOST_JOBS])
            made[part] = Jobs(told.at, lines, told.whole and len(alive) <= MOST_JOBS)
        elif part == "nodes":
            made[part] = Nodes(told.at, tuple(_plain(NodeLine, one) for one in told.records[:MOST_NODES]))
        else:
            made[part] = Queues(told.at, tuple(_plain(QueueLine, one) for one in told.records[:MOST_QUEUES]))
    body = msgspec.json.encode(Document(1, **made))
    if len(body) > MOST_BYTES:
        raise Refused(f"{len(body) >> 20} MiB; the limit is {MOST_BYTES >> 20} MiB")
    return body


def read(body: bytes) -> dict[Part, Told]:
    """Return the parts of a document.

    Raises:
        Refused: it is too large, no document of this format, or holds what cannot be shown.
    """
    if len(body) > MOST_BYTES:
        raise Refused(f"larger than {MOST_BYTES >> 20} MiB")
    try:
        said = msgspec.json.decode(body, type=Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(f"no document of format {FORMAT}: {_shown(str(error))}") from None
    out: dict[Part, Told] = {}
    if said.queue is not None:
        jobs = {line.id: _as_job(line) for line in said.queue.jobs}
        out["queue"] = Told(said.queue.at, tuple(jobs.values()), said.queue.whole)
    if said.nodes is not None:
        nodes = {line.name: _as(NodeRecord, line) for line in said.nodes.nodes}
        out["nodes"] = Told(said.nodes.at, tuple(nodes.values()))
    if said.queues is not None:
        queues = {line.name: _as(QueueRecord, line) for line in said.queues.queues}
        out["queues"] = Told(said.queues.at, tuple(queues.values()))
    return out


def _as_job(line: JobLine) -> JobRecord:
    if line.detail and line.detail not in DETAILS:
        raise Refused("a job in a state that does not exist")
    fields = {**_seen(line), "state": JobState(line.state)}
    return JobRecord(**fields)


def _as(kind: type[Any], line: Struct) -> Any:
    return kind(**_seen(line))


def _seen(line: Struct) -> dict[str, Any]:
    fields = msgspec.structs.asdict(line)
    for name, value in fields.items():
        texts: Iterable[Any] = (value,) if isinstance(value, str) else value if isinstance(value, tuple) else ()
        if not all(text.isprintable() for text in texts):
            raise Refused(f"{name}: signs that cannot be seen")
    return fields


def _job(job: JobRecord) -> JobLine:
    line: JobLine = _plain(JobLine, job, state=job.state.value)
    return line


def _plain(kind: type[Any], record: Any, **given: Any) -> Any:
    """Return the line of a record, every value of it such that a reader takes it."""
    fields = dict(given)
    for name in kind.__struct_fields__:
        if name in given:
            continue
        value = getattr(record, name)
        if isinstance(value, str):
            value = _shown(value)[: TEXT if name in ("reason", "reason_text") else WORD]
        elif isinstance(value, tuple):
            value = tuple(_shown(text)[:WORD] for text in value if text)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            real = name in ("load", "priority")
            fits = math.isfinite(value) and (abs(value) <= 1e15 if real else 0 <= value <= 1e11)
            value = value if fits else None
        fields[name] = value
    return kind(**fields)


def _shown(text: str) -> str:
    return text if text.isprintable() else "".join(sign if sign.isprintable() else "?" for sign in text)
