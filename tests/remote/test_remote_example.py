"""The notebook about a cluster, on a cluster: executed as a person would, against real Slurm behind real SSH."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from remote_kit import Far

EXAMPLE = Path(__file__).resolve().parent.parent.parent / "examples" / "06-a-cluster.ipynb"


def test_the_notebook_drives_a_cluster(far: Far, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JRM_SITE", "slurm+ssh://alice@tb-slurm")
    monkeypatch.setenv("JRM_QUEUE", "batch")
    book: Any = nbformat.read(EXAMPLE, as_version=4)
    NotebookClient(book, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [out for cell in book.cells for out in cell.get("outputs", [])]
    text = "\n".join(out.get("text") or out.get("data", {}).get("text/plain", "") for out in outputs)
    assert re.search(r"job \d+ on n0\d+, n0\d+", text), text
    assert re.search(r"\['n0\d+', 'n0\d+'\]", text), f"both nodes ran something: {text}"
    assert "sum of the squares below 200: 2646700" in text
    assert "still in /tmp, and the answer is 42" in text
    assert "ended        228 DONE" in text
