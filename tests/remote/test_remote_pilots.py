"""Pilots through SSH, on a plain machine and in Slurm: from one line to tasks that ran there, and to the end."""

from __future__ import annotations

import pytest
from remote_kit import Far, active, answered, no_secret_in, story, until

import jupyter_rm as jrm
from jupyter_rm.client.session import Session


def test_a_pilot_that_waits_says_where_and_why_and_can_be_canceled(far: Far, study: Session) -> None:
    pilot = study.pilot("slurm+ssh://alice@tb-slurm", nodes=1, options={"hold": "true"})
    assert pilot.wait("QUEUED", 60) == "QUEUED", pilot.reason
    until(lambda: "held" in pilot.reason, lambda: pilot.reason, 60)
    job = pilot.job_id
    pilot.cancel()
    assert pilot.wait("CANCELED", 90) == "CANCELED", pilot.reason
    assert job not in far.cluster.run("squeue", "-h", "-o", "%i").split()


def test_a_machine_without_a_batch_system_runs_tasks_and_calls(far: Far, study: Session) -> None:
    pilot = active(study.pilot("ssh://alice@tb-slurm", cores=2))
    who = study.submit(jrm.Task("/usr/bin/id", ["-un"]))
    assert who.wait(60) == "DONE", who.reason
    assert far.cluster.state / "home/alice/.jupyter_rm/sandboxes" in pilot.sandbox.parents  # type: ignore[union-attr]
    assert study.call(pow, 2, 10).result(timeout=60) == 1024
    bulk = study.submit([jrm.Task("/bin/true")] * 200)
    assert bulk.wait(60)
    assert bulk.counts() == {"DONE": 200}
    steps = story(study)
    for name in ("connect", "survey", "environment", "submit", "link"):
        assert any(step == name and status == "ok" for step, status, _ in steps), steps
    assert len(far.agent_pids()) == 1
    pilot.cancel()
    assert pilot.wait("CANCELED", 60) == "CANCELED"
    until(lambda: not far.agents(), lambda: f"left there: {far.agents()}")
    until(lambda: far.record(study.name)["phase"] == "over", "the broker does not let go of it")


def test_a_pilot_in_slurm_from_the_queue_to_its_end(far: Far, study: Session) -> None:
    pilot = study.pilot("slurm+ssh://alice@tb-slurm", nodes=1, walltime="10m", queue="batch", name="big")
    active(pilot)
    task = study.submit(jrm.Task("/bin/hostname"))
    assert task.wait(60) == "DONE", task.reason
    assert pilot.nodes[0].name.startswith("n0")
    job = pilot.job_id
    assert far.jobs_of(far.record(study.name)["token"]) == [job]
    assert far.connections(far.cluster.port + 28) == 1
    until(lambda: not far.on_login_node(), lambda: f"left on the login node: {far.on_login_node()}")
    assert "big" in far.cluster.run("squeue", "-h", "-o", "%j")
    assert study.pilot("slurm+ssh://alice@tb-slurm", nodes=1, walltime="10m", queue="batch", name="big").uid == "p.0"
    study.close()
    until(lambda: job not in far.cluster.run("squeue", "-h", "-o", "%i").split(), "its job is still there")


def test_two_pilots_of_one_account_share_one_login_with_one_question_each(far: Far, study: Session) -> None:
    far.cluster.need("mfa")
    before = (far.cluster.state / "log/mfa.log").read_text(errors="replace").count("Accepted ")
    first = study.pilot("ssh://alice@tb-mfa", cores=1)
    second = study.pilot("ssh://alice@tb-mfa", cores=1)
    password, code = far.password, far.code()
    answered(study, "password", password)
    answered(study, "otp", code)
    active(first)
    active(second)
    assert not study.questions
    assert (far.cluster.state / "log/mfa.log").read_text(errors="replace").count("Accepted ") == before + 1
    no_secret_in(far.dir / "home", password, code)
    assert "asks" in str(story(study))


@pytest.mark.parametrize(
    ("site", "fields", "says"),
    [
        ("slurm+ssh://alice@tb-slurm", {"queue": "nosuch"}, ["there is no such queue", "invalid partition", "JRM-S31"]),
        ("slurm+ssh://alice@tb-sge", {}, ["sbatch", "JRM-S27"]),
        ("ssh://alice@tb-changed", {}, ["CHANGED", "JRM-T26", "ssh-keygen -R"]),
        ("ssh://nobody-here@tb-slurm", {}, ["refused", "JRM-T24"]),
        ("ssh://alice@127.0.0.1:1", {}, ["cannot be reached", "JRM-T20"]),
        ("ssh://alice@tb-slurm", {"env": "/nowhere"}, ["no environment with jupyter_rm", "JRM-B07"]),
        ("ssh://alice@tb-slurm", {"sandbox": "/proc/y"}, ["sandbox: /proc/y cannot be made", "JRM-S32"]),
    ],
    ids=["queue", "no sbatch", "changed key", "no such account", "nobody listens", "no environment", "no sandbox"],
)
def test_what_cannot_be_had_fails_at_once_and_says_why(
    far: Far, study: Session, site: str, fields: dict[str, str], says: list[str]
) -> None:
    far.cluster.need("sge")
    pilot = study.pilot(site, **fields)
    assert pilot.wait("DONE", 60) == "FAILED"
    for words in says:
        assert words in pilot.reason, pilot.reason
    assert "next:" in pilot.reason
    assert not study.questions


def test_an_unknown_host_is_confirmed_by_a_person_or_not_used(far: Far, study: Session) -> None:
    refused = study.pilot("ssh://alice@tb-unknown")
    one = until(lambda: study.questions, "nobody is asked")[0]
    assert one.kind == "host_key"
    assert one.fingerprint.startswith("SHA256:")
    one.cancel()
    assert refused.wait("DONE", 30) == "FAILED"
    assert "JRM-T2" in refused.reason
    again = study.pilot("ssh://alice@tb-unknown", cores=1)
    answered(study, "host_key", "yes")
    active(again)
    assert "ssh-ed25519" in (far.dir / "known_none").read_text()


def test_a_wrong_code_ends_the_login_and_is_not_tried_again(far: Far, study: Session) -> None:
    far.cluster.need("mfa0")
    pilot = study.pilot("ssh://alice@tb-mfa0")
    answered(study, "password", far.password)
    answered(study, "otp", "000000")
    assert pilot.wait("DONE", 60) == "FAILED"
    assert "JRM-T25" in pilot.reason, pilot.reason
    until(lambda: not study.questions, "it asks again")


@pytest.mark.parametrize(
    ("site", "fields", "code", "names"),
    [
        ("slrum+ssh://me@login", {}, "JRM-Q17", "did you mean 'slurm'"),
        ("nosuchsite", {}, "JRM-Q17", "site"),
        ("slurm+ssh://me@login", {"options": {"qoss": "x"}}, "JRM-Q22", "qoss"),
        ("slurm+ssh://me@login", {"queue": "-x"}, "JRM-Q21", "queue"),
        ("slurm+ssh://me@login", {"options": {"token": "x"}}, "JRM-Q21", "token"),
        ("ssh://me@host", {"nodes": 2}, "JRM-Q21", "nodes"),
        ("ssh://me@host", {"env_mode": "creat"}, "JRM-B02", "env_mode"),
        ("ssh://me@host", {"hooks": {"after_lunch": "true"}}, "JRM-Q17", "after_lunch"),
        ("ssh://me:secret@host", {}, "JRM-Q70", "password"),
    ],
)
def test_an_impossible_wish_is_refused_by_field_before_anything_is_recorded(
    study: Session, site: str, fields: dict[str, object], code: str, names: str
) -> None:
    with pytest.raises(jrm.RequestError) as refused:
        study.pilot(site, **fields)
    assert refused.value.code == code
    assert names in str(refused.value)
    assert not study.pilots()
