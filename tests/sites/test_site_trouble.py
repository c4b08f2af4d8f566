"""When the batch system itself is in trouble: what it does not say proves nothing, and no job is submitted twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cluster_kit import Cluster, eventually
from sites_kit import Hand, Job, hand

from jupyter_rm.batch import BatchError, JobState, load
from jupyter_rm.runtime.batchsite import FOREIGN


@pytest.fixture(scope="module")
def there(slurm: Cluster) -> Iterator[Hand]:
    yield from hand(slurm, "slurm", "paramiko")


@pytest.fixture(autouse=True)
def tidy(there: Hand) -> Iterator[None]:
    yield
    there.cancel()  # what a killed controller believes of its jobs may take minutes to mend


def saved(there: Hand) -> None:
    """Wait until the controller has written down what it knows by now."""
    job = there.submit(hold=True)
    state = there.cluster.state / "slurm/state/job_state"
    eventually(lambda: state.exists() and job.token.encode() in state.read_bytes(), "jobs are not saved")


def controller(cluster: Cluster) -> int:
    return int((cluster.state / "pids/slurmctld.pid").read_text().split()[0])


def failure(there: Hand, op: str, job: Job) -> BatchError:
    calls = {
        "status": lambda: there.site.status([job.id]),
        "find": lambda: there.site.find(job.token),
        "cancel": lambda: there.site.cancel([job.id]),
        "queue": there.site.queue,
        "submit": lambda: there.submit(token="jrm" + "9" * 12),
    }
    with pytest.raises(BatchError) as caught:
        calls[op]()
    return caught.value


def test_without_a_controller_nothing_is_concluded_and_jobs_go_on(there: Hand) -> None:
    job = there.submit()
    job.up()
    job.becomes(JobState.RUNNING)
    saved(there)
    with there.cluster.dead("slurmctld"), ThreadPoolExecutor(8) as pool:
        ops = ("status", "find", "cancel", "queue", "submit")
        errors = dict(zip(ops, pool.map(lambda op: failure(there, op, job), ops), strict=True))
        for op, error in errors.items():
            assert not error.refused, f"{op}: {error}"
            assert error.rc is None or (error.retry and "controller does not answer" in error.translation)
        assert there.site.final(job.id) is None, "accounting still says it runs"
    assert job.becomes(JobState.RUNNING).id == job.id, "nobody ended it"
    assert there.site.find("jrm" + "9" * 12) is None, "what could not be submitted was not"
    job.go(5)
    assert (job.ends().state, job.ends().exit) == (JobState.FAILED, 5)


def test_without_accounting_the_controller_says_for_a_while_how_a_job_ended(there: Hand) -> None:
    job = there.submit()
    job.up()
    with there.cluster.dead("slurmdbd"):
        job.go(3)
        job.becomes(JobState.FAILED, JobState.UNKNOWN)
        found = there.site.proof(job.id, job.token)
        assert found is not None
        record, said_by = found
        assert (record.state, record.exit, record.token, said_by) == (JobState.FAILED, 3, job.token, "scontrol")
        assert record.start and record.end and record.end >= record.start
        for other in ((job.id, "jrm" + "0" * 12), ("999999", "")):  # somebody else's job, and no job
            with pytest.raises(BatchError) as caught:
                there.site.proof(*other)
            assert caught.value.retry and not caught.value.refused
    assert job.ends().state is JobState.FAILED, "the controller told the accounting later"


def test_a_submit_with_an_unclear_end_is_found_again_by_its_token(there: Hand, tmp_path: Path) -> None:
    """The controller hangs, the command is given up; the controller wakes up and takes the job all the same."""
    (tmp_path / "hasty.toml").write_text('extends = "slurm"\n[ops.submit]\ntimeout_s = 2\n')
    hasty = there.cluster.site(there.connection, load("hasty", [tmp_path]))
    token, pid = "jrm" + "7" * 12, controller(there.cluster)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(BatchError) as caught:
            there.submit(hasty, token=token)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert not caught.value.refused and "token" in caught.value.hint
    found = eventually(lambda: there.site.find(token), "the job was not taken: this test shows nothing")
    assert len([one for one in there.site.ours() if one.token == token]) == 1
    there.site.cancel([found.id])


def test_a_number_given_away_again_is_another_job(there: Hand) -> None:
    """Killed before it saves its state (every 5 s) the controller forgets a job, and the next one gets its number."""
    there.clear()
    saved(there)  # or a killed controller comes back with what has ended, and believes in it for minutes
    forgotten: Job | None = None
    for attempt in range(4):
        there.submit(hold=True)  # what is saved at once; for the next seconds nothing else will be
        forgotten = there.submit(hold=True)
        there.jobs.pop()
        with there.cluster.dead("slurmctld"):
            pass
        seen = there.site.status([forgotten.id])[0]
        if seen.state is JobState.UNKNOWN:
            break
        there.site.cancel([forgotten.id])
        assert attempt < 3, "the controller never forgot a job"
    assert forgotten is not None
    assert forgotten.seen().alive and there.site.find(forgotten.token) is None, "forgotten is not ended"
    # What came before it may be forgotten too: the number comes up after theirs.
    other = next((job for _ in range(9) if (job := there.submit(hold=True)).id == forgotten.id), None)
    assert other is not None, f"the number {forgotten.id} was not given away: this test shows nothing"
    seen = forgotten.seen()
    assert (seen.state, seen.reason_text) == (JobState.UNKNOWN, FOREIGN)
    assert there.site.cancel([forgotten.id], {forgotten.id: forgotten.token}).missing == (forgotten.id,)
    assert other.seen().state is JobState.QUEUED, "the other job was not touched"
    assert there.site.final(forgotten.id, forgotten.token) is None


def test_requeue_and_cancel_behind_our_back(there: Hand) -> None:
    again, gone = there.submit(requeue=True), there.submit()
    again.up()
    gone.up()
    there.cluster.run("scontrol", "requeue", again.id)
    there.cluster.run("scancel", gone.id)
    assert again.becomes(JobState.QUEUED).alive
    eventually(lambda: "begin time" in again.seen().reason_text, lambda: f"not said why it waits: {again.seen()}")
    assert there.site.find(again.token) is not None, "the same job with the same token"
    ended = gone.ends()
    assert ended.state is JobState.CANCELED and not ended.alive


def test_a_dead_node_ends_its_job(there: Hand) -> None:
    job = there.submit(constraint="cpu")
    job.up()
    (node,) = job.becomes(JobState.RUNNING).nodes
    there.cluster.script("slurm-node.sh", "kill", node)
    try:
        ended = job.ends(within_s=90)
        assert (ended.state, ended.detail) == (JobState.FAILED, "node_fail")
        nodes = {one.name: one for one in there.site.nodes()}
        assert nodes[node].state == "offline" and nodes["n01"].state != "offline"
    finally:
        there.cluster.script("slurm-node.sh", "start", node)
    there.cluster.wait_idle()


def test_hostile_words_of_other_users_change_no_listing(there: Hand) -> None:
    """Another user may write anything into names, comments and paths; our rows stay ours."""
    known = {one.id for one in there.site.queue().mine}  # what a killed controller brought back may still be there
    job = there.submit(hold=True)
    row = f"{job.id}|COMPLETED|None|batch|1|1|1|1|1|n01|alice"
    fake = f"x\n{row}\n{row}|/|{job.token}"
    there.cluster.run(
        "sbatch", "--hold", f"--comment={fake}", f"--job-name={fake}", "--chdir=/tmp", "--wrap=true", user="bob"
    )
    try:
        assert job.seen().state is JobState.QUEUED
        shown = there.site.queue()
        mine = [(one.id, one.state) for one in shown.mine if one.id not in known]
        assert mine == [(job.id, JobState.QUEUED)] and len(shown.others) == 1
        found = there.site.find(job.token)
        assert found is not None and found.state is JobState.QUEUED
    finally:
        there.cluster.run("scancel", "-u", "bob")


def test_a_preempted_job_says_so(there: Hand) -> None:
    """A job that may not be started anew is ended by one of a better queue; it is no failure of its own."""
    victim = there.submit(queue="scavenge", nodes=4, exclusive=True)
    victim.up()
    made = hand(there.cluster, "slurm", "paramiko", user="bob")
    other = next(made)
    try:
        other.submit(queue="batch", nodes=1).up()
        ended = victim.ends(within_s=90)
        assert (ended.state, ended.detail) == (JobState.FAILED, "preempted"), ended
    finally:
        other.cancel()
        next(made, None)


def test_a_time_limit_is_told_from_a_failure(sge: Cluster) -> None:
    """In Grid Engine: Slurm counts minutes, and gives one more."""
    made = hand(sge, "sge", "paramiko")
    there = next(made)
    job = there.submit(walltime="2s")
    ended = job.ends(within_s=90)
    assert (ended.state, ended.detail) == (JobState.FAILED, "timeout") and "time limit" in ended.reason_text
    there.clear()
    next(made, None)
