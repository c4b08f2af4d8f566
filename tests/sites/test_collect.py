"""One collection of a site for everybody: its pace, what it believes, and what a failure does not change."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_kit import eventually
from sites_kit import Hand
from zorp_kit import HERE, Zorp

from jupyter_rm.batch import BatchError, JobState, load
from jupyter_rm.batch.picture import change
from jupyter_rm.model.errors import SiteError
from jupyter_rm.runtime.batchsite import BatchSite
from jupyter_rm.runtime.collect import Collector
from jupyter_rm.runtime.connect import Nobody, connect


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def zorp(tmp_path: Path) -> Iterator[Zorp]:
    with connect("local", Nobody()) as connection:
        made = Zorp(tmp_path / "zorp", connection)
        yield made
        if ids := [job.id for job in made.site.queue().mine]:
            made.site.cancel(ids)


@pytest.fixture
def hand(zorp: Zorp, tmp_path: Path) -> Hand:
    (tmp_path / "jobs").mkdir()
    return Hand(zorp.site, zorp.site.connection, str(tmp_path / "jobs"), None)


LISTINGS = ("zlook", "zbook", "zwhen")


def test_many_who_want_to_know_make_one_polite_collection(zorp: Zorp, hand: Hand) -> None:
    clock = Clock()
    collector = Collector(zorp.site, clock)
    jobs = {job.id: job.token for job in (hand.submit(hold=True), hand.submit(hold=True))}
    before = len(zorp.named(*LISTINGS))

    def ask() -> None:
        for _ in range(50):
            collector.status(jobs)
            collector.look_around()

    for _ in range(1800):  # half an hour
        clock.now += 1.0
        if clock.now % 600 == 0:
            threads = [threading.Thread(target=ask) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        else:
            collector.status(jobs)
            collector.look_around()
    asked = len(zorp.named(*LISTINGS)) - before
    assert 30 <= asked <= 41, f"{asked} listings in half an hour: its file says one in 45 s"
    assert 3 <= len(zorp.named("zboxes")) <= 4, "nodes: one in 600 s"
    assert len(zorp.named("zlanes")) == 1, "queues: one in an hour"
    assert {record.detail for record in collector.picture.jobs.values()} == {"held"}


def test_places_and_estimates_come_with_the_listing(zorp: Zorp, hand: Hand) -> None:
    clock = Clock()
    collector = Collector(zorp.site, clock)
    wide = hand.submit(nodes=4)
    wide.up()
    waiting = [hand.submit(nodes=1), hand.submit(nodes=2)]
    jobs = {job.id: job.token for job in waiting}
    heard = collector.status(jobs)
    assert [(one.id, one.position) for one in heard] == [(waiting[0].id, 1), (waiting[1].id, 2)]
    assert heard[0].reason_text == "waits for boxes to become free"
    assert [collector.place(id) for id in jobs] == [(1, 2), (2, 2)]
    assert collector.status(jobs) == [] and collector.due() == 45.0, "too early"
    clock.now += 45
    assert collector.status(jobs) == [], "this slot was for start times, which another program tells"
    assert set(collector.picture.estimates) == set(jobs)
    before = collector.picture
    clock.now += 45
    wide.go()
    eventually((zorp.place / f"{wide.id}.verdict").exists, "the wide job does not end")
    heard = collector.status(jobs)
    assert {one.state for one in heard} == {JobState.RUNNING}
    changed = change(before, collector.picture)
    assert {job.id for job in changed.jobs} >= set(jobs) and not changed.empty
    assert change(collector.picture, collector.picture).empty


def test_a_failure_concludes_nothing_and_slows_down(zorp: Zorp, hand: Hand) -> None:
    clock = Clock()
    collector = Collector(zorp.site, clock, wall=clock)
    job = hand.submit(hold=True)
    collector.status({job.id: job.token})
    collector.look_around()
    known = collector.picture
    zorp.break_down("the great wheel is stuck")
    failed = []
    for _ in range(360):
        clock.now += 10
        try:
            collector.status({job.id: job.token})
        except BatchError as error:
            failed.append((clock.now, error))
        collector.look_around()
    assert 6 <= len(failed) <= 24, f"{len(failed)} failures in an hour: it does not slow down"
    assert collector.picture.jobs == known.jobs and collector.picture.nodes == known.nodes
    assert "great wheel" in collector.picture.parts["jobs"].failure + collector.picture.parts["queue"].failure
    assert collector.picture.age("nodes", clock.now) == pytest.approx(3600, abs=20)
    zorp.break_down()
    heard = []
    for _ in range(2):  # one slot may be for start times
        clock.now += 1000
        heard += collector.status({job.id: job.token})
    assert {one.id for one in heard} == {job.id}
    assert not collector.picture.parts["jobs"].failure


def test_what_the_queue_says_of_own_jobs_is_asked_again_by_id(zorp: Zorp, hand: Hand) -> None:
    """A job that is not in everybody's listing is not gone: the next slot asks for it by number and token."""
    clock = Clock()
    collector = Collector(zorp.site, clock)
    here, gone = hand.submit(hold=True), hand.submit(hold=True)
    zorp.site.cancel([gone.id])
    jobs = {here.id: here.token, gone.id: gone.token}
    assert [one.id for one in collector.status(jobs)] == [here.id]
    assert gone.id not in collector.picture.jobs
    clock.now += 45
    said = {one.id: one for one in collector.status(jobs)}
    assert said[gone.id].state is JobState.UNKNOWN and said[here.id].state is JobState.QUEUED
    assert zorp.named("zlook")[-1][1].startswith("++only=")


def test_a_system_that_lists_nothing_is_asked_for_nothing(zorp: Zorp, hand: Hand, tmp_path: Path) -> None:
    text = (HERE / "zorp.toml").read_text()
    for op in ("find", "queue"):
        text = re.sub(rf"(?ms)^\[ops\.{op}\].*?(?=^\[)", "", text)
    (tmp_path / "mute.toml").write_text(text)
    mute = BatchSite(hand.connection, load("mute", [tmp_path]), zorp.site.user, env=zorp.env)
    assert mute.queue().whole is False and mute.queue().mine == ()
    with pytest.raises(SiteError, match="no way to look for a job"):
        mute.find("jrm" + "0" * 12)
    plain = BatchSite(hand.connection, load("local"))
    assert plain.queue().whole is False and plain.nodes() == [] and plain.queues() == []
