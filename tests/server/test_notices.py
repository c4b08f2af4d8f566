"""Notices: told once, together, and not at all for what was there before."""

from __future__ import annotations

from typing import Any

import jsonschema
import yaml

from jupyter_rm.server.notices import FAILURES_S, SCHEMA, SCHEMA_ID, Notices

DESCRIPTION = yaml.safe_load(SCHEMA.read_text())


def session(name: str = "s", pilots: tuple[str, ...] = (), state: str = "open", **tasks: int) -> dict[str, Any]:
    places = [(f"pilot{number}", "local", at) for number, at in enumerate(pilots)]
    return {"name": name, "state": state, "opened_at": 5.0, "tasks": tasks, "pilots": places, "clients": 1}


def told(notices: Notices, now: float, *lines: dict[str, Any]) -> list[tuple[str, str, int]]:
    found = notices.compare(lines, now)
    for notice in found:
        jsonschema.validate(notice, DESCRIPTION)
        assert notice["text"]
    return [(notice["kind"], notice["session"], notice["count"]) for notice in found]


def test_what_was_there_before_is_no_news() -> None:
    assert DESCRIPTION["$id"] == SCHEMA_ID
    notices = Notices()
    assert told(notices, 0.0, session(pilots=("ACTIVE", "FAILED"), FAILED=7)) == []
    assert told(notices, 1.0, session(pilots=("ACTIVE", "FAILED"), FAILED=7)) == []


def test_pilots_are_told_once() -> None:
    notices = Notices()
    told(notices, 0.0)
    assert told(notices, 1.0, session(pilots=("QUEUED",))) == []
    assert told(notices, 2.0, session(pilots=("ACTIVE",))) == [("pilot-active", "s", 1)]
    assert told(notices, 3.0, session(pilots=("ACTIVE", "ACTIVE"))) == [("pilot-active", "s", 1)]
    assert told(notices, 4.0, session(pilots=("FAILED", "DONE"))) == [("pilot-failed", "s", 1)]


def test_failures_are_told_together_and_none_is_forgotten() -> None:
    notices = Notices()
    told(notices, 0.0)
    seen = []
    failed = 0
    for tick in range(40):
        failed += 3
        seen += told(notices, tick * 0.5, session(RUNNING=1, FAILED=failed))
    assert 3 <= len(seen) <= 20 / FAILURES_S + 1
    seen += told(notices, 99.0, session(RUNNING=1, FAILED=failed))
    assert sum(count for kind, _, count in seen if kind == "tasks-failed") == failed


def test_the_end_of_all_tasks_is_told_once_and_not_of_a_closed_session() -> None:
    notices = Notices()
    told(notices, 0.0, session(RUNNING=2), session("other", WAITING=3))
    lines = session(DONE=2), session("other", state="closed", CANCELED=3)
    assert told(notices, 1.0, *lines) == [("tasks-ended", "s", 2)]
    assert told(notices, 2.0, *lines) == []
