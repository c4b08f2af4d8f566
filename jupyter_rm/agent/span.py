"""The performer of a pilot with several nodes: the face of :class:`~jupyter_rm.agent.perform.Performer`, many hands.

What the machine orders is split by the node of each allocation and goes, in one frame per order and node, to the
node agents, and on the head's own node to a performer in this process; what they say is put together again. Tasks
whose ranks lie on several nodes are started on each of them (with MPI: by a launcher on the first) and end as one. A
node that is lost ends the attempts it had, with cause NODE_LOST. Decides nothing about places. Read next:
:mod:`jupyter_rm.agent.fleet`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ..core.endings import kept
from ..core.holdings import HeldBulk, Holdings
from ..core.placing import NodeChanged
from ..model.columns import Picks, pack
from ..model.effects import Begun, Effect, Finished, Freed, Input, Kill, Launch, Retract, RunAhead, TakenBack, Tokens
from ..model.ids import INDEX_BITS, by_bulk
from ..model.messages import Assign, Function
from ..model.states import Cause, TaskState
from . import talk
from .commands import Slots
from .fleet import Back, Far, Fleet, Lost
from .news import Bell, News, Row
from .node import SlotTable
from .perform import Performer

# Bulks and functions told to a node agent before it is asked whether it still needs them.
TOLD_MOST = 256


class _Wide:
    """A task with ranks on several nodes: what is still out, and how it ends as a whole."""

    __slots__ = ("alloc", "begun", "left", "lost", "nodes", "parts", "row", "unfreed")

    def __init__(self, token: int, alloc: int, nodes: tuple[int, ...], parts: Sequence[int]) -> None:
        self.alloc, self.nodes, self.parts = alloc, nodes, tuple(parts)
        self.left, self.unfreed = set(parts), set(parts)
        self.row = Row(token, node=parts[0])
        self.begun = False
        self.lost = ""


class _Hand:
    """What one node has been given. ``local`` is the performer of the head's own node."""

    __slots__ = ("allocs", "far", "lanes", "local", "number", "orders", "retracting", "table", "tokens", "up")

    def __init__(self, number: int) -> None:
        self.number = number
        self.local: Performer | None = None
        self.table = SlotTable()
        self.far: Far | None = None
        self.up = False
        self.tokens: set[int] = set()
        self.allocs: dict[int, int] = {}
        self.lanes: dict[int, int] = {}
        self.retracting: set[int] = set()
        self.orders: list[talk.Order] = []


class SpanPerformer:
    """Performs effects on all nodes of a pilot.

    Args:
        holdings: what stands behind a token.
        placer: ``placer.slots(alloc)`` says which nodes, cores and GPUs an allocation is.
        fleet: the node agents.
        count: number of nodes.
        own: number of the head's own node, None: it runs beside them.
        local: performer of that node; its placer must be ``table``.
        table: what an allocation is on the head's own node.
    """

    def __init__(
        self,
        holdings: Holdings,
        placer: Any,
        fleet: Fleet,
        count: int,
        own: int | None,
        local: Performer | None,
        table: SlotTable,
    ) -> None:
        self._holdings, self._slots, self._fleet = holdings, placer.slots, fleet
        self._hands = [_Hand(number) for number in range(count)]
        self._local = local
        if own is not None:
            hand = self._hands[own]
            hand.local, hand.table, hand.up = local, table, True
        for far in fleet.serving_up():
            assert far.number is not None
            self._hands[far.number].far, self._hands[far.number].up = far, True
        self._bell = Bell()
        self._news = News()
        self._wide: dict[int, _Wide] = {}
        self._wide_allocs: dict[int, _Wide] = {}
        self._doomed: set[int] = set()
        self._asked: dict[int, int] = {}
        self._back: dict[int, list[Tokens]] = {}
        self._closed = False

    # ------------------------------------------------------------ effects

    def perform(self, effect: Effect) -> None:
        """Carry out a Launch, RunAhead, Retract or Kill; TypeError for any other effect."""
        if isinstance(effect, Launch):
            if len(effect.tokens):
                self._launch(effect)
        elif isinstance(effect, RunAhead):
            if len(effect.tokens):
                self._ahead(effect)
        elif isinstance(effect, Retract):
            self._retract(effect.pool)
        elif isinstance(effect, Kill):
            self._kill(effect.tokens)
        else:
            raise TypeError(f"{type(effect).__name__} is not for the performer")
        if self._news:
            self._bell.ring()

    def _launch(self, effect: Launch) -> None:
        shares: dict[int, tuple[list[int], list[int], list[Slots], dict[int, tuple[int, ...]]]] = {}
        spread = self._spreads(int(effect.tokens[0]))
        for token, alloc in zip(effect.tokens.tolist(), effect.allocs.tolist(), strict=True):
            slots = self._slots(alloc)
            first = slots[0][1]
            nodes = tuple(dict.fromkeys(node for _, node, _, _ in slots)) if len(slots) > 1 else (first,)
            where = nodes if spread and len(nodes) > 1 else (first,)
            if len(nodes) > 1:
                wide = _Wide(token, alloc, nodes, where)
                self._wide[token] = self._wide_allocs[alloc] = wide
            for node in where:
                tokens, allocs, all_slots, far = shares.setdefault(node, ([], [], [], {}))
                tokens.append(token)
                allocs.append(alloc)
                all_slots.append([one for one in slots if one[1] == node] if len(where) > 1 else slots)
                if len(nodes) > 1:
                    far[alloc] = nodes
        for node, (tokens, allocs, all_slots, far) in shares.items():
            self._give(self._hands[node], effect.pool, tokens, allocs, all_slots, far)
        for wide in [self._wide[token] for token in effect.tokens.tolist() if token in self._wide]:
            if not all(self._hands[node].up for node in wide.nodes):
                self._break(wide, "a node of it is lost")

    def _spreads(self, token: int) -> bool:
        """Say whether the ranks of such a task are started one by one, and not by an MPI launcher."""
        template = self._holdings.bulks[token >> INDEX_BITS].template
        return template.mode != "call" and not (template.mpi and template.mode == "executable")

    def _give(
        self,
        hand: _Hand,
        pool: int,
        tokens: list[int],
        allocs: list[int],
        slots: list[Slots],
        spread: dict[int, tuple[int, ...]],
    ) -> None:
        hand.tokens.update(tokens)
        hand.allocs.update(dict.fromkeys(allocs, pool))
        hand.lanes[pool] = hand.lanes.get(pool, 0) + len(allocs)
        mine = np.array(tokens, np.uint64)
        if hand.local is not None:
            for alloc, one in zip(allocs, slots, strict=True):
                hand.table.put(alloc, one)
            hand.local.site.spread.update(spread)
            hand.local.perform(Launch(pool, mine, np.array(allocs, np.uint64)))
        elif hand.far is not None and hand.up:
            hand.orders += [*self._needed(hand.far, mine), talk.go(pool, tokens, allocs, slots, spread)]
        else:
            self._lose(hand, "its node is not there")

    def _ahead(self, effect: RunAhead) -> None:
        pool, tokens = effect.pool, effect.tokens
        hands = [hand for hand in self._hands if hand.up and hand.lanes.get(pool)]
        if not hands:
            self._news.taken.append(TakenBack(pool, tokens))
            return
        lanes = np.array([hand.lanes[pool] for hand in hands], np.float64)
        ends = np.rint(np.cumsum(lanes) / lanes.sum() * len(tokens)).astype(int)
        start = 0
        for hand, end in zip(hands, ends.tolist(), strict=True):
            mine = tokens[start:end]
            start = end
            if not len(mine):
                continue
            hand.tokens.update(mine.tolist())
            if hand.local is not None:
                hand.local.perform(RunAhead(pool, mine))
            elif hand.far is not None:
                hand.orders += [*self._needed(hand.far, mine), talk.Ahead(pool, mine.tobytes())]

    def _retract(self, pool: int) -> None:
        self._asked[pool] = self._asked.get(pool, 0) + 1
        for hand in self._hands:
            if hand.up and hand.tokens and pool not in hand.retracting:
                hand.retracting.add(pool)
                if hand.local is not None:
                    hand.local.perform(Retract(pool))
                elif hand.far is not None:
                    hand.orders.append(talk.TakeBack(pool))
        self._answer(pool)

    def _answer(self, pool: int) -> None:
        """Once every node has given back what it had queued, tell the machine."""
        if not self._asked.get(pool) or any(pool in hand.retracting for hand in self._hands):
            return
        back = self._back.pop(pool, [])
        for _ in range(self._asked.pop(pool)):
            # In the order in which they were submitted: they came from several queues.
            self._news.taken.append(TakenBack(pool, np.sort(np.concatenate(back)) if back else np.zeros(0, np.uint64)))
            back = []

    def _kill(self, tokens: Tokens) -> None:
        wanted = set(tokens.tolist())
        self._doomed |= wanted & set().union(*(hand.tokens for hand in self._hands))
        for hand in self._hands:
            self._slay(hand, wanted & hand.tokens)

    def _slay(self, hand: _Hand, tokens: set[int]) -> None:
        if not tokens or not hand.up:
            return
        mine = np.array(sorted(tokens), np.uint64)
        if hand.local is not None:
            hand.local.perform(Kill(mine))
        elif hand.far is not None:
            hand.orders.append(talk.Slay(mine.tobytes()))

    def preparing(self, bulk: int) -> str:
        """Return what has to end before tasks of a bulk can start, as far as this node knows."""
        return self._local.preparing(bulk) if self._local is not None else ""

    def flush(self) -> None:
        """Send what was ordered since the last time: one frame per node.

        What is to run ahead arrives together with the allocations it is to follow, or it would find them gone.
        """
        for hand in self._hands:
            if hand.orders and hand.far is not None:
                orders, hand.orders = hand.orders, []
                self._fleet.send(hand.far, orders)

    # ------------------------------------------------------------ what a node agent needs to know

    def _needed(self, far: Far, tokens: Tokens) -> list[talk.Order]:
        """Return the orders that bring a node agent what stands behind ``tokens``."""
        out: list[talk.Order] = []
        for bulk, _, index in by_bulk(tokens):
            held = self._holdings.bulks[bulk]
            template = held.template
            if template.mode == "call" and template.function not in far.functions:
                body = self._holdings.functions.get(template.function)
                if body is not None:
                    far.functions.add(template.function)
                    out.append(Function(template.function, body))
            for part in cut(bulk, held, np.sort(index)):
                if far.bulks.get(bulk) is not template:
                    far.bulks[bulk] = template
                    part = msgspec.structs.replace(part, template=template)
                out.append(part)
        if len(far.bulks) > TOLD_MOST or len(far.functions) > TOLD_MOST:
            out = [*self._forgotten(far), *out]
        return out

    def _forgotten(self, far: Far) -> list[talk.Order]:
        bulks = tuple(bulk for bulk in far.bulks if bulk not in self._holdings.bulks)
        called = {held.template.function for held in self._holdings.bulks.values()}
        functions = tuple(sha for sha in far.functions if sha not in called)
        for bulk in bulks:
            del far.bulks[bulk]
        far.functions.difference_update(functions)
        return [talk.Forgotten(bulks, functions)] if bulks or functions else []

    # ------------------------------------------------------------ news

    def filenos(self) -> list[Any]:
        """Return what is readable when :meth:`poll` has something to do; :meth:`due` is the rest."""
        return [
            *(self._local.filenos() if self._local is not None else ()),
            self._bell.fileno(),
            *self._fleet.sockets(),
        ]

    def due(self) -> float | None:
        """Return the ``time.monotonic()`` at which :meth:`poll` is to be called even without news."""
        fleet = time.monotonic() + self._fleet.due()
        local = self._local.due() if self._local is not None else None
        return fleet if local is None else min(fleet, local)

    @property
    def busy_ahead(self) -> bool:
        """Say whether every node has so much queued that looking every few 10 ms is enough."""
        busy = [hand for hand in self._hands if hand.allocs]
        if not busy or any(len(hand.tokens) < 2 * len(hand.allocs) for hand in busy):
            return False
        return self._local is None or not any(hand.local for hand in busy) or self._local.busy_ahead

    def poll(self) -> list[Input]:
        """Return what happened since the last call, as few inputs as possible; never blocks."""
        self._bell.quiet()
        changes: list[Input] = []
        for hand in self._hands:
            if hand.local is not None:
                for one in hand.local.poll():
                    self._take(hand, one, isinstance(one, TakenBack) and one.pool in hand.retracting)
        for event in self._fleet.turn():
            hand = self._hands[event.number]
            if isinstance(event, Lost):
                hand.up, hand.far = False, None
                self._lose(hand, event.why)
                changes.append(NodeChanged(event.number, False))
            elif isinstance(event, Back):
                hand.far, hand.up = self._fleet.serving[event.number], True
                changes.append(NodeChanged(event.number, True, event.node))
            elif hand.up:
                for report in event.reports:
                    asked = isinstance(report, talk.Taken) and report.asked
                    self._take(hand, talk.heard(report, event.number), asked)
        self.flush()
        # What a lost node had is over before anything new is placed; what is back is there before that, too.
        return [*self._news.take(), *changes]

    def _take(self, hand: _Hand, news: Input, answer: bool) -> None:
        if isinstance(news, Begun):
            self._begun(news)
        elif isinstance(news, Finished):
            self._finished(hand, news)
        elif isinstance(news, Freed):
            self._freed(hand, news.allocs)
        elif isinstance(news, TakenBack):
            self._taken(hand, news, answer)

    def _begun(self, news: Begun) -> None:
        if self._wide:
            keep = np.ones(len(news.tokens), bool)
            for at, token in enumerate(news.tokens.tolist()):
                wide = self._wide.get(token)
                if wide is not None:
                    keep[at] = not wide.begun
                    wide.begun = True
            news = Begun(news.tokens[keep], news.node[keep], news.started[keep])
        if len(news.tokens):
            self._news.begun.append(news)

    def _finished(self, hand: _Hand, news: Finished) -> None:
        mine = news.tokens.tolist()
        hand.tokens.difference_update(mine)
        self._doomed.difference_update(mine)
        if self._wide:
            parts = [(at, self._wide[token]) for at, token in enumerate(mine) if token in self._wide]
            if parts:
                for at, wide in parts:
                    self._part(hand, wide, news, at)
                keep = np.ones(len(mine), bool)
                keep[[at for at, _ in parts]] = False
                news = kept(news, np.flatnonzero(keep))
        if len(news.tokens):
            self._news.finished.append(news)

    def _part(self, hand: _Hand, wide: _Wide, news: Finished, at: int) -> None:
        """The ranks of a wide task on one node are over."""
        row = wide.row
        wide.left.discard(hand.number)
        started = float(news.started[at])
        row.started = min(row.started or started, started or row.started)
        row.ended = max(row.ended, float(news.ended[at]))
        row.user += float(news.user[at])
        row.sys += float(news.sys[at])
        row.rss = max(row.rss, int(news.rss[at]))
        state = TaskState(int(news.state[at]))
        if state != TaskState.DONE and row.state in (TaskState.DONE, TaskState.CANCELED):
            # The first failure says why; what was canceled because of it says nothing.
            if row.state == TaskState.DONE or state == TaskState.FAILED:
                row.state, row.cause, row.code = state, int(news.cause[at]), int(news.code[at])
                row.note = news.notes.get(at, "")
            for other in wide.left:
                self._slay(self._hands[other], {row.token})
        if not wide.left:
            self._end(wide)

    def _end(self, wide: _Wide) -> None:
        row = wide.row
        self._wide.pop(row.token, None)
        if wide.lost:
            row.state, row.cause, row.note = TaskState.FAILED, Cause.NODE_LOST, wide.lost
        self._news.row(row)

    def _freed(self, hand: _Hand, allocs: npt.NDArray[np.uint64]) -> None:
        for alloc in allocs.tolist():
            pool = hand.allocs.pop(alloc, None)
            if pool is None:
                continue
            hand.lanes[pool] -= 1
            if hand.local is not None:
                hand.table.forget(alloc)
                hand.local.site.spread.pop(alloc, None)
            wide = self._wide_allocs.get(alloc)
            if wide is not None:
                wide.unfreed.discard(hand.number)
                if wide.unfreed:
                    continue
                del self._wide_allocs[alloc]
            self._news.freed.append(alloc)

    def _taken(self, hand: _Hand, news: TakenBack, answer: bool) -> None:
        tokens = news.tokens
        hand.tokens.difference_update(tokens.tolist())
        if self._doomed:
            # Killed while it was on its way back: it is not to start anywhere else.
            hit = np.isin(tokens, np.array(sorted(self._doomed), np.uint64))
            for token in tokens[hit].tolist():
                self._doomed.discard(token)
                self._news.row(Row(token, TaskState.CANCELED, Cause.USER_CANCEL, node=hand.number))
            tokens = tokens[~hit]
        if answer:
            hand.retracting.discard(news.pool)
            if len(tokens):
                self._back.setdefault(news.pool, []).append(tokens)
            self._answer(news.pool)
        elif len(tokens):
            self._news.taken.append(TakenBack(news.pool, tokens))

    # ------------------------------------------------------------ nodes that are lost

    def _lose(self, hand: _Hand, why: str) -> None:
        """Everything a node had is over; tasks that reach beyond it end with it."""
        tokens, hand.tokens = hand.tokens, set()
        allocs, hand.allocs = hand.allocs, {}
        hand.orders = []
        now = time.time()
        for token in sorted(tokens):
            wide = self._wide.get(token)
            if wide is None:
                self._doomed.discard(token)
                self._news.row(Row(token, TaskState.FAILED, Cause.NODE_LOST, node=hand.number, ended=now, note=why))
        for wide in [one for one in self._wide.values() if hand.number in one.nodes]:
            wide.left.discard(hand.number)
            self._break(wide, why)
        hand.lanes.clear()
        for alloc in allocs:
            wide_alloc = self._wide_allocs.get(alloc)
            if wide_alloc is not None:
                wide_alloc.unfreed.discard(hand.number)
                if wide_alloc.unfreed:
                    continue
                del self._wide_allocs[alloc]
            self._news.freed.append(alloc)
        for pool in list(hand.retracting):
            hand.retracting.discard(pool)
            self._answer(pool)

    def _break(self, wide: _Wide, why: str) -> None:
        wide.lost = wide.lost or why
        for other in wide.left:
            self._slay(self._hands[other], {wide.row.token})
        if not wide.left and wide.row.token in self._wide:
            wide.row.ended = wide.row.ended or time.time()
            self._end(wide)

    def close(self, grace: float = 2.0) -> None:
        """End everything that runs, on all nodes, and wait for it."""
        if self._closed:
            return
        self._closed = True
        self._fleet.close(grace)
        if self._local is not None:
            self._local.close(grace)
        self._bell.close()


def cut(bulk: int, held: HeldBulk, index: npt.NDArray[np.int64]) -> list[Assign]:
    """Return what is held of tasks ``index`` (sorted) of a bulk, as few assignments without template as possible."""
    out = []
    left = index
    for segment in reversed(held.segments):
        if not len(left):
            break
        rows, here = segment.rows(left)
        if not len(rows):
            continue
        picks = Picks.of(rows)
        out.append(
            Assign(
                bulk,
                Picks.of(left[here]),
                pack(segment.attempt[rows], "<u2"),
                None,
                {name: column.take(picks) for name, column in segment.columns.items()},
                segment.payload.take(picks) if segment.payload is not None else None,
            )
        )
        left = left[~here]
    return out
