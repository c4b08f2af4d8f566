"""Facts of a pilot as its agent finds them: what its own node is, and the answers to the site's probes.

What the login machine told before comes with the spec. All of it goes to the broker with the agent's greeting, and into
the texts of tasks that name it (:mod:`jupyter_rm.model.late`). A probe that fails is left out and said in the log.
Knows processes and the machine. Read next: :mod:`jupyter_rm.batch.probes`.
"""

from __future__ import annotations

import getpass
import logging
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .. import __version__
from ..batch import probes
from ..model.late import Value
from ..model.resources import Node

log = logging.getLogger("jupyter_rm.agent")


def gathered(spec: Mapping[str, Any], node: Node, environ: Mapping[str, str]) -> dict[str, Value]:
    """Return all facts of a pilot.

    Args:
        spec: as the broker wrote it: ``facts`` known before, ``probes`` of the site. node: the agent's own.
        environ: what probes start from.
    """
    known: dict[str, Value] = {str(name): value for name, value in (spec.get("facts") or {}).items()}
    known |= {
        "host": node.name,
        "user": _user(),
        "system": platform.system(),
        "arch": platform.machine(),
        "python": os.path.realpath(sys.executable),
        "python_version": platform.python_version(),
        "jupyter_rm": __version__,
        "cores": node.cores,
        "gpus": node.gpus,
        "mem_mib": node.mem,
        "tmp": tempfile.gettempdir(),
        "sandbox": str(spec.get("sandbox", "")),
    }
    if names := sorted(name for name in spec.get("envs") or {} if name):
        known["envs"] = tuple(names)
    asked = probes.chosen(spec.get("probes") or {}, probes.NODE)
    if asked:
        with ThreadPoolExecutor(min(8, len(asked)), "probe") as pool:
            for name, value in zip(asked, pool.map(lambda probe: _run(probe, environ), asked.values()), strict=True):
                if isinstance(value, Exception):
                    log.warning("probe %s: %s", name, value)
                else:
                    known[name] = value
    return dict(list(known.items())[: probes.MOST])


def _run(probe: Mapping[str, Any], environ: Mapping[str, str]) -> Value | Exception:
    limit = float(probe.get("timeout_s", probes.TIMEOUT_S))
    try:
        done = subprocess.run(
            probes.argv_of(probe),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit,
            env=dict(environ),
            check=False,
            cwd="/",
        )
        if done.returncode:
            last = done.stderr.decode("utf-8", "replace").strip()[-300:]
            return ValueError(f"exit code {done.returncode}: {last}")
        return probes.value_of(probe, done.stdout.decode("utf-8", "replace"))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return error


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
