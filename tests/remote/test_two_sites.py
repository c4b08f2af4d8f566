"""Two pilots on each of two clusters, ten bulks of ten tasks, the kernel killed after five: every task runs once.

The short form of ``benchmarks/two_sites.py``.
"""

from __future__ import annotations

from remote_kit import Far
from two_sites_kit import study


def test_a_kernel_that_dies_half_way_costs_nothing_on_two_clusters(far: Far) -> None:
    far.cluster.need("slurm", "sge")
    seen = study(far, "two-sites", pilots=2, bulks=10, tasks=10, within_s=150)
    assert seen.counts == {"DONE": 100}
    assert len(seen.starts) == 100 and set(seen.starts.values()) == {1}, "a task was started more than once"
    assert seen.known == 50, "the next kernel knows what the first one submitted"
    sites = {uid for uid, count in seen.used.items() if count}
    assert len(sites) > 2, f"only one cluster did the work: {seen.used}"
