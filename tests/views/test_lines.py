"""Everybody's jobs: their places, one's own marked, a colour per user in queue and map, and which nodes a job is on."""

from __future__ import annotations

from typing import Any

from ledger_kit import BEGIN, WORDS, Held

from jupyter_rm.batch import JobRecord, JobState, NodeRecord
from jupyter_rm.batch.picture import Part, SitePicture, picture
from jupyter_rm.broker.seen import view_of
from jupyter_rm.model import facts as f
from jupyter_rm.model.states import PilotState
from jupyter_rm.views import catalog
from jupyter_rm.views.people import MINE, hue, job_key
from jupyter_rm.views.pictures import Picture
from jupyter_rm.views.said import SAID, text
from jupyter_rm.views.windows import Window

SITE = "slurm+ssh://me@login.example.org"
NOW = BEGIN + 1000


def waits(number: int, user: str, priority: float, **more: Any) -> JobRecord:
    return JobRecord(str(number), JobState.QUEUED, queue="batch", user=user, priority=priority, submit=BEGIN, **more)


def runs(number: int, user: str, *nodes: str) -> JobRecord:
    return JobRecord(str(number), JobState.RUNNING, queue="batch", user=user, start=BEGIN, nodes=nodes)


def nodes(count: int) -> tuple[NodeRecord, ...]:
    raw = {3: ("offline", "down*"), 4: ("offline", "drained"), 1: ("busy", "allocated"), 2: ("mixed", "mixed")}
    return tuple(NodeRecord(f"n{n:02d}", *raw.get(n, ("free", "idle")), cores=8) for n in range(1, count + 1))


def world(jobs: list[JobRecord], **more: Any) -> Held:
    held = Held()
    held.apply(f.PilotRequested(0, b"k" * 16, BEGIN, f.PilotSpec(site=SITE, queue="batch")))
    held.apply(f.PilotChanged(0, PilotState.QUEUED, BEGIN + 1, job_id="900"))
    own = {one.id: one for one in jobs if one.user == "me"}
    parts = {"queue": Part(BEGIN + 960), "nodes": Part(BEGIN + 700)}
    seen = SitePicture(17, own, queue=picture(jobs, "me"), nodes=nodes(8), parts=parts)
    held.sites = {SITE: view_of(SITE, "Slurm", seen)}
    return held


def show(held: Held, view: str = "queue", **window: Any) -> Picture:
    return catalog.picture(view, held, WORDS, Window(**window), NOW)


def records(made: Picture, table: str) -> list[dict[str, Any]]:
    found = made.tables[table]
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


JOBS = [
    runs(1, "bob", "n01", "n02"),
    waits(2, "bob", 30),
    waits(900, "me", 20, reason_text="waits for nodes"),
    waits(4, "eve", 40),
    waits(5, "eve", 99, detail="held"),
    waits(6, "bob", 10),
]


def test_jobs_stand_in_the_order_of_their_places() -> None:
    made = show(world(JOBS))
    jobs = records(made, "jobs")
    assert [(job["id"], job["position"], job["length"]) for job in jobs] == [
        ("4", 1, 4), ("2", 2, 4), ("900", 3, 4), ("6", 4, 4), ("5", None, None), ("1", None, None)
    ]  # fmt: skip
    (own,) = [job for job in jobs if job["mine"]]
    assert (own["uid"], own["color"], own["reason"]) == ("p.0", MINE, "waits for nodes")
    by_user = {job["user"]: job["color"] for job in jobs}
    assert len(set(by_user.values())) == 3, "a colour each"
    assert jobs[5]["hosts"] == "n[01-02]" and made.values["others"] == 5
    (place,) = records(made, "places")
    wanted = {"nodes": 8, "up": 6, "busy": 1, "mixed": 1, "free": 4, "down": 1, "drained": 1, "unknown": 0}
    assert {name: place[name] for name in wanted} == wanted
    assert (place["number"], place["heard_queue"], place["heard_nodes"]) == (17, BEGIN + 960, BEGIN + 700)


def test_the_line_is_drawn_with_oneself_lit_up_and_named() -> None:
    made = show(world(JOBS), select="p.0")
    marks = [mark for mark in records(made, "line") if mark["state"] in ("QUEUED", "OTHERS")]
    assert [mark["uid"] for mark in marks] == [job_key(SITE, "4"), job_key(SITE, "2"), "p.0", job_key(SITE, "6")]
    assert [mark["x"] for mark in marks] == sorted(mark["x"] for mark in marks)
    assert [mark["uid"] for mark in marks if mark["lit"]] == ["p.0"]
    assert [note["text"] for note in records(made, "line_notes")] == ["p.0 place 3"]
    assert text(SAID["line"]["text"], marks[2]) == "place 3, job 900 of me in batch: waits for nodes"
    parts = {mark["color"]: mark["x1"] - mark["x"] for mark in records(made, "line") if mark["key"].startswith(SITE)}
    assert parts["DOWN"] == parts["DRAINED"] == 125 and parts["IDLE"] == 500
    assert {"you", "bob", "eve", "nodes down"} <= {row["text"] for row in records(made, "legend")}


def test_a_long_line_is_drawn_with_no_more_marks_than_pixels_and_oneself_never_lost() -> None:
    many = [waits(n, f"user{n % 7}", 10_000 - n) for n in range(1, 450)]
    many.append(waits(900, "me", 1))
    made = show(world(many), width=300, rows=50)
    marks = [mark for mark in records(made, "line") if mark["state"] in ("QUEUED", "OTHERS")]
    assert len(marks) <= 100 and marks[-1]["uid"] == "p.0" and marks[-1]["color"] == MINE
    assert text(SAID["line"]["text"], marks[0]) == "places 1 to 5, in batch, user1 and others"
    assert text(SAID["line"]["text"], marks[-1]) == "places 446 to 450, in batch, user5 and others"
    (note,) = records(made, "line_notes")
    assert note["text"] == "p.0 place 450" and note["x"] < 700, "there is room for it"
    jobs = records(made, "jobs")
    assert len(jobs) == 50 and jobs[-1]["uid"] == "p.0" and jobs[-1]["position"] == 450
    found = records(show(world(many), search="USER3"), "jobs")
    assert {job["user"] for job in found} == {"user3"} and len(found) == 64


def test_who_does_not_tell_of_others_is_named() -> None:
    held = world(JOBS)
    view = held.sites[SITE]
    held.sites = {SITE: type(view)(SITE, "Slurm", view.jobs[:1], 0, False)}
    made = show(held)
    assert "login shows nobody the jobs of others" in made.values["others_note"]
    assert records(made, "places")[0]["others"] is None and records(made, "jobs")[0]["length"] is None
    held.sites = {}
    assert "while a pilot waits" in show(held).values["others_note"]


def test_a_start_says_how_sure_it_is() -> None:
    held = world(JOBS)
    for minute, start in enumerate((600, 1500, 900)):
        held.apply(f.PilotQueued(0, NOW - 300 + 60 * minute, 3, 4, NOW + start, "Slurm"))
    (line,) = records(show(held), "queue")
    assert (line["earliest"], line["latest"]) == (NOW + 600, NOW + 1500)
    assert line["certainty"] == "told 3 times within 15 min 00 s" and line["source"] == "Slurm"
    assert any(bar["key"] == "p.0:spread" for bar in records(show(held), "bars"))
    held.apply(f.PilotQueued(0, NOW - 5, 3, 4, NOW - 60, "Slurm"))
    assert "overdue by 1 min" in records(show(held), "queue")[0]["certainty"]


def test_the_map_shows_whose_jobs_are_on_the_nodes_in_the_colours_of_the_queue() -> None:
    held = world(JOBS)
    colors = {job["user"]: job["color"] for job in records(show(held), "jobs")}
    made = show(held, "nodes", layout="site", color="user")
    cells = {cell["label"]: cell for cell in records(made, "cells")}
    assert len(cells) == 8 and cells["n01"]["color"] == cells["n02"]["color"] == colors["bob"] == hue("bob")
    assert cells["n01"]["tasks"] == "job 1 of bob" and cells["n01"]["fill"] == cells["n01"]["top"]
    assert cells["n02"]["fill"] < cells["n02"]["top"], "mixed: not full"
    amounts = {name: (cells[name]["cores"], cells[name]["busy"]) for name in ("n01", "n02", "n03", "n05")}
    assert amounts == {"n01": (8, 8), "n02": (8, 4), "n03": (8, 0), "n05": (8, 0)}, "held by no pilot"
    assert made.values["cores"] == [0, 0], "the session holds nothing"
    assert [cells[name]["state"] for name in ("n03", "n04", "n05")] == ["DOWN", "DRAINED", "IDLE"]
    assert "bob" in {row["text"] for row in records(made, "legend")}
    lit = {cell["label"] for cell in records(show(held, "nodes", layout="site", select=job_key(SITE, "1")), "cells")
           if cell["lit"]}  # fmt: skip
    assert lit == {"n01", "n02"}
    assert show(held, "nodes", select=job_key("elsewhere", "1")).values["note"]


def test_a_job_is_highlighted_in_every_layout_and_one_s_own_nodes_are_one_s_own() -> None:
    held = world(JOBS)
    held.apply(f.PilotChanged(0, PilotState.ACTIVE, BEGIN + 5, nodes=tuple(f.Node(f"n{n:02d}", 8) for n in (1, 5))))
    for layout, name in (("physical", "n01"), ("logical", "p.0/n01"), ("site", "n01")):
        cells = records(
            show(held, "nodes", layout=layout, color="user", level="node", select=job_key(SITE, "1")), "cells"
        )
        assert next(cell["key"] for cell in cells if cell["lit"]) == name, layout
        assert {cell["color"] for cell in cells if cell["label"].endswith(("n01", "n05"))} == {MINE}
        own = [(cell["cores"], cell["busy"]) for cell in cells if cell["label"].endswith(("n01", "n05"))]
        assert own == [(8, 0), (8, 0)], "what a pilot holds is counted once, and no task runs on it"
    assert show(held, "timeline", select=job_key(SITE, "1")).tables["bars"] is not None
