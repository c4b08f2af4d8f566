"""What the broker itself knows of a pilot elsewhere: written before each step that must not be taken twice.

One 0600 file in the pilot's directory here. It holds the keys of the link, which must outlive this broker, and how far
the submission got: ``new`` (the batch system was told nothing), ``submitting`` (it may have been told), ``submitted``
(its job id is known) and ``over``. Knows files of this machine only. Read next: :mod:`jupyter_rm.broker.faraway`.
"""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from typing import Any

import msgspec
import zmq

from ..model.describe import PREPARED
from ..model.effects import StartPilot
from ..model.facts import PilotSpec
from ..runtime.home import Home, private_directory, write_private

NEW, SUBMITTING, SUBMITTED, OVER = "new", "submitting", "submitted", "over"


class Record(msgspec.Struct):
    """How far a pilot got; times are seconds since 1970.

    Attributes:
        phase: one of the four words above. site: as it was asked for. system: name of the batch system.
        public, secret, agent_public, agent_secret: keys of the link (Z85).
        place, sandbox: absolute paths on the target. token: the word by which its job is found again.
        job_id: of the batch system. submitted: when. misses: how often in a row the batch system did not list it.
    """

    site: str
    token: str
    public: str
    secret: str
    agent_public: str
    agent_secret: str
    phase: str = NEW
    system: str = ""
    place: str = ""
    sandbox: str = ""
    job_id: str = ""
    submitted: float = 0.0
    misses: int = 0


def wants_requeue(spec: PilotSpec) -> bool:
    """Say whether the batch system may start the job anew."""
    return spec.options.get("requeue", "").lower() in ("true", "yes", "1")


def token_of(key: bytes) -> str:
    """Return the word that marks the job of the pilot with this key, and no other job."""
    return "jrm" + hashlib.blake2s(key, digest_size=12).hexdigest()


def broker_id(home: Home) -> str:
    """Return a word that no other broker has, made once: several may use the same account of a site."""
    path = home.state / "broker.id"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        write_private(path, secrets.token_hex(4).encode())
        return path.read_text().strip()


class Places:
    """The records of all pilots elsewhere, in the ``home`` of their broker."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.broker = broker_id(home)

    @property
    def scratch(self) -> Path:
        """A private directory for archives on their way."""
        return private_directory(self.home.state / "cargo")

    def _path(self, session: str, pilot: int) -> Path:
        return private_directory(self.home.state / "pilots" / session / f"p.{pilot}") / "remote.json"

    def open(self, order: StartPilot) -> Record:
        """Return what is known of a pilot; a new record when nothing is."""
        path = self._path(order.session, order.pilot)
        try:
            return msgspec.json.decode(path.read_bytes(), type=Record)
        except FileNotFoundError:
            pass
        public, secret = zmq.curve_keypair()
        agent_public, agent_secret = zmq.curve_keypair()
        record = Record(
            order.spec.site,
            token_of(order.key),
            public.decode(),
            secret.decode(),
            agent_public.decode(),
            agent_secret.decode(),
        )
        self.save(order.session, order.pilot, record)
        return record

    def save(self, session: str, pilot: int, record: Record) -> None:
        """Write a record down: durable when this returns."""
        write_private(self._path(session, pilot), msgspec.json.encode(record))

    def forget_keys(self, session: str, pilot: int, record: Record) -> None:
        """The pilot is over: its keys open nothing any more."""
        record.phase = OVER
        record.secret = record.agent_secret = ""
        self.save(session, pilot, record)


def remote_place(home: str, session: str, broker: str, pilot: int) -> str:
    """Return the pilot's directory on the target."""
    return f"{home}/.jupyter_rm/pilots/{session}.{broker}/p.{pilot}"


def remote_sandbox(home: str, session: str, broker: str, pilot: int, asked: str) -> str:
    """Return the directory of the tasks on the target; ``asked`` is relative to home unless it is absolute."""
    if asked.startswith("~/"):
        asked = asked[2:]
    if not asked:
        return f"{home}/.jupyter_rm/sandboxes/{session}.{broker}/p.{pilot}"
    return asked if asked.startswith("/") else f"{home}/{asked}"


def spec_of(order: StartPilot, spec: PilotSpec, record: Record, launch: tuple[str, ...], bind: str) -> dict[str, Any]:
    """Return what the agent is told: one JSON object below the header of its spec file.

    Args:
        spec: what was asked for, with what the site's file says beside it.
    """
    return {
        "session": order.session,
        "pilot": order.pilot,
        "site": spec.site,
        "system": record.system,
        "token": record.token,
        "nodes": spec.nodes,
        "cores": spec.cores,
        "gpus": spec.gpus,
        "mem": spec.mem,
        "walltime": spec.walltime,
        "drain": spec.drain,
        "backup": spec.backup,
        "partitions": spec.partitions,
        "resources": spec.resources,
        "launch": spec.launch,
        "launches": list(launch),
        "requeue": wants_requeue(spec),
        "hooks": spec.hooks,
        # Under the empty name: where those lie that are prepared for all pilots of the account.
        "envs": {"": f"{spec.env_base}/{PREPARED}", **spec.envs} if spec.env_base else spec.envs,
        "bundle": spec.bundle,
        "place": record.place,
        "sandbox": record.sandbox,
        "link": {
            "bind": bind,
            "public": record.agent_public,
            "secret": record.agent_secret,
            "broker": record.public,
            "letters": True,
        },
    }
