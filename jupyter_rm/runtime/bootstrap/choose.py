"""Which interpreter of a machine an environment is made with: the linked one, the version of here, or the nearest.

Knows: what a survey found, and for which interpreters packages can be had. Does not know: how anything gets there. Read
next: ``pack.py``, ``wheels.py``, ``ensure.py``.
"""

from __future__ import annotations

import sys

from jupyter_rm.model.errors import SiteError
from jupyter_rm.runtime.bootstrap import pack, wheels
from jupyter_rm.runtime.bootstrap.survey import SiteFacts, Version
from jupyter_rm.runtime.bootstrap.talk import Runs, Step, Tell, Wanted, tail

OLDEST = (3, 10)
LINE_S = 60.0
_MARK = "jrm-python:"
_LOGIN_SHELLS = ("bash", "zsh", "ksh", "dash", "ash", "sh")
# Constant texts; the name, or the line that a person gave to be run, is their first argument.
_FIND = f'PATH=$2:$PATH; printf "\\n{_MARK}%s\\n" "$(command -v "$1")"'
_BRING = f'eval "$1" >&2 || exit $?; printf "\\n{_MARK}%s\\n" "$(command -v python3 || command -v python)"'
Interpreter = tuple[str, Version]


def choose(connection: Runs, facts: SiteFacts, want: Wanted, tell: Tell) -> tuple[str, Version, str]:
    """Return (interpreter there, its version, hash of the packages of others for it).

    The same minor version as here comes first, then the nearest; the first for which there are packages is taken.

    Raises:
        SiteError: JRM-B04, no interpreter will do; JRM-B05, there are no packages for any.
    """
    usable = _usable(connection, facts, want.python)
    if want.source == "index":
        return (*_nearest(usable)[0], "index")
    here = sys.version_info[1]
    why = pack.portable(facts.arch, glibc_of(facts.libc))
    if not why:
        for path, version in usable:
            if version[1] == here:
                return path, version, pack.base_key()
    why = why or f"no Python 3.{here}"
    refused: list[str] = []
    for path, version in _nearest(usable):
        tell(Step("python", "progress", -1, f"{why}: looking for packages for {path}"))
        try:
            return path, version, wheels.base_key(f"cp{version[0]}{version[1]}", facts.arch, facts.libc)
        except SiteError as error:
            refused.append(f"{path}: {error.message}")
    raise SiteError(
        f"{facts.host}: no packages for any Python there ({why}); found: {found(facts)}; " + "; ".join(refused),
        code="JRM-B05",
        hint=f"install Python 3.{here} there, let this machine reach a package index, or use source 'index'",
    )


def plain(connection: Runs, facts: SiteFacts, python: str) -> Interpreter:
    """Return an interpreter that needs no packages of ours: the one named, else linked, else nearest to this one.

    Raises:
        SiteError: JRM-B04, no interpreter will do.
    """
    return _nearest(_usable(connection, facts, python))[0]


def _usable(connection: Runs, facts: SiteFacts, python: str) -> list[Interpreter]:
    usable = [(path, version) for path, version in facts.pythons if version[:2] >= OLDEST]
    if chosen := named(connection, facts, python) or facts.linked:
        usable = [(path, version) for path, version in usable if path == chosen] or [_asked(connection, facts, chosen)]
    if not usable:
        raise SiteError(
            f"{facts.host}: no Python 3.10 or later; found: {found(facts)}",
            code="JRM-B04",
            hint="install one there (conda, uv and pyenv need no administrator); on no path? ln -s it to "
            "~/.jupyter_rm/python",
        )
    return usable


def named(connection: Runs, facts: SiteFacts, text: str) -> str:
    """Return the path of the interpreter that a person named: a path, a command, or a line that brings one.

    Raises:
        SiteError: JRM-B04, there is none.
    """
    if text.startswith("~/"):
        return f"{facts.home.rstrip('/')}/{text[2:]}"
    if not text or text.startswith("/"):
        return text
    if " " in text:
        shell = facts.shell if facts.shell.rpartition("/")[2] in _LOGIN_SHELLS else "/bin/sh"
        done = connection.run([shell, "-l", "-c", _BRING, "sh", text], timeout=LINE_S)
    else:
        done = connection.run(["/bin/sh", "-c", _FIND, "sh", text, facts.path], timeout=LINE_S)
    path = done.text.rpartition(_MARK)[2].strip()
    if done.rc or not path.startswith("/"):
        raise SiteError(
            f"{facts.host}: python {text!r} leads to no interpreter there (exit code {done.rc}): {tail(done.err)}",
            code="JRM-B04",
            hint=f"try it there in a login shell; found there: {found(facts)}",
        )
    return path


def found(facts: SiteFacts) -> str:
    """Return the interpreters that a survey found, for people."""
    return ", ".join(f"{path} ({'.'.join(map(str, version))})" for path, version in facts.pythons) or "no Python 3"


def _nearest(usable: list[Interpreter]) -> list[Interpreter]:
    here = sys.version_info[1]
    return sorted(usable, key=lambda one: (abs(one[1][1] - here), -one[1][1]))


def _asked(connection: Runs, facts: SiteFacts, python: str) -> Interpreter:
    """Return an interpreter that the survey has not seen, with its version."""
    done = connection.run([python, "-I", "-S", "-c", "import sys; print(*sys.version_info[:3])"])
    words = done.text.split()
    version = tuple(int(word) for word in words if word.isdigit())
    hint = f"found there: {found(facts)}"
    if done.rc in (126, 127):  # so say shells
        what = "is not there" if done.rc == 127 else "may not be executed"
        raise SiteError(f"{facts.host}: {python} {what}", code="JRM-B04", hint=hint)
    if done.rc or len(version) != 3:
        said = tail(done.err, done.out, most=300)
        raise SiteError(f"{facts.host}: {python} is not a Python: {said}", code="JRM-B04", hint=hint)
    if version[:2] < OLDEST:
        raise SiteError(
            f"{facts.host}: {python} is Python {'.'.join(words)}; 3.10 or later is needed", code="JRM-B04", hint=hint
        )
    return python, version


def glibc_of(libc: str) -> tuple[int, int]:
    """Return (2, 36) of ``glibc 2.36``, (0, 0) of another C library."""
    name, _, version = libc.partition(" ")
    parts = version.split(".")
    return (int(parts[0]), int(parts[1])) if name == "glibc" and len(parts) > 1 and parts[1].isdigit() else (0, 0)
