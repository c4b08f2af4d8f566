"""The clocks of one machine, wrong in every way real ones are.

``boot`` counts durations like CLOCK_BOOTTIME: it starts anywhere, runs a little fast or slow, jumps forward over a
suspend and never goes back. ``wall`` is years off and jumps both ways. Nothing may be decided by ``wall``.
Read next: :mod:`jupyter_rm.testing.network`.
"""

from __future__ import annotations

from .chance import Random
from .loop import Loop

YEAR = 365.25 * 86400


class Clock:
    """One machine's clocks over the true time of ``loop``."""

    def __init__(self, loop: Loop, rng: Random) -> None:
        self._loop = loop
        self._rate = 1.0 + rng.uniform(-2e-3, 2e-3)
        self._boot = rng.uniform(0.0, 1e6)
        self._wall = 1.7e9 + rng.uniform(-5.0, 5.0) * YEAR

    def boot(self) -> float:
        """Return seconds since the machine was started, suspends included."""
        return self._boot + self._loop.now * self._rate

    def wall(self) -> float:
        """Return what the machine believes to be seconds since the epoch."""
        return self._wall + self._loop.now

    def suspend(self, seconds: float) -> None:
        """Jump forward, as a machine that slept."""
        self._boot += seconds
        self._wall += seconds

    def set_wall(self, seconds: float) -> None:
        """Move the wall clock by ``seconds``, forward or back."""
        self._wall += seconds
