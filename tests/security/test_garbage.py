"""Whatever bytes arrive at the broker's sockets, it serves on and does not grow."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import psutil
import pytest
import zmq
from security_kit import broker, eventually

from jupyter_rm.client.session import Session
from jupyter_rm.model.columns import Column, Picks
from jupyter_rm.model.describe import Template
from jupyter_rm.model.facts import Ends, PilotSpec
from jupyter_rm.model.messages import (
    AgentHello,
    AgentRefused,
    AgentWelcome,
    Attach,
    BrokerStatus,
    Cancel,
    Ended,
    Explain,
    FetchStory,
    FetchValues,
    Hello,
    Message,
    Refused,
    RequestPilot,
    Seen,
    Status,
    Submit,
    Up,
)
from jupyter_rm.model.resources import Node, Request
from jupyter_rm.runtime.home import Home
from jupyter_rm.wire import codec

FRAMES = 100_000
GROWTH = 20 << 20
HUGE = Picks(0, 1 << 60)
NONSENSE: list[Message] = [
    Attach(1, "no/name", True),
    Attach(1, "security", True, -(1 << 60)),
    Seen("security", 1 << 60),
    Cancel(1, "security", ((1 << 60, None),)),
    Cancel(1, "security", ((0, HUGE),)),
    FetchValues(1, "security", 0, HUGE),
    FetchValues(1, "security", -1, Picks(0, 1)),
    FetchStory(1, "security", 1 << 60, -1),
    Explain(1, "security", 0, 1 << 60),
    RequestPilot(1, "security", b"", PilotSpec(nodes=-1, mem=1 << 62, sandbox="\0")),
    Submit(1, "security", b"1", 1 << 62, Template()),
    Submit(1, "security", b"2", 3, Template(request=Request(ranks=-1))),
    Submit(1, "security", b"3", 3, Template(), {"a": Column("int", 3, data=b"x")}),
    Submit(1, "security", b"4", 3, Template(), after=((0, HUGE),)),
    Submit(1, "security", b"5", 3, Template(), functions={b"": b"not the digest"}),
]


@contextmanager
def dealer(name: str) -> Iterator[zmq.Socket[bytes]]:
    link = zmq.Context.instance().socket(zmq.DEALER)
    link.setsockopt(zmq.LINGER, 0)
    link.setsockopt(zmq.RCVTIMEO, 20_000)
    link.connect(f"ipc://{Home.locate().socket(name)}")
    try:
        yield link
    finally:
        link.close()


def answer(link: zmq.Socket[bytes], message: Message, kind: type[Message]) -> Message:
    """Send a message and return the first reply of a kind."""
    link.send(codec.encode(message))
    while True:
        reply = codec.from_broker.decode(link.recv())
        if isinstance(reply, kind):
            return reply


def serves(pid: int) -> None:
    """Check that the same broker still answers."""
    with dealer("broker") as link:
        said = answer(link, Status(1), BrokerStatus)
    assert isinstance(said, BrokerStatus)
    assert said.pid == pid


def damaged(chance: random.Random) -> bytes:
    """Return bytes that are no message, or one that was hit somewhere."""
    kind = chance.randrange(6)
    if kind == 0:
        return chance.randbytes(chance.randrange(200))
    if kind == 1:
        return b"\x91" * chance.randrange(2000)  # lists in lists
    if kind == 2:
        return b"\xdd\xff\xff\xff\xff\x02"  # a list of four thousand million
    if kind == 3:
        return b"\xc6\xff\xff\xff\xff"  # as many bytes
    genuine: list[Message] = [
        Hello(1),
        Seen("s", 3),
        AgentHello(f"s{chance.random()}", 0, 1, 1, 0, nodes=(Node("n", 4),)),
        Up(f"s{chance.random()}", chance.randrange(1 << 30), 1, 1, 1, 1, 1, b"x"),
        Submit(1, "s", b"k", 2, Template(executable="x")),
    ]
    frame = bytearray(codec.encode(chance.choice(genuine)))
    if kind == 4:
        for _ in range(chance.randrange(1, 4)):
            frame[chance.randrange(len(frame))] = chance.randrange(256)
    return bytes(frame)


@pytest.mark.parametrize("name", ["broker", "agents"])
def test_a_flood_of_garbage_neither_ends_nor_fattens_the_broker(bare: Session, name: str) -> None:
    process = broker()
    chance = random.Random(7)

    def flood(count: int) -> None:
        with dealer(name) as link:
            for number in range(count):
                link.send_multipart([damaged(chance)] * chance.choice((1, 1, 1, 2, 3)))
                while number % 64 == 0 and link.poll(0):
                    link.recv_multipart()
            # What has been taken in before this is answered by the time the broker idles.
            eventually(lambda: link.getsockopt(zmq.EVENTS) & zmq.POLLOUT, "the broker takes no frames")
        serves(process.pid)

    flood(FRAMES // 5)  # what an allocator keeps for good is there now
    before = process.memory_info().rss
    flood(FRAMES)
    grown = process.memory_info().rss - before
    assert grown < GROWTH, f"{grown >> 20} MiB more after {FRAMES} frames"


@pytest.mark.parametrize("message", NONSENSE, ids=lambda message: type(message).__name__)
def test_requests_without_sense_are_refused_and_the_broker_stays(bare: Session, message: Message) -> None:
    pid = broker().pid
    with dealer("broker") as link:
        link.send(codec.encode(Attach(1, "security")))
        link.send(codec.encode(Submit(1, "security", b"0", 3, Template(executable="true"))))
        link.send(codec.encode(message))
        answer(link, Status(9), BrokerStatus)
    serves(pid)


def test_a_stranger_agent_is_told_to_go_and_forgotten(bare: Session) -> None:
    pid = broker().pid
    with dealer("agents") as link:
        link.send(codec.encode(AgentHello("nobody", 0, 1, 1, 0, nodes=(Node("n", 4),))))
        refusal = codec.to_agent.decode(link.recv())
        assert type(refusal).__name__ == "AgentRefused"
    serves(pid)


def test_a_pilot_whose_reports_make_no_sense_does_not_end_the_broker(session: Session) -> None:
    process = broker()
    key = f"{_number(session)}-{session.name}"
    ends = Ended(99, HUGE, b"", b"\xff" * 9, Ends(*[b""] * 8))
    with dealer("agents") as link:
        for epoch in range(50, 60):
            link.send(codec.encode(AgentHello(key, 0, epoch, 1, 0, nodes=(Node("n", 4),))))
            welcome = codec.to_agent.decode(link.recv())
            while not isinstance(welcome, (AgentWelcome, AgentRefused)):
                welcome = codec.to_agent.decode(link.recv())
            if isinstance(welcome, AgentRefused):
                # The genuine agent was told to go when the first impostor was welcomed, and its pilot ended with it.
                assert epoch > 50, welcome.reason
                break
            body = codec.encode(ends)
            for seq in range(welcome.applied + 1, welcome.applied + 5):
                link.send(codec.encode(Up(key, 0, epoch, 1, welcome.incarnation, seq, 0, body)))
    serves(process.pid)


def test_frames_that_are_too_long_are_not_even_read(bare: Session) -> None:
    process = broker()
    before = process.memory_info().rss
    with dealer("agents") as link:
        for _ in range(3):
            link.send(bytes(codec.AGENT_LIMIT + 1), copy=False)
    serves(process.pid)
    assert process.memory_info().rss - before < GROWTH


def test_bytes_that_are_no_frames_are_dropped_with_their_connection(bare: Session) -> None:
    pid = broker().pid
    for name in ("broker", "agents"):
        for noise in (b"GET / HTTP/1.1\r\n\r\n", np.random.default_rng(3).bytes(70_000), b"\xff" * 64, b""):
            with socket.socket(socket.AF_UNIX) as link:
                link.connect(str(Home.locate().socket(name)))
                try:
                    link.sendall(noise)
                except (BrokenPipeError, ConnectionResetError):
                    pass
    serves(pid)
    assert psutil.pid_exists(pid)


def _number(session: Session) -> int:
    with dealer("broker") as link:
        refused = answer(link, FetchStory(1, "no such session", 0, 0), Refused)
    assert isinstance(refused, Refused)
    for number in range(100):
        with dealer("broker") as link:
            link.send(codec.encode(FetchStory(1, f"{number}-{session.name}", 0, 0)))
            if not isinstance(codec.from_broker.decode(link.recv()), Refused):
                return number
    raise AssertionError("the session has no key")
