"""The sites of a session from outside: who stands in their lines, and their nodes. A list; no figure.

What a site does not tell stays empty. Knows rows that were told to this process; asks nobody. Read next:
:mod:`jupyter_rm.model.sites`.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..model.sites import SiteView
from .lines import sources
from .pictures import Picture, Table, head
from .tables import Source
from .texts import line
from .windows import Window

SITE_COLUMNS = (
    *("site", "title", "jobs", "others", "nodes", "free", "busy", "mixed", "offline", "heard_jobs", "heard_queue"),
    *("heard_nodes", "failure", "source"),
)
JOB_COLUMNS = (
    *(
        "key",
        "site",
        "id",
        "user",
        "mine",
        "state",
        "queue",
        "position",
        "reason",
        "submit",
        "start",
        "estimate",
        "nodes",
    ),
)
NODE_COLUMNS = ("key", "site", "name", "state", "raw", "cores", "mem_mib", "gpus", "load", "reason", "queues")
FEW, MOST = 100, 1000


def sites(source: Source, window: Window) -> Picture:
    """Return what the sites of a session look like.

    Args:
        window: ``offset``, ``limit`` of jobs and of nodes; ``focus``: the name of one site; ``search`` in the rows.
    """
    most = min(max(1, window.limit or FEW), MOST)
    with source.changed:
        values = head(source.ledger)
        known: Mapping[str, SiteView] = dict(getattr(source, "sites", {}))
    chosen = [view for name, view in sorted(known.items()) if window.focus in ("", name)]
    jobs: list[list[object]] = [
        [
            *(f"{view.site} {job.id}", line(view.site), line(job.id), line(job.user), job.mine, job.state),
            *(line(job.queue), job.position or None, line(job.reason)),
            *(job.submit or None, job.start or None, job.estimate or None, job.nodes or None),
        ]
        for view in chosen
        for job in view.jobs
    ]
    nodes: list[list[object]] = [
        [
            *(f"{view.site} {node.name}", line(view.site), line(node.name), node.state, line(node.raw)),
            *(node.cores or None, node.mem or None, node.gpus or None, None if node.load < 0 else node.load),
            *(line(node.reason), line(", ".join(node.queues))),
        ]
        for view in chosen
        for node in view.nodes
    ]
    jobs, nodes = _matching(jobs, window.search), _matching(nodes, window.search)
    values |= {"sites": len(known), "matched": len(jobs), "matched_nodes": len(nodes), "offset": window.offset}
    part = slice(max(0, window.offset), max(0, window.offset) + most)
    return Picture(
        values,
        {
            "sites": Table(SITE_COLUMNS, [_site(view) for view in chosen]),
            "jobs": Table(JOB_COLUMNS, jobs[part]),
            "machines": Table(NODE_COLUMNS, nodes[part]),
        },
    )


def _site(view: SiteView) -> list[object]:
    own = sum(job.mine for job in view.jobs)
    states = view.node_states
    return [
        *(line(view.site), line(view.title), own, len(view.jobs) - own + view.left_out if view.whole else None),
        *(sum(states.values()) or None, *(states.get(name, 0) for name in ("free", "busy", "mixed", "offline"))),
        *(view.heard.get(part) for part in ("jobs", "queue", "nodes")),
        line("; ".join(f"{part}: {why}" for part, why in view.failures.items())),
        line(sources(view)),
    ]


def _matching(rows: list[list[object]], search: str) -> list[list[object]]:
    words = search.lower()
    return [row for row in rows if any(words in str(cell).lower() for cell in row)] if words else rows
