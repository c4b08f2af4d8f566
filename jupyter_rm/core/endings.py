"""News of ended attempts, cut and joined so that few and large reports are made of it.

Read next: :mod:`jupyter_rm.core.agent`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..model.bulktable import BulkTable
from ..model.columns import Array, Column, Picks, pack
from ..model.describe import Template
from ..model.effects import Finished, Tokens
from ..model.facts import Ends
from ..model.states import HOPELESS, INFRASTRUCTURE, Cause, TaskState

# An attempt that infrastructure ended is not the task's fault, but a task that ends every pilot it meets must end too.
LOST_MOST = 20
_HOPELESS = np.array(sorted(HOPELESS), np.uint8)
_INFRASTRUCTURE = np.array(sorted(INFRASTRUCTURE), np.uint8)
# SIGTERM and SIGKILL, as a program or as the shell around it reports them.
_ENDING = (-15, -9, 143, 137)
VALUES_BYTES = 8 << 20  # of results in one report


def deserves_another(template: Template, state: Array, cause: Array, failures: Array) -> Array:
    """Return which ended attempts are followed by another one, by the task's own policy; all of shape (n,).

    Args:
        state, cause: how they ended. failures: how often each task has failed by itself before.
    """
    failed = state == TaskState.FAILED
    again = failed & (failures < template.retries) & ~np.isin(cause, _HOPELESS)
    if template.retry_on:
        again &= np.isin(cause, [int(Cause[name]) for name in template.retry_on])
    lost = failed & np.isin(cause, _INFRASTRUCTURE)
    return np.asarray(again & ~lost if template.restart == "never" else again | lost)


def ends_of(
    news: Finished | BulkTable, part: Any, values: Column | None = None, notes: dict[int, str] | None = None
) -> Ends:
    """Return the ends at the places ``part`` (an index expression) as facts name them, with values and notes of it."""
    return Ends(
        pack(news.cause[part], "<u1"),
        pack(news.code[part], "<i4"),
        pack(news.node[part], "<u4"),
        pack(news.started[part], "<f8"),
        pack(news.ended[part], "<f8"),
        pack(news.user[part], "<f4"),
        pack(news.sys[part], "<f4"),
        pack(news.rss[part], "<u4"),
        values,
        notes or {},
    )


def never_ran(mine: Tokens, cause: Cause, note: str, state: TaskState = TaskState.FAILED) -> Finished:
    """Return the ends of tasks that were never started."""
    count = len(mine)
    states, causes = np.full(count, state, np.uint8), np.full(count, cause, np.uint8)
    wide, times, seconds = np.zeros(count, np.uint32), np.zeros(count), np.zeros(count, np.float32)
    notes = {0: note} if note else {}
    return Finished(mine, states, causes, wide.view(np.int32), wide, times, times, seconds, seconds, wide, notes=notes)


def honest(news: Finished, returns: bool = False) -> Finished:
    """Return the part that nobody asked for; ``returns``: without what died with a job that will run it again."""
    asked = (news.cause == Cause.USER_CANCEL) | (returns & (news.cause == Cause.PILOT_LOST))
    return cut(news, ~asked)


def slain(news: Finished) -> npt.NDArray[np.bool_]:
    """Return which ended by the signals with which a batch system ends a job, shape (n,)."""
    return np.asarray((news.cause == Cause.TASK_EXIT) & np.isin(news.code, _ENDING))


def blamed(news: Finished, cause: Cause) -> Finished:
    """Return the same ends with another cause."""
    return replace(news, cause=np.full(len(news.tokens), cause, np.uint8))


def cut(news: Finished, keep: npt.NDArray[np.bool_]) -> Finished:
    """Return the part of the news at which ``keep`` is true."""
    return news if bool(keep.all()) else kept(news, np.flatnonzero(keep))


def kept(news: Finished, where: npt.NDArray[np.int64]) -> Finished:
    """Return the ends at the positions ``where`` only."""
    place = {int(old): new for new, old in enumerate(where.tolist())}
    return Finished(
        news.tokens[where],
        news.state[where],
        news.cause[where],
        news.code[where],
        news.node[where],
        news.started[where],
        news.ended[where],
        news.user[where],
        news.sys[where],
        news.rss[where],
        news.values.take(Picks.of(where)) if news.values is not None else None,
        {place[at]: note for at, note in news.notes.items() if at in place},
    )


def joined(parts: list[Finished]) -> list[Finished]:
    """Join consecutive parts that all have values, or all have none, into few large ones."""
    out: list[Finished] = []
    run: list[Finished] = []
    size = 0
    for part in [*parts, None]:
        if part is not None and len(part.tokens) == 0:
            continue
        if run and (part is None or (part.values is None) != (run[0].values is None) or size > VALUES_BYTES):
            out.append(_join(run))
            run, size = [], 0
        if part is not None:
            run.append(part)
            size += len(part.values.data) if part.values is not None else 0
    return out


def _join(run: list[Finished]) -> Finished:
    if len(run) == 1:
        return run[0]
    notes: dict[int, str] = {}
    base = 0
    for part in run:
        notes.update({base + at: note for at, note in part.notes.items()})
        base += len(part.tokens)
    values = [part.values for part in run if part.values is not None]
    return Finished(
        np.concatenate([part.tokens for part in run]),
        np.concatenate([part.state for part in run]),
        np.concatenate([part.cause for part in run]),
        np.concatenate([part.code for part in run]),
        np.concatenate([part.node for part in run]),
        np.concatenate([part.started for part in run]),
        np.concatenate([part.ended for part in run]),
        np.concatenate([part.user for part in run]),
        np.concatenate([part.sys for part in run]),
        np.concatenate([part.rss for part in run]),
        Column.join(values) if values else None,
        notes,
    )
