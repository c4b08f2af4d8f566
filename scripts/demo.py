"""Run an example notebook for real and say what came of it: ``make demo``.

Knows notebooks and a kernel; knows nothing of what the notebook does. The notebook works in a state directory of its
own (``out/home``); sessions, pilots and broker that it leaves there are ended, so a demo leaves nothing running and
does not touch a person's own sessions. Left behind on purpose, in ``out/``: the executed notebook, and it as a page.

Read next: ``examples/01-first-ensemble.ipynb``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DEFAULT = ROOT / "examples" / "01-first-ensemble.ipynb"
BEGAN = time.monotonic()
OVER = ("DONE", "FAILED", "CANCELED")
ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


def last_text(cells: list[Any]) -> str:
    """Return the last plain text a notebook printed or showed; empty when it showed none."""
    for cell in reversed(cells):
        for output in reversed(cell.get("outputs", [])):
            text = output.get("text") if output.output_type == "stream" else output.get("data", {}).get("text/plain")
            if text and text.strip():
                return ANSI.sub("", text).strip()
    return ""


def seconds(cell: Any) -> float:
    """Return how long the kernel was busy with a cell, in seconds; 0 when it was not run."""
    from datetime import datetime

    times = cell.metadata.get("execution", {})
    first, last = times.get("iopub.execute_input"), times.get("shell.execute_reply")
    if not first or not last:
        return 0.0
    parse = datetime.fromisoformat
    return (parse(last.replace("Z", "+00:00")) - parse(first.replace("Z", "+00:00"))).total_seconds()


def jrm(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line of this environment."""
    command = [sys.executable, "-m", "jupyter_rm", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)


def clear_away(home: Path, patience: float = 20.0) -> str:
    """End what the notebook left open in ``home``: its sessions, their pilots, the broker.

    Args:
        home: the demo's own state directory. patience: seconds the pilots may take to end.

    Returns:
        A complaint, or nothing.
    """
    if not home.exists():
        return ""
    deadline = time.monotonic() + patience
    closed: set[str] = set()
    while True:
        done = jrm("sessions", "--json")
        if done.returncode != 0:
            return f"the sessions could not be listed: {(done.stderr or done.stdout).strip()}"
        lines = json.loads(done.stdout or "[]")
        for line in lines:
            if line["state"] == "open" and line["name"] not in closed:
                closed.add(line["name"])
                jrm("close", line["name"])
        alive = [uid for line in lines for uid, _, state in line["pilots"] if state not in OVER]
        # A pilot is over when its agent says so; the agent's process needs a moment more.
        if not alive and not (json.loads(jrm("broker", "status", "--json").stdout or "null") or {}).get("agents"):
            break
        if time.monotonic() > deadline:
            names = ", ".join(alive) or "an agent"
            return f"still there after {patience:.0f} s: {names}; see: JUPYTER_RM_HOME={home} jrm sessions"
        time.sleep(0.2)
    done = jrm("broker", "stop")
    return "" if done.returncode == 0 else f"the broker could not be stopped: {(done.stderr or done.stdout).strip()}"


def run(path: Path, out: Path, limit: float) -> int:
    """Execute the notebook at ``path``, keep the result in ``out``; return 0 only when no cell failed.

    Args:
        path: the notebook.
        out: directory for the executed copy (made if missing).
        limit: seconds any one cell may take.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    notebook: Any = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    print(f"[demo] running {path.name}: {len(code)} code cells", flush=True)
    shown = iter(range(1, len(code) + 1))

    def announce(cell: Any, cell_index: int) -> None:  # noqa: ARG001  (nbclient passes both by name)
        if cell.cell_type == "code" and cell.source.strip():
            first = next((line for line in cell.source.splitlines() if line.strip()), "")
            print(f"[demo]   {next(shown)}/{len(code)}  {first.strip()[:90]}", flush=True)

    client = NotebookClient(
        notebook,
        timeout=limit,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        on_cell_start=announce,
        extra_arguments=["--log-level=40"],  # the kernel's own warnings are not news of the demo
    )
    failure = ""
    began = time.monotonic()
    try:
        client.execute()
    except CellExecutionError as error:
        failure = ANSI.sub("", str(error)).strip()
    except CellTimeoutError as error:
        failure = f"a cell took longer than {limit:.0f} s\n{error}"
    except DeadKernelError as error:
        failure = f"the kernel died: {error}"
    took = time.monotonic() - began
    out.mkdir(parents=True, exist_ok=True)
    copy = out / path.name
    nbformat.write(notebook, copy)
    page = copy.with_suffix(".html")
    page.write_text(as_page(notebook), encoding="utf-8")
    if not failure:
        text = last_text(notebook.cells)
        print("\n" + (text or "(the notebook showed no text)"))
    ran = sum(1 for cell in code if cell.execution_count)
    slowest = max((seconds(cell) for cell in code), default=0.0)
    print(f"\n[demo] {ran} of {len(code)} cells ran in {took:.1f} s (slowest {slowest:.1f} s)")
    print(f"[demo] executed notebook: {shortened(copy)}   page: {shortened(page)}")
    if failure:
        print(f"\n[demo] FAILED: a cell of {path.name} ended with an error\n\n{failure}", file=sys.stderr)
    return 1 if failure else 0


def as_page(notebook: Any) -> str:
    """Return the notebook as one HTML page."""
    from nbconvert import HTMLExporter

    body: str = HTMLExporter().from_notebook_node(notebook)[0]
    return body


def shortened(path: Path) -> str:
    """Return ``path`` relative to where the person is, when it lies below."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def main(argv: list[str] | None = None) -> int:
    """Run the notebook named on the command line (default: the first example)."""
    parser = argparse.ArgumentParser(description="Run an example notebook for real.")
    parser.add_argument("notebook", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--out", type=Path, default=ROOT / "out", help="where the executed copy goes (default: out/)")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds a cell may take (default: 300)")
    args = parser.parse_args(argv)
    path = args.notebook.resolve()
    if not path.is_file():
        print(f"[demo] FAILED: there is no notebook at {path}", file=sys.stderr)
        return 2
    out = args.out.resolve()
    home = out / "home"
    os.environ["JUPYTER_RM_HOME"] = str(home)
    # The kernel must be this environment's, whatever kernels the person has registered elsewhere, and `jrm` in a
    # shell cell must be ours too.
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    try:
        result = run(path, out, args.timeout)
    finally:
        print("[demo] ending what the notebook left open ...", flush=True)
        complaint = clear_away(home)
    if complaint:
        print(f"[demo] {complaint}", file=sys.stderr)
        result = result or 1
    print(f"[demo] {'done' if result == 0 else 'FAILED'} in {time.monotonic() - BEGAN:.1f} s")
    return result


if __name__ == "__main__":
    sys.exit(main())
