"""The simulation finds bugs: each one put in on purpose is caught by some seed, by the promise it breaks."""

from __future__ import annotations

import pytest

from jupyter_rm.sim.world import run
from jupyter_rm.testing.mutations import MUTATIONS, mutated

MOST = 300
# Seeds that caught it when this was written, tried first; when draws change, others are searched.
KNOWN = {
    "ack-before-commit": 27,
    "effects-before-journal": 15,
    "wall-clock-lease": 44,
    "no-connection-fence": 52,
    "attempt-ignored": 195,
    "cancel-forgotten-on-reconnect": 2,
    "users-outlive-services": 311,
}
# What it may be caught by: a bug may break several promises, not any.
BREAKS = {
    "ack-before-commit": ("I1",),
    "wall-clock-lease": ("I3", "I8"),
    "forgotten-lease": ("I3",),
    "spool-ignored": ("I3", "I5"),
    "intent-not-spooled": ("I3",),
    "spool-after-start": ("I3",),
    "cancel-forgotten-on-reconnect": ("I8",),
    "files-announced-once": ("I5", "I8"),
    "files-fetched-once": ("I5",),
    "done-before-its-files": ("I9",),
    "bundle-begins-anew": ("I3", "I8"),
    "bundle-retries-without-end": ("I3",),
    "remains-unread": ("I3", "I8"),
    "services-not-waited-for": ("I10",),
    "users-outlive-services": ("I8", "I5"),
}


@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_the_bug_is_caught(name: str) -> None:
    first = KNOWN.get(name, 0)
    with mutated(name) as bugs:
        for seed in [first, *range(MOST)]:
            broken = run(seed, bugs).broken
            if broken:
                assert broken.startswith(BREAKS.get(name, ("I", "KeyError", "ValueError", "IndexError"))), broken
                return
    pytest.fail(f"{name} was not caught by {MOST} seeds: a promise is not watched any more")


def test_a_mutation_is_taken_out_again() -> None:
    with mutated("inventory-ignored") as bugs:
        assert run(0, bugs).broken
    assert not run(0).broken
