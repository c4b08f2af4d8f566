"""Logging in: every kind of server, every kind of question, and every refusal; through paramiko and OpenSSH."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from connect_kit import Bed, Person, Relay, eventually, totp

from jupyter_rm.model.errors import LinkError, RequestError
from jupyter_rm.runtime.connect import Connections, Nobody, Question
from jupyter_rm.runtime.connect.hosts import fingerprint

BOTH = pytest.mark.parametrize("transport", ["paramiko", "openssh"])


def tcp_to(port: int) -> int:
    """How many TCP connections this process and its descendants (and ssh masters) have to a port."""
    found = [
        one
        for one in psutil.net_connections("tcp")
        if one.raddr and one.raddr.port == port and one.status == psutil.CONN_ESTABLISHED
    ]
    return len(found)


@BOTH
@pytest.mark.parametrize(
    ("name", "asks"),
    [
        ("login", []),
        ("node", []),
        ("deep", []),
        ("user", []),
        ("mfa", ["password", "otp"]),
        ("mfa0", ["password", "otp"]),
        ("pass", ["password"]),
    ],
)
def test_every_server_with_one_login_and_one_tcp_connection(
    bed: Bed, transport: str, name: str, asks: list[str], tmp_path: Path
) -> None:
    person = bed.person()
    door = bed.port_of("login" if name in ("node", "deep") else name)
    with bed.connect(transport, name, person) as there:
        assert there.run(["id", "-un"]).text == "alice"
        (tmp_path / "f").write_bytes(b"x" * 100_000)
        there.put(tmp_path / "f", f"f-{transport}")
        there.remove(f"f-{transport}")
        with there.start(["cat"]), there.forward("127.0.0.1", bed.port):
            assert tcp_to(door) == 1
        assert person.kinds == asks
        secrets = {bed.person().answers["password"], (bed.client / "totp").read_text().strip()}
        for process in psutil.process_iter(["cmdline"]):
            assert not secrets & set(process.info["cmdline"] or [])
        for path in there.settings.control_dir.rglob("*"):
            if path.is_file():
                assert not any(secret in path.read_text() for secret in secrets)
    eventually(lambda: tcp_to(door) == 0, "the connection is still open")


@BOTH
def test_the_answer_may_come_later_and_from_another_thread(bed: Bed, transport: str) -> None:
    person = bed.person(password=None)
    with ThreadPoolExecutor(1) as pool:
        login = pool.submit(bed.connect, transport, "pass", person)
        question = eventually(lambda: person.seen and person.seen[0], "nothing was asked")
        assert (question.kind, question.secret, question.user) == ("password", True, "alice")
        assert not login.done()
        assert question.answer(bed.person().answers["password"])
        assert not question.answer("again")
        with login.result(15) as there:
            assert there.run(["true"]).rc == 0


@BOTH
def test_a_cancelled_question_ends_the_login_at_once(bed: Bed, transport: str) -> None:
    person = bed.person(otp=None)
    with ThreadPoolExecutor(1) as pool:
        login = pool.submit(bed.connect, transport, "mfa", person)
        eventually(lambda: person.kinds == ["password", "otp"], f"asked: {person.kinds}")
        person.seen[1].cancel()
        with pytest.raises(LinkError) as caught:
            login.result(10)
    assert caught.value.code == "JRM-T29"


@BOTH
def test_a_wrong_code_is_not_tried_twice(bed: Bed, transport: str) -> None:
    person = bed.person(otp="000000")
    before = bed.log("mfa").count("PAM: Authentication failure")
    with pytest.raises(LinkError) as caught:
        bed.connect(transport, "mfa", person)
    assert caught.value.code == "JRM-T25"
    assert person.kinds == ["password", "otp"]
    assert not caught.value.retry
    assert bed.log("mfa").count("PAM: Authentication failure") - before == 1


@BOTH
def test_a_wrong_password(bed: Bed, transport: str) -> None:
    person = bed.person(password="not this one")
    with pytest.raises(LinkError) as caught:
        bed.connect(transport, "pass", person)
    assert caught.value.code == "JRM-T24"
    assert person.kinds == ["password"]
    assert "not this one" not in str(caught.value)


@BOTH
def test_background_work_asks_nobody(bed: Bed, transport: str) -> None:
    with pytest.raises(LinkError) as caught:
        bed.connect(transport, "mfa", Nobody())  # type: ignore[arg-type]
    assert caught.value.code == "JRM-T25"
    assert "password" in caught.value.message


@BOTH
def test_a_key_with_a_passphrase(bed: Bed, transport: str) -> None:
    config = bed.config(f"Host tb-login\n IdentityFile {bed.client}/locked\n IdentitiesOnly yes")
    text = config.read_text().replace(f"IdentityFile {bed.client}/id\n", "")
    config.write_text(text)
    person = bed.person()
    with bed.connect(transport, "login", person, ssh_config=config) as there:
        assert there.run(["true"]).rc == 0
    assert person.kinds == ["passphrase"]
    assert str(bed.client / "locked") in person.seen[0].text
    wrong = bed.person(passphrase="close sesame")
    with pytest.raises(LinkError) as caught:
        bed.connect(transport, "login", wrong, ssh_config=config)
    assert caught.value.code == "JRM-T24"
    assert wrong.kinds == ["passphrase"]


@BOTH
@pytest.mark.parametrize("only", ["yes", "no"])
def test_a_key_in_an_agent(
    bed: Bed, transport: str, only: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sock = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(sock)], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(sock))
        eventually(sock.exists, "no agent")
        for name in ("ca", "id"):  # the site does not know the first
            subprocess.run(["ssh-add", "-q", str(bed.client / name)], check=True)
        (tmp_path / "mine.pub").write_text((bed.client / "id.pub").read_text())
        config = bed.config("")
        text = config.read_text().replace(f"IdentityFile {bed.client}/id\n", f"IdentityFile {tmp_path}/mine\n")
        config.write_text(text.replace("IdentitiesOnly yes", f"IdentitiesOnly {only}"))
        with bed.connect(transport, "login", ssh_config=config, use_agent=True) as there:
            assert there.run(["sh", "-c", "echo $SSH_AUTH_SOCK"]).text == ""  # never lent to the other side
        with pytest.raises(LinkError):
            bed.connect(transport, "login", ssh_config=config, use_agent=False)
    finally:
        agent.terminate()
        agent.wait(10)


@BOTH
def test_noise_of_start_up_files_is_not_output(bed: Bed, transport: str) -> None:
    with bed.connect(transport) as there:
        there.write(".bashrc", b"echo Welcome; echo 'jrm-0 1'; echo tty? >&2\n")
        try:
            done = there.run(["echo", "mine"])
            assert done.out == b"mine\n"
            assert done.err == b"tty?\n"
        finally:
            there.remove(".bashrc")


@BOTH
def test_a_certificate(bed: Bed, transport: str) -> None:
    config = bed.config("")
    config.write_text(
        config.read_text().replace(f"IdentityFile {bed.client}/id\n", f"IdentityFile {bed.client}/signed\n")
    )
    with bed.connect(transport, "login", ssh_config=config) as there:
        assert there.run(["true"]).rc == 0
    assert "ED25519-CERT" in bed.log("login")


@BOTH
def test_a_key_that_the_site_does_not_know(bed: Bed, transport: str) -> None:
    config = bed.config("")
    config.write_text(config.read_text().replace(f"IdentityFile {bed.client}/id\n", f"IdentityFile {bed.client}/ca\n"))
    person = bed.person()
    with pytest.raises(LinkError) as caught:
        bed.connect(transport, "login", person, ssh_config=config)
    assert caught.value.code == "JRM-T24"
    assert "alice" in caught.value.message
    assert person.kinds == []


@BOTH
def test_an_unknown_host_is_refused_unless_its_fingerprint_is_confirmed(
    bed: Bed, transport: str, tmp_path: Path
) -> None:
    known = tmp_path / "known"
    config = bed.config(f"Host tb-*\n UserKnownHostsFile {known}")
    shown = fingerprint(_blob(bed, "node"))
    for no in ("no", "", "SHA256:something"):
        person = bed.person(host_key=no)
        with pytest.raises(LinkError) as caught:
            bed.connect(transport, "login", person, ssh_config=config)
        assert caught.value.code == "JRM-T26"
        assert person.kinds == ["host_key"]
        assert not known.exists() or known.read_text() == ""
    person = bed.person()
    with bed.connect(transport, "node", person, ssh_config=config):  # both hops are unknown
        pass
    assert person.kinds == ["host_key", "host_key"]
    assert person.seen[1].fingerprint == shown
    assert shown in person.seen[1].text
    assert person.seen[1].key_type == "ssh-ed25519"
    with bed.connect(transport, "node", bed.person(host_key=None), ssh_config=config):
        pass  # both are known now
    assert len(known.read_text().splitlines()) == 2


@BOTH
def test_a_user_who_forbids_asking_is_obeyed(bed: Bed, transport: str, tmp_path: Path) -> None:
    lines = f"Host tb-*\n StrictHostKeyChecking yes\n UserKnownHostsFile {tmp_path}/known"
    person = bed.person()
    with pytest.raises(LinkError) as caught:
        bed.connect(transport, "login", person, ssh_config=bed.config(lines))
    assert caught.value.code == "JRM-T26"
    assert person.kinds == []


@BOTH
@pytest.mark.parametrize("strict", ["ask", "no"])
def test_a_changed_host_key_stops_everything(bed: Bed, transport: str, strict: str, tmp_path: Path) -> None:
    old = (bed.state / "etc" / "host_deep.pub").read_text().split()[:2]
    known = tmp_path / "known"
    right = (bed.client / "known_hosts").read_text().splitlines()
    port = bed.port_of("node")
    known.write_text(
        "\n".join(f"[127.0.0.1]:{port} {' '.join(old)}" if f":{port} " in line else line for line in right) + "\n"
    )
    before = known.read_text()
    config = bed.config(f"Host tb-*\n UserKnownHostsFile {known}\n StrictHostKeyChecking {strict}")
    person = bed.person()
    logins = bed.logins("node")
    with pytest.raises(LinkError) as caught:
        bed.connect(transport, "node", person, ssh_config=config)  # the first hop is right, the second is not
    assert caught.value.code == "JRM-T26"
    assert "CHANGED" in caught.value.message
    assert fingerprint(_blob(bed, "node")) in caught.value.message
    assert fingerprint(_blob(bed, "deep")) in caught.value.message
    assert person.kinds == []
    assert bed.logins("node") == logins
    assert known.read_text() == before


def _blob(bed: Bed, name: str) -> bytes:
    import base64

    return base64.b64decode((bed.state / "etc" / f"host_{name}.pub").read_text().split()[1])


@BOTH
def test_a_closed_port_names_each_attempt(bed: Bed, transport: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(LinkError) as caught:
        bed.connect(transport, f"ssh://alice@localhost:{port}")
    assert caught.value.code == "JRM-T20"
    assert caught.value.retry
    assert str(port) in caught.value.message
    assert "refused" in caught.value.message
    if transport == "paramiko":
        for found in socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM):
            assert str(found[4][0]) in caught.value.message


@BOTH
def test_a_closed_port_behind_a_jump_names_the_way(bed: Bed, transport: str) -> None:
    config = bed.config("Host gone\n HostName 127.0.0.1\n Port 1\n ProxyJump tb-login")
    with pytest.raises(LinkError) as caught:
        bed.connect(transport, "gone", ssh_config=config)
    assert caught.value.code == "JRM-T20"
    assert "connect failed" in caught.value.message.lower()


@BOTH
def test_something_that_is_not_an_ssh_server(bed: Bed, transport: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=lambda: door.accept()[0].close(), daemon=True).start()
        with pytest.raises(LinkError) as caught:
            bed.connect(transport, f"ssh://alice@127.0.0.1:{door.getsockname()[1]}")
    assert caught.value.code == "JRM-T20"


@BOTH
def test_no_name(bed: Bed, transport: str) -> None:
    with pytest.raises(LinkError) as caught:
        bed.connect(transport, "no-such-host.invalid")
    assert caught.value.code == "JRM-T20"
    assert "no-such-host.invalid" in caught.value.message


def test_one_login_is_shared_by_all_who_want_the_machine(bed: Bed) -> None:
    person = bed.person()
    connections = Connections(bed.settings("paramiko"))
    try:
        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(lambda _: connections.get("tb-mfa", person), range(6)))
        assert len(set(map(id, found))) == 1
        assert person.kinds == ["password", "otp"]
        assert connections.get("local", person).run(["true"]).rc == 0
        assert len(connections.all()) == 2
    finally:
        connections.close()
    assert connections.all() == []


def test_a_site_that_paramiko_cannot_reach_goes_through_openssh(bed: Bed) -> None:
    lines = "Host odd\n HostName 127.0.0.1\n User alice\n ProxyCommand "
    lines += f"ssh -F {bed.client}/config -W 127.0.0.1:{bed.port_of('node')} tb-login"
    config = bed.config(f"{lines}\n HostKeyAlias [127.0.0.1]:{bed.port_of('node')}\n IdentityFile {bed.client}/id")
    config.write_text(config.read_text().replace("Host tb-*", "Host tb-* odd"))
    with bed.connect("auto", "odd", ssh_config=config) as there:
        assert there.run(["id", "-un"]).text == "alice"
    with pytest.raises(RequestError, match="ProxyCommand"):
        bed.connect("paramiko", "odd", ssh_config=config)


def test_a_login_outlives_the_program_that_made_it_and_is_used_again(bed: Bed) -> None:
    """OpenSSH only: a new program finds the master and asks nothing; when it says goodbye, the master ends."""
    person = bed.person()
    first = bed.connect("openssh", "mfa", person)
    first._stop.set()  # as if the program had died: nobody watches, nobody says goodbye
    first._link._pulse.close()  # type: ignore[attr-defined]
    again = bed.person()
    with bed.connect("openssh", "mfa", again, control_dir=first.settings.control_dir) as there:
        assert there.run(["true"]).rc == 0
    assert again.kinds == []
    assert not list(first.settings.control_dir.iterdir())


def test_nothing_here_accepts_host_keys_unseen_or_forwards_an_agent(bed: Bed) -> None:
    source = Path(__file__).resolve().parents[2] / "jupyter_rm"
    for path in source.rglob("*.py"):
        text = path.read_text()
        assert "AutoAddPolicy" not in text, path
        assert "WarningPolicy" not in text, path
        assert "StrictHostKeyChecking no" not in text, path
        assert "accept-new" not in text, path
    with bed.connect("openssh") as there:
        config = next(there.settings.control_dir.glob("*.conf")).read_text()
        assert "ForwardAgent no" in config
        assert "ForwardX11 no" in config
        assert there.run(["sh", "-c", "echo $SSH_AUTH_SOCK$DISPLAY"]).text == ""
    assert os.environ.get("SSH_ASKPASS") is None


@BOTH
def test_no_log_line_holds_a_secret(bed: Bed, transport: str, caplog: pytest.LogCaptureFixture) -> None:
    codes: list[str] = []

    def code() -> str:
        codes.append(totp((bed.client / "totp").read_text().strip()))
        return codes[-1]

    person = bed.person(otp=code)
    with caplog.at_level(logging.DEBUG):
        with bed.connect(transport, "mfa", person) as there:
            there.run(["cat"], stdin=b"canary-in-stdin")
            there.write("f", b"canary-in-file")
            there.remove("f")
        with pytest.raises(LinkError) as caught:
            bed.connect(transport, "mfa", bed.person(otp="987654"))
    said = caplog.text + repr(person.seen) + str(caught.value)
    for secret in (person.answers["password"], *codes, "987654", "canary-in-stdin", "canary-in-file"):
        assert secret not in said


def test_loading_this_package_does_not_load_paramiko() -> None:
    code = "import sys, jupyter_rm.runtime.connect; sys.exit('paramiko' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_question_is_settled_once() -> None:
    question = Question("otp", "login", "me", "Code: ")
    assert question.cancel()
    assert not question.answer("123456")
    with pytest.raises(LinkError):
        question.wait(1)
    late = Question("otp", "login", "me", "Code: ")
    with pytest.raises(LinkError):
        late.wait(0.01)
    assert late.settled


def test_a_hanging_server_is_given_up_in_time(bed: Bed) -> None:
    relay = Relay(bed.port)
    relay.stalled.set()
    try:
        with pytest.raises(LinkError) as caught:
            bed.connect("paramiko", f"ssh://alice@127.0.0.1:{relay.port}", Person({}), connect_timeout_s=1.0)
        assert caught.value.code == "JRM-T20"
    finally:
        relay.close()
