"""Bokeh figures as still pictures: ``show(figure)`` stores a small SVG, no script and no BokehJS.

For notebooks that are kept, mailed and read on pages that run nothing: a plot takes a few kB instead of half a
megabyte, and is there in every export. Draws what a study needs: lines, steps, dots, bars and areas of plain columns,
titles, axis labels, a legend. For figures that people move and zoom there is :mod:`jupyter_rm.views.offline`.
Knows no sessions. Read next: ``examples/01-first-ensemble.ipynb``.
"""

from __future__ import annotations

import base64
import html
import itertools
import math
import time
from collections.abc import Sequence
from typing import Any, NoReturn

from ..model.errors import RequestError

NAME = "jupyter_rm_still"
MOST = 5000  # points of one glyph
# Grey that has a contrast of 4 or more against both white and black.
_INK, _GRID = "#808080", "#80808044"
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 26, 40
_TICKS = 6


def output_notebook() -> None:
    """Make ``bokeh.plotting.show`` store still pictures in this notebook; once per notebook.

    Raises:
        RequestError: Bokeh is not installed.
    """
    try:
        import bokeh.io
    except ImportError:
        raise RequestError("Bokeh is not installed", hint="pip install jupyter_rm[notebook]", code="JRM-Q64") from None
    io: Any = bokeh.io  # its types know two kinds of notebook only; its code takes any that is registered
    io.install_notebook_hook(NAME, load=_load, show_doc=_show_doc, show_app=_show_app, overwrite=True)
    io.output_notebook(notebook_type=NAME)


def _load(resources: Any, verbose: bool, hide_banner: bool, load_timeout: int) -> None:
    """Do nothing: a picture needs no loading."""


def _show_doc(model: Any, state: Any, notebook_handle: Any) -> None:  # noqa: ARG001 (Bokeh's form)
    from IPython.display import display

    made = svg(model)
    title = str(model.title.text or "plot")
    packed = base64.b64encode(made.encode()).decode("ascii")
    markup = f'<img alt="{html.escape(title, quote=True)}" src="data:image/svg+xml;base64,{packed}">'
    display({"text/html": markup, "text/plain": f"<plot: {title}>"}, raw=True)  # type: ignore[no-untyped-call]


def _show_app(app: Any, state: Any, notebook_url: Any, **_: Any) -> NoReturn:  # noqa: ARG001 (Bokeh's form)
    raise RequestError("this draws figures, not Bokeh applications", hint="bokeh.io.output_notebook()", code="JRM-Q64")


# ------------------------------------------------------------ what is drawn


def svg(figure: Any) -> str:
    """Return a figure of ``bokeh.plotting`` as an SVG picture.

    Raises:
        RequestError: it is no figure, or draws something that this cannot; JRM-Q64.
    """
    if not hasattr(figure, "renderers") or not hasattr(figure, "x_range"):
        raise RequestError(
            f"plots: {type(figure).__name__} is no figure", hint="show one figure at a time", code="JRM-Q64"
        )
    labels = {id(r): _label(item) for legend in figure.legend for item in legend.items for r in item.renderers}
    layers = [_Layer(each, labels.get(id(each), "")) for each in figure.renderers if getattr(each, "visible", True)]
    width, height = int(figure.width or 600), int(figure.height or 400)
    across = _Axis(figure.x_range, [v for each in layers for v in each.xs], _LEFT, width - _RIGHT)
    up = _Axis(figure.y_range, [v for each in layers for v in each.ys], height - _BOTTOM, _TOP)
    times = type(figure.xaxis[0]).__name__ == "DatetimeAxis"
    parts = [_grid(across, up, times)]
    parts += [each.draw(across, up) for each in layers]
    parts += _words(figure, width, height)
    parts += _legend(layers, width)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="12">{"".join(parts)}</svg>'
    )


def _number(value: Any) -> float:
    if hasattr(value, "timestamp"):
        return float(value.timestamp()) * 1000
    if type(value).__name__ == "datetime64":
        return float(value.astype("datetime64[ms]").astype(float))
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


class _Layer:
    """One glyph with its points."""

    def __init__(self, renderer: Any, label: str) -> None:
        self.label = label
        self.glyph = renderer.glyph
        self.kind = type(self.glyph).__name__
        data = renderer.data_source.data
        read = _SHAPES.get(self.kind)
        if read is None:
            known = ", ".join(sorted(_SHAPES))
            raise RequestError(f"plots: cannot draw {self.kind}", hint=f"it can draw {known}", code="JRM-Q64")
        found = {name: self._column(name, data) for name in read}
        count = max((len(column) for column in found.values() if column is not None), default=0)
        if count > MOST:
            raise RequestError(
                f"plots: {count} points in one glyph; the limit is {MOST}", hint="bin or thin them", code="JRM-Q64"
            )
        self.columns = {name: column or [0.0] * count for name, column in found.items()}
        self.xs = [v for name in read if name in ("x", "left", "right") for v in self.columns[name]]
        self.ys = [v for name in read if name in ("y", "top", "bottom", "y1", "y2") for v in self.columns[name]]

    def _column(self, name: str, data: Any) -> list[float] | None:
        given = getattr(self.glyph, name)
        field = given if isinstance(given, str) else getattr(given, "field", None)
        if field is None:
            value = getattr(given, "value", given)
            size = max((len(column) for column in data.values()), default=0)
            return None if value is None else [_number(value)] * size
        return [_number(each) for each in data[field]]

    def colour(self, name: str, default: str = "#2a7fb8") -> str:
        """Return a colour of the glyph, as text that may stand in an attribute."""
        given = getattr(self.glyph, name, None)
        value = given if isinstance(given, str) else getattr(given, "value", None)
        return html.escape(value, quote=True) if isinstance(value, str) else default

    @property
    def main_colour(self) -> str:
        """The colour that stands for it in a legend."""
        return self.colour("line_color" if self.kind in ("Line", "Step") else "fill_color")

    def draw(self, across: _Axis, up: _Axis) -> str:
        """Return the shapes."""
        c = self.columns
        if self.kind in ("Line", "Step"):
            points = [(across(x), up(y)) for x, y in zip(c["x"], c["y"], strict=True)]
            if self.kind == "Step":
                points = _stepped(points, str(self.glyph.mode))
            path = "".join(
                f"{'M' if n == 0 else 'L'}{x:g} {y:g}" for n, (x, y) in enumerate(p for p in points if _finite(*p))
            )
            width = getattr(self.glyph.line_width, "value", self.glyph.line_width)
            return f'<path d="{path}" fill="none" stroke="{self.main_colour}" stroke-width="{_number(width) or 1:g}"/>'
        fill = self.main_colour
        if self.kind == "Scatter":
            size = _number(getattr(self.glyph.size, "value", self.glyph.size)) or 6.0
            dots = [(across(x), up(y)) for x, y in zip(c["x"], c["y"], strict=True)]
            shapes = "".join(f'<circle cx="{x:g}" cy="{y:g}" r="{size / 2:g}"/>' for x, y in dots if _finite(x, y))
            return f'<g fill="{fill}">{shapes}</g>'
        if self.kind == "VArea":
            low = [(across(x), up(y)) for x, y in zip(c["x"], c["y1"], strict=True)]
            high = [(across(x), up(y)) for x, y in zip(c["x"], c["y2"], strict=True)]
            points = [p for p in [*high, *reversed(low)] if _finite(*p)]
            return f'<polygon points="{" ".join(f"{x:g},{y:g}" for x, y in points)}" fill="{fill}"/>'
        lefts, rights = c.get("left"), c.get("right")
        if self.kind == "VBar":
            wide = _number(getattr(self.glyph.width, "value", self.glyph.width)) / 2
            lefts, rights = [x - wide for x in c["x"]], [x + wide for x in c["x"]]
        assert lefts is not None and rights is not None
        boxes = ""
        for left, right, bottom, top in zip(lefts, rights, c["bottom"], c["top"], strict=True):
            x, y, x2, y2 = across(left), up(top), across(right), up(bottom)
            if _finite(x, y, x2, y2) and y != y2:
                boxes += f"M{min(x, x2):g} {min(y, y2):g}h{abs(x2 - x):g}v{abs(y2 - y):g}h{-abs(x2 - x):g}z"
        return f'<path d="{boxes}" fill="{fill}" stroke="{_GRID}"/>'


_SHAPES: dict[str, tuple[str, ...]] = {
    "Line": ("x", "y"),
    "Step": ("x", "y"),
    "Scatter": ("x", "y"),
    "Quad": ("left", "right", "bottom", "top"),
    "VBar": ("x", "bottom", "top"),
    "VArea": ("x", "y1", "y2"),
}


def _finite(*values: float) -> bool:
    return all(math.isfinite(each) for each in values)


def _stepped(points: Sequence[tuple[float, float]], mode: str) -> list[tuple[float, float]]:
    made = list(points[:1])
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        turn = x1 if mode == "after" else x0 if mode == "before" else (x0 + x1) / 2
        made += [(turn, y0), (turn, y1), (x1, y1)]
    return made


class _Axis:
    """From values to pixels."""

    def __init__(self, range_: Any, values: Sequence[float], low_px: float, high_px: float) -> None:
        found = [each for each in values if math.isfinite(each)]
        low, high = min(found, default=0.0), max(found, default=1.0)
        room = 0.06 * ((high - low) or 1.0)
        self.low = self._fixed(range_, "start", low - room)
        self.high = self._fixed(range_, "end", high + room)
        if self.high <= self.low:
            self.high = self.low + 1.0
        self._px = low_px, high_px

    @staticmethod
    def _fixed(range_: Any, name: str, default: float) -> float:
        value = getattr(range_, name, None)
        return default if value is None or not math.isfinite(_number(value)) else _number(value)

    def __call__(self, value: float) -> float:
        low, high = self._px
        share = (value - self.low) / (self.high - self.low)
        return round(low + share * (high - low), 1) if math.isfinite(share) else math.nan

    def ticks(self) -> list[float]:
        """Return round values within the axis."""
        raw = (self.high - self.low) / _TICKS
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(unit * each for each in (1, 2, 2.5, 5, 10) if unit * each >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [round(n * step, 12) for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _tick(value: float, times: bool) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(value / 1000)) if times else f"{value:,.6g}".replace(",000,000", "M")


def _grid(across: _Axis, up: _Axis, times: bool) -> str:
    left, right = across(across.low), across(across.high)
    bottom, top = up(up.low), up(up.high)
    lines, words = "", ""
    for value in across.ticks():
        x = across(value)
        lines += f"M{x:g} {bottom:g}V{top:g}"
        words += f'<text x="{x:g}" y="{bottom + 15:g}" text-anchor="middle">{_tick(value, times)}</text>'
    for value in up.ticks():
        y = up(value)
        lines += f"M{left:g} {y:g}H{right:g}"
        words += f'<text x="{left - 6:g}" y="{y + 4:g}" text-anchor="end">{_tick(value, False)}</text>'
    frame = f'<path d="M{left:g} {top:g}V{bottom:g}H{right:g}" stroke="{_INK}" fill="none"/>'
    return f'<path d="{lines}" stroke="{_GRID}" fill="none"/>{frame}<g fill="{_INK}">{words}</g>'


def _words(figure: Any, width: int, height: int) -> list[str]:
    made = []
    middle_x, middle_y = (_LEFT + width - _RIGHT) / 2, (_TOP + height - _BOTTOM) / 2
    if figure.title.text:
        title = html.escape(str(figure.title.text))
        made.append(f'<text x="{_LEFT}" y="16" fill="{_INK}" font-weight="bold">{title}</text>')
    if label := figure.xaxis[0].axis_label:
        text = html.escape(str(label))
        made.append(f'<text x="{middle_x:g}" y="{height - 6}" fill="{_INK}" text-anchor="middle">{text}</text>')
    if label := figure.yaxis[0].axis_label:
        turn = f"rotate(-90 14 {middle_y:g})"
        text = html.escape(str(label))
        made.append(
            f'<text x="14" y="{middle_y:g}" fill="{_INK}" text-anchor="middle" transform="{turn}">{text}</text>'
        )
    return made


def _label(item: Any) -> str:
    return str(getattr(item.label, "value", item.label) or "")


def _legend(layers: Sequence[_Layer], width: int) -> list[str]:
    named = [each for each in layers if each.label]
    made, x = [], float(width - _RIGHT)
    for each in reversed(named):
        x -= 22 + 6.6 * len(each.label)
        made.append(
            f'<rect x="{x:g}" y="8" width="10" height="10" fill="{each.main_colour}"/>'
            f'<text x="{x + 14:g}" y="17" fill="{_INK}">{html.escape(each.label)}</text>'
        )
    return made
