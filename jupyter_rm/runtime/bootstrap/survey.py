"""What a machine at the other end of a connection is like: one command, one round trip, constant text.

Knows: which facts a bootstrap and a batch system need. Does not know: what is done with them. Read next:
``target/survey.sh`` (what runs there), ``ensure.py`` (who uses it).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jupyter_rm.batch import recognised_by
from jupyter_rm.model.errors import SiteError
from jupyter_rm.runtime.bootstrap.talk import Runs, tail

SCRIPT = Path(__file__).parent / "target" / "survey.sh"
# Beside what tells batch systems apart: ways to start processes on other nodes.
LAUNCHERS = ("srun", "mpirun", "mpiexec", "prte", "prterun", "prun", "flux", "jsrun", "aprun", "ibrun", "ssh")
SURVEY_S = 60.0

Version = tuple[int, int, int]


@dataclass(frozen=True)
class SiteFacts:
    """What a survey found; zero, empty or None where the machine did not say.

    Attributes:
        host, user, uid, home, shell: the account as it is there.
        system: ``Linux``, ``Darwin``.
        pythons: (path, version) of each CPython of 64 bits, in the order of the search path; virtual environments are
            named by the interpreter below them.
        commands: path of each command that was looked for and found.
        path: directories in which commands are found: those of a command over SSH, then those of a login shell.
        arch: as ``uname -m`` says it; ``libc``: ``glibc 2.36`` or ``musl 1.2.3``.
        utc_offset_s: seconds that local time is ahead of UTC.
        cores, mem_mib: of the login machine itself.
        tmp: directory for temporary files; free_mib: room in the home directory; quota: what ``quota`` printed.
        writable: whether a file could be made in the home directory.
        linked: the interpreter that somebody linked as ``~/.jupyter_rm/python`` to be used before all others.
    """

    host: str
    user: str
    uid: int
    home: str
    shell: str
    pythons: tuple[tuple[str, Version], ...] = ()
    commands: Mapping[str, str] = field(default_factory=dict)
    path: str = ""
    arch: str = ""
    libc: str = ""
    utc_offset_s: int = 0
    cores: int = 0
    mem_mib: int = 0
    tmp: str = "/tmp"  # noqa: S108 (what the machine itself says when it sets nothing)
    free_mib: int = 0
    quota: str = ""
    writable: bool = True
    system: str = "Linux"
    linked: str = ""


def survey(connection: Runs) -> SiteFacts:
    """Return the facts of the machine at the other end, in one round trip.

    Raises:
        SiteError: JRM-B01, the machine does not run a plain POSIX shell script to its end.
        LinkError: the connection was lost.
    """
    names = sorted({*recognised_by(), *LAUNCHERS})
    done = connection.run(["/bin/sh", "-c", SCRIPT.read_text("utf-8"), "sh", *names], timeout=SURVEY_S)
    facts = read(done.out.decode("utf-8", "replace"))
    if facts is None:
        raise SiteError(
            f"{connection.name}: the survey stopped with exit code {done.rc}: {tail(done.err, done.out)}",
            code="JRM-B01",
            hint="log in there by hand: does `/bin/sh -c 'uname -a'` work, and does the login print or ask anything?",
        )
    return facts


def read(text: str) -> SiteFacts | None:
    """Return the facts in the output of ``survey.sh``, None when its end is missing."""
    said: dict[str, str] = {}
    commands: dict[str, str] = {}
    pythons: dict[str, Version] = {}
    for line in text.splitlines():
        name, *values = line.split("\t")
        if name == "command" and len(values) == 2:
            commands[values[0]] = values[1]
        elif name == "python" and len(values) == 3:
            version = tuple(int(part) for part in values[1].split(".") if part.isdigit())
            if values[2] == "cpython" and len(version) == 3:
                pythons.setdefault(values[0], version)
        elif len(values) == 1:
            said[name] = values[0].strip()
    if "end" not in said or "home" not in said:
        return None
    return SiteFacts(
        host=said.get("host", ""),
        user=said.get("user", ""),
        uid=_number(said.get("uid", "")),
        home=said["home"].rstrip("/") or "/",
        shell=said.get("shell", ""),
        pythons=tuple(pythons.items()),
        commands=commands,
        path=":".join(dict.fromkeys(part for part in said.get("path", "").split(":") if part)),
        arch=said.get("arch", ""),
        libc=said.get("libc", ""),
        utc_offset_s=_offset(said.get("offset", "")),
        cores=_number(said.get("cores", "")),
        mem_mib=_number(said.get("mem_kib", "")) >> 10,
        tmp=said.get("tmp", "") or "/tmp",  # noqa: S108
        free_mib=_number(said.get("free_kib", "")) >> 10,
        quota=said.get("quota", "").replace(";", "\n").strip(),
        writable=said.get("writable") == "yes",
        system=said.get("system", "Linux"),
        linked=said.get("linked", ""),
    )


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _offset(text: str) -> int:
    """Return the seconds in ``+0130``."""
    if len(text) != 5 or not text[1:].isdigit():
        return 0
    seconds = int(text[1:3]) * 3600 + int(text[3:]) * 60
    return -seconds if text[0] == "-" else seconds
