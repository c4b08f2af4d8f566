"""What breaks between here and there: nothing runs twice, nothing is given up without proof, everything says so."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from remote_kit import Far, active, answered, line_of, story, until

import jupyter_rm as jrm
from jupyter_rm.client.session import Session
from jupyter_rm.runtime.home import Home

MARK = 'import os, sys; os.close(os.open(sys.argv[1] + "/" + sys.argv[2], os.O_CREAT | os.O_EXCL))'


def marks(far: Far, name: str) -> Path:
    """Return a directory of the account there in which each task leaves one file, and fails when it is there."""
    path = far.cluster.state / "home/alice" / f"marks-{far.broker_id}-{name}"
    path.mkdir()
    os.chown(path, 29601, 29601)
    return path


def marked(directory: Path, count: int, pause: float = 0.0) -> list[jrm.Task]:
    text = MARK + f"; import time; time.sleep({pause})" if pause else MARK
    return [jrm.Task("/usr/bin/python3", ["-c", text, str(directory), str(number)]) for number in range(count)]


def test_a_broker_that_is_killed_while_it_submits_makes_one_job(far: Far, study: Session) -> None:
    study.pilot("slurm+ssh://alice@tb-slurm", nodes=1)
    task = study.submit(jrm.Task("/bin/true"))
    name = study.name
    until(lambda: far.record(name).get("phase") in ("submitting", "submitted"), "it does not get so far")
    far.kill_broker()
    again = far.new_client(name)
    pilot = active(again.pilots()[0])
    assert len(again.pilots()) == 1
    until(lambda: again[task.uid].state == "DONE", lambda: again[task.uid].reason)
    assert far.jobs_of(far.record(name)["token"]) == [pilot.job_id]
    again.close()


def test_a_broker_that_is_killed_in_mid_run_finds_its_pilot_again(far: Far, study: Session) -> None:
    active(study.pilot("slurm+ssh://alice@tb-slurm", nodes=1))
    directory = marks(far, study.name)
    bulk = study.submit(marked(directory, 60, 0.2))
    until(lambda: any(directory.iterdir()), "no task has begun")
    far.kill_broker()
    again = far.new_client(study.name)
    both = again[bulk.uid]
    assert both.wait(120)
    assert both.counts() == {"DONE": 60}, [task.reason for task in both.failed()][:3]
    assert len(list(directory.iterdir())) == 60
    again.close()


def test_a_killed_agent_is_started_again_and_the_work_goes_on(far: Far, study: Session) -> None:
    pilot = active(study.pilot("ssh://alice@tb-slurm", cores=2))
    assert study.submit(jrm.Task("/bin/true")).wait(60) == "DONE"
    first = far.agent_pids()
    os.kill(first[0], signal.SIGKILL)
    until(lambda: far.agent_pids() not in ([], first), "no new agent")
    bulk = study.submit([jrm.Task("/bin/true")] * 50)
    assert bulk.wait(60)
    assert bulk.counts() == {"DONE": 50}
    assert pilot.state == "ACTIVE"


def test_without_any_network_path_letters_carry_the_work(far: Far, study: Session) -> None:
    far.cluster.need("few")
    with line_of(far.cluster.state / "auth/alice", "no-port-forwarding "):
        pilot = active(study.pilot("ssh://alice@tb-few", cores=2))
        bulk = study.submit([jrm.Task("/bin/true")] * 60)
        assert study.call(pow, 3, 3).result(timeout=60) == 27
        assert bulk.wait(120)
        assert bulk.counts() == {"DONE": 60}
        assert any(step == "link" and "no network path" in text for step, _, text in story(study)), pilot.reason
        pilot.cancel()
        assert pilot.wait("CANCELED", 90) == "CANCELED"


def test_a_stranger_without_the_broker_s_key_is_not_heard(far: Far, study: Session) -> None:
    import json

    import zmq

    active(study.pilot("ssh://alice@tb-slurm", cores=1))
    contact = json.loads((far.place(study.name) / "contact.json").read_bytes())
    spec = (far.place(study.name) / "spec").read_bytes().split(b"\n", 3)[3]
    public = json.loads(spec)["link"]["public"].encode()
    with zmq.Context() as context:
        for keys in (None, zmq.curve_keypair()):
            with context.socket(zmq.DEALER) as socket:
                socket.linger = 0
                if keys is not None:
                    socket.curve_publickey, socket.curve_secretkey = keys
                    socket.curve_serverkey = public
                socket.connect(f"tcp://127.0.0.1:{contact['port']}")
                socket.send(b"")
                assert not socket.poll(1500), socket.recv()
    assert study.submit(jrm.Task("/bin/true")).wait(30) == "DONE"
    assert Home.locate().holder() is not None


def test_a_lost_login_that_needs_a_code_waits_for_a_person_and_the_work_goes_on(far: Far, study: Session) -> None:
    far.cluster.need("mfa")
    pilot = study.pilot("ssh://alice@tb-cutcode", cores=1)
    answered(study, "password", far.password)
    answered(study, "otp", far.code())
    active(pilot)
    directory = marks(far, study.name)
    bulk = study.submit(marked(directory, 40, 0.2))
    until(lambda: any(directory.iterdir()), "no task has begun")
    far.code_relay.reset()
    until(lambda: study.questions, "nobody is asked")[0].cancel()
    until(lambda: pilot.step is not None and pilot.step.status == "fail", lambda: str(pilot.step))
    study.log_in()
    answered(study, "password", far.password, 60)
    answered(study, "otp", far.code())
    assert bulk.wait(120)
    assert bulk.counts() == {"DONE": 40}
    assert len(list(directory.iterdir())) == 40
    assert pilot.state == "ACTIVE"


def test_a_pilot_canceled_while_a_person_is_asked_is_gone_and_so_is_the_question(far: Far, study: Session) -> None:
    far.cluster.need("mfa0")
    pilot = study.pilot("ssh://alice@tb-mfa0")
    until(lambda: study.questions, "nobody is asked")
    pilot.cancel()
    assert pilot.wait("CANCELED", 30) == "CANCELED", pilot.reason
    until(lambda: not study.questions, "the question is still open")


def test_a_batch_system_that_does_not_answer_and_a_killed_broker_make_one_job(far: Far, study: Session) -> None:
    with far.cluster.dead("slurmctld"):
        pilot = study.pilot("slurm+ssh://alice@tb-slurm", nodes=1)
        until(lambda: "not clear" in pilot.reason, lambda: pilot.reason, 60)
        assert "does not answer" in pilot.reason
        assert far.record(study.name)["phase"] == "submitting"
        far.kill_broker()
    again = far.new_client(study.name)
    same = active(again.pilots()[0], 120)
    assert far.jobs_of(far.record(study.name)["token"]) == [same.job_id]
    again.close()


def test_a_pilot_whose_time_is_over_says_so_and_gives_its_tasks_back(far: Far, study: Session) -> None:
    pilot = active(study.pilot("ssh://alice@tb-slurm", cores=1, walltime="6s"))
    bulk = study.submit([jrm.Task("/bin/sleep", ["4"])] * 4)
    assert pilot.wait("DONE", 60) in ("DONE", "FAILED")
    assert "time" in pilot.reason, pilot.reason
    active(study.pilot("ssh://alice@tb-slurm", cores=4))
    assert bulk.wait(60)
    assert bulk.counts() == {"DONE": 4}
