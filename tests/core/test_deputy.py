"""Bundles: the agent decides alone, dies at any moment, and what it leaves behind says how everything ended."""

from __future__ import annotations

import random

import numpy as np
import pytest
from session_kit import HandMade, Talk

from jupyter_rm.core.agent import AgentMachine
from jupyter_rm.model.columns import Column
from jupyter_rm.model.describe import Template
from jupyter_rm.model.effects import Effect, End, Finished, Freed, JobChanged, Launch, Remains, Send, Spool, StartPilot
from jupyter_rm.model.errors import RequestError
from jupyter_rm.model.facts import PilotSpec
from jupyter_rm.model.ids import INDEX_BITS, INDEX_MASK
from jupyter_rm.model.messages import AgentHello, Submit, SubmitBundle
from jupyter_rm.model.resources import Node
from jupyter_rm.model.states import Cause, PilotState, TaskState
from jupyter_rm.wire import codec

Start = tuple[int, int, int]  # bulk, index, attempt


def work(count: int, key: int = 0, **fields: object) -> Submit:
    template = Template(executable="/bin/{x}", params=True, **fields)  # type: ignore[arg-type]
    column = Column.of([f"p{number}" for number in range(count)])
    return Submit(0, "study", key.to_bytes(16, "little"), count, template, {"x": column})


def bundled(talk: Talk, *parts: Submit) -> tuple[int, StartPilot]:
    number, _ = talk.session.submit_bundle(SubmitBundle(1, "study", b"p" * 16, PilotSpec(), parts))
    talk.flush()
    starts = [effect for effect in talk.effects if isinstance(effect, StartPilot)]
    return number, starts[-1]


class Alone:
    """An agent with a bundle whom nobody hears: its spool, what it started, and what runs."""

    def __init__(self, orders: tuple[bytes, ...], cores: int = 4) -> None:
        self.orders, self.cores = orders, cores
        self.spool: list[tuple[int, bytes]] = []
        self.hello = b""
        self.started: list[Start] = []
        self.epoch = -1
        self.live()

    def live(self) -> None:
        """Begin a life, after a death if there was one."""
        self.epoch += 1
        self.running: dict[int, int] = {}
        self.ended = False
        nodes = [Node("n0", self.cores)]
        self.machine = AgentMachine("0-study", 0, self.epoch, nodes, spooled=self.spool, bundle=self.orders)
        self.carry_out(self.machine.start(0.0))
        self.carry_out(self.machine.flush(0.0))

    def carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Spool):
                self.spool.append((effect.seq, effect.body))
            elif isinstance(effect, Send) and isinstance(effect.message, AgentHello):
                self.hello = codec.encode(effect.message)
            elif isinstance(effect, Launch):
                for token, alloc in zip(effect.tokens.tolist(), effect.allocs.tolist(), strict=True):
                    self.running[token] = alloc
                    held = self.machine.holdings.bulks[token >> INDEX_BITS]
                    index = token & INDEX_MASK
                    assert held.params(index) == {"x": f"p{index}"}
                    self.started.append((token >> INDEX_BITS, index, int(held.attempts(np.array([index]))[0])))
            elif isinstance(effect, End):
                self.ended = True

    def requeued(self) -> None:
        """Let the batch system end the job, to start it anew later: what runs dies with it."""
        self.carry_out(self.machine.stop(1.0, Cause.PILOT_LOST, returns=True))
        for token in sorted(self.running):
            self.end(token, TaskState.FAILED, Cause.PILOT_LOST)
        assert self.ended
        self.live()

    def end(self, token: int, state: TaskState, cause: Cause = Cause.NONE) -> None:
        """Let one task end."""
        alloc = self.running.pop(token)
        one = np.zeros(1)
        self.carry_out(
            self.machine.handle(
                1.0,
                Finished(
                    np.array([token], np.uint64), np.array([state], np.uint8), np.array([cause], np.uint8),
                    np.array([state != TaskState.DONE], np.int32), np.zeros(1, np.uint32), one + 0.5, one + 60,
                    one.astype(np.float32), one.astype(np.float32), np.zeros(1, np.uint32),
                ),
            )
        )  # fmt: skip
        self.carry_out(self.machine.handle(1.0, Freed(np.array([alloc], np.uint64))))
        for _ in range(2):  # what is tried again is placed in the next round
            self.carry_out(self.machine.flush(1.0))

    def reports(self) -> tuple[tuple[int, bytes], ...]:
        return tuple(self.spool)


def test_all_of_it_or_nothing_is_recorded_and_once_only() -> None:
    talk = Talk()
    with pytest.raises(RequestError) as refused:
        bundled(talk, work(3), work(2, 1, pilot="p.0"))
    assert refused.value.code == "JRM-Q27"
    assert not talk.session.ledger.pilots
    assert not talk.session.ledger.bulks
    number, start = bundled(talk, work(3), work(2, 1))
    message = SubmitBundle(2, "study", b"p" * 16, PilotSpec(), (work(3), work(2, 1)))
    assert talk.session.submit_bundle(message) == (number, 5)
    assert len(talk.session.ledger.pilots) == 1
    assert [int(count) for count in talk.session.ledger.counts if count] == [5]
    assert talk.state(0) == (1, TaskState.SCHEDULED)
    assert len(start.orders) == 2


def test_a_bundle_that_was_never_submitted_lets_its_work_wait_for_another_pilot() -> None:
    talk = Talk()
    number, _ = bundled(talk, work(3, restart="never"))
    talk.session.job(JobChanged("0-study", number, False, cause=int(Cause.SUBMIT_REJECTED), reason="no such queue"))
    assert talk.state(0) == (2, TaskState.WAITING)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_to_it_alone_each_task_ends_once_and_by_its_own_policy(seed: int) -> None:
    chance = random.Random(seed)
    talk = Talk()
    retries = chance.randint(0, 3)
    parts = [work(chance.randint(1, 30), 0, retries=retries), work(chance.randint(1, 10), 1, restart="never")]
    number, start = bundled(talk, *parts)
    alone = Alone(start.orders)
    failures: dict[tuple[int, int], int] = {}
    lives = 1
    while not alone.ended:
        if lives < 5 and chance.random() < 0.03:
            chance.choice((alone.live, alone.requeued))()
            lives += 1
            continue
        token = chance.choice(sorted(alone.running))
        task = (token >> INDEX_BITS, token & INDEX_MASK)
        state, cause = TaskState.DONE, Cause.NONE
        if chance.random() < 0.4:
            state, cause = TaskState.FAILED, chance.choice((Cause.TASK_EXIT, Cause.NODE_LOST))
            failures[task] = failures.get(task, 0) + (cause == Cause.TASK_EXIT)
        alone.end(token, state, cause)
    assert len(set(alone.started)) == len(alone.started), "an attempt was started twice"
    # Nobody was there all the time; now its reports are read, once more than needed.
    for _ in range(2):
        talk.session.remains(Remains("0-study", number, alone.hello, alone.reports()))
    talk.session.job(JobChanged("0-study", number, False, reason="it is gone"))
    talk.flush()
    row = talk.session.ledger.pilots[number]
    assert (row.state, row.reason) == (PilotState.DONE, "its work is done")
    assert [node.name for node in row.nodes] == ["n0"]
    for bulk, part in enumerate(parts):
        table = talk.session.ledger.bulks[bulk]
        assert (table.state >= TaskState.DONE).all()
        tries = {index: [a for b, i, a in alone.started if (b, i) == (bulk, index)] for index in range(part.count)}
        for index, attempts in tries.items():
            assert table.attempt[index] == max(attempts, default=1)
            spent = failures.get((bulk, index), 0)
            if part.template.restart == "never":
                assert len(attempts) == 1
            elif table.state[index] == TaskState.FAILED:
                assert spent == retries + 1
            else:
                assert spent <= retries


def test_a_broker_that_comes_back_in_the_middle_hears_it_all_and_agrees() -> None:
    talk = Talk()
    number, start = bundled(talk, work(6, retries=1))
    alone = Alone(start.orders, cores=2)
    first, second = sorted(alone.running)
    alone.end(first, TaskState.FAILED, Cause.TASK_EXIT)
    alone.end(second, TaskState.DONE)
    agent = HandMade(talk, number, epoch=0)
    agent.greet(held=None)
    for _, body in alone.spool:
        agent.say(codec.reports.decode(body))
    assert talk.state(0, 0) == (2, TaskState.SCHEDULED)
    assert talk.state(0, 1) == (1, TaskState.DONE)
    assert talk.session.ports[number].held == 5
    assert not talk.session.queue
