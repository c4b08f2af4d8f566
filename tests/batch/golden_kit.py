"""Job shapes and the command lines they become, on every system; ``python golden_kit.py`` writes the page anew."""

from __future__ import annotations

from pathlib import Path

from jupyter_rm.batch import known, load
from jupyter_rm.model.errors import RequestError

PAGE = Path(__file__).resolve().parent / "golden.txt"
TOKEN = "jrm0a1b2c3d"
FILES = {"token": TOKEN, "script": "/home/alice/.jrm/batch.sh", "spec": "/home/alice/.jrm/p.0/spec"}
SHAPES: dict[str, dict[str, object]] = {
    "smallest": {"walltime": "10m"},
    "two nodes": {
        "name": "relax",
        "nodes": 2,
        "cores_per_node": 4,
        "queue": "batch",
        "project": "abc",
        "walltime": "1h30m",
    },
    "gpus": {
        "name": "train",
        "nodes": 1,
        "cores_per_node": 16,
        "gpus_per_node": 4,
        "mem_per_node": "64GiB",
        "walltime": "2d",
        "queue": "gpu",
    },
    "whole nodes": {"nodes": 16, "exclusive": True, "walltime": 3600, "qos": "high", "reservation": "R12"},
    "files": {
        "nodes": 1,
        "walltime": "30m",
        "workdir": "/scratch/a b/it's",
        "stdout": "/scratch/out.txt",
        "stderr": "/scratch/err.txt",
        "hold": True,
    },
    "own script": {"name": "mine", "walltime": "5m", "script": "/home/alice/my job.sh", "spec": None},
    "again": {"name": "again", "requeue": True, "walltime": "5m"},
}


def page() -> str:
    """Return the command line, or the refusal, of every shape on every system, and every other operation."""
    out = ["# Written by golden_kit.py; read what changes before you keep it."]
    for name in sorted(known()):
        if name == "base":
            continue
        system = load(name)
        out.append(f"\n== {name}")
        for shape, values in SHAPES.items():
            out.append(f"submit, {shape}: {_line(system, 'submit', {**FILES, **values})}")
        ids = {"htcondor": ["12.0", "13.0"], "local": ["12.34.0abc", "13.35.0abc"]}.get(name, ["12", "13"])
        for op in system.ops:
            if op != "submit":
                most = ids[: system.most_ids(op)]
                out.append(f"{op}: {_line(system, op, {'ids': most, 'user': 'alice', 'token': TOKEN})}")
    return "\n".join(out) + "\n"


def _line(system: object, op: str, values: dict[str, object]) -> str:
    try:
        command = system.render(op, values)  # type: ignore[attr-defined]
    except RequestError as error:
        return f"REFUSED {error.message}"
    line = command.line()
    if "\n" in line:  # the constant texts of `local`
        line = " ".join("CONSTANT" if "\n" in word else word for word in command.argv)
    return line + (f"  <<< {len(command.stdin)} constant bytes" if command.stdin else "")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
