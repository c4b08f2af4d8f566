"""The environments tasks start from: the user's own, plus what their ``pre_exec`` lines change.

An identical list of lines runs once per agent, as one script in a process of its own; tasks that need it wait without
holding up anything else. Knows processes only through the spawner. Read next: :mod:`jupyter_rm.agent.commands`.
"""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ..runtime.process import ENDED, STARTED, Launch, SpawnerLike
from .leftovers import own_folder

Lines = tuple[str, ...]
# What every shell sets for itself; it says nothing about the environment the lines made.
_NOISE = frozenset({"_", "PWD", "OLDPWD", "SHLVL"})
# Constant text: the script and the dump arrive as arguments. ``-e``: a line that fails fails the environment.
_DRIVER = 'set -e; . "$1"; set +e; exec "$2" -0 >"$3"'
CAPTURE_TIMEOUT = 600.0
# A failed capture is not tried again for so long (s): a storm of tasks must not become a storm of shells.
FAILED_FOR = 5.0
TAIL = 600


# Registers a handler for the events of a process that is no task; returns the token to start it with.
Internal = Callable[[Callable[[np.void], None]], int]


def task_environment(captured: Mapping[str, str]) -> dict[str, str]:
    """Return the environment tasks start from, given the one the agent was started in.

    What belongs to the agent goes: its virtual environment (and that one's ``bin`` on PATH), its Python settings, and
    all its ``JRM_*`` variables.
    """
    env = dict(captured)
    venv = env.pop("VIRTUAL_ENV", "")
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV_PROMPT", *[name for name in env if name.startswith("JRM_")]):
        env.pop(name, None)
    if venv and "PATH" in env:
        own = os.path.join(venv, "bin")  # noqa: PTH118 (text as the user's shell wrote it)
        env["PATH"] = os.pathsep.join(part for part in env["PATH"].split(os.pathsep) if part.rstrip("/") != own)
    return env


class Captured:
    """What a list of lines made: ``env`` once it is ready, ``error`` when it failed, neither while it runs."""

    __slots__ = ("env", "error", "failed_at", "python", "serial", "since", "waiters")

    def __init__(self, serial: int) -> None:
        self.serial = serial
        self.since = time.time()
        self.env: dict[str, str] | None = None
        self.error = ""
        self.failed_at = 0.0
        self.waiters: list[Callable[[], None]] = []
        self.python = ""  # of a named environment: the interpreter for calls


def entered(base: Mapping[str, str], where: str) -> tuple[dict[str, str], str, str]:
    """Return (environment, its interpreter, what is wrong) for tasks that run in a named environment.

    Args:
        where: a virtual or conda environment, or the path of an interpreter.
    """
    path = Path(where)
    if os.path.isdir(path):  # noqa: PTH112 (False for a name that no directory can have)
        folder, python = path / "bin", path / "bin" / "python"
    else:
        folder, python = path.parent, path
    if not os.access(python, os.X_OK) or python.is_dir():
        return {}, "", f"named_env: {python} is no interpreter on {platform.node()}"
    if os.pathsep in str(folder):
        return {}, "", f"named_env: {where} holds a {os.pathsep!r}, and PATH can hold no such directory"
    env = {**base, "PATH": f"{folder}{os.pathsep}{base.get('PATH') or os.defpath}"}
    if (path / "pyvenv.cfg").exists():
        env["VIRTUAL_ENV"] = where
    elif (path / "conda-meta").is_dir():
        env["CONDA_PREFIX"] = where
    return env, str(python), ""


class Environments:
    """All environments of one agent.

    Args:
        spawner: starts the capturing shells, and keeps registered environments.
        internal: registers a process that is no task.
        base: what tasks start from, see :func:`task_environment`.
    """

    def __init__(self, spawner: SpawnerLike, internal: Internal, base: Mapping[str, str]) -> None:
        self._spawner = spawner
        self._internal = internal
        self.base = dict(base)
        self._captured: dict[tuple[str, Lines], Captured] = {}
        self._ids: dict[tuple[object, ...], int] = {}
        self._serial = 0
        self._folder = ""

    def get(self, lines: Lines, where: str = "") -> Captured:
        """Return what ``lines`` make of the base environment, starting the capture when it is needed.

        Args:
            where: path of the named environment in which the tasks run, empty: none.
        """
        known = self._captured.get((where, lines))
        if known is not None and not (known.error and time.monotonic() - known.failed_at > FAILED_FOR):
            return known
        self._serial += 1
        made = self._captured[where, lines] = Captured(self._serial)
        base = self.base
        if where:
            base, made.python, wrong = entered(self.base, where)
            if wrong:
                self._fail(made, wrong)
                return made
        if lines:
            self._capture(lines, made, base)
        else:
            made.env = base
        return made

    def running(self, lines: Lines, where: str = "") -> str:
        """Return since when ``lines`` run, in words; empty: they do not run."""
        known = self._captured.get((where, lines))
        if known is None or known.error or known.env is not None:
            return ""
        since = time.strftime("%H:%M:%S", time.localtime(known.since))
        limit = f"they may take {CAPTURE_TIMEOUT / 60:g} min; its timeout begins after them"
        return f"its pre_exec lines have been running since {since} ({limit})"

    def register(self, captured: Captured, extra: tuple[tuple[str, str], ...]) -> int:
        """Return the spawner's id of a ready environment with ``extra`` variables; one id per distinct pair."""
        key = (captured.serial, extra)
        number = self._ids.get(key)
        if number is None:
            assert captured.env is not None, "an environment that is not ready"
            merged = {**captured.env, **dict(extra)}
            number = self._ids[key] = self._spawner.env([os.fsencode(f"{k}={v}") for k, v in merged.items()])
        return number

    def _capture(self, lines: Lines, made: Captured, base: Mapping[str, str]) -> None:
        env_program = shutil.which("env", path=base.get("PATH") or os.defpath) or "/usr/bin/env"
        try:
            if not self._folder:
                self._folder = own_folder("env")
            here = Path(self._folder, str(made.serial))
            script, dump = Path(f"{here}.sh"), Path(f"{here}.env")
            with open(os.open(script, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(os.fsencode("\n".join(lines) + "\n"))
        except OSError as error:
            self._fail(made, f"pre_exec: cannot write its script: {error}")
            return
        base_id = self._spawner.env([os.fsencode(f"{k}={v}") for k, v in base.items()])

        def ended(event: np.void) -> None:
            if int(event["kind"]) != STARTED:
                self._read(made, here, event)

        token = self._internal(ended)
        argv = [
            b"/bin/sh",
            b"-c",
            _DRIVER.encode(),
            b"pre_exec",
            *map(os.fsencode, map(str, (script, env_program, dump))),
        ]
        log = os.fsencode(f"{here}.log")
        launch = Launch(token, argv, base_id, b"/", stdout=log, stderr=log, timeout=CAPTURE_TIMEOUT)
        self._spawner.start(token, [token], [launch])

    def _read(self, made: Captured, here: Path, event: np.void) -> None:
        log = Path(f"{here}.log")
        try:
            if int(event["kind"]) == ENDED and int(event["status"]) == 0:
                if not os.path.exists(f"{here}.env"):  # noqa: PTH110
                    raise ValueError("its lines ended the shell (exit, exec) before that")
                items = Path(f"{here}.env").read_bytes().split(b"\0")
                env = dict(os.fsdecode(item).partition("=")[::2] for item in items if b"=" in item)
                made.env = {k: v for k, v in env.items() if k not in _NOISE or k in self.base}
                for name in _NOISE & self.base.keys():
                    made.env[name] = self.base[name]
            else:
                text = log.read_bytes()[-TAIL:].decode("utf-8", "replace").strip() if log.exists() else ""
                code = os.waitstatus_to_exitcode(int(event["status"])) if int(event["kind"]) == ENDED else 0
                why = "took too long" if int(event["flags"]) & 1 else f"ended with code {code}"
                self._fail(made, f"pre_exec {why}: {text}" if text else f"pre_exec {why}")
        except (OSError, ValueError) as error:
            self._fail(made, f"pre_exec: its environment cannot be read: {error}")
        for suffix in (".sh", ".env", ".log"):
            Path(f"{here}{suffix}").unlink(missing_ok=True)
        waiters, made.waiters = made.waiters, []
        for wake in waiters:
            wake()

    @staticmethod
    def _fail(made: Captured, why: str) -> None:
        made.error = why
        made.failed_at = time.monotonic()

    def close(self) -> None:
        """Remove what lies on disk."""
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""
