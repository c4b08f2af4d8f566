"""A shell that stays on another machine: it outlives kernels, cuts and kills, and there is at most one."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from jupyter_rm.model.errors import LinkError, RequestError, SiteError
from jupyter_rm.notebook.kept import KeptShell
from jupyter_rm.notebook.magics import Magics
from jupyter_rm.runtime.connect import Connections, Nobody


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of its own in which no shell is left behind."""
    monkeypatch.setenv("HOME", str(tmp_path))
    yield tmp_path
    one = kernel()
    one.end()
    until(lambda: not processes(tmp_path), "a shell was left behind")


def kernel() -> KeptShell:
    """What a new kernel has: nothing but the host's name."""
    one = KeptShell("local", Connections())
    one.start(Nobody())
    return one


def gone(one: KeptShell) -> None:
    one._connections.close()


def run(one: KeptShell, text: str) -> tuple[int, str, str]:
    out: list[str] = []
    err: list[str] = []
    code = one.run(text, out.append, err.append)
    return code, "".join(out), "".join(err)


def processes(house: Path) -> list[psutil.Process]:
    found = []
    for each in psutil.process_iter():
        try:
            if str(house) in " ".join(each.cmdline()) and "serve" in each.cmdline():
                found.append(each)
        except psutil.Error:
            continue
    return found


def until(check: object, what: str, within_s: float = 60.0) -> None:
    pause = threading.Event()
    for _ in range(int(within_s / 0.05)):
        if check():  # type: ignore[operator]
            return
        pause.wait(0.05)
    raise AssertionError(what)


def test_the_next_kernel_finds_directory_and_variables(house: Path) -> None:
    first = kernel()
    assert run(first, "cd /tmp; X='a  b'; f() { echo \"f: $X\"; }") == (0, "", "")
    assert first.directory == "/tmp"
    gone(first)
    second = kernel()
    assert run(second, "pwd; f; printf 'no end'; echo it >&2; false") == (1, "/tmp\nf: a  b\nno end", "it\n")
    assert run(second, "cat") == (0, "", ""), "a cell reads nothing of what follows"
    text = "echo " + "x" * 100_000 + "\n# ü '\" \\ $X `date`"
    assert run(second, text)[1] == "x" * 100_000 + "\n"
    place = house / ".jupyter_rm/shell"
    assert {path.stat().st_mode & 0o077 for path in place.rglob("*")} == {0}
    with pytest.raises(RequestError, match="larger than"):
        second.run("x" * (1 << 20), print, print)
    gone(second)


def test_a_long_command_is_read_in_full_after_its_kernel_has_gone(house: Path) -> None:
    first = kernel()
    heard: list[str] = []
    text = f"echo before; while [ ! -e '{house}/go' ]; do sleep 0.05; done; echo after; (exit 7)"

    def cell() -> None:
        with pytest.raises(LinkError, match="goes on there"):
            first.run(text, heard.append, heard.append)

    thread = threading.Thread(target=cell)
    thread.start()
    until(lambda: "before" in "".join(heard), "it prints nothing")
    gone(first)
    thread.join(30)
    assert not thread.is_alive()
    (house / "go").touch()
    second = kernel()
    out: list[str] = []
    assert second.last(out.append, out.append) == 7
    assert "".join(out) == "before\nafter\n"
    assert second.state()[1:3] == (0, 0)
    gone(second)


def test_twenty_at_once_are_one_and_a_killed_one_is_replaced(house: Path) -> None:
    kernels = [kernel() for _ in range(20)]
    with ThreadPoolExecutor(20) as pool:
        said = list(pool.map(lambda one: run(one, "echo $$"), kernels))
    assert len({out for _, out, _ in said}) == 1, said
    until(lambda: len(processes(house)) == 1, f"{processes(house)}")
    assert sum(each.memory_info().rss for each in processes(house)) < 50 << 20
    one = kernels[0]
    run(one, "cd /var")
    shell = one.state()[0]
    for pid in (processes(house)[0].pid, shell):
        os.kill(pid, signal.SIGKILL)
    until(lambda: one.state()[0] == 0, "it lives")
    code, out, _ = run(one, "pwd; echo $$")
    assert (code, out.splitlines()[0]) == (0, "/var")
    assert int(out.splitlines()[1]) != shell
    for each in kernels:
        gone(each)


def test_ctrl_c_leaves_the_cell_and_not_the_shell(house: Path) -> None:
    one = kernel()
    assert run(one, "X=kept") == (0, "", "")
    for endless in ("sleep 600", "while :; do :; done"):
        with ThreadPoolExecutor(1) as pool:
            begun = threading.Event()
            cell = pool.submit(one.run, f"echo on; {endless}", lambda _, begun=begun: begun.set(), print)
            assert begun.wait(60), "it does not run"
            one.interrupt()
            assert cell.result(60) == 130
    assert run(one, "echo $X")[1] == "kept\n"
    with pytest.raises(LinkError, match="ended in this cell"):
        one.run("exit 3", print, print)
    assert run(one, "echo new$X")[1] == "new\n"
    gone(one)


def test_where_it_may_not_stay_it_says_so(house: Path) -> None:
    one = kernel()
    place = Path(run(one, 'echo "$HOME"')[1].strip()) / ".jupyter_rm/shell"
    one.end()
    folder = next(path for path in place.iterdir() if path.is_dir())
    (folder / "pipe").mkdir()  # nothing can be listened at
    with pytest.raises(SiteError, match="no shell stays there") as caught:
        run(one, "true")
    assert "without --keep" in caught.value.hint
    (folder / "pipe").rmdir()
    gone(one)


def test_from_cells(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space: dict[str, object] = {}
    first = Magics({})
    first.cell("sh --keep local", f"cd '{house}'; A=5")
    first.close()
    second = Magics(space)
    second.cell("sh --keep local -o said", "echo $A $PWD")
    assert space["said"] == f"5 {house}\n"
    capsys.readouterr()
    second.line("sh local --last")
    assert capsys.readouterr().out == f"5 {house}\n"
    assert "--keep" in str(second.line("sh"))
    assert "was ended" in str(second.line("sh local --keep --close"))
    until(lambda: not processes(house), "it lives")
    second.close()
