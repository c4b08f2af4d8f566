"""Hostile text through every field of tasks and pilots, on this machine and in Slurm behind SSH; nothing of it runs.

The short form of ``benchmarks/injection.py``, which sends thousands, and to Grid Engine and plain machines too.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from injection_files import INPUT, OUTPUT, FileFields, by_hand
from injection_kit import TaskFields, Trap, named_directories, parsed, pilots, table
from injection_more import run as other_fields
from remote_kit import Far, active

from jupyter_rm.client.session import Session

FILES = (*(f"input_staging {form}" for form in INPUT), *(f"output_staging {form}" for form in OUTPUT))
OTHERS = ("staging columns", "staged directories", "fs directories", "named_env directories", "metadata keys")
SITES = {"local": ("local", ""), "slurm": ("slurm+ssh://alice@tb-slurm", "slurm")}


@pytest.mark.parametrize("name", list(SITES))
def test_no_text_of_any_field_ever_runs(far: Far, study: Session, tmp_path: Path, name: str) -> None:
    url, system = SITES[name]
    base = str(tmp_path) if name == "local" else f"{far.cluster.state}/home/alice"
    trap = Trap(far.cluster.state / "trap", [far.dir / "home", far.cluster.state / "home/alice"])
    texts = trap.strings(160, 5)
    pilot = active(study.pilot(url, **({"cores": 2} if name == "local" else {})))
    few = texts[::3]
    counts = FileFields(study, pilot, trap, few, tmp_path).all()
    counts |= by_hand(study, pilot, few, tmp_path, 8)
    counts |= other_fields(study, pilot, trap, few, url, 0)
    counts |= TaskFields(study, pilot, trap, texts).all()
    asked, taken = pilots(study, url, system, texts, 3)
    counts |= {f"pilot {field}": one for field, one in asked.items()}
    if system:
        counts["parsed"] = parsed(far.cluster, system, taken, 20)
    counts["directories"] = named_directories(study, url, base, trap, texts, 1)
    wrong = [f"{field}: {line}" for field, one in counts.items() for line in one.wrong]
    assert not wrong, "\n".join(wrong)
    assert not trap.sprung()
    for field in ("arguments", "columns", "environment names", "stdout", "stderr", "sandbox", "staged files"):
        assert counts[field].arrived > 50, f"hardly any string arrived: the test proves nothing\n{table(counts)}"
    for field in (*FILES, *OTHERS):
        assert counts[field].arrived > 15, f"hardly any string arrived: the test proves nothing\n{table(counts)}"
    assert counts["directories"].arrived == 1
