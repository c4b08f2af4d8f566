"""How much work an agent asks to hold: what it ends in a while, by the rate at which it does. Knows numbers only."""

from __future__ import annotations

MOST = 262_144
# A rate below this is none, tasks a second.
NONE = 0.05
# So long without an end is nothing remarkable, s.
QUIET_S = 2.0


class Appetite:
    """Measures how fast tasks end.

    Attributes:
        rate: tasks a second.
    """

    __slots__ = ("_at", "_ended", "_last", "_told", "_told_rate", "rate")

    def __init__(self, now: float) -> None:
        self.rate = 0.0
        self._at, self._ended = now, 0
        self._last = now  # when a task was last seen to have ended
        self._told = -1
        self._told_rate = 0.0

    def count(self, ended: int) -> None:
        """Count tasks that ended."""
        self._ended += ended

    def learn(self, now: float) -> bool:
        """Measure anew; False while it is too early."""
        span = now - self._at
        if span < 0.1:
            return False
        rate = self._ended / span
        self.rate = rate if rate > self.rate else 0.8 * self.rate + 0.2 * rate
        if self._ended:
            self._last = now
        elif now - self._last > QUIET_S:  # whatever came before, by now it is not more than this
            self.rate = min(self.rate, 1.0 / (now - self._last))
        if self.rate < NONE:
            self.rate = 0.0
        self._at, self._ended = now, 0
        return True

    def wanted(self, least: int, seconds: float) -> int:
        """Return how many tasks make work for so many seconds, but at least ``least``."""
        return int(min(max(least, self.rate * seconds), MOST))

    def forget(self) -> None:
        """Nobody knows any more what was told."""
        self._told = -1

    def tell(self, stock: int) -> bool:
        """Say whether a number, or the rate, is far enough from the one that was told to be told itself.

        The number has a least value, and the rate has not: a burst that is long over must not be believed in for ever.
        """
        near = self._told >= 0 and abs(stock - self._told) <= self._told // 4
        if near and self.rate >= self._told_rate / 2 and (self.rate > 0) == (self._told_rate > 0):
            return False
        self._told, self._told_rate = stock, self.rate
        return True
