"""Programs as tasks, through the real broker and a real agent."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import jupyter_rm as jrm
from jupyter_rm.client.session import Session


def test_one_program(session: Session) -> None:
    task = session.submit(jrm.Task("/bin/echo", ["hello", "{not a placeholder}"], name="greet"))
    assert task.wait(20) == "DONE"
    assert task.result() == "hello {not a placeholder}\n"
    assert (task.exit_code, task.cause, task.attempt, task.name, task.uid) == (0, None, 1, "greet", "t.0.0")
    assert task.node
    assert task.pilot is not None
    assert task.pilot.uid == "p.0"
    assert task.pilot == session["p.0"] and task.pilot in session.pilots() and len({task.pilot, session["p.0"]}) == 1
    assert task.pilot != task and task.pilot != "p.0"
    assert task.sandbox is not None
    assert (task.sandbox / "stdout").read_text() == "hello {not a placeholder}\n"
    assert [path.name for path in task.files()] == ["stderr", "stdout"] or task.files()
    assert task.done()
    assert task.exception() is None


def test_states_compare_as_text_and_in_order(session: Session) -> None:
    task = session.submit(jrm.Task("/bin/true"))
    task.wait(20)
    assert task.state == "DONE" == jrm.TaskState.DONE.name
    assert task.state == jrm.TaskState.DONE
    assert task.state > "RUNNING"
    assert task.state.final
    assert {task.state: 1} == {"DONE": 1}


def test_failure_says_what_happened(session: Session) -> None:
    task = session.submit(jrm.Shell("echo out; echo 'no such seed' >&2; exit 3"))
    with pytest.raises(jrm.TaskError) as caught:
        task.result(20)
    error = caught.value
    assert (task.state, task.cause, error.cause) == ("FAILED", "TASK_EXIT", "TASK_EXIT")
    assert (error.exit_code, error.uid) == (3, task.uid)
    assert "no such seed" in error.output
    assert "story" in error.hint
    assert isinstance(task.exception(), jrm.TaskError)
    assert task.stdout() == "out\n"
    assert task.stderr() == "no such seed\n"


def test_missing_program(session: Session) -> None:
    task = session.submit(jrm.Task("simulat-that-is-nowhere"))
    assert task.wait(20) == "FAILED"
    assert task.cause == "START_FAILED"
    assert "simulat-that-is-nowhere" in task.reason


def test_a_program_of_ones_own_environment_is_named(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, mark in (("venv", "pyvenv.cfg"), ("tools", "readme")):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / mark).touch()
        program = tmp_path / name / "bin" / f"tool-of-{name}"
        program.write_text("#!/bin/sh\necho found\n")
        program.chmod(0o755)
        (program.parent / "python").symlink_to(sys.executable)
        monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    with pytest.raises(jrm.TaskError) as caught:
        session.submit(jrm.Task("tool-of-venv")).result(20)
    assert f"named_env='{tmp_path}/venv'" in caught.value.hint
    assert session.submit(jrm.Task("tool-of-venv", named_env=f"{tmp_path}/venv")).result(20) == "found\n"
    with pytest.raises(jrm.TaskError) as caught:
        session.submit(jrm.Task("tool-of-tools")).result(20)
    assert f"here it is {tmp_path}/tools/bin/tool-of-tools" in caught.value.hint


def test_reasons_say_it_once_and_name_what_counts(session: Session) -> None:
    late = session.submit(jrm.Task("/bin/sleep", ["600"], timeout=0.2))
    late.wait(20)
    assert late.reason == "it ran longer than its timeout of 0.2 s"
    assert str(late.story()).count("ran longer") == 1
    folder = session.submit(jrm.Task("/tmp"))
    folder.wait(20)
    assert folder.reason.endswith("executable '/tmp' is a directory")
    with pytest.raises(jrm.RequestError, match=r"asks for 6 \(3 ranks of 2\)"):
        session.submit(jrm.Task("/bin/true", ranks=3, cores=2))
    with pytest.raises(jrm.RequestError) as caught:
        session.submit(jrm.Task("/bin/true", partition=3))
    assert "name one that is there: 0" in caught.value.hint


def test_each_rank_has_an_output(session: Session) -> None:
    task = session.submit(jrm.Shell("echo rank $JRM_RANK; echo err $JRM_RANK >&2", ranks=2))
    assert task.wait(20) == "DONE"
    assert [task.stdout(rank) for rank in (0, 1)] == ["rank 0\n", "rank 1\n"]
    assert task.stderr(1) == "err 1\n"
    with pytest.raises(jrm.RequestError, match="rank: 2"):
        task.stdout(2)


def test_a_pilot_is_started_for_an_executor_too(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    executor = session.executor()
    assert executor.submit(pow, 2, 3).result(20) == 8
    session.pilots()[0].cancel()
    session.pilots()[0].wait("DONE", 20)
    assert executor.submit(pow, 2, 4).result(20) == 16
    executor.shutdown(wait=False)
    assert f"every pilot of {session.name!r} has ended; started p.1" in capsys.readouterr().err


def test_array_fills_columns(session: Session) -> None:
    task = jrm.Task("/bin/echo", ["{seed}", "{temp}", "{{x}}"])
    bulk = session.array(task, seed=range(50), temp=300, name=[f"run-{n}" for n in range(50)])
    assert bulk.wait(30)
    assert bulk.counts() == {"DONE": 50}
    assert bulk.results() == [f"{n} 300 {{x}}\n" for n in range(50)]
    assert bulk[7].name == "run-7"
    assert bulk[7].parameters == {"seed": 7, "temp": 300, "name": "run-7"}
    assert len(bulk) == 50
    assert [task.uid for task in bulk][:2] == [bulk[0].uid, bulk[1].uid]
    assert len(bulk[10:20]) == 10
    assert bulk[-1] == bulk[49]


def test_array_fills_names(session: Session) -> None:
    bulk = session.array(jrm.Task("/bin/echo", ["{n}"], name="line-{n:02d}"), n=range(3))
    assert [task.name for task in bulk] == ["line-00", "line-01", "line-02"]
    assert bulk.wait(20)
    assert bulk.to_frame()["name"].tolist() == ["line-00", "line-01", "line-02"]
    assert "line-01" in repr(bulk[1])


def test_truths_are_words_wherever_they_stand(session: Session) -> None:
    task = jrm.Shell('echo {a} {b} {c} {d} "$E" "$F"', environment={"E": "{a}", "F": True})
    truths = [True, False]
    bulk = session.array(task, a=truths, b=np.array(truths), c=np.array(truths, object), d=np.True_)
    assert bulk.results(20) == ["True True True True True True\n", "False False False True False True\n"]


def test_a_column_may_have_any_name(session: Session) -> None:
    bulk = session.array(jrm.Task("/bin/echo", ["{task}", "{self}"]), task=["a", "b"], self=[1, 2])
    assert bulk.results(20) == ["a 1\n", "b 2\n"]


def test_array_in_numbers_and_arrays(session: Session) -> None:
    bulk = session.array(jrm.Task("/bin/echo", ["{x}"]), x=np.array([0.5, 2.0]))
    assert bulk.results(20) == ["0.5\n", "2.0\n"]


@pytest.mark.parametrize(
    ("task", "columns", "says"),
    [
        (jrm.Task("echo", ["{seed}"]), {}, "seed"),
        (jrm.Task("echo", ["{seed}"]), {"seed": range(3), "temp": [1, 2]}, "temp"),
        (jrm.Task("echo", ["{seed}"]), {"seed": []}, "seed"),
        (jrm.Task("echo", ["{}"]), {"seed": [1]}, "placeholder"),
        (jrm.Task("echo", ["{seed"]), {"seed": [1]}, "arguments"),
        (jrm.Task("echo", ["{seed}"]), {"seed": np.zeros((2, 2))}, "seed"),
        (jrm.Task("echo", name="run-{n}"), {"seed": [1]}, "n"),
        (jrm.Task("echo", name="run-{n}"), {"n": ["a", "b c"]}, "task 1: 'run-b c'"),
        (jrm.Task("echo", name="{n}"), {"n": [1, 2]}, "'1' is not a name"),
        (jrm.Task("echo", name="r{n}{m}"), {"n": [1, 10**18], "m": "x" * 60}, "task 1"),
        (jrm.Task("echo", name="r{n:zz}"), {"n": [1]}, "name"),
    ],
)
def test_array_refuses(bare: Session, task: jrm.Task, columns: dict[str, object], says: str) -> None:
    with pytest.raises(jrm.RequestError, match=says):
        bare.array(task, **columns)
    assert len(bare.tasks()) == 0


def test_array_warns_of_unused_columns(session: Session) -> None:
    with pytest.warns(UserWarning, match="weight"):
        bulk = session.array(jrm.Task("/bin/echo", ["{n}"]), n=[1, 2], weight=[3, 4])
    assert bulk.wait(20)
    assert bulk.to_frame()["weight"].tolist() == [3, 4]


def test_unlike_tasks_are_few_bulks_and_keep_their_order(session: Session) -> None:
    tasks = []
    for n in range(30):
        tasks.append(jrm.Task("/bin/echo", [str(n), "{brace}"], name=f"n{n}", environment={"K": str(n)}))
        tasks.append(jrm.Shell(f"echo shell {n} $A", environment={"A": f"a{n}"}))
    bulk = session.submit(tasks)
    assert bulk.wait(30)
    expected = [text for n in range(30) for text in (f"{n} {{brace}}\n", f"shell {n} a{n}\n")]
    assert bulk.results() == expected
    assert bulk[2].name == "n1"
    assert len(session._replica.ledger.bulks) == 2


def test_after(session: Session, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    os.mkfifo(tmp_path / "gate")
    first = session.submit(jrm.Shell(f"read _ < {tmp_path}/gate; echo done > {mark}"))
    second = session.submit(jrm.Shell(f"cat {mark}", after=first))
    third = session.submit(jrm.Shell(f"cat {mark}", after=[second.uid]))
    assert second.state == "SUBMITTED"
    (tmp_path / "gate").write_text("go\n")
    assert third.result(20) == "done\n"


def test_after_failure_does_not_run(session: Session) -> None:
    first = session.submit(jrm.Task("/bin/false"))
    second = session.submit(jrm.Task("/bin/true", after=first))
    assert second.wait(20).final
    assert second.state != "DONE"
    assert second.cause == "DEPENDENCY"


def test_bulks_add_up(session: Session) -> None:
    first = session.array(jrm.Task("/bin/echo", ["{n}"]), n=range(3))
    single = session.submit(jrm.Task("/bin/echo", ["one"]))
    study = first[1:] + single + session.map(abs, [-1, -2]) + session.call(abs, -3) + session.submit([])
    assert len(study) == 6
    assert study[2] == single
    assert study.results(20) == ["1\n", "2\n", "one\n", 1, 2, 3]
    assert study.to_frame()["uid"].tolist() == [task.uid for task in study]
    with pytest.raises(TypeError):
        first + "t.0"  # type: ignore[operator]


def test_a_named_pilot_is_asked_for_once(bare: Session) -> None:
    pilot = bare.pilot("noop", nodes=1, cores=4, name="here")
    assert bare.pilot("noop", nodes=1, cores=4, name="here").uid == pilot.uid
    with pytest.raises(jrm.RequestError, match=r"p\.0 is called 'here' too"):
        bare.pilot("noop", nodes=1, cores=5, name="here")
    assert bare.pilot("noop", nodes=1, cores=4).uid == "p.1"
    pilot.wait(timeout=20)
    pilot.cancel()
    bare._replica.wait(lambda: pilot.state.final, 20)
    assert bare.pilot("noop", nodes=1, cores=4, name="here").uid == "p.2"


def test_cancel_running_and_waiting(session: Session) -> None:
    bulk = session.array(jrm.Task("/bin/sleep", ["{s}"]), s=[600] * 6)
    session._replica.wait(lambda: bulk.counts().get("RUNNING", 0) >= 2, 20)
    assert bulk[5].cancel()
    assert bulk[5].wait(20) == "CANCELED"
    assert bulk.cancel() >= 5
    assert bulk.wait(20)
    assert bulk.counts() == {"CANCELED": 6}
    assert bulk[0].cause == "USER_CANCEL"
    assert not bulk[0].cancel()
    with pytest.raises(jrm.TaskError):
        bulk[0].result()


def test_retry_submits_the_failed_again(session: Session, tmp_path: Path) -> None:
    bulk = session.array(jrm.Shell(f"test -e {tmp_path}/ok-{{n}}"), n=range(4))
    (tmp_path / "ok-2").touch()
    assert bulk.wait(20)
    failed = bulk.failed()
    assert {task.uid for task in failed} >= {bulk[n].uid for n in (0, 1, 3)}
    for n in range(4):
        (tmp_path / f"ok-{n}").touch()
    again = bulk.retry()
    assert len(again) == len(failed)
    assert again.wait(20)
    assert again.counts() == {"DONE": len(failed)}


def test_retries_make_attempts(session: Session, tmp_path: Path) -> None:
    task = session.submit(jrm.Shell(f"test -e {tmp_path}/x || {{ touch {tmp_path}/x; exit 1; }}", retries=2))
    assert task.wait(20) == "DONE"
    assert task.attempt == 2
    assert "attempt 1" in str.__str__(task.story())


def test_follow_is_live(session: Session, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    task = session.submit(jrm.Shell(f"echo one; read x < {tmp_path}/gate; echo two"))
    pieces = task.follow()
    assert next(pieces) == "one\n"
    assert not task.done()
    (tmp_path / "gate").write_text("go\n")
    assert "".join(pieces) == "two\n"


def test_exit_codes_are_those_of_programs(session: Session, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    codes = {
        "failed": session.submit(jrm.Shell("exit 3", name="failed")),
        "killed": session.submit(jrm.Shell("kill -9 $$", name="killed")),
        "late": session.submit(jrm.Task("/bin/sleep", ["600"], timeout=0.2, name="late")),
        "missing": session.submit(jrm.Task("/nowhere/x", name="missing")),
        "raised": session.map(int, ["x"], name="raised")[0],
        "called": session.map(int, ["7"], name="called")[0],
    }
    codes["after"] = session.submit(jrm.Task("/bin/true", after=codes["failed"], name="after"))
    assert session.wait(30)
    blockers = session.submit([jrm.Shell(f"cat {gate}", name="blocker")] * 2)
    never = session.submit(jrm.Task("/bin/true", name="never"))
    session._replica.wait(lambda: blockers.counts() == {"RUNNING": 2}, 20)
    assert never.cancel()
    assert never.wait(20) == "CANCELED"
    assert blockers.cancel() == 2
    assert session.wait(20)
    codes["never"] = never
    expected = {
        "failed": 3,
        "killed": -9,
        "late": -15,
        "missing": None,
        "raised": None,
        "called": 0,
        "after": None,
        "never": None,
    }
    assert {name: task.exit_code for name, task in codes.items()} == expected
    frame = session.frame()
    assert str(frame["exit_code"].dtype) == "Int64"
    told = {
        name: None if frame["exit_code"].isna()[place] else int(frame["exit_code"][place])
        for place, name in enumerate(frame["name"])
        if name != "blocker"
    }
    assert told == expected
    assert session.sql("select count(exit_code) as n from tasks where name = 'never'")["n"].tolist() == [0]


def test_story_and_explain(session: Session) -> None:
    task = session.submit(jrm.Task("/bin/echo", ["x"]))
    task.wait(20)
    story = str.__str__(task.story())
    for word in ("submitted", "bound to pilot p.0", "ended DONE"):
        assert word in story
    assert "DONE" in str.__str__(task.explain())
    session.array(jrm.Task("/bin/sleep", ["{s}"]), s=[600] * 2)
    waiting = session.submit(jrm.Task("/bin/true", cores=2))
    assert len(str.__str__(waiting.explain())) > 10
    assert session.cancel() == 3


def test_callbacks_and_as_completed(session: Session) -> None:
    bulk = session.array(jrm.Task("/bin/echo", ["{n}"]), n=range(8))
    called = threading.Event()
    bulk[3].add_done_callback(lambda task: called.set() if task.state == "DONE" else None)
    assert sorted(task.uid for task in bulk.as_completed(20)) == sorted(task.uid for task in bulk)
    assert called.wait(10)


def test_awaiting(session: Session) -> None:
    async def run() -> tuple[list[object], object]:
        bulk = session.array(jrm.Task("/bin/echo", ["{n}"]), n=range(3))
        one = session.submit(jrm.Task("/bin/echo", ["one"]))
        await session.wait_async()
        return await bulk, await one

    assert asyncio.run(run()) == (["0\n", "1\n", "2\n"], "one\n")


def test_wait_times_out(session: Session) -> None:
    task = session.submit(jrm.Task("/bin/sleep", ["600"]))
    assert not task.wait(0.05).final
    with pytest.raises(TimeoutError):
        task.result(0.05)
    assert not session.wait(0.05)
    assert session.cancel() == 1
    assert session.wait(20)


def test_frames_and_sql(session: Session) -> None:
    bulk = session.array(jrm.Task("/bin/sh", ["-c", "exit {code}"]), code=[0, 0, 5], name=["e0", "e0", "e5"])
    session.submit(jrm.Task("/bin/true"))
    assert session.wait(20)
    frame = session.frame()
    assert frame["uid"].tolist() == ["t.0.0", "t.0.1", "t.0.2", "t.1.0"]
    assert frame["exit_code"].tolist() == [0, 0, 5, 0]
    assert frame["code"].tolist()[:3] == [0, 0, 5]
    assert (frame["run_time"] >= 0).all()
    assert frame["started"].dt.tz is not None
    assert bulk.to_frame()["name"].tolist() == ["e0", "e0", "e5"]
    answer = session.sql("select state, count(*) as n from tasks group by state order by state")
    assert answer.to_dict("list") == {"state": ["DONE", "FAILED"], "n": [3, 1]}
    assert session.sql("select site from pilots")["site"].tolist() == ["local"]
    for bad in ("delete from tasks", "select * from nothing", "select load_extension('x')", "attach 'x' as y"):
        with pytest.raises(jrm.RequestError):
            session.sql(bad)
    assert set(session.events()["event"]) >= {"OPENED", "SUBMITTED", "RUNNING", "DONE", "FAILED"}


def test_events_tell_of_every_attempt_and_of_what_never_started(session: Session) -> None:
    tried = session.submit(jrm.Shell("exit 3", retries=2))
    assert tried.wait(20) == "FAILED"
    ended = session.submit(jrm.Task("/bin/true"))
    assert ended.wait(20) == "DONE"
    never = session.submit([jrm.Task("/bin/true", requires=["nobody-has"])] * 2)
    assert never.cancel() == 2
    assert never.wait(20)
    last = session.submit(jrm.Shell("exit 4"))
    last.wait(20)
    told = session.events()
    assert told["at"].is_monotonic_increasing
    of = lambda uid: told[told["uid"] == uid][["event", "detail"]].to_numpy().tolist()  # noqa: E731
    once = [["RUNNING", ""], ["ATTEMPT_ENDED", "TASK_EXIT"]]
    assert of(tried.uid) == [*once, *once, ["RUNNING", ""], ["FAILED", "TASK_EXIT"]]
    assert of(ended.uid) == [["RUNNING", ""], ["DONE", ""]]
    assert [of(task.uid) for task in never] == [[["CANCELED", "USER_CANCEL"]]] * 2
    assert of(last.uid) == [["RUNNING", ""], ["FAILED", "TASK_EXIT"]]
    assert told.iloc[-2:].equals(session.events(2).set_index(told.index[-2:]))


def test_what_was_not_measured_is_no_zero(session: Session) -> None:
    ran = session.submit(jrm.Shell("i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done"))
    ran.wait(20)
    session.call(sum, [1, 2]).wait(20)
    session.submit(jrm.Task("/bin/true", requires=["nobody-has"])).cancel()
    session.wait(20)
    costs = session.frame()[["user_time", "sys_time", "max_rss_mib"]]
    assert costs.iloc[0].min() >= 0 and costs.iloc[0].max() > 0
    assert costs.iloc[1:].isna().all().all()
    assert session.sql("select count(user_time) as n from tasks")["n"].tolist() == [1]


def test_sql_of_bulks_of_alike_names_and_of_nothing(session: Session) -> None:
    session.array(jrm.Task("/bin/echo", ["{N}{n}{UID}{p_uid}"]), N=[1], n=[2], UID=[3], p_uid=[4]).wait(20)
    bulk = session.sql("select uid, count, submitted, done, submitted_at from bulks")
    assert bulk.loc[0].tolist()[:4] == ["t.0", 1, 0, 1]
    assert 0 < bulk["submitted_at"][0] <= time.time()
    assert session.sql("select N, p_n, p_UID, p_p_uid from tasks").to_dict("list") == {
        "N": [1],
        "p_n": [2],
        "p_UID": [3],
        "p_p_uid": [4],
    }
    nothing = session.sql("select uid, state as how from tasks where 1 = 0")
    assert (list(nothing.columns), len(nothing)) == (["uid", "how"], 0)


def test_bulk_shows_quickly_and_small(session: Session) -> None:
    pilot = session.pilot("noop", nodes=1, cores=64)
    pilot.wait(timeout=20)
    bulk = session.array(jrm.Task("/bin/true", ["{n}"], pilot=pilot.uid), n=range(10_000))
    assert bulk.wait(30)
    bulk._repr_mimebundle_()
    best = min(_timed(bulk._repr_mimebundle_) for _ in range(5))
    assert best < 0.010, f"{best * 1000:.1f} ms"
    shown = bulk._repr_mimebundle_()
    assert "10000 DONE" in shown["text/plain"]
    assert "\n" not in shown["text/plain"]
    assert len(shown["text/html"]) < 20_000


def _timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun
