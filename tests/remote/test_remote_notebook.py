"""A cluster from a notebook: questions as forms, the example on real Slurm, and what tasks elsewhere wrote."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient
from remote_kit import Far, active

import jupyter_rm as jrm
from jupyter_rm.client import distant
from jupyter_rm.client.session import Session
from jupyter_rm.model.errors import LinkError, RequestError
from jupyter_rm.model.messages import FetchFiles

WIDGET = "application/vnd.jupyter.widget-view+json"
EXAMPLE = Path(__file__).resolve().parent.parent.parent / "examples" / "06-a-cluster.ipynb"


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


def test_the_notebook_drives_a_cluster(far: Far, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JRM_SITE", "slurm+ssh://alice@tb-slurm")
    monkeypatch.setenv("JRM_QUEUE", "batch")
    book: Any = nbformat.read(EXAMPLE, as_version=4)
    NotebookClient(book, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [out for cell in book.cells for out in cell.get("outputs", [])]
    text = "\n".join(out.get("text") or out.get("data", {}).get("text/plain", "") for out in outputs)
    assert re.search(r"job \d+ on n0\d+, n0\d+", text), text
    assert re.search(r"\['n0\d+', 'n0\d+'\]", text), f"both nodes ran something: {text}"
    assert "sum of the squares below 200: 2646700" in text
    assert "still in /tmp, and the answer is 42" in text
    assert "ended        228 DONE" in text


# ------------------------------------------------------------ what tasks elsewhere wrote


@pytest.fixture
def another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here site and test share a disk: look away from it, as on a machine of one's own."""
    monkeypatch.setattr(distant, "seen_here", lambda path: False)


@pytest.mark.usefixtures("another_machine")
def test_output_comes_back(far: Far, study: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    active(study.pilot("ssh://alice@tb-slurm", cores=2))
    said = study.submit(jrm.Shell("printf 'ü no end'; echo oh >&2; exit 3"))
    many = study.array(jrm.Shell("echo $((N * N))", environment={"N": "{n}"}), n=range(900))
    large = study.submit(jrm.Shell("head -c 9000000 /dev/zero | tr '\\0' x; echo end"))
    slow = study.submit(jrm.Shell("for i in 1 2 3; do echo $i; sleep 0.7; done"))
    assert study.wait(120)
    assert said.stdout() == "ü no end" and said.stderr() == "oh\n"
    error = said.exception()
    assert isinstance(error, jrm.TaskError) and error.output == "oh\n"
    asked = []
    real = distant._ask
    monkeypatch.setattr(distant, "_ask", lambda *given: asked.append(1) or real(*given))
    assert [int(text) for text in many.results()] == [n * n for n in range(900)]
    assert len(asked) == 3, "900 files in three goes"
    text = large.stdout()
    assert len(text) == 9_000_004 and text.endswith("xend\n")
    assert "".join(slow.follow()) == "1\n2\n3\n"
    monkeypatch.setattr("jupyter_rm.client.files.LIMIT", 1 << 20)
    with pytest.raises(LinkError, match="larger than 1 MiB"):
        large.stdout()


@pytest.mark.usefixtures("another_machine")
def test_what_cannot_be_read_is_said(far: Far, study: Session) -> None:
    active(study.pilot("ssh://alice@tb-slurm", cores=1))
    task = study.submit(jrm.Shell("rm -f stdout"))
    task.wait(60)
    assert task.stdout() == ""
    connection = study._connection

    def ask(*paths: str, pilot: int = 0, size: int = 10) -> object:
        return connection.request(FetchFiles(connection.number(), study.name, pilot, paths, 0, size))

    for paths, pilot in ((("relative",), 0), (("/a\n/etc/passwd",), 0), (("/x",), 7)):
        with pytest.raises(RequestError):
            ask(*paths, pilot=pilot)
    with pytest.raises(RequestError, match="too much"):
        ask("/x", size=1 << 30)
    canary = far.dir / "canary"
    answer = ask("/nothing/here", f"/$(touch {canary})", f"/`touch {canary}`; touch {canary}")
    assert answer.sizes == (-1, -1, -1)  # type: ignore[attr-defined]
    assert not canary.exists()


@pytest.mark.usefixtures("another_machine")
def test_files_go_there_and_come_back(far: Far, study: Session, tmp_path: Path) -> None:
    active(study.pilot("ssh://alice@tb-slurm", cores=1))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a b.txt").write_text("one\n")
    (tmp_path / "in" / "$(c).txt").write_text("two\n")
    where = study.stage(tmp_path / "in")
    assert where == "../../shared/in"
    task = study.submit(jrm.Shell(f"cat {where}/* > both.txt; mkdir d; echo x > d/e.csv"))
    assert task.wait(60) == "DONE", task.stderr()
    brought = study.files(task, "*.txt", "*.csv", to=tmp_path / "out")
    assert sorted(str(each.relative_to(tmp_path / "out")) for each in brought) == ["both.txt", "d/e.csv"]
    assert (tmp_path / "out" / "both.txt").read_text() == "two\none\n"
    with pytest.raises(RequestError, match="nothing-there"):
        study.stage(tmp_path / "nothing-there")
