"""The contract of both spawners, checked on real processes."""

import errno
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from jupyter_rm.runtime import process
from jupyter_rm.runtime.process import CANCELLED, ENDED, FAILED, STARTED, Launch, resolve
from jupyter_rm.runtime.process_native import NativeSpawner
from jupyter_rm.runtime.process_portable import PortableSpawner

LINUX = sys.platform == "linux"
KINDS = [NativeSpawner, PortableSpawner] if LINUX else [PortableSpawner]
SH = b"/bin/sh"


class Bench:
    """A spawner, a directory, and a reader that waits for events with a deadline."""

    def __init__(self, spawner, root: Path):
        self.spawner = spawner
        self.root = root
        self.env = spawner.env([b"PATH=" + os.environb.get(b"PATH", b"/usr/bin:/bin"), b"COLOUR=red"])
        self.last = 0
        self.seen: list[np.void] = []

    def launch(self, *argv: bytes, **more) -> Launch:
        self.last += 1
        more = {"cwd": os.fsencode(self.root / str(self.last)), "stdout": b"out", "stderr": b"err", **more}
        return Launch(self.last, list(argv), self.env, **more)

    def sh(self, script: str, **more) -> Launch:
        return self.launch(SH, b"-c", script.encode(), **more)

    def py(self, script: str, *args: bytes, **more) -> Launch:
        return self.launch(os.fsencode(sys.executable), b"-I", b"-S", b"-c", script.encode(), *args, **more)

    def text(self, launch: Launch, name: str = "out") -> str:
        return Path(os.fsdecode(launch.cwd), name).read_text()

    def wait_for(self, what, deadline: float = 30.0):
        """Read events until what() is true."""
        end = time.monotonic() + deadline
        while not what():
            left = end - time.monotonic()
            assert left > 0, f"nothing came; events so far: {self.seen[-20:]}"
            if select.select([self.spawner], [], [], min(left, 0.05))[0]:
                self.seen.extend(self.spawner.events())
        return self

    def over(self, launch: Launch, deadline: float = 30.0) -> np.void:
        """The event that ends this launch."""

        def ends():
            return [e for e in self.seen if e["token"] == launch.token and e["kind"] != STARTED]

        self.wait_for(ends, deadline)
        assert len(ends()) == 1, f"reported {len(ends())} times: {ends()}"
        return ends()[0]

    def run(self, launch: Launch) -> np.void:
        self.spawner.start(1, [launch.token], [launch])
        return self.over(launch)

    def wait_file(self, path: Path, deadline: float = 30.0) -> str:
        self.wait_for(lambda: path.exists() and path.read_text().endswith("\n"), deadline)
        return path.read_text()


def code(event: np.void) -> int:
    assert event["kind"] == ENDED, event
    return os.waitstatus_to_exitcode(int(event["status"]))


def gone(pid: int) -> bool:
    """Whether a process is no more (a zombie that waits for its parent counts as gone)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    if LINUX:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True
    return False


@pytest.fixture(params=KINDS)
def bench(request, tmp_path):
    spawner = request.param()
    yield Bench(spawner, tmp_path)
    spawner.close()
    assert spawner.running == 0


def test_exit_code_output_and_a_directory_made_on_the_way(bench):
    task = bench.sh("echo to-out; echo to-err >&2; pwd; exit 7", cwd=os.fsencode(bench.root / "a" / "b" / "c"))
    end = bench.run(task)
    assert code(end) == 7
    assert end["alloc"] == task.token
    assert end["successor"] == 0
    assert bench.text(task) == f"to-out\n{bench.root}/a/b/c\n"
    assert bench.text(task, "err") == "to-err\n"
    assert os.stat(task.cwd).st_mode & 0o777 == 0o700
    assert (bench.root / "a/b/c/out").stat().st_mode & 0o777 == 0o600
    assert end["ended"] >= end["started"] > time.time() - 60


def test_stdin_and_one_shared_file_for_both_streams(bench):
    (bench.root / "in").write_text("hello\n")
    task = bench.sh("cat; echo e >&2; echo o", stdin=os.fsencode(bench.root / "in"), stdout=b"both", stderr=b"both")
    assert code(bench.run(task)) == 0
    assert bench.text(task, "both") == "hello\ne\no\n"


def test_output_without_files_goes_nowhere(bench):
    task = bench.sh("echo x; cat; echo y >&2", stdout=b"", stderr=b"")
    assert code(bench.run(task)) == 0
    assert list(Path(os.fsdecode(task.cwd)).iterdir()) == []


def test_death_by_signal_is_told(bench):
    assert code(bench.run(bench.sh("kill -9 $$"))) == -9


def test_environment_is_shared_and_overridden_per_task(bench):
    tasks = [
        bench.sh("echo $COLOUR-$SIZE", extra_env=[b"SIZE=1"]),
        bench.sh("echo $COLOUR-$SIZE", extra_env=[b"COLOUR=blue", b"SIZE=2"]),
        bench.sh("env | grep -c ^COLOUR=", extra_env=[b"COLOUR=green"]),
    ]
    for task in tasks:
        bench.run(task)
    assert [bench.text(t) for t in tasks] == ["red-1\n", "blue-2\n", "1\n"]


def test_hostile_arguments_arrive_as_they_were(bench):
    nasty = [
        b"",
        b" ",
        b"$(touch x)",
        b"`id`",
        b"a\nb",
        b"'\"\\",
        b"\xff\xfe\x80",
        b"-rf",
        b";",
        b"*",
        bytes(range(1, 256)),
    ]
    task = bench.py("import sys,os; os.write(1, repr([os.fsencode(a) for a in sys.argv[1:]]).encode())", *nasty)
    assert code(bench.run(task)) == 0
    assert eval(bench.text(task)) == nasty


@pytest.mark.parametrize("limits", [[], [(resource.RLIMIT_NOFILE, 64, 64)]])
def test_a_missing_program_is_a_failed_start(bench, limits):
    for argv, errno_ in ((b"/no/such/program", 2), (os.fsencode(bench.root), 13)):
        end = bench.run(bench.launch(argv, limits=limits))
        assert (end["kind"], process.STEPS[end["step"]], end["error"], end["pid"]) == (FAILED, "exec", errno_, -1)


def test_files_that_cannot_be_opened_name_their_step(bench):
    (bench.root / "file").write_text("")
    inside = os.fsencode(bench.root / "file" / "sub")
    for more, step, errno_ in (
        ({"cwd": inside}, "cwd", 20),
        ({"stdin": b"/no/such/input"}, "stdin", 2),
        ({"stdout": b"/no/such/place/out"}, "stdout", 2),
        ({"stderr": inside}, "stderr", 20),
    ):
        end = bench.run(bench.sh("exit 0", **more))
        assert (end["kind"], process.STEPS[end["step"]], end["error"]) == (FAILED, step, errno_)


def test_a_failed_start_passes_its_allocation_on(bench):
    first, second = bench.launch(b"/no/such/program"), bench.sh("exit 3")
    bench.spawner.queue(1, [second])
    bench.spawner.start(1, [77], [first])
    end = bench.over(first)
    assert (end["kind"], end["alloc"], end["successor"]) == (FAILED, 77, second.token)
    assert (code(bench.over(second)), bench.over(second)["alloc"]) == (3, 77)


def test_bad_launches_are_refused_whole(bench):
    s = bench.spawner
    good = bench.sh("exit 0")
    for bad in (
        bench.launch(),
        bench.launch(b"a\0b"),
        Launch(0, [SH], bench.env, b""),
        Launch(good.token, [SH], bench.env, b""),
        Launch(99, [SH], 1234, b""),
    ):
        with pytest.raises(ValueError, match=r"token|argv|env|zero"):
            s.start(1, [1, 2], [good, bad])
    with pytest.raises(TypeError):
        s.queue(1, [bench.launch("text")])
    assert (s.running, s.queued) == (0, 0)
    assert code(bench.run(good)) == 0


def test_limits_are_set_and_there_are_no_core_files(bench):
    show = "from resource import *; print(getrlimit(RLIMIT_NOFILE), getrlimit(RLIMIT_CPU), getrlimit(RLIMIT_CORE)[0])"
    task = bench.py(show, limits=[(resource.RLIMIT_NOFILE, 50, 60), (resource.RLIMIT_CPU, 7, -1)])
    assert code(bench.run(task)) == 0
    assert bench.text(task) == "(50, 60) (7, -1) 0\n"
    end = bench.run(bench.sh("exit 0", limits=[(resource.RLIMIT_NOFILE, 100, 50)]))
    assert (end["kind"], process.STEPS[end["step"]], end["error"]) == (FAILED, "limits", 22)


def test_a_task_begins_with_a_clean_slate(bench):
    """Own process group, default signals, nothing blocked, umask 077, no descriptor but the three."""
    r, w = os.pipe()
    os.set_inheritable(r, True)
    before = signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    try:
        task = bench.py(
            "import os,signal,json\n"
            "fds=[int(f) for f in os.listdir('/dev/fd')]\n"
            "mask=os.umask(0)\n"
            "print(json.dumps([os.getpgid(0)==os.getpid(), mask, len(signal.pthread_sigmask(0,[])),\n"
            "  sorted(f for f in fds if f>2 and os.path.exists('/dev/fd/%d'%f))]))"
        )
        assert code(bench.run(task)) == 0
        assert json.loads(bench.text(task)) == [True, 0o077, 0, []]
        probe = bench.sh("kill -PIPE $$; echo survived")
        assert code(bench.run(probe)) == -signal.SIGPIPE
    finally:
        signal.signal(signal.SIGUSR1, before)
        os.close(r)
        os.close(w)


@pytest.mark.parametrize("kind", [NativeSpawner])
def test_ignored_and_caught_signals_of_the_program_do_not_reach_tasks(kind, tmp_path):
    if not LINUX:
        pytest.fail("native spawner tests run on Linux only")
    before = [signal.signal(s, h) for s, h in ((signal.SIGUSR1, signal.SIG_IGN), (signal.SIGUSR2, lambda *_: None))]
    try:
        bench = Bench(kind(), tmp_path)
        task = bench.launch(b"/bin/cat", b"/proc/self/status")
        bench.run(task)
        bench.spawner.close()
        masks = [line for line in bench.text(task).splitlines() if line.startswith(("SigBlk", "SigIgn", "SigCgt"))]
        own = 0b11 << 31  # 32 and 33 belong to the C library: no program can set them, whoever started us may have
        assert [int(line.split()[1], 16) & ~own for line in masks] == [0, 0, 0]
    finally:
        signal.signal(signal.SIGUSR1, before[0])
        signal.signal(signal.SIGUSR2, before[1])


def test_affinity_is_set_and_handed_on(bench):
    cpus = sorted(os.sched_getaffinity(0))
    show = "import os; print(sorted(os.sched_getaffinity(0)))"
    first, second = bench.py(show, cpus=[cpus[-1]]), bench.py(show)
    bench.spawner.queue(1, [second])
    bench.spawner.start(1, [5], [first])
    assert code(bench.over(first)) == code(bench.over(second)) == 0
    assert bench.text(first) == bench.text(second) == f"[{cpus[-1]}]\n"
    assert sorted(os.sched_getaffinity(0)) == cpus
    end = bench.run(bench.sh("exit 0", cpus=[4000]))
    assert (end["kind"], process.STEPS[end["step"]], end["error"]) == (FAILED, "limits", 22)


def test_the_queue_moves_allocations_on_in_order(bench):
    tasks = [bench.sh(f"exit {i}") for i in range(6)]
    bench.spawner.queue(9, tasks[2:])
    bench.spawner.start(9, [100, 200], tasks[:2])
    ends = [bench.over(t) for t in tasks]
    assert [code(e) for e in ends] == list(range(6))
    heirs = {int(e["token"]): int(e["successor"]) for e in ends}
    for pred, heir in heirs.items():
        if heir:
            assert ends[heir - 1]["alloc"] == ends[pred - 1]["alloc"]
            assert ends[pred - 1]["flags"] == process.CORE_PASSED_ON
    assert sorted(h for h in heirs.values() if h) == [t.token for t in tasks[2:]]
    assert sorted(int(e["alloc"]) for e in ends if not e["successor"]) == [100, 200]


def test_pools_do_not_mix_and_feed_begins_what_came_late(bench):
    other = bench.sh("exit 0")
    bench.spawner.queue(2, [other])
    assert bench.run(bench.sh("exit 0"))["successor"] == 0
    assert (bench.spawner.running, bench.spawner.queued) == (0, 1)
    assert bench.spawner.feed(2, 42, []) == other.token
    assert bench.spawner.feed(2, 43) == 0
    assert bench.over(other)["alloc"] == 42


def test_retract_takes_back_the_tail_and_never_what_started(bench):
    block = bench.sh("read x", stdin=b"../fifo")
    os.mkfifo(bench.root / "fifo")
    # Opened for both directions first: a FIFO without a writer would be at its end at once.
    hold = os.open(bench.root / "fifo", os.O_RDWR)
    line = [bench.sh("exit 0") for _ in range(5)]
    bench.spawner.start(1, [1], [block])
    bench.wait_for(lambda: bench.seen)
    bench.spawner.queue(1, line)
    tokens = [t.token for t in line]
    assert bench.spawner.retract(1, 2) == tokens[:2:-1]
    assert bench.spawner.retract(7) == []
    bench.spawner.cancel([tokens[2]])
    assert bench.over(line[2])["kind"] == CANCELLED
    os.write(hold, b"\n")
    os.close(hold)
    assert [code(bench.over(t)) for t in (block, *line[:2])] == [0, 0, 0]
    assert bench.spawner.retract(1) == []
    assert {int(e["token"]) for e in bench.seen} == {block.token, *tokens[:3]}


def test_cancel_of_queued_and_running(bench):
    run, wait = bench.sh("echo up >flag; exec sleep 100"), bench.sh("exit 0")
    bench.spawner.start(1, [8], [run])
    bench.spawner.queue(1, [wait])
    bench.wait_file(Path(os.fsdecode(run.cwd), "flag"))
    bench.spawner.cancel([wait.token, run.token, 424242])
    assert (bench.over(wait)["kind"], bench.over(wait)["alloc"]) == (CANCELLED, 0)
    end = bench.over(run)
    assert (code(end), end["flags"], end["successor"]) == (-signal.SIGTERM, process.WAS_CANCELLED, 0)


STUBBORN = (
    "trap '' TERM; (trap '' TERM; echo $$ >>../leader; sleep 100) & echo $! >>../pids; echo up >flag; wait; sleep 100"
)


def test_a_timeout_ends_the_whole_stubborn_group(bench):
    task = bench.sh(STUBBORN, timeout=0.5, grace=0.3)
    end = bench.run(task)
    assert (code(end), end["flags"]) == (-signal.SIGKILL, process.TIMED_OUT)
    assert 0.75 < end["ended"] - end["started"] < 20
    assert gone(int((bench.root / "pids").read_text()))


def test_cancel_kills_members_after_the_leader_has_gone(bench):
    task = bench.sh("sh -c 'trap \"\" TERM; echo $$ >../pids; echo up >flag; exec sleep 100' & wait", grace=0.2)
    bench.spawner.start(1, [1], [task])
    bench.wait_file(Path(os.fsdecode(task.cwd), "flag"))
    bench.spawner.cancel([task.token])
    assert code(bench.over(task)) == -signal.SIGTERM
    assert gone(int((bench.root / "pids").read_text()))


def test_what_a_leader_leaves_behind_is_swept(bench):
    task = bench.sh("sleep 100 & echo $! >../pids; exit 4", grace=0.2)
    assert code(bench.run(task)) == 4
    assert gone(int((bench.root / "pids").read_text()))


@pytest.mark.parametrize("kind", KINDS)
def test_without_sweep_members_live_on(kind, tmp_path):
    bench = Bench(kind(sweep=False), tmp_path)
    assert code(bench.run(bench.sh("sleep 100 & echo $! >../pids; exit 4"))) == 4
    pid = int((tmp_path / "pids").read_text())
    assert not gone(pid)
    os.kill(pid, signal.SIGKILL)
    bench.spawner.close()


def test_a_stopped_group_can_be_cancelled_and_signals_reach_it(bench):
    task = bench.sh("trap 'echo got >>../sig; exit 9' USR1; echo up >flag; while :; do sleep 0.01; done")
    bench.spawner.start(1, [1], [task])
    bench.wait_file(Path(os.fsdecode(task.cwd), "flag"))
    bench.wait_for(lambda: len(bench.seen) == 1)  # the spawner may learn later than the task that it runs
    assert bench.spawner.signal(task.token, signal.SIGSTOP)
    assert bench.spawner.signal(task.token, signal.SIGCONT)
    stopped = bench.sh("kill -STOP $$; exit 0", grace=20)
    bench.spawner.start(1, [2], [stopped])
    bench.wait_for(lambda: any(e["token"] == stopped.token for e in bench.seen))
    bench.spawner.cancel([stopped.token])
    assert code(bench.over(stopped, 15)) in (-signal.SIGTERM, 0)
    bench.spawner.signal(task.token, signal.SIGUSR1)
    bench.over(task)
    assert not bench.spawner.signal(task.token, signal.SIGUSR1)


def test_the_usage_record(bench):
    """CPU seconds and the peak memory of the task itself, not of the program that started it."""
    native = isinstance(bench.spawner, NativeSpawner)
    # Makes this program larger than the small task below. The portable spawner cannot tell the two apart.
    ballast = np.ones(40_000_000 if native else 1, dtype=np.uint8)
    burn = "import time\nx=bytearray(50_000_000)\nwhile time.process_time()<0.3: pass"
    end = bench.run(bench.py(burn))
    assert code(end) == 0
    assert 0.29 < end["user"] + end["sys"] < 0.8
    assert 50_000_000 / 1024 < end["maxrss"] < 50_000_000 / 1024 + (20_000 if native else 1_000_000)
    small = bench.run(bench.sh("exit 0"))
    if native:
        assert 0 < small["maxrss"] < 20_000, "the memory of a shell, not of the test program"
    assert ballast.sum() == ballast.size


def zombies():
    """Children of ours that nobody has collected; those of earlier tests are none of our business."""
    return {p for p in psutil.Process().children(recursive=True) if p.status() == psutil.STATUS_ZOMBIE}


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))


def test_two_thousand_are_each_reported_once_and_leave_nothing_open(bench):
    assert code(bench.run(bench.sh("exit 0"))) == 0
    before, zombies_before = descriptors(), zombies()
    tasks = [bench.launch(b"/bin/true", cwd=b"", stdout=b"", stderr=b"") for _ in range(2000)]
    bench.spawner.queue(3, tasks[4:])
    bench.spawner.start(3, [1, 2, 3, 4], tasks[:4])
    bench.wait_for(lambda: bench.spawner.running == 0 and not select.select([bench.spawner], [], [], 0)[0], 120)
    ends = [e for e in bench.seen if e["kind"] != STARTED]
    assert all(e["kind"] == ENDED and e["status"] == 0 for e in ends)
    assert sorted(int(e["token"]) for e in ends) == list(range(1, 2002))
    starts = [int(e["token"]) for e in bench.seen if e["kind"] == STARTED]
    assert len(set(starts)) == len(starts)
    assert descriptors() <= before
    assert zombies() - zombies_before == set()


LAST = Path("/proc/sys/kernel/ns_last_pid")  # root can say which number the next process gets
if LINUX and os.geteuid() == 0 and LAST.exists():

    def test_a_group_whose_number_was_given_away_is_left_alone(bench):
        """The last of an ended task's group ends, and before anybody looks a stranger has its number."""
        stays = "(trap '' TERM; exec sh -c 'echo $$ >flag; exec sleep 600') & until [ -s flag ]; do :; done"
        for _ in range(100):
            task = bench.sh(stays, grace=2.0)
            bench.spawner.start(1, [1], [task])
            last = int(bench.wait_file(Path(os.fsdecode(task.cwd), "flag")))
            bench.wait_for(lambda task=task: any(e["token"] == task.token for e in bench.seen))
            number = next(int(e["pid"]) for e in bench.seen if e["token"] == task.token)
            bench.wait_for(lambda number=number: gone(number))
            os.kill(last, signal.SIGKILL)
            stranger = None
            while not stranger and not select.select([bench.spawner], [], [], 0)[0]:
                LAST.write_text(str(number - 1))
                other = subprocess.Popen(["sleep", "600"], start_new_session=True)
                if other.pid == number:
                    stranger = other
                else:
                    other.kill()
                    other.wait()
            bench.over(task)
            if stranger:
                alive = stranger.poll() is None
                stranger.kill()
                stranger.wait()
                assert alive, "a stranger was killed for the name of its group"
                return
        raise AssertionError("nobody got the number in time: this test shows nothing")


def test_close_leaves_nothing_and_is_bounded(bench):
    tasks = [bench.sh(STUBBORN, grace=60) for _ in range(3)]
    bench.spawner.start(1, [1, 2, 3], tasks)
    bench.spawner.queue(1, [bench.sh("exit 0")])
    for t in tasks:
        bench.wait_file(Path(os.fsdecode(t.cwd), "flag"))
    begin = time.monotonic()
    bench.spawner.close(grace=0.2)
    assert time.monotonic() - begin < 5
    bench.seen.extend(bench.spawner.events())
    assert [e["kind"] for e in bench.seen if e["token"] == 4] == [CANCELLED]
    assert all(code(bench.over(t)) == -signal.SIGKILL for t in tasks)
    assert all(gone(int(p)) for p in (bench.root / "pids").read_text().split())
    with pytest.raises(RuntimeError):
        bench.spawner.start(1, [1], [bench.sh("exit 0")])
    bench.spawner.close()


def test_close_without_kill_lets_tasks_finish(bench):
    os.mkfifo(bench.root / "fifo")
    hold = os.open(bench.root / "fifo", os.O_RDWR)
    task = bench.sh("read x; echo done $x", stdin=b"../fifo")
    bench.spawner.start(1, [1], [task])
    bench.wait_for(lambda: bench.seen)
    bench.spawner.close(kill=False)
    assert bench.spawner.running == 1
    os.write(hold, b"well\n")
    assert code(bench.over(task)) == 0
    assert bench.text(task) == "done well\n"
    os.close(hold)


def test_resolve_looks_in_the_path_of_the_environment(tmp_path):
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\n")
    assert resolve(b"tool", [b"PATH=" + os.fsencode(tmp_path)]) is None
    tool.chmod(0o755)
    assert resolve(b"tool", [b"PATH=/nowhere:" + os.fsencode(tmp_path)]) == os.fsencode(tool)
    assert resolve(b"sub/tool", []) == b"sub/tool"
    assert resolve(b"sh", []) is not None


@pytest.mark.skipif(not LINUX, reason="the portable spawner has no host program")
def test_a_host_that_dies_is_reported_for_every_live_launch(tmp_path):
    spawner = NativeSpawner()
    bench = Bench(spawner, tmp_path)
    done, runs, waits = bench.sh("exit 0"), bench.sh("echo up >flag; sleep 100"), bench.sh("exit 0")
    bench.run(done)
    spawner.start(1, [1], [runs])
    spawner.queue(1, [waits])
    bench.wait_file(Path(os.fsdecode(runs.cwd), "flag"))
    bench.wait_for(lambda: any(e["token"] == runs.token for e in bench.seen))
    (host,) = [p for p in psutil.Process().children() if p.status() != "zombie" and "--spawn" in p.cmdline()]
    host.kill()
    lost, never = bench.over(runs), bench.over(waits)
    assert (code(lost), lost["error"]) == (-signal.SIGKILL, errno.EPIPE)
    assert (never["kind"], process.STEPS[never["step"]], never["error"]) == (FAILED, "fork", errno.EPIPE)
    assert (spawner.alive, spawner.running, spawner.queued) == (False, 0, 0)
    assert spawner.retract(1) == []
    assert not spawner.signal(runs.token, signal.SIGTERM)
    with pytest.raises(RuntimeError):
        spawner.start(1, [1], [done])
    spawner.close()


@pytest.mark.parametrize(
    "how",
    ["", "s.start(1, [1], [Launch(1, [b'/bin/sh', b'-c', b'echo $$ >pid; sleep 100'], e, d)]); wait()", "s.close()"],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_program_that_ends_without_closing_is_not_held_up_and_leaves_nothing(kind, how, tmp_path):
    left = tmp_path / "pid"
    script = f"""
from {kind.__module__} import {kind.__name__} as S
from jupyter_rm.runtime.process import Launch
import os
d = {os.fsencode(tmp_path)!r}
def wait():
    while not (os.path.exists(d + b"/pid") and open(d + b"/pid").read()): pass
s = S(); e = s.env([b"PATH=/usr/bin:/bin"])
{how}
"""
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0
    if left.exists():
        end = time.monotonic() + 30
        while not gone(int(left.read_text())):
            assert time.monotonic() < end, "the task lives on"
            select.select([], [], [], 0.01)
