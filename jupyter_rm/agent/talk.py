"""What the head agent of a pilot and the node agents of its further nodes say to each other.

Two ordered streams per node agent (:mod:`jupyter_rm.wire.link`), each frame a list of orders or of reports about many
tasks at once. What a task needs travels as an :class:`~jupyter_rm.model.messages.Assign`, as from broker to agent. The
routing id of a node agent's socket is its *nonce*: a new process is a new stream. Knows no socket. Read next:
:mod:`jupyter_rm.agent.fleet` (the head's end) and :mod:`jupyter_rm.agent.node` (the other).
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ..model.columns import Column, Picks, pack, unpack
from ..model.effects import Begun, Finished, Freed, Input, TakenBack, Tokens
from ..model.messages import Assign, Function
from .commands import Slots

VERSION = 1
FRAME_LIMIT = 256 << 20


class Word(msgspec.Struct, frozen=True, array_like=True):
    """Base of everything said."""


# ---------------------------------------------------------------- outside the streams


class NodeHello(Word, tag=1, frozen=True):
    """A node agent introduces itself: what it may be called, what it may use.

    ``number`` is the node's number when whoever started it knew, else -1; ``numa`` lists core numbers per NUMA group.
    """

    version: int
    number: int
    names: tuple[str, ...]
    pid: int
    cores: tuple[int, ...]
    numa: tuple[tuple[int, ...], ...]
    gpus: int
    mem: int
    lfs: int


class NodeWelcome(Word, tag=2, frozen=True):
    """The head's answer: the node's number, what the nodes are called, the cores tasks are bound to ([]: none)."""

    number: int
    names: tuple[str, ...]
    cores: int
    core_ids: tuple[int, ...] = ()
    pin: bool = False


class NodeRefused(Word, tag=3, frozen=True):
    """It is not wanted: it must end."""

    reason: str


class Frame(Word, tag=4, frozen=True):
    """One frame of a stream; ``ack`` is the last frame taken of the other one."""

    seq: int
    ack: int
    body: bytes = b""


# ---------------------------------------------------------------- orders: head -> node agent


class Go(Word, tag=16, frozen=True):
    """Start each task on its allocation.

    Vecs: tokens and allocs u8, ``ranks`` u2 per allocation; then per rank ``rank`` u4, ``node`` u4, ``cores`` and
    ``gpus`` u2 (how many); then ``core`` and ``gpu`` u2 one after the other. ``spread``: the nodes of allocations that
    have ranks elsewhere too.
    """

    pool: int
    tokens: bytes
    allocs: bytes
    ranks: bytes
    rank: bytes
    node: bytes
    cores: bytes
    gpus: bytes
    core: bytes
    gpu: bytes
    spread: dict[int, tuple[int, ...]] = {}


class Ahead(Word, tag=17, frozen=True):
    """Start these, in order, on allocations of the pool as they come free."""

    pool: int
    tokens: bytes


class TakeBack(Word, tag=18, frozen=True):
    """Give all tasks back that are queued ahead; answered by one :class:`Taken`."""

    pool: int


class Slay(Word, tag=19, frozen=True):
    """Cancel tasks."""

    tokens: bytes


class Names(Word, tag=20, frozen=True):
    """What the nodes are called now, and which of them this one is."""

    names: tuple[str, ...]
    number: int


class Forgotten(Word, tag=21, frozen=True):
    """Nothing of these bulks and functions comes any more."""

    bulks: tuple[int, ...]
    functions: tuple[bytes, ...]


class Close(Word, tag=22, frozen=True):
    """End everything, then yourself."""


# ---------------------------------------------------------------- reports: node agent -> head


class Began(Word, tag=32, frozen=True):
    """Attempts began; vecs tokens u8, started f8."""

    tokens: bytes
    started: bytes


class Over(Word, tag=33, frozen=True):
    """Attempts ended; vecs as in :class:`~jupyter_rm.model.effects.Finished`."""

    tokens: bytes
    state: bytes
    cause: bytes
    code: bytes
    started: bytes
    ended: bytes
    user: bytes
    sys: bytes
    rss: bytes
    values: Column | None = None
    notes: dict[int, str] = {}


class Free(Word, tag=34, frozen=True):
    """Allocations are free again."""

    allocs: bytes


class Taken(Word, tag=35, frozen=True):
    """Tasks that were queued ahead and come back unstarted; ``asked``: the answer to a :class:`TakeBack`."""

    pool: int
    tokens: bytes
    asked: bool


Order = Assign | Function | Go | Ahead | TakeBack | Slay | Names | Forgotten | Close
Report = Began | Over | Free | Taken

_encoder = msgspec.msgpack.Encoder()
_from_node: msgspec.msgpack.Decoder[NodeHello | Frame] = msgspec.msgpack.Decoder(NodeHello | Frame)
_to_node: msgspec.msgpack.Decoder[NodeWelcome | NodeRefused | Frame] = msgspec.msgpack.Decoder(
    NodeWelcome | NodeRefused | Frame
)
_orders: msgspec.msgpack.Decoder[list[Order]] = msgspec.msgpack.Decoder(list[Order])
_reports: msgspec.msgpack.Decoder[list[Report]] = msgspec.msgpack.Decoder(list[Report])

encode = _encoder.encode
from_node = _from_node.decode
to_node = _to_node.decode
orders = _orders.decode
reports = _reports.decode


def numbers(data: bytes) -> Tokens:
    """Return u8 numbers, shape (n,)."""
    return np.frombuffer(data, "<u8")


def go(pool: int, tokens: list[int], allocs: list[int], slots: list[Slots], spread: dict[int, tuple[int, ...]]) -> Go:
    """Return the order to start ``tokens`` on ``allocs``, whose ranks on that node are ``slots``."""
    ranks = [rank for one in slots for rank in one]

    def vec(values: list[int], kind: str) -> bytes:
        return np.array(values, kind).tobytes()

    return Go(
        pool,
        vec(tokens, "<u8"),
        vec(allocs, "<u8"),
        vec([len(one) for one in slots], "<u4"),
        vec([rank for rank, _, _, _ in ranks], "<u4"),
        vec([node for _, node, _, _ in ranks], "<u4"),
        vec([len(cores) for _, _, cores, _ in ranks], "<u2"),
        vec([len(gpus) for _, _, _, gpus in ranks], "<u2"),
        vec([core for _, _, cores, _ in ranks for core in cores], "<u2"),
        vec([gpu for _, _, _, gpus in ranks for gpu, _ in gpus], "<u2"),
        spread,
    )


def slots_of(order: Go) -> list[Slots]:
    """Return the slots of each allocation of an order; the shares of GPUs are not known there."""

    def vec(data: bytes, kind: str) -> list[int]:
        return list(np.frombuffer(data, kind).tolist())

    core, gpu = vec(order.core, "<u2"), vec(order.gpu, "<u2")
    rows = zip(
        vec(order.rank, "<u4"), vec(order.node, "<u4"), vec(order.cores, "<u2"), vec(order.gpus, "<u2"), strict=True
    )
    out: list[Slots] = []
    c = g = 0
    for count in vec(order.ranks, "<u4"):
        one: Slots = []
        for _ in range(count):
            rank, node, cores, gpus = next(rows)
            one.append((rank, node, core[c : c + cores], [(number, 0) for number in gpu[g : g + gpus]]))
            c, g = c + cores, g + gpus
        out.append(one)
    return out


def say(news: list[Input], asked: dict[int, int]) -> list[Report]:
    """Return what a node agent reports of its performer's news; ``asked`` counts unanswered TakeBacks by pool."""
    out: list[Report] = []
    for one in news:
        if isinstance(one, Begun):
            out.append(Began(one.tokens.tobytes(), pack(one.started, "<f8")))
        elif isinstance(one, Finished):
            out.append(
                Over(
                    one.tokens.astype("<u8").tobytes(),
                    pack(one.state, "<u1"),
                    pack(one.cause, "<u1"),
                    pack(one.code, "<i4"),
                    pack(one.started, "<f8"),
                    pack(one.ended, "<f8"),
                    pack(one.user, "<f4"),
                    pack(one.sys, "<f4"),
                    pack(one.rss, "<u4"),
                    one.values,
                    one.notes,
                )
            )
        elif isinstance(one, Freed):
            out.append(Free(one.allocs.tobytes()))
        elif isinstance(one, TakenBack):
            answer = asked.get(one.pool, 0) > 0
            if answer:
                asked[one.pool] -= 1
            out.append(Taken(one.pool, one.tokens.tobytes(), answer))
    return out


def heard(report: Report, node: int) -> Input:
    """Return what a report of a node agent means; ValueError when its parts do not fit together."""
    if isinstance(report, Began):
        tokens = numbers(report.tokens)
        count = len(tokens)
        return Begun(tokens, np.full(count, node, np.uint32), _vec(report.started, "<f8", count))
    if isinstance(report, Over):
        tokens = numbers(report.tokens)
        count = len(tokens)
        if report.values is not None:
            report.values.check()
            if len(report.values) != count:
                raise ValueError(f"{len(report.values)} results of {count} calls")
        return Finished(
            tokens,
            _vec(report.state, "<u1", count),
            _vec(report.cause, "<u1", count),
            _vec(report.code, "<i4", count),
            np.full(count, node, np.uint32),
            _vec(report.started, "<f8", count),
            _vec(report.ended, "<f8", count),
            _vec(report.user, "<f4", count),
            _vec(report.sys, "<f4", count),
            _vec(report.rss, "<u4", count),
            report.values,
            report.notes,
        )
    if isinstance(report, Free):
        return Freed(numbers(report.allocs))
    return TakenBack(report.pool, numbers(report.tokens))


def _vec(data: bytes, kind: str, count: int) -> npt.NDArray[Any]:
    return unpack(data, kind, count)


__all__ = ["Assign", "Function", "Picks"]
__all__ += ["Ahead", "Began", "Close", "Forgotten", "Frame", "Free", "Go", "Names", "NodeHello", "NodeRefused"]
__all__ += ["NodeWelcome", "Order", "Over", "Report", "Slay", "TakeBack", "Taken"]
__all__ += ["encode", "from_node", "go", "heard", "numbers", "orders", "reports", "say", "slots_of", "to_node"]
