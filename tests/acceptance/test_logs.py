"""What broker and agents log is read from anywhere, in order; what they log is changed while they run."""

from __future__ import annotations

import signal
from itertools import islice

import psutil
import pytest

import jupyter_rm as jrm
from jupyter_rm.client.logs import LogEntry, Reader
from jupyter_rm.client.session import Session


def debug_lines(lines: list[LogEntry], component: str) -> list[LogEntry]:
    return [line for line in lines if line.component == component and line.level == "DEBUG"]


def test_lines_of_broker_and_agent_come_in_order_and_levels_change_while_they_run(session: Session) -> None:
    everything = Reader(session, ())
    session.submit(jrm.Task("true")).wait(20)
    before = everything.read()
    assert any(line.component == "broker" and "incarnation" in line.text for line in before)
    assert any(line.component == "p.0" and "agent of p.0" in line.text for line in before)
    assert [line.at for line in before] == sorted(line.at for line in before)
    assert not debug_lines(before, "p.0")
    assert everything.read() == []

    session.logs("p.0", level="DEBUG")
    for number in range(50):
        session.call(abs, -number).result(20)
    louder = everything.read()
    started = [line for line in debug_lines(louder, "p.0") if line.text == "Launch: 1 tasks"]
    assert len(started) >= 50 and not debug_lines(louder, "broker")
    assert louder.dropped == 0
    session.logs("p.0", level="INFO")
    session.call(abs, 1).result(20)
    assert not [line for line in everything.read() if line.text == "Launch: 1 tasks"]


def test_lines_are_followed_as_they_are_logged(session: Session) -> None:
    lines = session.logs("p.0", level="DEBUG", follow=True)
    assert not isinstance(lines, list)
    assert "agent of p.0" in next(lines).text
    session.call(abs, -1).result(20)
    texts = [line.text for line in islice(lines, 2)]
    assert texts == ["Launch: 1 tasks", "ended: 1 tasks"]
    session.logs("p.0", level="INFO")
    session.close()
    assert all(line.component == "p.0" for line in lines), "it ends with the session"


def test_an_agent_begins_anew_with_each_of_its_lives(session: Session) -> None:
    reader = Reader(session, ["p.0"])
    (first,) = [line for line in reader.read() if "life" in line.text]
    row = session._replica.ledger.pilots[0]
    epoch, guard = row.epoch, psutil.Process(int(row.job_id))
    (agent,) = [each for each in guard.children(recursive=True) if "jupyter_rm.agent" in each.cmdline()]
    agent.send_signal(signal.SIGKILL)
    assert session._replica.wait(lambda: row.epoch > epoch, 30)
    (second,) = [line for line in reader.read() if "life" in line.text]
    assert first.text != second.text


def test_who_is_not_there_is_named(session: Session) -> None:
    with pytest.raises(jrm.RequestError, match=r"there is no 'p\.7'") as caught:
        session.logs("p.7")
    assert "broker, p.0" in caught.value.hint
    with pytest.raises(jrm.RequestError, match="'LOUD' is no level"):
        session.logs(level="LOUD")
    session.pilots()[0].cancel()
    assert session._replica.wait(lambda: session.pilots()[0].state.final, 20)
    with pytest.raises(jrm.RequestError, match="not in contact") as caught:
        session.logs("p.0")
    assert caught.value.code == "JRM-Q96" and "jrm logs broker" in caught.value.hint
    assert all(line.component == "broker" for line in session.logs())
