"""Figures, tables and controls fit together; colours can be read; exported pages need nothing and trust nothing."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from ledger_kit import BEGIN, WORDS, Held

from jupyter_rm.model import facts as f
from jupyter_rm.model.errors import RequestError
from jupyter_rm.model.states import PilotState, TaskState
from jupyter_rm.views import catalog, export, figures
from jupyter_rm.views.controls import CONTROLS, TIMES
from jupyter_rm.views.palette import DARK, LIGHT, MARKS, PHASES, palette
from jupyter_rm.views.pictures import Picture
from jupyter_rm.views.windows import DRAWN, Window

EVIL = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def held() -> Held:
    held = Held()
    held.bulk(40, name=EVIL)
    held.pilot(nodes=4, cores=8)
    held.apply(f.PilotRequested(1, b"1" * 16, BEGIN, f.PilotSpec(site=EVIL, name=EVIL)))
    held.apply(f.PilotChanged(1, PilotState.QUEUED, BEGIN + 5, reason=EVIL))
    held.apply(f.PilotQueued(1, BEGIN + 6, 3, 9, BEGIN + 900, EVIL, EVIL))
    held.start(0, np.arange(30), node=np.arange(30) % 4)
    held.end(0, np.arange(10), TaskState.FAILED)
    return held


def show(held: Held, view: str) -> Picture:
    return catalog.picture(view, held, WORDS, Window(), BEGIN + 100)


def test_every_drawn_view_has_a_figure() -> None:
    assert set(figures.FIGURES) == set(DRAWN) == set(CONTROLS)


@pytest.mark.parametrize("view", DRAWN)
def test_figures_draw_columns_that_pictures_have(held: Held, view: str) -> None:
    made, told = show(held, view), figures.template(view)
    assert set(told["sources"]) <= set(made.tables)
    _, sources = figures.build(view, "light")
    for table, source in sources.made.items():
        assert list(source.data) == [*made.tables[table].columns, *told["said"].get(table, ())], table
        assert all(not column for column in source.data.values()), "a template holds no data"
    for table, columns in told["times"].items():
        assert set(columns) <= set(made.tables[table].columns)
    assert all(name in TIMES.get(table, []) for table, names in told["times"].items() for name in names)


@pytest.mark.parametrize("view", DRAWN)
def test_controls_name_what_there_is(held: Held, view: str) -> None:
    made = show(held, view)
    for control in CONTROLS[view]:
        if "field" in control:
            assert control["field"] in Window.__struct_fields__
        if "table" in control:
            columns = made.tables[control["table"]].columns
            assert all(control[name] in columns for name in ("key", "label", "when") if name in control), control
        if control["kind"] == "slider":
            assert control["low"] in made.values
        for value, _ in control.get("choices", ()):
            window = Window(**{control["field"]: value})
            assert catalog.picture(view, held, WORDS, window, BEGIN + 100).tables


def test_a_figure_is_the_same_in_every_process() -> None:
    code = "import json; from jupyter_rm.views import figures; print(json.dumps(figures.template('queue', 'dark')))"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment)
    figures.template("nodes", "dark")
    assert json.loads(done.stdout) == json.loads(json.dumps(figures.template("queue", "dark"))), done.stderr


def test_wrong_names_are_told() -> None:
    for view, theme in (("moon", "light"), ("nodes", "pink")):
        with pytest.raises(RequestError) as caught:
            figures.template(view, theme)
        assert caught.value.code == "JRM-Q65" and caught.value.hint


# ------------------------------------------------------------ colours


def light(colour: str) -> float:
    """Return the relative luminance of ``#rrggbb`` (WCAG 2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_texts_can_be_read(colours: Any) -> None:
    assert contrast(colours.text, colours.paper) >= 4.5
    for state in ("IDLE", "BUSY", "QUEUED", "SILENT", "DRAINED", "ABSENT"):
        assert contrast(colours.strong, colours.states[state]) >= 3.0, state
    for level, colour in enumerate(colours.loads):
        assert contrast(colours.paper if level > 6 else colours.strong, colour) >= 3.0, level


def test_no_state_is_told_by_colour_alone() -> None:
    for name in [state.name for state in TaskState] + [state.name for state in PilotState]:
        assert MARKS[name].text and MARKS[name].letter
        assert name in LIGHT.states and name in DARK.states
    letters = [MARKS[state.name].letter for state in TaskState]
    assert len(set(letters)) == len(letters)
    for theme in (palette("light"), palette("dark")):
        # Phases that lie beside each other differ in lightness, or one of them has a pattern.
        for one, other in itertools.pairwise(PHASES):
            marked = MARKS[one].hatch != MARKS[other].hatch
            assert marked or contrast(theme.states[one], theme.states[other]) >= 1.3, (one, other)


# ------------------------------------------------------------ pages of their own


@pytest.mark.parametrize("view", DRAWN)
def test_an_exported_page_needs_nothing_and_trusts_nothing(held: Held, view: str) -> None:
    page = export.page(view, show(held, view), "dark", BEGIN)
    assert "notebook" not in re.sub(r"<script>.*?</script>", "", page, flags=re.S), "it is a page of its own"
    assert "<img" not in page, "what programs wrote is text, in tables and in scripts"
    assert ("&lt;img" in page) == (view in ("tasks", "queue"))
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page), "everything is inside"
    assert page.count("<script") == page.count("</script>") == 2
    assert len(page) < 900_000


def test_times_are_shown_in_the_zone_of_the_reader(held: Held) -> None:
    table = show(held, "usage").tables["usage"]
    moved = export.columns(table, ("x",), 3600.0)["x"]
    assert [b - a for a, b in zip(export.columns(table)["x"], moved, strict=True)] == [3_600_000] * len(moved)
