"""What may be believed of a message whose types are right: indices that exist, arrays that fit, numbers within bounds.

A message that passed the decoder can still name tasks that are not there. Everything is checked here before any of it
becomes a fact, because a fact that cannot be folded would end this life of the broker and every later one. What a
client says wrongly is its :class:`RequestError`; what an agent says wrongly is a :class:`ProtocolError`. Knows the
ledger, decides nothing. Read next: :mod:`jupyter_rm.core.session` and :mod:`jupyter_rm.core.hearing`, who ask.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Iterable, Sequence

from ..model import service
from ..model.columns import Picks
from ..model.describe import MODES, Template, causes
from ..model.errors import ProtocolError, RequestError
from ..model.facts import Ends, PilotSpec
from ..model.ids import check_name
from ..model.late import capability_names
from ..model.ledger import Ledger
from ..model.messages import (
    Ended,
    Goodbye,
    Inventory,
    Message,
    Returned,
    Serving,
    Staged,
    Staging,
    Started,
    Stock,
    Submit,
)
from ..model.resources import Node, Request
from ..model.staging import check as check_directive
from ..model.states import Cause, TaskState
from ..model.units import GPU_UNIT

# The placement core's limits.
NODES_MOST, CORES_MOST, GPUS_MOST, PARTITIONS_MOST, RANKS_MOST = 65_536, 512, 64, 4096, 1 << 24
SCRIPT_MOST = 1 << 20  # bytes
_U32 = 1 << 32
_CAUSES = frozenset(map(int, Cause))
_ENDS = frozenset({int(TaskState.DONE), int(TaskState.FAILED), int(TaskState.CANCELED)})
_WIDTHS = (
    ("cause", 1), ("code", 4), ("node", 4), ("started", 8), ("ended", 8), ("user", 4), ("sys", 4), ("rss", 4),
)  # fmt: skip


def check_tasks(ledger: Ledger, bulk: int, picks: Picks, field: str = "") -> None:
    """Refuse tasks that are not there (RequestError JRM-Q12)."""
    prefix = f"{field}: " if field else ""
    if not 0 <= bulk < len(ledger.bulks):
        raise RequestError(f"{prefix}there is no bulk {bulk}", hint="see s.tasks()", code="JRM-Q12")
    count = len(ledger.bulks[bulk])
    try:
        picks.check(count)
    except ValueError as error:
        raise RequestError(
            f"{prefix}bulk {bulk} has {count} tasks: {error}", hint="see s.tasks()", code="JRM-Q12"
        ) from None


# ---------------------------------------------------------------- what clients ask


def check_submit(message: Submit) -> None:
    """Refuse a bulk whose parts do not fit together (RequestError)."""
    if message.count < 1 or message.count > 2**31:
        raise RequestError(f"count: {message.count} tasks", hint="give 1 to 2,147,483,648", code="JRM-Q11")
    columns = dict(message.columns)
    if message.template.mode == "call":
        if message.payload is None or message.payload.kind != "bytes":
            raise RequestError(
                "payload: one per call is needed", hint="submit calls through s.call or s.map", code="JRM-Q11"
            )
        columns["payload"] = message.payload
    for name, column in columns.items():
        if len(column) != message.count:
            raise RequestError(
                f"{name}: {len(column)} values for {message.count} tasks", hint="give one value a task", code="JRM-Q11"
            )
        try:
            column.check()
        except ValueError as error:
            raise RequestError(f"{name}: {error}", hint="give one value a task", code="JRM-Q11") from None
    for sha256, body in message.functions.items():
        if hashlib.sha256(body).digest() != sha256:
            raise RequestError("function: its body is another one", hint="submit it again", code="JRM-Q11")
    check_template(message.template)


def check_bundle(work: Sequence[Submit], function: Callable[[bytes], bytes | None]) -> None:
    """Refuse a bundle that cannot run on its own (RequestError); ``function`` returns a function that is known here."""
    if not work:
        raise RequestError("work: there is none", hint="give tasks, arrays or calls", code="JRM-Q27")
    brought = {sha for each in work for sha in each.functions}
    for number, each in enumerate(work):
        check_submit(each)
        template = each.template
        if template.mode == "call" and template.function not in brought and function(template.function) is None:
            raise RequestError(
                "function: its body is not known here", hint="submit it again", code="JRM-Q16", retry=True
            )
        serving = (("service", template.service), ("services", template.services))
        pause = ("retry_delay", template.retry_delay)
        for field, given in (("after", each.after), ("pilot", template.pilot), pause, *serving):
            if given:
                raise RequestError(
                    f"work[{number}].{field}: nobody is there to see to that while a bundle runs",
                    hint=f"leave {field} out, or use s.pilot and s.submit",
                    code="JRM-Q27",
                )


@functools.lru_cache(16)  # one call after the other comes with the same description; a refusal is not kept
def check_template(template: Template) -> None:
    """Refuse a description that no agent could carry out (RequestError JRM-Q05)."""
    _must(template.mode in MODES, "mode", template.mode)
    _must(template.restart in ("lost", "never"), "restart", template.restart)
    _must(template.on_silence in ("wait", "rerun"), "on_silence", template.on_silence)
    _must(math.isfinite(template.timeout) and template.timeout >= 0, "timeout", template.timeout)
    _must(0 <= template.retries <= 1000, "retries", template.retries)
    _must(math.isfinite(template.retry_delay) and template.retry_delay >= 0, "retry_delay", template.retry_delay)
    causes(template.retry_on, "retry_on")
    _must(-(2**15) <= template.priority < 2**15, "priority", template.priority)
    _must(-1 <= template.partition < 2**16, "partition", template.partition)
    _must(math.isfinite(template.startup_timeout) and template.startup_timeout >= 0, "startup_timeout", "no time")
    if template.services:
        service.names(template.services, "services")
    if template.service:
        _must(template.mode != "call", "service", template.mode)
        service.pattern(template.ready, "ready")
    for field, given in (("input_staging", template.input_staging), ("output_staging", template.output_staging)):
        if given and template.mode == "call":
            raise RequestError(f"{field}: not for a Python call", hint="run a program, or s.stage()", code="JRM-Q90")
        for at, one in enumerate(given):
            check_directive(one, f"{field}[{at}]", out=field == "output_staging")
    if template.exclusive_tag and not template.colocate:
        raise RequestError(
            "tags: 'exclusive' without 'colocate'", hint='write {"colocate": "name", "exclusive": True}', code="JRM-Q05"
        )
    _check_request(template.request)


def _check_request(request: Request) -> None:
    _must(1 <= request.ranks <= RANKS_MOST, "ranks", request.ranks)
    for field in ("cores", "gpus", "mem", "lfs", "ranks_per_node"):
        _must(0 <= getattr(request, field) < _U32, field, getattr(request, field))
    _must(request.gpus <= GPU_UNIT or request.gpus % GPU_UNIT == 0, "gpus", request.gpus / GPU_UNIT)
    for name, amount in request.named:
        _must(0 <= amount < _U32, f"resources[{name!r}]", amount)
    _must(request.numa in ("compact", "spread", "any"), "numa", request.numa)
    something = request.cores or request.gpus or request.mem or request.lfs or request.exclusive
    _must(bool(something or any(amount for _, amount in request.named)), "cores", 0)


def check_pilot(spec: PilotSpec) -> None:
    """Refuse a pilot that no site can give, naming the field (RequestError JRM-Q17)."""
    here = spec.site in ("local", "noop")
    # Of several nodes, cores and GPUs are a total.
    cores, gpus = (CORES_MOST, GPUS_MOST) if here else (CORES_MOST * NODES_MOST, GPUS_MOST * NODES_MOST)
    bounds = (("nodes", NODES_MOST), ("cores", cores), ("gpus", gpus), ("mem", _U32 - 1), ("backup", NODES_MOST))
    for field, most in bounds:
        if not 0 <= getattr(spec, field) <= most:
            raise RequestError(
                f"{field}: {getattr(spec, field)} is not within 0 and {most}", hint="ask for less", code="JRM-Q17"
            )
    if not math.isfinite(spec.walltime) or spec.walltime < 0:
        raise RequestError(f"walltime: {spec.walltime} is no duration", hint='write "1h"', code="JRM-Q17")
    if not math.isfinite(spec.drain) or not 0 <= spec.drain <= (spec.walltime or spec.drain):
        raise RequestError(
            f"drain: {spec.drain} is not within the walltime", hint='write a shorter time, such as "5m"', code="JRM-Q17"
        )
    if spec.partitions:
        _check_partitions(spec)
    for name, amount in spec.resources.items():
        check_name(name, "resources")
        if not 0 <= amount < _U32:
            raise RequestError(
                f"resources[{name!r}]: {amount} is not within 0 and {_U32 - 1}", hint="ask for less", code="JRM-Q17"
            )
    if len(spec.script) > SCRIPT_MOST:
        raise RequestError(
            f"script: {len(spec.script)} bytes; the limit is {SCRIPT_MOST}",
            hint="put what it needs into files there",
            code="JRM-Q28",
        )
    texts = {"sandbox": spec.sandbox, "queue": spec.queue, "project": spec.project, "launch": spec.launch}
    texts |= {"script_name": spec.script_name}
    texts |= {"env": spec.env, "env_mode": spec.env_mode, "env_source": spec.env_source}
    texts |= {"python": spec.python, "env_base": spec.env_base, "env_prefer": spec.env_prefer}
    texts |= {"connect": spec.connect}
    capability_names(spec.capabilities, "capabilities")
    named = (("options", spec.options), ("hooks", spec.hooks), ("envs", spec.envs))
    for field, count in (*((field, len(words)) for field, words in named), ("resources", len(spec.resources))):
        if count > 64:
            raise RequestError(f"{field}: {count} of them", hint="give at most 64", code="JRM-Q17")
    for field, words in named:
        texts |= {f"{field}[{name!r}]": name + value for name, value in words.items()}
    for field, text in texts.items():
        if "\0" in text:
            raise RequestError(f"{field}: holds a NUL character", hint="remove it", code="JRM-Q17")
        if len(text) > 4096:
            raise RequestError(f"{field}: {len(text)} characters", hint="at most 4096", code="JRM-Q17")


def _check_partitions(spec: PilotSpec) -> None:
    nodes, sizes = max(spec.nodes, 1), spec.partitions
    if len(sizes) > PARTITIONS_MOST or min(sizes) < 1 or sum(sizes) != nodes:
        raise RequestError(
            f"partitions: {len(sizes)} with {sum(sizes)} nodes of the pilot's {nodes}",
            hint="give a number of parts, or the nodes of each: nodes=8, partitions=[2, 6]",
            code="JRM-Q17",
        )


def _must(right: bool, field: str, value: object) -> None:
    if not right:
        raise RequestError(f"{field}: {value!r} is out of range", hint="see jrm.Task", code="JRM-Q05")


# ---------------------------------------------------------------- what agents say


def bad_nodes(nodes: Iterable[Node]) -> str:
    """Return what is wrong with the nodes an agent says it has, '' when nothing is."""
    nodes = tuple(nodes)
    if not 1 <= len(nodes) <= NODES_MOST or len({node.partition for node in nodes}) > PARTITIONS_MOST:
        return f"{len(nodes)} nodes in {len({node.partition for node in nodes})} partitions"
    for node in nodes:
        amounts = (node.mem, node.lfs, *[amount for _, amount in node.named])
        if (
            not 0 <= node.cores <= CORES_MOST
            or not 0 <= node.gpus <= GPUS_MOST
            or not 0 <= node.numa < 256
            or not 0 <= node.partition < 2**16
            or not all(0 <= amount < _U32 for amount in amounts)
        ):
            return f"node {node.name[:64]!r} has more than a node can have"
    return ""


def check_report(ledger: Ledger, report: Message) -> None:
    """Refuse a report that names what is not there or whose arrays do not fit (ProtocolError JRM-N02)."""
    try:
        if isinstance(report, Ended):
            count = _count(ledger, report.bulk, report.picks)
            _vecs(count, attempt=(report.attempt, 2), state=(report.state, 1))
            if not _ENDS.issuperset(report.state):
                raise ValueError("an end that is none")
            _check_ends(report.ends, count)
        elif isinstance(report, Started):
            count = _count(ledger, report.bulk, report.picks)
            _vecs(count, attempt=(report.attempt, 2), node=(report.node, 4), started=(report.started, 8))
        elif isinstance(report, Staged):
            _vecs(_count(ledger, report.bulk, report.picks), attempt=(report.attempt, 2))
            if report.state not in (TaskState.SCHEDULED, TaskState.STAGING_OUT):
                raise ValueError(f"files in the state {report.state}")
        elif isinstance(report, Staging):
            _count(ledger, report.bulk, Picks.span(report.index, report.index + 1))
        elif isinstance(report, Serving):
            _count(ledger, report.bulk, Picks.span(report.index, report.index + 1))
            if not report.endpoint or not report.endpoint.isprintable() or len(report.endpoint) > service.LINE_MOST:
                raise ValueError("an endpoint that is none")
        elif isinstance(report, Returned):
            _vecs(_count(ledger, report.bulk, report.picks), attempt=(report.attempt, 2))
        elif isinstance(report, Inventory):
            for bulk, picks, attempt in report.held:
                _vecs(_count(ledger, bulk, picks), attempt=(attempt, 2))
        elif isinstance(report, Stock):
            if not math.isfinite(report.rate):
                raise ValueError(f"a rate of {report.rate}")
        elif isinstance(report, Goodbye) and report.cause not in _CAUSES:
            raise ValueError(f"the unknown cause {report.cause}")
    except ValueError as error:
        raise ProtocolError(f"{type(report).__name__}: {error}", code="JRM-N02") from None


def _count(ledger: Ledger, bulk: int, picks: Picks) -> int:
    if not 0 <= bulk < len(ledger.bulks):
        raise ValueError(f"bulk {bulk} of {len(ledger.bulks)}")
    picks.check(len(ledger.bulks[bulk]))
    return len(picks)


def _vecs(count: int, **vecs: tuple[bytes, int]) -> None:
    for name, (data, width) in vecs.items():
        if len(data) != width and len(data) != width * count:
            raise ValueError(f"{name}: {len(data)} bytes for {count} tasks")


def _check_ends(ends: Ends, count: int) -> None:
    for name, width in _WIDTHS:
        size = len(getattr(ends, name))
        if size != width and size != width * count:
            raise ValueError(f"{name}: {size} bytes for {count} tasks")
    if not _CAUSES.issuperset(ends.cause):
        raise ValueError("an unknown cause")
    if ends.values is not None:
        if len(ends.values) != count or ends.values.kind != "bytes":
            raise ValueError(f"{len(ends.values)} values for {count} tasks")
        ends.values.check()
    if not all(0 <= at < count for at in ends.notes):
        raise ValueError("a note about nothing")
