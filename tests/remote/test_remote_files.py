"""Files of tasks through SSH and Slurm: sent once, resumed after kill -9, home without kernel, agent or pilot."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import numpy as np
import psutil
from remote_kit import Far, active, until

import jupyter_rm as jrm
from jupyter_rm.client import connection
from jupyter_rm.client import session as sessions
from jupyter_rm.client.session import Session
from jupyter_rm.runtime.home import Home

BIG = 24 << 20


def made(path: Path, size: int, seed: int) -> str:
    """Write a file of no pattern; return its checksum."""
    data = np.random.default_rng(seed).bytes(size)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def cache(far: Far) -> Path:
    return far.cluster.state / "home/alice/.jupyter_rm/cache"


def carried(far: Far) -> list[str]:
    """Return what the broker says about contents it has sent."""
    log = (far.dir / "home/default/broker.log").read_text()
    return [line for line in log.splitlines() if " contents, " in line]


def test_a_hundred_tasks_share_one_transfer_of_one_file(far: Far, study: Session, tmp_path: Path) -> None:
    """The files travel while the job waits; a hundred tasks link them, and what they write comes home."""
    shared = 3 << 20  # each task reads all of it
    sum_ = made(tmp_path / "big.dat", shared, random.randrange(1 << 30))
    made(tmp_path / "tree/a/one", 1000, 1)
    made(tmp_path / "tree/two", 10, 2)
    pilot = study.pilot("slurm+ssh://alice@tb-slurm", nodes=1, walltime="10m", options={"hold": "true"})
    assert pilot.wait("QUEUED", 90) == "QUEUED", pilot.reason
    before = len(carried(far))
    tasks = study.array(
        jrm.Shell(
            "test -L big && sha256sum < big > sum && cat {n}.in tree/two > out && cp -r tree made",
            input_staging=[
                {"source": tmp_path / "big.dat", "target": "big", "action": "link"},
                f"{tmp_path}/{{n}}.in",
                f"{tmp_path}/tree",
            ],
            output_staging=[
                f"sum > {tmp_path}/back/{{n}}.sum",
                f"out > {tmp_path}/back/{{n}}/out",
                "made > pilot:///m{n}",
            ],
        ),
        n=[made(tmp_path / f"{n}.in", 100 + n, n) and n for n in range(100)],
    )
    until(lambda: (cache(far) / sum_).exists(), lambda: f"nothing is sent while it is {pilot.state}", 90)
    assert pilot.state == "QUEUED"
    far.cluster.run("scontrol", "release", pilot.job_id)
    assert tasks.wait(120), tasks.counts()
    assert tasks.counts() == {"DONE": 100}, {t.reason for t in tasks if t.state != "DONE"}
    for n in range(100):
        assert (tmp_path / f"back/{n}.sum").read_text().split()[0] == sum_
        told = (tmp_path / f"back/{n}/out").read_bytes()
        assert told == (tmp_path / f"{n}.in").read_bytes() + (tmp_path / "tree/two").read_bytes()
    assert pilot.sandbox is not None
    assert (pilot.sandbox / "shared/m7/a/one").read_bytes() == (tmp_path / "tree/a/one").read_bytes()
    sizes = [int(line.split(" contents, ")[1].split()[0]) for line in carried(far)[before:]]
    assert sum(size >= shared for size in sizes) == 1, sizes
    again = study.submit(jrm.Shell("sha256sum < big", input_staging=[f"{tmp_path / 'big.dat'} > big"]))
    assert again.result(timeout=60).split()[0] == sum_
    assert len(carried(far)) == before + len(sizes), "a content that is there was sent again"
    words = str(again.story())
    assert "input files are in place" in words, words


def test_a_transfer_goes_on_after_cut_and_kill_and_nothing_half_is_taken(
    far: Far, study: Session, tmp_path: Path
) -> None:
    pilot = active(study.pilot("slurm+ssh://alice@tb-cut", nodes=1, walltime="10m"))
    sum_ = made(tmp_path / "big.dat", BIG, random.randrange(1 << 30))
    far.relay.most = 0
    far.relay.reset()  # counted anew from the next login on
    far.relay.most = 6 << 20
    staged = f"{tmp_path / 'big.dat'} > big"
    tasks = study.submit([jrm.Shell("sha256sum < big", input_staging=[staged]) for _ in range(4)])
    parts = lambda: [part for part in cache(far).glob(f".{sum_}.*.part") if part.stat().st_size]  # noqa: E731
    until(lambda: far.relay.most == 0 and parts(), "the transfer was not cut in its middle", 90)
    far.relay.refuse = True
    far.relay.reset()
    far.kill_broker()
    (part,) = parts()
    here, size = part.stat().st_ino, part.stat().st_size
    assert 0 < size < BIG
    assert not (cache(far) / sum_).exists()
    far.relay.refuse = False
    again = far.new_client(study.name)
    assert [task.state for task in again.tasks()] == ["STAGING_IN"] * 4, pilot.reason
    assert again.tasks().wait(120), [task.reason for task in again.tasks()]
    assert {task.result().split()[0] for task in again.tasks()} == {sum_}
    assert (cache(far) / sum_).stat().st_ino == here, "it was sent anew instead of continued"
    assert len(tasks) == 4


def test_output_comes_home_when_kernel_agent_and_pilot_are_gone(far: Far, study: Session, tmp_path: Path) -> None:
    pilot = active(study.pilot("slurm+ssh://alice@tb-slurm", nodes=1, walltime="10m", name="short"))
    task = study.submit(
        jrm.Shell(
            f"head -c {2 * BIG} /dev/urandom > big; sha256sum < big > sum; mkdir d; cp sum d/s; touch ready; "
            "while [ ! -e go ]; do sleep 0.05; done",
            output_staging=[f"big > {tmp_path}/home/big", f"sum > {tmp_path}/home/", f"d > {tmp_path}/home/d"],
        )
    )
    until(lambda: task.sandbox is not None and (task.sandbox / "ready").exists(), lambda: task.reason, 60)
    assert task.sandbox is not None
    sandbox, job = task.sandbox, pilot.job_id
    connection.close_all()  # no client is there any more
    sessions._open.clear()
    (sandbox / "go").touch()
    until(lambda: list(tmp_path.glob("home/.big.*.part")), "nothing comes home", 60)
    holder = Home.locate().holder()
    assert holder is not None
    psutil.Process(holder.pid).suspend()
    assert not (tmp_path / "home/big").exists(), "it was too fast to be killed in the middle"
    far.kill_broker()
    far.cluster.run("scancel", job)
    until(lambda: not far.agents(), lambda: f"left there: {far.agents()}", 60)
    again = far.new_client(study.name)
    found = again.tasks()[0]
    assert found.wait(90) == "DONE", f"{found.state}: {found.reason}"
    told = (tmp_path / "home/sum").read_text().split()[0]
    assert hashlib.sha256((tmp_path / "home/big").read_bytes()).hexdigest() == told
    assert (tmp_path / "home/d/s").read_text().split()[0] == told
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["big", "d", "sum"]
    assert found.attempt == 1, str(found.story())
    assert "is done with it, its output files are fetched" in str(found.story())


def test_without_a_road_a_task_says_what_it_waits_for_and_can_be_canceled(
    far: Far, study: Session, tmp_path: Path
) -> None:
    active(study.pilot("ssh://alice@tb-cut", cores=2))
    made(tmp_path / "big.dat", BIG, random.randrange(1 << 30))
    far.relay.most = 0
    far.relay.reset()
    far.relay.most = 4 << 20
    try:
        task = study.submit(jrm.Shell("cat big", input_staging=[f"{tmp_path / 'big.dat'} > big"]))
        until(lambda: far.relay.most == 0, "the transfer was not cut in its middle", 90)
        far.relay.refuse = True
        far.relay.reset()
        until(lambda: task.state == "STAGING_IN" and "waits for ssh://alice@tb-cut" in task.reason, lambda: task.reason)
        assert "input files are being put in place" in task.explain()
        task.cancel()
    finally:
        far.relay.refuse = False
    assert task.wait(60) == "CANCELED"
    assert not list(task._session.tasks().failed())


def test_directories_of_the_session_and_the_account_are_shared(far: Far, study: Session, tmp_path: Path) -> None:
    """Two pilots see a session's file, another session an account's; a missing one fails the task and is named."""
    one = active(study.pilot("ssh://alice@tb-slurm", cores=1, name="one"))
    active(study.pilot("ssh://alice@tb-slurm", cores=1, name="two"))
    missing = study.submit(jrm.Shell("cat in", pilot="two", input_staging=["session:///late > in"]))
    assert missing.wait(60) == "FAILED"
    assert missing.cause == "STAGE_IN_FAILED"
    assert "session/late is not there" in missing.reason
    name = f"shared-{tmp_path.name}"
    given = ["o > session:///late", f"o > resource:///{name}"]
    made_ = study.submit(jrm.Shell("echo seen > o", pilot="one", output_staging=given))
    assert made_.wait(60) == "DONE", made_.reason
    after = jrm.Shell("cat in", pilot="two", input_staging=["session:///late > in"])
    assert study.submit(after).result(timeout=60) == "seen\n"
    with sessions.open(f"{study.name}-other") as other:
        active(other.pilot("ssh://alice@tb-slurm", cores=1))
        assert other.submit(jrm.Shell("cat in", input_staging=[f"resource:///{name} > in"])).result(60) == "seen\n"
        other.close()
    assert one.sandbox is not None
    assert (one.sandbox.parent / "session/late").stat().st_mode & 0o077 == 0


def test_files_by_hand_use_the_login_there_is(far: Far, study: Session, tmp_path: Path) -> None:
    pilot = active(study.pilot("ssh://alice@tb-slurm", cores=1))
    logins = far.connections(far.cluster.port + 28)
    task = study.submit(jrm.Shell("mkdir d; echo one > d/'a b'; head -c 300000 /dev/zero > big; sleep 600"))
    until(lambda: task.sandbox is not None and (task.sandbox / "big").exists(), lambda: task.reason)
    there = study.fs(pilot)
    place = f"task://{task.uid}/"
    found = {entry.name: (entry.kind, entry.size) for entry in there.ls(place)}
    assert found["d"][0] == "dir"
    assert found["big"] == ("file", 300000)
    assert (there.get(f"{place}d", tmp_path / "back") / "a b").read_text() == "one\n"
    assert there.get(f"{place}big", tmp_path).stat().st_size == 300000
    (tmp_path / "back/run").write_text("#!/bin/sh\n")
    (tmp_path / "back/run").chmod(0o755)
    assert there.put(tmp_path / "back", "pilot:///") == f"{pilot.sandbox}/shared/back"
    assert pilot.sandbox is not None
    assert (pilot.sandbox / "shared/back/run").stat().st_mode & 0o777 == 0o755
    assert (pilot.sandbox / "shared/back/a b").read_text() == "one\n"
    assert ".jupyter_rm" in [entry.name for entry in study.fs("ssh://alice@tb-slurm").ls("~")]
    there.mkdir("session:///x/y")
    there.remove("session:///x/y")
    assert there.ls("session:///x") == []
    sent = len(carried(far))
    assert study.stage(tmp_path / "back/a b", to="session") == "session:///a b"
    assert study.submit(jrm.Shell("cat in", input_staging=[("session:///a b", "in")])).state != "FAILED"
    assert far.connections(far.cluster.port + 28) == logins
    assert len(carried(far)) == sent
    task.cancel()
