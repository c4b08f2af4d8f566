"""The system `local`, run for real: submit, status, find, suspend, cancel, and what is left; and the batch script."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jupyter_rm.batch import BATCH_SCRIPT, Acknowledged, BatchError, JobRecord, JobState, Submitted, load, spec_bytes
from jupyter_rm.model.errors import RequestError

LOCAL = load("local")


def run(op: str, values: dict[str, object], **more: object) -> object:
    command = LOCAL.render(op, values)
    done = subprocess.run(command.argv, input=command.stdin, capture_output=True, timeout=command.timeout_s)
    return LOCAL.read(op, done.stdout, done.stderr, done.returncode, **more)  # type: ignore[arg-type]


def state(id: str) -> JobState:
    answer = run("status", {"ids": [id]})
    assert isinstance(answer, list) and isinstance(answer[0], JobRecord) and answer[0].id == id
    return answer[0].state


def wait_for(what: str, happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline, f"no {what} within 20 s"


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., str]]:
    ids: list[str] = []

    def start(text: str, token: str = "jrm0a1b2c3d", **more: object) -> str:
        script = tmp_path / "job.sh"
        script.write_text(text)
        values = {"script": str(script), "token": token, "workdir": str(tmp_path), "stdout": str(tmp_path / "out")}
        answer = run("submit", {**values, "stderr": str(tmp_path / "err"), **more})
        assert isinstance(answer, Submitted)
        ids.append(answer.id)
        return answer.id

    yield start
    for id in ids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if state(id) is JobState.RUNNING:
                os.killpg(int(id.partition(".")[0]), signal.SIGKILL)


def test_a_job_lives_and_ends(started: Callable[..., str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    id = started('pwd; echo "$JRM_TOKEN $1"; read line < go; echo bye\n', spec=str(tmp_path / "a spec; it's"))
    assert state(id) is JobState.RUNNING
    found = run("find", {"token": "jrm0a1b2c3d"})
    assert isinstance(found, list) and [(one.id, one.token) for one in found if isinstance(one, JobRecord)] == [
        (id, "jrm0a1b2c3d")
    ]
    assert run("find", {"token": "jrm9z9z9z9z"}) == []
    os.kill(int(id.partition(".")[0]), signal.SIGSTOP)
    wait_for("suspension", lambda: run("status", {"ids": [id]})[0].detail == "suspended")  # type: ignore[index]
    os.kill(int(id.partition(".")[0]), signal.SIGCONT)
    (tmp_path / "go").write_text("\n")
    wait_for("end", lambda: state(id) is JobState.ENDED)
    assert (tmp_path / "out").read_text() == f"{tmp_path}\njrm0a1b2c3d {tmp_path}/a spec; it's\nbye\n"


def test_cancel_takes_the_whole_session(started: Callable[..., str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ready")
    id = started("sleep 600 & echo $! > pid; echo up > ready; wait\n")
    assert (tmp_path / "ready").read_text() == "up\n"
    child = int((tmp_path / "pid").read_text())
    assert run("cancel", {"ids": [id]}) == Acknowledged()
    wait_for("end", lambda: state(id) is JobState.ENDED)
    wait_for(
        "end of its child",
        lambda: not Path(f"/proc/{child}").exists() or " Z " in Path(f"/proc/{child}/stat").read_text(),
    )
    assert run("cancel", {"ids": [id, "1.1.0"]}) == Acknowledged((id, "1.1.0"))


def test_a_number_used_again_is_not_the_job(started: Callable[..., str]) -> None:
    id = started("sleep 600\n")
    pid, start, boot = id.split(".")
    for other in (f"{pid}.{int(start) - 1}.{boot}", f"{pid}.{start}.0badb007", f"1.{start}.{boot}"):
        assert state(other) is JobState.ENDED, "another process, or another boot of the machine"
        assert run("cancel", {"ids": [other]}) == Acknowledged((other,))
    assert state(id) is JobState.RUNNING, "and nobody touched the real one"


@pytest.mark.parametrize("field", ["script", "workdir", "stdout"])
def test_what_is_missing_is_said(tmp_path: Path, field: str) -> None:
    (tmp_path / "job.sh").write_text("true\n")
    values = {"script": str(tmp_path / "job.sh"), "token": "jrm0a1b2c3d", field: str(tmp_path / "nosuch" / "x")}
    with pytest.raises(BatchError) as caught:
        run("submit", values)
    assert caught.value.refused and "nosuch" in caught.value.raw


def test_the_batch_script_runs_what_the_spec_says(tmp_path: Path) -> None:
    place = tmp_path / "a dir; with 'quotes' $(and more)"
    place.mkdir()
    script, program, spec = tmp_path / "batch.sh", place / "program.py", place / "spec"
    script.write_bytes(BATCH_SCRIPT)
    program.write_text("import sys; print(open(sys.argv[1]).read().split('\\n', 3)[3])")
    spec.write_bytes(spec_bytes(sys.executable, str(program), b"the rest"))
    for argv, env in ((["/bin/sh", script, spec], {}), (["/bin/sh", script], {"JRM_SPEC": str(spec)})):
        done = subprocess.run(argv, capture_output=True, text=True, env={"PATH": os.environ["PATH"], **env}, timeout=30)
        assert (done.returncode, done.stdout) == (0, "the rest\n"), done.stderr


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (None, 64, "cannot be read"),
        (b"", 65, "is not a spec file"),
        (b"#!/bin/sh\necho\nx\n", 65, "is not a spec file"),
        (b"jupyter_rm spec 1\n/usr/bin/env\n", 65, "is not a spec file"),
        (b"jupyter_rm spec 1\n/no/python\n/x\n", 66, "no Python at '/no/python'"),
    ],
)
def test_the_batch_script_refuses_what_is_none(tmp_path: Path, body: bytes | None, code: int, words: str) -> None:
    script, spec = tmp_path / "batch.sh", tmp_path / "spec"
    script.write_bytes(BATCH_SCRIPT)
    if body is not None:
        spec.write_bytes(body)
    done = subprocess.run(["/bin/sh", script, spec], capture_output=True, text=True, timeout=30)
    assert done.returncode == code and words in done.stderr


@pytest.mark.parametrize("path", ["python", "/a\nb", "/a\0b", ""])
def test_a_spec_holds_whole_paths_only(path: str) -> None:
    with pytest.raises(RequestError):
        spec_bytes(path, "/x")
    with pytest.raises(RequestError):
        spec_bytes("/x", path)
