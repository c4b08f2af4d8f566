"""Tunnels on their own: no broker, no pilot, no agent; other people's protocols through any number of hops."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import zmq
from connect_kit import Bed

import jupyter_rm as jrm
from jupyter_rm.client.tunnel import Tunnel, goal

MANY = 10_000
WAIT_MS = 60_000


class Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello " + self.path.encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def web() -> Iterator[int]:
    """A plain web server; its port."""
    server = HTTPServer(("127.0.0.1", 0), Hello)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def through(bed: Bed, to: str | int, transport: str = "paramiko", name: str = "deep", **more: Any) -> Tunnel:
    return jrm.tunnel(f"tb-{name}", to, asker=bed.person(), settings=bed.settings(transport), **more)


def got(port: int, word: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{word}", timeout=30) as answer:
        return bytes(answer.read())


@pytest.mark.parametrize(("transport", "name"), [("paramiko", "login"), ("paramiko", "deep"), ("openssh", "deep")])
def test_a_plain_web_server_one_and_two_hops_away(bed: Bed, web: int, transport: str, name: str) -> None:
    with through(bed, web, transport, name) as door:
        assert [got(door.port, f"{n}") for n in range(5)] == [b"hello /%d" % n for n in range(5)]
        assert door.alive
        assert str(door.port) in repr(door)
    with pytest.raises(OSError):
        got(door.port, "gone")
    assert not door.alive


def test_a_private_one_is_a_socket_that_only_its_owner_can_open(bed: Bed, web: int) -> None:
    with through(bed, f"localhost:{web}", private=True) as door, socket.socket(socket.AF_UNIX) as wire:
        path = Path(door.path)
        assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        wire.settimeout(30)
        wire.connect(door.path)
        wire.sendall(b"GET /x HTTP/1.0\r\n\r\n")
        assert wire.makefile("rb").read().endswith(b"hello /x")


def test_where_it_may_lead() -> None:
    assert goal("8888") == ("127.0.0.1", 8888, "")
    assert goal("n01:80") == ("n01", 80, "")
    assert goal("[::1]:80") == ("::1", 80, "")
    assert goal("/run/x") == ("", 0, "/run/x")
    for wrong in ("", "n01", "n01:", ":80", "n01:0", "n01:65536", "n01:８", "80; true", "a:b:c"):
        with pytest.raises(jrm.RequestError, match="is no address"):
            goal(wrong)


def far_end(kind: int, talk: Callable[[zmq.Socket[bytes]], None]) -> tuple[int, threading.Thread]:
    """Serve one socket of the other side in a thread; return its port."""
    end = zmq.Context.instance().socket(kind)
    end.setsockopt(zmq.RCVTIMEO, WAIT_MS)
    end.setsockopt(zmq.SNDTIMEO, WAIT_MS)
    end.set_hwm(0)
    port = end.bind_to_random_port("tcp://127.0.0.1")

    def run() -> None:
        try:
            talk(end)
        finally:
            end.close(linger=WAIT_MS)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return port, thread


def near(kind: int, door: Tunnel, *options: tuple[int, Any]) -> zmq.Socket[bytes]:
    made = zmq.Context.instance().socket(kind)
    made.setsockopt(zmq.RCVTIMEO, WAIT_MS)
    made.setsockopt(zmq.SNDTIMEO, WAIT_MS)
    made.set_hwm(0)
    for name, value in options:
        made.setsockopt(name, value)
    made.connect(door.endpoint)
    return made


def test_request_and_reply_with_a_time_limit(bed: Bed) -> None:
    def serve(end: zmq.Socket[bytes]) -> None:
        for _ in range(MANY):
            who, number = end.recv_multipart()
            end.send_multipart([who, b"=" + number])

    port, thread = far_end(zmq.ROUTER, serve)
    with through(bed, port, private=True) as door, near(zmq.DEALER, door) as ask:
        for start in range(0, MANY, 500):
            for n in range(start, start + 500):
                ask.send(b"%d" % n)
            assert [ask.recv() for _ in range(500)] == [b"=%d" % n for n in range(start, start + 500)]
        thread.join(60)
        ask.setsockopt(zmq.RCVTIMEO, 100)
        ask.send(b"nobody serves any more")
        with pytest.raises(zmq.Again):
            ask.recv()
        ask.setsockopt(zmq.LINGER, 0)


def test_what_is_pushed_arrives_once_and_in_the_order_of_each_sender(bed: Bed) -> None:
    heard: dict[bytes, list[int]] = {b"a": [], b"b": []}

    def serve(end: zmq.Socket[bytes]) -> None:
        for _ in range(2 * MANY):
            who, number = end.recv_multipart()
            heard[who].append(int(number))

    port, thread = far_end(zmq.PULL, serve)
    with through(bed, port, private=True) as door:
        with near(zmq.PUSH, door) as one, near(zmq.PUSH, door) as other:
            for n in range(MANY):
                one.send_multipart([b"a", b"%d" % n])
                other.send_multipart([b"b", b"%d" % n])
            thread.join(90)
        assert heard[b"a"] == heard[b"b"] == list(range(MANY))


def test_what_is_published_reaches_who_subscribed(bed: Bed) -> None:
    def serve(end: zmq.Socket[bytes]) -> None:
        assert end.recv() == b"\x01news"  # XPUB: somebody listens
        for n in range(MANY):
            end.send_multipart([b"news", b"%d" % n])
            end.send_multipart([b"else", b""])

    port, thread = far_end(zmq.XPUB, serve)
    with through(bed, port, private=True) as door:
        with near(zmq.SUB, door, (zmq.SUBSCRIBE, b"news")) as listen:
            assert [int(listen.recv_multipart()[1]) for _ in range(MANY)] == list(range(MANY))
        thread.join(60)


def test_from_the_command_line(web: int) -> None:
    argv = [sys.executable, "-m", "jupyter_rm", "tunnel", "--json", "local", str(web)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            told = json.loads(program.stdout.readline())
            assert got(told["port"], "here") == b"hello /here"
            program.send_signal(signal.SIGINT)
            assert program.wait(30) == 0
        finally:
            program.kill()
