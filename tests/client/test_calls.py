"""Python calls: values, exceptions, futures, and the whole contract of concurrent.futures."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import os
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from world_kit import eventually

import jupyter_rm as jrm
from jupyter_rm.client.results import RemoteTraceback
from jupyter_rm.client.session import Session


@pytest.fixture(scope="module")
def shared(home: Path) -> Iterator[Session]:
    """One session with a pilot for tests that leave nothing behind."""
    with jrm.open("shared") as session:
        assert session.pilot("local", cores=2).wait(timeout=20) == "ACTIVE"
        yield session


class OddError(Exception):
    """An error of this module, which a worker cannot import."""

    def __init__(self, number: int) -> None:
        super().__init__(f"odd: {number}")
        self.number = number


class Point:
    """A class of this module, which a worker cannot import."""

    def __init__(self, x: int) -> None:
        self.x = x


FACTOR = 3


def scaled(x: int) -> int:
    return x * FACTOR


def moved(point: Point) -> Point:
    return Point(point.x + 1)


def refuse(number: int) -> int:
    if number % 2:
        raise OddError(number)
    return number


@contextlib.contextmanager
def opened_at_last(gate: Path) -> Iterator[None]:
    """Whatever happens inside, no call waits for ever."""
    try:
        yield
    finally:
        gate.touch()


def wait_for_file(path: str) -> str:
    pause = threading.Event()
    while not os.path.exists(path):
        pause.wait(0.005)
    return path


def test_values_come_back(shared: Session) -> None:
    assert shared.call(pow, 2, 10).result(20) == 1024
    assert shared.call(lambda x, *, y: x + y, 1, y=2).result(20) == 3
    assert shared.map(scaled, range(100)).results(20) == [3 * n for n in range(100)]
    assert shared.map(pow, [1, 2, 3], [2, 2, 2]).results(20) == [1, 4, 9]
    assert shared.map(scaled, []).results(20) == []
    assert shared.map(lambda x: x, ["a", None, [1], {"k": 2}]).results(20) == ["a", None, [1], {"k": 2}]


def test_a_changed_global_travels_again(shared: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shared.call(scaled, 2).result(20) == 6
    monkeypatch.setitem(globals(), "FACTOR", 10)
    assert shared.call(scaled, 2).result(20) == 20
    with shared.executor() as ex:
        assert ex.submit(scaled, 2).result(20) == 20
        monkeypatch.setitem(globals(), "FACTOR", 11)
        assert ex.submit(scaled, 2).result(20) == 22


def test_classes_of_this_module_travel(shared: Session) -> None:
    assert shared.call(moved, Point(4)).result(20).x == 5


def test_large_results(shared: Session) -> None:
    assert shared.call(lambda: bytes(3_000_000)).result(20) == bytes(3_000_000)
    sizes = [len(value) for value in shared.map(lambda n: b"x" * n, [10, 300_000, 0]).results(20)]
    assert sizes == [10, 300_000, 0]


def test_exceptions_keep_their_class_and_trace(shared: Session) -> None:
    task = shared.call(refuse, 7)
    with pytest.raises(OddError) as caught:
        task.result(20)
    assert caught.value.number == 7
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "in refuse" in str(caught.value.__cause__)
    assert (task.state, task.cause) == ("FAILED", "CALL_RAISED")
    assert isinstance(task.exception(), OddError)


def test_results_of_a_map_with_failures(shared: Session) -> None:
    bulk = shared.map(refuse, range(4))
    with pytest.raises(OddError):
        bulk.results(20)
    values = bulk.results(return_exceptions=True)
    assert values[0::2] == [0, 2]
    assert all(isinstance(value, OddError) for value in values[1::2])
    assert bulk.counts() == {"DONE": 2, "FAILED": 2}
    assert len(bulk.failed()) == 2


def test_worker_that_dies_fails_its_call_only(shared: Session) -> None:
    task = shared.call(os._exit, 9)
    with pytest.raises(jrm.TaskError):
        task.result(20)
    assert task.cause == "WORKER_LOST"
    assert shared.call(pow, 2, 3).result(20) == 8


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda s: s.call(threading.Lock().acquire), "function"),
        (lambda s: s.call(len, threading.Lock()), "argument 0"),
        (lambda s: s.map(len, [[], threading.Lock()]), "argument 0"),
        (lambda s: s.call("text"), "callable"),
        (lambda s: s.map(len, [[]], arguments=["x"]), "arguments"),
        (lambda s: s.map(len, [[]], coers=2), "coers"),
    ],
)
def test_what_cannot_travel_is_refused_here(shared: Session, call: object, says: str) -> None:
    with pytest.raises(jrm.RequestError, match=says):
        call(shared)  # type: ignore[operator]


def test_results_that_cannot_travel(shared: Session) -> None:
    with pytest.raises(Exception, match=r"pickle|Lock|lock"):
        shared.call(threading.Lock).result(20)


def test_callbacks_and_await(shared: Session) -> None:
    called = threading.Event()
    task = shared.call(pow, 2, 2)
    task.add_done_callback(lambda done: called.set() if done.result() == 4 else None)
    assert called.wait(20)

    async def run() -> object:
        with shared.executor() as ex:
            made = [asyncio.wrap_future(ex.submit(pow, n, 2)) for n in range(5)]
            return await asyncio.gather(*made, _awaited(shared))

    assert asyncio.run(run()) == [0, 1, 4, 9, 16, 25]


async def _awaited(session: Session) -> object:
    return await session.call(pow, 5, 2)


def test_many_single_calls_share_bulks(shared: Session) -> None:
    before = len(shared._replica.ledger.bulks)
    tasks = [shared.call(scaled, n) for n in range(500)]
    assert [task.result(20) for task in tasks] == [3 * n for n in range(500)]
    assert len({task.uid for task in tasks}) == 500
    assert len(shared._replica.ledger.bulks) - before < 100


# ------------------------------------------------------------ the executor


def test_executor_map_and_shutdown(shared: Session) -> None:
    with shared.executor() as ex:
        assert isinstance(ex, concurrent.futures.Executor)
        assert list(ex.map(scaled, range(50), timeout=20)) == [3 * n for n in range(50)]
        assert list(ex.map(pow, [2, 3], [3, 2], timeout=20)) == [8, 9]
    with pytest.raises(RuntimeError, match="shutdown"):
        ex.submit(pow, 1, 1)


def test_as_completed_and_wait(shared: Session, tmp_path: Path) -> None:
    with shared.executor() as ex, opened_at_last(tmp_path / "go"):
        slow = ex.submit(wait_for_file, str(tmp_path / "go"))
        fast = [ex.submit(scaled, n) for n in range(10)]
        done, not_done = concurrent.futures.wait([slow, *fast], 20, concurrent.futures.FIRST_COMPLETED)
        assert done
        assert slow in not_done
        assert {each.result() for each in concurrent.futures.as_completed(fast, 20)} == {3 * n for n in range(10)}
        eventually(slow.running, "the slow call is known to run")
        assert not slow.cancel()
        with pytest.raises(concurrent.futures.TimeoutError):
            slow.result(0.01)
        (tmp_path / "go").touch()
        assert slow.result(20) == str(tmp_path / "go")
        assert slow.done()
        assert not slow.running()


def test_future_exceptions(shared: Session) -> None:
    with shared.executor() as ex:
        future = ex.submit(refuse, 3)
        assert isinstance(future.exception(20), OddError)
        assert "in refuse" in str(future.exception().__cause__)
        good, bad = ex.submit(refuse, 2), ex.submit(refuse, 5)
        done, _ = concurrent.futures.wait([good, bad], 20, concurrent.futures.FIRST_EXCEPTION)
        assert bad in done


def test_future_callbacks_may_block(shared: Session) -> None:
    seen: list[int] = []
    finished = threading.Event()
    with shared.executor() as ex:

        def again(future: concurrent.futures.Future[int]) -> None:
            seen.append(ex.submit(scaled, future.result()).result(20))
            finished.set()

        ex.submit(scaled, 1).add_done_callback(again)
        assert finished.wait(20)
    assert seen == [9]


def test_cancel_what_has_not_begun(shared: Session, tmp_path: Path) -> None:
    with shared.executor(max_workers=1) as ex, opened_at_last(tmp_path / "go"):
        first = ex.submit(wait_for_file, str(tmp_path / "go"))
        later = [ex.submit(lambda n=n: (tmp_path / f"ran-{n}").touch()) for n in range(3)]
        assert later[1].cancel()
        assert later[1].cancelled()
        with pytest.raises(concurrent.futures.CancelledError):
            later[1].result()
        done, _ = concurrent.futures.wait([later[1]], 5)
        assert later[1] in done
        (tmp_path / "go").touch()
        first.result(20)
        concurrent.futures.wait(later, 20)
    assert sorted(path.name for path in tmp_path.glob("ran-*")) == ["ran-0", "ran-2"]


def test_shutdown_cancels_futures(shared: Session, tmp_path: Path) -> None:
    ex = shared.executor(max_workers=1)
    first = ex.submit(wait_for_file, str(tmp_path / "go"))
    with opened_at_last(tmp_path / "go"):
        eventually(first.running, "the first call is known to run")
    later = [ex.submit(scaled, n) for n in range(5)]
    (tmp_path / "go").touch()
    ex.shutdown(wait=False, cancel_futures=True)
    concurrent.futures.wait([first, *later], 20)
    assert first.result() == str(tmp_path / "go")
    assert all(each.cancelled() for each in later[1:])


def test_max_workers_bounds_what_runs(shared: Session) -> None:
    with shared.executor(max_workers=1) as ex:
        spans = [each.result(20) for each in [ex.submit(_span) for _ in range(5)]]
    spans.sort()
    assert all(one[1] <= two[0] for one, two in itertools.pairwise(spans))


def _span() -> tuple[float, float]:
    import time

    begun = time.monotonic()
    threading.Event().wait(0.01)
    return begun, time.monotonic()


@pytest.mark.parametrize(
    "option", [{"initializer": print}, {"max_workers": 0}, {"max_tasks_per_child": 1}, {"cors": 1}]
)
def test_executor_refuses(shared: Session, option: dict[str, object]) -> None:
    with pytest.raises(jrm.RequestError, match=next(iter(option))):
        shared.executor(**option)  # type: ignore[arg-type]


def test_large_maps_travel_in_parts(shared: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jupyter_rm.client.session.PAYLOAD_PART", 2000)
    before = len(shared._replica.ledger.bulks)
    bulk = shared.map(refuse, range(0, 1000, 2))
    assert bulk.results(20) == list(range(0, 1000, 2))
    assert len(shared._replica.ledger.bulks) - before > 3
    assert bulk[::100].results(20) == list(range(0, 1000, 200))
    assert bulk.counts() == {"DONE": 500}
    assert bulk[499].result(20) == 998


def test_fields_of_calls_are_kept(shared: Session) -> None:
    bulk = shared.map(scaled, range(4), cores=2, name="wide", retries=1)
    assert bulk.results(20) == [0, 3, 6, 9]
    assert bulk[0].name == "wide"
    slots = bulk[0].slots
    assert slots is not None
    assert slots["cores"] == 2
    with pytest.raises(jrm.RequestError, match="cores"):
        shared.map(scaled, range(4), cores=3)


def heals(n: int, mark: str) -> int:
    if n % 2 and not os.path.exists(mark):
        raise ValueError(n)
    return n * n


def test_retry_sends_failed_calls_again(shared: Session, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    bulk = shared.map(heals, range(10), [str(mark)] * 10)
    assert bulk.wait(20)
    assert bulk.counts() == {"DONE": 5, "FAILED": 5}
    single = shared.call(heals, 3, str(mark))
    assert single.wait(20) == "FAILED"
    mark.touch()
    again = bulk.retry()
    assert again.results(20) == [1, 9, 25, 49, 81]
    tasks = shared.tasks()
    assert tasks[[task.uid for task in tasks].index(single.uid) :].failed().retry().results(20) == [9]


def test_retry_of_calls_of_another_process_says_what_to_do(shared: Session) -> None:
    bulk = shared.map(int, ["x"])
    assert bulk.wait(20)
    shared._payloads._kept.clear()
    with pytest.raises(jrm.RequestError, match="not known here") as caught:
        bulk.retry()
    assert "s.map" in caught.value.hint


def test_a_call_that_takes_too_long(shared: Session) -> None:
    task = shared.map(wait_for_file, ["/nowhere/at/all"], timeout=0.3)[0]
    assert task.wait(20) == "FAILED"
    assert task.cause == "TASK_TIMEOUT"


def test_cancel_a_running_call(shared: Session) -> None:
    task = shared.call(wait_for_file, "/nowhere/at/all")
    eventually(lambda: task.state == "RUNNING", "the call runs")
    assert task.cancel()
    assert task.wait(20) == "CANCELED"
    with pytest.raises(jrm.TaskError):
        task.result()
    assert shared.call(pow, 2, 3).result(20) == 8


def test_results_do_not_outlive_their_futures(shared: Session) -> None:
    with shared.executor() as ex:
        kept = weakref.ref(ex.submit(Point, 3))
        eventually(lambda: kept() is None, "the future is gone once nobody holds it")


def test_many_threads_share_a_session(shared: Session) -> None:
    found: dict[int, list[int]] = {}

    def work(number: int) -> None:
        with shared.executor() as ex:
            made = [
                shared.call(scaled, number * 1000 + n) if n % 3 else ex.submit(scaled, number * 1000 + n)
                for n in range(300)
            ]
            found[number] = [each.result(30) for each in made]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {number: [3 * (number * 1000 + n) for n in range(300)] for number in range(4)}


def test_nothing_is_left_over(shared: Session) -> None:
    assert shared.wait(20)
    assert not shared._replica._live
    assert not shared._replica.batches
