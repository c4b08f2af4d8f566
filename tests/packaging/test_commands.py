"""The commands of the repository say what they do, do it, and fail loudly."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from wheel_kit import ROOT, run


def demo(path: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "demo.py"), str(path), "--out", str(out), "--timeout", "60"],
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )


def notebook(path: Path, *cells: str) -> Path:
    nbformat.write(new_notebook(cells=[new_markdown_cell("# A"), *map(new_code_cell, cells)]), path)
    return path


def test_demo_runs_a_notebook_for_real_and_prints_its_last_word(tmp_path: Path) -> None:
    out = tmp_path / "out"
    cells = ["import sys\nprint('kernel', sys.executable)", "print('all', 6 * 7, 'tasks DONE')"]
    path = notebook(tmp_path / "a.ipynb", *cells)
    done = demo(path, out)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all 42 tasks DONE" in done.stdout
    assert "2 of 2 cells ran in" in done.stdout
    executed = nbformat.read(out / "a.ipynb", as_version=4)
    assert sys.executable in executed.cells[1].outputs[0].text, "the kernel is not this environment's"
    assert (out / "a.html").stat().st_size > 0
    assert not path.read_text().count('"output_type"'), "the notebook itself must stay as it was"


def test_demo_fails_loudly_when_a_cell_fails(tmp_path: Path) -> None:
    done = demo(notebook(tmp_path / "b.ipynb", "print('so far')", "1 / 0", "print('never')"), tmp_path / "out")
    assert done.returncode == 1
    assert "FAILED" in done.stdout
    assert "ZeroDivisionError" in done.stderr
    assert (tmp_path / "out" / "b.ipynb").exists(), "the notebook with the error in it is what one wants to look at"


def test_demo_says_when_there_is_no_notebook(tmp_path: Path) -> None:
    done = demo(tmp_path / "c.ipynb", tmp_path / "out")
    assert done.returncode == 2
    assert "there is no notebook" in done.stderr


def test_help_is_the_default_and_lists_the_commands() -> None:
    text = run("make", "--no-print-directory", cwd=ROOT)
    for command in ("demo", "lab", "test", "bench", "check", "wheel"):
        assert f"make {command} " in text


@pytest.mark.parametrize(
    ("words", "extra", "says"),
    [
        (["dvp"], {}, "unknown set 'dvp'"),
        ([], {"PYTHON": "/nowhere/python3"}, "PYTHON=/nowhere/python3 cannot be used"),
    ],
)
def test_setup_says_what_why_and_next(tmp_path: Path, words: list[str], extra: dict[str, str], says: str) -> None:
    copy = tmp_path / "with a space"
    (copy / "scripts").mkdir(parents=True)
    (copy / "scripts" / "setup.sh").write_text((ROOT / "scripts" / "setup.sh").read_text())
    done = subprocess.run(
        ["sh", str(copy / "scripts" / "setup.sh"), *words],
        env={**os.environ, **extra},
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 1
    for part in (says, "why:", "next:"):
        assert part in done.stderr
    assert not (copy / ".venv").exists()
