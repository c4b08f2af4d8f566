"""The whole control contract, against real Slurm and real Grid Engine, here and through SSH; and a new system."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cluster_kit import Cluster, eventually
from sites_kit import Hand, hand, sim_hand, zorp_hand

from jupyter_rm.batch import BatchError, JobState, load

DEFINE = "printf 'name relax\\noticket 0\\nfshare 0\\nacl NONE\\nxacl NONE\\n' > /tmp/prj; qconf -Aprj /tmp/prj"
OVER = (JobState.DONE, JobState.FAILED, JobState.CANCELED, JobState.ENDED, JobState.UNKNOWN)


@pytest.fixture(scope="module", params=["zorp", "sim", "slurm-local", "slurm-paramiko", "sge-local", "sge-paramiko"])
def there(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hand]:
    name, _, transport = request.param.partition("-")
    if name == "zorp":
        # A system that nobody has ever seen, added with one file.
        yield from zorp_hand(tmp_path_factory.mktemp("zorp"))
    elif name == "sim":
        yield from sim_hand(tmp_path_factory.mktemp("sim"))
    else:
        yield from hand(request.getfixturevalue(name), name, transport)


@pytest.fixture(scope="module", params=["slurm", "sge"])
def far(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[Hand]:
    yield from hand(cluster.need(request.param), request.param, "paramiko")


@pytest.fixture(autouse=True)
def tidy(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    for name in {"there", "far"} & set(request.fixturenames):
        request.getfixturevalue(name).clear()


def test_a_job_from_submit_to_its_end(there: Hand) -> None:
    site = there.site
    job = there.submit(name="relax", nodes=1, cores_per_node=2)
    seen = json.loads(job.up())
    running = job.becomes(JobState.RUNNING)
    assert (running.id, running.token, running.user) == (job.id, job.token, site.user)
    assert running.queue and running.start and running.start >= (running.submit or 0), "Grid Engine shows one of them"
    inside = site.system.job(seen, lambda path: "vm 2 batch.q@vm\n")
    assert inside.id == job.id and [host for host, _ in inside.nodes] == list(running.nodes or (seen["host"],))
    assert seen["host"] in (inside.nodes[0][0], seen["host"])

    found = site.find(job.token)
    assert found is not None and found.id == job.id
    assert site.find(job.token[:-1] + "x") is None
    assert site.final(job.id) is None, "accounting proves nothing while it runs"

    job.go(0)
    ended = job.ends()
    assert (ended.state, ended.exit) == (JobState.DONE, 0) and ended.end and ended.end >= running.start
    assert job.becomes(*OVER).alive is (job.seen().state is JobState.UNKNOWN)
    assert site.final(job.id, "jrm" + "0" * 16) is None or not ended.token, "the end of another job"


def test_an_exit_code_and_a_cancel(there: Hand) -> None:
    failing, endless = there.submit(), there.submit()
    failing.up()
    failing.go(3)
    assert (failing.ends().state, failing.ends().exit) == (JobState.FAILED, 3)
    endless.up()
    assert there.site.cancel([endless.id], {endless.id: endless.token}).missing == ()
    assert endless.ends().state in (JobState.CANCELED, JobState.FAILED)
    assert endless.becomes(*OVER)
    again = there.site.cancel([endless.id, there.nobody], {endless.id: endless.token, there.nobody: endless.token})
    assert there.nobody in again.missing, "a hint, no proof"


def test_held_released_and_seen_in_the_queue(there: Hand) -> None:
    site = there.site
    job = there.submit(hold=True)
    held = job.becomes(JobState.QUEUED)
    assert held.detail == "held"
    picture = site.queue()
    assert [one.id for one in picture.mine] == [job.id] and job.id not in picture.places, "held: in no line"
    assert site.tell("release", [job.id]).missing == ()
    job.up()
    assert job.becomes(JobState.RUNNING).reason_text == "" or job.seen().reason
    picture = site.queue()
    assert picture.whole and picture.mine[0].state is JobState.RUNNING and not picture.places


def test_what_it_does_not_know_is_unknown(there: Hand) -> None:
    job = there.submit(hold=True)
    first, second = there.site.status([there.nobody, job.id])
    assert (first.id, first.state, first.alive) == (there.nobody, JobState.UNKNOWN, True)
    assert second.id == job.id and second.state is JobState.QUEUED
    assert there.site.status([]) == [] and there.site.final(there.nobody) is None
    other = there.site.status([job.id], {job.id: "jrm" + "0" * 16})[0]
    assert other.state is JobState.UNKNOWN and "another job" in other.reason_text
    assert there.site.cancel([job.id], {job.id: "jrm" + "0" * 16}).missing == (job.id,)
    assert job.seen().state is JobState.QUEUED, "a job with another token was not touched"


def test_refusals_come_at_once_with_a_reason(there: Hand) -> None:
    with pytest.raises(BatchError) as caught:
        there.submit(queue="nosuch")
    assert caught.value.refused and "no such queue" in caught.value.translation and "nosuch" in str(caught.value.raw)
    with pytest.raises(BatchError) as caught:
        there.submit(project="nosuch")
    assert caught.value.refused and caught.value.translation and caught.value.hint
    assert there.site.queue().mine == ()


def test_nodes_and_queues(far: Hand) -> None:
    nodes = {node.name: node for node in far.site.nodes()}
    queues = {queue.name: queue for queue in far.site.queues()}
    if far.site.system.name == "slurm":
        assert sorted(nodes) == ["n01", "n02", "n03", "n04"]
        assert (nodes["n01"].cores, nodes["n01"].gpus, nodes["n03"].gpus or 0) == (4, 2, 0)
        assert queues["batch"].default and queues["debug"].max_walltime_s == 600 and queues["debug"].max_nodes == 2
    else:
        assert len(nodes) == 1 and {"batch.q", "debug.q"} <= set(queues)
    assert far.site.version()


def test_projects(far: Hand) -> None:
    assert far.cluster is not None
    if far.site.system.name == "slurm":
        assert [one.name for one in far.site.projects()] == ["proj2", "tb"]
        return
    assert far.site.projects() == [], "there is none yet"
    far.cluster.run("sh", "-c", DEFINE)
    assert [one.name for one in far.site.projects()] == ["relax"]
    far.cluster.run("qconf", "-dprj", "relax")


@contextmanager
def full(cluster: Cluster, name: str) -> Iterator[Hand]:
    """Have another user fill the whole cluster."""
    made = hand(cluster, name, "paramiko", user="bob")
    other = next(made)
    values = (
        {"nodes": 4, "exclusive": True} if name == "slurm" else {"cores_per_node": 8, "parallel_environment": "smp"}
    )
    job = other.submit(queue="batch" if name == "slurm" else "batch.q", **values)
    job.up()
    try:
        yield other
    finally:
        other.clear()
        next(made, None)


def test_places_in_the_line(far: Hand) -> None:
    name = far.site.system.name
    queue = {"slurm": "batch", "sge": "batch.q"}[name]
    with full(far.cluster, name) as other:
        behind = other.submit(queue=queue)
        first, second = far.submit(queue=queue), far.submit(queue=queue)
        jobs = (first, second)

        def waits() -> bool:
            return all(one.seen().state is JobState.QUEUED and one.seen().reason for one in jobs) or name == "sge"

        eventually(waits, lambda: f"no reason: {[one.seen() for one in jobs]}")
        picture = far.site.queue()
        assert {one.id for one in picture.mine} == {first.id, second.id}
        assert {behind.id} <= {one.id for one in picture.others} and (
            # Outside of the namespaces of the cluster nobody knows bob by name.
            {one.user for one in picture.others} <= {"bob", "nobody"}
        )
        assert sorted(picture.places) == sorted([first.id, second.id])
        lengths = {length for _, length in picture.places.values()}
        assert lengths == {3}, picture
        assert picture.places[first.id][0] < picture.places[second.id][0] <= 3
        if name == "slurm":
            assert "waits" in first.seen().reason_text
            eventually(lambda: far.site.estimates([first.id]), "no estimate of its start")
            assert far.site.estimates([first.id])[first.id] > 1.7e9
    first.up()


def test_the_name_that_another_file_gives(far: Hand, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A file of a site extends the system and changes a default; the job lands where it says."""
    name = far.site.system.name
    where = tmp_path_factory.mktemp("sites")
    queue = {"slurm": "debug", "sge": "debug.q"}[name]
    (where / "mine.toml").write_text(f'extends = "{name}"\n[attributes.queue]\ndefault = "{queue}"\n')
    other = far.cluster.site(far.connection, load("mine", [where]))
    job = far.submit(other, hold=True)
    if name == "slurm":
        assert job.seen().queue == queue
    other.tell("release", [job.id])
    job.up()
    assert job.becomes(JobState.RUNNING).queue == queue
