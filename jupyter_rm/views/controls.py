"""What a person can change about a view, as data: pages make their toolbars from it.

A control changes fields of the subscription's window (see docs/server.md) and so what the server sends::

    {"kind": "choice", "field": "color", "label": "Colour", "choices": [["state", "State"], ...], "default": "state"}
    {"kind": "text",   "field": "select", "label": "Highlight", "hint": "t.3.17 or p.0"}
    {"kind": "slider", "field": "at", "label": "Replay", "low": "opened_at", "high": "now"}    names of values
    {"kind": "range",  "figure": "timeline", "begin": "begin", "end": "end"}   the x range a person zoomed to, seconds
    {"kind": "crumbs", "field": "focus", "table": "crumbs", "key": "key", "label": "label"}
    {"kind": "drill",  "field": "focus", "table": "cells", "key": "key", "when": "deeper"}   a click on a row
    {"kind": "select", "table": "cells", "key": "uid"}          a click names a task or pilot for all views of the page

Knows nothing of figures and pages. Read next: :mod:`.figures`.
"""

from __future__ import annotations

from typing import Any

_REPLAY = {"kind": "slider", "field": "at", "label": "Replay", "low": "opened_at", "high": "now"}
_HIGHLIGHT = {"kind": "text", "field": "select", "label": "Highlight", "hint": "a task or pilot: t.3.17, t.3 or p.0"}

CONTROLS: dict[str, list[dict[str, Any]]] = {
    "tasks": [],
    "nodes": [
        {"kind": "crumbs", "field": "focus", "table": "crumbs", "key": "key", "label": "label"},
        {"kind": "drill", "field": "focus", "table": "cells", "key": "key", "when": "deeper"},
        {"kind": "select", "table": "cells", "key": "uid"},
        {
            "kind": "choice",
            "field": "color",
            "label": "Colour",
            "choices": [
                ["state", "state"],
                ["load", "load"],
                ["task", "submission"],
                ["pilot", "pilot"],
                ["user", "user"],
            ],
            "default": "state",
        },
        {
            "kind": "choice",
            "field": "layout",
            "label": "Layout",
            "choices": [["physical", "as nodes stand"], ["logical", "by pilot"], ["site", "whole site"]],
            "default": "physical",
        },
        {
            "kind": "choice",
            "field": "level",
            "label": "Show",
            "choices": [["", "racks"], ["node", "nodes"]],
            "default": "",
        },
        _HIGHLIGHT,
        _REPLAY,
    ],
    "queue": [
        {"kind": "select", "table": "bars", "key": "uid"},
        {"kind": "select", "table": "queue", "key": "uid"},
        {"kind": "select", "table": "jobs", "key": "uid"},
        {"kind": "select", "table": "line", "key": "uid"},
        {"kind": "text", "field": "search", "label": "Jobs", "hint": "a user, queue, reason or state"},
        {"kind": "text", "field": "select", "label": "Highlight", "hint": "a pilot: p.0"},
    ],
    "timeline": [
        {"kind": "range", "figure": "timeline", "begin": "begin", "end": "end"},
        {"kind": "select", "table": "bars", "key": "uid"},
        {
            "kind": "choice",
            "field": "by",
            "label": "Lanes",
            "choices": [["node", "nodes"], ["pilot", "pilots"], ["task", "tasks"]],
            "default": "node",
        },
        {
            "kind": "choice",
            "field": "color",
            "label": "Colour",
            "choices": [["state", "state"], ["task", "submission"]],
            "default": "state",
        },
        _HIGHLIGHT,
        _REPLAY,
    ],
    "usage": [
        {"kind": "select", "table": "shares", "key": "uid"},
        {
            "kind": "choice",
            "field": "by",
            "label": "Resource",
            "choices": [["cores", "cores"], ["gpus", "GPUs"], ["mem", "memory"]],
            "default": "cores",
        },
        _REPLAY,
    ],
}
# Columns that are milliseconds since 1970, UTC. Bokeh shows them as they are: a page adds its own time zone.
TIMES: dict[str, list[str]] = {
    "history": ["x"],
    "usage": ["x"],
    "bars": ["x", "x1"],
    "marks": ["x"],
    "notes": ["x"],
    "sparks": ["x", "x1"],
}
