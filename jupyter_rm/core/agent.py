"""The agent's machine: takes orders, places tasks, reports what happened; decides everything, does nothing itself.

It keeps working when nobody listens: reports are numbered, spooled and sent again until the broker has them. After
every welcome it first reports its inventory, so that broker and agent agree about what is held before anything new is
said. Knows no socket, process, file or clock. Read next: :mod:`jupyter_rm.core.placing`, :mod:`jupyter_rm.wire.link`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..model.columns import Picks, pack, unpack
from ..model.effects import (
    Begun,
    Effect,
    End,
    Finished,
    Forget,
    Freed,
    FromBroker,
    Input,
    Kill,
    Launch,
    Send,
    Spool,
    TakenBack,
    Tokens,
)
from ..model.ids import by_bulk, tokens
from ..model.late import Value
from ..model.messages import (
    AgentHello,
    AgentRefused,
    AgentWelcome,
    Assign,
    CancelTasks,
    Down,
    Drain,
    Ended,
    Function,
    Goodbye,
    Inventory,
    Message,
    Report,
    Returned,
    Started,
    Stock,
    Stop,
    Up,
    Why,
)
from ..model.resources import Node
from ..model.states import CAUSE_TEXT, Cause, TaskState
from ..wire import codec
from ..wire.link import Inbox, Outbox
from .appetite import Appetite
from .bundle import Deputy
from .endings import ends_of, honest, joined, never_ran
from .held import HeldSet
from .holdings import Holdings, cut_assign
from .patience import DEFAULT, Patience
from .placing import Floor, NodeChanged
from .telling import Telling

BROKER = "broker"
# Reports under way at once; beyond that, news is gathered into fewer, larger reports.
REPORTS_FLYING = 8
# Nobody may be there to confirm them for hours: news is gathered for so many seconds and no longer, then it is spooled.
GATHERED = 0.1
# Stands for a report that damage took: the answer to a question nobody asked.
FILLER = codec.encode(Why(0, ""))
# Orders taken before they are acknowledged by a frame of its own; a report or the next tick acknowledges them too.
ACK_AFTER = 16


class AgentMachine(Telling):
    """One pilot's agent.

    Args:
        session, pilot, epoch: whose agent this is, and how often it was restarted.
        nodes: the hosts it may use; ``sandbox`` its directory, told to the broker.
        spooled: (seq, body) of reports an earlier epoch wrote and nobody has confirmed.
        who: pid and host name, for people.
        bundle: encoded orders of work that came with the pilot; None: all work comes from the broker.
    """

    def __init__(
        self,
        session: str,
        pilot: int,
        epoch: int,
        nodes: Sequence[Node],
        *,
        sandbox: str = "",
        spooled: Sequence[tuple[int, bytes]] = (),
        who: tuple[int, str] = (0, ""),
        patience: Patience = DEFAULT,
        placer: Any = None,
        now: float = 0.0,
        bundle: Sequence[bytes] | None = None,
    ) -> None:
        super().__init__()
        self._deputy = Deputy(bundle, spooled, first=epoch == 0) if bundle is not None else None
        self.session, self.pilot, self.epoch = session, pilot, epoch
        self.sandbox, self.who, self.patience = sandbox, who, patience
        self.facts: dict[str, Value] = {}  # what its users may ask of the pilot
        self.holdings = Holdings()
        self.floor = Floor(nodes, patience, placer)
        self.outbox = Outbox(patience=patience.resend, filler=FILLER)
        for seq, body in spooled:
            self.outbox.restore(seq, body)
        self.inbox = Inbox()
        self.hello = 0
        self.incarnation = -1
        self.welcomed = False
        self.heard_at = self.hello_at = self.said_at = now
        self.last_contact = now
        self.stopping: Cause | None = None
        self._returns = False
        self.ended = False
        self._held: dict[int, HeldSet] = {}
        self._begun: list[Begun] = []
        self._brief: list[Begun] = []  # starts of short tasks, whose end will most likely say it all
        self._tell_brief = False
        self._finished: list[Finished] = []
        self._news_at = now  # when the oldest news came that is in no report yet
        self._once = False  # holds tasks that must never start twice
        self._effects: list[Effect] = []
        self._must_ack = 0  # orders taken since we last spoke
        self._replace = False
        self._appetite = Appetite(now)

    # ------------------------------------------------------------ inputs

    def start(self, now: float) -> list[Effect]:
        """Return the first effects: say hello, and take up a bundle's work."""
        for what in self._deputy.begin() if self._deputy is not None else ():
            self._report(what) if isinstance(what, Report) else self._order(what)
        self._say_hello(now)
        return self._out()

    def handle(self, now: float, news: Input) -> list[Effect]:
        """Take one input in and return what to do now; :meth:`flush` follows when all inputs at hand are taken in."""
        if isinstance(news, FromBroker):
            self._frame(now, news.message)
        elif isinstance(news, Begun):
            self._note_news(now)
            self._begun.append(news)
            if self.serving:
                self._begun_services(news)
        elif isinstance(news, Finished):
            self._note_news(now)
            self._count_out(news)
            news = self._services_ended(news) if self.serving else news
            ends = self._kept_back(news) if self.staging.bulks else news  # which may report what there is so far
            self._finished.append(ends)
            # Fewer are queued ahead now: their line is lengthened before it can run dry.
            self._replace |= self.floor.placer.waiting > 0
        elif isinstance(news, Freed):
            self.floor.free(news.allocs)
            self._replace = True
        elif isinstance(news, TakenBack):
            priorities = {bulk: self.holdings.bulks[bulk].template.priority for bulk, _, _ in by_bulk(news.tokens)}
            self._give_back(self.floor.taken_back(news.pool, news.tokens, priorities))
            self._replace = True
        elif isinstance(news, NodeChanged):
            self._replace = True
            if self.floor.change(news) and not self.ended:
                self._say_hello(now)  # the broker is to know what is there, also when the last hello is under way
        elif not self._further_news(news):
            self._tick(now)
        return self._out()

    def _note_news(self, now: float) -> None:
        if not self._begun and not self._finished:
            self._news_at = now

    def flush(self, now: float) -> list[Effect]:
        """Place what can be placed and say what is to be said, after a batch of inputs."""
        if self._finished and self._once:
            self._report_tasks()  # the start of the next one is spooled at once: so must the end of the last one be
        if self._replace:
            self._replace = False
            self._place(now)
        if (self._begun or self._finished) and (
            self.outbox.sent - self.outbox.acked < REPORTS_FLYING or not 0 <= now - self._news_at < GATHERED
        ):
            self._report_tasks()
        if self.floor.draining and self._places and self._total_held() == len(self._places):
            self._stop(Cause.NONE)  # nobody is left whom its services could serve
        alone = self.floor.draining or self._deputy is not None
        if not self.ended and (
            self.floor.performing == 0
            if self.stopping is not None
            else alone and not self._total_held() and not self._finished
        ):
            self._goodbye()
        self._transmit(now)
        return self._out()

    def _out(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects

    # ------------------------------------------------------------ the link

    def _say_hello(self, now: float) -> None:
        self.hello += 1
        self.hello_at = now
        self.welcomed = False
        who = AgentHello(
            self.session,
            self.pilot,
            self.epoch,
            self.hello,
            self.outbox.last,
            pid=self.who[0],
            host=self.who[1],
            nodes=self.floor.there,
            sandbox=self.sandbox,
            stock=self._wanted(),
            facts=self.facts,
        )
        self._effects.append(Send(BROKER, who))

    def reconnected(self, now: float, first: bool = False) -> list[Effect]:
        """The road to the broker is open again: there may be a new broker at its end, so ask at once.

        Args:
            first: nobody was there to hear an earlier hello.
        """
        if (self.welcomed or first) and not self.ended:
            self._say_hello(now)
        return self._out()

    def _frame(self, now: float, message: Message) -> None:
        if isinstance(message, AgentRefused):
            if message.epoch == self.epoch and not self.ended:
                self._stop(Cause.AGENT_LOST)
                self._end(Cause.AGENT_LOST, f"refused: {message.reason}")
            return
        if isinstance(message, AgentWelcome):
            if message.epoch == self.epoch and message.hello == self.hello and not self.welcomed:
                self._welcome(now, message)
            return
        if not isinstance(message, Down) or not self.welcomed:
            return
        if (message.epoch, message.hello, message.incarnation) != (self.epoch, self.hello, self.incarnation):
            return  # a frame of another connection
        self.heard_at = self.last_contact = now
        self.outbox.ack(message.ack, now)
        self._forget(message.kept)
        if message.body:
            self._must_ack += 1
            if self.inbox.take(message.seq):
                self._order(codec.orders.decode(message.body))

    def _welcome(self, now: float, message: AgentWelcome) -> None:
        self.welcomed = True
        self.incarnation = message.incarnation
        self.heard_at = self.last_contact = now
        self.outbox.rewind(message.applied, now)
        self._forget(message.kept)
        self.inbox = Inbox()
        self._report_tasks()  # what ended before now must come before the inventory
        held = []
        for bulk, kept in self._held.items():
            index, attempt = kept.now()
            if len(index):
                held.append((bulk, Picks.of(index), pack(attempt, "<u2")))
        self._report(Inventory(self.epoch, self.hello, tuple(held)))
        self.holdings.prune()
        self._appetite.forget()
        self._say_stock()

    def _forget(self, kept: int) -> None:
        if self.outbox.forget(kept):
            self._effects.append(Forget(kept))

    def _transmit(self, now: float) -> None:
        if not self.welcomed:
            return
        if self.outbox.overdue(now):
            self.outbox.rewind(self.outbox.acked, now)
        frames = self.outbox.take(now)
        for seq, body in frames:
            self._up(now, seq, body)
        if not frames and (self._must_ack >= ACK_AFTER or now - self.said_at >= self.patience.beat):
            self._up(now, self.outbox.sent, b"")

    def _up(self, now: float, seq: int, body: bytes) -> None:
        self.said_at = now
        self._must_ack = 0
        frame = Up(self.session, self.pilot, self.epoch, self.hello, self.incarnation, seq, self.inbox.last, body)
        self._effects.append(Send(BROKER, frame))

    def _report(self, report: Report, sync: bool = False) -> None:
        body = codec.encode(report)
        # What a bundle's next life decides by must not fall behind what the broker was told.
        self._effects.append(Spool(self.outbox.put(body), body, sync or self._deputy is not None))

    def _tick(self, now: float) -> None:
        if self.ended:
            return
        waited, limit = (
            (now - self.heard_at, self.patience.silent) if self.welcomed else (now - self.hello_at, self.patience.hello)
        )
        if waited >= limit:
            self._say_hello(now)
        if now - self.last_contact >= self.patience.orphan and not self._total_held():
            self._end(Cause.NONE, "nobody asked for this agent any more")
        self._replace = True  # a reservation may have become due
        if self._must_ack:
            self._must_ack = ACK_AFTER
        if self._brief:
            self._begun, self._brief, self._tell_brief = self._brief + self._begun, [], True
        self._say_stock()

    # ------------------------------------------------------------ orders

    def _order(self, order: Message) -> None:
        if isinstance(order, Assign):
            self._assign(order)
        elif isinstance(order, Function):
            self.holdings.functions[order.sha256] = order.body
        elif isinstance(order, CancelTasks):
            self._cancel(order)
        elif isinstance(order, Drain):
            self._drain()
        elif isinstance(order, Stop):
            self._stop(Cause(order.cause))
        else:
            self._further_order(order)

    def _assign(self, order: Assign) -> None:
        index = order.picks.array()
        held = self._held.get(order.bulk)
        if held is not None and order.picks.lo < held.top:
            # An earlier attempt that the broker gave up may still be here; the new one has to wait until it is gone.
            twice = np.isin(index, held.now()[0])
            if bool(twice.any()):
                attempt = unpack(order.attempt, "<u2", len(index))
                self._report(Returned(order.bulk, Picks.of(index[twice]), pack(attempt[twice], "<u2")))
                order = cut_assign(order, ~twice)
                index = order.picks.array()
                if not len(index):
                    return
        self.holdings.add(order)
        template = self.holdings.bulks[order.bulk].template
        _, never = self.floor.open(order.bulk, template)
        self._once |= template.restart == "never"
        self.staging.open(order.bulk, template)
        self._open_service(order.bulk, template)
        held = self._held.setdefault(order.bulk, HeldSet())
        held.add(index, unpack(order.attempt, "<u2", len(index)))
        mine = tokens(order.bulk, index)
        if self.stopping is not None:
            if self._returns and self._deputy is None:  # no goodbye gives them back
                self._give_back(mine)
            return
        if never:
            self._finished.append(never_ran(mine, Cause.UNSATISFIABLE, never))
        elif self.floor.draining:
            self._give_back(mine)
        elif template.input_staging:
            self._stage_in(order, mine)
        else:
            self.floor.add(order.bulk, mine, template)
            self._replace = True

    def _cancel(self, order: CancelTasks) -> None:
        held = self._held.get(order.bulk)
        if held is None:
            return
        index = np.intersect1d(order.picks.array(), held.now()[0])
        mine = tokens(order.bulk, index)
        if order.back:
            self._give_back(self.floor.call_back(mine, self._effects))
            return
        if self._deputy is not None:
            self._deputy.canceled(order.bulk, index)
        waiting = np.concatenate((self.floor.remove(mine), self._unstage(mine, end=True)))
        if len(waiting):
            self._finished.append(never_ran(waiting, Cause.USER_CANCEL, "", TaskState.CANCELED))
        performing = np.setdiff1d(mine, waiting)
        if len(performing):
            self._effects.append(Kill(performing))

    def _drain(self) -> None:
        self.floor.draining = True
        self._say_stock()
        for bulk, held in list(self._held.items()):
            mine = tokens(bulk, held.now()[0])
            self._give_back(np.concatenate((self.floor.call_back(mine, self._effects), self._unstage(mine))))

    def _stop(self, cause: Cause) -> None:
        if self.stopping is not None:
            return
        self.stopping = cause
        self.floor.draining = True
        for bulk, held in list(self._held.items()):
            mine = tokens(bulk, held.now()[0])
            waiting = np.concatenate((self.floor.remove(mine), self._unstage(mine)))
            performing = np.setdiff1d(mine, waiting)
            if len(performing):
                self._effects.append(Kill(performing))
            if self._returns and self._deputy is None:
                self._give_back(waiting)
        if self._returns:
            self._say_stock()

    def _goodbye(self) -> None:
        self._report_tasks()
        self.floor.draining = True  # what still comes is not begun any more
        cause = self.stopping if self.stopping is not None else Cause.NONE
        if not self._returns:
            self._report(Goodbye(int(cause), self._last_word(cause)), sync=True)
        self._end(cause, "stopped" if self.stopping else "drained")

    def _last_word(self, cause: Cause) -> str:
        if not self.stopping:
            return "drained" if self._deputy is None else "its work is done"
        if cause == Cause.PILOT_LOST:
            return "ended from outside: its job was canceled or preempted, or the machine goes down [JRM-L32]"
        return CAUSE_TEXT[cause] if cause in (Cause.WALLTIME, Cause.DISK_FULL) else "stopped on request"

    def _end(self, cause: Cause, reason: str) -> None:
        self.ended = True
        self._effects.append(End(int(cause), reason))

    # ------------------------------------------------------------ tasks

    def _place(self, now: float) -> None:
        for effect in self.floor.place(now):
            if isinstance(effect, Launch):
                for bulk, where, index in by_bulk(effect.tokens):
                    held = self.holdings.bulks[bulk]
                    if held.template.restart == "never":
                        # Recorded before the start: after a crash it counts as started, and never starts again.
                        attempts = pack(held.attempts(index), "<u2")
                        nodes = pack(np.zeros(len(where), np.uint32), "<u4")
                        times = pack(np.zeros(len(where)), "<f8")
                        self._report(Started(bulk, Picks.of(index), attempts, nodes, times), sync=True)
            self._effects.append(effect)

    def _give_back(self, mine: Tokens) -> None:
        for bulk, _, index in by_bulk(mine):
            index = np.sort(index)
            attempt = self.holdings.bulks[bulk].attempts(index)
            self._report(Returned(bulk, Picks.of(index), pack(attempt, "<u2")))
            self._drop(bulk, index, attempt)

    def _drop(self, bulk: int, index: npt.NDArray[np.int64], attempt: npt.NDArray[Any]) -> None:
        held = self._held[bulk]
        held.drop(index, attempt)
        self.holdings.drop(bulk, index)
        if held.count == 0:
            del self._held[bulk]
            self.floor.close(bulk)
            self.staging.close(bulk)

    def _total_held(self) -> int:
        return sum(held.count for held in self._held.values())

    def _count_out(self, news: Finished) -> None:
        """Take finished tasks out of their pools and learn how long tasks of the pool take."""
        self._appetite.count(len(news.tokens))
        for bulk, where, _ in by_bulk(news.tokens):
            if len(where) == 1:
                began = float(news.started[where[0]])
                self.floor.ended(bulk, 1, max(float(news.ended[where[0]]) - began, 0.0) if began > 0 else -1.0)
                continue
            ran = news.started[where] > 0
            times = (news.ended[where] - news.started[where])[ran]
            self.floor.ended(bulk, len(where), float(np.maximum(times, 0).mean()) if len(times) else -1.0)

    def _report_tasks(self) -> None:
        """Turn what began and ended since the last time into as few reports as possible."""
        begun, self._begun = self._begun, []
        brief, self._brief = self._brief, []
        finished, self._finished = self._finished, []
        over = np.zeros(0, np.uint64)
        if finished and (brief or begun):
            over = np.concatenate([news.tokens for news in finished])
        for start in [*brief, *begun]:
            if len(over):
                alive = ~np.isin(start.tokens, over)
                start = Begun(start.tokens[alive], start.node[alive], start.started[alive])
            for bulk, where, index in by_bulk(start.tokens):
                if bulk not in self._held:
                    continue  # its end was reported earlier
                if self.floor.brief(bulk) and not self._tell_brief:
                    self._brief.append(Begun(start.tokens[where], start.node[where], start.started[where]))
                    continue
                self._report(
                    Started(
                        bulk,
                        Picks.of(index),
                        pack(self.holdings.bulks[bulk].attempts(index), "<u2"),
                        pack(start.node[where], "<u4"),
                        pack(start.started[where], "<f8"),
                    )
                )
        self._tell_brief = False
        if self.stopping is not None:
            # Whatever we killed on the way out did not end by itself: only honest ends are reported.
            finished = [honest(news, self._returns and self._deputy is not None) for news in finished]
        for news in joined(finished):
            for bulk, where, index in by_bulk(news.tokens):
                self._report_ended(news, bulk, where, index)

    def _report_ended(
        self, news: Finished, bulk: int, where: npt.NDArray[np.int64], index: npt.NDArray[np.int64]
    ) -> None:
        more = None
        if self._deputy is not None and not self.floor.draining:
            more = self._deputy.again(bulk, index, news.state[where], news.cause[where])
        if more is None or self._deputy is None:
            self._tell_ended(news, bulk, where, index)
            return
        if not bool(more.all()):
            self._tell_ended(news, bulk, where[~more], index[~more])
        following = self.holdings.bulks[bulk].following(bulk, np.sort(index[more]))
        self._tell_ended(news, bulk, where[more], index[more], again=True)
        for order in (*following, *self._deputy.delivered(bulk)):
            self._order(order)

    def _tell_ended(
        self,
        news: Finished,
        bulk: int,
        where: npt.NDArray[np.int64],
        index: npt.NDArray[np.int64],
        again: bool = False,
    ) -> None:
        attempt = self.holdings.bulks[bulk].attempts(index)
        whole = len(where) == len(news.tokens)
        values, notes = news.values, news.notes
        part: Any = slice(None) if whole else where
        if not whole:
            if values is not None:
                values = values.take(Picks.of(where))
            place = {int(old): new for new, old in enumerate(where.tolist())} if notes else {}
            notes = {place[at]: note for at, note in notes.items() if at in place}
        self._report(
            Ended(
                bulk,
                Picks.of(index),
                pack(attempt, "<u2"),
                pack(news.state[part], "<u1"),
                ends_of(news, part, values, notes),
                again,
            )
        )
        self._drop(bulk, index, attempt)

    # ------------------------------------------------------------ how much to hold

    def _wanted(self) -> int:
        if self.floor.draining:
            return 0  # what is given back must not come again
        return self._appetite.wanted(max(self.staging.least, 4 * self.floor.capacity()), self.patience.stock)

    def _say_stock(self) -> None:
        stock = self._wanted()
        if self.welcomed and not self.ended and self._appetite.tell(stock):
            self._report(Stock(stock, self._appetite.rate))

    def stop(self, now: float, cause: Cause, returns: bool = False) -> list[Effect]:
        """End this agent because the system asked for it (a signal): kill what runs, then say goodbye.

        Args:
            returns: its job is started anew later: then there is no goodbye.
        """
        self._returns = returns
        self._stop(cause)
        return self._out() + self.flush(now)

    def drain(self, now: float) -> list[Effect]:
        """Start nothing new because time is running out; end when nothing runs any more."""
        self._drain()
        return self._out() + self.flush(now)

    def learn_rate(self, now: float) -> None:
        """Measure how fast tasks end here; called now and then by the shell."""
        if self._appetite.learn(now):
            self._say_stock()
