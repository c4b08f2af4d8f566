"""How much work an agent asks to hold: what it ends in a while, by the rate at which it does. Knows numbers only."""

from __future__ import annotations

MOST = 262_144


class Appetite:
    """Measures how fast tasks end.

    Attributes:
        rate: tasks a second.
    """

    __slots__ = ("_at", "_ended", "_told", "rate")

    def __init__(self, now: float) -> None:
        self.rate = 0.0
        self._at, self._ended = now, 0
        self._told = -1

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
        self._at, self._ended = now, 0
        return True

    def wanted(self, least: int, seconds: float) -> int:
        """Return how many tasks make work for so many seconds, but at least ``least``."""
        return int(min(max(least, self.rate * seconds), MOST))

    def forget(self) -> None:
        """Nobody knows any more what was told."""
        self._told = -1

    def tell(self, stock: int) -> bool:
        """Say whether a number is far enough from the one that was told to be told itself."""
        if self._told >= 0 and abs(stock - self._told) <= self._told // 4:
            return False
        self._told = stock
        return True
