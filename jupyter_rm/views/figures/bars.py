"""Figures of lanes: what ran when (view ``timeline``), how pilots fare and who else is in line (view ``queue``)."""

from __future__ import annotations

import functools
from typing import Any

from bokeh.layouts import column, row

from ..grid import LEGEND_COLUMNS
from ..lines import LINE_COLUMNS, ROW_COLUMNS, TOLD_COLUMNS
from ..palette import Palette
from ..queue import NOTE_COLUMNS, SPARK_COLUMNS
from ..said import SAID
from ..timeline import BAR_COLUMNS, LANE_COLUMNS, MARK_COLUMNS
from .style import FONT, Sources, explain, hatched, hover, mapper, models, only, plot, texts

NAMES_PX = 130
# The frames of the names and of the lanes beside them must be equally high: their borders are, whatever stands there.
ABOVE, BELOW = 6, 46


def timeline(palette: Palette, sources: Sources) -> Any:
    """Return lanes of bars over time, their names beside them, and what colours mean above them."""
    names, made = lanes(palette, sources.of("lanes", LANE_COLUMNS), "timeline", 420)
    drawn = bars(made, palette, sources.of("bars", BAR_COLUMNS))
    marks = sources.of("marks", MARK_COLUMNS)
    made.segment(x0="x", x1="x", y0=0, y1=1000, source=marks, line_color=palette.strong, line_dash="dashed")
    hover(
        made,
        [drawn],
        [("", "@uid"), ("state", "@state"), ("from", "@x{%F %T}"), ("to", "@x1{%F %T}"), ("", "@text")],
        formatters={"@x": "datetime", "@x1": "datetime"},
    )
    return assembled(palette, sources, names, made)


def queue(palette: Palette, sources: Sources) -> Any:
    """Return the way of each pilot: asked for, waiting, starting, taking tasks; its place in the queue over it."""
    names, made = lanes(palette, sources.of("lanes", LANE_COLUMNS), "queue", 260)
    drawn = bars(made, palette, sources.of("bars", BAR_COLUMNS))
    sparks = sources.of("sparks", SPARK_COLUMNS)
    made.segment(x0="x", x1="x1", y0="y", y1="y1", source=sparks, line_color=palette.strong, line_width=1.5)
    marks = sources.of("marks", MARK_COLUMNS)
    made.segment(x0="x", x1="x", y0=0, y1=1000, source=marks, line_color=palette.strong, line_dash="dashed")
    texts(
        made,
        palette,
        sources.of("notes", NOTE_COLUMNS),
        x="x",
        y="y",
        text="text",
        text_baseline="middle",
        x_offset=6,
    )
    hover(
        made,
        [drawn],
        [("", "@uid"), ("state", "@state"), ("from", "@x{%F %T}"), ("to", "@x1{%F %T}"), ("", "@text")],
        formatters={"@x": "datetime", "@x1": "datetime"},
    )
    return assembled(palette, sources, names, made, others(palette, sources))


def others(palette: Palette, sources: Sources) -> Any:
    """Return everybody's place in the lines of sites, and the nodes there; seen only when there are any."""
    names, made = lanes(palette, sources.of("line_rows", ROW_COLUMNS), "line", 190, times=False)
    made.xaxis.visible = False
    made.xgrid.visible = False
    drawn = bars(made, palette, sources.of("line", (*LINE_COLUMNS, *SAID["line"])))
    notes = sources.of("line_notes", TOLD_COLUMNS)
    texts(made, palette, notes, x="x", y="y", text="text", text_baseline="middle", text_align="left")
    hover(made, [drawn], [("", "@text"), ("", "@uid")])
    return sources.seen_with("line", row(names, made, sizing_mode="stretch_width", spacing=0))


def lanes(palette: Palette, source: Any, name: str, height: int, times: bool = True) -> tuple[Any, Any]:
    """Return two figures side by side: for the names of lanes, and for what happened in them.

    Args:
        times: it happened over time; False: across 1000 units.
    """
    span = models.Range1d(0, 1000)
    borders: dict[str, Any] = {"min_border_top": ABOVE, "min_border_bottom": BELOW if times else ABOVE}
    across: dict[str, Any] = {} if times else {"x_range": models.Range1d(0, 1000)}
    made = plot(
        palette,
        "",
        height=height,
        times=times,
        tools="xpan,xwheel_zoom,xbox_zoom,tap,reset,save" if times else "tap",
        name=name,
        y_range=span,
        min_border_left=4,
        **borders,
        **across,
    )
    made.title = None
    made.yaxis.visible = False
    made.ygrid.visible = False
    made.xgrid.grid_line_color = palette.faint
    if times:
        made.x_range.range_padding = 0
    names = plot(
        palette,
        "",
        times=False,
        height=height,
        width=NAMES_PX,
        sizing_mode="fixed",
        tools="",
        toolbar_location=None,
        x_range=models.Range1d(0, 1),
        y_range=span,
        min_border_left=0,
        min_border_right=0,
        **borders,
    )
    names.title = None
    names.axis.visible = False
    names.grid.visible = False
    names.text(
        x=1,
        y="y",
        text="label",
        source=source,
        text_align="right",
        text_baseline="middle",
        x_offset=-6,
        text_font={"value": FONT},
        text_font_size="11px",
        text_color=palette.text,
    )
    return names, made


def bars(made: Any, palette: Palette, source: Any) -> Any:
    """Draw the rows of a table of bars; return what was drawn."""
    bar = functools.partial(made.quad, left="x", right="x1", bottom="y", top="y1")
    drawn = bar(source=source, fill_color={"field": "color", "transform": mapper(palette)}, line_color=None)
    hatched(palette, source, 0.3, 6, bar)
    lit = bar(source=source, view=only(lit=1), fill_color=None, line_color=palette.lit, line_width=2)
    for each in (drawn, lit):
        each.nonselection_glyph = None
    return drawn


def assembled(palette: Palette, sources: Sources, names: Any, made: Any, *below: Any) -> Any:
    """Return the line that explains colours above names and lanes, and what stands below them."""
    both = row(names, made, sizing_mode="stretch_width", spacing=0)
    words = explain(palette, sources.of("legend", LEGEND_COLUMNS))
    return column(words, both, *below, sizing_mode="stretch_width", spacing=0)
