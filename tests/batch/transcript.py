"""Transcripts: what real (or documented) batch systems printed, as files a person can read.

``$ command``, ``rc: N``, then standard error and standard output each after its own rule. Where a text is not recorded
but written after documentation, the file says so in lines that begin with ``#``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PLACE = Path(__file__).resolve().parent / "transcripts"


@dataclass(frozen=True)
class Transcript:
    command: str
    rc: int
    stdout: str
    stderr: str


def transcript(name: str) -> Transcript:
    """Read ``transcripts/NAME.txt``."""
    text = (PLACE / f"{name}.txt").read_text(encoding="utf-8")
    while text.startswith("#"):
        text = text.partition("\n")[2]
    head, _, rest = text.partition("--- stderr\n")
    stderr, _, stdout = rest.partition("--- stdout\n")
    command, code = head.strip().split("\n")
    return Transcript(command.removeprefix("$ "), int(code.removeprefix("rc: ")), stdout, stderr)


def raw(name: str) -> str:
    """Read ``transcripts/NAME`` as it is."""
    return (PLACE / name).read_text(encoding="utf-8")
