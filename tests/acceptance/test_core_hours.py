"""What a pilot's cores were used for adds up, with every attempt, and is the same after a restart of the broker."""

from __future__ import annotations

import pytest

import jupyter_rm as jrm
from jupyter_rm.client import admin
from jupyter_rm.client.session import Session


def test_core_hours_of_a_pilot_add_up(bare: Session) -> None:
    pilot = bare.pilot("local", cores=2)
    assert pilot.wait(timeout=60) == "ACTIVE"
    twice = bare.submit(jrm.Shell("sleep 0.3; exit 1", retries=1))
    wide = bare.submit(jrm.Task("sleep", ["0.4"], cores=2))
    assert twice.wait(30) == "FAILED" and wide.wait(30) == "DONE"
    pilot.cancel()
    assert pilot.wait("CANCELED", 30) == "CANCELED"
    (row,) = bare.usage().to_dict("records")
    assert row["held"] == pytest.approx(row["boot"] + row["run"] + row["idle"], rel=1e-3)
    assert row["boot"] > 0 and row["idle"] > 0 and row["busy"] == pytest.approx(row["run"] / row["held"])
    # Two attempts of 0.3 s on a core, one of 0.4 s on two; each a little more than it slept.
    assert 1.4 <= row["run"] * 3600 < 1.4 + 3 * 0.3, row
    assert admin.stop(force=True)
    (again,) = jrm.open(bare.name).usage().to_dict("records")
    assert again == row
