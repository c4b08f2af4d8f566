"""The batch system that comes with the package, with real processes: limits, urgency, lost nodes, its controller."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from cluster_kit import eventually
from sites_kit import Hand, Job, sim_hand

from jupyter_rm.batch import BatchError, JobState
from jupyter_rm.model.errors import RequestError
from jupyter_rm.runtime.collect import Collector
from jupyter_rm.simbatch import named, processes
from jupyter_rm.simbatch import schedule as sim
from jupyter_rm.simbatch.store import Store

Make = Callable[[str], AbstractContextManager[Hand]]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Make]:
    """Clusters by their URL, with proof that nothing of them is left."""

    @contextmanager
    def make(url: str) -> Iterator[Hand]:
        each = sim_hand(tmp_path, url)
        site = next(each)
        try:
            yield site
        finally:
            site.clear()
            next(each, None)

    yield make
    eventually(lambda: not running(tmp_path), lambda: f"still there: {running(tmp_path)}")


def running(place: Path) -> list[str]:
    """Return the command lines of what belongs to clusters below a directory: controllers, jobs, their programs."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if process.pid != os.getpid() and any(str(place) in word for word in words):
                found.append(f"{process.pid} {' '.join(words)[-200:]}")
        except psutil.Error:
            continue
    return found


def store(hand: Hand) -> Store:
    return Store(Path(hand.place).parent / "x")


def told(hand: Hand, *words: str) -> None:
    """Run one of the programs that no description has."""
    done = hand.connection.run([str(store(hand).place / "bin" / "simbatch"), *words])
    assert done.rc == 0, done.text + done.complaint


def script(hand: Hand, text: str, **values: object) -> Job:
    """Submit a shell script; what it prints is in ``NAME.out`` beside it."""
    path = f"{hand.place}/s{len(hand.jobs)}"
    hand.connection.write(path, f"#!/bin/sh\n{text}\n".encode())
    out = {"stdout": f"{path}.out", "stderr": f"{path}.out", "workdir": hand.place, "walltime": "5m"}
    token = f"jrmabcdef{len(hand.jobs)}"
    made = hand.site.script({**out, "token": token, **values}, path)
    hand.jobs.append(Job(made.id, token, path, hand))
    return hand.jobs[-1]


def said(job: Job) -> str:
    return job.hand.connection.read(job.spec + ".out").decode() if job.hand.connection.stat(job.spec + ".out") else ""


def test_a_time_limit_ends_a_job_even_when_it_will_not_hear(made: Make) -> None:
    with made("sim://x?wait=0&grace=0.5") as hand:
        heeds = script(hand, "trap 'echo told; exit 0' TERM; echo up; while :; do sleep 0.1; done", walltime="1s")
        deaf = script(hand, "trap '' TERM; echo up; while :; do sleep 0.1; done", walltime="1s")
        for job in (heeds, deaf):
            ended = job.ends()
            assert (ended.state, ended.detail) == (JobState.FAILED, "timeout")
            assert ended.start is not None and ended.end is not None and 1.0 <= ended.end - ended.start < 20.0
        assert said(heeds) == "up\ntold\n" and said(deaf) == "up\n"


def test_others_are_ahead_and_the_start_is_told(made: Make) -> None:
    with made("sim://x?nodes=4&busy=5&pace=2&wait=0.5") as hand:
        first, second = hand.submit(nodes=2, exclusive=True), hand.submit(nodes=4, exclusive=True)
        picture = hand.site.queue()
        assert [len(picture.mine), len(picture.others)] == [2, 5] and picture.whole
        assert picture.places == {first.id: (2, 3), second.id: (3, 3)}, "one of the others waits too"
        believed = hand.site.estimates([first.id, second.id])
        assert believed[first.id] < believed[second.id]
        assert {node.state for node in hand.site.nodes()} == {"busy"}
        eventually(lambda: first.seen().reason == "Resources", lambda: str(first.seen()))
        first.up()
        started = first.seen()
        assert started.start is not None and started.start <= believed[first.id], "others ask for more than they need"
        assert len(started.nodes) == 2
        assert second.seen().reason_text.startswith("next in line") or second.seen().state is JobState.RUNNING
        first.go()
        second.up()


def test_a_spare_job_gives_way_and_comes_again(made: Make) -> None:
    with made("sim://x?nodes=1&wait=0") as hand:
        spare = hand.submit(queue="spare", requeue=True, exclusive=True)
        spare.up()
        urgent = hand.submit(exclusive=True)
        urgent.up()
        waits = spare.seen()
        assert (waits.state, waits.detail, waits.restarts) == (JobState.QUEUED, "requeued", 1)
        hand.connection.remove(spare.spec + ".up")
        urgent.go()
        assert json.loads(spare.up())["SIM_JOB_RESTARTS"] == "1"
        spare.becomes(JobState.RUNNING)
        hand.submit(queue="debug", exclusive=True).up()
        spare.go()
    with made("sim://x?nodes=1&wait=0") as hand:
        spare = hand.submit(queue="spare", exclusive=True)
        spare.up()
        hand.submit(exclusive=True).up()
        ended = spare.ends()
        assert (ended.state, ended.detail) == (JobState.FAILED, "preempted")


def test_a_suspended_job_stands_still(made: Make) -> None:
    with made("sim://x?nodes=1&wait=0") as hand:
        job = script(hand, "while :; do echo tick; sleep 0.05; done")
        eventually(lambda: said(job), "it prints nothing")
        with pytest.raises(BatchError, match="only a job that waits"):
            hand.site.tell("hold", [job.id])
        hand.site.tell("suspend", [job.id])
        assert job.seen().detail == "suspended"
        eventually(lambda: store_job(hand).stopped, "it is not stopped")
        states = {process.status() for process in marked(hand)}
        assert states == {psutil.STATUS_STOPPED}, states
        length = len(said(job))
        hand.site.tell("resume", [job.id])
        eventually(lambda: len(said(job)) > length, "it does not go on")


def store_job(hand: Hand) -> sim.Job:
    with store(hand).open() as state:
        return state.jobs[0]


def marked(hand: Hand) -> list[psutil.Process]:
    with store(hand).open() as state:
        return processes.found(processes.mark(state, state.jobs[0]))


def test_a_lost_node_takes_its_processes_and_the_job_may_outlive_it(made: Make) -> None:
    with made("sim://x?nodes=3&wait=0") as hand:
        inside = "for n in x-01 x-02; do simrun --node $n -- sh -c 'echo on $SIM_NODE; exec sleep 300' & done; wait"
        tough = script(hand, inside + "; simrun --node x-02 -- true; sleep 300", nodes=2, no_kill=True, exclusive=True)
        weak = hand.submit(exclusive=True)
        eventually(lambda: said(tough).count("on ") == 2, lambda: said(tough))
        weak.up()
        told(hand, "fail", "x-02", "x-03", "--why", "a fan")
        ended = weak.ends()
        assert (ended.state, ended.detail) == (JobState.FAILED, "node_fail") and "x-03" in ended.reason
        eventually(lambda: not [one for one in marked(hand) if one.environ().get("SIM_NODE") == "x-02"], "still there")
        assert tough.seen().state is JobState.RUNNING
        left = {one.environ().get("SIM_NODE") for one in marked(hand)}
        assert left == {"x-01"}, "what runs on the other node goes on"
        for process in marked(hand):
            if process.cmdline()[0] == "sleep":
                process.kill()
        eventually(lambda: "x-02 does not answer" in said(tough), lambda: said(tough))
        nodes = {node.name: (node.state, node.reason) for node in hand.site.nodes()}
        assert nodes == {"x-01": ("busy", ""), "x-02": ("offline", "a fan"), "x-03": ("offline", "a fan")}
        waits = hand.submit(nodes=3)
        assert "too few nodes" in waits.seen().reason_text
        told(hand, "fail", "x-01")
        assert tough.ends().detail == "node_fail", "the script runs on the first node"
        told(hand, "repair", "x-01", "x-02", "x-03")
        waits.up()


def test_jobs_go_on_without_the_controller_and_the_next_one_knows_how_they_ended(made: Make) -> None:
    with made("sim://x?nodes=2&wait=0") as hand:
        first, second = hand.submit(), hand.submit()
        first.up(), second.up()

        def controllers() -> list[int]:
            return [int(line.split()[0]) for line in running(Path(hand.place).parent) if line.endswith(" control")]

        # A second one may have been started meanwhile; it ends at once.
        eventually(lambda: len(controllers()) == 1, lambda: f"controllers: {controllers()}")
        os.kill(controllers()[0], signal.SIGKILL)
        first.go(7)
        eventually(lambda: (store(hand).jobs / f"{first.id}.0.exit").exists(), "its exit code is not kept")
        assert first.becomes(JobState.UNKNOWN).alive, "a listing starts the next controller"
        assert first.ends().exit == 7
        assert second.seen().state is JobState.RUNNING
        second.go(0)
        assert second.ends().state is JobState.DONE
        eventually(lambda: not controllers(), "the controller outlives the last job")


def test_a_cluster_changes_its_size_only_without_jobs(made: Make, tmp_path: Path) -> None:
    with made("sim://x?nodes=2&cores=3") as hand:
        hand.submit(hold=True)
        assert [(node.name, node.cores) for node in hand.site.nodes()] == [("x-01", 3), ("x-02", 3)]
        named.prepare(tmp_path / "x", named.parse("x?nodes=2&wait=1"))
        with pytest.raises(RequestError, match="has 2 nodes of 3 cores, and jobs"):
            named.prepare(tmp_path / "x", named.parse("x?nodes=5"))
        hand.clear()
        named.prepare(tmp_path / "x", named.parse("x?nodes=5"))
        assert len(hand.site.nodes()) == 5
        asked: dict[str, dict[str, Any]] = {
            "not that large: 6 nodes": {"nodes": 6},
            "not that large: 4 cores": {"cores_per_node": 4},
            "more time than queue debug": {"queue": "debug", "walltime": "11m"},
        }
        for refused, values in asked.items():
            with pytest.raises(BatchError, match=refused) as caught:
                hand.submit(**values)
            assert caught.value.refused and caught.value.hint


def test_a_person_who_asks_gets_a_turn_between_listings_that_are_frequent(made: Make) -> None:
    with made("sim://x?nodes=1") as hand:
        job = hand.submit(hold=True)
        for polite, pause, asked in ((False, 1.0, 1.0), (True, 30.0, 2.0)):
            collector = Collector(hand.site, lambda: 100.0, polite=polite)
            collector.status({job.id: job.token})
            assert (collector.due(), collector.due(asked=True)) == (pause, asked)


@pytest.mark.parametrize(
    ("rest", "name", "asked"),
    [
        ("", "sim", {}),
        ("demo", "demo", {}),
        ("demo/?nodes=8&wait=0.5", "demo", {"nodes": 8, "wait": 0.5}),
        ("?busy=3", "sim", {"busy": 3}),
    ],
)
def test_names_of_clusters(rest: str, name: str, asked: dict[str, float]) -> None:
    assert named.parse(rest) == named.SimName(name, tuple(sorted(asked.items())))


@pytest.mark.parametrize(
    "rest", ["../x", "A", "x y", "x?nodes=0", "x?nodes=1.5", "x?cores=two", "x?knots=4", "x?wait=nan", "x?busy="]
)
def test_names_that_are_none(rest: str) -> None:
    with pytest.raises(RequestError) as caught:
        named.parse(rest)
    assert caught.value.hint


def test_one_start_of_a_job_happens_once_whoever_tries_again(tmp_path: Path) -> None:
    cluster = tmp_path / "x"
    cluster.mkdir()
    programs = str(named.prepare(cluster, named.parse("x?nodes=1")))
    there, out = Store(cluster), tmp_path / "out"
    (tmp_path / "job").write_text("echo once\nexit 5\n")
    with there.open() as state:
        one = sim.Job(1, "me", "batch", 1, 0, 60.0, 0.0, 0.0, script=str(tmp_path / "job"), stdout=str(out))
        sim.begin(state.nodes, [one], one, ["x-01"], 0.0)
        there.file(one, "env").write_text("{}")
        # A controller that was killed between the start and its note of it leaves the next one no other choice.
        codes = [processes.start(there, state, one, programs).wait(30) for _ in range(3)]
    assert (codes, out.read_text()) == ([0, 0, 0], "once\n")
    assert there.file(one, "exit").read_text() == "5\n"
