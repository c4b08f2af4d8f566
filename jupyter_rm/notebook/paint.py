"""The drawn part of a still picture: a small SVG made from the same tables that the live figures draw.

For pages without scripts: saved notebooks, mails, reports. It shows shapes and a few labels, and is at most some 20 kB.
Greys and colours are legible on light and dark pages. Knows tables, no Bokeh. Read next: :mod:`.still`.
"""

from __future__ import annotations

import base64
import html
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

from ..views.palette import palette
from ..views.pictures import Picture, Table

WIDTH, HEIGHT = 640, 180
MOST = 22_000  # characters of one SVG
_INK = "#808080"
_LEFT, _BOTTOM, _TOP = 44, 18, 16
_COLORS = palette("light")


def image(picture: Picture, label: str) -> str:
    """Return an ``<img>`` of what a view draws; empty when it draws nothing, or nothing yet."""
    for name, paint in _PAINTERS.items():
        table = picture.tables.get(name)
        if table is not None and table.rows:
            shapes = paint(picture, table)
            if shapes and len(shapes) <= MOST:
                return _img(shapes, label)
    return ""


def _img(shapes: str, label: str) -> str:
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="sans-serif" font-size="11">{shapes}</svg>'
    )
    packed = base64.b64encode(svg.encode()).decode("ascii")
    return f'<img alt="{html.escape(label, quote=True)}" src="data:image/svg+xml;base64,{packed}">'


def _columns(table: Table, *names: str) -> list[list[Any]]:
    places = [list(table.columns).index(name) for name in names]
    return [[row[place] for row in table.rows] for place in places]


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" fill="{_INK}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _frame(most: float, begin_ms: float, end_ms: float) -> str:
    """Return the axes of a chart over time."""
    base = HEIGHT - _BOTTOM
    form = "%H:%M:%S" if end_ms - begin_ms < 86_400_000 else "%m-%d %H:%M"
    begin, end = (time.strftime(form, time.localtime(ms / 1000)) for ms in (begin_ms, end_ms))
    return (
        f'<path d="M{_LEFT} {_TOP}V{base}H{WIDTH}" fill="none" stroke="{_INK}"/>'
        + _text(_LEFT - 4, _TOP + 8, f"{most:,.0f}" if most >= 10 else f"{most:g}", "end")
        + _text(_LEFT - 4, base, "0", "end")
        + _text(_LEFT, HEIGHT - 4, begin)
        + _text(WIDTH, HEIGHT - 4, end, "end")
    )


def _legend(parts: Sequence[tuple[str, str]]) -> str:
    made, x = "", float(_LEFT)
    for color, text in parts:
        made += f'<rect x="{x:g}" y="3" width="9" height="9" fill="{color}"/>' + _text(x + 12, 11, text)
        x += 26 + 6.3 * len(text)
    return made


def _scale(times: Sequence[float], most: float) -> tuple[list[float], Callable[[float], float]]:
    span = max(1.0, times[-1] - times[0])
    across = [round(_LEFT + (WIDTH - _LEFT) * (each - times[0]) / span, 1) for each in times]
    return across, lambda value: round(HEIGHT - _BOTTOM - (HEIGHT - _BOTTOM - _TOP) * value / most, 1)


def _area(xs: Sequence[float], low: Sequence[float], high: Sequence[float], color: str) -> str:
    if not any(high[n] != low[n] for n in range(len(xs))):
        return ""
    there = " ".join(f"{x:g},{y:g}" for x, y in zip(xs, high, strict=True))
    back = " ".join(f"{x:g},{y:g}" for x, y in zip(reversed(xs), reversed(low), strict=True))
    return f'<polygon points="{there} {back}" fill="{color}"/>'


def _history(_: Picture, table: Table) -> str:
    names = ("done", "failed", "canceled", "running", "waiting")
    times, *levels = _columns(table, "x", *names)
    most = max(sum(each) for each in zip(*levels, strict=True))
    if most <= 0 or len(times) < 2:
        return ""
    xs, up = _scale(times, most)
    total = [0.0] * len(times)
    made, legend = "", []
    for name, level in zip(names, levels, strict=True):
        below = [up(each) for each in total]
        total = [each + more for each, more in zip(total, level, strict=True)]
        color = _COLORS.states[name.upper()]
        made += _area(xs, below, [up(each) for each in total], color)
        if any(level):
            legend.append((color, name))
    return made + _frame(most, times[0], times[-1]) + _legend(legend)


def _usage(_: Picture, table: Table) -> str:
    times, held, busy = _columns(table, "x", "held", "busy")
    most = max([1.0, *held, *busy])
    if len(times) < 2:
        return ""
    xs, up = _scale(times, most)
    color = _COLORS.states["RUNNING"]
    # A row holds a mean since the row before it: steps, not slopes.
    xs = [x for pair in itertools.pairwise(xs) for x in pair]
    busy, held = ([up(each) for each in level[1:] for _ in range(2)] for level in (busy, held))
    made = _area(xs, [up(0)] * len(xs), busy, color)
    line = " ".join(f"{x:g},{each:g}" for x, each in zip(xs, held, strict=True))
    made += f'<polyline points="{line}" fill="none" stroke="{_INK}" stroke-width="1.5"/>'
    return made + _frame(most, times[0], times[-1]) + _legend([(color, "busy"), (_INK, "held by pilots")])


def _cells(_: Picture, table: Table) -> str:
    """Paint boxes of a map of 1000 x 1000 units, y upwards; boxes of a colour are one path."""
    xs, widths, lows, tops, fills, keys = _columns(table, "x", "w", "y", "top", "fill", "color")
    across, up = WIDTH / 1000, (HEIGHT - _TOP) / 1000
    paths: dict[str, str] = {}
    for x, width, low, top, fill, key in zip(xs, widths, lows, tops, fills, keys, strict=True):
        left, wide = round((x - width / 2) * across, 1), round(width * across, 1)

        def box(ceiling: float, left: float = left, wide: float = wide, low: float = low) -> str:
            high = round(max(0.1, (ceiling - low) * up), 1)
            return f"M{left:g} {round(HEIGHT - ceiling * up, 1):g}h{wide:g}v{high:g}h{-wide:g}z"

        paths["IDLE"] = paths.get("IDLE", "") + box(top)
        if fill > low:
            paths[key] = paths.get(key, "") + box(fill)
    made = "".join(f'<path d="{path}" fill="{_COLORS.of(key)}"/>' for key, path in paths.items())
    return made + _legend([(_COLORS.states["IDLE"], "free"), (_COLORS.states["BUSY"], "busy")])


def _bars(picture: Picture, table: Table) -> str:
    """Paint what lasted from when to when, in lanes; bars of a colour are one path."""
    xs, x1s, ys, y1s, keys = _columns(table, "x", "x1", "y", "y1", "color")
    begin, end = (1000 * float(picture.values[name]) for name in ("begin", "end"))
    left, base = 110, HEIGHT - _BOTTOM
    span, high = max(1.0, end - begin), base - _TOP

    def across(ms: float) -> float:
        return round(left + (WIDTH - left) * min(max((ms - begin) / span, 0.0), 1.0), 1)

    paths: dict[str, str] = {}
    for x, x1, y, y1, key in zip(xs, x1s, ys, y1s, keys, strict=True):
        wide, tall = max(0.5, across(x1) - across(x)), round(high * (y1 - y) / 1000, 1)
        top = round(base - high * y1 / 1000, 1)
        paths[key] = paths.get(key, "") + f"M{across(x):g} {top:g}h{wide:g}v{tall:g}h{-wide:g}z"
    made = "".join(f'<path d="{path}" fill="{_COLORS.of(key)}"/>' for key, path in paths.items())
    lanes = picture.tables.get("lanes")
    for y, label in zip(*_columns(lanes, "y", "label"), strict=True) if lanes is not None else ():
        short = str(label) if len(str(label)) <= 16 else f"{str(label)[:15]}…"
        made += _text(left - 6, round(base - high * y / 1000 + 4, 1), short, "end")
    form = "%H:%M:%S" if span < 86_400_000 else "%m-%d %H:%M"
    first, last = (time.strftime(form, time.localtime(ms / 1000)) for ms in (begin, end))
    frame = f'<path d="M{left} {_TOP}V{base}H{WIDTH}" fill="none" stroke="{_INK}"/>'
    told = picture.tables.get("legend")
    meanings = list(zip(*_columns(told, "color", "text"), strict=True)) if told is not None else []
    legend = _legend([(_COLORS.of(color), str(text)) for color, text in meanings])
    return made + frame + _text(left, HEIGHT - 4, first) + _text(WIDTH, HEIGHT - 4, last, "end") + legend


_PAINTERS: dict[str, Callable[[Picture, Table], str]] = {
    "history": _history,
    "usage": _usage,
    "cells": _cells,
    "bars": _bars,
}
