"""Puts an environment for agents in place on the machine at the other end, unless it is there already.

Warm: one command that reads the record of the environment. Cold: archives are packed here (``pack.py``) and unpacked
there (``installing.py``).

Knows: the modes, and which archives make an environment of an agent. Does not know: pilots. Read next: ``talk.py`` for
the words, ``installing.py``, ``target/start.py`` for what is run in the result.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
from dataclasses import replace
from typing import Any

import jupyter_rm
from jupyter_rm.model.errors import JrmError, RequestError, SiteError
from jupyter_rm.runtime.bootstrap import pack, wheels
from jupyter_rm.runtime.bootstrap.choose import OLDEST, choose, found, glibc_of, named, plain
from jupyter_rm.runtime.bootstrap.deps import Deps, decided
from jupyter_rm.runtime.bootstrap.installing import Installing, text_of
from jupyter_rm.runtime.bootstrap.survey import SiteFacts, Version
from jupyter_rm.runtime.bootstrap.talk import Environment, Runs, Step, Tell, Wanted, tail

HOOK_S = 600.0
VERIFY_S = 120.0
# Constant text: where the environment really is, and its record, if its interpreter can be executed.
_READ = 'cd -P -- "$1" && test -x bin/python && pwd -P && cat environment.json'
_NATIVE = {
    "_placer": "placement runs in plain Python there, which is slow with more than a hundred nodes",
    "_spawner": "processes are started from plain Python there, which is slower",
}


def ensure(connection: Runs, facts: SiteFacts, want: Wanted, progress: Tell = lambda _step: None) -> Environment:
    """Return the environment that is wanted, making it when it is not there; calling again is harmless.

    Args:
        connection: to the machine; facts: from ``survey``.
        want: which environment.
        progress: hears each step as it begins, goes on (at most twice a second) and ends.

    Raises:
        RequestError: JRM-B02, the wish contradicts itself.
        SiteError: JRM-B03 to JRM-B10: what is missing there, with the last lines of what failed.
        LinkError: the connection was lost; call again when it is back, and it goes on where it stopped.
    """
    return _Making(connection, facts, want, _steady(progress)).carry_out()


def prepare() -> None:
    """Pack what most machines will need, so that it is ready when a login is; for a thread that has time."""
    arch = os.uname().machine
    with contextlib.suppress(SiteError):  # whoever needs it will say so
        if not pack.portable(arch, (99, 0)):
            pack.base_part(arch)


def _steady(progress: Tell) -> Tell:
    """Pass steps on, but news of progress at most twice a second."""
    last = [0.0]

    def tell(step: Step) -> None:
        now = time.monotonic()
        if step.status == "progress" and now - last[0] < 0.5:
            return
        last[0] = now
        progress(step)

    return tell


class _Making:
    """One call of ``ensure``."""

    def __init__(self, connection: Runs, facts: SiteFacts, want: Wanted, tell: Tell) -> None:
        self._connection = connection
        self._facts = facts
        home = facts.home.rstrip("/")
        name = f"{home}/{want.name[2:]}" if want.name.startswith("~/") else want.name
        self._want = replace(want, mode=want.mode or "create", name=name)
        self._tell = tell
        self._work = Installing(connection, facts, tell)
        base = f"{home}/{want.base[2:]}" if want.base.startswith("~/") else want.base
        self._base = base or f"{home}/.jupyter_rm"
        self._env = f"{self._base}/env"

    def carry_out(self) -> Environment:
        """Run all steps; the one that fails is told before its error is raised."""
        self._tell(Step("environment", "start", -1, f"environment on {self._facts.host} ({self._want.mode})"))
        try:
            self._hooks("before", self._want.before)
            made = self._existing() if self._ready_made() else self._ours()
            self._work.finish()
            self._hooks("after", self._want.after)
        except JrmError as error:
            for name in (self._work.step, "environment"):
                if name:
                    self._tell(Step(name, "fail", -1, error.message))
            raise
        versions = f"jupyter_rm {made.versions.get('jupyter_rm', '?')}"
        self._tell(Step("environment", "ok", 100, f"{made.how}: {versions} with {made.python}"))
        return made

    def _ready_made(self) -> bool:
        return self._want.mode in ("use", "none") or self._want.source == "installed"

    def _hooks(self, name: str, commands: tuple[tuple[str, ...], ...]) -> None:
        for argv in commands:
            hook = argv[3] if argv[:2] == ("/bin/sh", "-ec") else f"{name}_env"
            self._work.begin(name, f"hook {hook}")
            done = self._connection.run(list(argv), timeout=HOOK_S, env={"JRM_ENV_BASE": self._base})
            if done.rc:
                raise SiteError(
                    f"{self._facts.host}: hook {hook} ended with exit code {done.rc}: {tail(done.err, done.out)}",
                    code="JRM-B09",
                    hint="mend or leave out the hook",
                )
            self._work.finish()

    # --- environments that others made

    def _existing(self) -> Environment:
        name = self._want.name
        if self._want.mode == "use":
            if not name.startswith("/"):
                return self._named(name)
            choices = [name, f"{name}/bin/python", f"{name}/bin/python3"]
        elif self._want.python or self._facts.linked:
            choices = [named(self._connection, self._facts, self._want.python) or self._facts.linked]
        else:
            choices = [path for path, version in self._facts.pythons if version[:2] >= OLDEST]
        self._work.begin("python", f"looking for jupyter_rm {jupyter_rm.__version__}")
        heard = []
        for python in choices:
            done = self._connection.run([python, "-c", text_of("verify.py")], timeout=VERIFY_S)
            if not done.rc:
                return self._welcome(python, json.loads(done.text.splitlines()[-1]))
            heard.append(f"{python}: {tail(done.err, done.out, most=300).splitlines()[-1]}")
        tried = "\n".join(heard) or found(self._facts)
        raise SiteError(
            f"{self._facts.host}: no environment with jupyter_rm {jupyter_rm.__version__}; tried {tried}",
            code="JRM-B07",
            hint="check the path, install jupyter_rm there, or let one be made: env_mode 'create'",
        )

    def _welcome(self, python: str, facts: dict[str, Any]) -> Environment:
        versions = facts["versions"]
        if versions["jupyter_rm"] != jupyter_rm.__version__ or not facts["start"]:
            raise self._skew(python, versions["jupyter_rm"])
        return Environment(python, facts["start"], "", "", "found", versions, _notes(facts["native"]))

    def _skew(self, where: str, version: str, more: str = "") -> SiteError:
        return SiteError(
            f"{self._facts.host}: {where} has jupyter_rm {version}, this is {jupyter_rm.__version__}{more}",
            code="JRM-B08",
            hint="use env_mode 'update' for a named environment of ours, install this version there, or use 'create'",
        )

    def _named(self, name: str) -> Environment:
        self._work.begin("python", f"looking at {self._env}/{name}")
        root, record = self._read(f"{self._env}/{name}")
        if not record:
            raise SiteError(
                f"{self._facts.host}: there is no environment {name!r} in {self._env}",
                code="JRM-B07",
                hint="make it with env_mode 'create', or name another one",
            )
        if record["versions"]["jupyter_rm"] != jupyter_rm.__version__:
            raise self._skew(f"environment {name!r}", record["versions"]["jupyter_rm"])
        return _made(root, record, "found")

    # --- our own

    def _read(self, root: str) -> tuple[str, dict[str, Any]]:
        """Return (real path, record) of an environment of ours; an empty record when there is none."""
        done = self._connection.run(["/bin/sh", "-c", _READ, "sh", root])
        path, _, text = done.out.decode("utf-8", "surrogateescape").partition("\n")
        with contextlib.suppress(ValueError):
            record = json.loads(text) if not done.rc else {}
            if isinstance(record, dict) and "key" in record:
                return path, record
        return root, {}

    def _ours(self) -> Environment:
        want = self._want
        if want.mode == "private" and not want.name:
            raise RequestError(
                "env: mode 'private' needs a place of its own", code="JRM-B02", hint="give the path of a new directory"
            )
        if want.mode == "local" and want.source != "staged":
            raise RequestError(
                f"env_source: mode 'local' unpacks what was sent from here; {want.source!r} sends nothing",
                code="JRM-B02",
                hint="leave source out, or use mode 'create'",
            )
        self._work.begin("python", "choosing an interpreter")
        if want.prefer == "staged":
            python, version, base = choose(self._connection, self._facts, self._want, self._tell)
            deps = None
        else:
            python, version = plain(self._connection, self._facts, want.python)
            deps = decided(self._connection, self._facts, python, version, want.prefer)
            base = deps.key
        said = f"; {deps}" if deps is not None else ""
        self._work.finish(f"{python} is Python {'.'.join(map(str, version))}{said}")
        tag = f"cp{version[0]}{version[1]}"
        own = pack.own(tag, self._facts.arch)
        content = [want.source, own.key, base, tag, self._facts.arch, python]
        digest = hashlib.sha256("\0".join(content).encode()).hexdigest()[:16]
        key = f"{jupyter_rm.__version__}-{tag}-{digest}"
        linked = want.name if want.mode != "private" else ""
        goal = f"{self._env}/{key}"
        if want.mode == "private":
            goal = want.name if want.name.startswith("/") else f"{self._env}/{want.name}"
        elif want.mode == "local":
            goal += ".local"
        if want.mode != "recreate":
            root, record = self._read(f"{self._env}/{linked}" if linked else goal)
            if record and record["key"] == key:
                return _made(root, record, "found")
            if linked and record and want.mode == "create":
                other = record["versions"]["jupyter_rm"]
                more = f" (made from {record['key']}, this is {key})" if other == jupyter_rm.__version__ else ""
                raise self._skew(f"environment {linked!r}", other, more)
        self._work.begin("pack", "packing what is sent")
        parts = [] if want.source == "index" else self._parts(own, version, deps)
        self._work.finish(", ".join(f"{part.file} {part.size >> 10} KiB" for part in parts))
        order = self._order(key, goal, linked, version, parts)
        if deps is not None:
            order["system"] = True
            order["record"]["deps"] = deps.told
        record, how = self._work.install(python, order, parts)
        return _made(goal, record, how)

    def _parts(self, own: pack.Own, version: Version, deps: Deps | None) -> list[pack.Part]:
        arch, libc = self._facts.arch, self._facts.libc
        if deps is not None:
            return [*deps.parts(), pack.own_part(own)]
        if version[1] == sys.version_info[1] and not pack.portable(arch, glibc_of(libc)):
            base = pack.base_part(arch)
        else:
            base = wheels.base_part(own.tag, arch, libc)
        return [base, pack.own_part(own)]

    def _order(self, key: str, goal: str, linked: str, version: Version, parts: list[pack.Part]) -> dict[str, Any]:
        want = self._want
        versions = {name: value for part in parts for name, value in part.versions.items()}
        pip = []
        if want.source == "index":
            needs = ["jupyter_rm==" + jupyter_rm.__version__]
            pip = ["install", "--no-input", "--disable-pip-version-check", "--no-cache-dir", *needs]
        return {
            "base": self._base,
            "env": self._env,
            "cache": f"{self._base}/cache",
            "goal": goal,
            "key": key,
            "name": linked,
            "anew": want.mode == "recreate",
            "local": want.mode == "local",
            "alone": False,
            "tmp": self._facts.tmp,
            "lib": f"python{version[0]}.{version[1]}",
            "version": ".".join(map(str, version)),
            "pip": pip,
            "parts": [{"file": part.file, "size": part.size, "unpacked": part.unpacked} for part in parts],
            "record": {"key": key, "mode": want.mode, "source": want.source, "versions": versions},
            "texts": {name: text_of(name) for name in ("start.py", "verify.py", "install.py")},
        }


def _made(root: str, record: dict[str, Any], how: str) -> Environment:
    return Environment(
        f"{root}/bin/isolated",
        f"{root}/start.py",
        root,
        record["key"],
        how,
        record["versions"],
        _notes(record.get("native", {})),
        record.get("deps", {}),
    )


def _notes(native: dict[str, str]) -> tuple[str, ...]:
    return tuple(f"{text} ({native[name]})" for name, text in _NATIVE.items() if native.get(name))
