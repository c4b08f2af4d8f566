"""Ways to an agent elsewhere: each address it gave is tried, each failure is remembered in words.

The agent listens on its node and wrote down under which names that may be reached. The broker tries them through the
connection it has (SSH carries it to whatever the login node can reach), or directly when the site is this machine. A
way counts as found when the encrypted handshake is done: then it is our agent and nobody else. Runs in the thread of
the site; blocks at most some seconds. Read next: :mod:`jupyter_rm.broker.links`, :mod:`jupyter_rm.broker.back` (the
agent comes to us), :mod:`jupyter_rm.broker.post`.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any

import msgspec

from ..model.errors import JrmError
from ..runtime.connect import Connection, Forward
from .links import Road

# How long an address may take to lead to the agent, s, beside the round trips.
TRY_S = 3.0
TRIES_MOST = 6


class Contact(msgspec.Struct):
    """Where an agent can be reached, as it says itself."""

    port: int
    host: str
    hosts: list[str]
    pid: int = 0

    @classmethod
    def read(cls, body: bytes) -> Contact | None:
        """Return the contact in a file's content, None when it is none."""
        try:
            return msgspec.convert(json.loads(body), cls)
        except (ValueError, msgspec.ValidationError):
            return None


class Reached:
    """A way that was found: its road, and the door in the connection that has to stay open."""

    def __init__(self, road: Road, door: Forward | None) -> None:
        self.road, self.door = road, door

    @property
    def name(self) -> str:
        """Which road this is, for people."""
        return "forward"

    def tell(self) -> None:
        """Say to the agent where the door is, where it is the agent that comes through it."""

    def broke(self) -> bool:
        """Say whether the road was cut since the last look, and may well come back as it is."""
        return False

    def close(self) -> None:
        """Take the door away."""
        if self.door is not None:
            self.door.close()


def reach(
    connection: Connection,
    contact: Contact,
    here: bool,
    same_host: bool,
    go: Callable[[str], Road],
) -> tuple[Reached | None, list[str]]:
    """Try the ways to an agent; return the one found (or None) and what became of each attempt.

    Args:
        here: the site is this machine. same_host: the agent runs on the login machine itself.
        go: opens a road to a ZeroMQ address.

    Raises:
        LinkError: the connection was lost meanwhile; nothing is concluded.
    """
    hosts = ["127.0.0.1"] if same_host else contact.hosts[:TRIES_MOST]
    said: list[str] = []
    for host in hosts:
        where = f"[{host}]:{contact.port}" if ":" in host else f"{host}:{contact.port}"
        if here:
            try:
                socket.getaddrinfo(host, contact.port)
            except OSError as error:
                said.append(f"{where}: {error.strerror}")
                continue
            road, door = go(f"tcp://{where}"), None
            name = where
        else:
            try:
                door = connection.forward(host, contact.port)
            except JrmError as error:
                if not connection.alive:
                    raise
                said.append(f"{where}: {error.message}")
                continue
            road = go(f"ipc://{door.address.path}")
            name = f"{where} through {connection.name}"
        why = wait(road, TRY_S)
        if not why:
            return Reached(road, door), [*said, f"{name}: connected"]
        said.append(f"{name}: {why}")
        if door is not None:
            door.close()
    return None, said


def wait(road: Road, seconds: float) -> str:
    """Wait until a road is up; return why it is not, '' when it is."""
    deadline = time.monotonic() + seconds
    while True:
        if road.up:
            return ""
        if road.refused or road.failures:
            return road.said
        left = deadline - time.monotonic()
        if left <= 0:
            return f"no answer within {seconds:g} s"
        road.changed.wait(left)
        road.changed.clear()


def describe(attempts: list[str]) -> str:
    """Return the attempts in one line, for people."""
    return "; ".join(attempts) or "it gave no address"


def parse_ended(body: bytes) -> dict[str, Any]:
    """Return what the start program wrote last, {} when that is not readable."""
    try:
        said = json.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
