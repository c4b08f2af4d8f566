"""What happens when a connection breaks: noticed in time, made again without a prompt, or given up for a reason."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from connect_kit import Bed, Relay, echo_server, eventually, talk

from jupyter_rm.model.errors import LinkError
from jupyter_rm.runtime.connect import Address, Connection, Event
from jupyter_rm.runtime.connect.attempts import ATTEMPTS

BOTH = pytest.mark.parametrize("transport", ["paramiko", "openssh"])


@pytest.fixture
def relay(bed: Bed) -> Iterator[Relay]:
    """A way to the server ``login`` that can break."""
    made = Relay(bed.port_of("login"))
    yield made
    made.close()


def by(bed: Bed, relay: Relay) -> Path:
    """Return a configuration in which ``tb-login`` is reached through the relay."""
    return bed.config(f"Host tb-login\n Port {relay.port}\n HostKeyAlias [127.0.0.1]:{bed.port_of('login')}")


class Ear:
    """The events of a connection."""

    def __init__(self, connection: Connection) -> None:
        self.events: list[Event] = []
        connection.listen(self.events.append)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


@BOTH
def test_a_killed_server_process_is_noticed_and_replaced_with_all_doors(
    bed: Bed, transport: str, tmp_path: Path
) -> None:
    with bed.connect(transport) as there, echo_server() as port:
        ear = Ear(there)
        there.write("f", b"before")
        door = there.forward("127.0.0.1", port)
        back = there.reverse(Address("127.0.0.1", 0), "127.0.0.1", port)
        address, far = door.address, back.address
        stream = there.start(["sleep", "300"])
        stream.group(10)
        bed.kill_sessions("login")
        with pytest.raises(LinkError) as caught:
            stream.wait(30)
        assert caught.value.code == "JRM-T21"
        eventually(lambda: "reconnected" in ear.kinds, f"events: {ear.events}", 20)
        assert ear.kinds[0] == "lost"
        assert "unaffected" in ear.events[0].text
        assert there.alive
        assert there.run(["echo", "again"]).text == "again"
        assert there.read("f") == b"before"
        assert (door.address, back.address) == (address, far)
        assert talk(address, b"x" * 100_000) == b"x" * 100_000
        assert talk(far, b"y") == b"y"
        there.remove("f")


@BOTH
def test_calls_while_it_is_lost_fail_at_once_and_say_so(bed: Bed, transport: str, relay: Relay) -> None:
    with bed.connect(transport, ssh_config=by(bed, relay)) as there:
        ear = Ear(there)
        relay.refuse = True
        relay.reset()
        eventually(lambda: there.state == "lost", f"events: {ear.events}")
        start = time.monotonic()
        for call in (lambda: there.run(["true"]), lambda: there.read("f"), lambda: there.forward("h", 1), there.rtt):
            with pytest.raises(LinkError) as caught:
                call()
            assert caught.value.code == "JRM-T21"
            assert caught.value.retry
        assert time.monotonic() - start < 2
        eventually(lambda: ear.kinds.count("retry") >= 3, f"events: {ear.events}", 20)
        relay.refuse = False
        assert there.wait(20)
        assert there.run(["true"]).rc == 0


@BOTH
def test_a_reverse_door_whose_port_is_taken_is_put_up_at_another(bed: Bed, transport: str, relay: Relay) -> None:
    with bed.connect(transport, ssh_config=by(bed, relay)) as there, echo_server() as port:
        door = there.reverse(Address("127.0.0.1", 0), "127.0.0.1", port)
        before = door.address
        relay.refuse = True
        relay.reset()
        taken: list[socket.socket] = []

        def take() -> bool:
            with contextlib.suppress(OSError):
                taken.append(socket.create_server((before.host, before.port)))
            return bool(taken)

        eventually(take, f"{before} stays open though the connection is cut", 30)
        with taken[0]:
            relay.refuse = False
            # The login says that it is there until it notices the cut.
            eventually(lambda: door.address != before, f"it stays at {before}", 30)
            assert talk(door.address, b"x") == b"x"


@BOTH
def test_a_peer_that_says_nothing_is_given_up_in_time(bed: Bed, transport: str, relay: Relay) -> None:
    with bed.connect(transport, ssh_config=by(bed, relay), keepalive_s=1.0, keepalive_misses=2) as there:
        ear = Ear(there)
        door = there.forward("127.0.0.1", bed.port)
        relay.stalled.set()
        start = time.monotonic()
        with pytest.raises(LinkError):
            there.run(["true"], timeout=30)
        eventually(lambda: "lost" in ear.kinds, f"events: {ear.events}", 10)
        assert 1 <= time.monotonic() - start < 8
        relay.reset()
        relay.stalled.clear()
        assert there.wait(20)
        assert there.run(["true"]).rc == 0
        assert talk(door.address, b"x\r\n").startswith(b"SSH-2.0")


@BOTH
def test_a_transfer_that_was_cut_is_continued(bed: Bed, transport: str, relay: Relay, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(16 << 20))
    with bed.connect(transport, ssh_config=by(bed, relay)) as there:
        ear = Ear(there)
        relay.most = 8 << 20
        with pytest.raises(LinkError) as caught:
            there.put(source, f"cut-{transport}")
        assert caught.value.code == "JRM-T21"
        eventually(lambda: "reconnected" in ear.kinds, f"events: {ear.events}", 20)
        seen: list[int] = []
        wanted = there.put(source, f"cut-{transport}", progress=lambda done, _size: seen.append(done))
        assert wanted == hashlib.sha256(source.read_bytes()).hexdigest()
        assert seen[0] > 2 << 20
        assert [entry.name for entry in there.list() if "cut" in entry.name] == [f"cut-{transport}"]
        there.remove(f"cut-{transport}")


@BOTH
def test_a_server_that_is_away_is_tried_ever_more_slowly(bed: Bed, transport: str) -> None:
    ATTEMPTS._made.clear()
    with bed.connect(transport, "few", attempts_per_min=3) as there:
        ear = Ear(there)
        bed.stop("few")
        try:
            eventually(lambda: ear.kinds.count("retry") >= 4, f"events: {ear.events}", 30)
            # Three attempts a minute are allowed, and made; the fourth waits for the minute to be over.
            threading.Event().wait(0.5)
            assert ear.kinds.count("retry") == 4
            assert there.state == "lost"
            with pytest.raises(LinkError) as caught:  # a person is told instead of made to wait
                bed.connect(transport, "few", attempts_per_min=3)
            assert caught.value.code == "JRM-T31"
        finally:
            bed.start("few")
        start = time.monotonic()
    assert time.monotonic() - start < 5  # closing does not wait for the minute
    ATTEMPTS._made.clear()


@BOTH
def test_a_second_factor_is_asked_only_when_a_person_wants_it(bed: Bed, transport: str) -> None:
    person = bed.person()
    with bed.connect(transport, "mfa", person) as there:
        ear = Ear(there)
        bed.kill_sessions("mfa")
        eventually(lambda: there.state == "failed", f"events: {ear.events}", 20)
        assert person.kinds == ["password", "otp"]
        assert ear.kinds == ["lost", "retry", "failed"]
        assert ear.events[-1].code == "JRM-T25"
        with pytest.raises(LinkError) as caught:
            there.run(["true"])
        assert caught.value.code == "JRM-T25"
        there.reconnect(person)
        assert person.kinds == ["password", "otp"] * 2
        assert there.run(["true"]).rc == 0
        there.reconnect(person)
        assert len(person.seen) == 4
        bed.kill_sessions("mfa")  # and it is watched again
        eventually(lambda: there.state == "failed", f"events: {ear.events}", 20)


@BOTH
def test_a_key_that_is_refused_now_is_offered_once(bed: Bed, transport: str, relay: Relay) -> None:
    keys = bed.state / "auth" / "alice"
    shutil.copy(keys, bed.state / "keys-before")
    with bed.connect(transport, ssh_config=by(bed, relay)) as there:
        ear = Ear(there)
        keys.write_text("")
        try:
            before = relay.accepted
            relay.reset()
            eventually(lambda: there.state == "failed", f"events: {ear.events}", 20)
        finally:
            shutil.copy(bed.state / "keys-before", keys)
            keys.chmod(0o644)
        assert ear.events[-1].code == "JRM-T24"
        assert relay.accepted == before + 1
        there.reconnect(bed.person())
        assert there.run(["true"]).rc == 0


@BOTH
def test_another_host_key_after_a_loss_is_the_end(bed: Bed, transport: str, relay: Relay) -> None:
    with bed.connect(transport, ssh_config=by(bed, relay)) as there:
        ear = Ear(there)
        relay._goal = bed.port_of("node")  # another machine answers under the same name
        relay.reset()
        eventually(lambda: there.state == "failed", f"events: {ear.events}", 20)
        assert ear.events[-1].code == "JRM-T26"
        assert "CHANGED" in ear.events[-1].text


def test_a_word_for_a_channel_that_is_closed_does_not_end_the_connection(bed: Bed) -> None:
    """A command ends while somebody is about to say that its input is over; sshd forgives no word after the close."""
    with bed.connect("paramiko", "login") as there:
        ear = Ear(there)
        transport = there._link._end  # type: ignore[union-attr]
        channel = transport.open_session()
        late = channel._send_eof  # what is made before the close and sent after it
        channel.exec_command("exit 0")
        eventually(lambda: channel.closed, "the channel is still open")
        channel.eof_sent = False
        transport._send_user_message(late())
        assert there.run(["echo", "here"]).text == "here"
        assert not [event for event in ear.events if event.kind == "lost"], ear.events


@BOTH
def test_a_server_with_three_sessions_is_a_queue(bed: Bed, transport: str) -> None:
    with bed.connect(transport, "few", session_wait_s=20.0) as there:
        there.write("few", b"1")
        with there.start(["cat"]) as stream, ThreadPoolExecutor(8) as pool:
            done = list(pool.map(lambda n: there.run(["echo", str(n)]).text, range(16)))
            assert done == [str(n) for n in range(16)]
            stream.write(b"x")
            assert stream.out.read(timeout=10) == b"x"
            stream.close_stdin()
        assert there.read("few") == b"1"
        there.remove("few")


@BOTH
def test_closing_takes_back_an_open_question(bed: Bed, transport: str) -> None:
    there = bed.connect(transport, "mfa")
    ear = Ear(there)
    bed.kill_sessions("mfa")
    eventually(lambda: there.state == "failed", f"events: {ear.events}", 20)
    person = bed.person(otp=None)
    with ThreadPoolExecutor(1) as pool:
        again = pool.submit(there.reconnect, person)
        eventually(lambda: "otp" in person.kinds, f"asked: {person.kinds}")
        there.close()
        with pytest.raises(LinkError):
            again.result(10)
    assert person.seen[-1].settled


def test_a_listener_that_fails_harms_nobody(bed: Bed) -> None:
    with bed.connect("paramiko") as there:
        there.listen(lambda _event: 1 / 0)
        ear = Ear(there)
        bed.kill_sessions("login")
        eventually(lambda: "reconnected" in ear.kinds, f"events: {ear.events}", 20)
