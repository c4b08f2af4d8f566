"""What real batch systems printed (Slurm 22.05.8, Grid Engine 8.1.9, OpenPBS 23.06, Flux 0.88), read back."""

from __future__ import annotations

import json

import pytest
from transcript import raw, transcript

from jupyter_rm.batch import (
    Acknowledged,
    BatchError,
    BatchSystem,
    JobRecord,
    JobState,
    NodeRecord,
    ProjectRecord,
    QueueRecord,
    Submitted,
    load,
)
from jupyter_rm.model.states import Cause

SLURM, SGE, PBS, FLUX = load("slurm"), load("sge"), load("pbs"), load("flux")


def read(system: BatchSystem, op: str, name: str, **more: object) -> object:
    said = transcript(name)
    return system.read(op, said.stdout.encode(), said.stderr.encode(), said.rc, **more)  # type: ignore[arg-type]


def jobs(system: BatchSystem, op: str, name: str, **more: object) -> dict[str, JobRecord]:
    answer = read(system, op, name, **more)
    assert isinstance(answer, list) and all(isinstance(one, JobRecord) for one in answer)
    return {one.id: one for one in answer}


@pytest.mark.parametrize(
    ("system", "name", "id"),
    [
        (SLURM, "slurm-22.05/submit", "1"),
        (SLURM, "slurm-22.05/submit-plain", "2"),
        (SLURM, "slurm-22.05/submit-impossible", "6"),
        (SGE, "sge-8.1.9/submit", "1"),
        (SGE, "sge-8.1.9/submit-plain", "2"),
        (SGE, "sge-8.1.9/submit-array", "7"),
    ],
)
def test_submit_gives_the_id(system: BatchSystem, name: str, id: str) -> None:
    assert read(system, "submit", name) == Submitted(id)


@pytest.mark.parametrize(
    ("system", "name", "refused", "words"),
    [
        (SLURM, "slurm-22.05/submit-badqueue", True, "there is no such queue"),
        (SLURM, "slurm-22.05/submit-badqos", True, "this quality of service may not be used"),
        (SLURM, "slurm-22.05/submit-badaccount", True, "this project may not be used here, or not in this queue"),
        (SLURM, "slurm-22.05/submit-down", False, "its controller does not answer"),
        (SLURM, "slurm-22.05/status-down", False, "its controller does not answer"),
        (SLURM, "slurm-22.05/cancel-down", False, "its controller does not answer"),
        (SGE, "sge-8.1.9/submit-badqueue", True, "there is no such queue: nosuch.q"),
        (SGE, "sge-8.1.9/submit-badpe", True, "there is no such parallel environment: nosuch"),
        (SGE, "sge-8.1.9/submit-badproject", True, "there is no such project: nosuch"),
        (SGE, "sge-8.1.9/submit-badname", True, "one of the names given has a sign that is not allowed there"),
        (SGE, "sge-8.1.9/submit-badresource", True, "there is no such resource: nosuch"),
        (SGE, "sge-8.1.9/submit-noscript", True, "its batch script cannot be read there"),
        (SGE, "sge-8.1.9/submit-down", False, "its master does not answer"),
        (SGE, "sge-8.1.9/status-down", False, "its master does not answer"),
    ],
)
def test_errors_are_verbatim_and_in_plain_words(system: BatchSystem, name: str, refused: bool, words: str) -> None:
    with pytest.raises(BatchError) as caught:
        read(system, name.partition("/")[2].partition("-")[0], name)
    error, said = caught.value, transcript(name)
    assert (error.refused, error.translation) == (refused, words)
    for line in filter(None, (said.stderr + said.stdout).splitlines()):
        assert line.strip() in error.raw
    assert words in str(error) and error.hint and error.code.startswith("JRM-S")
    assert error.retry is not refused


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("err-queue", 170, "there is no such queue"),
        ("err-walltime", 188, "it asks for more than this queue allows (time, nodes or cores)"),
    ],
)
def test_openpbs_refusals(name: str, code: int, words: str) -> None:
    text = raw(f"openpbs-23.06.06/{name}.txt").partition("rc=")[0]
    with pytest.raises(BatchError) as caught:
        PBS.read("submit", "", text, code)
    assert caught.value.translation == words and caught.value.refused


def test_slurm_states_and_reasons() -> None:
    found = jobs(SLURM, "status", "slurm-22.05/status", asked=["1", "3", "4", "5", "6"])
    assert found["1"].state is JobState.RUNNING and found["1"].nodes == ("n01", "n02")
    assert found["1"].token == "jrm0a1b2c3d" and found["1"].limit_s == 300 and found["1"].queue == "batch"
    assert (found["1"].start, found["1"].ends_by, found["1"].end) == (1795313936.0, 1795314236.0, None)
    assert found["1"].alive
    assert (found["3"].state, found["3"].detail) == (JobState.QUEUED, "held")
    assert found["4"].reason_text == "waits for enough nodes, cores or memory to become free"
    assert found["4"].estimate == 1795314236.0 and found["4"].start is None and found["4"].priority == 10322
    assert found["6"].reason_text == "never starts: this queue has no node that fits what it asks for"
    # Job 5 was over when the listing was made. That it is missing proves nothing.
    assert found["5"].state is JobState.UNKNOWN and found["5"].alive
    reasons = jobs(SLURM, "status", "slurm-22.05/status-many-reasons")
    assert {one.reason for one in reasons.values()} == {"BeginTime", "JobArrayTaskLimit", "Dependency", ""}
    dead = jobs(SLURM, "status", "slurm-22.05/status-deadnode")["19"]
    assert dead.reason_text == "waits for nodes that are down or reserved: n04"
    assert SLURM.notes == []


def test_slurm_does_not_know_a_job() -> None:
    assert jobs(SLURM, "status", "slurm-22.05/status-unknown", asked=["999999"])["999999"].state is JobState.UNKNOWN
    both = jobs(SLURM, "status", "slurm-22.05/status-one-unknown", asked=["1", "999999"])
    assert [both[id].state for id in ("1", "999999")] == [JobState.RUNNING, JobState.UNKNOWN]
    after = jobs(SLURM, "status", "slurm-22.05/status-after", asked=["1", "5"])
    assert {one.state for one in after.values()} == {JobState.UNKNOWN}
    assert jobs(SLURM, "final", "slurm-22.05/final-unknown", asked=["999999"])["999999"].state is JobState.UNKNOWN


def test_slurm_says_how_jobs_ended() -> None:
    found = jobs(SLURM, "final", "slurm-22.05/final-many")
    ends = {id: (one.state.value, one.detail, one.exit, one.signal, one.cause) for id, one in found.items()}
    assert ends["8"] == ("failed", "timeout", 0, None, Cause.WALLTIME)
    assert ends["9"] == ("failed", "node_fail", 0, None, Cause.NODE_LOST)
    assert ends["11"] == ("failed", "preempted", 0, None, Cause.PILOT_LOST)
    assert ends["15"] == ("failed", "signal", 0, 9, Cause.PILOT_LOST)
    assert ends["14"][0] == "done" and not found["14"].alive
    # Requeued: it is not over at all.
    assert ends["10"][0] == "queued" and found["10"].start is None
    assert found["8"].end == 1795314116.0 and found["8"].nodes == ("n01",)
    past = jobs(SLURM, "status", "slurm-22.05/status-all-states")
    assert past["1"].state is JobState.CANCELED and past["1"].cause is Cause.USER_CANCEL
    assert past["5"].state is JobState.FAILED and past["5"].reason_text == "its program ended with an error"


def test_slurm_json_of_22_05_is_wrong_about_exit_codes_and_ids() -> None:
    # The reason for reading text: see the head of slurm.toml.
    said = transcript("slurm-22.05/final-json")
    assert json.loads(said.stdout)["jobs"][0]["exit_code"]["return_code"] == 0
    assert jobs(load("slurm-json"), "final", "slurm-22.05/final-json")["5"].state is JobState.FAILED
    many = jobs(load("slurm-json"), "status", "slurm-22.05/status-json")
    assert len(many) == 7, "squeue --json --jobs=1 listed the whole cluster"
    assert many["1"].nodes == ("n01", "n02") and many["1"].token == "jrm0a1b2c3d" and many["1"].limit_s == 300


def test_slurm_finds_a_submit_by_its_token() -> None:
    found = jobs(SLURM, "find", "slurm-22.05/status-user")
    assert {id for id, one in found.items() if one.token == "jrmwide00001"} == {"4"}
    said = transcript("slurm-22.05/status-user")
    # Another job of the same person may hold anything at all in its comment or path.
    odd = said.stdout + "77|RUNNING|None|batch|1|1795313936|1795313936|1795314236|5:00|n01|alice|/a|b|two\nlines|x\n"
    rows = SLURM.read("find", odd)
    assert isinstance(rows, list) and [one for one in rows if getattr(one, "token", "") == "jrmwide00001"]
    with pytest.raises(BatchError, match="cut off"):
        SLURM.read("find", said.stdout[:-5])


def test_slurm_nodes_and_queues() -> None:
    nodes = read(SLURM, "nodes", "slurm-22.05/nodes-down")
    assert isinstance(nodes, list)
    assert [(n.name, n.state) for n in nodes if isinstance(n, NodeRecord)] == [
        ("n01", "mixed"), ("n02", "free"), ("n03", "free"), ("n04", "offline"),
    ]  # fmt: skip
    first, last = nodes[0], nodes[-1]
    assert isinstance(first, NodeRecord) and isinstance(last, NodeRecord)
    assert (first.cores, first.mem_mib, first.gpus) == (4, 4000, 2)
    assert first.queues == ("batch", "debug", "gpu", "scavenge", "idlecyc") and last.reason == "Not responding"
    queues = read(SLURM, "queues", "slurm-22.05/queues")
    assert isinstance(queues, list)
    named = {one.name: one for one in queues if isinstance(one, QueueRecord)}
    assert named["batch"].default and not named["debug"].default
    assert (named["debug"].max_walltime_s, named["debug"].max_nodes, named["batch"].max_nodes) == (600, 2, None)
    assert read(load("slurm-json"), "nodes", "slurm-22.05/nodes-json")


def test_cancel_hold_release() -> None:
    assert read(SLURM, "cancel", "slurm-22.05/cancel") == Acknowledged()
    assert read(SLURM, "cancel", "slurm-22.05/cancel-again") == Acknowledged()
    # scancel says nothing, and 0, about a job that never was: nothing is concluded from that.
    assert read(SLURM, "cancel", "slurm-22.05/cancel-unknown", asked=["999999"]) == Acknowledged()
    for system, op, name in (
        (SLURM, "release", "slurm-22.05/release-unknown"),
        (SGE, "release", "sge-8.1.9/release-unknown"),
        (SGE, "hold", "sge-8.1.9/hold-unknown"),
        (SGE, "cancel", "sge-8.1.9/cancel-unknown"),
        (SGE, "cancel", "sge-8.1.9/cancel-two"),
    ):
        answer = read(system, op, name)
        assert isinstance(answer, Acknowledged) and answer.missing == ("999999",)
    answer = read(SGE, "cancel", "sge-8.1.9/cancel-two")
    assert isinstance(answer, Acknowledged) and "alice has deleted job 8" in answer.text


def test_projects() -> None:
    assert read(SLURM, "projects", "slurm-22.05/projects") == [ProjectRecord("proj2"), ProjectRecord("tb")]
    assert read(SLURM, "projects", "slurm-22.05/projects-nobody") == []
    assert read(SGE, "projects", "sge-8.1.9/projects-none") == []
    for name, about in (("badaccount", "project"), ("badqueue", "queue"), ("badqos", "")):
        with pytest.raises(BatchError) as caught:
            read(SLURM, "submit", f"slurm-22.05/submit-{name}")
        assert caught.value.about == about


def test_suspend_and_resume() -> None:
    done = read(SGE, "suspend", "sge-8.1.9/suspend")
    assert isinstance(done, Acknowledged) and done.text == "alice - suspended job 2"
    for system, op, name, id in (
        (SGE, "resume", "sge-8.1.9/resume-unknown", "999999"),
        (SLURM, "suspend", "slurm-22.05/suspend-over", "5"),
    ):
        answer = read(system, op, name)
        assert isinstance(answer, Acknowledged) and answer.missing == (id,)
    for system, op, name, words in (
        (SLURM, "suspend", "slurm-22.05/suspend-denied", "only an operator may suspend"),
        (SLURM, "suspend", "slurm-22.05/suspend-waiting", "only a running job can be suspended"),
        (SLURM, "resume", "slurm-22.05/resume-running", "only a suspended one resumed"),
        (SGE, "suspend", "sge-8.1.9/suspend-denied", "only its owner"),
    ):
        with pytest.raises(BatchError) as caught:
            read(system, op, name)
        assert words in caught.value.translation and caught.value.raw in str(caught.value)


def test_grid_engine_states() -> None:
    found = jobs(SGE, "status", "sge-8.1.9/status", asked=["1", "3", "4", "8"], utc_offset_s=3600)
    assert found["1"].state is JobState.RUNNING and found["1"].nodes == ("vm",) and found["1"].queue == "batch.q"
    assert (found["1"].token, found["1"].name) == ("jrm0a1b2c3d", "relax")
    assert found["1"].start == 1795314030.0 - 3600, "local time of the machine"
    assert found["4"].state is JobState.QUEUED
    assert (found["8"].state, found["8"].detail) == (JobState.QUEUED, "error")
    assert (found["3"].state, found["3"].detail) == (JobState.QUEUED, "held")
    assert jobs(SGE, "status", "sge-8.1.9/status-empty", asked=["7"])["7"].state is JobState.UNKNOWN
    ended = jobs(SGE, "final", "sge-8.1.9/final")["5"]
    assert (ended.state, ended.exit, ended.token) == (JobState.FAILED, 7, "jrmfail00001")
    killed = jobs(SGE, "final", "sge-8.1.9/final-canceled")["1"]
    assert (killed.state, killed.exit, killed.signal) == (JobState.FAILED, 137, 9)
    assert killed.reason_text.startswith("a signal ended it") and killed.end == 1795314045.0
    assert jobs(SGE, "final", "sge-8.1.9/final-unknown", asked=["999999"])["999999"].state is JobState.UNKNOWN
    assert SGE.notes == []


@pytest.mark.parametrize(
    "state", ["qw", "hqw", "hRwq", "Eqw", "t", "r", "Rr", "s", "S", "T", "dr", "dt", "dRr", "hr", "Rt", "ts"]
)
def test_grid_engine_letters(state: str) -> None:
    system = load("sge")
    found, _ = system.state_of(state)
    assert system.notes == []
    expected = JobState.QUEUED if "q" in state and not state.startswith("d") else JobState.RUNNING
    assert found is expected


def test_grid_engine_nodes_and_queues() -> None:
    nodes = read(SGE, "nodes", "sge-8.1.9/nodes")
    queues = ("batch.q", "debug.q")
    assert nodes == [NodeRecord("vm", "free", "idle", cores=2, mem_mib=24064, load=8.65, queues=queues)]
    text = raw("sge-8.1.9/nodes.txt").partition("--- stdout\n")[2]
    for old, new, times, state in (
        ("slots_used'>0<", "slots_used'>10<", 1, "mixed"),
        ("state_string'><", "state_string'>au<", 2, "offline"),
        ("state_string'><", "state_string'>d<", 1, "mixed"),
        ("state_string'><", "state_string'>a<", 2, "free"),
    ):
        changed = SGE.read("nodes", text.replace(old, new, times))
        assert isinstance(changed, list) and [getattr(one, "state", "") for one in changed] == [state], (new, times)
    queues = read(SGE, "queues", "sge-8.1.9/queues-g")
    assert isinstance(queues, list) and [getattr(one, "name", "") for one in queues] == ["batch.q", "debug.q"]


def test_openpbs_states_reasons_and_ends() -> None:
    found = {
        one.id: one for one in PBS.read("status", raw("openpbs-23.06.06/qstat-f.json")) if isinstance(one, JobRecord)
    }  # type: ignore[union-attr]
    assert found["8.pbs0"].state is JobState.RUNNING and found["8.pbs0"].restarts == 0
    assert found["11.pbs0"].reason_text.startswith("waits for enough cores to become free")
    assert found["15.pbs0"].reason_text.startswith("never starts: no node fits")
    assert (found["13.pbs0"].state, found["13.pbs0"].detail) == (JobState.QUEUED, "held")
    past = {
        one.id: one for one in PBS.read("final", raw("openpbs-23.06.06/history.json")) if isinstance(one, JobRecord)
    }  # type: ignore[union-attr]
    assert (past["7.pbs0"].state, past["7.pbs0"].exit) == (JobState.FAILED, 3)
    assert (past["1.pbs0"].state, past["1.pbs0"].exit, past["1.pbs0"].end) == (JobState.DONE, 0, 1795305172.0)
    assert past["0.pbs0"].state is JobState.CANCELED, "removed before it ran"
    suspended = PBS.read("status", raw("openpbs-23.06.06/suspended.json"))
    assert isinstance(suspended, list) and getattr(suspended[0], "detail", "") == "suspended"
    unknown = raw("openpbs-23.06.06/err-unknown.txt").partition("rc=")[0]
    answer = PBS.read("status", "", unknown, 153, asked=["99999.pbs0"])
    assert answer == [JobRecord("99999.pbs0", reason_text="the batch system does not list it")]
    empty = PBS.read("status", raw("openpbs-23.06.06/server.json").replace('"Server"', '"Other"'), asked=["1.pbs0"])
    assert isinstance(empty, list) and len(empty) == 1
    queues = PBS.read("queues", raw("openpbs-23.06.06/queues.json"))
    assert queues == [
        QueueRecord("workq", running=3, queued=3),
        QueueRecord("debug", max_walltime_s=600.0, running=0, queued=0),
    ]
    nodes = PBS.read("nodes", raw("openpbs-23.06.06/pbsnodes.json"))
    assert nodes == [NodeRecord("pbs0", "mixed", "<various>", 16, 16384, 2)]


def test_flux_job_list() -> None:
    answer = FLUX.read("status", raw("flux-0.88/jobs.json"))
    assert isinstance(answer, list) and len(answer) == 23
    states = {one.raw_state: one for one in answer if isinstance(one, JobRecord)}
    assert states["SCHED"].state is JobState.QUEUED and states["DEPEND"].detail == "waiting"
    assert states["RUN"].state is JobState.RUNNING and states["RUN"].nodes == ("vm",)
    assert (states["COMPLETED"].state, states["COMPLETED"].exit) == (JobState.DONE, 0)
    assert states["SCHED"].id.startswith("2") and FLUX.notes == []


@pytest.mark.parametrize(
    ("system", "name", "files", "id", "nodes"),
    [
        (SLURM, "slurm-22.05/job-environment.env", {}, "21", (("n01", 0), ("n02", 0))),
        (SGE, "sge-8.1.9/job-environment.env", {"pe_hostfile": "sge-8.1.9/pe_hostfile"}, "9", (("vm", 2),)),
    ],
)
def test_what_a_job_sees(
    system: BatchSystem, name: str, files: dict[str, str], id: str, nodes: tuple[tuple[str, int], ...]
) -> None:
    environ = dict(line.split("=", 1) for line in raw(name).splitlines() if "=" in line)
    context = system.job(environ, lambda path: raw(files[path.rpartition("/")[2]]))
    assert (context.id, context.nodes, context.restarts) == (id, nodes, 0)
    with pytest.raises(BatchError, match="not inside a job"):
        system.job({}, raw)


def test_a_node_file_of_openpbs() -> None:
    context = PBS.job(
        {"PBS_JOBID": "8.pbs0", "PBS_NODEFILE": "nodefile.txt"}, lambda path: raw(f"openpbs-23.06.06/{path}")
    )
    assert context.nodes == (("pbs0", 2),)

    def unreadable(path: str) -> str:
        raise FileNotFoundError(path)

    with pytest.raises(BatchError, match="cannot be read"):
        PBS.job({"PBS_JOBID": "8.pbs0", "PBS_NODEFILE": "nodefile.txt"}, unreadable)


def test_an_unknown_job_beside_a_real_failure_is_a_failure() -> None:
    both = "qstat: Unknown Job Id 99999.pbs0\nqstat: cannot connect to server pbs1 (errno=15010)\n"
    with pytest.raises(BatchError, match="does not answer"):
        PBS.read("status", "", both, 153, asked=["99999.pbs0", "8.pbs1"])


def test_a_number_in_a_banner_is_not_the_id() -> None:
    assert SLURM.read("submit", "jobs in the queue:\n12\n481516\n") == Submitted("481516")
