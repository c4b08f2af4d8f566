"""Inside a running loop (a notebook cell): awaiting and blocking both end, and the loop stays alive (RP-26, SM-11)."""

from __future__ import annotations

import ast
import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import jupyter_rm as jrm
from jupyter_rm.client.session import Session


def test_awaiting_leaves_the_loop_alive(session: Session) -> None:
    gaps: list[float] = []

    def beat(loop: asyncio.AbstractEventLoop, last: float) -> None:
        gaps.append(loop.time() - last)
        loop.call_later(0.05, beat, loop, loop.time())

    async def cell() -> tuple[object, ...]:
        loop = asyncio.get_running_loop()
        beat(loop, loop.time())
        bulk = session.array(jrm.Task("/bin/sh", ["-c", "sleep 0.01; echo {n}"]), n=range(40))
        calls = session.map(lambda n: n + 1, range(40))
        one = session.submit(jrm.Task("/bin/echo", ["one"]))
        out = await asyncio.wait_for(asyncio.gather(_wait(bulk), _wait(calls), _wait(one), session.wait_async()), 40)
        return tuple(out)

    lines, values, one, ended = asyncio.run(cell())
    assert lines == [f"{n}\n" for n in range(40)]
    assert values == list(range(1, 41))
    assert (one, ended) == ("one\n", True)
    assert gaps
    assert max(gaps) < 1.0


async def _wait(thing: object) -> object:
    return await thing  # type: ignore[misc]


def test_what_goes_on_coming_leaves_the_loop_alive(session: Session, tmp_path: Path) -> None:
    """api.md: everything blocking has an awaitable twin."""
    go = tmp_path / "go"

    async def cell() -> None:
        slow = session.submit(jrm.Shell(f"echo one; while ! test -e {go}; do sleep 0.05; done; echo two; exit 3"))
        bulk = session.map(lambda n: 1 / n, [1, 0, 2])
        ended = [task async for task in bulk.as_completed()]
        assert {task.uid for task in ended} == {task.uid for task in bulk}
        values = await bulk.results_async(return_exceptions=True)
        assert values[::2] == [1.0, 0.5] and isinstance(values[1], ZeroDivisionError)
        assert await bulk.wait_async() is True
        with pytest.raises(TimeoutError, match="1 of 2 tasks"):
            async for task in (bulk[:1] + slow).as_completed(timeout=0.3):
                assert task == bulk[0]
        pieces = []
        async for piece in slow.follow():
            pieces.append(piece)
            await asyncio.to_thread(go.touch)
        assert "".join(pieces) == "one\ntwo\n"
        assert await slow.wait_async() == "FAILED"

    before = len(session._replica._conditions)
    asyncio.run(asyncio.wait_for(cell(), 40))
    assert len(session._replica._conditions) == before, "a wait that was given up is still asked for"


def test_awaiting_a_pilot_to_its_end(bare: Session) -> None:
    async def cell() -> list[str]:
        pilot = bare.pilot("local", cores=1)
        states = [await pilot.wait_async(), await pilot]
        pilot.cancel()
        return [*states, await pilot.wait_async("DONE")]

    assert asyncio.run(asyncio.wait_for(cell(), 40)) == ["ACTIVE", "ACTIVE", "CANCELED"]


def test_waits_end_when_no_more_news_will_come(bare: Session) -> None:
    async def cell() -> None:
        bulk = bare.submit([jrm.Task("/bin/true", requires=["nobody-has"])] * 2)
        waits = [asyncio.ensure_future(bulk[0].wait_async()), asyncio.ensure_future(_all_of(bulk.as_completed()))]
        await asyncio.sleep(0)
        bare.detach()
        for wait in waits:
            with pytest.raises(jrm.LinkError):
                await asyncio.wait_for(wait, 20)

    bare.pilot("noop", nodes=1, cores=1).wait(timeout=20)
    asyncio.run(cell())


async def _all_of(stream: Any) -> list[Any]:
    return [each async for each in stream]


def test_blocking_inside_a_running_loop(session: Session) -> None:
    async def cell() -> object:
        return session.submit(jrm.Task("/bin/echo", ["blocked"])).result(20), session.map(abs, [-1]).results(20)

    assert asyncio.run(cell()) == ("blocked\n", [1])


def test_a_helper_next_to_the_script_travels(session: Session, tmp_path: Path) -> None:
    """SM-11: a function of ``__main__`` that uses a module of the working directory, which workers cannot import."""
    (tmp_path / "helper_of_mine.py").write_text("FACTOR = 7\n\ndef scale(x):\n    return x * FACTOR\n")
    code = f"""
import jupyter_rm as jrm
import helper_of_mine

def work(x):
    return helper_of_mine.scale(x) + 1

s = jrm.open({session.name!r}, create=False)
print(s.map(work, range(3)).results(20))
"""
    (tmp_path / "script.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "[1, 8, 15]\n", done.stderr


def test_every_failure_has_a_cause(session: Session, tmp_path: Path) -> None:
    """RP-42: each kind of failure names its cause, in words and in the table."""
    (tmp_path / "file").touch()
    kinds = {
        "TASK_EXIT": jrm.Shell("exit 3"),
        "TASK_TIMEOUT": jrm.Task("/bin/sleep", ["60"], timeout=0.2),
        "START_FAILED": jrm.Task("/no/such/program"),
        "ENV_FAILED": jrm.Task("/bin/true", pre_exec=["exit 5"]),
    }
    tasks = {cause: session.submit(task) for cause, task in kinds.items()}
    tasks["DEPENDENCY"] = session.submit(jrm.Task("/bin/true", after=tasks["TASK_EXIT"]))
    tasks["CALL_RAISED"] = session.call(int, "x")
    tasks["WORKER_LOST"] = session.call(_die)
    assert session.wait(40)
    for cause, task in tasks.items():
        assert task.state in ("FAILED", "CANCELED")
        assert task.cause == cause
        assert task.reason
        assert str(task.story()).count("\n") >= 2
    frame = session.frame()
    assert (frame["cause"] != "").all()


def _die() -> None:
    import os

    os._exit(9)


STARTERS = {f"subprocess.{name}" for name in ("Popen", "run", "call", "check_call", "check_output")} | {"Popen", "run"}


def test_no_forks_of_a_threaded_interpreter() -> None:
    """RP-28: the package starts programs, it never forks itself; nor does it use a shell behind one's back."""
    forbidden = re.compile(r"^(multiprocessing|os\.fork|os\.system|os\.popen|pty)\b")
    for path in Path(jrm.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                names = [f"{node.value.id}.{node.attr}"]
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in STARTERS:
                assert not [key for key in node.keywords if key.arg in ("shell", None)], f"{path}:{node.lineno}"
            assert not [name for name in names if forbidden.match(name)], f"{path}: {names}"
