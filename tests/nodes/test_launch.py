"""Launch methods: every command line, byte for byte, in ``launch.golden``; and which method is chosen where.

After a change that is meant: ``JRM_GOLDEN=write pytest tests/nodes/test_launch.py``, then read the difference.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from jupyter_rm.agent.launch import METHODS, Rank, agents_lines, choose, for_agents, for_ranks, ranks_line
from jupyter_rm.model.errors import RequestError

GOLDEN = Path(__file__).parent / "launch.golden"
SHAPES: dict[str, list[Rank]] = {
    "one": [Rank("n1", (0, 1), (), 0)],
    "node": [Rank("n1", (rank,), (), 0) for rank in range(4)],
    "even": [Rank(f"n{1 + rank // 2}", (2 * (rank % 2), 2 * (rank % 2) + 1), (), rank // 2) for rank in range(4)],
    "uneven": [Rank("n1", (rank,), (), 0) for rank in range(3)] + [Rank("n3", (0,), (), 2)],
    "gpus": [Rank("n1", (0, 1, 2, 3), (0, 1), 0), Rank("n2", (0, 1, 2, 3), (2, 3), 1)],
    "in turn": [Rank("n1", (0,), (), 0), Rank("n2", (0,), (), 1), Rank("n1", (1,), (), 0), Rank("n2", (1,), (), 1)],
}
ARGV = ["/opt/a b/sim", "--x=$HOME;'\"\n", ""]


def rendered() -> str:
    out = []
    for name, method in METHODS.items():
        program = f"/bin/{method.programs[0]}" if method.programs else ""
        for shape, ranks in SHAPES.items():
            try:
                line = ranks_line(
                    method,
                    ranks,
                    ARGV,
                    program=program,
                    exports=["A", "PATH"],
                    file="/tmp/f",
                    pmi="pmi2" if name == "srun" else "",
                    first=4,
                    root=shape == "node",
                )
            except RequestError as error:
                out.append(f"{name} / {shape}: {error.message}")
                continue
            out.append(f"{name} / {shape}: {shlex.join(line.argv)}")
            out += [f"    {key}={value}" for key, value in line.env.items()]
            out += [f"    | {row}" for row in line.file.splitlines()]
        for line, hosts in (
            agents_lines(method, [("n2", 4), ("n3", 8)], ["py", "SPEC"], program=program) if method.agents else ()
        ):
            out.append(f"{name} / agents on {','.join(hosts)}: {shlex.join(line.argv)}")
    return "\n".join(out) + "\n"


def test_every_command_line_is_as_it_was() -> None:
    said = rendered()
    if os.environ.get("JRM_GOLDEN") == "write":
        GOLDEN.write_text(said)
    assert said == GOLDEN.read_text()


def test_what_goes_through_a_remote_shell_arrives_as_it_was(tmp_path: Path) -> None:
    argv = ["printf", "%s|", "a b", "$HOME", "`id`", "x;y", "'", '"', "*", "line\nbreak", ""]
    for method, ranks in (("ssh", [Rank("n1")]),):
        line = ranks_line(METHODS[method], ranks, argv, program="ssh").argv[-1]
        done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, check=True, text=True)
        assert done.stdout == "".join(f"{word}|" for word in argv[2:])


def tools(folder: Path, *names: str) -> str:
    folder.mkdir()
    for name in names:
        (folder / name).write_text("#!/bin/sh\necho none pmi2 pmix\n")
        (folder / name).chmod(0o755)
    return str(folder)


def test_the_launcher_speaks_the_dialect_of_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = ["srun", "mpirun", "mpiexec", "ssh", "fork"]
    job = {"SLURM_JOB_ID": "1"}
    mpich = tools(tmp_path / "mpich", "mpiexec.hydra", "mpiexec", "srun")
    ompi = tools(tmp_path / "ompi", "mpirun", "ompi_info", "srun")
    bare = tools(tmp_path / "bare", "srun")

    def chosen(path: str, nodes: int, wanted: str = "", pmi: str = "") -> tuple[str, str] | None:
        found = for_ranks(wanted, slurm, path, {**job, "PATH": path}, nodes, pmi)
        return (found.method.name, found.pmi) if found else None

    assert chosen(mpich, 2) == ("srun", "pmi2")
    assert chosen(ompi, 2) == ("srun", "pmix")
    assert chosen(bare, 2) == ("srun", "")  # the site's own choice
    assert chosen(mpich, 2, pmi="cray_shasta") == ("srun", "")  # the user's, in SLURM_MPI_TYPE
    assert chosen(mpich, 1) == ("mpiexec", "") and chosen(ompi, 1) == ("mpirun", "")
    assert chosen(mpich, 2, "mpiexec") == ("mpiexec", "") and chosen(ompi, 2, "mpiexec") is None
    # An srun without that dialect is not used: every rank would be a world of its own.
    choose._kinds.cache_clear()
    monkeypatch.setattr(choose, "_kinds", lambda srun: frozenset({"none", "pmix"}))
    assert chosen(mpich, 2) == ("mpiexec", "")
    assert for_ranks("", slurm, str(tmp_path), job, 2) is None
    assert for_agents("", slurm, {**job, "PATH": bare}).method.name == "srun"
    assert (
        for_agents(
            "", ["mpirun", "ssh"], {"PATH": tools(tmp_path / "sge", "qrsh", "ssh"), "PE_HOSTFILE": "x"}
        ).method.name
        == "qrsh"
    )
    with pytest.raises(RequestError, match="no way to start processes"):
        for_agents("", slurm, {"PATH": str(tmp_path)})
    with pytest.raises(RequestError, match="no method"):
        for_agents("teleport", slurm, {"PATH": bare})
