"""One performer over several nodes: what is split comes together again, and a lost node takes nothing else along."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import zmq
from perform_kit import Rig
from span_kit import Span

from jupyter_rm.model.describe import Task
from jupyter_rm.model.states import Cause, TaskState

DONE, FAILED, CANCELED = TaskState.DONE, TaskState.FAILED, TaskState.CANCELED
LONG = 120.0
Spans = Callable[..., Span]


def sleepers(word: str) -> list[psutil.Process]:
    """Return the living processes whose command line holds ``word``."""
    out = []
    for process in psutil.process_iter():
        try:
            if word in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                out.append(process)
        except psutil.Error:
            continue
    return out


def gone(rig: Rig, word: str) -> None:
    rig.until(lambda: not sleepers(word), LONG, f"the processes with {word!r} to be gone")


def test_programs_run_on_all_nodes_each_exactly_once(spans: Spans) -> None:
    span = spans(nodes=3, cores=2)
    bulk = span.bulk(Task("sh", ["-c", 'echo "$JRM_NODE {x}"']), 600, x=range(600))
    ends = span.run(bulk, LONG)
    assert {end.state for end in ends} == {DONE} and {end.node for end in ends} == {0, 1, 2}
    for index in range(0, 600, 97):
        assert span.text(bulk, index) == f"node{ends[index].node} {index}\n"
    assert all(end.started > 0 and end.ended >= end.started for end in ends)
    span.drained(LONG)


def test_calls_run_on_all_nodes_with_their_function_and_results(spans: Spans) -> None:
    span = spans(nodes=2, cores=2)

    def where(x: int) -> tuple[str, int]:
        import os
        import threading

        threading.Event().wait(0.02)
        return os.environ["JRM_NODE"], x * x

    import cloudpickle

    bulk = span.calls(where, list(range(60)))
    ends = span.run(bulk, LONG)
    assert {end.state for end in ends} == {DONE} and {end.node for end in ends} == {0, 1}
    assert [cloudpickle.loads(end.value[1:]) for end in ends] == [
        (f"node{end.node}", x * x) for x, end in enumerate(ends)
    ]
    bad = span.run(span.calls(lambda x: 1 // x, [0, 1]), LONG)
    assert (bad[0].state, bad[0].cause, bad[1].state) == (FAILED, Cause.CALL_RAISED, DONE)
    assert "ZeroDivisionError" in bad[0].note
    span.drained(LONG)


def test_ranks_on_several_nodes_are_one_task(spans: Spans) -> None:
    span = spans(nodes=2, cores=2)
    bulk = span.bulk(Task("sh", ["-c", "echo $JRM_RANK of $JRM_RANKS on $JRM_NODE in $JRM_NODES"], ranks=4))
    end = span.run(bulk, LONG)[0]
    assert (end.state, span.count) == (DONE, 1)
    texts = [span.text(bulk, 0, "stdout" + (f".{rank}" if rank else "")) for rank in range(4)]
    assert [text.split()[0] for text in texts] == ["0", "1", "2", "3"]
    assert {text.split()[4] for text in texts} == {"node0", "node1"}
    assert all(text.rstrip().endswith(("node0,node1", "node1,node0")) for text in texts)

    # The first rank that fails says why; the others are ended wherever they are.
    script = "[ $JRM_RANK = 3 ] && { echo bad >&2; exit 9; }; exec sleep 98765.1"
    end = span.run(span.bulk(Task("sh", ["-c", script], ranks=4)), LONG)[0]
    assert (end.state, end.cause, end.code) == (FAILED, Cause.TASK_EXIT, 9)
    assert "rank 3" in end.note and "bad" in end.note
    gone(span, "98765.1")

    bulk = span.bulk(Task("sleep", ["98765.2"], ranks=4))
    span.launch(bulk)
    span.until(lambda: len(sleepers("98765.2")) == 4, LONG, "four ranks")
    span.kill(bulk, 0)
    assert span.wait(bulk, LONG)[0].state == CANCELED
    gone(span, "98765.2")
    span.drained(LONG)


def test_what_is_queued_on_several_nodes_comes_back_once_and_can_be_canceled(spans: Spans) -> None:
    span = spans(nodes=3, cores=2)
    bulk = span.bulk(Task("sleep", ["98765.3"]), 60)
    assert span.launch(bulk) == 6
    span.ahead(bulk, 6)
    span.until(lambda: len(span.begun) == 6, LONG, "six starts")
    back = span.retract()
    assert sorted((back & np.uint64(0xFFFFFFFF)).tolist()) == list(range(6, 60))
    span.homeless.clear()
    span.ahead(bulk, 6)
    span.kill(bulk, *range(60))
    ends = span.wait(bulk, LONG)
    assert {end.state for end in ends} == {CANCELED}
    gone(span, "98765.3")
    span.drained(LONG)


def test_a_killed_node_agent_loses_its_own_tasks_only_and_comes_back(spans: Spans) -> None:
    span = spans(nodes=2, cores=2)
    bulk = span.bulk(Task("sh", ["-c", "until [ -e ../go ]; do sleep 0.05; done; : 98765.4"]), 4)
    assert span.launch(bulk) == 4
    span.until(lambda: len(span.begun) == 4, LONG, "four starts")
    span.agent(1).kill()
    span.until(lambda: span.done(bulk) == 2, LONG, "the ends of two")
    lost = list(span.ends.values())
    assert {(end.state, end.cause, end.node) for end in lost} == {(FAILED, Cause.NODE_LOST, 1)}
    assert "node1" in lost[0].note
    span.until(lambda: len(span.changes) == 2, LONG, "the node to be back")
    assert [(one.number, one.up) for one in span.changes] == [(1, False), (1, True)]
    assert len(sleepers("98765.4")) == 2, "tasks of the killed node agent still run"
    (span.root / f"{bulk:06d}" / "go").touch()
    span.wait(bulk, LONG)
    again = span.bulk(Task("true"), 8)
    assert {end.node for end in span.run(again, LONG)} == {0, 1}
    span.drained(LONG)


def test_a_node_in_reserve_takes_the_place_of_one_that_is_gone(spans: Spans) -> None:
    span = spans(nodes=2, cores=1, spare=1)
    wide = span.bulk(Task("sleep", ["98765.5"], ranks=2))
    span.launch(wide)
    span.until(lambda: len(sleepers("98765.5")) == 2, LONG, "two ranks")
    agent = span.agent(1)
    guard = agent.parent()
    assert guard is not None and guard.name() == "jrm-guard"
    guard.kill()
    agent.kill()
    end = span.wait(wide, LONG)[0]
    assert (end.state, end.cause) == (FAILED, Cause.NODE_LOST)
    span.until(lambda: len(span.changes) == 2, LONG, "the node in reserve")
    assert span.changes[1].up and span.changes[1].node is not None and span.changes[1].node.name == "node2"
    span.drained(LONG)
    ends = span.run(span.bulk(Task("sh", ["-c", 'test "$JRM_NODE" != node1']), 4), LONG)
    assert {(end.state, end.node) for end in ends} == {(DONE, 0), (DONE, 1)}


HEAD = """
import sys, pathlib, json
sys.path[:0] = json.loads(sys.argv[1])
from span_kit import Span
from jupyter_rm.model.describe import Task
span = Span(pathlib.Path(sys.argv[2]), nodes=3, cores=1)
span.launch(span.bulk(Task("sh", ["-c", "setsid sleep 98765.6 & sleep 98765.6"]), 3))
span.until(lambda: len(span.begun) == 3, 120)
print("running", flush=True)
sys.stdin.read()
"""


def test_nothing_is_left_on_any_node_when_the_head_is_gone(tmp_path: Path) -> None:
    folders = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "agent")]
    head = subprocess.Popen(
        [sys.executable, "-c", HEAD, json.dumps(folders), str(tmp_path / "head")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert head.stdout is not None and head.stdout.readline() == b"running\n"
    agents = sleepers(str(tmp_path / "head"))
    assert len(sleepers("98765.6")) >= 6
    os.kill(head.pid, signal.SIGKILL)
    head.wait()
    until = time.monotonic() + LONG
    # Those of the head's own node are its guard's business, and it has none here.
    while left := [one for one in agents if one.is_running() and one.pid != head.pid]:
        assert time.monotonic() < until, f"left: {left}"
        psutil.wait_procs(left, timeout=0.5)
    own = [one for one in sleepers("98765.6") if str(tmp_path / "head") in one.environ().get("JRM_SANDBOX", "")]
    assert {one.environ()["JRM_NODE"] for one in own} <= {"node0"}, "tasks of other nodes are left"
    for one in own:
        one.kill()


def test_a_stranger_hears_nothing(spans: Spans) -> None:
    span = spans(nodes=2)
    context = zmq.Context()
    stranger = context.socket(zmq.DEALER)
    try:
        public, secret = zmq.curve_keypair()
        stranger.curve_publickey, stranger.curve_secretkey = public, secret
        stranger.curve_serverkey = span.fleet._head[0]
        plain = context.socket(zmq.DEALER)
        for one in (stranger, plain):
            one.linger = 0
            one.connect(f"tcp://127.0.0.1:{span.fleet._port}")
            one.send(b"hello")
        ends = span.run(span.bulk(Task("true"), 20), LONG)
        assert {end.state for end in ends} == {DONE}
        assert not stranger.poll(200) and not plain.poll(0)
        plain.close()
    finally:
        stranger.close()
        context.term()
