"""An account at a real server, with what a person may find or leave in it, and a connection that counts."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from connect_kit import Bed, eventually

from jupyter_rm.runtime.bootstrap import Environment, SiteFacts, Step, Wanted, ensure, survey
from jupyter_rm.runtime.connect import Connection, FileInfo, Result, Stream

UID = 29601
PATIENT_S = 60.0


def free_ports(choices: Iterable[int]) -> int:
    """Return the first of eight ports in a row that nobody listens on."""
    for first in choices:
        try:
            for port in range(first, first + 8):
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return first
    raise AssertionError("no free ports")


class Counted:
    """A connection that writes down what is asked of it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.name = connection.name
        self.asked: list[str] = []

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0, env: Mapping[str, str] | None = None
    ) -> Result:
        self.asked.append("run")
        return self._connection.run(argv, stdin=stdin, timeout=timeout, env=env)

    def start(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Stream:
        self.asked.append("start")
        return self._connection.start(argv, env)

    def put(
        self,
        local: str | Path,
        remote: str,
        *,
        resume: bool = True,
        mode: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> str:
        self.asked.append(f"put {Path(local).name.partition('-')[0]}")
        return self._connection.put(local, remote, resume=resume, mode=mode, progress=progress)

    def stat(self, path: str) -> FileInfo | None:
        self.asked.append("stat")
        return self._connection.stat(path)


class Account:
    """Alice's account, emptied, with one connection to it.

    Attributes:
        home: her home directory, as root sees it (the same path as hers).
        steps: what ``ensure`` told.
    """

    def __init__(self, bed: Bed, config: Path | None = None) -> None:
        self.bed = bed
        self.home = bed.state / "home" / "alice"
        self._mounts: list[Path] = []
        self.wipe()
        more = {"ssh_config": config} if config else {}
        # Nothing here is about a link that dies: the patience of every day.
        self.plain = bed.connect("paramiko", keepalive_s=15.0, **more)
        self.connection = Counted(self.plain)
        self.steps: list[Step] = []
        self._facts: SiteFacts | None = None

    def wipe(self) -> None:
        """Empty the account."""
        for path in self.home.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        os.chown(self.home, UID, UID)

    def close(self) -> None:
        self.plain.close()
        for path in self._mounts:
            self._inside("umount", "-l", str(path))

    @property
    def facts(self) -> SiteFacts:
        if self._facts is None:
            self._facts = survey(self.plain)
        return self._facts

    def ensure(self, want: Wanted | None = None, facts: SiteFacts | None = None) -> Environment:
        self.steps.clear()
        self.connection.asked.clear()
        return ensure(self.connection, facts or self.facts, want or Wanted(), self.steps.append)

    def told(self) -> list[str]:
        """Return the steps that were told, progress left out."""
        return [f"{step.name} {step.status}" for step in self.steps if step.status != "progress"]

    def sh(self, *argv: str, rc: int = 0) -> str:
        """Run a command there; what it printed."""
        done = self.plain.run(list(argv), timeout=PATIENT_S)
        assert done.rc == rc, (argv, done)
        return done.text

    def file(self, name: str, text: str, mode: int = 0o644) -> Path:
        """Put a file of hers into her home."""
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        for one in (path, *path.parents):
            if one == self.home:
                break
            os.chown(one, UID, UID)
        return path

    # --- file systems that only her server sees

    def _inside(self, *argv: str) -> None:
        pid = self.bed.listener("login").pid
        subprocess.run(["nsenter", "--mount", f"--target={pid}", *argv], check=True, timeout=30)

    def small_disk(self, name: str, options: str) -> Path:
        """Mount an empty file system on a directory of hers."""
        path = self.home / name
        path.mkdir()
        self._inside("mount", "-t", "tmpfs", "-o", f"uid={UID},gid={UID},mode=700,{options}", "tmpfs", str(path))
        self._mounts.append(path)
        return path

    def lend(self, path: Path) -> None:
        """Let her reach a directory of root's home, under its own path, and nothing else of it."""
        aside = self.home / "lent"
        aside.mkdir()
        home = Path.home()
        self._inside("mount", "--bind", str(path), str(aside))
        self._inside("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(home))
        self._mounts += [path, home, aside]
        self._inside("mkdir", "-p", str(path))
        self._inside("mount", "--bind", str(aside), str(path))

    # --- processes of hers

    def processes(self, *words: str) -> list[psutil.Process]:
        """Return her processes whose command line holds all words."""
        found = []
        for process in psutil.process_iter(["uids", "cmdline", "status"]):
            line = " ".join(process.info["cmdline"] or ())
            mine = process.info["uids"] is not None and process.info["uids"].real == UID
            if mine and process.info["status"] != psutil.STATUS_ZOMBIE and all(word in line for word in words):
                found.append(process)
        return found

    def kill(self, *words: str) -> None:
        """Kill them."""
        for process in self.processes(*words):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


class Place:
    """The directory of a pilot on the target, and the start program in it."""

    def __init__(self, account: Account, made: Environment, name: str = "p.0", **more: Any) -> None:
        self.account, self.made = account, made
        self.path = account.home / ".jupyter_rm" / "pilots" / name
        spec = {
            "session": "0-test",
            "pilot": 0,
            "endpoint": "ipc:///nowhere/at/all",
            "site": "noop",
            "nodes": 1,
            "cores": 1,
            "gpus": 0,
            "mem": 0,
            "walltime": 0,
            "since": 0.0,
            "place": str(self.path),
            "sandbox": str(self.path),
            **more,
        }
        self.spec = str(account.file(f".jupyter_rm/pilots/{name}/spec.json", json.dumps(spec), 0o600))

    def start(self, **env: str) -> Stream:
        """Start the agent; the connection's stream of its start program."""
        return self.account.plain.start([self.made.python, self.made.program, self.spec], env)

    def program(self, *words: str) -> dict[str, Any]:
        """Run the start program with other words; its answer."""
        return dict(json.loads(self.account.sh(self.made.python, self.made.program, *words, str(self.path))))

    def look(self) -> dict[str, Any]:
        return self.program("--look")

    def until(self, check: Callable[[dict[str, Any]], Any], what: str) -> dict[str, Any]:
        """Wait until what is known there satisfies a check; what is known."""
        seen: dict[str, Any] = {}

        def fits() -> Any:
            seen.clear()
            seen.update(self.look())
            return check(seen)

        try:
            eventually(fits, what, PATIENT_S)
        except AssertionError as error:
            log = self.path / "agent.log"
            raise AssertionError(f"{what}: {seen}\n{log.read_text() if log.exists() else 'no log'}") from error
        return seen
