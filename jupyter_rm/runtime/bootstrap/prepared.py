"""Environments of tasks: made on another machine from wheels that are sent there; it needs no index, pip or compiler.

They lie in ``envs/`` beside those of agents, each under a name for its content, with links for the names that people
give; the wheels are in the account's cache under their SHA-256. The lock stands in the environment's record.

Knows: locks, and the order to the install program. Does not know: who resolves a list. Read next: ``lock.py``,
``installing.py``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

import jupyter_rm
from jupyter_rm.model.describe import PREPARED
from jupyter_rm.runtime.bootstrap import pack
from jupyter_rm.runtime.bootstrap.choose import plain
from jupyter_rm.runtime.bootstrap.installing import Installing
from jupyter_rm.runtime.bootstrap.lock import Python, Wheel, lines
from jupyter_rm.runtime.bootstrap.survey import SiteFacts
from jupyter_rm.runtime.bootstrap.talk import Runs, Tell


def interpreter(connection: Runs, facts: SiteFacts, python: str) -> Python:
    """Return the interpreter for environments of tasks: the one named, else linked, else of the version of here.

    Raises:
        SiteError: JRM-B04, there is none.
    """
    path, version = plain(connection, facts, python)
    return Python(path, version, facts.arch, facts.libc)


def install(
    connection: Runs,
    facts: SiteFacts,
    base: str,
    name: str,
    python: Python,
    lock: Sequence[Wheel],
    pip: Wheel,
    tell: Tell = lambda _step: None,
) -> dict[str, Any]:
    """Make an environment from a lock unless it is there, and lead its name to it; calling again is harmless.

    Args:
        base: directory there, ``~/.jupyter_rm`` when empty; name: what tasks will call it.
        lock, pip: wheels in the cache of this machine.

    Returns:
        Its record, with ``path``, ``how`` (``made`` or ``found``) and ``sent`` (bytes).

    Raises:
        SiteError: JRM-B06, JRM-B09 or JRM-B10. LinkError: call again, and it goes on where it stopped.
    """
    home = facts.home.rstrip("/")
    base = f"{home}/{base[2:]}" if base.startswith("~/") else base or f"{home}/.jupyter_rm"
    content = [python.path, *map(str, python.version), python.arch, *sorted(wheel.sha256 for wheel in lock)]
    digest = hashlib.sha256("\0".join(content).encode()).hexdigest()[:20]
    key = f"{python.tag}-{digest}"
    parts = [
        pack.Part(wheel.sha256, wheel.path, wheel.size, wheel.unpacked, {wheel.name: wheel.version})
        for wheel in {wheel.sha256: wheel for wheel in (*lock, pip)}.values()
    ]
    path = f"{base}/{PREPARED}/{key}"
    order = {
        "base": base,
        "env": f"{base}/{PREPARED}",
        "cache": f"{base}/cache",
        "goal": path,
        "key": key,
        "name": name,
        "anew": False,
        "local": False,
        "alone": False,
        "lib": f"python{python.version[0]}.{python.version[1]}",
        "version": ".".join(map(str, python.version)),
        "pip": [],
        "wheels": [{"file": wheel.file, "sha256": wheel.sha256} for wheel in lock],
        "installer": pip.sha256,
        "lock": lines(lock),
        "parts": [{"file": part.file, "size": part.size, "unpacked": part.unpacked} for part in parts],
        "record": {
            "key": key,
            "made_by": f"jupyter_rm {jupyter_rm.__version__}",
            "versions": {wheel.name: wheel.version for wheel in lock},
            "lock": msgspec.to_builtins(list(lock)),
            "python": python.path,
            "python_version": ".".join(map(str, python.version)),
        },
    }
    work = Installing(connection, facts, tell)
    record, how = work.install(python.path, order, parts)
    work.finish()
    return {**record, "path": path, "how": how, "sent": work.sent, "host": facts.host}
