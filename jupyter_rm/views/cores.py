"""The inside of a node: its cores and GPUs, and which task holds which.

Where on its node a task runs is not recorded; tasks are put on as many cores as they ask for, always the same ones as
long as they run (nearly: two tasks may want the same core). Knows columns. Read next: :mod:`.nodes`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .gather import Gathered
from .grid import UNITS
from .grid import cells as grid
from .palette import category
from .tables import Array

MOST_CORES = 1024


def place(sizes: list[int], wishes: list[int], count: int) -> list[int]:
    """Return the owner of each of ``count`` slots (-1: free): each owner gets ``sizes`` slots from where it wishes."""
    owner = [-1] * count
    free = count
    for number, (size, wish) in enumerate(zip(sizes, wishes, strict=True)):
        slot = wish % count if count else 0
        size = min(size, free)
        free -= size
        while size > 0:
            if owner[slot] < 0:
                owner[slot] = number
                size -= 1
            slot = (slot + 1) % count
    return owner


def cells(
    gathered: Gathered, tasks: Array, cores: int, gpus: int, color: str, select: str, size: tuple[int, int]
) -> list[list[Any]]:
    """Return the cells of a node, as in :data:`jupyter_rm.views.nodes.CELL_COLUMNS`: its GPUs, then its cores.

    Args:
        tasks: places of the tasks that run there. select: a task or submission to highlight.
    """
    cores = min(cores, MOST_CORES)
    order = tasks[np.argsort(gathered.started[tasks], kind="stable")]
    bulks = gathered.bulk(order).tolist()
    uids = [gathered.uid(int(task)) for task in order]
    wishes = [int(task) for task in order]
    on_core = place([math.ceil(gathered.cores[bulk]) for bulk in bulks], wishes, cores)
    on_gpu = place([math.ceil(gathered.gpus[bulk]) for bulk in bulks], wishes, gpus)
    width, height = size
    # GPUs above, cores below, each in rows of its own.
    above = min(0.3, gpus / (gpus + cores)) if gpus and cores else float(bool(gpus))
    rows: list[list[Any]] = []
    for owners, name, bottom, part in ((on_gpu, "GPU ", 1 - above, above), (on_core, "", 0.0, 1 - above)):
        where, _ = grid(len(owners), width, max(20, round(height * part)))
        for slot, owner in enumerate(owners):
            x, y, w, h = where[slot]
            low, high = (bottom + part * edge / UNITS for edge in (y, y + h))
            uid = uids[owner] if owner >= 0 else ""
            key = "IDLE" if owner < 0 else category(bulks[owner]) if color == "task" else "BUSY"
            key = "c0" if color == "user" and owner >= 0 else key
            key = "l10" if color == "load" and owner >= 0 else "l0" if color == "load" else key
            if color == "pilot" and owner >= 0:
                key = category(int(gathered.pilot[order[owner]]))
            lit = bool(uid) and (uid == select or uid.startswith(select + ".")) and bool(select)
            y0, y1 = round(low * UNITS, 1), round(high * UNITS, 1)
            kind = (0, 0, 1, int(owner >= 0)) if name else (1, int(owner >= 0), 0, 0)
            rows.append(
                [
                    *(f"{'gpu' if name else 'core'}:{slot}", f"{name}{slot}", x, w, y0, y1, y1, key, " ", int(lit)),
                    *(False, "RUNNING" if owner >= 0 else "IDLE", 0, *kind, 0, 0, int(owner >= 0), 0, 0, uid),
                    *("", uid),
                ]
            )
    return rows
