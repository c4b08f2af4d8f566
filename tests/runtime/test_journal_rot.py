"""Bit rot, truncation and vanished files: what is left is a true prefix, and the loss is told."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from journal_kit import clone, crash, expected, facts, quick_directory

from jupyter_rm.runtime import journal_repair
from jupyter_rm.runtime.journal import Journal
from jupyter_rm.runtime.journal_mark import read_mark
from jupyter_rm.runtime.journal_wal import look

ROWS = 260
BLOB = b"blob" * 700


def build(path: Path) -> Path:
    """A journal of 260 rows: half in the main file, the rest in SQLite's log; the mark stands at row 200."""
    path.parent.mkdir(exist_ok=True)
    journal = Journal.open(path)
    journal.blob_put(hashlib.sha256(BLOB).digest(), BLOB)
    journal.meta_set("incarnation", b"41")
    journal.append(facts(1, 130))
    journal.save_snapshot(1, 100, b"at 100" * 99)
    journal.checkpoint()
    for first in range(131, ROWS + 1, 5):
        journal.append(facts(first, 5))
        if first == 196:
            journal.mark()
    journal.save_snapshot(1, 200, b"at 200" * 99)
    crash(journal)
    return path


@pytest.fixture
def quick() -> Iterator[Path]:
    with quick_directory() as directory:
        yield directory


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("rot") / "journal")


def check(path: Path, marked: int, what: str) -> str:
    """Open a damaged copy and hold it to the promise; return how it was found."""
    with Journal.open(path) as journal:
        report = journal.report
        last = journal.last
        where = f"{what}: {report}"
        assert list(journal.read()) == expected(1, last), where
        assert report.good_until == last, where
        if last < marked:
            assert report.state in ("salvaged", "rows-missing"), f"silent loss! {where}"
            assert report.lost >= marked - last, where
        if report.state in ("salvaged", "rows-missing"):
            assert "JRM-D20" in report.text, where
            assert report.copy is not None, where
            assert (report.copy / path.name).exists() or not path.exists(), where
        else:
            assert last == ROWS or last >= marked, where
            assert journal.blob_get(hashlib.sha256(BLOB).digest()) == BLOB, where
            assert journal.meta_get("incarnation") == b"41", where
        if not report.meta_lost and last >= 131:
            assert journal.meta_get("incarnation") == b"41", where
        snapshot = journal.load_snapshot(1)
        assert snapshot in (None, (100, b"at 100" * 99), (200, b"at 200" * 99)), where
        assert journal.append(facts(last + 1, 1)) == last + 1, where
    with Journal.open(path) as journal:
        assert journal.report.state == "clean", f"after repair, {what}: {journal.report}"
        assert list(journal.read()) == expected(1, last + 1), where
    return report.state if last < ROWS or report.state == "salvaged" else "whole"


@pytest.mark.parametrize(("suffix", "flips"), [("", 100), ("-wal", 100), (".mark", 20)])
def test_no_flipped_bit_loses_rows_silently(sample: Path, quick: Path, suffix: str, flips: int) -> None:
    dice = random.Random(f"flip{suffix}")
    marked = read_mark(sample.with_name("journal.mark")).last
    assert marked == 200
    states: dict[str, int] = {}
    for number in range(flips):
        path = clone(sample, quick / str(number))
        target = path.with_name(path.name + suffix)
        data = bytearray(target.read_bytes())
        # A third of the flips goes where a few bytes rule everything: headers.
        at = dice.randrange(min(len(data), 200)) if number % 3 == 0 else dice.randrange(len(data))
        data[at] ^= 1 << dice.randrange(8)
        target.write_bytes(data)
        state = check(path, marked if suffix != ".mark" else 0, f"bit flipped in byte {at} of {target.name}")
        states[state] = states.get(state, 0) + 1
        shutil.rmtree(path.parent)
    if suffix == ".mark":
        assert states == {"whole": flips}
    else:
        assert states.get("salvaged", 0) + states.get("rows-missing", 0) > flips // 4, states


def test_nearly_every_flip_in_the_log_is_told_even_beyond_the_mark(sample: Path, quick: Path) -> None:
    """Only a flip in the very last transaction looks like a crash in the middle of writing it."""
    wal = sample.with_name("journal-wal")
    frames = look(wal).frames
    dice = random.Random(7)
    silent = 0
    for number in range(40):
        path = clone(sample, quick / str(number))
        data = bytearray(wal.read_bytes())
        frame = dice.randrange(frames)
        data[32 + frame * 4120 + dice.randrange(4120)] ^= 1 << dice.randrange(8)
        path.with_name("journal-wal").write_bytes(data)
        with Journal.open(path) as journal:
            silent += journal.last < ROWS and journal.report.state == "recovered"
            # Frames of the last transaction, the one that wrote the snapshot.
            assert journal.report.state != "recovered" or frame >= frames - 6, f"frame {frame} of {frames}"
        shutil.rmtree(path.parent)
    assert silent == 0, "rows stand before the last transaction"


def test_a_torn_log_loses_nothing_below_the_mark_silently(sample: Path, quick: Path) -> None:
    dice = random.Random(5)
    size = sample.with_name("journal-wal").stat().st_size
    for number, cut in enumerate([0, 10, 32, 33, *(dice.randrange(size) for _ in range(30))]):
        path = clone(sample, quick / str(number))
        with path.with_name("journal-wal").open("r+b") as file:
            file.truncate(cut)
        check(path, 200, f"log cut at {cut} of {size}")


def test_a_torn_main_file_is_salvaged(sample: Path, quick: Path) -> None:
    size = sample.stat().st_size
    for number, cut in enumerate([0, 1, 99, 100, 4096, 8192, size // 2, size - 4096, size - 1]):
        path = clone(sample, quick / str(number))
        with path.open("r+b") as file:
            file.truncate(cut)
        check(path, 200, f"main file cut at {cut} of {size}")


def test_a_lost_log_or_main_file_is_noticed(sample: Path, quick: Path) -> None:
    path = clone(sample, quick / "log")
    path.with_name("journal-wal").unlink()
    assert check(path, 200, "log removed") == "rows-missing"
    path = clone(sample, quick / "main")
    path.unlink()
    with Journal.open(path) as journal:
        assert journal.report.state == "salvaged"
        assert journal.report.lost >= 200
        assert "JRM-D20" in journal.report.text
    path = clone(sample, quick / "both")
    path.unlink()
    path.with_name("journal-wal").unlink()
    with Journal.open(path) as journal:
        assert (journal.report.state, journal.report.lost, journal.last) == ("salvaged", 200, 0)
        assert journal.report.meta_lost


def test_a_lost_mark_is_no_loss_of_rows(sample: Path, quick: Path) -> None:
    path = clone(sample, quick / "copy")
    path.with_name("journal.mark").unlink()
    with Journal.open(path) as journal:
        assert journal.report.state == "recovered"
        assert list(journal.read()) == expected(1, ROWS)


def test_a_first_page_full_of_rubbish_costs_no_rows(sample: Path, quick: Path) -> None:
    path = clone(sample, quick / "copy")
    with Journal.open(path):
        pass
    data = bytearray(path.read_bytes())
    data[:4096] = random.Random(1).randbytes(4096)
    path.write_bytes(data)
    with Journal.open(path) as journal:
        assert journal.report.state == "salvaged"
        assert list(journal.read()) == expected(1, ROWS)
        assert journal.meta_get("incarnation") == b"41"
        assert journal.load_snapshot(1) == (200, b"at 200" * 99)


def test_a_swapped_row_is_noticed(sample: Path, quick: Path) -> None:
    """What SQLite finds perfectly sound: two rows' bodies exchanged."""
    path = clone(sample, quick / "copy")
    journal = Journal.open(path)
    one, two = (journal._db.execute("SELECT body FROM row WHERE no = ?", (no,)).fetchall()[0][0] for no in (50, 60))
    journal._db.execute("UPDATE row SET body = ? WHERE no = 50", (two,))
    journal._db.execute("UPDATE row SET body = ? WHERE no = 60", (one,))
    journal.close()
    with Journal.open(path) as journal:
        assert journal.report.state == "salvaged"
        assert journal.last == 49


def test_another_history_under_the_same_name_is_noticed(sample: Path, quick: Path) -> None:
    """A sound journal with enough rows, but not the one the mark belongs to."""
    path = clone(sample, quick / "copy")
    other = Journal.open(quick / "journal")
    other.append([(9, 9, 9.0, b"other")] * (ROWS + 5))
    other.close()
    path.with_name("journal-wal").unlink()
    shutil.copy(quick / "journal", path)
    with Journal.open(path) as journal:
        assert journal.report.state == "salvaged"
        assert "not the one the mark knows" in journal.report.text


def test_an_interrupted_salvage_is_finished_at_the_next_open(
    sample: Path, quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = clone(sample, quick / "copy")
    with path.open("r+b") as file:
        file.truncate(8192)
    for step in ("finish", "_rebuild"):
        with monkeypatch.context() as broken:
            broken.setattr(journal_repair, step, stop)
            with pytest.raises(KeyboardInterrupt):
                Journal.open(path)
    check(path, 200, "salvage interrupted twice")


def stop(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_the_scan_of_the_log_agrees_with_sqlite(sample: Path) -> None:
    wal = look(sample.with_name("journal-wal"))
    # Behind what was written, the log holds zeros to grow into.
    data = sample.with_name("journal-wal").read_bytes()
    assert wal.good == wal.frames == (len(data.rstrip(b"\0")) - 32 + 4119) // 4120
    assert not wal.damaged
    assert not wal.header_bad
