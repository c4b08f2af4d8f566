"""How the ``ssh`` program's questions reach a person: the program that ssh calls, and the ear that it talks to.

ssh runs ``$SSH_ASKPASS PROMPT`` and reads the answer from its stdout. Ours is this very file, run as a script: it sends
the prompt to a unix socket in a private directory and prints what comes back. Secrets pass through that socket and a
pipe, never through arguments or the environment.

Knows: ssh's prompts. Does not know: connections. Read next: ``openssh.py``.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys

_SOCKET = "JUPYTER_RM_ASKPASS"


def _main() -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as wire:
        wire.connect(os.environ[_SOCKET])
        wire.sendall(os.fsencode(" ".join(sys.argv[1:])))
        wire.shutdown(socket.SHUT_WR)
        answer = b""
        while data := wire.recv(4096):
            answer += data
    if not answer.startswith(b"+"):
        return 1
    sys.stdout.buffer.write(answer[1:] + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(_main())

# Below this line: the other end, inside the package. The script above is started with -I -S and knows nothing of it.

import re  # noqa: E402
import shlex  # noqa: E402
import threading  # noqa: E402
from pathlib import Path  # noqa: E402

from jupyter_rm.model.errors import LinkError  # noqa: E402
from jupyter_rm.runtime.connect.ask import CODE, PASSPHRASE, PASSWORD, Asker, Question, put  # noqa: E402
from jupyter_rm.runtime.connect.hosts import confirm  # noqa: E402
from jupyter_rm.runtime.connect.target import Hop, Route  # noqa: E402

_UNKNOWN = re.compile(
    r"The authenticity of host '([^']*)' can't be established\.\s*(\S+) key fingerprint is (\S+?)\.?\s", re.S
)
_TYPES = {"ED25519": "ssh-ed25519", "RSA": "ssh-rsa", "ECDSA": "ecdsa-sha2-nistp256"}


class Ear:
    """Answers what ssh asks during one login.

    Args:
        directory: a private directory for the socket and the script.
        route: the hops, to tell which one asks.
        ask: who answers.
        timeout_s: how long a question stands.

    Attributes:
        failed: what ended the login, when it was an answer (or none).
        asked: the kind of the last secret that was asked for.
    """

    def __init__(self, directory: Path, name: str, route: Route, ask: Asker, timeout_s: float) -> None:
        self.failed: LinkError | None = None
        self.asked = ""
        self._route = route
        self._ask = ask
        self._timeout = timeout_s
        self._path = directory / f"{name}.a"
        self._script = directory / f"{name}.sh"
        self._path.unlink(missing_ok=True)
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._door.bind(str(self._path))
        self._door.listen(4)
        line = shlex.join([sys.executable, "-I", "-S", str(Path(__file__).resolve())])
        self._script.write_text(f'#!/bin/sh\nexec {line} "$@"\n', encoding="utf-8")
        self._script.chmod(0o700)
        threading.Thread(target=self._serve, name="connect-askpass", daemon=True).start()

    def environment(self) -> dict[str, str]:
        """Return the variables that make ssh ask here and nowhere else."""
        return {
            "SSH_ASKPASS": str(self._script),
            "SSH_ASKPASS_REQUIRE": "force",
            _SOCKET: str(self._path),
            "DISPLAY": os.environ.get("DISPLAY") or ":0",
        }

    def _serve(self) -> None:
        while True:
            try:
                wire, _ = self._door.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(wire,), name="connect-askpass", daemon=True).start()

    def _one(self, wire: socket.socket) -> None:
        with wire, contextlib.suppress(OSError):
            prompt = b""
            while data := wire.recv(4096):
                prompt += data
            try:
                if self.failed is not None:
                    return
                answer = self._answer(prompt.decode(errors="replace"))
            except LinkError as error:
                self.failed = error
                return
            wire.sendall(b"+" + answer.encode())

    def _answer(self, prompt: str) -> str:
        found = _UNKNOWN.search(prompt + "\n")
        if found:
            hop = self._hop(found[1])
            confirm(hop, _TYPES.get(found[2], found[2]), found[3], self._ask, self._timeout)
            return "yes"
        low = prompt.lower()
        hop = self._hop(prompt)
        if "passphrase for" in low or "pin for" in low:
            self.asked = PASSPHRASE
        else:
            self.asked = PASSWORD if "password" in low and "one-time" not in low else CODE
        return put(self._ask, Question(self.asked, hop.name, hop.user, prompt), self._timeout)

    def _hop(self, text: str) -> Hop:
        """Return the hop that a prompt is about; the last one when it does not say."""
        for hop in self._route.hops:
            if hop.known_as in text or f"{hop.user}@{hop.host}'s" in text:
                return hop
        for hop in self._route.hops:
            if f"({hop.user}@{hop.name})" in text or f"({hop.user}@{hop.host})" in text:
                return hop
        return self._route.last

    def close(self) -> None:
        """Stop answering and remove the socket and the script."""
        with contextlib.suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        self._path.unlink(missing_ok=True)
        self._script.unlink(missing_ok=True)
