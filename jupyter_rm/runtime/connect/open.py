"""From a URL to a connection: the transport is chosen here, and connections to the same machine are shared.

Knows: which transport can do what. Does not know: how any of them works. Read next: ``connection.py``.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable

from jupyter_rm.model.errors import LinkError, RequestError
from jupyter_rm.runtime.connect.ask import Asker
from jupyter_rm.runtime.connect.connection import Connection
from jupyter_rm.runtime.connect.link import Link
from jupyter_rm.runtime.connect.settings import ConnectSettings, LoginPolicy
from jupyter_rm.runtime.connect.target import Route, Target, resolve


def connect(target: str | Target, ask: Asker, settings: ConnectSettings | None = None) -> Connection:
    """Log in at a machine and return the connection; blocks, so call it in a worker thread.

    Args:
        target: ``ssh://user@host:port``, ``user@host``, an alias of the SSH configuration, ``local``, or a Target.
        ask: answers questions (host key, password, code, passphrase), at once or later, from any thread.
        settings: numbers and directories.

    Raises:
        RequestError: JRM-Q70 malformed target, JRM-Q72 unusable configuration or transport.
        LinkError: JRM-T20 unreachable (each attempt named), JRM-T24 key or password refused, JRM-T25 code refused,
            JRM-T26 host key unknown, changed or revoked, JRM-T29 a question was cancelled, JRM-T31 too many failures.
    """
    chosen = settings or ConnectSettings()
    route = resolve(target, chosen.ssh_config)
    return _connect(route, ask, chosen)


def _connect(route: Route, ask: Asker, settings: ConnectSettings) -> Connection:
    return Connection(route, settings, _transport(route, settings), ask)


def _transport(route: Route, settings: ConnectSettings) -> Callable[[Asker], Link]:
    if route.target.local:
        from jupyter_rm.runtime.connect.local import LocalLink

        return lambda _ask: LocalLink()
    kind = settings.transport
    if kind == "auto":
        kind = "openssh" if route.needs_openssh else "paramiko"
    if kind == "openssh":
        if shutil.which("ssh") is None:
            why = f" ({route.needs_openssh})" if route.needs_openssh else ""
            raise RequestError(
                f"transport: OpenSSH is needed{why}, and is not installed", code="JRM-Q72", hint="install it"
            )
        from jupyter_rm.runtime.connect.openssh import MasterLink

        return lambda asker: MasterLink(route, asker, settings)
    if kind != "paramiko":
        raise RequestError(f"transport: {kind!r}", code="JRM-Q72", hint="use auto, paramiko or openssh")
    if route.needs_openssh:
        raise RequestError(
            f"transport: paramiko cannot follow {route.needs_openssh}", code="JRM-Q72", hint='use transport "openssh"'
        )
    from jupyter_rm.runtime.connect.chain import ChainLink
    from jupyter_rm.runtime.connect.login import Keys

    keys = Keys()
    return lambda asker: ChainLink(route, asker, settings, keys)


class Connections:
    """The connections of one program: one for each account at each machine, made when first wanted.

    Who asks for a machine while somebody logs in there waits for that login: there is one prompt, not two.

    Args:
        settings: for all of them.
    """

    def __init__(self, settings: ConnectSettings | None = None) -> None:
        self.settings = settings or ConnectSettings()
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._made: dict[str, Connection] = {}
        self._closed = False

    def policy(self, target: str | Target) -> LoginPolicy:
        """Return what is allowed at ``target``; logs in nowhere. Raises RequestError as ``connect``."""
        return self.settings.policy(resolve(target, self.settings.ssh_config))

    def get(self, target: str | Target, ask: Asker) -> Connection:
        """Return the connection to ``target``, logging in when there is none or it is failed; as ``connect``."""
        route = resolve(target, self.settings.ssh_config)
        key = "local" if route.target.local else route.key
        with self._lock:
            mine = self._locks.setdefault(key, threading.Lock())
        with mine:
            found = self._made.get(key)
            if found is not None and found.state != "closed":
                if found.state == "failed":
                    found.reconnect(ask)
                return found
            made = _connect(route, ask, self.settings)
            with self._lock:
                if self._closed:
                    made.close()
                    raise LinkError("connections were closed here", code="JRM-T05", hint="open them again")
                self._made[key] = made
            return made

    def all(self) -> list[Connection]:
        """Return those that are not closed."""
        with self._lock:
            return [one for one in self._made.values() if one.state != "closed"]

    def close(self) -> None:
        """Close all of them."""
        with self._lock:
            self._closed = True
            made, self._made = list(self._made.values()), {}
        threads = [threading.Thread(target=one.close, daemon=True) for one in made]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
