"""The way back: the agent dials a socket of the broker; strangers at that door are not heard and cut nobody off."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from jupyter_rm.agent.link import HeardLink
from jupyter_rm.batch import check, ways_in
from jupyter_rm.broker.links import Keys, Links, Road
from jupyter_rm.model.errors import ProtocolError
from jupyter_rm.runtime.clock import Clock
from jupyter_rm.runtime.connect.forwarder import Forwarder, dial_here
from jupyter_rm.runtime.connect.link import Address
from jupyter_rm.runtime.drive import Drive
from jupyter_rm.wire import letters

KEY = (0, 0)


class Ends:
    """Both ends in one loop: the broker's socket in a private file, the agent's link, and doors between them."""

    def __init__(self, place: Path) -> None:
        self.place, self.drive = place, Drive(Clock(), lambda: None)
        self.drive.every(0.01, lambda: None)
        self.context = zmq.Context()
        public, secret = (part.decode() for part in zmq.curve_keypair())
        self.agent_public, agent_secret = (part.decode() for part in zmq.curve_keypair())
        self.broker_public = public
        self.told: list[bytes] = []  # what the broker heard
        self.heard: list[bytes] = []  # what the agent heard
        self.met = 0
        self.links = Links(self.context, self.drive, lambda key, frame: self.told.append(frame))
        self.road = Road()
        self.path = place / "door"
        self.links.open(KEY, f"ipc://{self.path}", Keys(public, secret, self.agent_public), self.road, listen=True)
        said = {"bind": "127.0.0.1", "public": self.agent_public, "secret": agent_secret, "broker": public}
        self.agent = HeardLink({**said, "letters": True}, place)
        self.agent.open(self.drive, self.heard.extend, self._met)
        self.doors: list[Forwarder] = []

    def _met(self) -> None:
        self.met += 1
        self.agent.send(b"hello")

    def door(self) -> int:
        """Return a new port that leads to the broker's socket."""
        self.doors.append(Forwarder(Address("127.0.0.1", 0), lambda: dial_here(Address(path=str(self.path)))))
        return self.doors[-1].address.port

    def tell(self, *endpoints: str) -> None:
        said = {"endpoints": list(endpoints), "number": str(time.monotonic_ns())}
        (self.place / letters.DOWN / letters.DIAL).write_text(json.dumps(said))

    def until(self, check: Callable[[], object], what: str, within_s: float = 15.0) -> None:
        deadline = time.monotonic() + within_s
        while not check():
            assert time.monotonic() < deadline, f"{what}: {self.road}, agent heard {self.heard}, broker {self.told}"
            self.drive.once()

    def for_a_while(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        with contextlib.suppress(AssertionError):
            self.until(lambda: time.monotonic() > end, "", seconds + 1)

    def close(self) -> None:
        self.links.close_all()
        self.agent.close()
        for door in self.doors:
            door.close()
        self.context.term()
        self.drive.close()


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    made = Ends(tmp_path)
    yield made
    made.close()


def test_an_agent_that_is_told_where_to_dial_comes_and_keeps_one_road(ends: Ends) -> None:
    first, second = ends.door(), ends.door()
    with socket.create_server(("127.0.0.1", 0)) as dead:
        gone = dead.getsockname()[1]
    assert not ends.road.up
    ends.tell(*(f"tcp://127.0.0.1:{port}" for port in (gone, first, second)))
    ends.until(lambda: ends.road.up and ends.told, "the agent did not come")
    assert ends.told[0] == b"hello" and ends.road.heard
    ends.until(lambda: len(ends.agent._dialed) == 1, "it keeps addresses that it does not need")
    ends.for_a_while(0.3)
    met = ends.met
    for number in range(20):
        ends.links._links[KEY].put(b"%d" % number)
    ends.until(lambda: len(ends.heard) >= 20, "orders are lost")
    assert ends.heard == [b"%d" % number for number in range(20)], "two roads, and half of the orders on each"
    assert ends.met == met, "each order came by another road, and was answered with a hello"


def test_strangers_at_the_door_are_not_heard_and_cut_nobody_off(ends: Ends) -> None:
    port = ends.door()
    ends.tell(f"tcp://127.0.0.1:{port}")
    ends.until(lambda: ends.road.up and ends.told, "the agent did not come")
    ends.told.clear()
    cuts = ends.road.failures
    with zmq.Context() as context, contextlib.ExitStack() as stack:
        for kind in ("another agent", "another broker", "nobody"):
            stranger = stack.enter_context(context.socket(zmq.DEALER))
            stranger.linger = 0
            if kind != "nobody":
                stranger.curve_publickey, stranger.curve_secretkey = zmq.curve_keypair()
            if kind == "another agent":
                stranger.curve_server = True
            elif kind == "another broker":
                stranger.curve_serverkey = ends.broker_public.encode()
            stranger.connect(f"tcp://127.0.0.1:{port}")
            stranger.send(b"evil")
        # Speakers of the protocol's first versions, which know no keys; and of another one.
        old, second = b"\x01\x00\x05\x00evil", b"\xff" + bytes(8) + b"\x7f\x01\x05\0\0\0\x04evil"
        for raw in (old, second, b"GET / HTTP/1.0\r\n\r\n"):
            wire = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            wire.sendall(raw)
        ends.for_a_while(2.5)
        assert ends.told == [], "a stranger was heard"
        assert ends.road.up and ends.road.failures == cuts, "a stranger cut the road"
    ends.for_a_while(0.5)
    assert ends.road.up and ends.road.failures == cuts, "a stranger who went cut the road"
    ends.links._links[KEY].put(b"order")
    ends.until(lambda: b"order" in ends.heard, "the agent is not reached any more")


def test_an_agent_lets_in_nobody_but_the_broker_where_it_dials(ends: Ends) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.linger = 0
        stranger.curve_publickey, stranger.curve_secretkey = zmq.curve_keypair()
        stranger.curve_serverkey = ends.agent_public.encode()
        port = stranger.bind_to_random_port("tcp://127.0.0.1")
        ends.tell(f"tcp://127.0.0.1:{port}")
        ends.until(lambda: ends.agent._dialed, "it does not dial")
        ends.for_a_while(1.5)
        assert not stranger.poll(0, zmq.POLLOUT) and not ends.met, "the agent greets a stranger"


def test_after_a_cut_the_agent_is_told_anew_and_comes_to_another_port(ends: Ends) -> None:
    ends.tell(f"tcp://127.0.0.1:{ends.door()}")
    ends.until(lambda: ends.road.up and ends.told, "the agent did not come")
    ends.doors[0].close()
    ends.until(lambda: not ends.road.up, "nobody notices the cut")
    ends.told.clear()
    began = time.monotonic()
    ends.tell(f"tcp://127.0.0.1:{ends.door()}")
    ends.until(lambda: ends.road.up and ends.told, "the agent did not come back")
    assert time.monotonic() - began < 4, "it waited as if the road were only quiet"


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"\xff\xfe", b"[]", b'{"endpoints": 1, "number": ""}'),
        *(b'{"endpoints": ["ipc:///etc/x"], "number": "1"}', b'{"endpoints": ["tcp://host:1"], "number": "1"}'),
        json.dumps({"endpoints": ["tcp://10.0.0.1:1"] * 17, "number": "1"}).encode(),
    ],
)
def test_what_is_no_address_is_not_dialed(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        letters.Dial.read(body)


def test_the_order_of_the_ways_is_what_was_asked_for() -> None:
    assert ways_in("") == ways_in("auto") == ways_in("forward,reverse,letters") == ("forward", "reverse")
    assert ways_in("reverse,forward") == ("reverse", "forward")
    assert (ways_in("reverse"), ways_in("letters")) == (("reverse",), ())
    for text in ("backward", "letters,forward", "forward,forward", ",", "forward,", "Auto"):
        assert ways_in(text) is None, text


def test_a_site_s_file_that_asks_for_a_way_that_there_is_not_is_told_so_by_the_key(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = 'extends = "slurm"\n[site]\nurl = "slurm+ssh://me@login"\nconnect = "{}"\n'
    path.write_text(text.format("reverse,forward"))
    assert check(path) == []
    path.write_text(text.format("backward"))
    (problem,) = check(path)
    assert (problem.path, problem.found) == ("site.connect", "backward"), problem
    assert "reverse,forward" in problem.expected
