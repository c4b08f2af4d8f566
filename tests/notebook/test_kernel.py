"""A real notebook in a real kernel: blocking cells, awaiting cells, what the saved notebook holds."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

CELLS = [
    "%load_ext jupyter_rm\n%jrm open kernel",
    "s = _\nb = s.array(__import__('jupyter_rm').Task('/bin/sleep', ['{t}']), t=[0.4] * 4)\nb.wait()",
    "b",
    """
import asyncio, jupyter_rm as jrm
r = await s.call(pow, 2, 8)
t = s.submit(jrm.Shell('echo hi'))
[r, (await t).strip()]""",
    """
ticks = 0
async def tick():
    global ticks
    while True:
        ticks += 1
        await asyncio.sleep(0.01)
k = asyncio.create_task(tick())
await s.map(lambda x: __import__('time').sleep(0.1), range(4))
k.cancel()
ticks > 3""",
    "%jrm log t.99",
    "%jrm close",
]


def test_a_notebook(home: Path) -> None:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    NotebookClient(book, timeout=60, kernel_name="python3", allow_errors=True).execute()
    outputs = [cell["outputs"] for cell in book.cells]
    for number in (0, 1, 2, 3, 4, 6):
        assert not [out for out in outputs[number] if out["output_type"] == "error"], (number, outputs[number])
    shown = [out for out in outputs[1] if out["output_type"] == "display_data"]
    assert len(shown) == 1
    assert "4 of 4 ended" in shown[0]["data"]["text/plain"]
    assert "aria-label" in shown[0]["data"]["text/html"]
    assert "4 DONE" in outputs[2][0]["data"]["text/plain"]
    assert "<table" in outputs[2][0]["data"]["text/html"]
    assert outputs[3][0]["data"]["text/plain"] == "[256, 'hi']"
    assert outputs[4][0]["data"]["text/plain"] == "True"
    (error,) = [out for out in outputs[5] if out["output_type"] == "error"]
    assert len(error["traceback"]) == 1
    assert "t.99" in error["traceback"][0]
    assert "closed" in outputs[6][0]["data"]["text/plain"]


LARGE = [
    "import jupyter_rm as jrm\n%load_ext jupyter_rm\ns = jrm.open('large')\ns.pilot('noop', nodes=40, cores=64)",
    "b = s.array(jrm.Task('x', ['{n}']), n=range(10_000))\nb.wait()\nb",
    "s.view('tasks', limit=1000)",
    "s.view('nodes')",
    "s.view('timeline')",
    "s.view('usage')",
    "s.view('queue')",
    "s",
    "from bokeh.plotting import figure, show\nfrom jupyter_rm.notebook.plots import output_notebook\n"
    "output_notebook()\np = figure(title='starts')\np.step(range(2000), range(2000))\nshow(p)",
    "b.to_frame()",
    "s.close()",
]


def test_a_notebook_of_ten_thousand_tasks_is_small(home: Path) -> None:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in LARGE])
    NotebookClient(book, timeout=60, kernel_name="python3").execute()
    assert "10000 DONE" in book.cells[1]["outputs"][-1]["data"]["text/plain"]
    sizes = {cell.source.splitlines()[0]: len(str(cell.outputs)) for cell in book.cells}
    assert len(nbformat.writes(book)) < 250_000, sizes
