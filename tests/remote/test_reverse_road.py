"""Networks in which only the agent's side may open connections: it comes through a reverse forward of the login."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator

import psutil
import pytest
import zmq
from cluster_kit import Cluster
from remote_kit import Far, active, line_of, story, until

import jupyter_rm as jrm
from jupyter_rm.client.session import Session
from jupyter_rm.wire import letters

# An address where nobody is, and no other, may be reached forward.
ONLY_REVERSE, NEITHER = 'permitopen="127.0.0.1:1" ', "no-port-forwarding,"
ONE = pytest.mark.parametrize("far", ["paramiko"], indirect=True)
NODES = """extends = "slurm"
[site]
url = "slurm+ssh://alice@tb-slurm"
connect = "reverse"
"""


@pytest.fixture(scope="module", params=["paramiko", "openssh"])
def far(slurm: Cluster, request: pytest.FixtureRequest) -> Iterator[Far]:
    """A home whose broker may log in and be come to, and whose forwards are refused; one for each transport."""
    slurm.need("few", "login")  # a server that comes up writes the file with the keys anew
    with (
        pytest.MonkeyPatch.context() as patch,
        line_of(slurm.state / "auth/alice", ONLY_REVERSE),
        Far(slurm) as made,
        made.site_files(nodes=NODES),
    ):
        patch.setenv("JUPYTER_RM_SSH_TRANSPORT", request.param)
        yield made


def links(session: Session) -> list[tuple[str, str]]:
    return [(status, text) for step, status, text in story(session) if step == "link"]


def road(session: Session) -> str:
    """Return the road that was found first; an agent may say hello before that is written down."""
    return str(until(lambda: [text for status, text in links(session) if status == "ok"], "no road is told")[0])


def port_of(far: Far, session: Session) -> int:
    """Return the port where the agent was told to dial last; 0: it was told nothing."""
    path = far.place(session.name) / letters.DOWN / letters.DIAL
    if not path.exists():
        return 0
    (endpoint,) = json.loads(path.read_bytes())["endpoints"]
    return int(endpoint.rpartition(":")[2])


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


def test_where_only_the_agent_may_dial_it_does_and_all_is_as_ever(far: Far, study: Session) -> None:
    pilot = active(study.pilot("ssh://alice@tb-slurm", cores=2))
    text, port = road(study), port_of(far, study)
    assert text == f"reverse, port {port} of ssh://alice@tb-slurm (127.0.0.1): connected"
    bulk = study.submit([jrm.Task("/bin/true")] * 300)
    assert study.call(pow, 3, 3).result(timeout=60) == 27
    assert bulk.wait(60), bulk.counts()
    assert bulk.counts() == {"DONE": 300}
    # Its door may be found by others; without the agent's key they get nowhere, and harm nobody.
    with zmq.Context() as context, socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(b"GET / HTTP/1.0\r\n\r\n")
        with context.socket(zmq.DEALER) as stranger:
            stranger.linger = 0
            stranger.curve_server = True
            stranger.curve_publickey, stranger.curve_secretkey = zmq.curve_keypair()
            stranger.connect(f"tcp://127.0.0.1:{port}")
            stranger.send(b"")
            assert not stranger.poll(1500), stranger.recv()
    assert study.submit(jrm.Task("/bin/true")).wait(30) == "DONE"
    assert not any("letters" in text for _, text in links(study))
    pilot.cancel()
    assert pilot.wait("CANCELED", 60) == "CANCELED"
    until(lambda: not listens(port), f"port {port} is still open", 30)


def test_an_agent_on_a_compute_node_dials_the_login_node_as_the_site_s_file_says(far: Far, study: Session) -> None:
    active(study.pilot("nodes", nodes=1))
    text = road(study)
    assert text.startswith("reverse, port ") and f"{far.cluster.network}." in text
    assert not any("through" in said for _, said in links(study)), "another way was tried"
    bulk = study.submit([jrm.Task("/bin/true")] * 100)
    assert bulk.wait(60) and bulk.counts() == {"DONE": 100}


def test_after_a_cut_the_agent_is_told_of_another_port_and_comes_back(far: Far, study: Session) -> None:
    pilot = active(study.pilot("ssh://alice@tb-cut", cores=2))
    before = port_of(far, study)
    bulk = study.submit([jrm.Task("/bin/sleep", ["0.2"])] * 40)
    until(lambda: bulk.counts().get("DONE"), "nothing is done")
    far.relay.refuse = True
    far.relay.reset()
    with contextlib.ExitStack() as stack:

        def taken() -> bool:
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_server(("127.0.0.1", before), reuse_port=False))
                return True
            return False

        try:
            until(taken, f"port {before} stays open though the connection is cut", 60)
        finally:
            far.relay.refuse = False
        until(lambda: port_of(far, study) != before, "the agent was told nothing", 90)
        assert bulk.wait(90), (bulk.counts(), links(study))
        assert bulk.counts() == {"DONE": 40}
    assert study.submit(jrm.Task("/bin/true")).wait(30) == "DONE"
    assert pilot.state == "ACTIVE"
    assert [status for status, _ in links(study)] == ["start", "ok"], "the same road, at another port: none was sought"


@ONE
def test_an_agent_that_comes_late_is_still_let_in_and_letters_end(far: Far, study: Session) -> None:
    active(study.pilot("ssh://alice@tb-cut", cores=1))
    agent = psutil.Process(json.loads((far.place(study.name) / "contact.json").read_bytes())["pid"])
    agent.suspend()
    try:
        far.relay.reset()
        until(lambda: "letters" in links(study)[-1][1], lambda: f"no letters: {links(study)}", 90)
    finally:
        agent.resume()
    until(lambda: links(study)[-1][0] == "ok", lambda: f"it is not let in: {links(study)}", 30)
    assert links(study)[-1][1].startswith("reverse, port ")
    assert study.submit(jrm.Task("/bin/true")).wait(30) == "DONE"


@ONE
def test_a_port_that_the_login_node_keeps_to_itself_is_named_and_letters_serve_its_nodes(
    far: Far, study: Session
) -> None:
    active(study.pilot("slurm+ssh://alice@tb-login", nodes=1))
    text = until(lambda: links(study)[1:], "nothing is said of the ways")[0][1]
    assert text.startswith("no network path (") and "; reverse, port " in text, text
    assert text.endswith("no answer within 6 s); letters in files are used, slowly")
    assert study.submit(jrm.Task("/bin/true")).wait(60) == "DONE"


def test_where_neither_may_dial_each_attempt_is_named_and_letters_carry_the_work(far: Far, study: Session) -> None:
    with line_of(far.cluster.state / "auth/alice", NEITHER):
        study.pilot("ssh://alice@tb-few", cores=2)
        until(lambda: links(study), "its agent does not start", 90)
        began = time.monotonic()
        until(lambda: len(links(study)) > 1, "nothing is said of the ways", 40)
        assert time.monotonic() - began < 30
        text = links(study)[1][1]
        assert text.startswith("no network path (127.0.0.1:") and "; letters in files are used" in text
        assert "through ssh://alice@tb-few: " in text, "the way forward is not named"
        assert "; reverse: " in text, "the way back is not named"
        assert "tb-few does not listen at 127.0.0.1:0 for us" in text
        bulk = study.submit([jrm.Task("/bin/true")] * 20)
        assert bulk.wait(120) and bulk.counts() == {"DONE": 20}


def test_letters_alone_when_they_are_asked_for_and_no_way_that_there_is_not(far: Far, study: Session) -> None:
    with pytest.raises(jrm.RequestError, match=r"(?s)connect: 'backward'.*forward and reverse"):
        study.pilot("ssh://alice@tb-slurm", connect="backward")
    with pytest.raises(jrm.RequestError, match="connect: means nothing on this machine"):
        study.pilot("local", connect="reverse")
    active(study.pilot("ssh://alice@tb-slurm", cores=1, connect="letters"))
    assert until(lambda: links(study)[1:], "nothing is said of the ways")[0][1] == "letters in files are used, slowly"
    assert study.submit(jrm.Task("/bin/true")).wait(60) == "DONE"
    assert not port_of(far, study)
