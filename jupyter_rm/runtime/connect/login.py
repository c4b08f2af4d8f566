"""Proving to one machine who we are, over paramiko: keys, certificates, agent, password, rounds of questions.

The server says which methods it takes and, after each success, which it wants next. A refused secret is final: the
login ends and nobody tries again by himself.

Knows: authentication (RFC 4252, RFC 4256). Does not know: sockets, host keys. Read next: ``chain.py``.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko

from jupyter_rm.model.errors import LinkError
from jupyter_rm.runtime.connect.ask import CODE, PASSPHRASE, PASSWORD, Asker, Question, put
from jupyter_rm.runtime.connect.target import Hop

_KEY_TRIES = 5  # a server ends the connection after MaxAuthTries (6 by default) of any kind
_ROUNDS = 10


class Keys:
    """Key files opened so far, kept while the connection object lives, so that a passphrase is asked once."""

    def __init__(self) -> None:
        self._open: dict[Path, Any] = {}

    def load(self, path: Path, hop: Hop, ask: Asker | None, timeout_s: float) -> Any | None:
        """Return the key of a file; None when there is none, or when it is locked and ``ask`` is None.

        Raises:
            LinkError: JRM-T24, the passphrase is wrong.
        """
        load: Any = paramiko.PKey.from_path  # its passphrase is bytes, whatever the annotation says
        if path in self._open:
            return self._open[path]
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if b"PRIVATE KEY" not in data:  # a public key here means: this one, out of the agent
            return None
        try:
            self._open[path] = load(path)
        except TypeError:
            if ask is None:
                return None
            words = put(ask, Question(PASSPHRASE, hop.name, hop.user, f"Passphrase of {path}: "), timeout_s)
            try:
                self._open[path] = load(path, words.encode())
            except (ValueError, paramiko.SSHException):
                raise LinkError(
                    f"{hop}: that is not the passphrase of {path}", code="JRM-T24", hint="connect again and retype it"
                ) from None
        except (ValueError, paramiko.SSHException, paramiko.pkey.UnknownKeyType):
            return None
        return self._open[path]


def _blob_of(path: Path) -> bytes:
    with contextlib.suppress(OSError, IndexError, ValueError):
        import base64

        return base64.b64decode(path.read_text(encoding="ascii").split()[1])
    return b""


def _agent_keys(hop: Hop) -> list[Any]:
    if hop.agent.lower() == "none":
        return []
    with contextlib.suppress(paramiko.SSHException, OSError):
        keys = list(paramiko.Agent().get_keys())
        if not hop.only_keys:
            return keys
        wanted = {_blob_of(path if path.suffix == ".pub" else Path(f"{path}.pub")) for path in hop.keys}
        return [key for key in keys if key.asbytes() in wanted]
    return []


def _candidates(hop: Hop, ask: Asker, keys: Keys, use_agent: bool, timeout_s: float) -> Iterator[tuple[str, Any]]:
    """Yield name and key: the agent's first, then open files, then files that need a passphrase."""
    if use_agent:
        for key in _agent_keys(hop):
            yield "agent key", key
    locked = []
    for path in hop.keys:
        key = keys.load(path, hop, None, timeout_s)
        if key is None:
            locked.append(path)
            continue
        yield from _with_certificates(path, key, hop)
    for path in locked:
        key = keys.load(path, hop, ask, timeout_s)
        if key is not None:
            yield from _with_certificates(path, key, hop)


def _with_certificates(path: Path, key: Any, hop: Hop) -> Iterator[tuple[str, Any]]:
    for certificate in hop.certificates:
        with contextlib.suppress(OSError, ValueError, paramiko.SSHException):
            signed = copy.copy(key)
            signed.public_blob = None
            signed.load_certificate(str(certificate))  # refuses one that belongs to another key
            yield f"certificate {certificate}", signed
    if key.public_blob is not None:
        yield f"certificate of {path}", key
        key = copy.copy(key)
        key.public_blob = None
    yield f"key {path}", key


class Login:
    """One attempt to log in at one hop.

    Args:
        transport: an encrypted connection whose host key was checked.
        hop: where it leads.
        ask: who answers questions.
        keys: keys opened so far.
    """

    def __init__(self, transport: Any, hop: Hop, ask: Asker, keys: Keys, use_agent: bool, ask_timeout_s: float) -> None:
        self._transport = transport
        self._hop = hop
        self._ask = ask
        self._keys = keys
        self._use_agent = use_agent
        self._timeout = ask_timeout_s
        self._tried: list[str] = []
        self._asked = ""

    def run(self) -> None:
        """Return when the server let us in.

        Raises:
            LinkError: JRM-T24 (keys, password refused), JRM-T25 (code refused or nobody to ask), JRM-T29 (cancelled).
        """
        self._transport.auth_timeout = self._timeout + 30
        try:
            wants = self._transport.auth_none(self._hop.user)
        except paramiko.BadAuthenticationType as error:
            wants = error.allowed_types
        except paramiko.SSHException as error:
            raise self._refused(str(error)) from None
        used: set[str] = set()
        while not self._transport.is_authenticated():
            method = next(
                (
                    name
                    for name in ("publickey", "keyboard-interactive", "password")
                    if name in wants and name not in used
                ),
                "",
            )
            if not method:
                raise self._refused(f"it takes {', '.join(wants) or 'nothing we can offer'}")
            used.add(method)
            left = {"publickey": self._by_key, "keyboard-interactive": self._by_rounds, "password": self._by_password}[
                method
            ]()
            wants = left if left is not None else [name for name in wants if name != method]

    def _by_key(self) -> list[str] | None:
        """Offer keys; what is wanted next, None when no key was taken."""
        offers = _candidates(self._hop, self._ask, self._keys, self._use_agent, self._timeout)
        for name, key in itertools.islice(offers, _KEY_TRIES):
            try:
                return list(self._transport.auth_publickey(self._hop.user, key))
            except paramiko.BadAuthenticationType as error:
                return list(error.allowed_types)
            except (paramiko.SSHException, EOFError, OSError) as error:
                self._tried.append(name)
                if not self._transport.is_active():
                    raise self._refused(str(error)) from None
        return None

    def _by_rounds(self) -> list[str] | None:
        rounds = 0
        failed: list[LinkError] = []

        def answer(title: str, instructions: str, prompts: list[tuple[str, bool]]) -> list[str]:
            # An empty round wants an empty answer. This runs in the transport's thread: an exception would end it with
            # a traceback, so it is carried out by hand.
            nonlocal rounds
            rounds += 1
            if rounds > _ROUNDS:
                failed.append(self._refused("too many questions"))
            try:
                return (
                    []
                    if failed
                    else [self._one(prompt, echo, f"{title} {instructions}".strip()) for prompt, echo in prompts]
                )
            except LinkError as error:
                failed.append(error)
                return [""] * len(prompts)

        try:
            left = list(self._transport.auth_interactive(self._hop.user, answer))
        except paramiko.BadAuthenticationType:
            left = None
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise (failed[0] if failed else self._refused(str(error))) from None
        if failed:
            raise failed[0]
        return left

    def _one(self, prompt: str, echo: bool, before: str) -> str:
        kind = PASSWORD if "password" in prompt.lower() and "one-time" not in prompt.lower() else CODE
        self._asked = kind
        text = f"{before}\n{prompt}" if before else prompt
        return put(self._ask, Question(kind, self._hop.name, self._hop.user, text, secret=not echo), self._timeout)

    def _by_password(self) -> list[str] | None:
        self._asked = PASSWORD
        prompt = f"Password of {self._hop.user} at {self._hop}: "
        words = put(self._ask, Question(PASSWORD, self._hop.name, self._hop.user, prompt), self._timeout)
        try:
            return list(self._transport.auth_password(self._hop.user, words, fallback=False))
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise self._refused(str(error)) from None

    def _refused(self, why: str) -> LinkError:
        return refused(self._hop, self._asked, self._tried, why)


def refused(hop: Hop, asked: str, tried: list[str], why: str) -> LinkError:
    """Return the error for a login that the server did not accept; it is never repeated by itself."""
    if asked == CODE:
        return LinkError(
            f"{hop} refused the login of {hop.user} (password or one-time code): {why}",
            code="JRM-T25",
            hint="connect again with a fresh code; it is not tried again by itself",
        )
    what = "your password" if asked == PASSWORD else ", ".join(tried) or "the login; no key of yours was offered"
    return LinkError(
        f"{hop} refused {what} for {hop.user}: {why}",
        code="JRM-T24",
        hint="check user name, key and its expiry, then reconnect; it is not tried again by itself",
    )
