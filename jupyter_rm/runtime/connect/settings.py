"""The numbers of a connection, with units in their names.

Knows: defaults. Does not know: where a value came from. Read next: ``connection.py``, which obeys them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jupyter_rm.runtime.connect.target import Route


@dataclass(frozen=True)
class LoginPolicy:
    """What is allowed on a login node.

    Attributes:
        resident: something of ours may stay there between two commands, such as a shell.
        sessions: commands and file sessions at once; 0: nobody has said how many.
        source: the site file that says so; empty: none does.
    """

    resident: bool = True
    sessions: int = 0
    source: str = ""


def _nobody_said(_route: Route) -> LoginPolicy:
    return LoginPolicy()


@dataclass(frozen=True)
class ConnectSettings:
    """How connections are made and kept.

    Attributes:
        control_dir: directory for sockets and scratch files; made 0700 when missing.
        transport: ``auto`` (paramiko unless the SSH configuration needs OpenSSH), ``paramiko`` or ``openssh``.
        ssh_config: configuration file instead of ``~/.ssh/config`` and the system's.
        use_agent: offer the keys of ssh-agent.
        connect_timeout_s: for reaching a host and agreeing on encryption, each address and each hop.
        ask_timeout_s: how long a question to a person stands.
        keepalive_s: silence after which the peer is asked whether it is there.
        keepalive_misses: intervals without an answer after which it is taken for gone.
        reconnect: try again when an established connection is lost.
        backoff_first_s, backoff_max_s: pauses before attempts, doubled and jittered in between.
        attempts_per_min: at most so many logins a minute to one host, whatever the reason.
        max_sessions: channels for commands and files in use at once (a server's MaxSessions is 10 by default).
        session_wait_s: how long a command waits for a free one.
        persist_s: how long an OpenSSH login outlives a program that died.
        policy: says what is allowed at the end of a route.
        output_limit: most bytes that ``run`` collects of each of stdout and stderr.
    """

    control_dir: Path = field(default_factory=lambda: Path.home() / ".jupyter_rm" / "ssh")
    transport: str = "auto"
    ssh_config: Path | None = None
    use_agent: bool = True
    connect_timeout_s: float = 10.0
    ask_timeout_s: float = 300.0
    keepalive_s: float = 15.0
    keepalive_misses: int = 3
    reconnect: bool = True
    backoff_first_s: float = 1.0
    backoff_max_s: float = 60.0
    attempts_per_min: int = 6
    max_sessions: int = 10
    session_wait_s: float = 30.0
    persist_s: int = 600
    output_limit: int = 16 << 20
    policy: Callable[[Route], LoginPolicy] = _nobody_said

    @property
    def dead_after_s(self) -> float:
        """Seconds of silence after which a connection is given up."""
        return self.keepalive_s * self.keepalive_misses
