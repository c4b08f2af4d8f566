"""One collection for all users of a site: how often it asks, whom it believes, what takes over when it is no good."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cluster_kit import Cluster, eventually
from sites_kit import Hand, hand

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "remote"))
from remote_kit import Far

from jupyter_rm import cli
from jupyter_rm.batch import JobState, check, load
from jupyter_rm.batch.document import read
from jupyter_rm.client import session as sessions
from jupyter_rm.runtime.batchsite import BatchSite
from jupyter_rm.runtime.collect import Collector
from jupyter_rm.runtime.collect_shared import SharedPlace, SharedUrl
from jupyter_rm.runtime.connect import Connection, Nobody, connect
from jupyter_rm.views import lines

ALICE, BOB = 29601, 29602


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Place:
    """A directory for a shared collection, and commands of Slurm that write down who calls them."""

    path: Path
    bin: Path

    def calls(self, kind: str) -> list[str]:
        """Return the calls for everybody's jobs (``queue``), ``nodes``, ``queues``, or own jobs (``own``)."""
        lines = (self.bin / "calls").read_text().splitlines()
        kinds = {
            "own": lambda line: line.startswith("squeue") and "--jobs=" in line,
            "queue": lambda line: line.startswith("squeue") and "--jobs=" not in line,
            "nodes": lambda line: line.startswith("sinfo") and "--Node" in line,
            "queues": lambda line: line.startswith("sinfo") and "--Node" not in line,
        }
        return [line for line in lines if kinds[kind](line)]

    def collector(self, of: Hand, clock: Clock, owner: str = "") -> Collector:
        site = BatchSite(of.connection, load("slurm"), "", env={"PATH": f"{self.bin}:/usr/bin:/bin"})
        shared = SharedPlace(of.connection, str(self.path), owner, "/usr/bin/python3")
        return Collector(site, clock, shared=shared)


@pytest.fixture(scope="module")
def hands(slurm: Cluster) -> Iterator[dict[str, Hand]]:
    made = {user: hand(slurm, "slurm", "paramiko", user=user) for user in ("alice", "bob")}
    yield {user: next(one) for user, one in made.items()}
    for one in made.values():
        next(one, None)


@pytest.fixture
def place(slurm: Cluster, hands: dict[str, Hand]) -> Iterator[Place]:
    path = slurm.state / f"shared-{secrets.token_hex(4)}"
    made = Place(path, path / "bin")
    made.bin.mkdir(parents=True)
    path.chmod(0o1777)
    (made.bin / "calls").touch()
    (made.bin / "calls").chmod(0o666)
    for name in ("squeue", "sinfo"):
        (made.bin / name).write_text(f'#!/bin/sh\necho "{name} $*" >>{made.bin}/calls\nexec /usr/bin/{name} "$@"\n')
        (made.bin / name).chmod(0o755)
    yield made
    for one in hands.values():
        one.clear()
    shutil.rmtree(path)


def test_ten_collectors_of_two_users_ask_as_often_as_one(place: Place, hands: dict[str, Hand]) -> None:
    jobs = {user: one.submit(hold=True) for user, one in hands.items()}
    users = ["alice", "bob"] * 5
    clocks = [Clock() for _ in users]
    collectors = [place.collector(hands[user], clock) for user, clock in zip(users, clocks, strict=True)]
    wanted = {"queue", "nodes", "queues"}

    def turn(number: int) -> bool:
        clocks[number].now += 30
        collectors[number].status({jobs[users[number]].id: jobs[users[number]].token})
        collectors[number].look_around()
        return wanted <= set(collectors[number].picture.parts)

    began = time.time()
    with ThreadPoolExecutor(10) as pool:
        rounds = 0
        while not all(pool.map(turn, range(10))):
            rounds += 1
            assert rounds < 20, [one.picture.parts for one in collectors]
        for _ in range(3):  # all of them want to know more
            assert all(pool.map(turn, range(10)))
    # In a minute, two slots at most: two commands of each kind for all ten.
    slots = 1 + int(time.time() // 60) - int(began // 60)
    for part in sorted(wanted):
        assert 1 <= len(place.calls(part)) <= slots, (part, place.calls(part))
    assert len(place.calls("own")) >= 10, "own jobs are each user's own to ask for"
    sources = {part: {one.picture.parts[part].source for one in collectors} for part in wanted}
    for said in sources.values():
        assert said & {"shared, collected by alice", "shared, collected by bob"} and len(said) <= 4, said
    ids = {job.id for job in jobs.values()}
    for user, one in zip(users, collectors, strict=True):
        assert {job.id for job in one.picture.queue.mine} == {jobs[user].id}
        assert {job.id for job in one.picture.queue.others} == ids - {jobs[user].id}
        assert len(one.picture.nodes) == 4 and one.picture.queues
        assert 0 <= (one.picture.age("queue", time.time()) or 0) < 120
        assert one.picture.jobs[jobs[user].id].detail == "held"
    files = [file for file in place.path.iterdir() if file.suffix == ".json"]
    for file in files:
        assert file.stat().st_mode & 0o777 == 0o644 and file.name.split(".")[1] == str(file.stat().st_uid)
        assert not any(job.token.encode() in file.read_bytes() for job in jobs.values())
    assert all(not file.name.startswith(".") for file in place.path.iterdir()), "nothing half written is left"


def test_a_view_says_who_collected_what_it_shows(
    place: Place, hands: dict[str, Hand], slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a site's file to a session: bob was first with the nodes, alice is with the queue."""
    place.collector(hands["bob"], Clock()).look_around()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "jupyter_rm/sites").mkdir(parents=True)
    (tmp_path / "jupyter_rm/sites/mine.toml").write_text(
        'extends = "slurm"\n[site]\nurl = "slurm+ssh://alice@tb-slurm"\nhold = true\n'
        f'[collect]\nshared = "{place.path}"\n'
    )
    with Far(slurm):
        session = sessions.open("shared")
        pilot = session.pilot("mine", nodes=1)
        view = eventually(
            lambda: (seen := session.sites.get("mine")) and {"queue", "nodes"} <= set(seen.heard) and seen,
            lambda: f"nothing was seen: {session.sites} {pilot!r}",
            within_s=120,
        )
        assert pilot.job_id in {job.id for job in view.jobs if job.mine} and len(view.nodes) == 4
        assert view.sources["queue"] == "collected by you for all"
        assert view.sources["nodes"] == "shared, collected by bob" and "nodes: shared, collected by bob" in repr(view)
        shown = lines.sources(view)  # what stands in the list of sites
        assert "queue: collected by you for all" in shown and "nodes" in shown.split(": shared, collected by bob")[0]
        session.close()


def document(part: str = "queue", at: float | None = None, **more: Any) -> dict[str, Any]:
    """A document as others may write it."""
    rows: dict[str, Any] = {
        "queue": {"jobs": [{"id": "4242", "state": "queued", "queue": "batch", "user": "mallory", **more}]},
        "nodes": {"nodes": [{"name": "n1", "state": "free", **more}]},
        "queues": {"queues": [{"name": "batch", **more}]},
    }
    return {"format": 1, part: {"at": time.time() if at is None else at, **rows[part]}}


def put(path: Path, body: Any, uid: int = BOB, part: str = "queue", mode: int = 0o644) -> Path:
    """Have a user write a document."""
    file = path / f"{part}.{uid}.json"
    file.write_bytes(body if isinstance(body, bytes) else json.dumps(body).encode())
    os.chown(file, uid, uid)
    file.chmod(mode)
    return file


def _huge(path: Path) -> None:
    os.truncate(put(path, b""), 17 << 20)


def _link(path: Path) -> None:
    (path / "elsewhere").write_text(json.dumps(document()))
    (path / f"queue.{BOB}.json").symlink_to(path / "elsewhere")
    os.chown(path / f"queue.{BOB}.json", BOB, BOB, follow_symlinks=False)


def _hard(path: Path) -> None:
    os.link(put(path, document()), path / "other name")


def _pipe(path: Path) -> None:
    os.mkfifo(path / f"queue.{BOB}.json", 0o644)
    os.chown(path / f"queue.{BOB}.json", BOB, BOB)


def _other(path: Path) -> None:
    os.chown(put(path, document()), ALICE, ALICE)


def _late(path: Path) -> None:
    os.utime(put(path, document()), (time.time() + 3600,) * 2)


POISON: dict[str, tuple[Callable[[Path], Any], str]] = {
    "huge": (_huge, "larger than 16 MiB"),
    "symlink": (_link, "no plain file"),
    "hard link": (_hard, "several names"),
    "pipe": (_pipe, "no plain file"),
    "directory": (lambda path: (path / f"queue.{BOB}.json").mkdir(), "no plain file"),
    "of somebody else": (_other, "belongs to"),
    "may be written by others": (lambda path: put(path, document(), mode=0o666), "may be written by others"),
    "future file": (_late, "from the future"),
    "no JSON": (lambda path: put(path, b"\x00\xff\x1b[2J"), "no document"),
    "deep": (lambda path: put(path, b"[" * 200_000), "no document"),
    "other format": (lambda path: put(path, {**document(), "format": 2}), "no document"),
    "another part": (lambda path: put(path, document("nodes")), "holds no queue"),
    "unknown field": (lambda path: put(path, document(command="rm -rf")), "no document"),
    "wrong types": (lambda path: put(path, document(priority="high")), "no document"),
    "no list": (lambda path: put(path, {"format": 1, "queue": {"at": time.time(), "jobs": {"a": 1}}}), "no document"),
    "a job that is over": (lambda path: put(path, document(state="done")), "no document"),
    "no such state": (lambda path: put(path, document(detail="finished")), "state that does not exist"),
    "large number": (lambda path: put(path, document(submit=1e300)), "no document"),
    "long text": (lambda path: put(path, document(reason="x" * 2000)), "no document"),
    "escape": (lambda path: put(path, document(reason="\x1b]0;pwned\x07")), "cannot be seen"),
    "line break": (lambda path: put(path, document(user="a\nb")), "cannot be seen"),
    "right to left": (lambda path: put(path, document(queue="a\u202eb")), "cannot be seen"),
    "old": (lambda path: put(path, document(at=time.time() - 3600)), "s old"),
    "future": (lambda path: put(path, document(at=time.time() + 3600)), "from the future"),
}


@pytest.fixture(scope="module")
def here() -> Iterator[Connection]:
    with connect("local", Nobody()) as connection:
        yield connection


@pytest.mark.parametrize("kind", POISON)
def test_what_is_wrong_with_a_file_is_said_and_one_collects_oneself(
    kind: str, here: Connection, tmp_path: Path
) -> None:
    tmp_path.chmod(0o1777)
    spoil, reason = POISON[kind]
    spoil(tmp_path)
    shared = SharedPlace(here, str(tmp_path), "", "/usr/bin/python3")
    found = shared.look("queue", 60.0)
    assert found.turn and found.told is None, found
    assert reason in found.note() and len(found.note()) <= 300 and found.note().isprintable(), found.note()
    if kind == "escape":  # what was collected then is younger: it is read, and the bad one is not even looked at
        good = read(json.dumps(document()).encode())["queue"]
        assert shared.give("queue", good) == ""
        other = SharedPlace(here, str(tmp_path), "", "/usr/bin/python3").look("queue", 60.0)
        assert other.told is not None and [job.user for job in other.told.records] == ["mallory"] and other.trusted


def test_a_directory_that_cannot_be_trusted_or_used_is_none(here: Connection, tmp_path: Path) -> None:
    def trouble(path: Path, owner: str = "", python: str = "/usr/bin/python3") -> str:
        found = SharedPlace(here, str(path), owner, python).look("nodes", 300.0)
        assert not (found.turn or found.busy or found.told), found
        return found.trouble

    assert "No such file" in trouble(tmp_path / "nothing")
    assert "no account nobody-of-that-name" in trouble(tmp_path, "nobody-of-that-name")
    assert "/no/python" in trouble(tmp_path, python="/no/python")
    put(tmp_path, document("nodes"), part="nodes")
    tmp_path.chmod(0o777)
    assert "chmod +t" in trouble(tmp_path)


def test_a_poisoned_collection_costs_a_user_nothing(place: Place, hands: dict[str, Hand]) -> None:
    job = hands["alice"].submit(hold=True)
    put(place.path, document(reason="\x1b[31m", id=job.id), part="queue")
    put(place.path, document("nodes", reason="\x1b[31m"), part="nodes")
    clock = Clock()
    collector = place.collector(hands["alice"], clock)
    assert [one.id for one in collector.status({job.id: job.token})] == [job.id]
    collector.look_around()
    assert len(collector.picture.nodes) == 4 and [one.id for one in collector.picture.queue.mine] == [job.id]
    for part in ("queue", "nodes"):
        source = collector.picture.parts[part].source
        assert source.startswith("collected by you for all; shared collection:") and "cannot be seen" in source
        assert len(place.calls(part)) == 1
    # Nobody may write there any more, and what is there is old: one's own commands go on.
    for file in [*place.path.glob("*.json"), *place.path.glob("turn.*")]:
        file.unlink()
    place.path.chmod(0o755)
    clock.now += 400
    collector.status({job.id: job.token})
    source = collector.picture.parts["queue"].source
    assert source.startswith("own commands; shared collection:") and "Permission denied" in source, source
    assert len(place.calls("queue")) == 2


def test_who_has_the_turn_and_does_not_use_it_is_not_waited_for_long(place: Place, hands: dict[str, Hand]) -> None:
    clock = Clock()
    collector = place.collector(hands["alice"], clock)
    for slot in range(-1, 4):
        (place.path / f"turn.nodes.{int(time.time() // 60) + slot}").touch()
    assert not collector.look_around() or collector.picture.queues, "somebody else is at it"
    assert not place.calls("nodes") and not collector.picture.nodes
    for _ in range(8):
        clock.now += 15
        collector.look_around()
    assert len(collector.picture.nodes) == 4 and len(place.calls("nodes")) == 1
    assert "whose turn it is does not collect" in collector.picture.parts["nodes"].source


def test_own_jobs_are_believed_to_whom_the_site_names_alone(place: Place, hands: dict[str, Hand]) -> None:
    alice, other = hands["alice"].submit(hold=True), hands["alice"].submit(hold=True)
    jobs = {alice.id: alice.token}
    # Anybody's word: shown, and the job is asked for by oneself.
    file = put(place.path, document(id=alice.id, state="running", user="alice"))
    os.utime(file, (time.time() + 50,) * 2)  # fresh for longer than this test may be held up
    clock = Clock()
    plain = place.collector(hands["alice"], clock)
    assert [one.state for one in plain.status(jobs, borrow=True)] == [JobState.QUEUED]
    assert len(place.calls("own")) == 1 and not place.calls("queue")
    assert [one.state for one in plain.picture.queue.mine] == [JobState.RUNNING]
    # The word of the account that the site names: nothing is asked, as long as it speaks of the job.
    named = place.collector(hands["alice"], clock, owner="bob")
    heard = named.status(jobs, borrow=True)
    assert [(one.id, one.state) for one in heard] == [(alice.id, JobState.RUNNING)]
    assert len(place.calls("own")) == 1 and not place.calls("queue")
    # Not of one that ran before, nor of one that it leaves out, nor of what was heard before by oneself.
    again = place.collector(hands["alice"], clock, owner="bob")
    assert [one.state for one in again.status(jobs)] == [JobState.QUEUED]
    clock.now += 100
    assert [one.state for one in again.status(jobs, borrow=True)] == [JobState.QUEUED]
    left_out = place.collector(hands["alice"], clock, owner="bob")
    assert left_out.status({other.id: other.token}, borrow=True) == []
    clock.now += 30
    assert [one.id for one in left_out.status({other.id: other.token}, borrow=True)] == [other.id]
    # The word of anybody else is not even shown there.
    (place.path / f"queue.{BOB}.json").unlink()
    put(place.path, document(), uid=ALICE)
    strict = place.collector(hands["alice"], clock, owner="bob")
    assert [one.state for one in strict.status(jobs, borrow=True)] == [JobState.QUEUED]
    assert "is not of bob" in strict.picture.parts["queue"].source
    assert "only bob collects there" in strict.picture.parts["queue"].source


@dataclass
class Web:
    """A server with a certificate of its own: what it answers by path, and what it was asked."""

    url: str
    answers: dict[str, tuple[int, dict[str, str], bytes]]
    asked: list[str]


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-subj", "/CN=site", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(made, cwd=tmp_path, check=True, capture_output=True)
    asked: list[str] = []
    answers: dict[str, tuple[int, dict[str, str], bytes]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            code, headers, body = answers[self.path]
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    yield Web(f"https://127.0.0.1:{server.server_port}", answers, asked)
    server.shutdown()
    server.server_close()


def test_a_url_is_read_with_limits_and_leads_nowhere_else(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    good = json.dumps({**document(), **document("nodes", at=time.time() - 100)}).encode()
    web.answers |= {
        "/site.json": (200, {}, good),
        "/moved": (302, {"Location": "/site.json"}, b""),
        "/round": (302, {"Location": "/round"}, b""),
        "/plain": (302, {"Location": web.url.replace("https", "http") + "/site.json"}, b""),
        "/file": (302, {"Location": "file:///etc/passwd"}, b""),
        "/gone": (404, {}, b""),
        "/large": (200, {}, b" " * ((16 << 20) + 1)),
        "/page": (200, {}, b"<html>not yet</html>"),
        "/old": (200, {}, json.dumps(document(at=time.time() - 181)).encode()),
    }
    shared = SharedUrl(web.url + "/site.json")
    queue, nodes, queues = shared.look("queue", 60.0), shared.look("nodes", 300.0), shared.look("queues", 3600.0)
    assert queue.told is not None and queue.told.records[0].user == "mallory" and not queue.trusted
    assert nodes.told is not None and 99 < nodes.age < 200 and nodes.note() == f"shared, {web.url}/site.json"
    assert queues.told is None and "holds no queues" in queues.trouble
    assert web.asked == ["/site.json"], "one answer serves for all parts"
    assert SharedUrl(web.url + "/moved").look("queue", 60.0).told is not None
    for path, reason in {
        "/round": "infinite loop",
        "/plain": "no https",
        "/file": "",
        "/gone": "404",
        "/large": "larger than",
        "/page": "no document",
        "/old": "s old",
    }.items():
        found = SharedUrl(web.url + path).look("queue", 60.0)
        assert found.told is None and not found.busy and reason in found.trouble, (path, found)
        assert found.note().startswith("own commands; shared collection: https://") and "root:" not in found.note()
    monkeypatch.delenv("SSL_CERT_FILE")
    found = SharedUrl(web.url + "/site.json").look("queue", 60.0)
    assert found.told is None and "CERTIFICATE" in found.trouble.upper(), found


def test_a_url_that_fails_is_no_more_than_that(web: Web, place: Place, hands: dict[str, Hand]) -> None:
    job = hands["bob"].submit(hold=True)
    web.answers["/site.json"] = (200, {}, json.dumps(document("nodes")).encode())
    site = BatchSite(hands["bob"].connection, load("slurm"), "", env={"PATH": f"{place.bin}:/usr/bin:/bin"})
    collector = Collector(site, Clock(), shared=SharedUrl(web.url + "/site.json"))
    assert [one.id for one in collector.status({job.id: job.token})] == [job.id]
    collector.look_around()
    assert [node.name for node in collector.picture.nodes] == ["n1"] and not place.calls("nodes")
    assert len(place.calls("queue")) == len(place.calls("queues")) == 1
    assert "holds no queue" in collector.picture.parts["queue"].source


def test_an_administrator_collects_for_all(
    place: Place,
    hands: dict[str, Hand],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cluster = hands["alice"].cluster
    assert cluster is not None
    job = hands["alice"].submit(hold=True)
    for name, text in (("XDG_CONFIG_HOME", "c"), ("JUPYTER_RM_HOME", "h")):
        monkeypatch.setenv(name, str(tmp_path / text))
    monkeypatch.setenv("JUPYTER_RM_SSH_CONFIG", str(cluster.client / "config"))
    monkeypatch.setenv("JUPYTER_RM_SSH_AGENT", "0")
    sites = tmp_path / "c" / "jupyter_rm" / "sites"
    sites.mkdir(parents=True)
    said = f'[collect]\nshared = "{place.path}"\nowner = "bob"\n'
    (sites / "mine.toml").write_text(f'extends = "slurm"\n[site]\nurl = "slurm+ssh://bob@tb-slurm"\n{said}')
    assert cli.main(["site", "check", "mine"]) == 0
    capsys.readouterr()
    assert cli.main(["--json", "site", "collect", "mine"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["records"]["nodes"] == 4 and told["records"]["queue"] >= 1
    # All users read it, and none of them asks for anything.
    collector = place.collector(hands["alice"], Clock(), owner="bob")
    heard = collector.status({job.id: job.token}, borrow=True)
    collector.look_around()
    assert [(one.id, one.detail) for one in heard] == [(job.id, "held")] and len(collector.picture.nodes) == 4
    assert not (place.bin / "calls").read_text()
    assert collector.picture.parts["nodes"].source == "shared, collected by bob"
    # For a web server: one document with all parts, and nothing of a listing's tokens, names or paths.
    assert cli.main(["site", "collect", "mine", "--to", str(tmp_path / "site.json")]) == 0
    body = (tmp_path / "site.json").read_bytes()
    assert set(read(body)) == {"queue", "nodes", "queues"} and (tmp_path / "site.json").stat().st_mode & 0o777 == 0o644
    assert job.token.encode() not in body and str(hands["alice"].place).encode() not in body
    # What cannot be: said before or at the place.
    capsys.readouterr()
    assert cli.main(["site", "collect", "slurm+ssh://bob@tb-slurm"]) != 0
    assert "JRM-Q40" in capsys.readouterr().err
    assert cli.main(["site", "collect", "mine", "--to", str(tmp_path / "no" / "site.json")]) != 0
    assert "JRM-S39" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "where"),
    [
        ('shared = "relative/path"', "collect.shared"),
        ('shared = "/a\\u001bb"', "collect.shared"),
        ('shared = "/a"\nowner = "x y"', "collect.owner"),
        ('owner = "svc"', "collect.owner"),
        ('url = "http://site/x.json"', "collect.url"),
        ('url = "https://me:secret@site/x.json"', "collect.url"),
        ('shared = "/a"\nurl = "https://site/x.json"', "collect.url"),
        ('path = "/a"', "collect.path"),
    ],
)
def test_a_site_file_that_names_no_usable_collection_is_refused(said: str, where: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(f'extends = "slurm"\n[collect]\n{said}\n')
    assert [problem.path for problem in check(tmp_path / "mine.toml")] == [where]
