"""Faults under a running pilot: each ends in the state and with the words that the manual gives, and harms no task.

Here are those that take little time; ``benchmarks/faults.py`` runs the whole table at full size.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from faults_kit import FAULTS, Fault, Trial
from remote_kit import Far

from jupyter_rm.client.session import Session

PAGE = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
# Minutes of waiting; seen in the benchmark only.
LONG = ("preempted, requeued", "time limit", "node lost")
# The line is cut for this part of the two minutes that the table says.
SCALE = 0.15


@pytest.mark.parametrize("fault", [one for one in FAULTS if one.name not in LONG], ids=lambda one: one.name)
def test_a_fault_ends_as_documented_and_harms_no_task(far: Far, study: Session, fault: Fault) -> None:
    Trial(far, study, fault, scale=SCALE).run()  # how soon: the benchmark says it; other work may run beside a test
    study.close()
    far.cluster.wait_idle()


def test_the_manual_gives_the_state_words_and_time_of_every_fault() -> None:
    lines = [line.strip("|") for line in PAGE.read_text().splitlines() if "|" in line]
    rows = [[cell.strip() for cell in line.split("|")] for line in lines]
    told = {cells[0]: cells for cells in rows if len(cells) == 5}
    for fault in FAULTS:
        assert fault.name in told, f"{fault.name} is not in {PAGE.name}"
        _, state, words, within, again = told[fault.name]
        assert state == f"`{fault.state}`", fault.name
        assert re.search(fault.says, words) and bool(words) == bool(fault.says), fault.name
        assert within == f"{fault.within:.0f} s", fault.name
        assert again.startswith("none") == fault.spares, fault.name
