"""Which launch method can be used here, and which should.

For ranks that talk through MPI the launcher must speak the dialect of the library the program is linked with, and the
launcher that lies on the task's PATH tells which one that is. srun starts ranks faster across nodes, but only when it
speaks that dialect: with the wrong one every rank of an MPICH program becomes a world of its own, silently. Asks srun
once which kinds it has, and tries the one that is needed. Read next: :mod:`.methods`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ...model.errors import RequestError
from .methods import METHODS, Method

# What a site's list lacks because it is no way to start ranks; tried before ssh, each only inside its own system.
_NATIVE = ("qrsh", "pbsdsh", "blaunch")
_ASK_SECONDS, _TRY_SECONDS = 5.0, 20.0


@dataclass(frozen=True, slots=True)
class Chosen:
    """A method with its program, and for srun how the ranks meet ('' as the site has it)."""

    method: Method
    program: str
    pmi: str = ""


def named(name: str) -> Method:
    """Return a method by name; RequestError JRM-Q81 when there is none."""
    if name not in METHODS:
        raise RequestError(f"launch: there is no method {name!r}", hint=f"known: {', '.join(METHODS)}", code="JRM-Q81")
    return METHODS[name]


def program_of(method: Method, path: str) -> str | None:
    """Return the path of a method's program, '' when it needs none, None when it is not there."""
    if not method.programs:
        return ""
    for name in method.programs:
        file = shutil.which(name, path=path)
        if file is not None and method.name in ("mpirun", "mpiexec"):
            found = launcher_on(path)
            if found is None or found[1] != (method.name == "mpirun"):
                return None
            return found[0]
        if file is not None:
            return file
    return None


def for_agents(wanted: str, site: Sequence[str], environ: Mapping[str, str]) -> Chosen:
    """Return the method that starts node agents: the one that was asked for, else the site's best that is here.

    What was asked for may be a way to start ranks only, or be on the PATH of tasks only: then it stays for those.

    Raises:
        RequestError: JRM-Q81, none can be used; the message says what was looked for.
    """
    path = environ.get("PATH", "")
    named(wanted or "fork")
    names = [*filter(None, [wanted]), *(name for name in site if name == "srun"), *_NATIVE, *site, "ssh"]
    for name in dict.fromkeys(names):
        method = named(name)
        program = program_of(method, path)
        here = not method.within or bool(environ.get(method.within))
        # Copies on this machine are no other nodes: only who asks for that gets it.
        if method.agents and program is not None and here and (name != "fork" or wanted == name):
            return Chosen(method, program)
    raise RequestError(
        f"launch: no way to start processes on the other nodes; tried {', '.join(dict.fromkeys(names))}",
        hint="load the module that has the launcher in the site file, or allow ssh between the nodes",
        code="JRM-Q81",
    )


def for_ranks(
    wanted: str, site: Sequence[str], path: str, environ: Mapping[str, str], nodes: int, pmi: str = ""
) -> Chosen | None:
    """Return the method for the ranks of one MPI task on ``nodes`` nodes; None when there is no launcher.

    Args:
        wanted: a method's name ('': choose); site: methods of the site, best first; path: PATH of the task.
        environ: of the job; pmi: what the user chose for srun (SLURM_MPI_TYPE), which srun then finds by itself.
    """
    found = launcher_on(path)
    library = [Chosen(METHODS["mpirun" if found[1] else "mpiexec"], found[0])] if found else []
    if wanted and wanted not in ("fork", "ssh"):
        method = named(wanted)
        program = program_of(method, path)
        if program is None:
            return None
        return Chosen(method, program, _meeting(found, program) if wanted == "srun" and not pmi else "")
    if nodes <= 1 and library:
        return library[0]  # no need to ask the batch system for what stays on this node
    for name in site:
        if name not in METHODS or not METHODS[name].ranks or name in ("fork", "ssh", "mpirun", "mpiexec"):
            continue
        method = METHODS[name]
        program = program_of(method, path) or program_of(method, environ.get("PATH", ""))
        if program is None or (method.within and not environ.get(method.within)):
            continue
        kind = _meeting(found, program) if name == "srun" and not pmi else ""
        if name != "srun" or not found or pmi or kind:
            return Chosen(method, program, kind)
    return library[0] if library else None


def _meeting(found: tuple[str, bool] | None, srun: str) -> str:
    """Return the kind of PMI that suits the launcher that lies on PATH and that srun has, '' if none."""
    if found is None:
        return ""
    kind = "pmix" if found[1] else "pmi2"
    return kind if kind in _kinds(srun) and _works(srun, kind) else ""


@lru_cache(maxsize=8)
def _works(srun: str, kind: str) -> bool:
    """Say whether srun can use a kind that it lists: its library may be missing."""
    argv = [srun, "--overlap", "--nodes=1", "--ntasks=1", "--mem=0", "--cpu-bind=none", f"--mpi={kind}", "true"]
    try:
        return not subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_TRY_SECONDS,
            check=False,
        ).returncode
    except (OSError, subprocess.SubprocessError):
        return False


@lru_cache(maxsize=8)
def _kinds(srun: str) -> frozenset[str]:
    try:
        done = subprocess.run(
            [srun, "--mpi=list"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ASK_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return frozenset()
    return frozenset((done.stdout + done.stderr).replace(",", " ").split())


def launcher_on(path: str) -> tuple[str, bool] | None:
    """Return (program, is it Open MPI's) of the MPI launcher on ``path``, None if there is none.

    The first directory that has one counts, whatever it is called there. They are told apart by the files they lead to
    and lie beside, without running them.
    """
    names = ("mpirun", "mpiexec", "mpiexec.hydra", "mpirun.openmpi", "orterun")
    for file in (shutil.which(name, path=folder) for folder in path.split(os.pathsep) for name in names):
        if file is None:
            continue
        real = Path(file).resolve()
        if "hydra" in real.name or "mpich" in real.name:
            return file, False
        if real.name.split(".")[0] in ("orterun", "prterun") or "openmpi" in real.name:
            return file, True
        beside = [Path(file).parent, real.parent]
        if any((folder / "ompi_info").exists() for folder in beside):
            return file, True
        if any((folder / "mpiexec.hydra").exists() for folder in beside):
            return file, False
    return None
