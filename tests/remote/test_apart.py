"""Control and monitoring stand apart, and so do sites: what is broken of one harms none of the others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from remote_kit import Far, active, until

import jupyter_rm as jrm
from jupyter_rm.client.session import Session

URL = "slurm+ssh://alice@tb-slurm"
BLIND = f"""extends = "slurm"
[site]
url = "{URL}"
[ops.queue]
argv = ["false"]
[ops.nodes]
argv = ["false"]
[ops.queues]
argv = ["false"]
"""
MUTE = f"""extends = "slurm"
[site]
url = "{URL}"
[ops.submit]
argv = ["false", "{{attributes}}", "{{script}}", "{{spec}}"]
"""


@pytest.fixture(scope="module", autouse=True)
def sites(far: Far) -> Iterator[None]:
    """A site whose listings are broken, and one that takes no jobs."""
    with far.site_files(blind=BLIND, mute=MUTE):
        yield


def test_jobs_are_submitted_and_canceled_though_nothing_can_be_seen(far: Far, study: Session) -> None:
    pilots = [study.pilot("blind", nodes=1, options={"hold": "true"}) for _ in range(3)]
    for pilot in pilots:
        assert pilot.wait("QUEUED", 90) == "QUEUED", pilot.reason
        pilot.cancel()
    for pilot in pilots:
        assert pilot.wait("CANCELED", 90) == "CANCELED", pilot.reason
    queue = far.cluster.run("squeue", "-h", "-o", "%i").split()
    assert not {pilot.job_id for pilot in pilots} & set(queue)


def test_views_go_on_though_nothing_can_be_submitted(far: Far, study: Session) -> None:
    del far
    mute = study.pilot("mute", nodes=1)
    seen = study.pilot(URL, nodes=1, options={"hold": "true"})
    assert seen.wait("QUEUED", 60) == "QUEUED", seen.reason
    until(lambda: study.sites.get(URL) and study.sites[URL].nodes, lambda: f"{study.sites}", 90)
    assert len(study.sites[URL].nodes) == 4
    assert (seen.state, mute.job_id) == ("QUEUED", ""), mute.reason


def test_a_site_that_is_gone_harms_no_other_and_comes_back(far: Far, study: Session) -> None:
    lost = active(study.pilot("slurm+ssh://alice@tb-cut", nodes=1))
    far.relay.refuse = True
    far.relay.stalled.set()
    try:
        others = [study.pilot(URL, nodes=1), study.pilot("ssh://alice@tb-slurm", cores=1)]
        for pilot in others:
            active(pilot)
        bulk = study.submit([jrm.Task("true", pilot=pilot.uid) for pilot in others] * 20)
        assert bulk.wait(60) and bulk.counts() == {"DONE": 40}
        with pytest.raises(jrm.SiteError, match="tb-cut") as caught:
            study.refresh()
        assert "tb-slurm" not in str(caught.value), "the others have answered"
        until(lambda: lost.unreachable, lambda: f"{lost.state} {lost.reason}", 90)
        assert lost.state == "ACTIVE", "silence is not an end"
    finally:
        far.relay.refuse = False
        far.relay.stalled.clear()
    until(lambda: not lost.unreachable, lambda: f"{lost.state} {lost.reason}", 120)
    back = study.submit(jrm.Task("true", pilot=lost.uid))
    assert back.wait(60) == "DONE", back.reason
    assert len(far.jobs_of(far.record(study.name)["token"])) == 1
