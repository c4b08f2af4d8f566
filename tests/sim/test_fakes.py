"""The fakes do what they say, or the simulation proves nothing."""

from __future__ import annotations

import pytest

from jupyter_rm.model.columns import Column, Picks
from jupyter_rm.model.describe import Template
from jupyter_rm.model.facts import BulkSubmitted, CancelRequested, Ends, TasksAssigned, TasksEnded
from jupyter_rm.model.ledger import Ledger
from jupyter_rm.model.states import TaskState
from jupyter_rm.testing.chance import chance
from jupyter_rm.testing.clock import Clock
from jupyter_rm.testing.disk import JournalDisk, SpoolDisk
from jupyter_rm.testing.loop import Loop
from jupyter_rm.testing.network import Network
from jupyter_rm.testing.oracles import Broken, Watch
from jupyter_rm.testing.trace import Trace


def network(*, ordered: bool = True) -> tuple[Loop, Network, list[bytes]]:
    loop = Loop()
    net = Network(loop, chance(1, "net"), Trace(), 0.1, ordered)
    got: list[bytes] = []
    net.listen("b", lambda source, frame: got.append(frame))
    return loop, net, got


def test_the_loop_goes_by_time_then_by_arrival() -> None:
    loop, order = Loop(), []
    for delay, name in ((2.0, "c"), (1.0, "a"), (1.0, "b"), (9.0, "never")):
        loop.after(delay, order.append, name)
    assert not loop.run(5.0)
    assert order == ["a", "b", "c"]
    assert loop.now == 5.0
    assert loop.run(20.0, lambda: order[-1] == "never")


def test_a_healthy_link_keeps_the_order() -> None:
    loop, net, got = network()
    frames = [b"%d" % number for number in range(50)]
    for frame in frames:
        net.send("a", "b", frame)
    loop.run(10.0)
    assert got == frames


def test_a_slow_link_does_not() -> None:
    loop, net, got = network()
    net.link("a", "b").slow = 10.0
    frames = [b"%d" % number for number in range(50)]
    for frame in frames:
        net.send("a", "b", frame)
    loop.run(20.0)
    assert sorted(got) == sorted(frames)
    assert got != frames


def test_links_lose_and_repeat_in_one_direction_only() -> None:
    loop, net, got = network()
    net.link("a", "b").loss = 1.0
    net.send("a", "b", b"lost")
    net.send("c", "b", b"other way")
    net.link("c", "b").repeat = 1.0
    net.send("c", "b", b"twice")
    loop.run(5.0)
    assert got == [b"other way", b"twice", b"twice"]


def test_what_flies_when_a_link_is_cut_is_lost_and_a_clog_holds() -> None:
    loop, net, got = network()
    net.send("a", "b", b"in flight")
    net.link("a", "b").cut = 1
    loop.run(1.0)
    assert got == []
    net.link("a", "b").cut = 0
    net.link("a", "b").clogged = 1
    net.send("a", "b", b"1")
    net.send("a", "b", b"2")
    loop.run(5.0)
    assert got == []
    net.heal()
    loop.run(9.0)
    assert got == [b"1", b"2"]


def test_clocks_are_wrong_but_durations_are_not() -> None:
    loop = Loop()
    one, two = Clock(loop, chance(1, "a")), Clock(loop, chance(2, "a"))
    assert abs(one.wall() - two.wall()) > 86400
    boot, wall = one.boot(), one.wall()
    loop.run(100.0)
    assert one.boot() - boot == pytest.approx(100.0, rel=3e-3)
    one.set_wall(-5000.0)
    assert one.wall() < wall
    assert one.boot() - boot == pytest.approx(100.0, rel=3e-3)
    one.suspend(28_800.0)
    assert one.boot() - boot == pytest.approx(28_900.0, rel=3e-3)


def test_damage_to_the_journal_stops_at_what_was_kept() -> None:
    for seed in range(50):
        disk = JournalDisk()
        disk.commit([("s", 1, b"a"), ("s", 1, b"b")])
        disk.checkpoint()
        disk.commit([("s", 1, b"c"), ("s", 1, b"d")])
        disk.commit([("s", 1, b"promised")], safe=True)
        disk.commit([("s", 1, b"e"), ("s", 1, b"f")])
        disk.commit([("s", 1, b"g")])
        before = list(disk.rows)
        lost = disk.damage(chance(seed, "disk"))
        assert disk.rows + lost == before
        assert len(disk.rows) in (5, 7, 8), "a transaction was torn, or a promise broken"


def test_a_node_loses_only_what_was_not_synced() -> None:
    for seed in range(20):
        spool = SpoolDisk()
        for seq in range(1, 8):
            spool.append(seq, b"%d" % seq, sync=seq == 4)
        spool.forget(2)
        spool.lose_cache(chance(seed, "disk"))
        left = [seq for seq, _ in spool.load()]
        assert left == list(range(3, 3 + len(left)))
        assert left[:2] == [3, 4]


def watch(**fields: object) -> Watch:
    watching = Watch(lambda: 0.0)
    template = Template(executable="x", **fields)  # type: ignore[arg-type]
    watching.committed(BulkSubmitted(0, b"key", 0.0, 2, template, {"x": Column.of([1, 2])}))
    return watching


def begin(watching: Watch, attempt: int = 1, pilot: int = 0) -> object:
    return watching.started(0, 0, attempt, pilot, b"", {})


def test_the_watch_sees_two_at_once() -> None:
    watching = watch()
    begin(watching)
    with pytest.raises(Broken, match=r"I3 .* starts while"):
        begin(watching, 2, 1)


def test_the_watch_excuses_true_silence() -> None:
    watching = watch(on_silence="rerun")
    begin(watching)
    watching.excuse(0, 0, 1)
    begin(watching, 2, 1)


def test_the_watch_sees_a_second_start() -> None:
    watching = watch(restart="never")
    watching.gone(begin(watching))  # type: ignore[arg-type]
    with pytest.raises(Broken, match=r"I3 .* restart is never"):
        begin(watching, 2)


def test_the_watch_sees_an_attempt_twice() -> None:
    watching = watch()
    watching.gone(begin(watching))  # type: ignore[arg-type]
    with pytest.raises(Broken, match=r"I3 .* started before"):
        begin(watching)


def test_the_watch_sees_a_canceled_task_go_on() -> None:
    watching = watch()
    watching.committed(CancelRequested(0, Picks.of([0]), 0.0))
    with pytest.raises(Broken, match="I8"):
        watching.committed(TasksAssigned(0, Picks.of([0, 1]), 0, 0.0))


def test_the_watch_sees_what_never_ends() -> None:
    watching, ledger = watch(), Ledger()
    ledger.apply(BulkSubmitted(0, b"key", 0.0, 2, Template(executable="x"), {"x": Column.of([1, 2])}))
    with pytest.raises(Broken, match=r"I5 t\.0\.0 is WAITING"):
        watching.finish(ledger)


def test_the_watch_sees_broken_promises_to_clients() -> None:
    watching = watch()
    watching.acknowledged(b"key", 0)
    watching.promised()
    with pytest.raises(Broken, match="I1"):
        watching.acknowledged(b"key", 1)
    watching.acknowledged(b"other", 1)
    with pytest.raises(Broken, match="I1"):
        watching.promised()


def test_the_watch_sees_a_value_nobody_returned() -> None:
    watching = watch(mode="call")
    end = Ends(
        b"\0", bytes(4), bytes(4), bytes(8), bytes(8), bytes(4), bytes(4), bytes(4), Column.of_bytes([b"made up"])
    )
    with pytest.raises(Broken, match="I7"):
        watching.committed(TasksEnded(0, Picks.of([0]), 0, b"\x01\x00", bytes([TaskState.DONE]), end))
