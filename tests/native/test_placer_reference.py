"""The C++ core and the slow oracle make the same choices, to the last core, in ten thousand random histories."""

from __future__ import annotations

import pytest
from placer_kit import Story


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
