"""Has an order carried out by the install program on the machine at the other end, and says what its failures mean.

One command there (``target/install.py``) holds the lock of the environment, says what is missing, waits while it is
sent by resumable SFTP, unpacks or installs, verifies and renames. A cut at any point leaves work that the next call
continues.

Knows: the words of the install program. Does not know: what an environment is for. Read next: ``ensure.py`` (of
agents), ``prepared.py`` (of tasks).
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jupyter_rm.model.errors import SiteError
from jupyter_rm.runtime.bootstrap import pack
from jupyter_rm.runtime.bootstrap.survey import SiteFacts
from jupyter_rm.runtime.bootstrap.talk import Runs, Step, Tell, tail
from jupyter_rm.runtime.connect.stream import Stream

TARGET = Path(__file__).parent / "target"
NEWS_S = 1900.0  # longest time without any news: a `pip install` there
BEAT_S = 10.0


class Installing:
    """One order on its way.

    Args:
        connection: to the machine; facts: from ``survey``; tell: hears each step.
    """

    def __init__(self, connection: Runs, facts: SiteFacts, tell: Tell) -> None:
        self._connection, self._facts, self._tell = connection, facts, tell
        self.step = ""
        self.sent = 0  # bytes

    def begin(self, step: str, text: str = "") -> None:
        """Say that a step begins, and that the one before it is done."""
        self.finish()
        self.step = step
        self._tell(Step(step, "start", -1, text))

    def finish(self, text: str = "") -> None:
        """Say that the step is done."""
        if self.step:
            self._tell(Step(self.step, "ok", 100, text))
            self.step = ""

    def install(self, python: str, order: dict[str, Any], parts: Sequence[pack.Part]) -> tuple[dict[str, Any], str]:
        """Let the install program there carry the order out, sending what it lacks.

        Args:
            python: interpreter there; order: see ``target/install.py``; parts: the files it names.

        Returns:
            The record of the environment, and ``made`` or ``found``.

        Raises:
            SiteError: JRM-B06, JRM-B09 or JRM-B10. LinkError: the connection was lost; call again.
        """
        over = threading.Event()
        made: tuple[dict[str, Any], str] | None = None
        with self._connection.start([python, "-I", "-c", text_of("install.py")]) as stream:
            stream.write(json.dumps(order).encode() + b"\n")

            def beat() -> None:
                with contextlib.suppress(OSError):
                    while not over.wait(BEAT_S):
                        stream.write(b"beat\n")

            threading.Thread(target=beat, name="connect-beat", daemon=True).start()
            try:
                for news in _news(stream):
                    word = news.get("say")
                    if word == "ok":
                        made = news["record"], news["how"]
                    if word == "fail":
                        raise self._failed(news, order)
                    if word == "send":
                        self._send([part for part in parts if part.file in news["missing"]], order)
                        stream.write(b"go\n")
                    elif word == "wait":
                        if self.step != "wait":
                            self.begin("wait", "somebody else makes this environment: " + news["text"])
                    elif word == "step":
                        self.begin(news["step"])
                    elif word == "progress":
                        self._tell(Step(news["step"], "progress", news["percent"]))
            except TimeoutError:
                raise SiteError(
                    f"{self._facts.host}: nothing was heard of the installation for {NEWS_S:.0f} s",
                    code="JRM-B10",
                    hint="look at the load and the file system there, then try again: it goes on where it stopped",
                    retry=True,
                ) from None
            finally:
                over.set()
            if made is not None:
                return made
            rc = stream.wait(30)
            raise SiteError(
                f"{self._facts.host}: {python} stopped with exit code {rc} in the middle: "
                + tail(stream.err.read_all()),
                code="JRM-B10",
                hint="was it killed there? Try again: it goes on where it stopped",
                retry=True,
            )

    def _send(self, parts: list[pack.Part], order: dict[str, Any]) -> None:
        total = sum(part.size for part in parts)
        self.begin("send", f"{total / 1e6:.1f} MB to {self._facts.host}")
        before = 0
        for part in parts:

            def hear(done: int, _size: int, before: int = before) -> None:
                self._tell(
                    Step("send", "progress", 100 * (before + done) // total, f"{(before + done) / 1e6:.1f} MB sent")
                )

            try:
                self._connection.put(part.path, f"{order['cache']}/{part.file}", mode=0o600, progress=hear)
            except SiteError as error:
                if error.code != "JRM-F60":
                    raise
                raise self._no_room(order["cache"], total >> 20, -1, error.message) from None
            before += part.size
            self.sent += part.size

    def _failed(self, news: dict[str, Any], order: dict[str, Any]) -> SiteError:
        """Return what a failure there means to a person."""
        kind, text, host = news["kind"], news["text"], self._facts.host
        if kind == "space":
            need = sum(part["unpacked"] + part["size"] for part in order["parts"]) >> 20
            return self._no_room(text, news["need"] or need, news["free"])
        if kind == "noexec":
            return SiteError(
                f"{host}: nothing can be executed from {text} (mounted noexec)",
                code="JRM-B06",
                hint="give a directory on another file system as env_base=, or use env_mode 'local'",
            )
        if kind == "write":
            return SiteError(
                f"{host}: {text}", code="JRM-B06", hint="check owner and mode there, or give another env_base="
            )
        if kind == "command":
            return SiteError(
                f"{host}: {news['step']}: {text}\n{news['tail']}".rstrip(),
                code="JRM-B09",
                hint=f"its last lines say why; the interpreter there is {order['record'].get('python', order['lib'])}",
            )
        return SiteError(
            f"{host}: what arrived cannot be unpacked: {text}",
            code="JRM-B10",
            hint="the archives there were removed; try again",
            retry=True,
        )

    def _no_room(self, folder: str, need: int, free: int, says: str = "") -> SiteError:
        room = (f"; {free} MiB are free" if free >= 0 else "") + (f" ({says})" if says else "")
        quota = f"\nquota there:\n{self._facts.quota}" if self._facts.quota else ""
        return SiteError(
            f"{self._facts.host}: no room in {folder}: {need} MiB are needed{room}{quota}",
            code="JRM-B06",
            hint="make room or raise the quota there, or give a directory on another file system as env_base=",
        )


def _news(stream: Stream) -> Iterator[dict[str, Any]]:
    """Yield what the install program says; other lines (of a login that greets) are passed over."""
    rest = b""
    while data := stream.out.read(timeout=NEWS_S):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError):
                news = json.loads(line)
                if isinstance(news, dict):
                    yield news


def text_of(name: str) -> str:
    """Return one of the programs that run there."""
    return (TARGET / name).read_text("utf-8")
