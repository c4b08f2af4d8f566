"""Time axes: bins of widths people count in, whose edges stay where they are while time goes on.

So of two pictures of a running session all bins but the last ones are equal, and little has to be sent. Knows numbers
only. Read next: :mod:`.usage`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..model.errors import RequestError
from .tables import Array

MOST_BINS = 500
# Widths of bins, seconds.
WIDTHS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 21600, 43200, 86400, 604800)


@dataclass(frozen=True)
class Axis:
    """``count`` bins of ``width`` seconds; bin i is [(left + i) * width, (left + i + 1) * width)."""

    width: float
    left: int
    count: int

    @classmethod
    def of(cls, first: float, last: float, bins: int) -> Axis:
        """Return an axis of at most ``bins`` bins that holds [first, last], seconds since 1970.

        Raises:
            RequestError: bins out of range; JRM-Q60.
        """
        if not 2 <= bins <= MOST_BINS:
            raise RequestError(f"bins: {bins}", hint=f"give 2 to {MOST_BINS}", code="JRM-Q60")
        # Clocks differ: a session may seem to open in the future.
        first = min(first, last)
        span = max(1.0, last - first)
        width = next((width for width in WIDTHS if span / width < bins - 1), math.ceil(span / (bins - 1)))
        left = math.floor(first / width)
        # A moment on an edge ends a bin, it begins none.
        return cls(width, left, max(1, min(bins, math.ceil(last / width) - left)))

    @property
    def edges(self) -> Array:
        """Return the left edges and the last right edge, seconds since 1970, shape (count + 1,)."""
        edges: Array = (self.left + np.arange(self.count + 1)) * self.width
        return edges

    def place(self, times: Array) -> Array:
        """Return the bin of each time, 0 for earlier than all, count + 1 for later than all: int64."""
        wide = np.floor(times / self.width)
        place: Array = np.clip(wide - (self.left - 1), 0, self.count + 1).astype(np.int64)
        return place

    def amounts(self, times: Array, weights: Array | None = None) -> Array:
        """Return how much happened in each bin, before (first) and after (last) all: shape (count + 2,)."""
        if not len(times):
            return np.zeros(self.count + 2)
        return np.bincount(self.place(times), weights, self.count + 2)

    def held(self, times: Array, weights: Array | None = None) -> Array:
        """Return the time integral per bin, in units x seconds, of a level that rises by a weight at each time.

        Args:
            times: seconds since 1970; infinite: never. weights: units, default 1; negative ones lower the level.
        """
        place = self.place(times)
        edge = (place + self.left) * self.width  # right edge of the bin it is in
        first = np.where((place >= 1) & (place <= self.count), edge - times, 0.0)
        rest = np.ones(len(times)) if weights is None else weights
        within = np.bincount(place, first * rest, self.count + 2)
        level = np.cumsum(np.bincount(place, rest, self.count + 2))
        result: Array = within[1:-1] + level[:-2] * self.width
        return result
