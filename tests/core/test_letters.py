"""Frames in files: every frame arrives once, in order, in letters of decent size."""

from __future__ import annotations

import random

import pytest

from jupyter_rm.model.errors import ProtocolError
from jupyter_rm.wire import letters


def test_frames_of_any_size_come_back_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters, "LETTER_BYTES", 1000)
    chance = random.Random(3)
    for _ in range(300):
        frames = [bytes(chance.choice((0, 1, 400, 999, 1000, 5000))) for _ in range(chance.randrange(9))]
        made = letters.pack(frames)
        assert [frame for body in made for frame in letters.unpack(body)] == frames
        for body in made:
            inside = letters.unpack(body)
            assert inside and (len(inside) == 1 or sum(map(len, inside)) <= 1000)


def test_names_sort_by_number_and_other_files_are_no_letters() -> None:
    names = [letters.name_of(number, 4711) for number in (10, 9, 1)]
    assert letters.letters_in([*names, ".part", "000000000003.xyz", "notes"]) == sorted(names)
    assert [letters.number_of(name) for name in letters.letters_in(names)] == [1, 9, 10]


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x93\x01\x02", b"\x81\xa1a\x01"])
def test_what_is_no_letter_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        letters.unpack(body)
