"""The queue: each pilot's way, its place over time and its estimate stand where the facts put them."""

from __future__ import annotations

from typing import Any

from ledger_kit import BEGIN, WORDS, Held

from jupyter_rm.model import facts as f
from jupyter_rm.model.ledger import MOST_PLACES, Ledger
from jupyter_rm.model.states import Cause, PilotState
from jupyter_rm.views import catalog, export
from jupyter_rm.views.pictures import Picture
from jupyter_rm.views.queue import place_of
from jupyter_rm.views.windows import Window

NOW = BEGIN + 1000


def ask(held: Held, at: float = BEGIN, **spec: Any) -> int:
    number = len(held.ledger.pilots)
    held.apply(f.PilotRequested(number, bytes([number]) * 16, at, f.PilotSpec(**spec)))
    return number


def show(held: Held, **window: Any) -> Picture:
    return catalog.picture("queue", held, WORDS, Window(**window), NOW)


def records(picture: Picture, table: str) -> list[dict[str, Any]]:
    found = picture.tables[table]
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def waiting() -> Held:
    held = Held()
    pilot = ask(held, site="slurm+ssh://me@login.example.org", nodes=4, queue="batch", walltime=3600.0)
    held.apply(f.PilotChanged(pilot, PilotState.QUEUED, BEGIN + 10, job_id="4711"))
    for minute, place in enumerate((9, 9, 7, 3)):
        held.apply(f.PilotQueued(pilot, BEGIN + 60 * (minute + 1), place, 12, NOW + 500, "Slurm", "waits for 4 nodes"))
    return held


def test_a_waiting_pilot_tells_place_reason_and_estimate() -> None:
    picture = show(waiting())
    (line,) = records(picture, "queue")
    assert (line["state"], line["position"], line["length"], line["queue"]) == ("QUEUED", 3, 12, "batch")
    assert (line["estimate"], line["source"], line["asked_at"], line["walltime"]) == (NOW + 500, "Slurm", BEGIN, 3600.0)
    bars = {bar["state"]: bar for bar in records(picture, "bars")}
    assert bars["SUBMITTED"]["x1"] == bars["QUEUED"]["x"] == (BEGIN + 10) * 1000
    assert bars["ESTIMATE"]["x1"] == (NOW + 500) * 1000 and "Slurm" in bars["ESTIMATE"]["text"]
    assert [row["text"] for row in records(picture, "notes")] == ["place 3 of 12"]
    steps = [piece for piece in records(picture, "sparks") if piece["x"] != piece["x1"]]
    assert [piece["x"] for piece in steps] == [(BEGIN + at) * 1000 for at in (60, 180, 240)]
    assert steps[0]["y"] > steps[1]["y"] > steps[2]["y"], "the nearer to the front, the lower"
    assert [row["key"] for row in records(picture, "marks")] == ["now"]


def test_a_pilot_that_has_begun_tells_no_place_any_more() -> None:
    held = waiting()
    held.apply(f.PilotChanged(0, PilotState.ACTIVE, BEGIN + 400))
    (line,) = records(show(held), "queue")
    assert line["position"] is None and line["estimate"] is None and line["started_at"] == BEGIN + 400
    assert records(show(held), "notes") == [] and len(records(show(held), "sparks")) > 2, "how it went is still shown"
    held.apply(f.PilotSilent(0, True, BEGIN + 500))
    assert {bar["state"] for bar in records(show(held), "bars")} == {"SUBMITTED", "QUEUED", "SILENT"}


def test_failed_pilots_stand_out_and_say_why() -> None:
    held = Held()
    pilot = ask(held, site="slurm+ssh://me@login")
    held.apply(f.PilotStep(pilot, BEGIN + 1, "submit", "fail", text="sbatch said no"))
    assert records(show(held), "queue")[0]["step"] == "submit: sbatch said no"
    refused = Cause.SUBMIT_REJECTED
    held.apply(f.PilotChanged(pilot, PilotState.FAILED, BEGIN + 30, cause=refused, reason="invalid partition"))
    picture = show(held)
    (bar,) = [bar for bar in records(picture, "bars") if bar["state"] == "FAILED"]
    assert bar["x"] == (BEGIN + 30) * 1000 and bar["text"] == "invalid partition" and bar["hatch"]
    assert records(picture, "queue")[0]["cause"] == "SUBMIT_REJECTED"
    assert show(held) == catalog.picture("queue", held, WORDS, Window(), NOW + 900), "nothing moves: nothing is sent"


def test_living_pilots_come_first_and_few_are_shown() -> None:
    held = Held()
    for _ in range(40):
        held.apply(f.PilotChanged(ask(held), PilotState.DONE, BEGIN + 5))
    held.apply(f.PilotChanged(0, PilotState.DONE, BEGIN + 5))
    alive = ask(held)
    picture = show(held, limit=10, select=f"p.{alive}")
    keys = [row["key"] for row in records(picture, "lanes")]
    assert keys[0] == f"p.{alive}" and keys[1] == "p.39" and len(keys) == 10
    assert picture.values["pilots"] == 41
    assert {bar["uid"] for bar in records(picture, "bars") if bar["lit"]} == {f"p.{alive}"}


def test_places_are_kept_bounded_and_through_a_snapshot() -> None:
    held = waiting()
    assert held.ledger.pilots[0].places == ((BEGIN + 60, 9), (BEGIN + 180, 7), (BEGIN + 240, 3))
    for number in range(2 * MOST_PLACES):
        held.apply(f.PilotQueued(0, BEGIN + number, 2 + number % 2, 12))
    kept = held.ledger.pilots[0].places
    assert len(kept) <= MOST_PLACES + 1
    assert Ledger.load(held.ledger.dump()).pilots[0].places == kept


def test_a_script_is_called_one() -> None:
    held = Held()
    ask(held, site="slurm+ssh://me@login", script=b"#!/bin/sh\ntrue\n", script_name="relax.sh")
    ask(held, site="slurm+ssh://me@login", script=b"#!/bin/sh\ntrue\n")
    ask(held, site="slurm+ssh://me@login", name="big")
    made = show(held)
    assert [row["name"] for row in records(made, "queue")] == ["big", "script", "script relax.sh"]
    assert [row["label"] for row in records(made, "lanes")] == ["p.2 big", "p.1 script", "p.0 script relax.sh"]
    summary = catalog.picture("summary", held, WORDS, Window(), NOW)
    assert [row["name"] for row in records(summary, "pilots")] == ["big", "script", "script relax.sh"]


def test_an_exported_queue_has_no_empty_tables() -> None:
    page = export.page("queue", show(waiting()))
    assert "<caption>queue</caption>" in page
    assert "<caption>jobs</caption>" not in page and "<caption>places</caption>" not in page


def test_sites_are_named_shortly() -> None:
    assert place_of("slurm+ssh://me@login.example.org:22/x") == "login"
    assert place_of("ssh://10.0.0.7") == "10.0.0.7"
    assert place_of("local") == "local"


def test_an_empty_session_says_so() -> None:
    assert show(Held()).values["note"] == "No pilot was asked for yet."
