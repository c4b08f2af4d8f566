"""Host keys: is this the machine it claims to be?

Reads known_hosts files: plain and hashed names, wildcards, negation, ``@revoked`` and ``@cert-authority``. An unknown
key is refused unless a person confirms its fingerprint; a changed or revoked key is refused, and nothing here can
accept it.

Knows: the file format (OpenSSH ``sshd(8)``, SSH_KNOWN_HOSTS FILE FORMAT). Does not know: connections. Read next:
``chain.py``.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import os
from dataclasses import dataclass
from pathlib import Path

from jupyter_rm.model.errors import LinkError
from jupyter_rm.runtime.connect.ask import HOST_KEY, Asker, Question, put
from jupyter_rm.runtime.connect.target import Hop


@dataclass(frozen=True)
class Entry:
    """One line of a known_hosts file that is about the host in question."""

    marker: str
    key_type: str
    blob: bytes
    where: str


def fingerprint(blob: bytes) -> str:
    """Return the SHA256 fingerprint of a public key, spelled as OpenSSH does."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _matches(names: str, host: str) -> bool:
    if names.startswith("|1|"):
        try:
            _, _, salt, digest = names.split("|")
            made = hmac.new(base64.b64decode(salt), host.encode(), hashlib.sha1).digest()
            return hmac.compare_digest(made, base64.b64decode(digest))
        except (ValueError, binascii.Error):
            return False
    hit = False
    for pattern in names.lower().split(","):
        # Brackets are part of "[host]:port", not a character class.
        glob = pattern.removeprefix("!").replace("[", "[[]")
        if fnmatch.fnmatchcase(host, glob):
            if pattern.startswith("!"):
                return False
            hit = True
    return hit


def entries(files: tuple[Path, ...], host: str) -> list[Entry]:
    """Return what the files say about ``host`` (as in ``Hop.known_as``); a missing file says nothing.

    Raises:
        LinkError: JRM-T26, a file is there and cannot be read; nothing is trusted then.
    """
    found = []
    for path in files:
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise LinkError(f"{path}: {error.strerror}", code="JRM-T26", hint="make it readable for yourself") from None
        for number, line in enumerate(lines, 1):
            words = line.split()
            marker = words.pop(0) if words and words[0].startswith("@") else ""
            if len(words) < 3 or words[0].startswith("#") or not _matches(words[0], host):
                continue
            try:
                found.append(Entry(marker, words[1], base64.b64decode(words[2]), f"{path}:{number}"))
            except binascii.Error:
                continue
    return found


def known_types(hop: Hop) -> list[str]:
    """Return the key types that are on file for a hop, so that the server can be asked for one of them."""
    return [entry.key_type for entry in _of(hop) if not entry.marker]


def _of(hop: Hop) -> list[Entry]:
    return entries((*hop.known_hosts, *hop.known_hosts_system), hop.known_as)


def check(hop: Hop, key_type: str, blob: bytes, ask: Asker, timeout_s: float) -> None:
    """Return when the key that ``hop`` showed is the known one, or a person says yes to it (then it is stored).

    Raises:
        LinkError: JRM-T26, unknown and not confirmed, changed, or revoked.
    """
    shown = fingerprint(blob)
    found = _of(hop)
    if any(entry.marker == "@revoked" and entry.blob == blob for entry in found):
        raise LinkError(f"{hop}: its host key {shown} is marked as revoked", code="JRM-T26", hint="ask the site")
    plain = [entry for entry in found if not entry.marker]
    if any(entry.blob == blob and entry.key_type == key_type for entry in plain):
        return
    if plain:
        raise changed(hop, key_type, shown, [f"{fingerprint(entry.blob)} ({entry.where})" for entry in plain])
    if any(entry.marker == "@cert-authority" for entry in found):
        raise LinkError(
            f"{hop}: its host key is vouched for by a certificate authority, which this transport cannot check",
            code="JRM-T26",
            hint='choose the transport "openssh" for it',
        )
    confirm(hop, key_type, shown, ask, timeout_s)
    store(hop, key_type, blob)


def changed(hop: Hop, key_type: str, shown: str, known: list[str]) -> LinkError:
    """Return the error that ends a connection to a machine whose key is another one than before."""
    return LinkError(
        f"{hop}: the host key CHANGED; this can be an attack. Shown now: {shown} ({key_type}). "
        f"Known until now: {', '.join(known) or 'unknown'}",
        code="JRM-T26",
        hint=f"ask the site; when they confirm the new fingerprint, remove the old key: ssh-keygen -R '{hop.known_as}'",
    )


def unknown(hop: Hop, key_type: str, shown: str) -> LinkError:
    """Return the error for a machine never seen before that nobody vouched for."""
    return LinkError(
        f"{hop}: unknown host; it shows the {key_type} key {shown}",
        code="JRM-T26",
        hint="compare it with what the site publishes, then confirm it when asked",
    )


def confirm(hop: Hop, key_type: str, shown: str, ask: Asker, timeout_s: float) -> None:
    """Ask a person whether an unknown key is the right one.

    Raises:
        LinkError: JRM-T26 unless the answer is yes.
    """
    if hop.strict == "yes":
        raise unknown(hop, key_type, shown)
    question = Question(
        HOST_KEY,
        hop.name,
        hop.user,
        f"{hop.known_as} has not been seen before. It shows the {key_type} key {shown}. Does the site publish that?",
        fingerprint=shown,
        key_type=key_type,
        secret=False,
    )
    try:
        answer = put(ask, question, timeout_s)
    except LinkError as error:
        raise unknown(hop, key_type, shown) from error
    if answer.strip() not in ("yes", shown):
        raise unknown(hop, key_type, shown)


def store(hop: Hop, key_type: str, blob: bytes) -> None:
    """Append a confirmed key to the first known_hosts file of the hop."""
    path = hop.known_hosts[0]
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    line = f"{hop.known_as} {key_type} {base64.b64encode(blob).decode()}\n"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            line = "\n" + line
        os.write(handle, line.encode())
        os.fsync(handle)
    finally:
        os.close(handle)
