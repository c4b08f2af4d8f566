"""Shipped fakes: a network, clocks, disks and a performer that misbehave on order, and the oracles that watch.

They serve tests and :mod:`jupyter_rm.sim`; no part of the system itself leans on them. Everything is driven by a
:class:`~jupyter_rm.testing.loop.Loop` and a seed, nothing waits for real. Read next:
:mod:`jupyter_rm.testing.network`.
"""
