"""The sites of a session from outside: own jobs first, others by their place, ill nodes first."""

from __future__ import annotations

from typing import Any

from ledger_kit import BEGIN, WORDS, Held

from jupyter_rm.batch import JobRecord, JobState, NodeRecord
from jupyter_rm.batch.picture import Part, SitePicture, picture
from jupyter_rm.broker.seen import MOST_NODES, MOST_OTHERS, view_of
from jupyter_rm.views import catalog
from jupyter_rm.views.pictures import Picture
from jupyter_rm.views.windows import Window

SITE = "slurm+ssh://me@login"


def job(number: int, user: str, priority: float, state: JobState = JobState.QUEUED, **more: Any) -> JobRecord:
    return JobRecord(str(number), state, queue="batch", user=user, priority=priority, submit=BEGIN, **more)


def seen(jobs: list[JobRecord], nodes: tuple[NodeRecord, ...] = (), **more: Any) -> Held:
    line = picture(jobs, "me")
    own = {one.id: one for one in jobs if one.user == "me"}
    held = Held()
    held.sites = {SITE: view_of(SITE, "Slurm", SitePicture(1, own, queue=line, nodes=nodes, **more))}
    return held


def rows(made: Picture, table: str) -> list[dict[str, Any]]:
    found = made.tables[table]
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def show(held: Held, **window: Any) -> Picture:
    return catalog.picture("sites", held, WORDS, Window(**window), BEGIN + 1000)


def test_own_jobs_first_then_others_by_their_place() -> None:
    jobs = [
        job(1, "bob", 50, JobState.RUNNING, nodes=("n1", "n2")),
        job(2, "bob", 30),
        job(3, "me", 20, reason="Resources", reason_text="waits for nodes"),
        job(4, "eve", 40),
        job(5, "eve", 99, detail="held"),
        job(6, "bob", 10),
    ]
    made = show(seen(jobs))
    table = rows(made, "jobs")
    assert [(row["id"], row["position"]) for row in table] == [
        ("3", 3), ("4", 1), ("2", 2), ("6", 4), ("5", None), ("1", None)
    ]  # fmt: skip
    assert table[0]["mine"] and table[0]["reason"] == "waits for nodes" and not any(row["mine"] for row in table[1:])
    assert table[5]["nodes"] == 2 and table[0]["nodes"] is None
    assert len({row["key"] for row in table}) == 6
    assert [row["id"] for row in rows(show(seen(jobs), search="EVE"), "jobs")] == ["4", "5"]
    assert made.values["sites"] == 1 and show(seen(jobs), focus="elsewhere").tables["sites"].rows == []


def test_a_large_site_is_cut_and_counted() -> None:
    jobs = [job(number, "bob", 10_000 - number) for number in range(2000)] + [job(9999, "me", 0)]
    nodes = tuple(NodeRecord(f"n{n:05d}", "offline" if n == 7777 else "free", "down*", 64) for n in range(8000))
    held = seen(jobs, nodes, parts={"nodes": Part(BEGIN), "queue": Part(BEGIN - 60, "no answer")})
    view = held.sites[SITE]
    assert (len(view.jobs), view.left_out, len(view.nodes), view.nodes_left_out) == (
        MOST_OTHERS + 1, 2000 - MOST_OTHERS, MOST_NODES, 3000
    )  # fmt: skip
    made = show(held, limit=50)
    (site,) = rows(made, "sites")
    assert (site["nodes"], site["free"], site["offline"], site["others"]) == (8000, 7999, 1, 2000)
    assert site["failure"] == "queue: no answer" and site["heard_nodes"] == BEGIN
    assert rows(made, "jobs")[0]["position"] == 2001 and len(rows(made, "machines")) == 50
    assert rows(made, "machines")[0]["name"] == "n07777", "what is ill comes first"


def test_nothing_is_known_and_nothing_is_shown() -> None:
    made = show(Held())
    assert made.values["sites"] == 0 and all(not table.rows for table in made.tables.values())
