"""The spool: what was appended comes back in order, torn tails are cut, damage is told, one writer."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journal_kit import quick_directory

from jupyter_rm.model.errors import RequestError, SiteError
from jupyter_rm.runtime.spool import Spool

Records = list[tuple[int, bytes]]

bodies = st.lists(st.binary(max_size=80), min_size=1, max_size=12)
seldom_slow = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def quick() -> Iterator[Path]:
    with quick_directory() as directory:
        yield directory


def fill(path: Path, content: list[bytes], segment_size: int = 200) -> Records:
    shutil.rmtree(path, ignore_errors=True)
    records = [(1 + 2 * index, body) for index, body in enumerate(content)]
    with Spool.open(path, segment_size=segment_size) as spool:
        for seq, body in records:
            spool.append(seq, body)
    return records


def segments(path: Path) -> list[Path]:
    return sorted(path.glob("*.spool"))


@seldom_slow
@given(content=bodies)
def test_records_come_back_in_order(quick: Path, content: list[bytes]) -> None:
    records = fill(quick / "spool", content)
    with Spool.open(quick / "spool") as spool:
        assert spool.replay() == records
        assert spool.last == records[-1][0]
        assert not spool.notes
        spool.append(spool.last + 1, b"more")
        assert spool.replay() == [*records, (records[-1][0] + 1, b"more")]


@seldom_slow
@given(content=bodies, cut=st.integers(min_value=0))
def test_a_torn_tail_is_cut_and_writing_goes_on(quick: Path, content: list[bytes], cut: int) -> None:
    records = fill(quick / "spool", content)
    last = segments(quick / "spool")[-1]
    size = last.stat().st_size
    os.truncate(last, size - cut % size)
    for _ in range(2):
        with Spool.open(quick / "spool") as spool:
            found = spool.replay()
            assert found == records[: len(found)]
            assert spool.damaged == 0, spool.notes
            if cut % size == 0:
                assert found == records
    with Spool.open(quick / "spool") as spool:
        spool.append(1000, b"new")
    with Spool.open(quick / "spool") as spool:
        assert spool.replay() == [*found, (1000, b"new")]


@seldom_slow
@given(content=bodies, where=st.integers(min_value=0), bit=st.integers(0, 7))
def test_a_flipped_bit_yields_no_false_record_and_spares_other_segments(
    quick: Path, content: list[bytes], where: int, bit: int
) -> None:
    records = fill(quick / "spool", content)
    files = segments(quick / "spool")
    hit = files[where % len(files)]
    data = bytearray(hit.read_bytes())
    data[where % len(data)] ^= 1 << bit
    hit.write_bytes(data)
    own = {int(file.stem) for file in files if file > hit}
    elsewhere = [r for r in records if r[0] < int(hit.stem) or (own and r[0] >= min(own))]
    with Spool.open(quick / "spool") as spool:
        found = spool.replay()
        assert set(found) <= set(records)
        assert found == sorted(found)
        assert set(elsewhere) <= set(found)
        assert len(found) < len(records)
        assert spool.notes, "a lost record must be told"


def test_damage_in_the_middle_is_reported_and_kept_for_a_look(quick: Path) -> None:
    fill(quick / "spool", [b"a" * 50] * 9, segment_size=1 << 20)
    (only,) = segments(quick / "spool")
    data = bytearray(only.read_bytes())
    data[8 + 66 * 4 + 30] ^= 1
    only.write_bytes(data)
    with Spool.open(quick / "spool") as spool:
        assert [seq for seq, _ in spool.replay()] == [1, 3, 5, 7]
        assert spool.damaged == 1
        assert "damaged after record 7" in spool.notes[0]
    assert len(list((quick / "spool").glob("*.damaged-*"))) == 1


def test_forget_removes_whole_segments_only(quick: Path) -> None:
    path = quick / "spool"
    fill(path, [b"x" * 60] * 12, segment_size=200)
    with Spool.open(path, segment_size=200) as spool:
        before = len(segments(path))
        spool.forget(9)
        assert [seq for seq, _ in spool.replay()] == [11, 13, 15, 17, 19, 21, 23]
        assert len(segments(path)) == before - 1
        spool.append(25, b"y")
        spool.forget(25)
        assert spool.replay() == []
        assert segments(path) == []
        with pytest.raises(ValueError, match="seq"):
            spool.append(25, b"again")
        spool.append(26, b"z")
        assert spool.replay() == [(26, b"z")]


def test_numbers_must_rise(quick: Path) -> None:
    with Spool.open(quick / "spool") as spool:
        spool.append(5, b"")
        for seq in (5, 4):
            with pytest.raises(ValueError, match="seq"):
                spool.append(seq, b"")
        assert spool.replay() == [(5, b"")]


def test_one_writer(quick: Path) -> None:
    with Spool.open(quick / "spool"), pytest.raises(RequestError) as caught:
        Spool.open(quick / "spool")
    assert caught.value.code == "JRM-R08"
    Spool.open(quick / "spool").close()


def test_records_survive_the_writers_death_without_sync(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from jupyter_rm.runtime.spool import Spool\n"
        "s = Spool.open(sys.argv[1], segment_size=5000)\n"
        "for n in range(1, 201): s.append(n, b'%d' % n * 30)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "spool")], timeout=60)
    assert done.returncode == -signal.SIGKILL
    with Spool.open(tmp_path / "spool") as spool:
        assert spool.replay() == [(n, b"%d" % n * 30) for n in range(1, 201)]


def test_a_full_disk_leaves_no_half_record(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Spool.open(quick / "spool") as spool:
        spool.append(1, b"one")
        real = os.pwrite

        def full(fd: int, data: bytes, at: int) -> int:
            if len(data) > 10:
                return real(fd, bytes(data)[:10], at)
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(SiteError) as caught:
            spool.append(2, b"t" * 4)
        assert caught.value.code == "JRM-A42"
        assert spool.replay() == [(1, b"one")]
        monkeypatch.undo()
        spool.append(2, b"two")
    with Spool.open(quick / "spool") as spool:
        assert spool.replay() == [(1, b"one"), (2, b"two")]
        assert not spool.notes
