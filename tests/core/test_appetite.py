"""How much an agent asks to hold, and when it says so anew."""

from __future__ import annotations

from jupyter_rm.core.appetite import Appetite

LEAST, SECONDS = 64, 1.0


def told(appetite: Appetite, seconds: float, ended: int = 0, start: float = 0.0) -> list[tuple[int, float]]:
    """Return what is told while tasks end at ``ended`` a second, looking every 0.25 s."""
    out = []
    for step in range(1, int(seconds * 4) + 1):
        appetite.count(ended // 4)
        appetite.learn(start + step / 4)
        stock = appetite.wanted(LEAST, SECONDS)
        if appetite.tell(stock):
            out.append((stock, appetite.rate))
    return out


def test_a_burst_that_is_over_is_not_believed_in_for_ever() -> None:
    appetite = Appetite(0.0)
    assert told(appetite, 1.0, ended=80)[-1][1] == 80
    after = told(appetite, 100.0, start=1.0)
    assert after[-1] == (LEAST, 0.0), "the last rate that was told stands"
    assert len(after) < 16, "it is told when it has halved, not all the time"
    assert not told(appetite, 100.0, start=101.0)


def test_a_steady_rate_is_told_once() -> None:
    assert len(told(Appetite(0.0), 60.0, ended=1000)) == 1


def test_the_first_tasks_are_told_at_once() -> None:
    appetite = Appetite(0.0)
    assert told(appetite, 1.0) == [(LEAST, 0.0)]
    assert told(appetite, 1.0, ended=4, start=1.0)[0] == (LEAST, 4.0)
