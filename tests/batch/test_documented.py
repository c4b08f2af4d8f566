"""What batch systems print according to their documentation and public examples: no such system was at hand."""

from __future__ import annotations

import pytest
from transcript import PLACE, transcript

from jupyter_rm.batch import Acknowledged, BatchError, JobRecord, JobState, NodeRecord, QueueRecord, Submitted, load
from jupyter_rm.batch.records import DETAILS

FOLDERS = {
    "slurm-23.11": "slurm-json",
    "lsf-10.1": "lsf",
    "htcondor-23": "htcondor",
    "torque-6.1": "torque",
    "cobalt-1.0": "cobalt",
    "oar-2.5": "oar",
    "flux-doc": "flux",
    "openpbs-doc": "pbs",
}


def answer(name: str, **more: object) -> object:
    folder, _, file = name.partition("/")
    said = transcript(name)
    return load(FOLDERS[folder]).read(file.partition("-")[0], said.stdout, said.stderr, said.rc, **more)  # type: ignore[arg-type]


def short(name: str) -> dict[str, tuple[object, ...]]:
    found = answer(name)
    assert isinstance(found, list)
    return {one.id: (one.state.value, one.detail, one.exit, one.token) for one in found if isinstance(one, JobRecord)}


def test_every_documented_file_says_so() -> None:
    for folder in FOLDERS:
        files = list((PLACE / folder).glob("*.txt"))
        assert files
        assert all(path.read_text().startswith("# From documentation") for path in files)


@pytest.mark.parametrize(
    ("name", "id", "cluster", "warnings"),
    [
        ("slurm-23.11/submit", "481516", "big", "Your project has 12 hours left"),
        ("lsf-10.1/submit", "58652", "", "home is 95% full"),
        ("htcondor-23/submit", "4812.0", "", "unused by condor_submit"),
        ("torque-6.1/submit", "72.server.example.org", "", "allocation manager"),
        ("cobalt-1.0/submit", "217162", "", "Job routed"),
        ("oar-2.5/submit", "36627", "", ""),
        ("flux-doc/submit", "28pZ7f1", "", ""),
        ("openpbs-doc/submit", "12.pbs0", "", ""),
    ],
)
def test_the_id_is_found_among_warnings(name: str, id: str, cluster: str, warnings: str) -> None:
    found = answer(name)
    assert isinstance(found, Submitted)
    assert (found.id, found.cluster) == (id, cluster) and warnings in found.warnings


@pytest.mark.parametrize(
    ("name", "refused", "words"),
    [
        ("slurm-23.11/submit-timeout", False, "whether it took the job is not known"),
        ("slurm-23.11/submit-limit", True, "QOSMaxSubmitJobPerUserLimit"),
        ("lsf-10.1/submit-badqueue", True, "there is no such queue: nosuch"),
        ("lsf-10.1/status-down", False, "it does not answer"),
        ("htcondor-23/submit-refused", True, "Executable file /home/alice/nosuch.sh does not exist"),
        ("htcondor-23/status-down", False, "its schedd does not answer"),
        ("oar-2.5/submit-refused", True, "no nodes fit what is asked for"),
        ("flux-doc/submit-unsatisfiable", True, "no nodes fit what is asked for"),
        ("openpbs-doc/status-down", False, "its server does not answer"),
    ],
)
def test_errors(name: str, refused: bool, words: str) -> None:
    with pytest.raises(BatchError) as caught:
        answer(name)
    assert words in caught.value.translation and caught.value.refused is refused


def test_new_slurm_writes_states_as_lists() -> None:
    found = short("slurm-23.11/status")
    assert found["481516"] == ("running", "", None, "jrm0a1b2c3d")
    assert found["481517"][:2] == ("queued", "")
    assert found["481518"][:2] == ("running", "ending"), "canceled, but not gone yet"
    assert found["481519"][:2] == ("queued", "requeued")
    assert found["481520"][:2] == ("unknown", ""), "a state that nobody knows"
    system, said = load("slurm-json"), transcript("slurm-23.11/status")
    for _ in range(3):
        system.read("status", said.stdout)
    assert system.notes == ["Slurm (JSON): state 'EXPEDITING' is not in the description; it counts as unknown"]
    records = {one.id: one for one in system.read("status", said.stdout) if isinstance(one, JobRecord)}  # type: ignore[union-attr]
    assert records["481516"].ends_by == 1700003700 and records["481516"].limit_s == 3600
    assert records["481516"].priority == 5012 and records["481516"].restarts == 1
    assert records["481517"].limit_s is None and records["481517"].estimate is None
    ends = short("slurm-23.11/final")
    assert ends["481516"] == ("failed", "", 7, "jrm0a1b2c3d") and ends["481521"][:2] == ("failed", "out_of_memory")
    nodes = answer("slurm-23.11/nodes")
    assert isinstance(nodes, list) and {n.name: (n.state, n.gpus) for n in nodes if isinstance(n, NodeRecord)} == {
        "gpu-node014": ("busy", 4),
        "gpu-node015": ("busy", 4),
        "gpu-node016": ("offline", 4),
    }


def test_lsf() -> None:
    found = short("lsf-10.1/status")
    assert found == {
        "58652": ("running", "", None, "jrm0a1b2c3d"),
        "58653": ("queued", "", None, ""),
        "58654": ("queued", "held", None, ""),
        "58655": ("canceled", "", 130, ""),
        "58656": ("failed", "", 7, ""),
    }
    assert short("lsf-10.1/final-runlimit")["58657"][:2] == ("failed", "timeout")
    missing = answer("lsf-10.1/status", asked=["99"])
    assert isinstance(missing, list) and isinstance(missing[-1], JobRecord) and missing[-1].state is JobState.UNKNOWN
    first = missing[0]
    assert isinstance(first, JobRecord) and first.nodes == ("hostA", "hostB") and first.start == 1779972360
    assert missing[1].submit is None, "a date without a year is no date"  # type: ignore[union-attr]
    assert answer("lsf-10.1/cancel") == Acknowledged(("99",), "Job <58652> is being terminated")
    queues = answer("lsf-10.1/queues")
    assert isinstance(queues, list) and {q.name: q.open for q in queues if isinstance(q, QueueRecord)} == {
        "owners": True, "normal": True, "idle": False,
    }  # fmt: skip
    nodes = answer("lsf-10.1/nodes")
    assert isinstance(nodes, list) and [n.state for n in nodes if isinstance(n, NodeRecord)] == [
        "free",
        "busy",
        "offline",
    ]


def test_htcondor() -> None:
    assert short("htcondor-23/status") == {
        "4812.0": ("running", "", None, "jrm0a1b2c3d"),
        "4813.0": ("queued", "held", None, ""),
        "4814.0": ("running", "ending", None, ""),
        "4815.0": ("queued", "", None, ""),
    }
    assert short("htcondor-23/final") == {
        "4812.0": ("failed", "", 7, "jrm0a1b2c3d"),
        "4814.0": ("canceled", "", None, ""),
    }
    empty = answer("htcondor-23/status-empty", asked=["9999.0"])
    assert isinstance(empty, list) and len(empty) == 1 and isinstance(empty[0], JobRecord)
    assert empty[0].state is JobState.UNKNOWN
    assert answer("htcondor-23/cancel", asked=["9999.0"]) == Acknowledged(("9999.0",))
    assert answer("htcondor-23/nodes")


def test_torque() -> None:
    assert short("torque-6.1/status") == {
        "72.server.example.org": ("running", "", None, "jrm0a1b2c3d"),
        "73.server.example.org": ("canceled", "", 271, ""),
        "74.server.example.org": ("done", "", 0, ""),
    }
    found = answer("torque-6.1/status", asked=["99.server.example.org"])
    assert isinstance(found, list) and isinstance(found[0], JobRecord) and found[0].nodes == ("node01", "node02")
    assert isinstance(found[-1], JobRecord) and found[-1].state is JobState.UNKNOWN
    nodes = answer("torque-6.1/nodes")
    assert isinstance(nodes, list) and [n.state for n in nodes if isinstance(n, NodeRecord)] == ["free", "offline"]
    queues = answer("torque-6.1/queues")
    assert isinstance(queues, list) and queues[0] == QueueRecord(
        "batch", max_walltime_s=259200.0, max_nodes=16, running=8, queued=4
    )
    assert isinstance(queues[1], QueueRecord) and not queues[1].open
    assert answer("torque-6.1/cancel") == Acknowledged(("99.server.example.org",))


def test_cobalt() -> None:
    assert short("cobalt-1.0/status") == {
        "217162": ("running", "", None, "jrm0a1b2c3d"),
        "217163": ("queued", "", None, ""),
        "217164": ("queued", "held", None, ""),
    }
    found = answer("cobalt-1.0/status")
    assert isinstance(found, list) and isinstance(found[0], JobRecord) and isinstance(found[1], JobRecord)
    assert found[0].nodes == ("nid00012", "nid00013") and found[1].position == 3
    nodes = answer("cobalt-1.0/nodes")
    assert isinstance(nodes, list) and nodes[0] == NodeRecord("nid00012", "busy", "busy", queues=("default", "debug"))
    assert answer("cobalt-1.0/cancel") == Acknowledged(("999999",))


def test_oar() -> None:
    assert short("oar-2.5/status") == {
        "36627": ("running", "", None, "jrm0a1b2c3d"),
        "36628": ("queued", "", None, ""),
        "36629": ("failed", "", 7, ""),
    }
    found = answer("oar-2.5/status")
    assert isinstance(found, list) and isinstance(found[0], JobRecord) and isinstance(found[1], JobRecord)
    assert found[0].nodes == ("gengar-1", "gengar-2") and found[1].estimate == 1751983509
    assert isinstance(answer("oar-2.5/cancel"), Acknowledged)
    nodes = answer("oar-2.5/nodes")
    assert isinstance(nodes, list) and [n.state for n in nodes if isinstance(n, NodeRecord)] == ["free", "offline"]


def test_flux_and_pbs_beyond_the_recordings() -> None:
    one = answer("flux-doc/status-one")
    assert isinstance(one, list) and isinstance(one[0], JobRecord) and one[0].token == "jrm0a1b2c3d"
    assert one[0].nodes == ("n1", "n2") and one[0].limit_s == 600 and one[0].ends_by == 1795305847
    assert short("flux-doc/final") == {
        "28pZ7f1": ("failed", "", 7, "jrm0a1b2c3d"),
        "28pZ7f2": ("failed", "timeout", 142, ""),
    }
    assert answer("flux-doc/cancel") == Acknowledged(("28pZ7f1",))
    nodes = answer("flux-doc/nodes")
    assert isinstance(nodes, list) and [(n.name, n.state) for n in nodes if isinstance(n, NodeRecord)] == [
        ("n3", "free"), ("n4", "free"), ("n1", "busy"), ("n2", "busy"),
    ]  # fmt: skip
    mixed = answer("openpbs-doc/status-mixed", asked=["8.pbs0", "99999.pbs0"])
    assert isinstance(mixed, list) and isinstance(mixed[0], JobRecord) and isinstance(mixed[1], JobRecord)
    assert (mixed[0].token, mixed[0].nodes, mixed[0].restarts) == ("jrm0a1b2c3d", ("n1", "n2"), 1)
    assert mixed[1].state is JobState.UNKNOWN
    assert answer("openpbs-doc/cancel") == Acknowledged(("99999.pbs0",))


def test_every_state_of_every_system_means_something() -> None:
    for name in {*FOLDERS.values(), "slurm", "sge", "local"}:
        system = load(name)
        for raw in system.get("states"):
            state, detail = system.state_of(raw)
            assert isinstance(state, JobState) and (not detail or detail in DETAILS)
        assert system.state_of("no such state") == (JobState.UNKNOWN, "") and len(system.notes) == 1
