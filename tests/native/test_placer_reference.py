"""The C++ core and the slow oracle make the same choices, to the last core, in ten thousand random histories."""

from __future__ import annotations

import random

import numpy as np
import pytest
from placer_kit import Story, u64

from jupyter_rm.native._placer import Placer
from jupyter_rm.testing.placer_reference import ReferencePlacer


@pytest.mark.parametrize("block", range(10))
def test_ten_thousand_short_stories_end_alike(block: int) -> None:
    for seed in range(block * 1000, (block + 1) * 1000):
        story = Story(seed)
        for _ in range(12):
            story.step()
        story.compare_views()


def test_long_stories_end_alike_and_reach_the_rare_rules() -> None:
    reserved = down = bound = 0
    for seed in range(20_000, 20_200):
        story = Story(seed)
        for _ in range(120):
            story.step()
            reserved += bool(story.oracle.reserved)
        story.compare_views()
        down += any(x.state == "down" and x.allocs for x in story.oracle.nodes_list)
        bound += bool(story.oracle.tags)
    assert reserved > 100, f"only {reserved} steps saw a reservation: the stories miss the rule they should test"
    assert down > 5, f"only {down} stories ended with tasks on a node that is down"
    assert bound > 20, f"only {bound} stories bound a tag"


def test_spreading_over_many_half_full_nodes_is_alike() -> None:
    columns = [np.full(40, v, t) for v, t in ((8, np.uint16), (0, np.uint16), (99, np.uint32), (0, np.uint32))]
    args = [*columns, np.ones(40, np.uint8), np.zeros(40, np.uint16)]
    placers = (Placer(*args), ReferencePlacer(*args))
    for seed in range(40):
        rng = random.Random(seed)
        answers = []
        for p in placers:
            rng.seed(seed)
            shapes = [p.shape(cores=rng.randint(1, 7), mem=rng.randint(0, 30)) for _ in range(4)]
            wide = [p.shape(ranks=rng.randint(2, 90), mem=m) for m in (0, 1, 9)]
            for i, shape in enumerate(shapes + wide):
                p.add(shape, u64(range(i * 100 + 1, i * 100 + rng.randint(2, 12))))
            tokens, allocs, _ = p.schedule(1000, 0.0)
            answers.append((tokens.tolist(), [p.slots(int(a)) for a in allocs]))
            p.release(allocs)
            p.remove(u64(range(1, 1000)))
        assert answers[0] == answers[1], f"seed {seed}"
