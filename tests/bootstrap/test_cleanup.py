"""``close(cleanup=True)``: a session's files go where its pilots were, over a real login; what sessions share stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bootstrap_kit import PATIENT_S, Account
from connect_kit import eventually
from world_kit import new_home

import jupyter_rm as jrm
from jupyter_rm import cli
from jupyter_rm.client import connection
from jupyter_rm.client import session as sessions
from jupyter_rm.client.session import Session
from jupyter_rm.model.errors import RequestError

FAR = "ssh://alice@tb-login"


@pytest.fixture
def world(account: Account, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """A broker of its own that knows the account."""
    monkeypatch.setenv("JUPYTER_RM_SSH_CONFIG", str(account.bed.client / "config"))
    monkeypatch.setenv("JUPYTER_RM_SSH_AGENT", "0")
    with new_home():
        yield account


def begun(name: str, *sites: str, **fields: object) -> Session:
    session = sessions.open(name)
    for pilot in [session.pilot(site, cores=2, **fields) for site in sites]:
        assert pilot.wait(timeout=PATIENT_S) == "ACTIVE", pilot.reason
    return session


def test_the_files_of_a_session_go_and_what_is_shared_stays(world: Account, tmp_path: Path) -> None:
    ours = world.home / ".jupyter_rm"
    tools = tmp_path / "tool.dat"
    tools.write_text("for all")
    other = begun("other", FAR)
    kept_task = other.submit(jrm.Shell("echo other > f; cat f"))
    assert kept_task.result(PATIENT_S) == "other\n"
    other.fs("p.0").put(tools, "resource:///tool.dat")

    session = begun("mine", FAR, "local")
    session.fs("p.0").put(tools, "session:///mine.dat")
    links = [{"source": f"{place}.dat", "action": "link"} for place in ("resource:///tool", "session:///mine")]
    lines = "mkdir d; echo for all > d/f; chmod 500 d"
    tasks = [
        session.submit(jrm.Shell(f"{lines}; cat tool.dat mine.dat", input_staging=links, pilot="p.0")),
        session.submit(jrm.Shell(lines, pilot="p.1")),
    ]
    assert [each.wait(PATIENT_S) for each in tasks] == ["DONE", "DONE"], [each.reason for each in tasks]
    here = Path(str(session.pilots()[1].sandbox))
    asleep = session.submit(jrm.Shell("echo $$; sleep 600", pilot="p.0"))
    eventually(lambda: asleep.state == "RUNNING", "it does not run", PATIENT_S)

    with pytest.raises(RequestError, match=r"1 tasks of session 'mine' have not ended") as caught:
        session.close(cleanup=True)
    assert caught.value.code == "JRM-Q93" and asleep.state == "RUNNING" and not session.closed

    logins = world.bed.logins("login")
    made = session.close(cleanup=True, force=True)
    assert made is not None and session.closed
    assert world.bed.logins("login") == logins, "it logged in again"
    text = repr(made)
    removed = {(site, path.partition("/")[2].partition("/")[2].partition("/")[0]) for site, path, _ in made.removed}
    assert {site for site, _, _ in made.removed} == {FAR, "local"} and not made.kept, text
    assert {name for site, name in removed if site == FAR} == {"sandboxes", "pilots"}, text
    left = [path for part in ("sandboxes", "pilots") for path in (ours / part).iterdir() if "mine" in path.name]
    assert left == [] and not here.parent.exists(), left
    # What belongs to others, and to all, is as it was.
    assert (ours / "sandboxes/resource/tool.dat").read_text() == "for all"
    assert kept_task.stdout() == "other\n"
    assert other.submit(jrm.Shell("echo on")).result(PATIENT_S) == "on\n"
    assert sessions.open("mine").close(cleanup=True) is not None  # of a new session of that name: there is nothing


def test_a_sandbox_of_ones_own_stays_and_a_closed_session_can_be_cleaned(
    world: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    session = begun("mine", FAR, sandbox="~/work", env_prefer="system-then-staged")
    deps = session.pilots()[0].facts["deps"]
    assert {each.split()[0] for each in deps} >= {"numpy", "pyzmq", "msgspec"}, deps
    assert all(" staged (" in each or " of the system (" in each for each in deps), deps
    key = session.submit(jrm.Shell("echo 1; pwd"))
    assert key.result(PATIENT_S).startswith("1\n")
    session.close()
    assert list((world.home / ".jupyter_rm/pilots").iterdir())
    connection.close_all()
    sessions._open.clear()
    capsys.readouterr()
    assert cli.main(["close", "0-mine", "--cleanup"]) == 0
    said = capsys.readouterr().out
    assert "removed" in said and "~/.jupyter_rm/pilots/0-mine." in said, said
    assert f"kept {world.home}/work at {FAR}: your own choice" in said, said
    assert list((world.home / "work").iterdir()) and not list((world.home / ".jupyter_rm/pilots").iterdir())
