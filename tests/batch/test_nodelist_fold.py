"""Hosts written in short are read back as the same hosts."""

from __future__ import annotations

import random

from jupyter_rm.batch.nodelist import expand, fold


def test_what_is_folded_is_expanded_again() -> None:
    assert fold(["n01", "n02", "n03", "n07", "login"]) == "n[01-03,07],login"
    assert fold(["n9", "n10", "n11"]) == "n[9-11]" and fold(["n1"]) == "n1" and fold([]) == ""
    chance = random.Random(3)
    for _ in range(500):
        numbers = [str(chance.randrange(130)).zfill(chance.choice((1, 2, 3))) for _ in range(20)]
        hosts = {chance.choice("ab") + number + chance.choice(("", "-x", "-")) for number in numbers}
        hosts = {host for host in hosts if not host.endswith("-")} | {"r1-n3-ib"}
        assert set(expand(fold(hosts))) == hosts
