"""Programs and shell lines through a real spawner: what they are given, how they end, what is said about it."""

from __future__ import annotations

import errno
import os
import pickle
import stat
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from perform_kit import End, Rig

from jupyter_rm.agent.environments import task_environment
from jupyter_rm.core.placing import shape_of
from jupyter_rm.model.describe import Shell, Task
from jupyter_rm.model.effects import End as EndEffect
from jupyter_rm.model.effects import Launch, RunAhead
from jupyter_rm.model.ids import tokens
from jupyter_rm.model.states import Cause, TaskState
from jupyter_rm.runtime.process import EVENT

DONE, FAILED, CANCELED = TaskState.DONE, TaskState.FAILED, TaskState.CANCELED


def one(rig: Rig, task: Task, **columns: object) -> End:
    (end,) = rig.run(rig.bulk(task, 1, **columns))
    rig.drained()
    return end


def failed(end: End, cause: Cause, *words: str) -> End:
    assert (end.state, end.cause) == (FAILED, cause), end
    for word in words:
        assert word in end.note, end
    return end


def test_a_program_runs_in_its_own_folder(rig: Rig) -> None:
    end = one(rig, Task("sh", ["-c", "pwd; echo oops >&2; umask"]))
    assert (end.state, end.cause, end.code) == (DONE, Cause.NONE, 0)
    assert time.time() - 60 < end.started <= end.ended <= time.time()
    folder = rig.folder(0, 0)
    assert rig.text(0, 0) == f"{folder}\n0077\n"
    assert rig.text(0, 0, "stderr") == "oops\n"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "stdout").stat().st_mode) == 0o600


def test_the_attempt_is_part_of_the_folder(rig: Rig) -> None:
    bulk = rig.bulk(Task("sh", ["-c", "echo $JRM_TASK_ATTEMPT"]), attempt=3)
    rig.run(bulk)
    assert (rig.folder(0, 0, 3) / "stdout").read_text() == "3\n"


def test_what_a_task_is_told(rigs: Callable[..., Rig]) -> None:
    rig = rigs(cores=4, environ={"PATH": os.environ["PATH"], "HOME": "/h", "JRM_EPOCH": "1", "PYTHONPATH": "/x"})
    bulk = rig.bulk(Task("env", cores=3, environment={"MINE": "a b", "HOME": "/mine"}))
    rig.run(bulk)
    told = dict(line.split("=", 1) for line in rig.text(bulk, 0).splitlines())
    cores = told.pop("JRM_CORES").split(",")
    assert len(set(cores)) == 3 and set(cores) <= {"0", "1", "2", "3"}
    assert told == {
        "PATH": os.environ["PATH"],
        "HOME": "/mine",
        "MINE": "a b",
        "OMP_NUM_THREADS": "3",
        "JRM_SESSION": "s",
        "JRM_PILOT": "p.7",
        "JRM_TASK_UID": f"t.{bulk}.0",
        "JRM_TASK_ATTEMPT": "1",
        "JRM_SANDBOX": str(rig.folder(bulk, 0)),
        "JRM_RANK": "0",
        "JRM_RANKS": "1",
    }


def test_threads_stay_as_the_user_set_them(rigs: Callable[..., Rig]) -> None:
    rig = rigs(cores=2, environ={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "7"})
    assert one(rig, Task("sh", ["-c", 'test "$OMP_NUM_THREADS" = 7'], cores=2)).state == DONE
    own = Task("sh", ["-c", 'test "$OMP_NUM_THREADS" = 5'], cores=2, environment={"OMP_NUM_THREADS": "5"})
    assert one(rig, own).state == DONE


def test_the_agents_own_settings_do_not_leak() -> None:
    captured = {
        "VIRTUAL_ENV": "/v",
        "PATH": "/v/bin:/usr/bin:/v/bin/",
        "PYTHONHOME": "x",
        "PYTHONPATH": "y",
        "JRM_EPOCH": "2",
        "KEEP": "1",
    }
    assert task_environment(captured) == {"PATH": "/usr/bin", "KEEP": "1"}
    assert task_environment({"PATH": "/v/bin:/usr/bin"}) == {"PATH": "/v/bin:/usr/bin"}


def test_gpus_are_named_to_their_tasks(rigs: Callable[..., Rig]) -> None:
    rig = rigs(cores=4, gpus=2)
    bulk = rig.bulk(Task("sh", ["-c", "echo $CUDA_VISIBLE_DEVICES $ROCR_VISIBLE_DEVICES"], gpus=1), 6)
    assert all(end.state == DONE for end in rig.run(bulk))
    said = {rig.text(bulk, i).strip() for i in range(6)}
    assert said == {"0 0", "1 1"}  # run-ahead tasks too are told the GPU they really inherit


def test_cores_are_bound_when_asked(rigs: Callable[..., Rig]) -> None:
    rig = rigs(cores=2, pin=True)
    bulk = rig.bulk(Task("sh", ["-c", "grep Cpus_allowed_list /proc/self/status"]), 6)
    rig.run(bulk)
    seen = {rig.text(bulk, i).split()[-1] for i in range(6)}
    assert seen == {"0", "1"}


def test_columns_fill_every_text_field(rig: Rig) -> None:
    task = Task(
        "{program}",
        ["-c", "cat; echo $V {{}} {x}; exit {x}"],
        environment={"V": "v{x}"},
        stdin="{place}",
        stdout="out.{x}",
        sandbox="mine/{x}",
    )
    place = rig.root.parent / "input"
    place.write_text("in\n")
    bulk = rig.bulk(task, 3, x=[0, 1, 2], program=["sh", "sh", "sh"], place=[str(place)] * 3)
    ends = rig.run(bulk)
    assert [(end.state, end.code) for end in ends] == [(DONE, 0), (FAILED, 1), (FAILED, 2)]
    assert (rig.root / "mine/2/out.2").read_text() == "in\nv2 {} 2\n"


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        ("arguments", ["{y}"], "arguments[0]"),
        ("arguments", ["{x:q}"], "arguments[0]"),
        ("stdout", "{y}", "stdout"),
        ("sandbox", "{y}", "sandbox"),
        ("environment", {"A": "{y}"}, "environment['A']"),
    ],
)
def test_a_placeholder_that_cannot_be_filled_names_its_field(rig: Rig, field: str, value: object, word: str) -> None:
    failed(one(rig, Task("true", **{field: value}), x=["1"]), Cause.START_FAILED, word)


def test_hostile_text_arrives_as_it_is(rig: Rig) -> None:
    text = "a'b\"c;$(touch pwned)`id`\n\\ é \udcff *"
    bulk = rig.bulk(Task("printf", ["%s", "{x}"]), 1, x=[text])
    rig.run(bulk)
    assert (rig.folder(bulk, 0) / "stdout").read_bytes() == text.encode("utf-8", "surrogateescape")
    assert sorted(os.listdir(rig.folder(bulk, 0))) == ["stderr", "stdout"]


def test_a_relative_sandbox_lies_in_the_pilots(rig: Rig) -> None:
    one(rig, Task("sh", ["-c", "echo 1 > here"], sandbox="sub/dir"))
    assert (rig.root / "sub/dir/here").exists()
    outside = rig.root.parent / "outside"
    one(rig, Task("sh", ["-c", "echo 1 > here"], sandbox=str(outside)))
    assert (outside / "here").exists()


def test_shell_lines(rig: Rig) -> None:
    assert one(rig, Shell("echo a | tr a b > out; exit 4")).code == 4
    assert rig.text(0, 0, "out") == "b\n"


def test_stdout_and_stderr_may_share_a_file(rig: Rig) -> None:
    one(rig, Task("sh", ["-c", "echo a; echo b >&2; echo c"], stdout="log", stderr="log"))
    assert rig.text(0, 0, "log") == "a\nb\nc\n"


# ---------------------------------------------------------------- ends


def test_an_exit_code_brings_the_end_of_stderr(rig: Rig) -> None:
    end = one(rig, Task("sh", ["-c", "for i in $(seq 200); do echo line $i >&2; done; exit 3"]))
    failed(end, Cause.TASK_EXIT, "exit code 3", "line 200")
    assert end.code == 3 and "line 100" not in end.note


def test_signals(rig: Rig) -> None:
    end = failed(one(rig, Task("sh", ["-c", "kill -SEGV $$"])), Cause.TASK_EXIT, "signal 11 (SIGSEGV)")
    assert end.code == -11
    failed(one(rig, Task("sh", ["-c", "kill -KILL $$"])), Cause.TASK_EXIT, "memory")


def test_a_timeout_ends_the_whole_group(rig: Rig) -> None:
    end = one(rig, Task("sh", ["-c", "sleep 100 & echo $! > child; wait"], timeout=0.2))
    failed(end, Cause.TASK_TIMEOUT, "0.2 s")
    assert not Path(f"/proc/{rig.text(0, 0, 'child').strip()}").exists()


def test_cancel_a_running_task(rig: Rig) -> None:
    bulk = rig.bulk(Task("sleep", [100]))
    rig.launch(bulk)
    rig.until(lambda: rig.begun, what="the start")
    rig.kill(bulk, 0)
    (end,) = rig.wait(bulk)
    assert (end.state, end.cause, end.code) == (CANCELED, Cause.USER_CANCEL, -15)
    rig.drained()


def test_cancel_kills_what_will_not_listen(rigs: Callable[..., Rig]) -> None:
    rig = rigs(grace=0.2)
    bulk = rig.bulk(Task("sh", ["-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"]))
    rig.launch(bulk)
    rig.until(lambda: (rig.folder(bulk, 0) / "stdout").exists() and rig.text(bulk, 0), what="its trap")
    rig.kill(bulk, 0)
    (end,) = rig.wait(bulk)
    assert (end.state, end.code) == (CANCELED, -9)


def test_cancel_queued_ones_inside_and_outside_the_spawner(rig: Rig) -> None:
    for fields in ({}, {"cores": 2}):  # two cores: queued in Python
        bulk = rig.bulk(Task("sh", ["-c", "sleep 0.2"], **fields), 8)
        placed = rig.launch(bulk, pool=bulk)
        rig.ahead(bulk, placed, pool=bulk)
        rig.kill(bulk, 5, 6, 7)
        ends = rig.wait(bulk)
        assert [end.state for end in ends] == [DONE] * 5 + [CANCELED] * 3
        assert ends[7].started == 0.0
        rig.drained()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pythn3", ["'pythn3'", "not found on PATH", "did you mean python3"]),
        ("zzqqy-none", ["'zzqqy-none'", "not found on PATH"]),
        ("./x", ["'./x'", "not found in the sandbox"]),
        ("/no/such", ["'/no/such'", "not found"]),
        ("/etc/passwd", ["not executable"]),
        ("/", ["is a directory"]),
    ],
)
def test_programs_that_cannot_be_started(rig: Rig, name: str, words: list[str]) -> None:
    failed(one(rig, Task(name)), Cause.START_FAILED, *words)


def test_scripts_that_cannot_be_started(rig: Rig) -> None:
    for text, word in (("#!/no/interp\n", "interpreter"), ("not a script\n", "'#!'")):
        script = rig.root.parent / "script"
        script.write_text(text)
        script.chmod(0o755)
        failed(one(rig, Task(str(script))), Cause.START_FAILED, word)


def test_folders_and_files_that_cannot_be_made(rig: Rig) -> None:
    failed(one(rig, Task("true", sandbox="/proc/nowhere")), Cause.START_FAILED, "sandbox /proc/nowhere")
    failed(one(rig, Task("true", stdout="no/such/file")), Cause.START_FAILED, "stdout 'no/such/file'")
    failed(one(rig, Task("cat", stdin="missing")), Cause.START_FAILED, "stdin 'missing'")


def test_a_full_disk_has_its_own_cause(rigs: Callable[..., Rig]) -> None:
    """The spawner's event is made by hand here: filling a real disk is the journal's test."""
    rig = rigs()
    bulk = rig.bulk(Task("sleep", [100]))
    rig.launch(bulk)
    rig.until(lambda: rig.begun, what="the start")
    event = np.zeros(1, EVENT)
    event["token"], event["kind"], event["step"], event["error"] = (bulk << 32) + 1, 3, 3, errno.ENOSPC
    assert rig.p.executables._start_note(bulk << 32, event[0])[0] == Cause.DISK_FULL


def test_a_storm_of_failures_reads_few_files(rig: Rig) -> None:
    bulk = rig.bulk(Task("sh", ["-c", "echo why >&2; exit 1"]), 300)
    ends = rig.run(bulk)
    assert all((end.state, end.code) == (FAILED, 1) and end.note.startswith("exit code 1") for end in ends)


def test_usage_is_measured(rig: Rig) -> None:
    end = one(rig, Task("sh", ["-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"]))
    assert 0.01 < end.user < 20 and end.rss > 500


# ---------------------------------------------------------------- pre_exec, post_exec


def test_pre_exec_runs_once_for_all_that_share_it(rig: Rig) -> None:
    lines = [f"echo x >> {rig.root.parent}/runs", "export A='1 2'", "B=3; export B", "unset LANG"]
    task = Task("sh", ["-c", 'echo "$A-$B-${LANG-none}"'], pre_exec=lines)
    bulks = [rig.bulk(task, 4), rig.bulk(task.replace(cores=2), 2)]
    for bulk in bulks:
        assert [end.state for end in rig.run(bulk, pool=bulk)] == [DONE] * rig.size(bulk)
        assert rig.text(bulk, rig.size(bulk) - 1) == "1 2-3-none\n"
        rig.drained()
    assert (rig.root.parent / "runs").read_text() == "x\n"


def test_others_do_not_wait_for_an_environment(rigs: Callable[..., Rig]) -> None:
    rig = rigs(cores=2)
    gate = rig.root.parent / "gate"
    os.mkfifo(gate)
    slow = rig.bulk(Task("true", pre_exec=[f"read x < {gate}", "export A=1"]))
    rig.launch(slow, pool=0)
    quick = rig.bulk(Task("true"))
    assert rig.run(quick, pool=1)[0].state == DONE
    assert rig.done(slow) == 0
    gate.write_text("go\n")
    assert rig.wait(slow)[0].state == DONE
    rig.drained()


def test_a_failing_pre_exec_fails_all_that_need_it(rig: Rig) -> None:
    task = Task("true", pre_exec=["export A=1", "module() { echo no such module: $1; return 1; }", "module load gcc"])
    ends = rig.run(rig.bulk(task, 5))
    for end in ends:
        failed(end, Cause.ENV_FAILED, "pre_exec", "no such module: load")
    rig.drained()
    failed(one(rig, Task("true", pre_exec=["exit 7"])), Cause.ENV_FAILED, "code 7")
    failed(one(rig, Task("true", pre_exec=["if then"])), Cause.ENV_FAILED)


def test_cancel_while_the_environment_is_made(rig: Rig) -> None:
    gate = rig.root.parent / "gate"
    os.mkfifo(gate)
    bulk = rig.bulk(Task("true", pre_exec=[f"read x < {gate}"]))
    rig.launch(bulk)
    rig.kill(bulk, 0)
    assert rig.wait(bulk)[0].state == CANCELED
    rig.drained()
    gate.write_text("go\n")


def test_post_exec_runs_after_an_end_of_its_own(rig: Rig) -> None:
    lines = ['echo "it\'s $JRM_EXIT_CODE" > post']
    assert one(rig, Task("true", post_exec=lines)).state == DONE
    assert rig.text(0, 0, "post") == "it's 0\n"
    assert one(rig, Task("sh", ["-c", "exit 5"], post_exec=lines)).code == 5
    assert rig.text(1, 0, "post") == "it's 5\n"
    assert one(rig, Task("true", post_exec=["false", "echo more"])).code == 1
    assert one(rig, Task("sh", ["-c", "exit 5"], post_exec=["exit 6"])).code == 5
    assert one(rig, Task("true", post_exec=["if then"])).code != 0
    assert one(rig, Task("printf", ["%s", "a b'c"], post_exec=["echo $1"])).state == DONE
    assert rig.text(5, 0) == "a b'c\n"


# ---------------------------------------------------------------- ranks


def test_ranks_run_side_by_side(rigs: Callable[..., Rig]) -> None:
    rig = rigs(pin=True)
    script = "echo $JRM_RANK of $JRM_RANKS on $JRM_CORES; grep Cpus_allowed_list /proc/self/status"
    bulk = rig.bulk(Task("sh", ["-c", script], ranks=2))
    assert rig.run(bulk)[0].state == DONE
    out = [rig.text(bulk, 0, name).split() for name in ("stdout", "stdout.1")]
    assert [words[:3] for words in out] == [["0", "of", "2"], ["1", "of", "2"]]
    assert [words[4] for words in out] == [words[6] for words in out]
    assert {words[4] for words in out} == {"0", "1"}
    rig.drained()


def test_the_first_failing_rank_ends_the_others(rig: Rig) -> None:
    script = "if [ $JRM_RANK = 1 ]; then echo bad >&2; exit 9; else exec sleep 100; fi"
    end = one(rig, Task("sh", ["-c", script], ranks=2))
    assert end.code == 9
    failed(end, Cause.TASK_EXIT, "rank 1: exit code 9", "bad")
    assert rig.begun


def test_ranks_are_canceled_timed_out_and_refused_together(rig: Rig) -> None:
    bulk = rig.bulk(Task("sleep", [100], ranks=2))
    rig.launch(bulk)
    rig.until(lambda: rig.begun, what="a start")
    rig.kill(bulk, 0)
    assert rig.wait(bulk)[0].state == CANCELED
    rig.drained()
    failed(one(rig, Task("sleep", [100], ranks=2, timeout=0.2)), Cause.TASK_TIMEOUT)
    failed(one(rig, Task("/no/such", ranks=2)), Cause.START_FAILED, "not found")


def test_mpi_without_a_launcher_says_what_to_install(rigs: Callable[..., Rig]) -> None:
    rig = rigs(environ={"PATH": "/bin"}, cores=2) if not Path("/bin/mpirun").exists() else rigs(environ={"PATH": "/"})
    failed(one(rig, Task("/bin/true", ranks=2, mpi=True)), Cause.START_FAILED, "install openmpi or mpich")


@pytest.mark.parametrize(("name", "beside"), [("orterun", ""), ("mpiexec.hydra", ""), ("mpirun", "ompi_info")])
def test_mpi_launchers_get_the_flags_they_need(
    rigs: Callable[..., Rig], tmp_path: Path, name: str, beside: str
) -> None:
    folder = tmp_path / "mpi"
    folder.mkdir()
    script = folder / name
    script.write_text('#!/bin/sh\nprintf "%s\\n" "$*"; echo ${OMPI_MCA_mpi_yield_when_idle-no} ${JRM_RANK-none}\n')
    script.chmod(0o755)
    if name == "orterun":
        (folder / "mpirun").symlink_to(script)
    if beside:
        (folder / beside).write_text("")
    rig = rigs(cores=2, environ={"PATH": f"{folder}:{os.environ['PATH']}"})
    bulk = rig.bulk(Task("echo", ["a b"], ranks=2, mpi=True, post_exec=["touch post"]))
    assert rig.run(bulk)[0].state == DONE
    flags, env = rig.text(bulk, 0).splitlines()
    echo = next(p for p in os.environ["PATH"].split(":") if Path(p, "echo").exists()) + "/echo"
    root = " --allow-run-as-root" if os.geteuid() == 0 else ""
    if name == "mpiexec.hydra":
        assert (flags, env) == (f"-n 2 -bind-to none {echo} a b", "no none")
    else:
        assert (flags, env) == (f"-n 2 --oversubscribe --bind-to none{root} {echo} a b", "1 none")
    assert (rig.folder(bulk, 0) / "post").exists()


# ---------------------------------------------------------------- pools and allocations


def test_ten_thousand_ends_each_exactly_once(rig: Rig) -> None:
    bulk = rig.bulk(Task("/bin/true"), 10_000)
    ends = rig.run(bulk, timeout=120)
    assert all(end.state == DONE for end in ends) and rig.count == 10_000
    rig.drained()
    assert sorted(rig.freed) == sorted(set(rig.freed)) and len(rig.freed) == 2


def test_two_bulks_and_modes_share_a_pool(rig: Rig) -> None:
    first, second = rig.bulk(Task("true"), 50), rig.bulk(Shell("exit 3"), 50)
    mixed = np.stack([tokens(first, np.arange(1, 50)), tokens(second, np.arange(1, 50))], axis=1).ravel()
    assert rig.launch(first, 1) == rig.launch(second, 1) == 1
    rig.p.perform(RunAhead(0, mixed))
    assert {end.code for end in rig.wait(first)} == {0} and {end.code for end in rig.wait(second)} == {3}
    rig.drained()
    assert len(rig.freed) == 2


def test_retract_returns_what_has_not_begun_in_order(rig: Rig) -> None:
    for fields in ({}, {"cores": 2}):
        bulk = rig.bulk(Task("sh", ["-c", "read x < ../../gate"], **fields), 10)
        gate = rig.root / "gate"
        gate.unlink(missing_ok=True)
        rig.root.mkdir(exist_ok=True)
        os.mkfifo(gate)
        placed = rig.launch(bulk, pool=bulk)
        rig.ahead(bulk, placed, pool=bulk)
        back = rig.retract(bulk)
        assert (back & np.uint64(0xFFFFFFFF)).tolist() == list(range(placed, 10))
        assert len(rig.retract(bulk)) == 0
        rig.until(lambda bulk=bulk, placed=placed: len(rig.begun) >= placed, what="starts")
        # Held open to the end, a line for each: who closes it after one line ends every reader that is there.
        with open(os.open(gate, os.O_RDWR), "w") as opened:
            print("\n" * placed, end="", file=opened, flush=True)
            rig.until(lambda bulk=bulk, placed=placed: rig.done(bulk) == placed, what="ends")
        rig.drained()
        rig.begun.clear()


def test_retract_of_an_unknown_pool_is_answered(rig: Rig) -> None:
    assert len(rig.retract(99)) == 0


def test_run_ahead_without_allocations_comes_straight_back(rig: Rig) -> None:
    bulk = rig.bulk(Task("true"), 5)
    rig.ahead(bulk, 0)
    rig.until(lambda: rig.taken, what="TakenBack")
    assert len(rig.taken[0].tokens) == 5


def test_run_ahead_that_arrives_late_still_runs(rig: Rig) -> None:
    """The process of the pool is over, but nobody has looked yet."""
    bulk = rig.bulk(Task("true"), 3)
    rig.launch(bulk, 1)
    spawner = rig.p._spawner
    deadline = time.monotonic() + 10
    while spawner.running and time.monotonic() < deadline:
        os.sched_yield()
    rig.ahead(bulk, 1)
    assert [end.state for end in rig.wait(bulk)] == [DONE] * 3
    rig.drained()
    assert len(rig.freed) == 1


def test_a_bad_task_in_line_does_not_stop_the_line(rig: Rig) -> None:
    bulk = rig.bulk(Task("{p}"), 6, p=["true", "true", "no-such-program", "true", "/no/such", "true"])
    ends = rig.run(bulk)
    assert [end.state for end in ends] == [DONE, DONE, FAILED, DONE, FAILED, DONE]
    rig.drained()


def test_news_wakes_whoever_listens(rig: Rig) -> None:
    import select

    bulk = rig.bulk(Task("no-such-program"))
    rig.launch(bulk)
    assert select.select(rig.p.filenos(), [], [], 5)[0], "a failed start must be readable at once"
    rig.wait(bulk)
    assert not select.select(rig.p.filenos(), [], [], 0)[0]


def test_other_effects_are_refused(rig: Rig) -> None:
    with pytest.raises(TypeError):
        rig.p.perform(EndEffect(0, ""))


def test_close_ends_what_runs(rigs: Callable[..., Rig]) -> None:
    rig = rigs()
    bulk = rig.bulk(Task("sh", ["-c", "sleep 100 & wait"]), 6)
    rig.ahead(bulk, rig.launch(bulk))
    rig.until(lambda: len(rig.begun) == 2, what="two starts")
    started = time.monotonic()
    rig.p.close(0.5)
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("first", [1, 8])
def test_tasks_that_come_in_any_order_get_their_own_arguments(rigs: Callable[..., Rig], first: int) -> None:
    """Beginning and end look like a run of eight, and of seven, and it is none; ``first`` are placed at once."""
    rig = rigs(cores=first)
    order = np.array([0, 1, 3, 6, 2, 4, 5, 7])
    programs = rig.bulk(Task("/bin/echo", ["{n}"]), 8, n=list(range(100, 108)))
    calls = rig.calls(lambda n: n, list(range(200, 208)))
    for pool, bulk in enumerate((programs, calls)):
        mine = tokens(bulk, order)
        rig.placer.add(shape_of(rig.placer, rig.holdings.bulks[bulk].template.request), mine[:first])
        _, allocs, _ = rig.placer.schedule(first, 0.0)
        rig.allocs.update(allocs.tolist())
        rig.p.perform(Launch(pool, mine[:first], allocs))
        if first < len(mine):
            rig.p.perform(RunAhead(pool, mine[first:]))
        ends = rig.wait(bulk, 60)
        if bulk == programs:
            assert [rig.text(bulk, index) for index in range(8)] == [f"{100 + index}\n" for index in range(8)]
        else:
            assert [pickle.loads(end.value[1:]) for end in ends] == list(range(200, 208))
        rig.drained()
