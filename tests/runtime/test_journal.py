"""The journal on a good day: order, batches, reading, snapshots, blobs, meta, refusals."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw
import pytest
from journal_kit import clone, crash, expected, fact, facts

from jupyter_rm.model.errors import JrmError, RequestError, SiteError
from jupyter_rm.runtime import home, journal_open
from jupyter_rm.runtime import journal as module
from jupyter_rm.runtime import journal_store as store
from jupyter_rm.runtime.journal import Journal
from jupyter_rm.runtime.journal_mark import read_mark


def test_rows_are_numbered_from_one_without_gaps_and_read_back(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal") as journal:
        assert journal.report.state == "clean"
        assert journal.last == 0
        assert journal.append(facts(1, 3)) == 1
        assert journal.append([]) == 4
        assert journal.append(facts(4, 600)) == 4
        assert journal.last == 603
        assert list(journal.read()) == expected(1, 603)
        assert list(journal.read(after=500)) == expected(501, 603)
        assert list(journal.read(after=10, limit=2)) == expected(11, 12)
        assert list(journal.read(session=1)) == [row for row in expected(1, 603) if row.session == 1]


def test_content_survives_closing(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal.open(path) as journal:
        journal.append(facts(1, 50))
        journal.meta_set("incarnation", b"7")
    assert sorted(os.listdir(tmp_path)) == ["journal", "journal.mark"]
    with Journal.open(path) as journal:
        assert journal.report.state == "clean"
        assert journal.report.text == "Journal sound: 50 rows."
        assert journal.append(facts(51, 1)) == 51
        assert list(journal.read()) == expected(1, 51)
        assert journal.meta_get("incarnation") == b"7"
        assert journal.meta_get("other") is None


def test_the_settings_that_durability_rests_on_are_in_force(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal") as journal:
        for pragma, value in (("synchronous", 2), ("journal_mode", "wal"), ("locking_mode", "exclusive")):
            assert journal._db.pragma(pragma) == value
        journal.append(facts(1, 1))
        assert not (tmp_path / "journal-shm").exists()
        assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


def test_a_bad_row_spoils_the_whole_append_and_nothing_else(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal") as journal:
        journal.append(facts(1, 2))
        with pytest.raises(ValueError, match="not a number"):
            journal.append([fact(3), (1, 1, float("nan"), b"")])
        with pytest.raises(Exception, match=r"argument|int|range|format"):
            journal.append([fact(3), (1 << 63, 1, 0.0, b"")])
        assert journal.failed is None
        assert journal.append(facts(3, 1)) == 3
        assert list(journal.read()) == expected(1, 3)


def test_a_reader_may_append_between_rows(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal") as journal:
        journal.append(facts(1, 300))
        seen = []
        for row in journal.read():
            seen.append(row)
            if row.no in (1, 290):
                journal.append(facts(journal.last + 1, 1))
                journal.checkpoint()
        assert seen == expected(1, 300)
        assert journal.last == 302


def test_checkpoint_says_up_to_where_senders_may_forget(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal") as journal:
        journal.append(facts(1, 5))
        assert journal.checkpointed == 0
        assert journal.checkpoint() == 5
        assert not any((tmp_path / "journal-wal").read_bytes())
        journal.append(facts(6, 1))
        assert journal.checkpointed == 5


def test_the_mark_follows_at_most_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.mark"
    with Journal.open(tmp_path / "journal") as journal:
        journal._marked_at += 1000
        journal.append(facts(1, 3))
        assert read_mark(path).last == 0, "not with every commit"
        journal._marked_at -= 2000
        journal.append(facts(4, 1))
        journal.append(facts(5, 1))
        assert read_mark(path).last == 4
        journal.mark()
        assert (read_mark(path).last, read_mark(path).clean) == (5, False)
    assert (read_mark(path).last, read_mark(path).clean) == (5, True)


def test_the_log_cannot_grow_without_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAL_LIMIT", 20)
    monkeypatch.setattr(module, "LOG_STEP", 0)
    with Journal.open(tmp_path / "journal") as journal:
        for no in range(1, 40):
            journal.append([fact(no)])
            assert (tmp_path / "journal-wal").stat().st_size < 40 * 4200
        assert journal.checkpointed > 0


def test_two_snapshots_are_kept_and_the_newest_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal.open(path) as journal:
        assert journal.load_snapshot(1) is None
        journal.append(facts(1, 30))
        for upto in (10, 20, 30):
            journal.save_snapshot(1, upto, b"state %d" % upto)
        journal.save_snapshot(2, 5, b"other")
        with pytest.raises(ValueError, match="upto"):
            journal.save_snapshot(1, 31, b"of the future")
    with Journal.open(path) as journal:
        assert journal.load_snapshot(1) == (30, b"state 30")
        assert journal.load_snapshot(2) == (5, b"other")
        count = journal._db.execute("SELECT count(*) FROM snapshot WHERE session = 1").fetchall()
        assert count == [(2,)]


def test_blobs_arrive_with_the_append_that_needs_them(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    body = os.urandom(20_000)
    key = hashlib.sha256(body).digest()
    journal = Journal.open(path)
    with pytest.raises(ValueError, match="digest"):
        journal.blob_put(key, b"other")
    journal.blob_put(key, body)
    assert journal.blob_get(key) == body
    crash(journal)
    journal = Journal.open(path)
    assert journal.blob_get(key) is None, "durable only with an append"
    journal.blob_put(key, body)
    journal.append(facts(1, 1))
    journal.blob_put(key, body)
    journal.append(facts(2, 1))
    crash(journal)
    with Journal.open(path) as journal:
        assert journal.blob_get(key) == body


def test_a_second_opener_is_told_who_has_it(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    script = "import sys; from jupyter_rm.runtime.journal import Journal; Journal.open(sys.argv[1])"
    with Journal.open(path) as journal:
        journal.append(facts(1, 1))
        for readonly in (False, True):
            with pytest.raises(RequestError, match=rf"process {os.getpid()} on") as caught:
                Journal.open(path, readonly=readonly)
            assert caught.value.code == "JRM-R08"
        other = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=60)
        assert other.returncode != 0
        assert f"process {os.getpid()}" in other.stderr
        journal.append(facts(2, 1))
    with Journal.open(path) as journal:
        assert list(journal.read()) == expected(1, 2)


def test_readonly_changes_nothing_and_sees_uncheckpointed_rows(tmp_path: Path) -> None:
    path = tmp_path / "live" / "journal"
    path.parent.mkdir()
    journal = Journal.open(path)
    journal.append(facts(1, 40))
    crash(journal)
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    with Journal.open(path, readonly=True) as reader:
        assert list(reader.read()) == expected(1, 40)
        with pytest.raises(RequestError, match="opened for reading"):
            reader.append(facts(41, 1))
        copy = reader._private
        with Journal.open(path) as journal:
            journal.append(facts(41, 1))
        assert reader.last == 40
    assert copy is not None
    assert not copy.exists()
    crash(Journal.open(clone(path, tmp_path / "other")))
    assert before["journal-wal"], "the reader had to read SQLite's log"


def test_missing_journal_is_said(tmp_path: Path) -> None:
    for options in ({"create": False}, {"readonly": True}):
        with pytest.raises(RequestError) as caught:
            Journal.open(tmp_path / "journal", **options)  # type: ignore[arg-type]
        assert caught.value.code == "JRM-D18"
    assert not list(tmp_path.iterdir())


def test_a_newer_format_is_refused_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal"
    with monkeypatch.context() as newer:
        newer.setattr("jupyter_rm.runtime.journal_store.FORMAT", 2)
        with Journal.open(path) as journal:
            journal.append(facts(1, 3))
    before = path.read_bytes()
    with pytest.raises(RequestError, match="newer version") as caught:
        Journal.open(path)
    assert caught.value.code == "JRM-D19"
    assert path.read_bytes() == before


def test_a_foreign_database_is_refused_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    foreign = apsw.Connection(str(path))
    foreign.execute("CREATE TABLE precious(x)")
    foreign.close()
    before = path.read_bytes()
    with pytest.raises(RequestError, match="not a journal"):
        Journal.open(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["other.sqlite"]


def test_a_network_filesystem_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = [("/", "ext4"), (str(tmp_path), "nfs4")]
    real = home.filesystem_of
    monkeypatch.setattr(home, "filesystem_of", lambda path, _=None: real(path, mounts))
    with pytest.raises(SiteError) as caught:
        Journal.open(tmp_path / "journal")
    assert caught.value.code == "JRM-D17"
    assert str(tmp_path) in caught.value.message
    assert "JUPYTER_RM_HOME" in caught.value.hint
    assert not list(tmp_path.iterdir())
    Journal.open(tmp_path / "journal", network_ok=True).close()


def test_a_closed_journal_says_so(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal")
    journal.close()
    journal.close()
    for use in (lambda: journal.append(facts(1, 1)), lambda: list(journal.read()), lambda: journal.meta_get("x")):
        with pytest.raises(JrmError, match="closed"):
            use()


def test_a_large_file_is_checked_above_its_checkpoint_only_and_rows_when_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old damage in a large file shows when the row is read, and the next open repairs it."""
    path = tmp_path / "journal"
    with Journal.open(path) as journal:
        journal.append(facts(1, 400))
    monkeypatch.setattr(journal_open, "FULL_CHECK", 0)
    data = bytearray(path.read_bytes())
    at = data.find(fact(190)[3][:40])
    assert at > 0
    data[at] ^= 4
    path.write_bytes(data)
    with Journal.open(path) as journal:
        assert journal.report.state == "clean", "a clean close lets a large file open without a full check"
        with pytest.raises(SiteError, match="row 190") as caught:
            list(journal.read())
        assert caught.value.code == "JRM-D20"
        crash(journal)
    with Journal.open(path) as journal:
        assert journal.report.state == "salvaged"
        assert journal.report.good_until == 189
        assert journal.report.lost == 211
        assert "JRM-D20" in journal.report.text
        assert list(journal.read()) == expected(1, 189)
        assert journal.append(facts(190, 1)) == 190


def test_one_row_is_read_without_those_behind_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[int] = []
    query = store.query

    def counted(*arguments: Any) -> list[tuple[Any, ...]]:
        found = query(*arguments)
        fetched.append(len(found))
        return found

    with Journal.open(tmp_path / "journal", network_ok=True) as journal:
        journal.append([(1, 1, 0.0, b"%d" % number) for number in range(600)])
        monkeypatch.setattr(store, "query", counted)
        assert [row.no for row in journal.read(after=299, limit=1)] == [300]
        assert fetched == [1]
        assert len(list(journal.read(limit=300))) == 300
        assert max(fetched) <= store.READ_ROWS
