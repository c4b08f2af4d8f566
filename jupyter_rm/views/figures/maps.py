"""The figure of the node map: cells filled as far as they are busy, their names, and what the colours mean."""

from __future__ import annotations

import functools
from typing import Any

from bokeh.layouts import column

from ..grid import LEGEND_COLUMNS
from ..nodes import CELL_COLUMNS, LABEL_COLUMNS
from ..palette import Palette
from ..said import SAID
from .style import Sources, empty, explain, hatched, hover, mapper, only, texts


def nodes(palette: Palette, sources: Sources) -> Any:
    """Return the map and the line above it that says what colours mean."""
    source = sources.of("cells", (*CELL_COLUMNS, *SAID["cells"]))
    colour = {"field": "color", "transform": mapper(palette)}
    made = empty(height=420, tools="tap,pan,wheel_zoom,box_zoom,reset,save", name="map")
    frame = made.vbar(
        x="x",
        bottom="y",
        top="top",
        width="w",
        source=source,
        fill_color=palette.states["IDLE"],
        line_color=palette.faint,
        line_width=0.5,
    )
    fill = made.vbar(
        x="x",
        bottom="y",
        top="fill",
        width="w",
        source=source,
        fill_color=colour,
        line_color=None,
    )
    hatched(palette, source, 0.3, 8, functools.partial(made.vbar, x="x", bottom="y", top="fill", width="w"))
    lit = made.vbar(
        x="x",
        bottom="y",
        top="top",
        width="w",
        source=source,
        view=only(lit=1),
        fill_color=None,
        line_color=palette.lit,
        line_width=2.5,
    )
    for each in (frame, fill, lit):
        each.nonselection_glyph = None
    labels = sources.of("labels", LABEL_COLUMNS)
    texts(made, palette, labels, x="x", y="y", text="text", text_align="center", text_baseline="top", y_offset=4)
    hover(
        made,
        [frame],
        [
            ("", "@label"),
            ("state", "@state"),
            ("", "@text"),
            ("", "@tasks"),
        ],
    )
    return column(explain(palette, sources.of("legend", LEGEND_COLUMNS)), made, sizing_mode="stretch_width", spacing=0)
