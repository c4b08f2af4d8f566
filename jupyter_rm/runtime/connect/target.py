"""Where a connection goes: a URL or name, resolved through the user's SSH configuration into a chain of hops.

The configuration is read by ``ssh -G`` where OpenSSH is installed, so that Host, Match, Include and defaults mean
exactly what they mean on the command line; without it by paramiko's reader, which knows no Include.

Knows: URLs, ``ssh -G``, ProxyJump. Does not know: sockets or keys. Read next: ``chain.py``, which walks the hops.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from jupyter_rm.model.errors import RequestError

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.%-]*[A-Za-z0-9_])?\.?\Z|[0-9A-Fa-f:]+(?:%[A-Za-z0-9]+)?\Z")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+$-]{0,127}\Z")
_URL = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+]*)://)?(?:(?P<user>[^/]*)@)?(?P<host>\[[^\]]*\]|[^/:@]*)(?::(?P<port>[^/]*))?/?\Z"
)
_DEPTH = 16


@dataclass(frozen=True)
class Target:
    """A machine as the user names it; ``host`` may be an alias of the SSH configuration.

    Attributes:
        host: name, alias or address; empty for this machine.
        user: account, empty for the configured one.
        port: 0 for the configured one.
    """

    host: str
    user: str = ""
    port: int = 0

    @property
    def local(self) -> bool:
        """True for this machine."""
        return not self.host

    def __str__(self) -> str:
        if self.local:
            return "local"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ssh://{self.user + '@' if self.user else ''}{host}{f':{self.port}' if self.port else ''}"

    @classmethod
    def parse(cls, text: str) -> Target:
        """Return the target of ``local``, ``host``, ``user@host`` or ``ssh://user@host:port`` (``slurm+ssh://`` too).

        Raises:
            RequestError: JRM-Q70, with the part that is wrong.
        """
        if text in ("local", "local://", "localhost://"):
            return cls("")
        found = _URL.match(text)
        if found is None:
            raise _wrong("target", text)
        scheme, user, host, port = found["scheme"], found["user"] or "", found["host"], found["port"]
        if scheme and scheme.split("+")[-1] != "ssh":
            raise _wrong("scheme", scheme)
        if ":" in user:
            raise RequestError(
                "target: a password does not belong in a URL", code="JRM-Q70", hint="leave it out; you will be asked"
            )
        return cls(host[1:-1] if host.startswith("[") else host, user, _port(port) if port else 0).checked()

    def checked(self) -> Target:
        """Return itself when host, user and port are well formed.

        Raises:
            RequestError: JRM-Q70.
        """
        if not _HOST.match(self.host):
            raise _wrong("host", self.host)
        if self.user and not _USER.match(self.user):
            raise _wrong("user", self.user)
        if not 0 <= self.port < 65536:
            raise _wrong("port", str(self.port))
        return self


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise _wrong("port", text)
    return int(text)


def _wrong(what: str, text: str) -> RequestError:
    return RequestError(f"{what}: {text!r} is not understood", code="JRM-Q70", hint="write ssh://user@host:port")


@dataclass(frozen=True)
class Hop:
    """One machine of a chain, with what the SSH configuration says about it.

    Attributes:
        name: as the user wrote it.
        host, port, user: where to knock.
        strict: ``yes`` when the user forbids asking about unknown host keys, else ``ask``; nothing weaker exists here.
        known_hosts: files to look in; a confirmed key goes into the first.
        known_hosts_system: further files to look in.
        keys, certificates: identity and certificate files, existing or not.
        only_keys: agent keys not among ``keys`` are not offered.
        agent: ``none`` when no agent is to be asked.
        alias: HostKeyAlias.
        needs_openssh: why only OpenSSH can go there, or empty.
        jump: its ProxyJump as written, or empty.
    """

    name: str
    host: str
    port: int
    user: str
    strict: str = "ask"
    known_hosts: tuple[Path, ...] = ()
    known_hosts_system: tuple[Path, ...] = ()
    keys: tuple[Path, ...] = ()
    certificates: tuple[Path, ...] = ()
    only_keys: bool = False
    agent: str = ""
    alias: str = ""
    needs_openssh: str = ""
    jump: str = ""

    @property
    def known_as(self) -> str:
        """The name under which known_hosts has this machine."""
        if self.alias:
            return self.alias
        return self.host.lower() if self.port == 22 else f"[{self.host.lower()}]:{self.port}"

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Route:
    """The hops to a target, the target last.

    Attributes:
        target: what the user asked for.
        hops: at least one.
    """

    target: Target
    hops: tuple[Hop, ...]

    @property
    def last(self) -> Hop:
        """The machine at the end."""
        return self.hops[-1]

    @property
    def needs_openssh(self) -> str:
        """Why only OpenSSH can go this way, or empty."""
        return next((hop.needs_openssh for hop in self.hops if hop.needs_openssh), "")

    @property
    def key(self) -> str:
        """What tells two logins apart: user, host and port at the end, and the way there."""
        return ">".join(f"{hop.user}@{hop.host}:{hop.port}" for hop in self.hops)


Options = dict[str, list[str]]


@dataclass
class _Reader:
    """Reads one SSH configuration."""

    config: Path | None
    look_up: Callable[[Target], Options] = field(init=False)

    def __post_init__(self) -> None:
        self.look_up = self._by_ssh if shutil.which("ssh") else self._by_paramiko

    def _by_ssh(self, target: Target) -> Options:
        argv = ["ssh", "-G"]
        if self.config is not None:
            argv += ["-F", str(self.config)]
        if target.user:
            argv += ["-l", target.user]
        if target.port:
            argv += ["-p", str(target.port)]
        done = subprocess.run(
            [*argv, "--", target.host], stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False
        )
        if done.returncode:
            raise RequestError(
                f"the SSH configuration is not understood: {done.stderr.decode(errors='replace').strip()}",
                code="JRM-Q72",
                hint="repair it; ssh itself refuses it too",
            )
        found: Options = {}
        for line in done.stdout.decode(errors="surrogateescape").splitlines():
            name, _, value = line.partition(" ")
            found.setdefault(name.lower(), []).append(value.strip())
        return found

    def _by_paramiko(self, target: Target) -> Options:
        import paramiko

        config = paramiko.SSHConfig()
        path = self.config or Path("~/.ssh/config").expanduser()
        if path.is_file():
            with path.open() as stream:
                config.parse(stream)
        found: Options = {}
        for name, value in config.lookup(target.host).items():
            found[name] = list(value) if isinstance(value, list) else [str(value)]
        if target.user:
            found["user"] = [target.user]
        if target.port:
            found["port"] = [str(target.port)]
        found.setdefault("identityfile", ["~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa"])
        found.setdefault("globalknownhostsfile", ["/etc/ssh/ssh_known_hosts"])
        return found

    def hop(self, target: Target) -> Hop:
        """Return the hop of one target."""
        found = self.look_up(target)

        def one(name: str, default: str = "") -> str:
            return found.get(name, [default])[0]

        host, port = one("hostname", target.host), int(one("port", "22"))
        user = one("user", target.user or getpass.getuser())
        tokens = {
            "%h": host,
            "%p": str(port),
            "%r": user,
            "%n": target.host,
            "%d": str(Path.home()),
            "%u": getpass.getuser(),
            "%%": "%",
        }

        def paths(name: str) -> tuple[Path, ...]:
            words = [word for line in found.get(name, []) for word in (line.split() if "known" in name else [line])]
            filled = (re.sub("%.", lambda part: tokens.get(part[0], part[0]), word.strip('"')) for word in words)
            return tuple(Path(word).expanduser() for word in filled if word.lower() not in ("none", "/dev/null"))

        jump = one("proxyjump", "none")
        needs = ""
        for name, says in (
            ("proxycommand", "ProxyCommand"),
            ("pkcs11provider", "PKCS11Provider"),
            ("knownhostscommand", "KnownHostsCommand"),
        ):
            # ssh -G spells a ProxyJump as ProxyJump only, so a ProxyCommand is the user's own.
            if one(name, "none").lower() not in ("none", ""):
                needs = f"{says} of {target.host}"
        agent = one("identityagent", "SSH_AUTH_SOCK")
        if agent.lower() != "none" and agent not in (
            "SSH_AUTH_SOCK",
            "$SSH_AUTH_SOCK",
            os.environ.get("SSH_AUTH_SOCK"),
        ):
            needs = f"IdentityAgent of {target.host}"  # paramiko speaks to the environment's agent only
        return Hop(
            name=target.host,
            host=host,
            port=port,
            user=user,
            strict="yes" if one("stricthostkeychecking", "ask").lower() in ("yes", "true") else "ask",
            known_hosts=paths("userknownhostsfile") or (Path("~/.ssh/known_hosts").expanduser(),),
            known_hosts_system=paths("globalknownhostsfile"),
            keys=paths("identityfile"),
            certificates=paths("certificatefile"),
            only_keys=one("identitiesonly", "no").lower() == "yes",
            agent=agent,
            alias=one("hostkeyalias") if one("hostkeyalias", "none") != "none" else "",
            needs_openssh=needs,
            jump="" if jump.lower() == "none" else jump,
        )

    def route(self, target: Target, depth: int = 0) -> tuple[Hop, ...]:
        """Return the hops to ``target``."""
        if depth > _DEPTH:
            raise RequestError(f"{target.host}: ProxyJump goes round in a circle", code="JRM-Q72", hint="see: ssh -G")
        hop = self.hop(target)
        before: tuple[Hop, ...] = ()
        for number, word in enumerate(hop.jump.split(",") if hop.jump else []):
            via = Target.parse(word.strip())
            # As OpenSSH does it: the first jump host is reached as its own entry says, the others from the one before.
            before += self.route(via, depth + 1) if number == 0 else (self.hop(via),)
        return (*before, hop)


def resolve(target: str | Target, config: Path | None = None) -> Route:
    """Return the way to ``target`` by the SSH configuration ``config`` (default: the user's and the system's).

    Raises:
        RequestError: JRM-Q70 for a malformed target, JRM-Q72 for a configuration that cannot be used.
    """
    goal = Target.parse(target) if isinstance(target, str) else target
    if goal.local:
        return Route(goal, (Hop("local", "", 0, getpass.getuser()),))
    goal.checked()
    hops = _Reader(config).route(goal)
    for hop in hops:
        replace(goal, host=hop.host, user=hop.user, port=hop.port).checked()
    return Route(goal, hops)
