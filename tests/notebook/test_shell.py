"""Shells that stay: cells share directory, variables and functions, and no cell can take the shell with it unseen."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from jupyter_rm.model.errors import LinkError, RequestError
from jupyter_rm.notebook import asking, shell
from jupyter_rm.notebook.shell import RemoteShell
from jupyter_rm.runtime.connect import Connections, Nobody, Question


@pytest.fixture(params=["bash", "sh"])
def one(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteShell]:
    if request.param == "sh":
        monkeypatch.setattr(shell, "_START", ["sh"])
    connections = Connections()
    made = RemoteShell("local", connections)
    made.start(Nobody())
    yield made
    made.close()
    connections.close()


def run(one: RemoteShell, text: str) -> tuple[int, str, str]:
    out: list[str] = []
    err: list[str] = []
    code = one.run(text, out.append, err.append)
    return code, "".join(out), "".join(err)


def test_cells_share_what_a_shell_keeps(one: RemoteShell, tmp_path: Any) -> None:
    assert run(one, f"cd '{tmp_path}'\nX='a  b'\nexport Y=2\nf() {{ echo \"f: $X\"; }}") == (0, "", "")
    assert one.directory == str(tmp_path)
    assert run(one, "f; sh -c 'echo $Y'; pwd") == (0, f"f: a  b\n2\n{tmp_path}\n", "")


def test_output_comes_as_it_is(one: RemoteShell) -> None:
    assert run(one, "printf 'no end'; echo 'it''s \\ $X ü' >&2; false") == (1, "no end", "its \\ $X ü\n")
    assert run(one, "cat") == (0, "", ""), "a cell reads nothing of what follows"
    code, out, _ = run(one, "i=0; while [ $i -lt 3000 ]; do echo jrm-end-$i; i=$((i+1)); done")
    assert code == 0 and out.splitlines() == [f"jrm-end-{n}" for n in range(3000)]


def test_too_much_output_is_cut_and_said(one: RemoteShell) -> None:
    code, out, _ = run(one, f"head -c {shell.MOST + 5000} /dev/zero | tr '\\0' x; echo")
    assert code == 0
    assert len(out) < shell.MOST + 200 and "not shown" in out
    assert run(one, "echo and on") == (0, "and on\n", "")


def test_a_mistake_does_not_end_the_shell(one: RemoteShell) -> None:
    assert run(one, "X=kept") == (0, "", "")
    code, _, err = run(one, "if then")
    assert code != 0 and "yntax" in err
    assert run(one, "echo $X") == (0, "kept\n", "")
    with pytest.raises(RequestError, match="KiB"):
        one.run("x" * (shell.MOST_CELL + 1), print, print)


def test_a_shell_that_ends_is_said_and_made_again(one: RemoteShell, tmp_path: Any) -> None:
    run(one, f"cd '{tmp_path}'")
    with pytest.raises(LinkError, match="exit code 7") as caught:
        run(one, "exit 7")
    assert "same directory" in caught.value.hint
    one.start(Nobody())
    assert run(one, "pwd")[1] == f"{tmp_path}\n"


def test_ctrl_c_ends_the_cell_and_not_the_shell(one: RemoteShell) -> None:
    run(one, "X=kept")
    heard: list[str] = []
    began = threading.Event()

    def out(text: str) -> None:
        heard.append(text)
        began.set()

    def press() -> None:
        assert began.wait(20)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        one.run("for i in 1 2 3; do echo $i; sleep 30; done; echo never", out, print)
    thread.join()
    assert "".join(heard) == "1\n"
    assert run(one, "echo $X") == (0, "kept\n", "")


def test_questions_of_a_login_are_asked_in_the_cell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = {"otp": "123456", "password": ""}
    monkeypatch.setattr(asking.getpass, "getpass", lambda text: typed[asked[-1].kind])
    monkeypatch.setattr("builtins.input", lambda text: "no")
    asked: list[Question] = []
    desk = asking.Desk()

    def put(kind: str, **more: Any) -> str:
        question = Question(kind, "login.site", "me", f"say your {kind}", **more)
        asked.append(question)
        desk.ask(question)
        return question.wait(20)

    assert desk.during(lambda: put("otp")) == "123456"
    for kind in ("password", "host_key"):
        with pytest.raises(LinkError, match="given up"):
            desk.during(lambda: put(kind, fingerprint="SHA256:abc", key_type="ssh-ed25519"))  # noqa: B023
    shown = capsys.readouterr().err
    assert "me@login.site" in shown and "say your otp" in shown and "ssh-ed25519 SHA256:abc" in shown
    assert "123456" not in shown
