"""Real Jupyter servers for tests, and the two ways of talking to them: requests and the feed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPMessage
from pathlib import Path
from typing import Any, ClassVar

import websocket

from jupyter_rm.views.feed import patch

HERE = Path(__file__).resolve().parent
TOKEN = "a-token-for-tests"
BASE = "/user/a%20b/"


class Answer:
    """What a request brought."""

    def __init__(self, status: int, headers: HTTPMessage, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A running ``jupyter server`` with our extension, under a base URL of its own."""

    def __init__(
        self, home: Path, *options: str, base: str = BASE, beside: tuple[str, ...] = (), with_ours: bool = True
    ) -> None:
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.base = base
        root = home / f"jupyter-{self.port}"
        root.mkdir()
        self.log = root / "log"
        environment = {
            **os.environ,
            "JUPYTER_RM_HOME": str(home),
            "JUPYTER_NO_CONFIG": "1",
            "JUPYTER_CONFIG_DIR": str(root / "config"),
            "JUPYTER_RUNTIME_DIR": str(root / "runtime"),
            "JUPYTER_DATA_DIR": str(root / "data"),
            "PYTHONPATH": f"{HERE}:{HERE.parent.parent}:{os.environ.get('PYTHONPATH', '')}",
        }
        ours = ("jupyter_rm.server",) if with_ours else ()
        command = [
            *(sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", "--ip=127.0.0.1"),
            *(f"--port={self.port}", "--ServerApp.port_retries=0", f"--ServerApp.base_url={base}"),
            *(f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={root}"),
            f"--ServerApp.jpserver_extensions={dict.fromkeys((*ours, *beside), True)}",
            "--ServerApp.reraise_server_extension_failures=True",
            *options,
        ]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=root
            )
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + 30
        pause = threading.Event()
        while time.monotonic() < end:
            assert self.process.poll() is None, self.said
            try:
                if self.ask("GET", "/api", path_is_whole=True).status == 200:
                    return
            except OSError:
                pause.wait(0.05)
        raise AssertionError(f"the server is not up:\n{self.said}")

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")[-6000:]

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = TOKEN,
        headers: dict[str, str] | None = None,
        path_is_whole: bool = False,
    ) -> Answer:
        """Send a request to the interface; any status is an answer."""
        where = path if path_is_whole else f"/jupyter-rm/api{path}"
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.host}{self.base.rstrip('/')}{where}", data, method=method)
        if token is not None:
            request.add_header("Authorization", f"token {token}")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            with _OPENER.open(request, timeout=30) as answer:
                return Answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read())

    def get(self, path: str) -> Any:
        answer = self.ask("GET", path)
        assert answer.status == 200, answer.body
        return answer.json

    def post(self, path: str, body: Any = None) -> Any:
        answer = self.ask("POST", path, {} if body is None else body)
        assert answer.status in (200, 201, 202), answer.body
        return answer.json

    def feed(self, **given: Any) -> Feed:
        return Feed(self, **given)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def stop(self, within: float = 12.0) -> float:
        """End it as an administrator does; return how many seconds that took."""
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(within)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
                raise AssertionError(f"not ended within {within} s:\n{self.said}") from None
        return time.monotonic() - began


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())


class Feed:
    """A screen: follows the feed's rules and keeps what every subscription shows."""

    opened: ClassVar[list[Feed]] = []  # in this test

    def __init__(self, server: Server, token: str | None = TOKEN, **options: Any) -> None:
        options.setdefault("suppress_origin", True)
        headers = [*options.pop("header", []), *([] if token is None else [f"Authorization: token {token}"])]
        url = f"ws://{server.host}{server.base.rstrip('/')}/jupyter-rm/feed"
        self.socket = websocket.create_connection(url, header=headers, timeout=20, **options)
        self.frames: list[dict[str, Any]] = []
        self.sizes: list[int] = []
        self.at: list[float] = []
        self.shown: dict[str, dict[str, Any]] = {}
        self._seq: dict[str, int] = {}
        self.opened.append(self)
        assert self.next()["kind"] == "hello"

    def say(self, op: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"op": op, **fields}))

    def next(self, within: float = 20.0) -> dict[str, Any]:
        """Return the next frame; a gap in the numbers fails."""
        self.socket.settimeout(within)
        text = self.socket.recv()
        frame: dict[str, Any] = json.loads(text)
        self.frames.append(frame)
        self.sizes.append(len(text))
        self.at.append(time.monotonic())
        if frame["kind"] in ("snapshot", "delta", "same"):
            key = frame["id"]
            assert frame["seq"] == self._seq.get(key, 0) + 1, frame
            self._seq[key] = frame["seq"]
            if frame["kind"] != "same":
                self.shown[key] = patch(self.shown.get(key, {}), frame)
        return frame

    def restart(self, key: str) -> None:
        """Expect numbers from 1 again."""
        self._seq.pop(key, None)

    def until(self, ready: Callable[[], object], what: str, within: float = 20.0) -> None:
        """Take frames until ``ready()``."""
        end = time.monotonic() + within
        while not ready():
            left = end - time.monotonic()
            assert left > 0, f"not within {within} s: {what}; last frames: {self.frames[-3:]}"
            try:
                self.next(max(0.05, left))
            except websocket.WebSocketTimeoutException:
                continue

    def silent(self, for_s: float) -> bool:
        """Is nothing sent for so long?"""
        try:
            self.next(for_s)
        except websocket.WebSocketTimeoutException:
            return True
        return False

    def calm(self, for_s: float, within_s: float = 60.0) -> None:
        """Read until nothing is sent for so long; what is to follow a change may take its time."""
        end = time.monotonic() + within_s
        while not self.silent(for_s):
            assert time.monotonic() < end, f"something is sent again and again: {self.frames[-3:]}"

    def rows(self, key: str, table: str) -> list[dict[str, Any]]:
        found = self.shown[key]["tables"][table]
        return [dict(zip(found["columns"], row, strict=True)) for row in found["rows"]]

    def values(self, key: str) -> dict[str, Any]:
        return dict(self.shown.get(key, {"values": {}})["values"])

    def close(self) -> None:
        self.socket.close()
