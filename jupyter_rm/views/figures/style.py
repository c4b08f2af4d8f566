"""How figures look: see-through backgrounds, quiet axes, one font, the palette's colours; and their plumbing.

A figure is a template: it draws columns of named tables and holds no data. Read next: :mod:`.charts`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import bokeh.models
import bokeh.plotting

from ..palette import MARKS, Palette

FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
# Its types know less than it has.
models: Any = bokeh.models
figure: Any = bokeh.plotting.figure
HATCHES = tuple(sorted({mark.hatch for mark in MARKS.values()} - {""}))
_TIMES = models.DatetimeTickFormatter


class Sources:
    """The data sources of a template: one per table, named as it is, with its columns and no rows.

    Attributes:
        optional: name of a part of the figure -> the table without whose rows it is not seen.
    """

    def __init__(self) -> None:
        self.made: dict[str, Any] = {}
        self.optional: dict[str, str] = {}

    def of(self, table: str, columns: Sequence[str]) -> Any:
        """Return the source of a table."""
        if table not in self.made:
            self.made[table] = models.ColumnDataSource(data={name: [] for name in columns}, name=f"table:{table}")
        return self.made[table]

    def seen_with(self, table: str, part: Any) -> Any:
        """Return a part of the figure that is seen only while a table has rows; whoever fills the table sees to it."""
        part.name, part.visible = f"with:{table}", False
        self.optional[part.name] = table
        return part

    @property
    def names(self) -> dict[str, str]:
        """The name of the model that holds each table."""
        return {table: str(source.name) for table, source in self.made.items()}


def mapper(palette: Palette) -> Any:
    """Return what turns colour keys into colours."""
    keys, colours = palette.keys()
    return models.CategoricalColorMapper(factors=keys, palette=colours, nan_color=palette.faint)


def plot(palette: Palette, label: str, times: bool = True, height: int = 240, **options: Any) -> Any:
    """Return an empty figure in the house style; ``label`` says what it shows to those who cannot see it."""
    usual = {"sizing_mode": "stretch_width", "toolbar_location": "right", "min_border_left": 56, "min_border_right": 8}
    options = usual | ({"x_axis_type": "datetime"} if times else {}) | options
    made = figure(
        height=height,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        title=label,
        **options,
    )
    made.title.text_font = FONT
    made.title.text_font_size = "12px"
    made.title.text_font_style = "bold"
    made.title.text_color = palette.text
    made.toolbar.logo = None
    made.toolbar.autohide = True
    for axis in made.axis:
        axis.axis_line_color = palette.faint
        axis.major_tick_line_color = palette.faint
        axis.minor_tick_line_color = None
        axis.major_label_text_color = palette.text
        axis.major_label_text_font = FONT
        axis.major_label_text_font_size = "11px"
        axis.axis_label_text_color = palette.text
        axis.axis_label_text_font = FONT
        axis.axis_label_text_font_size = "11px"
        axis.axis_label_text_font_style = "normal"
    made.grid.grid_line_color = palette.faint
    made.grid.grid_line_alpha = 0.6
    made.xgrid.grid_line_color = None
    if times:
        made.xaxis.formatter = _TIMES(
            milliseconds="%H:%M:%S.%1N",
            seconds="%H:%M:%S",
            minsec="%H:%M:%S",
            minutes="%H:%M",
            hourmin="%H:%M",
            hours="%H:%M",
            days="%d %b",
            months="%b %Y",
            context=_TIMES(
                milliseconds="%d %b %Y",
                seconds="%d %b %Y",
                minsec="%d %b %Y",
                minutes="%d %b %Y",
                hourmin="%d %b %Y",
                hours="%d %b %Y",
                days="%Y",
                strip_leading_zeros=["days"],
            ),
            context_which="start",
        )
        made.xaxis.ticker.desired_num_ticks = 6
        made.yaxis.formatter = models.BasicTickFormatter(use_scientific=False)
        made.yaxis.ticker.min_interval = 1
        made.yaxis.ticker.desired_num_ticks = 4
    return made


def hover(made: Any, renderers: Sequence[Any], tips: Sequence[tuple[str, str]], **options: Any) -> None:
    """Show texts of a row beside the pointer; values are inserted as text, whatever they hold."""
    made.add_tools(
        models.HoverTool(renderers=list(renderers), tooltips=list(tips), point_policy="follow_mouse", **options)
    )


def legend(made: Any, palette: Palette, items: Sequence[tuple[str, Sequence[Any]]], place: str = "above") -> None:
    """Name what is drawn, in one line above it."""
    made.add_layout(
        models.Legend(
            items=[models.LegendItem(label=label, renderers=list(renderers)) for label, renderers in items],
            orientation="horizontal",
            background_fill_color=None,
            border_line_color=None,
            label_text_color=palette.text,
            label_text_font=FONT,
            label_text_font_size="11px",
            glyph_width=14,
            glyph_height=14,
            label_standoff=4,
            spacing=12,
            padding=0,
            margin=2,
            click_policy="mute",
        ),
        place,
    )


def empty(height: int, tools: str = "", **options: Any) -> Any:
    """Return a figure without axes, 1000 x 1000 units."""
    made = figure(
        height=height,
        sizing_mode="stretch_width",
        toolbar_location="right" if tools else None,
        tools=tools,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        min_border=2,
        x_range=models.Range1d(0, 1000),
        y_range=models.Range1d(0, 1000),
        **options,
    )
    made.axis.visible = False
    made.grid.visible = False
    made.toolbar.logo = None
    made.toolbar.autohide = True
    return made


def texts(made: Any, palette: Palette, source: Any, **options: Any) -> Any:
    """Write small texts in the colour that their ``ink`` names."""
    return made.text(
        source=source,
        text_font={"value": FONT},
        text_font_size="11px",
        text_color={"field": "ink", "transform": mapper(palette)},
        **options,
    )


def hatched(palette: Palette, source: Any, alpha: float, scale: float, draw: Callable[..., Any]) -> None:
    """Draw hatch patterns over rows, those of their column ``hatch``.

    One glyph per pattern: BokehJS makes a canvas per row where the pattern is a column, which takes a fifth of a second
    for a map of 800 cells, with every frame.

    Args:
        draw: a method of a figure with its places given.
    """
    for pattern in HATCHES:
        made = draw(
            source=source,
            view=only(hatch=pattern),
            fill_color=None,
            line_color=None,
            hatch_pattern=pattern,
            hatch_color=palette.strong,
            hatch_alpha=alpha,
            hatch_scale=scale,
        )
        made.nonselection_glyph = None


def only(**wanted: Any) -> Any:
    """Return the view of a source's rows that hold a value in a column."""
    ((column, value),) = wanted.items()
    return models.CDSView(filter=models.GroupFilter(column_name=column, group=value))


def explain(palette: Palette, source: Any, height: int = 26) -> Any:
    """Return a line that says what colours mean: a square and a text each, from a table of legend rows."""
    made = empty(height)
    colour = {"field": "color", "transform": mapper(palette)}
    square = functools.partial(made.scatter, x="x", y=500, marker="square", size=11)
    square(source=source, fill_color=colour, line_color=palette.faint)
    hatched(palette, source, 0.5, 5, square)
    made.text(
        x="tx",
        y=500,
        text="text",
        source=source,
        text_baseline="middle",
        text_font={"value": FONT},
        text_font_size="11px",
        text_color=palette.text,
    )
    return made
