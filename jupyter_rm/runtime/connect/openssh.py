"""The transport on the system's ``ssh`` with ControlMaster, for sites with Kerberos, hardware keys or host CAs.

One master process holds the login; commands, files and forwards are short-lived ssh processes that speak to it through
its control socket and can never log in by themselves. The master is in the background and outlives this program for a
bounded time, so that a restart needs no new login.

The user's SSH configuration applies, below options of ours that only make it stricter; they are written to a file
because ssh passes that, not its command line, on to the ssh of a jump host.

Knows: the ssh program. Does not know: when to reconnect. Read next: ``askpass.py``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jupyter_rm.model.errors import LinkError
from jupyter_rm.runtime.connect import hosts
from jupyter_rm.runtime.connect.ask import Asker
from jupyter_rm.runtime.connect.askpass import Ear
from jupyter_rm.runtime.connect.chain import unreachable
from jupyter_rm.runtime.connect.link import Address, Busy, Channel, Link, lost
from jupyter_rm.runtime.connect.login import refused
from jupyter_rm.runtime.connect.programs import ProcessChannel, readable
from jupyter_rm.runtime.connect.settings import ConnectSettings
from jupyter_rm.runtime.connect.target import Hop, Route, Target

_PORT_TRIES = 8
_MARK_S = 30.0  # seconds a login shell may take before the command's mark comes
_CHANGED = re.compile(r"fingerprint for the (\S+) key sent by the remote host is\s+(\S+?)\.?\s", re.S)
_OFFENDING = re.compile(r"Offending \S+ key in (.+):(\d+)")
_NO_KEY = re.compile(r"No (\S+) host key is known for (\S+)")
_DENIED = re.compile(
    r"Permission denied \(|Too many authentication failures|Authentication failed|\): Permission denied", re.I
)


def configuration(route: Route, settings: ConnectSettings, mine: Path, log: Path) -> str:
    """Return the text of our configuration ``mine``: what we insist on, then the user's own.

    A master sends the words of a jump host's ssh to /dev/null; with a ProxyCommand of ours they go to ``log``.
    """
    lines = []
    for hop in route.hops:
        # Never weaker than asking; "yes" stays "yes".
        lines += [f"Host {hop.name}", f"  StrictHostKeyChecking {hop.strict}"]
        if hop is route.last and hop.jump:
            *before, last = hop.jump.split(",")
            via = Target.parse(last.strip())
            argv = ["ssh", "-F", str(mine), *(["-J", ",".join(before)] if before else []), *_goal(via)]
            quoted = " ".join(shlex.quote(word).replace("%", "%%") for word in argv)
            quoted = quoted.replace("ssh ", "ssh -W '[%h]:%p' ", 1)
            lines.append(f"  ProxyCommand {quoted} 2>>{shlex.quote(str(log)).replace('%', '%%')}")
    alive = max(1, int(settings.keepalive_s))
    lines += [
        "Match all",
        "  ForwardAgent no",
        "  ForwardX11 no",
        "  ClearAllForwardings no",
        "  PermitLocalCommand no",
        "  RequestTTY no",
        "  VerifyHostKeyDNS no",
        "  UpdateHostKeys no",
        "  NumberOfPasswordPrompts 1",
        f"  ConnectTimeout {max(1, int(settings.connect_timeout_s))}",
        f"  ServerAliveInterval {alive}",
        f"  ServerAliveCountMax {settings.keepalive_misses}",
        "  TCPKeepAlive yes",
        "  ExitOnForwardFailure yes",
        "  StreamLocalBindUnlink yes",
        "  StreamLocalBindMask 0177",
        "  LogLevel INFO",
        "  EscapeChar none",
        *([] if settings.use_agent else ["  IdentityAgent none"]),
        "Match all",
    ]
    if settings.ssh_config is not None:
        lines.append(f'Include "{settings.ssh_config.resolve()}"')
    else:
        lines += ["Include ~/.ssh/config", "Match all", "Include /etc/ssh/ssh_config"]
    return "\n".join(lines) + "\n"


class MasterLink(Link):
    """A login held by an ssh master process.

    Args:
        route: the hops, for names and messages; ssh itself finds the way from the target.
        ask: who answers questions during the login.
        settings: timeouts, and ``control_dir``.

    Raises:
        LinkError: as ``ChainLink``.
    """

    def __init__(self, route: Route, ask: Asker, settings: ConnectSettings) -> None:
        self.name = str(route.last)
        self._route = route
        self._settings = settings
        directory = settings.control_dir
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = directory.stat()
        if facts.st_uid != os.getuid() or facts.st_mode & 0o077:
            raise LinkError(f"{directory} is not private", code="JRM-T30", hint=f"chmod 700 {directory}")
        self._id = "m" + hashlib.sha256(route.key.encode()).hexdigest()[:10]
        self._socket = directory / self._id
        if (
            len(str(self._socket)) > 84
        ):  # ssh appends 17 characters while it makes the socket; 108 is the system's limit
            raise LinkError(
                f"{directory} is too long for a socket", code="JRM-T30", hint="choose a shorter control_dir"
            )
        self._config = directory / f"{self._id}.conf"
        self._log = directory / f"{self._id}.log"
        self._config.write_text(configuration(route, settings, self._config, self._log), encoding="utf-8")
        self._config.chmod(0o600)
        self._goal = _goal(route.target)
        self._pulse: socket.socket | None = None
        self._gone = threading.Event()
        self._once = threading.Lock()
        self._closed = False
        if not self._check():
            self._log_in(ask)
        self._feel()

    def _argv(self, *options: str) -> list[str]:
        return ["ssh", "-F", str(self._config), "-S", str(self._socket), *options]

    def _client(self, *options: str) -> list[str]:
        # With ProxyCommand=false a client that finds no master fails at once; it must never log in on its own.
        return self._argv(
            "-o",
            "ControlMaster=no",
            "-o",
            "BatchMode=yes",
            "-o",
            "ProxyCommand=false",
            "-o",
            "LogLevel=ERROR",
            *options,
        )

    def _control(self, command: str, *options: str) -> subprocess.CompletedProcess[bytes]:
        argv = [*self._client("-O", command, *options), *self._goal]
        return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)

    def _check(self) -> bool:
        return self._socket.exists() and self._control("check").returncode == 0

    def _log_in(self, ask: Asker) -> None:
        self._socket.unlink(missing_ok=True)
        ear = Ear(self._settings.control_dir, self._id, self._route, ask, self._settings.ask_timeout_s)
        log = self._log
        argv = self._argv("-M", "-N", "-f", "-o", f"ControlPersist={self._settings.persist_s}", *self._goal)
        try:
            with open(
                os.open(log, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW, 0o600), "rb"
            ) as stream:
                process = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=stream,
                    env={**os.environ, **ear.environment(), "LC_ALL": "C", "SHELL": "/bin/sh"},
                    start_new_session=True,
                )
                try:
                    rc = process.wait(
                        self._settings.ask_timeout_s + self._settings.connect_timeout_s * len(self._route.hops)
                    )
                except subprocess.TimeoutExpired:
                    rc = -1
                finally:
                    if process.poll() is None:
                        process.kill()
                        process.wait()
                stream.seek(0)
                said = stream.read(1 << 16).decode(errors="replace")
            if rc:
                raise ear.failed or self._explain(said, ear.asked)
        finally:
            ear.close()
            log.unlink(missing_ok=True)

    def _explain(self, said: str, asked: str) -> LinkError:
        """Return the error behind what ssh printed."""
        hop = self._hop_in(said)
        if "REMOTE HOST IDENTIFICATION HAS CHANGED" in said:
            now, old = _CHANGED.search(said), _OFFENDING.search(said)
            known = []
            if old:
                where = f"{old[1]}:{old[2]}"
                known = [
                    f"{hosts.fingerprint(one.blob)} ({where})"
                    for one in hosts.entries((Path(old[1]),), hop.known_as)
                    if one.where == where
                ]
            return hosts.changed(hop, now[1] if now else "?", now[2] if now else "?", known)
        if "REVOKED HOST KEY DETECTED" in said:
            return LinkError(f"{hop}: its host key is marked as revoked", code="JRM-T26", hint="ask the site")
        unknown = _NO_KEY.search(said)
        if unknown:
            return hosts.unknown(hop, unknown[1], "(not shown by ssh)")
        if "Host key verification failed" in said:
            return hosts.unknown(hop, "?", "(not confirmed)")
        lines = [line.strip() for line in said.splitlines() if line.strip() and "setlocale" not in line]
        text = "; ".join(lines[-4:]) or "ssh did not say why"
        if _DENIED.search(said):
            return refused(hop, asked, [], text)
        return unreachable(hop, [text])

    def _hop_in(self, said: str) -> Hop:
        for hop in self._route.hops:
            if (
                hop.known_as in said
                or f"{hop.user}@{hop.host}:" in said
                or (f"connect to host {hop.host} port {hop.port}" in said)
            ):
                return hop
        return self._route.last

    def _feel(self) -> None:
        """Hold a silent connection to the master: it ends when the master does, and keeps it from expiring."""
        pulse = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            pulse.connect(str(self._socket))
        except OSError as error:
            pulse.close()
            raise lost(self.name, str(error)) from None
        pulse.settimeout(1.0)
        self._pulse = pulse

    def alive(self) -> bool:
        """Return whether the master lives."""
        if self._gone.is_set() or self._pulse is None:
            return False
        try:
            if not readable(self._pulse) or self._pulse.recv(1, socket.MSG_PEEK):  # its greeting may wait there
                return True
        except TimeoutError:  # watch() was faster
            return True
        except (OSError, ValueError):
            pass
        self._gone.set()
        return False

    def watch(self, stop: threading.Event) -> str:
        """Return why the link died."""
        while not stop.is_set():
            pulse = self._pulse
            try:
                if pulse is None or self._gone.is_set() or not pulse.recv(4096):
                    self._gone.set()
                    return "" if stop.is_set() else "the ssh master ended"
            except TimeoutError:
                continue
            except OSError as error:
                self._gone.set()
                return "" if stop.is_set() else str(error)
        return ""

    def close(self) -> None:
        """End the master and everything in it; a second call does nothing, for the files have other owners then."""
        with self._once:
            if self._closed:
                return
            self._closed = True
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            if self._socket.exists():
                self._control("exit")
        self._gone.set()
        pulse, self._pulse = self._pulse, None
        if pulse is not None:
            with contextlib.suppress(OSError):
                pulse.shutdown(socket.SHUT_RDWR)
            pulse.close()
        for path in (self._socket, self._config):
            path.unlink(missing_ok=True)

    def _start(self, options: Sequence[str], line: Sequence[str]) -> tuple[ProcessChannel, Path]:
        if not self.alive():
            raise lost(self.name)
        log = (
            self._settings.control_dir / f"{self._id}.{secrets.token_hex(4)}"
        )  # ssh's own words, apart from the command's
        explain = self._ended(log)
        return ProcessChannel([*self._client("-E", str(log), *options), *self._goal, *line], explain=explain), log

    def _ended(self, log: Path) -> Callable[[int], int]:
        def explain(rc: int) -> int:
            said = ""
            with contextlib.suppress(OSError):
                said = log.read_text(encoding="utf-8", errors="replace")
                log.unlink()
            # 255 is ssh's own, or the command's: then ssh has nothing to say.
            if rc == 255 and said:
                if "Session open refused" in said or "session request failed" in said:
                    raise Busy(said.strip())
                raise lost(self.name, said.strip().splitlines()[-1])
            if rc == 255 and not self.alive():
                raise lost(self.name)
            return rc

        return explain

    def spawn(self, line: str) -> Channel:
        """Start a command line through the master."""
        channel, log = self._start(["-T"], [line])
        return _Patient(channel, log)

    def files(self) -> Any:
        """Return an SFTP client that speaks through an ssh process."""
        import paramiko

        channel, log = self._start(["-T", "-s"], ["sftp"])
        pipe: Any = channel  # it asks for no more than recv, send and close
        try:
            client = paramiko.SFTPClient(pipe)
        except (paramiko.SSHException, EOFError, OSError) as error:
            try:
                channel.wait(5)
            finally:
                channel.close()
                log.unlink(missing_ok=True)
            raise LinkError(f"{self.name}: no SFTP there ({error})", code="JRM-T22", hint="ask the site") from None
        log.unlink(missing_ok=True)
        return client

    def forward(self, here: Address, there: Address) -> tuple[Address, Callable[[], None]]:
        """Have the master listen here."""
        if not here.path and here.port == 0:
            with socket.create_server((here.host, 0)) as probe:
                here = Address(here.host, probe.getsockname()[1])
        word = f"{_word(here)}:{_word(there)}"
        self._ordered(self._control("forward", "-L", word), f"{here} is taken, or not to be had")

        def end() -> None:
            self._cancel("-L", word)
            if here.path:
                Path(here.path).unlink(missing_ok=True)

        return here, end

    def _cancel(self, kind: str, word: str) -> None:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            if self.alive():
                self._control("cancel", kind, word)

    def reverse(self, there: Address, here: Address) -> tuple[Address, Callable[[], None]]:
        """Have the other machine listen, through the master."""
        for tries_left in reversed(range(_PORT_TRIES)):
            # A port that the server picked could not be given back one by one: ssh knows it as "0" for ever.
            free = not there.path and there.port == 0
            where = Address(there.host, 20_000 + secrets.randbelow(40_000)) if free else there
            word = f"{_word(where)}:{_word(here)}"
            done = self._control("forward", "-R", word)
            if done.returncode == 0 or not free or not tries_left or not self.alive():
                break
        self._ordered(done, f"{self.name} does not listen at {there} for us")
        return where, lambda: self._cancel("-R", word)

    def _ordered(self, done: subprocess.CompletedProcess[bytes], what: str) -> None:
        if done.returncode:
            if not self.alive():
                raise lost(self.name)
            says = " ".join(done.stderr.decode(errors="replace").split())
            raise LinkError(f"{what} ({says})", code="JRM-T30", hint="choose another address")

    def ping(self) -> float:
        """Return the round trip of a small SFTP question."""
        try:
            client = self.files()
        except Busy as error:
            raise LinkError(
                f"{self.name}: no free session ({error})", code="JRM-T27", hint="try again", retry=True
            ) from None
        try:
            client.stat(".")
            start = time.perf_counter()
            client.stat(".")
            return time.perf_counter() - start
        except (OSError, EOFError) as error:
            raise lost(self.name, str(error)) from None
        finally:
            client.close()


class _Patient:
    """A command whose refusal by MaxSessions comes out when it ends at once without a word; else a plain channel."""

    def __init__(self, channel: ProcessChannel, log: Path) -> None:
        self._channel = channel
        self._log = log
        self._first: bytes | None = None
        if channel.await_output(_MARK_S):
            self._first = channel.read_out(1 << 16)
            if not self._first:
                try:
                    channel.wait(1)  # raises Busy or LinkError when that was why
                except BaseException:
                    self.close()
                    raise

    def read_out(self, size: int) -> bytes:
        """Return some of stdout."""
        if self._first is not None:
            data, self._first = self._first[:size], self._first[size:] or None
            return data
        return self._channel.read_out(size)

    def read_err(self, size: int) -> bytes:
        """Return some of stderr."""
        return self._channel.read_err(size)

    def write(self, data: bytes) -> None:
        """Write all to stdin."""
        self._channel.write(data)

    def close_write(self) -> None:
        """End stdin."""
        self._channel.close_write()

    def wait(self, timeout_s: float | None) -> int | None:
        """Return the exit code, None after ``timeout_s``."""
        try:
            return self._channel.wait(timeout_s)
        except Busy as error:
            raise LinkError(str(error), code="JRM-T27", hint="try again", retry=True) from None

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()
        self._log.unlink(missing_ok=True)


def _goal(target: Target) -> list[str]:
    user = ["-l", target.user] if target.user else []
    return [*user, *(["-p", str(target.port)] if target.port else []), "--", target.host]


def _word(address: Address) -> str:
    if address.path:
        return address.path
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}"
