"""A login's questions in a notebook: a real kernel, a real login with password and one-time code, forms in cells."""

from __future__ import annotations

import json
import time
from typing import Any

from jupyter_client.manager import start_new_kernel
from remote_kit import Far

WIDGET = "application/vnd.jupyter.widget-view+json"


class Notebook:
    """A real kernel, spoken to as a page does."""

    def __init__(self) -> None:
        self.manager, self.client = start_new_kernel(kernel_name="python3")
        self.heard: list[dict[str, Any]] = []
        self.shown: dict[str, dict[str, Any]] = {}  # state of widgets by comm

    def run(self, code: str) -> str:
        """Run a cell as a person does; return the text of its result."""
        asked = self.client.execute(code, allow_stdin=True)
        text = ""
        while True:
            message = self.hear(60)
            if message["parent_header"].get("msg_id") != asked:
                continue
            assert message["msg_type"] != "error", message["content"]["traceback"]
            if message["msg_type"] == "execute_result":
                text = message["content"]["data"]["text/plain"]
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return text

    def hear(self, within: float) -> dict[str, Any]:
        message: dict[str, Any] = self.client.get_iopub_msg(timeout=within)
        content = message["content"]
        if message["msg_type"] == "comm_open":
            self.shown[content["comm_id"]] = content["data"].get("state", {}).get("shown", {})
        elif message["msg_type"] == "comm_msg" and content["data"].get("method") == "update":
            self.shown[content["comm_id"]] = content["data"]["state"].get("shown", {})
        self.heard.append(message)
        return message

    def form(self, kind: str) -> str:
        """Wait for the form of a question below a cell; return its comm."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            message = self.hear(60)
            bundle = message["content"].get("data", {}) if message["msg_type"] == "display_data" else {}
            comm = bundle.get(WIDGET, {}).get("model_id")
            if comm and self.shown[comm].get("kind") == kind:
                return str(comm)
        raise AssertionError(f"nobody asks for {kind}: {self.shown}")

    def answer(self, comm: str, text: str) -> None:
        data = {"method": "custom", "content": {"op": "answer", "text": text}}
        self.client.shell_channel.send(self.client.session.msg("comm_msg", {"comm_id": comm, "data": data}))


def test_questions_come_as_forms_and_their_answers_stay_nowhere(far: Far) -> None:
    far.cluster.need("mfa")
    book = Notebook()
    try:
        book.run("import jupyter_rm as jrm\ns = jrm.open('asking')")
        book.run("p = s.pilot('ssh://alice@tb-mfa', cores=1)")
        first = book.form("password")
        assert "alice@tb-mfa" in book.shown[first]["who"]
        password, code = far.password, far.code()
        book.answer(first, password)
        book.answer(book.form("otp"), code)
        assert book.run("p.wait(timeout=60)") == "'ACTIVE'"
        assert book.run("s.questions") == "[]"
        assert book.run("s.call(pow, 2, 5).result(timeout=60)") == "32"
        assert book.shown[first]["over"] == "answered"
        # Neither what a notebook file may hold nor what travelled knows the answers.
        everything = json.dumps(book.heard, default=str)
        assert password not in everything and code not in everything
        book.run("s.close()")
    finally:
        book.client.stop_channels()
        book.manager.shutdown_kernel(now=True)
