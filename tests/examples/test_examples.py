"""The examples and the tutorial do what they say: each is run for real, in a home of its own."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
# What a person must find in the executed notebook. The random numbers are the notebook's own, so are these counts.
SAYS = {
    "01-first-ensemble": [
        r"tasks        1217 in all: 600 programs, 600 Python calls, 12 shell lines, 5 made to fail",
        r"ended        1213 DONE, 4 FAILED",
        r"healed       1 \(after 2 failed attempts\)",
        r"epidemics    1200, of which 470 broke out",
        r"throughput   \d+ tasks a second",
        r"1217 of 1217 ended",  # the progress display's last state
        r"it said   sir: r0 must be more than 0, not 0",
        r"ValueError - r0 must be more than 0, not -1.0",
        r"attempt 2 ended without success; attempt 3 follows: .* on \S+, exit code 75; stderr ends: not in the mood\n",
        r"<bulk of 4 tasks: 4 FAILED>",
        r"at work at the same time: [12]\.\d tasks on average",
        r"<plot: Will it break out\?>",
    ],
    "02-calls-and-futures": [
        r"ended        20119 DONE, 2 FAILED",
        r"woke up after 0.1 s\nwoke up after 0.3 s\nwoke up after 0.6 s",
        r"seed 3 -> 3\.15112",
        r"\[0\.25, ZeroDivisionError\('division by zero'\), 0\.2\]",
        r"killed by signal 11 \(SIGSEGV\)",
        r"in inverse\n    return 1 / x\n",  # the worker does not have the cell's text; this kernel has
        r"working on b",
    ],
    "03-nothing-is-lost": [
        r"the process ended with SIGKILL",
        r"after:  \{'DONE': 260\}",
        r"done 7",
        r"\['0\\n', '1\\n', '2\\n', '3\\n', '4\\n', '5\\n'\] \[1, 1, 1, 1, 1, 1\]",
        r"ended        274 DONE",
    ],
    "05-watch-it": [
        r"ended        140 DONE, 10 FAILED",
        r"<session 'watch-it': 1 of 1 pilots alive, ",
        r"t\.0\.\d+ +nap +FAILED",
        r"noop00040 +IDLE",
        r"150 naps, 10 failed; the 4 cores were busy \d+ % of the time",
    ],
    "06-a-cluster": [
        r"sbatch --parsable --job-name=jrm-pilot --comment=jrm0+ --partition=batch --nodes=2 .*--cpus-per-task=8",
        r"'two' is not a number",
        r"sum of the squares below 200: 2646700",
        r"20 calls ran on \['",
        r"still in /tmp, and the answer is 42",
        r"ended        228 DONE",
    ],
    "07-data": [
        r"\{'DONE': 20\} 1900",
        r"attempt 1: its input files are in place",
        r"is done with it, its output files are fetched",
        r"\[55, 1275, 5050\]",
        r"begins after step 5\n attempts: 2",
        r"input_staging\[0\]: target '../../x' leaves its directory \[JRM-Q90\]",
        r"FAILED STAGE_IN_FAILED - nothing is not there",
        r"'area', 'case', 'mesh', 'stderr', 'stdout'",
        r"292 bytes are here",
        r"ended        25 DONE, 1 FAILED",
    ],
    "08-services": [
        r"store +READY +127\.0\.0\.1:\d+",
        r"50 answers, pi is about 3\.1424",
        r"\{'DONE': 50\} of them in a second attempt: True\nstore: attempt 2 elsewhere: True",
        r"attempt 1 ended without success; attempt 2 follows: a service it uses ended",
        r"100 answers, pi is about 3\.1395",
        r"the archive is at db\.example\.org:5432",
        r"archive +ENDED +-",
        r"True RUNNING",
        r"ended        103 DONE, 1 CANCELED",
    ],
    "09-a-queue-without-a-cluster": [
        r"next in line; waits for nodes to become free, position 1 of 1, expected to start \d\d:\d\d:\d\d",
        r"job 3 runs on lesson-01, lesson-02; its agent starts",
        r"Counter\(\{'lesson-0[12]': \d+, 'lesson-0[12]': \d+\}\)",
        r"QUEUED - held by you",
        r"FAILED +job 4 was preempted by jobs that go before it \[JRM-L36\]",
        r"\{'DONE': 4\} of them in a second attempt: True",
        r"lesson-02 was lost; the pilot: ACTIVE \[2, 0\]",
        r"ended        44 DONE",
    ],
}
LARGEST = 300_000  # bytes of an executed notebook
VIEWS = {"05-watch-it": 7}  # live views in it, each with its picture


def texts(notebook: Any) -> str:
    """Return all plain text a notebook shows."""
    out = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            text = output.get("text") or output.get("data", {}).get("text/plain", "")
            out.append(text if text.endswith("\n") else text + "\n")
    return "".join(out)


def test_every_notebook_is_known_here() -> None:
    assert [path.stem for path in NOTEBOOKS] == sorted(SAYS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    notebook: Any = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs"), f"clear the outputs of {path.name} before you commit it"
        assert cell.get("execution_count") is None
    assert path.stat().st_size < 40_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")  # this environment's kernel, whatever else is registered
    notebook: Any = nbformat.read(path, as_version=4)
    # Not in examples/: papermill, Lab and nbconvert each start a notebook somewhere else.
    where = {"metadata": {"path": str(tmp_path)}}
    client = NotebookClient(notebook, timeout=60, kernel_name="python3", resources=where)
    client.execute()
    assert os.environ["JUPYTER_RM_HOME"] == str(home), "the notebook ran in somebody's own home"
    shown = texts(notebook)
    for pattern in SAYS[path.stem]:
        assert re.search(pattern, shown), f"{path.name} does not show {pattern!r}, but:\n{shown[-6000:]}"
    written = nbformat.writes(notebook)
    assert len(written) < LARGEST
    bundles = [out.get("data", {}) for cell in notebook.cells for out in cell.get("outputs", [])]
    views = [bundle for bundle in bundles if "application/vnd.jupyter-rm.view+json" in bundle]
    assert len(views) >= VIEWS.get(path.stem, 0)
    assert all("jrm-still" in bundle["text/html"] for bundle in views)
    assert "application/vnd.jupyter.widget-view+json" not in written, "nobody is there to look at a widget"
    assert str(home) not in json.dumps(views), "a view in a file names places of this machine"
    assert not re.search(r'(src|href)=\\?"https?://', written), "an output needs the network"
    assert list(tmp_path.iterdir()) == [], "the notebook leaves files where it was started"


def test_running_cells_again_mixes_nothing(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
    notebook: Any = nbformat.read(EXAMPLES / "01-first-ensemble.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "s.close()" in code[-1].source
    runs = [nbformat.v4.new_code_cell(cell.source) for cell in [*code[:-1], *code[:-1]]]
    count = nbformat.v4.new_code_cell("print('pilots', len(s.pilots()), 'tasks', len(s.tasks()))")
    notebook.cells = [*runs, count, code[-1]]
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=60, kernel_name="python3", resources=where).execute()
    assert "pilots 1 tasks 2434" in texts(notebook)
    notebook.cells = notebook.cells[len(code) - 1 :]  # what the second run shows
    shown = texts(notebook)
    for pattern in SAYS["01-first-ensemble"]:
        assert re.search(pattern, shown), f"the second run does not show {pattern!r}, but:\n{shown[-6000:]}"


def test_the_script_runs_and_goes_on_where_it_was(home: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "04-from-a-script.py"), "--runs", "10"]
    first = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert first.returncode == 0, first.stderr
    assert "submitted 50 calls" in first.stdout
    assert "summary: 50 DONE" in first.stdout
    # Ended in the middle of a study, the next run must find the work and not submit it twice.
    driver = (
        "import runpy, sys, jupyter_rm.client.bulk as b\n"
        "b.Bulk.results = lambda self, *a, **k: sys.exit(9)\n"
        f"sys.argv = {command[1:]!r}\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    broken = subprocess.run([sys.executable, "-c", driver], capture_output=True, text=True, timeout=60)
    assert broken.returncode == 9, broken.stderr
    again = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert again.returncode == 0, again.stderr
    assert "found 50 calls" in again.stdout
    table = [line for line in first.stdout.splitlines() if "%" in line]
    assert len(table) == 5
    assert [line for line in again.stdout.splitlines() if "%" in line] == table


def test_the_tutorial_is_true(home: Path, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for said in ("hello", "<bulk t.1 of 100 tasks: 100 DONE>", "49\n", "['1\\n', '19\\n']", "12.56636"):
        assert said in done.stdout
    for said in ("FAILED TASK_EXIT 2", "no such file: input.dat", "JRM-X01", "still here", "db is at 127.0.0.1:8080\n"):
        assert said in done.stdout
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / "docs" / link).exists(), f"the tutorial points to {link}, which is not there"


def test_plots_bring_all_they_need() -> None:
    from bokeh.plotting import figure

    from jupyter_rm.views.offline import drawing, loader

    page = loader()
    packed = re.search(r'atob\("([A-Za-z0-9+/=]+)"\)', page)
    assert packed is not None
    script = gzip.decompress(base64.b64decode(packed[1]))
    assert b"BokehJS" in script or b"Bokeh" in script
    assert "http" not in page.replace(packed[1], "")
    assert page == loader(), "the same notebook must give the same bytes"
    plot = figure(title='a "quoted" </script> title')
    plot.line([1, 2], [3, 4])
    markup = drawing(plot)
    assert markup.count("</script>") == 1, "a text of the plot ends the script"
    assert 'aria-label="a &quot;quoted&quot; &lt;/script&gt; title"' in markup
    item = re.search(r"embed_item\((\{.*\}), \"plot-", markup)
    assert item is not None
    assert json.loads(item[1].replace("<\\/", "</"))["root_id"] == plot.id
    assert drawing(plot) != markup, "the same figure can be shown twice in a page"
