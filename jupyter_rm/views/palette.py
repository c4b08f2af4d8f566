"""Colours, letters and words of states, in one place, for light and dark pages.

Chosen from the colours of Okabe and Ito, which people with any colour vision tell apart; they differ in lightness too,
and no state is told by colour alone: each has a letter and a text. Knows no figures. Read next: :mod:`.figures`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

THEMES = ("light", "dark")
# What a task is doing, coarser than its state: these are drawn, stacked in this order.
PHASES = ("DONE", "FAILED", "CANCELED", "RUNNING", "WAITING")
CATEGORIES = 12
LOADS = 11  # 0 %, 10 %, ... 100 %


@dataclass(frozen=True)
class Mark:
    """How a state is shown: a letter, a word, and a hatch pattern (Bokeh's names; empty: none)."""

    letter: str
    text: str
    hatch: str = ""


MARKS: Mapping[str, Mark] = {
    # tasks
    "NEW": Mark("N", "not sent yet"),
    "SUBMITTED": Mark("S", "recorded, waits for what it comes after"),
    "WAITING": Mark("W", "waits for room"),
    "STAGING_IN": Mark("I", "input files are put in place"),
    "SCHEDULED": Mark("B", "bound to a pilot"),
    "RUNNING": Mark("R", "runs"),
    "STAGING_OUT": Mark("O", "output files are put in place"),
    "DONE": Mark("D", "ended with success"),
    "FAILED": Mark("F", "failed", "x"),
    "CANCELED": Mark("C", "canceled", "/"),
    # pilots
    "QUEUED": Mark("Q", "waits in the batch queue"),
    "STARTING": Mark("A", "its agent is being started"),
    "ACTIVE": Mark("T", "takes tasks"),
    "DRAINING": Mark("E", "takes no new tasks"),
    # nodes
    "IDLE": Mark("", "free"),
    "PARTLY": Mark("", "partly busy"),
    "BUSY": Mark("", "busy"),
    "DRAINED": Mark("E", "drained: takes no new tasks", "/"),
    "SILENT": Mark("?", "silent: unreachable, its tasks may be running", "."),
    "DOWN": Mark("X", "down", "x"),
    "ABSENT": Mark("", "not held by a pilot of this session"),
}

_COMMON = {
    "NEW": "#bdbdbd",
    "SUBMITTED": "#c9c9c9",
    "WAITING": "#c3c8ce",
    "STAGING_IN": "#b7a5dd",
    "SCHEDULED": "#8cc5ea",
    "RUNNING": "#1f78b4",
    "STAGING_OUT": "#9a83cf",
    "DONE": "#4bab85",
    "FAILED": "#d55e00",
    "CANCELED": "#b0729e",
    "QUEUED": "#e2b33c",
    "STARTING": "#8cc5ea",
    "ACTIVE": "#1f78b4",
    "DRAINING": "#9a83cf",
    "IDLE": "#e3e7ec",
    "PARTLY": "#8cc5ea",
    "BUSY": "#6cb2e0",
    "DRAINED": "#b7a5dd",
    "SILENT": "#e2b33c",
    "DOWN": "#d55e00",
    "ABSENT": "#f2f3f5",
}
_DARK = {
    "NEW": "#5b616a",
    "SUBMITTED": "#545a63",
    "WAITING": "#59616c",
    "STAGING_IN": "#8f7cc0",
    "SCHEDULED": "#2f6b96",
    "RUNNING": "#4aa3df",
    "STAGING_OUT": "#a896d8",
    "DONE": "#3f9470",
    "FAILED": "#ee7a1f",
    "CANCELED": "#b57fa6",
    "QUEUED": "#a27d21",
    "STARTING": "#2f6b96",
    "ACTIVE": "#4aa3df",
    "DRAINING": "#a896d8",
    "IDLE": "#3a4049",
    "PARTLY": "#2f6b96",
    "BUSY": "#2b7ab3",
    "DRAINED": "#8f7cc0",
    "SILENT": "#a27d21",
    "DOWN": "#ee7a1f",
    "ABSENT": "#262a30",
}
# Twelve hues for things that have no order (submissions, pilots, users), neighbours far apart.
_CATEGORIES = (
    *("#1f78b4", "#e69f00", "#4bab85", "#cc79a7", "#56b4e9", "#b2632f"),
    *("#7f6fc4", "#8a9a2b", "#d9677a", "#3d9ea3", "#9c7a4d", "#7a8794"),
)
# From free to full, evenly in lightness: pale yellow-green to dark blue (as "viridis", but calmer at its ends).
_LOADS = (
    *("#eef1f4", "#dfebe7", "#c5e2dc", "#a5d5d2", "#82c5cb", "#62b2c6"),
    *("#499cbf", "#3985b3", "#306da4", "#2b5490", "#263c78"),
)
_LOADS_DARK = (
    *("#31363d", "#2b3a4d", "#28445f", "#265072", "#275e86", "#2d6f9a"),
    *("#3a83ac", "#4d98bb", "#68aec8", "#8dc5d5", "#b9dde3"),
)


@dataclass(frozen=True)
class Palette:
    """The colours of one theme, ``#rrggbb``.

    Attributes:
        states: per state. categories, loads: in their order. text: of labels; faint: of grids and frames;
        paper: what a page of this theme looks like (figures themselves are see-through).
    """

    states: Mapping[str, str]
    categories: tuple[str, ...]
    loads: tuple[str, ...]
    text: str
    faint: str
    paper: str
    strong: str
    lit: str

    def keys(self) -> tuple[list[str], list[str]]:
        """Return all colour keys (``INK``, ``PAPER``, states, ``c0``.., ``l0``..) and the colour of each."""
        keys = ["INK", "PAPER", *self.states, *(f"c{n}" for n in range(CATEGORIES)), *(f"l{n}" for n in range(LOADS))]
        return keys, [self.strong, self.paper, *self.states.values(), *self.categories, *self.loads]

    def of(self, key: str) -> str:
        """Return the colour of a key; that of the text for an unknown one."""
        if key in self.states:
            return self.states[key]
        if key == "PAPER":
            return self.paper
        row = {"c": self.categories, "l": self.loads}.get(key[:1], ())
        return row[int(key[1:])] if key[1:].isdecimal() and int(key[1:]) < len(row) else self.text


LIGHT = Palette(_COMMON, _CATEGORIES, _LOADS, "#4a4f57", "#d9dce1", "#ffffff", "#16191d", "#111111")
DARK = Palette(_DARK, _CATEGORIES, _LOADS_DARK, "#b8bec7", "#3d434c", "#1b1e23", "#f2f4f7", "#ffffff")


def palette(theme: str) -> Palette:
    """Return the colours of a theme: ``dark``, or else light."""
    return DARK if theme == "dark" else LIGHT


def category(number: int) -> str:
    """Return the colour key of thing ``number``; the same number has the same colour everywhere."""
    return f"c{number % CATEGORIES}"
