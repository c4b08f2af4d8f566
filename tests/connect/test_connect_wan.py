"""A slow link and a dead one, with real packets held and dropped on the way."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from connect_kit import Bed, echo_server, eventually, talk

from jupyter_rm.runtime.connect import Address, Connection, Event

TRANSPORTS = ("paramiko", "openssh")


@pytest.fixture
def slow(far: Bed) -> Iterator[dict[str, Connection]]:
    """Both transports over a link with 100 ms of round trip and the usual patience."""
    far.wan("delay=50", "state=up")
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(far.connect(name, keepalive_s=15.0, connect_timeout_s=30.0))
            for name in TRANSPORTS
        }
    far.wan("delay=0", "state=up")


def test_a_tenth_of_a_second_away_and_ten_seconds_of_silence(
    far: Bed, slow: dict[str, Connection], tmp_path: Path
) -> None:
    data = os.urandom(1 << 20)
    (tmp_path / "f").write_bytes(data)
    lost: list[Event] = []
    for name, there in slow.items():
        there.listen(lost.append)
        assert 0.09 < there.rtt() < 1
        assert there.run(["cat"], stdin=data[:100_000]).out == data[:100_000]
        start = time.monotonic()
        there.put(tmp_path / "f", name)
        assert time.monotonic() - start < 5, name  # 32 requests of 32 KiB, one after the other, would take 3.2 s alone
        assert there.read(name) == data
    streams = {name: there.start(["sh", "-c", "while read line; do echo $line; done"]) for name, there in slow.items()}
    with ExitStack() as doors, echo_server() as port:
        # The echo server is on this side: out through a reverse door, and back in through a forward to it.
        for name, there in slow.items():
            out = doors.enter_context(there.reverse(Address("127.0.0.1", 0), "127.0.0.1", port))
            into = doors.enter_context(there.forward("127.0.0.1", out.address.port))
            assert talk(into.address, b"x" * 50_000) == b"x" * 50_000, name
        far.wan("state=blackhole")
        start = time.monotonic()
        for stream in streams.values():
            stream.write(b"through the dark\n")
        threading.Event().wait(10)
        for stream in streams.values():
            assert stream.rc is None
        far.wan("state=up")
        for stream in streams.values():
            assert stream.out.read(timeout=40) == b"through the dark\n"
            stream.close_stdin()
            assert stream.wait(20) == 0
    assert lost == []


def test_a_dead_link_is_noticed_and_comes_back(far: Bed) -> None:
    far.wan("delay=5", "state=up")
    with ExitStack() as stack:
        both = {
            name: stack.enter_context(far.connect(name, keepalive_s=1.0, keepalive_misses=3)) for name in TRANSPORTS
        }
        heard: dict[str, list[str]] = {name: [] for name in both}
        for name, there in both.items():
            there.listen(lambda event, name=name: heard[name].append(event.kind))  # type: ignore[misc]
        far.wan("state=blackhole")
        for name in both:
            eventually(lambda name=name: "lost" in heard[name], f"{name} did not notice: {heard}", 12)  # type: ignore[misc]
        far.wan("state=up")
        for name, there in both.items():
            assert there.wait(40), (name, heard)
            assert there.run(["echo", "back"]).text == "back"
