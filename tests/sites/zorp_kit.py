"""The invented batch system on PATH: its program under its names, and what it was asked."""

from __future__ import annotations

import getpass
import json
import sys
from pathlib import Path

from jupyter_rm.batch import load
from jupyter_rm.runtime.batchsite import BatchSite
from jupyter_rm.runtime.connect import Connection

HERE = Path(__file__).resolve().parent / "zorp"
NAMES = ("zput", "zlook", "zbook", "zwhen", "zboxes", "zlanes", "zstop", "zhush", "zwake")


class Zorp:
    """One installation in a directory.

    Attributes:
        site: it, reached through a connection to this machine.
    """

    def __init__(self, place: Path, connection: Connection) -> None:
        self.place = place
        commands = place / "bin"
        commands.mkdir(parents=True)
        for name in NAMES:
            (commands / name).write_text(f'#!/bin/sh\nexec {sys.executable} -S {HERE / "zorp.py"} {name} "$@"\n')
            (commands / name).chmod(0o755)
        self.env = {"PATH": f"{commands}:/usr/bin:/bin", "ZORP": str(place)}
        self.site = BatchSite(connection, load("zorp", [HERE]), getpass.getuser(), env=self.env)

    @property
    def calls(self) -> list[list[str]]:
        """Every command so far."""
        path = self.place / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def named(self, *names: str) -> list[list[str]]:
        return [call for call in self.calls if call[0] in names]

    def break_down(self, words: str = "") -> None:
        """Have every command fail, or work again without words."""
        path = self.place / "broken"
        if words:
            path.write_text(words)
        else:
            path.unlink()
