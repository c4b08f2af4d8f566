"""Launch methods: how the ranks of one task, and the node agents of a pilot, are started across nodes.

:mod:`.methods` is the table (data), :mod:`.render` makes command lines of it, :mod:`.choose` finds out which of them
can be used here. Nothing in this package starts a program but the question which kinds of MPI ``srun`` speaks, once.
Read next: :mod:`.methods`.
"""

from __future__ import annotations

from .choose import Chosen, for_agents, for_ranks
from .methods import METHODS, Method
from .render import Line, Rank, agents_lines, ranks_line

__all__ = ["METHODS", "Chosen", "Line", "Method", "Rank", "agents_lines", "for_agents", "for_ranks", "ranks_line"]
