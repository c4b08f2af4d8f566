"""Helpers of the packaging tests: running commands, and what a build left."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None, limit: float = 280) -> str:
    """Run a command and return its output; fail the test with all of it when it ends with an error."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=env,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=limit,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout[-6000:]}"
    return done.stdout


def clean_environment(*, path: str | None = None) -> dict[str, str]:
    """Return this environment without what would point a new Python at the checkout; PIP_* stays as it is."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CXX", "CC")}
    if path is not None:
        env["PATH"] = path
    return env


@dataclass(frozen=True)
class Built:
    """The tree that one ``python -m build`` saw, and what it left."""

    source: Path
    sdist: Path
    wheel: Path
