"""Seeded chance: every draw of a simulated world comes from here, so that a seed is the whole story.

Read next: :mod:`jupyter_rm.testing.loop`.
"""

from __future__ import annotations

from random import Random

__all__ = ["Random", "chance"]


def chance(seed: int, purpose: str) -> Random:
    """Return the generator of ``seed`` for one purpose; purposes do not disturb each other's draws."""
    return Random(f"{seed}/{purpose}")  # noqa: S311 (nothing here is a secret)
