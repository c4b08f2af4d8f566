"""Figures over time: tasks by phase (view ``tasks``), and resources held and busy (view ``usage``)."""

from __future__ import annotations

from typing import Any

from bokeh.layouts import column

from ..grid import LEGEND_COLUMNS
from ..palette import PHASES, Palette
from ..said import SAID
from ..usage import HISTORY_COLUMNS, SHARE_COLUMNS, USAGE_COLUMNS
from .style import Sources, empty, explain, hover, legend, mapper, plot, texts

TOOLS = "xpan,xwheel_zoom,xbox_zoom,reset,save"


def tasks(palette: Palette, sources: Sources) -> Any:
    """Return the areas of tasks by phase over time."""
    source = sources.of("history", HISTORY_COLUMNS)
    made = plot(palette, "Tasks over time", height=220, tools=TOOLS, name="history")
    names = [phase.lower() for phase in PHASES]
    areas = made.varea_stack(names, x="x", source=source, color=[palette.states[phase] for phase in PHASES])
    for area, phase in zip(areas, PHASES, strict=True):
        area.glyph.fill_alpha = 0.92
        area.muted_glyph = area.glyph.clone(fill_alpha=0.15)
        # Who cannot tell the colours apart sees a pattern.
        area.glyph.hatch_pattern = {"FAILED": "x", "CANCELED": "/"}.get(phase)
        area.glyph.hatch_color = palette.strong
        area.glyph.hatch_alpha = 0.35
        area.glyph.hatch_scale = 8
    made.y_range.start = 0
    made.x_range.range_padding = 0
    # Something to point at: an area has no points.
    line = made.line("x", "running", source=source, line_alpha=0)
    hover(
        made,
        [line],
        [("at", "@x{%F %T}"), *((phase.lower(), f"@{phase.lower()}{{0,0}}") for phase in reversed(PHASES))],
        mode="vline",
        formatters={"@x": "datetime"},
    )
    legend(made, palette, [(phase.lower(), [area]) for phase, area in zip(PHASES, areas, strict=True)])
    return made


def usage(palette: Palette, sources: Sources) -> Any:
    """Return what is busy against what is held, and the rate at which tasks end."""
    source = sources.of("usage", USAGE_COLUMNS)
    made = plot(palette, "Held and busy", height=240, tools=TOOLS, name="usage")
    made.varea_step("x", 0, "busy", source=source, fill_color=palette.states["BUSY"], step_mode="before")
    made.step("x", "held", source=source, line_color=palette.strong, line_width=1.5, mode="before")
    point = made.line("x", "busy", source=source, line_alpha=0)
    made.y_range.start = 0
    made.x_range.range_padding = 0
    tips = [("until", "@x{%F %T}"), ("busy", "@busy{0,0.[0]} of @held{0,0.[0]}"), ("used", "@used{0.[0]} %")]
    hover(made, [point], tips, mode="vline", formatters={"@x": "datetime"})
    rate = plot(palette, "Tasks ended per second", height=150, tools=TOOLS, name="rate", x_range=made.x_range)
    rate.varea_step("x", 0, "rate", source=source, fill_color=palette.states["DONE"], step_mode="before")
    point = rate.line("x", "rate", source=source, line_alpha=0)
    rate.y_range.start = 0
    tips = [
        ("until", "@x{%F %T}"),
        ("per second", "@rate{0,0.[00]}"),
        ("started", "@started{0,0}"),
        ("ended", "@ended{0,0}"),
        ("failed", "@failed{0,0}"),
    ]
    hover(rate, [point], tips, mode="vline", formatters={"@x": "datetime"})
    words = explain(palette, sources.of("legend", LEGEND_COLUMNS))
    return column(words, shares(palette, sources), made, rate, sizing_mode="stretch_width", spacing=0)


def shares(palette: Palette, sources: Sources) -> Any:
    """Return one bar of all that pilots hold: which submission uses how much of it now, and what is free."""
    source = sources.of("shares", (*SHARE_COLUMNS, *SAID["shares"]))
    made = empty(height=34, tools="tap", name="shares")
    made.toolbar_location = None
    colour = {"field": "color", "transform": mapper(palette)}
    bar = made.quad(
        left="x",
        right="x1",
        bottom=80,
        top=920,
        source=source,
        fill_color=colour,
        line_color=palette.paper,
        line_width=1,
    )
    bar.nonselection_glyph = None
    # Names stand on any colour: what is behind them makes them legible.
    behind = {"background_fill_color": palette.paper, "background_fill_alpha": 0.8}
    texts(made, palette, source, x="x", y=500, text="label", text_baseline="middle", x_offset=6, **behind)
    hover(made, [bar], [("", "@name"), ("", "@text")])
    return made
