"""Where a connection goes, and whether a host key is the known one: no servers needed."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from jupyter_rm.model.errors import LinkError, RequestError
from jupyter_rm.runtime.connect import Target
from jupyter_rm.runtime.connect.attempts import Attempts, pause
from jupyter_rm.runtime.connect.hosts import check, entries, fingerprint
from jupyter_rm.runtime.connect.link import Busy
from jupyter_rm.runtime.connect.slots import Slots
from jupyter_rm.runtime.connect.target import Hop, resolve


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("local", Target("")),
        ("login", Target("login")),
        ("me@login", Target("login", "me")),
        ("ssh://me@login.example.org:2222", Target("login.example.org", "me", 2222)),
        ("slurm+ssh://me@login", Target("login", "me")),
        ("ssh://[::1]:22", Target("::1", "", 22)),
        ("ssh://login/", Target("login")),
    ],
)
def test_targets(text: str, target: Target) -> None:
    assert Target.parse(text) == target
    assert Target.parse(str(target)) == target


@pytest.mark.parametrize(
    "text",
    ["", "-oProxyCommand=touch canary", "ssh://-x", "ssh://a b", "ssh://a;b", "ssh://a\nb", "ssh://$(x)", "ssh://-u@h", "ssh://u@h:0",
     "ssh://u@h:99999", "ssh://u@h:2x", "http://h", "ssh://me:secret@h", "ssh://`x`@h", "ssh://h\0", "ssh://h/path", "ssh://u'@h"],
)  # fmt: skip
def test_hostile_targets_are_refused(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        Target.parse(text)
    assert caught.value.code == "JRM-Q70"
    assert "secret" not in str(caught.value)


def test_the_configuration_is_followed_hop_by_hop(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "Host a\n HostName a.example\n User one\n Port 2201\nHost b\n HostName b.example\n ProxyJump a\n"
        "Host c\n HostName c.example\n ProxyJump b,x@d:77\n IdentityFile /keys/%r\n StrictHostKeyChecking yes\n"
        "Host *\n User me\n StrictHostKeyChecking no\n"
    )
    route = resolve("c", config)
    assert [(hop.host, hop.port, hop.user) for hop in route.hops] == [
        ("a.example", 2201, "one"),
        ("b.example", 22, "me"),
        ("d", 77, "x"),
        ("c.example", 22, "me"),
    ]
    assert route.last.keys == (Path("/keys/me"),)
    # "no" means asking here: nothing is ever accepted unseen.
    assert [hop.strict for hop in route.hops] == ["ask", "ask", "ask", "yes"]


def test_a_circle_is_found(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host a\n ProxyJump b\nHost b\n ProxyJump a\n")
    with pytest.raises(RequestError, match="circle"):
        resolve("a", config)


def test_what_only_openssh_can_do_is_said(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host a\n ProxyCommand nc %h %p\n")
    assert "ProxyCommand" in resolve("a", config).needs_openssh
    assert not resolve("b", config).needs_openssh


KEY, OTHER = b"\0\0\0\x0bssh-ed25519one", b"\0\0\0\x0bssh-ed25519two"
B64, B64_OTHER = base64.b64encode(KEY).decode(), base64.b64encode(OTHER).decode()
HASHED = (
    "|1|" + "F1E1KeoE/eEWhi10WpGv4OdiO6Y=" + "|" + "3988QV0VE8wmZL7suNrYQLITLCg="
)  # 192.168.1.61, from OpenSSH's own tests


@pytest.mark.parametrize(
    ("names", "host", "hit"),
    [
        ("login", "login", True),
        ("LOGIN", "login", True),
        ("other,login", "login", True),
        ("*.example", "a.example", True),
        ("*.example,!a.example", "a.example", False),
        ("[login]:2222", "[login]:2222", True),
        ("login", "[login]:2222", False),
        ("[login]:2222", "login", False),
        (HASHED, "192.168.1.61", True),
        (HASHED, "192.168.1.62", False),
        ("|1|broken", "login", False),
    ],
)
def test_names_in_known_hosts(tmp_path: Path, names: str, host: str, hit: bool) -> None:
    path = tmp_path / "known"
    path.write_text(f"# a comment\n\n{names} ssh-ed25519 {B64} somebody\n")
    assert bool(entries((path,), host)) is hit


class Silent:
    def ask(self, question: object) -> None:
        raise AssertionError(f"asked: {question}")


def hop(path: Path) -> Hop:
    return Hop("login", "login", 22, "me", known_hosts=(path,))


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (f"login ssh-ed25519 {B64_OTHER}", "CHANGED"),
        (f"login ssh-rsa {B64_OTHER}", "CHANGED"),
        (f"login ssh-ed25519 {B64}\n@revoked * ssh-ed25519 {B64}", "revoked"),
        (f"@cert-authority * ssh-ed25519 {B64_OTHER}", "certificate authority"),
    ],
)
def test_a_key_that_is_not_the_known_one_stops_everything_unasked(tmp_path: Path, lines: str, says: str) -> None:
    path = tmp_path / "known"
    path.write_text(lines + "\n")
    with pytest.raises(LinkError, match=says) as caught:
        check(hop(path), "ssh-ed25519", KEY, Silent(), 1)
    assert caught.value.code == "JRM-T26"
    assert path.read_text() == lines + "\n"
    if says == "CHANGED":
        assert fingerprint(KEY) in caught.value.message
        assert fingerprint(OTHER) in caught.value.message


def test_the_known_key_is_accepted_unasked(tmp_path: Path) -> None:
    path = tmp_path / "known"
    path.write_text(f"login ssh-ed25519 {B64_OTHER}\nlogin ssh-ed25519 {B64}\n")
    check(hop(path), "ssh-ed25519", KEY, Silent(), 1)


def test_an_unreadable_file_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "known"
    path.mkdir()
    with pytest.raises(LinkError) as caught:
        check(hop(path), "ssh-ed25519", KEY, Silent(), 1)
    assert caught.value.code == "JRM-T26"


def test_nobody_knocks_more_than_six_times_a_minute() -> None:
    attempts, made, moment = Attempts(), [], 0.0
    while moment < 300:
        delay = attempts.book("login:22", 6, moment)
        if delay:
            moment += delay
            continue
        made.append(moment)
        moment += 0.5
    assert all(later - first >= 60 for first, later in zip(made, made[6:], strict=False))
    assert len(made) == 30
    assert attempts.book("other:22", 6, 1.0) == 0


def test_pauses_grow_to_a_minute_and_are_never_the_same_for_all() -> None:
    for number in range(40):
        full = min(60.0, 2.0**number)
        drawn = {pause(number, 1.0, 60.0) for _ in range(20)}
        assert len(drawn) > 1
        assert all(full / 2 <= one <= full for one in drawn)


def test_sessions_queue_and_learn_from_refusals() -> None:
    slots = Slots(3, 0.05, "login")
    assert slots.use(lambda: "a", long=True) == "a"
    with pytest.raises(LinkError) as caught:
        slots.use(lambda: "b", long=True)  # two are kept free for commands and files
    assert caught.value.code == "JRM-T27"
    assert slots.use(lambda: "c", long=False) == "c"
    refusals = iter([Busy("no"), Busy("no")])

    def late() -> str:
        for refusal in refusals:
            raise refusal
        return "d"

    assert slots.use(late, long=False) == "d"
    with pytest.raises(LinkError):
        slots.use(lambda: "e", long=False)
    slots.free(False)
    assert slots.use(lambda: "f", long=False) == "f"
