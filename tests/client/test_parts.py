"""Parts of the client by themselves: the replica's gaps, what may be cached, grouping, results in chunks."""

from __future__ import annotations

import importlib
import io
import pickle
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jupyter_rm as jrm
from jupyter_rm.client import functions, progress
from jupyter_rm.client.grouping import group
from jupyter_rm.client.named import names
from jupyter_rm.client.replica import Replica
from jupyter_rm.client.results import ValueStore, decode
from jupyter_rm.client.settings import Settings
from jupyter_rm.model import facts as f
from jupyter_rm.model.columns import Column, Picks, pack
from jupyter_rm.model.describe import Template
from jupyter_rm.model.messages import Attached, Feed
from jupyter_rm.model.states import TaskState
from jupyter_rm.wire import values as forms


def feed(before: int, *facts: f.Fact) -> Feed:
    return Feed("x", before, before + len(facts), tuple(msgspec.Raw(f.encode(fact)) for fact in facts))


def ended(bulk: int, picks: Picks, values: list[bytes]) -> f.TasksEnded:
    zero = pack(0, "<u4")
    clock = pack(time.time(), "<f8")
    little = pack(0.0, "<f4")
    ends = f.Ends(pack(0, "<u1"), pack(0, "<i4"), zero, clock, clock, little, little, zero, Column.of_bytes(values))
    return f.TasksEnded(bulk, picks, -1, f.ONE, pack(int(TaskState.DONE), "<u1"), ends)


def opened(at: float = 1.0) -> f.SessionOpened:
    return f.SessionOpened("x", at)


def submitted(count: int) -> f.BulkSubmitted:
    return f.BulkSubmitted(0, b"k" * 16, 1.0, count, Template(mode="call"))


def test_a_gap_in_the_feed_is_noticed_and_repeats_are_harmless() -> None:
    replica = Replica("x")
    first = feed(0, opened(), submitted(3))
    assert replica.feed(first)
    assert replica.feed(first)
    assert not replica.feed(feed(5, ended(0, Picks.span(0, 3), [b"\0a"] * 3)))
    assert replica.ledger.folded == 2
    assert replica.feed(feed(2, ended(0, Picks.span(0, 3), [b"\0a", b"\0b", b"\0c"])))
    assert replica.values[0].get(1) == b"\0b"
    assert replica.final(0, 2)


def test_another_session_of_the_same_name_is_not_mixed_in() -> None:
    replica = Replica("x")
    replica.feed(feed(0, opened(), submitted(3)))
    with pytest.raises(jrm.LinkError, match="another"):
        replica.feed(feed(2, opened(2.0)))
    other = Replica("x")
    other.feed(feed(0, opened(2.0)))
    with pytest.raises(jrm.LinkError, match="another"):
        replica.attach(Attached(1, "x", 9, other.ledger.dump()))


def test_a_story_tells_the_tasks_own_times() -> None:
    from jupyter_rm.client.story import lines

    def at(body: f.Fact, wall: float) -> tuple[int, float, bytes]:
        return 7, wall, f.encode(body)

    node, little = pack(0, "<u4"), pack(0.0, "<f4")
    began = f.TasksStarted(0, Picks.span(0, 2), 0, f.ONE, node, pack([1000.25, 1001.0], "<f8"))
    ends = f.Ends(pack(0, "<u1"), pack(0, "<i4"), node, pack(1000.25, "<f8"), pack([1002.9996, 9.0], "<f8"), little,
                  little, node)  # fmt: skip
    over = f.TasksEnded(0, Picks.span(0, 2), 0, f.ONE, pack(int(TaskState.DONE), "<u1"), ends)
    _, started, ended = lines([at(began, 1000.5), at(over, 1090.0)], 0, 0, Replica("x").ledger)
    assert time.strftime("%H:%M:%S.250", time.localtime(1000)) in started
    assert "learned" not in started
    assert time.strftime("%H:%M:%S.000", time.localtime(1003)) in ended
    assert time.strftime("learned at %Y-%m-%d %H:%M:%S.000", time.localtime(1090)) in ended


def test_arguments_of_calls_are_kept_within_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    from jupyter_rm.client import again

    monkeypatch.setattr(again, "KEPT_BYTES", 1000)
    kept = again.Payloads()
    for bulk in range(10):
        kept.keep(bulk, Column.of_bytes([bytes(300)]))
    kept.keep(10, Column.of_bytes([bytes(3000)]))
    assert [bulk for bulk in range(11) if kept.get(bulk)] == [7, 8, 9]


def test_watchers_hear_from_a_snapshot_too() -> None:
    source, replica = Replica("x"), Replica("x")
    replica.feed(feed(0, opened(), submitted(2)))
    heard: list[int] = []
    replica.watch(0, 1, lambda: heard.append(1))
    replica.when(lambda: replica.ledger.bulks[0].open == 0, lambda: heard.append(2))
    source.feed(feed(0, opened(), submitted(2), ended(0, Picks.span(0, 2), [b"", b""])))
    assert replica.attach(Attached(1, "x", 3, source.ledger.dump())) == []
    assert heard == [1, 2]
    replica.watch(0, 0, lambda: heard.append(3))
    assert heard == [1, 2, 3]


def test_a_cheap_wait_ends_with_the_news_or_without_any() -> None:
    replica = Replica("x")
    replica.feed(feed(0, opened(), submitted(2)))
    assert not replica.wait_cheaply(lambda: replica.final(0, 1), 0.01)
    assert not replica._conditions
    answers: list[object] = []

    def wait(index: int) -> None:
        try:
            answers.append(replica.wait_cheaply(lambda: replica.final(0, index), 20.0))
        except jrm.LinkError as error:
            answers.append(error.code)

    threads = [threading.Thread(target=wait, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    replica.feed(feed(2, ended(0, Picks.span(1, 2), [b""])))
    threads[1].join(20)
    assert answers == [True]
    replica.fail(jrm.LinkError("gone", code="JRM-T06"))
    threads[0].join(20)
    assert answers == [True, "JRM-T06"]


def test_results_are_kept_within_a_limit() -> None:
    replica = Replica("x", value_limit=10_000)
    replica.feed(feed(0, opened(), submitted(100)))
    for n in range(100):
        replica.feed(feed(2 + n, ended(0, Picks.span(n, n + 1), [b"\0" + bytes(500)])))
    assert replica._value_bytes <= 10_000
    assert replica.values[0].get(99) is not None
    assert replica.values[0].get(0) is None


@given(st.lists(st.lists(st.integers(0, 49), unique=True, min_size=1), max_size=8))
def test_value_store_finds_everything(chunks: list[list[int]]) -> None:
    store, expected = ValueStore(50), {}
    for number, index in enumerate(chunks):
        store.add(Picks.of(np.array(index)), Column.of_bytes([b"%d-%d" % (number, i) for i in index]))
        expected.update({i: b"%d-%d" % (number, i) for i in index})
    assert [store.get(i) for i in range(50)] == [expected.get(i) for i in range(50)]
    assert store.raw() == [expected.get(i) for i in range(50)]


def test_damaged_results_are_errors_not_crashes() -> None:
    raised = forms.RAISED + pickle.dumps((b"x", "E", "m", "t"))
    for raw in (b"", b"\0garbage", b"\1/nowhere", b"\2garbage", b"\x09", raised):
        value, error = decode(raw)
        assert value is None
        assert isinstance(error, jrm.JrmError)


# ------------------------------------------------------------ functions

LIMIT = 5
TABLE = [1]


def reads_number(x: int) -> bool:
    return x < LIMIT


def reads_list() -> list[int]:
    return TABLE


def calls_other(x: int) -> bool:
    return reads_number(x)


def test_what_may_be_cached() -> None:
    assert functions.watch_of(len) is not None
    assert functions.watch_of(reads_number) is not None
    assert functions.watch_of(calls_other) is not None
    assert functions.watch_of(reads_list) is None
    closed = 3
    assert functions.watch_of(lambda: closed) is None


def test_a_changed_helper_makes_another_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    known = functions.Functions({})
    first = known.sha(calls_other)
    assert known.sha(calls_other) == first
    monkeypatch.setitem(globals(), "LIMIT", 6)
    assert known.sha(calls_other) != first
    TABLE.append(2)
    before = known.sha(reads_list)
    TABLE.append(3)
    assert known.sha(reads_list) != before


def test_a_reloaded_module_makes_another_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jrmt_pack").mkdir()
    (tmp_path / "jrmt_pack" / "__init__.py").write_text("")
    (tmp_path / "jrmt_pack" / "sub.py").write_text("K = 1\n")
    (tmp_path / "jrmt_help.py").write_text("def h(x): return x + 100\n")
    (tmp_path / "jrmt_user.py").write_text(
        "import math, jrmt_help, jrmt_pack.sub\n"
        "def f(x): return jrmt_help.h(x)\n"
        "def g(x): return x + jrmt_pack.sub.K\n"
        "def h(x): return math.sqrt(x)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)  # two edits within one second look alike to its cache
    user = importlib.import_module("jrmt_user")
    known = functions.Functions({})
    first = [known.sha(user.f), known.sha(user.g)]
    assert [known.sha(user.f), known.sha(user.g)] == first
    (tmp_path / "jrmt_help.py").write_text("def h(x): return x + 200\n")
    importlib.reload(sys.modules["jrmt_help"])
    sys.modules["jrmt_pack.sub"].K = 100  # type: ignore[attr-defined]
    try:
        assert known.sha(user.f) != first[0]
        assert known.sha(user.g) != first[1]
        assert functions.watch_of(user.h) is not None  # what workers import cannot change here
    finally:
        for name in ("jrmt_user", "jrmt_help", "jrmt_pack", "jrmt_pack.sub"):
            sys.modules.pop(name, None)


def test_a_helper_patched_in_place_makes_another_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    space: dict[str, Any] = {"__name__": "__main__"}
    exec("def help(x, y=1): return x + y\ndef f(x): return help(x)\ndef other(x, y=2): return x - y", space)
    known = functions.Functions({})
    seen = {known.sha(space["f"])}
    assert seen == {known.sha(space["f"])}
    for name in ("__code__", "__defaults__"):  # as %autoreload does it
        monkeypatch.setattr(space["help"], name, getattr(space["other"], name))
        seen.add(known.sha(space["f"]))
    assert len(seen) == 3


# ------------------------------------------------------------ grouping

_texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=8)


_rows = st.tuples(st.lists(_texts, max_size=3), st.dictionaries(st.just("K"), _texts), st.integers(1, 2))


@given(st.lists(_rows, max_size=12))
def test_grouping_loses_nothing(rows: list[tuple[list[str], dict[str, str], int]]) -> None:
    tasks = [jrm.Task("x", arguments, environment=environment, cores=cores) for arguments, environment, cores in rows]
    seen = {}
    for made in group(tasks):
        for offset, place in enumerate(made.places.tolist()):
            row = {name: column.get(offset) for name, column in made.columns.items()}
            template = made.template

            def fill(text: str, row: dict[str, object] = row, template: Template = template) -> str:
                return text.format_map(row) if template.params else text

            seen[place] = (
                [fill(text) for text in template.arguments],
                {name: fill(text) for name, text in template.environment},
                template.request.cores,
            )
    assert [seen[place] for place in range(len(rows))] == [(a, e, c) for a, e, c in rows]


def test_many_command_lines_are_one_bulk() -> None:
    made = group([jrm.Task("x", ["--seed", str(n), "{}"], name=f"n{n}") for n in range(1000)])
    assert len(made) == 1
    assert made[0].template.arguments == ("--seed", "{a1}", "{{}}")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_one_line_in_a_terminal_and_nothing_elsewhere(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    screen = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(progress, "in_notebook", lambda: False)
    counts = {"RUNNING": 2, "DONE": 1}
    quick = Settings(progress_after_s=0.0, progress_interval_s=0.0)
    drawn = progress.Progress("3 tasks", quick, lambda: counts)
    drawn.update()
    counts.clear()
    counts.update(DONE=3)
    drawn.close()
    if not terminal:
        assert screen.getvalue() == ""
        return
    first, last = screen.getvalue().split("\r\x1b[K")[1:]
    assert first.startswith("3 tasks: 1 of 3 ended (2 running)")
    assert last.startswith("3 tasks: 3 of 3 ended, ")
    assert screen.getvalue().count("\n") == 1


def test_progress_markup_is_escaped_and_named() -> None:
    made = progress.bar({"DONE": 1, "FAILED": 1}, 'a <b> "c"')
    assert "<b>" not in made
    assert 'aria-label="a &lt;b&gt; &quot;c&quot;"' in made


def test_state_names() -> None:
    done, running = names(TaskState)[TaskState.DONE], names(TaskState)[TaskState.RUNNING]
    assert done == "DONE"
    assert done == TaskState.DONE
    assert done != "FAILED"
    assert running < done
    assert running < "DONE"
    assert done >= TaskState.DONE
    assert sorted([done, running]) == [running, done]
    assert pickle.loads(pickle.dumps(done)) == done
    assert f"{done}" == "DONE"
