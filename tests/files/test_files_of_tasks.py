"""Files of tasks on this machine: what is put in place, in which states, and what becomes of it when something dies."""

from __future__ import annotations

import contextlib
import http.server
import itertools
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from world_kit import eventually

import jupyter_rm as jrm
from jupyter_rm.agent import staging as staging_of_agents
from jupyter_rm.client import connection
from jupyter_rm.client import session as sessions
from jupyter_rm.client.session import Session
from jupyter_rm.model import staging
from jupyter_rm.model.errors import RequestError
from jupyter_rm.runtime.home import Home


class Slow:
    """A web server that serves half of ``/slow`` and waits for ``go``; counts how often it was asked."""

    SIZE = 1 << 20

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path not in ("/slow", "/quick"):
                    self.send_error(404)
                    return
                outer.asked += 1
                self.send_response(200)
                self.send_header("Content-Length", str(outer.SIZE))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(b"x" * (outer.SIZE // 2))
                    self.wfile.flush()
                    if self.path == "/slow":
                        outer.go.wait(120)
                    self.wfile.write(b"x" * (outer.SIZE // 2))

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.go.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def web() -> Iterator[Slow]:
    server = Slow()
    yield server
    server.close()


def agents(home: Path) -> list[int]:
    """Return the agents of a home, without their guards."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = process.cmdline()
            if process.environ().get("JUPYTER_RM_HOME") == str(home) and "jupyter_rm.agent" in line:
                found += [process.pid] if "jrm-guard" not in line[0] else []
    return found


def test_files_go_where_directives_say_and_come_back(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for n in range(4):
        Path(f"{n}.in").write_text(f"{n}\n")
    Path("tree/deep").mkdir(parents=True)
    Path("tree/deep/file").write_text("deep\n")
    Path("tree/run").write_text("#!/bin/sh\necho ran\n")
    Path("tree/run").chmod(0o755)
    Path("odd {name} '$(touch no)'").write_text("odd\n")
    line = "cat in; cat tree/deep/file; tree/run; mkdir o; cat in > o/out"
    array = session.array(
        jrm.Shell(
            line,
            input_staging=["{n}.in > in", ("tree", "tree"), {"source": "tree", "target": "same", "action": "link"}],
            output_staging=["o > results/{n}", {"source": "in", "target": "pilot:///kept.{n}", "action": "move"}],
        ),
        n=range(4),
    )
    listed = session.submit(
        [jrm.Shell(line, input_staging=[f"{n}.in > in", "tree"], output_staging=[f"o > list/{n}/"]) for n in range(4)]
    )
    assert array.results() == listed.results() == [f"{n}\ndeep\nran\n" for n in range(4)]
    for n in range(4):
        assert Path(f"results/{n}/out").read_text() == f"{n}\n"
        assert Path(f"list/{n}/o/out").read_text() == f"{n}\n"
        assert not (array[n].sandbox / "in").exists()
        assert (array[n].sandbox / "same").readlink() == tmp_path / "tree"
        assert not (array[n].sandbox / "tree").is_symlink()
    assert len({task.uid.split(".")[1] for task in listed}) == 1, "tasks that differ in their files only are one bulk"
    kept = session.submit(
        jrm.Shell("cat a b; ls", input_staging=["pilot:///kept.2 > a", ("odd {name} '$(touch no)'", "b")])
    )
    assert kept.result(timeout=30) == "2\nodd\na\nb\nstderr\nstdout\n"


def test_every_action_between_every_pair_of_places_works_or_is_refused_at_once(
    session: Session, tmp_path: Path, web: Slow
) -> None:
    source = tmp_path / "f"
    source.write_text("x" * web.SIZE)
    web.go.set()
    places = {
        "client": source.as_uri().replace("file", "client"),
        **{scheme: f"{scheme}:///given/f" for scheme in staging.SPACES},
        "task": "task:///f",
        "file": f"file://{tmp_path}/there/f",
        "http": f"{web.url}/quick",
    }
    seed = [f"f > {places[scheme]}" for scheme in (*staging.SPACES, "file")]
    first = session.submit(jrm.Shell("true", input_staging=[f"{source} > f"], output_staging=seed))
    assert first.wait(60) == "DONE", first.reason
    good, refused = [], 0
    numbers = itertools.count()
    for (start, one), (end, other), action, field in itertools.product(
        places.items(), places.items(), staging.ACTIONS, ("input_staging", "output_staging")
    ):
        if action == "move" and start in ("file", *staging.SPACES):
            continue  # it would take the file from the other combinations
        number = next(numbers)
        target = f"{other}.{number}" if end != "task" else f"task:///g.{number}"
        if start == "task" and field == "input_staging":
            one = f"task://{first.uid}/f" if action != "move" else f"task://{first.uid}/stdout"
        given = {"source": one, "target": target, "action": action}
        try:
            task = jrm.Shell(f"head -c {web.SIZE} /dev/zero | tr '\\0' x > f", **{field: [given]})
        except RequestError as error:
            assert error.code == "JRM-Q90"
            assert error.message.startswith(f"{field}[0]: ")
            refused += 1
            continue
        good.append((task, given, field))
    assert len(good) > 60
    assert refused > 300
    bulk = session.submit([task for task, _, _ in good])
    bulk.wait(120)
    for task, (_, given, field) in zip(bulk, good, strict=True):
        moved_twice = given["action"] == "move" and field == "input_staging"
        assert task.state == "DONE" or (moved_twice and "not there" in task.reason), f"{field} {given}: {task.reason}"
        if moved_twice:
            continue
        scheme, _, path = staging.split(given["target"])
        assert task.sandbox is not None
        roots = staging.spaces(str(session.pilots()[0].sandbox), 0) | {"task": str(task.sandbox)}
        where = Path(roots[scheme], path) if scheme in roots else Path(path)
        assert where.stat().st_size == web.SIZE, f"{field} {given}"
    assert not list(tmp_path.rglob(".*.part"))


@pytest.mark.parametrize(
    ("field", "given", "says"),
    [
        ("input_staging", ["nothing.here > x"], "input_staging[0]: '/"),
        ("input_staging", ["/etc/hostname > x", "a > ../x"], "input_staging[1]: target '../x' leaves its directory"),
        ("output_staging", ["../../x > y"], "output_staging[0]: source '../../x' leaves its directory"),
        ("input_staging", ["pilot:///../x"], "leaves its directory"),
        ("input_staging", ["gopher://h/x"], "unknown scheme"),
        ("output_staging", ["x > s3://bucket/x"], "unknown scheme"),
        ("input_staging", [{"source": "a", "action": "teleport"}], "unknown action 'teleport'"),
        ("input_staging", [{"source": "a", "flags": ["maybe"]}], "unknown flag 'maybe'"),
        ("input_staging", ["a\nb"], "line break"),
        ("output_staging", [3], "3 is not a directive"),
    ],
)
def test_what_makes_no_sense_is_refused_by_field_and_index(
    bare: Session, field: str, given: list[Any], says: str
) -> None:
    with pytest.raises(RequestError) as caught:
        bare.submit(jrm.Shell("true", **{field: given}))
    assert says in caught.value.message
    assert caught.value.message.startswith(field)
    assert caught.value.hint
    assert not list(bare.tasks())


def test_columns_that_lead_out_fail_their_task_and_no_other(session: Session, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("f")
    tasks = session.array(
        jrm.Shell("ls", input_staging=[f"{tmp_path}/f > {{to}}"]), to=["a", "../../../out", "sub/dir/b", "/abs"]
    )
    tasks.wait(60)
    assert [task.state for task in tasks] == ["DONE", "FAILED", "DONE", "DONE"], [task.reason for task in tasks]
    assert "leaves its directory" in tasks[1].reason
    assert tasks[1].cause == "STAGE_IN_FAILED"
    with pytest.raises(RequestError, match=r"input_staging\[0\].*nothere.*task 1"):
        session.array(jrm.Shell("ls", input_staging=[f"{tmp_path}/{{f}}"]), f=["f", "nothere"])
    optional = {"source": f"{tmp_path}/{{f}}", "flags": ["optional"]}
    may = session.array(jrm.Shell("ls -1 f* n* 2>/dev/null | wc -l", input_staging=[optional]), f=["f", "nothere"])
    assert may.results() == ["1\n", "0\n"]


def test_failures_name_the_file_and_count_as_retries(session: Session, tmp_path: Path) -> None:
    inside = session.submit(jrm.Shell("true", input_staging=["pilot:///nope > x"], retries=1))
    outside = session.submit(jrm.Shell("true", output_staging=[f"nope > {tmp_path}/x"], retries=1))
    local = session.submit(jrm.Shell("true", output_staging=["nope > pilot:///x"]))
    broken = session.submit(jrm.Shell("echo x > o; exit 3", output_staging=[f"o > {tmp_path}/skipped"]))
    wanted = session.submit(
        jrm.Shell("echo x > o; exit 3", output_staging=[f"o > {tmp_path}/kept", "o > pilot:///o"], stage_on_error=True)
    )
    closed = tmp_path / "file"
    closed.write_text("")
    blocked = session.submit(jrm.Shell("echo > o", output_staging=[f"o > {closed}/o"]))
    assert inside.wait(60) == "FAILED"
    assert (inside.cause, inside.attempt) == ("STAGE_IN_FAILED", 2)
    assert "shared/nope is not there" in inside.reason
    assert outside.wait(60) == "FAILED"
    assert (outside.cause, outside.attempt) == ("STAGE_OUT_FAILED", 2)
    assert "nope is not there" in outside.reason
    assert local.wait(60) == "FAILED"
    assert (local.cause, local.exit_code) == ("STAGE_OUT_FAILED", 0)
    assert blocked.wait(60) == "FAILED"
    assert str(closed) in blocked.reason
    assert broken.wait(60) == wanted.wait(60) == "FAILED"
    assert (broken.cause, wanted.cause, wanted.exit_code) == ("TASK_EXIT", "TASK_EXIT", 3)
    assert not (tmp_path / "skipped").exists()
    assert (tmp_path / "kept").read_text() == "x\n"


def test_an_attempt_goes_on_where_the_one_before_stopped(session: Session) -> None:
    """Five of ten steps in the first attempt; the second one finds them."""
    line = (
        "from=$(cat state 2>/dev/null || echo 0); n=$from; echo from $from; "
        "while [ $n -lt 10 ]; do n=$((n + 1)); echo $n > state; [ $n -ne 5 ] || [ $from -eq 5 ] || exit 9; done"
    )
    given = {"source": "task://@-1/state", "target": "state", "flags": ["optional"]}
    task = session.submit(jrm.Shell(line, input_staging=[given], retries=1))
    assert task.result(timeout=60) == "from 5\n"
    assert task.attempt == 2
    states = [f"task://{task.uid}@1/state > a", f"task://{task.uid}/state > b"]
    other = session.submit(jrm.Shell("cat a b", input_staging=states))
    assert other.result(timeout=60) == "5\n10\n"


def test_a_killed_agent_begins_anew_and_nothing_half_is_taken(session: Session, home: Path, web: Slow) -> None:
    """The first attempt dies with half a file; what the second one starts with is whole."""
    task = session.submit(jrm.Shell("wc -c < x; ls -a", input_staging=[f"{web.url}/slow > x"]))
    eventually(lambda: web.asked == 1, "nobody fetches the file", 60)
    eventually(lambda: task.state == "STAGING_IN", f"it is {task.state}", 30)
    assert "input files are being put in place" in task.explain()
    assert task.sandbox is not None
    first = task.sandbox
    (pid,) = agents(home)
    os.kill(pid, signal.SIGKILL)
    web.go.set()
    assert task.wait(90) == "DONE", task.reason
    assert task.stdout().split() == [str(web.SIZE), ".", "..", "stderr", "stdout", "x"]
    assert (task.attempt, web.asked) == (2, 2)
    assert not (first / "x").exists(), "a half file has its name"
    story = str(task.story())
    assert "attempt 2: its input files are in place" in story, story


def test_tasks_that_wait_for_files_keep_nobody_waiting_and_a_cancel_ends_them(session: Session, web: Slow) -> None:
    coming = session.submit([jrm.Shell("cat x", input_staging=[f"{web.url}/slow > x"]) for _ in range(300)])
    eventually(lambda: web.asked >= 1, "no file is fetched", 60)
    after = session.submit(jrm.Shell("echo on"))
    assert after.result(timeout=60) == "on\n"
    assert coming.counts()["STAGING_IN"] >= 64
    eventually(lambda: web.asked == staging_of_agents.THREADS, "files are fetched one after the other", 60)
    assert coming.cancel() == 300
    assert coming.wait(60)
    assert coming.counts() == {"CANCELED": 300}
    assert coming[0].started is None
    web.go.set()
    again = session.submit(jrm.Shell("wc -c < x", input_staging=[f"{web.url}/slow > x"]))
    assert again.result(timeout=60).strip() == str(web.SIZE)


def test_a_killed_broker_fetches_again_what_was_on_its_way(session: Session, tmp_path: Path) -> None:
    line = "mkdir o; seq 1 1500 | split -a 4 -l 1 - o/; mkfifo pipe; echo end"
    task = session.submit(jrm.Shell(line, output_staging=[f"o > {tmp_path}/o"]))
    odd = session.submit(jrm.Shell("mkfifo pipe", output_staging=[f"pipe > {tmp_path}/pipe"]))
    eventually(lambda: list(tmp_path.glob("o/*")), "nothing is fetched", 60)
    holder = Home.locate().holder()
    assert holder is not None
    os.kill(holder.pid, signal.SIGKILL)
    assert len(list(tmp_path.glob("o/*"))) < 1500, "it was too fast to be killed in the middle"
    name = session.name
    connection.close_all()
    sessions._open.clear()
    again = sessions.open(name)
    found = again[task.uid]
    eventually(lambda: found.state >= "STAGING_OUT", f"it is {found.state}", 60)
    assert found.wait(90) == "DONE", f"{found.state}: {found.reason}"
    numbers = [int(path.read_text()) for path in sorted((tmp_path / "o").iterdir())]
    assert numbers == list(range(1, 1501))
    assert (found.attempt, found.exit_code) == (1, 0)
    assert again[odd.uid].wait(60) == "FAILED"
    assert "neither a file nor a directory" in again[odd.uid].reason


def test_a_task_without_files_pays_nothing(session: Session) -> None:
    """No state, fact or thread more than before."""
    task = session.submit(jrm.Task("/bin/true"))
    assert task.wait(30) == "DONE"
    story = str(task.story())
    assert "files" not in story, story
    template = session._replica.ledger.bulks[0].form.template
    assert b"staging" not in __import__("msgspec").msgpack.encode(template)
