"""An environment comes to be on an empty account, is found again, and survives whatever happens in between."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from pathlib import Path

import pytest
from bootstrap_kit import PATIENT_S, Account, Counted
from connect_kit import Relay, eventually

import jupyter_rm
from jupyter_rm.model.errors import LinkError, SiteError
from jupyter_rm.runtime.bootstrap import Environment, Step, Wanted, ensure, survey

COLD = [
    "environment start",
    *("python start", "python ok", "pack start", "pack ok", "send start", "send ok"),
    *("unpack start", "unpack ok", "verify start", "verify ok"),
    "environment ok",
]
WARM = ["environment start", "python start", "python ok", "environment ok"]


def leftovers(home: Path) -> list[str]:
    """Return what an installation that was cut off may leave."""
    env = home / ".jupyter_rm" / "env"
    return [path.name for path in env.iterdir() if path.name.startswith((".new-", ".old-", ".name-"))]


def test_cold_then_warm(far_account: Account) -> None:
    account = far_account  # a machine without internet: nothing is fetched there
    assert account.sh("sh", "-c", "ip route | grep -c default || :") == "0"
    made = account.ensure()
    assert (made.how, made.notes) == ("made", ())
    assert account.told() == COLD
    assert account.connection.asked == ["run", "start", "put base", "put own"]
    sent = [step.percent for step in account.steps if step.name == "send" and step.status == "progress"]
    assert sent == sorted(sent), "the percentage goes back"
    assert made.versions["jupyter_rm"] == jupyter_rm.__version__

    for path in (account.home / ".jupyter_rm", account.home / ".jupyter_rm" / "env", Path(made.root)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700, path
    inside = [path for path in Path(made.root).rglob("*") if not path.is_symlink()]
    assert [path for path in inside if path.stat().st_mode & 0o77] == []
    said = account.sh(made.python, "-c", "import jupyter_rm, numpy; print(jupyter_rm.__file__, numpy.__file__)")
    assert all(path.startswith(made.root) for path in said.split())

    again = account.ensure()
    assert again == Environment(made.python, made.program, made.root, made.key, "found", made.versions)
    assert account.connection.asked == ["run"], "a warm bootstrap is one round trip"
    assert account.told() == WARM


def test_the_archives_are_kept_so_that_making_it_anew_sends_nothing(account: Account) -> None:
    made = account.ensure()
    Path(made.root, "lib").rename(Path(made.root, "gone"))
    anew = account.ensure(Wanted(mode="recreate"))
    assert (anew.how, anew.root) == ("made", made.root)
    assert account.connection.asked == ["run", "start"][1:]
    assert account.sh(anew.python, "-c", "import numpy; print(numpy.ones(3).sum())") == "3.0"
    assert leftovers(account.home) == []


def test_a_link_that_is_cut_in_the_middle_goes_on_where_it_stopped(account: Account) -> None:
    relay = Relay(account.bed.port_of("login"))
    config = account.bed.config(
        f"Host tb-login\n Port {relay.port}\n HostKeyAlias [127.0.0.1]:{account.bed.port_of('login')}"
    )
    try:
        with account.bed.connect("paramiko", ssh_config=config) as connection:
            facts = survey(connection)
            relay.most = 9 << 20
            steps: list[Step] = []
            with pytest.raises(LinkError) as caught:
                ensure(connection, facts, Wanted(), steps.append)
            assert caught.value.retry
            assert [step.name for step in steps if step.status == "fail"] == ["send", "environment"]
            assert not list((account.home / ".jupyter_rm" / "env").glob("*/environment.json"))

            def back() -> bool:
                with contextlib.suppress(LinkError):
                    return connection.run(["true"]).rc == 0
                return False

            eventually(back, "the connection does not come back", PATIENT_S)
            steps.clear()
            begun: list[int] = []
            put = connection.put

            def watched(local: str | Path, remote: str, **more: object) -> str:
                parts = (account.home / ".jupyter_rm" / "cache").glob(f".{Path(remote).name}.*.part")
                begun.extend(part.stat().st_size for part in parts)
                return put(local, remote, **more)  # type: ignore[arg-type]

            connection.put = watched  # type: ignore[method-assign]
            made = ensure(connection, facts, Wanted(), steps.append)
            assert made.how == "made"
            assert begun and begun[0] > 1 << 20, "it began from nothing"
    finally:
        relay.close()
    assert leftovers(account.home) == []


def test_an_installation_that_is_killed_leaves_nothing_that_counts(account: Account) -> None:
    def kill(step: Step) -> None:
        if step.name == "unpack" and step.status == "start":
            account.kill("-I -c", "an order on stdin")

    with pytest.raises(SiteError) as caught:
        ensure(account.plain, account.facts, Wanted(), kill)
    assert (caught.value.code, caught.value.retry) == ("JRM-B10", True)
    assert len(leftovers(account.home)) == 1, "it was not killed in the middle"
    made = account.ensure()
    assert (made.how, leftovers(account.home)) == ("made", [])
    assert "put base" not in account.connection.asked, "what was sent is sent again"


def test_two_at_once_make_one(account: Account) -> None:
    second = account.bed.connect("paramiko")
    results: list[Environment] = []
    counted = [account.connection, Counted(second)]
    told: list[list[Step]] = [[], []]
    together = threading.Barrier(2)
    facts = account.facts

    def one(number: int) -> None:
        together.wait(PATIENT_S)
        results.append(ensure(counted[number], facts, Wanted(), told[number].append))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(2)]
    with contextlib.closing(second):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENT_S)
    assert sorted(result.how for result in results) == ["found", "made"], told
    assert results[0].root == results[1].root
    sent = [word for one_of in counted for word in one_of.asked if word.startswith("put")]
    assert sorted(sent) == ["put base", "put own"]
    assert any(step.name == "wait" and step.status == "ok" for steps in told for step in steps)


def test_a_lock_whose_holder_is_gone_holds_nobody_up(account: Account) -> None:
    made = account.ensure()
    account.sh("rm", "-rf", made.root)
    lock = account.home / ".jupyter_rm" / "env" / f".{made.key}.lock"
    assert lock.read_text(), "no holder was written down"
    holder = account.plain.start(["flock", str(lock), "sleep", "600"])
    eventually(lambda: account.processes("sleep 600"), "the lock was not taken", PATIENT_S)
    steps: list[Step] = []

    def tell(step: Step) -> None:
        steps.append(step)
        if step.name == "wait":
            account.kill("sleep 600")

    assert ensure(account.connection, account.facts, Wanted(), tell).how == "made"
    assert any(step.name == "wait" for step in steps), "nobody waited for the lock"
    holder.close()


def test_what_nobody_used_for_long_goes(account: Account) -> None:
    named = account.ensure(Wanted(name="mine"))
    old, fresh = (account.file(f".jupyter_rm/env/{name}/environment.json", "{}") for name in ("old", "fresh"))
    archive = account.file(".jupyter_rm/cache/old.tar.gz", "")
    long_ago = time.time() - 63 * 86400
    for path in (old, archive, Path(named.root, "environment.json")):
        os.utime(path, (long_ago, long_ago))
    account.ensure(Wanted(mode="local"))
    assert not old.parent.exists() and not archive.exists()
    assert fresh.exists()
    assert account.ensure(Wanted(mode="use", name="mine")).how == "found", "what has a name is kept"


def test_an_interpreter_that_is_replaced_is_noticed(account: Account) -> None:
    made = account.ensure()
    link = os.path.join(made.root, "bin", "python")
    os.unlink(link)
    os.symlink("/usr/bin/no-such-python", link)
    assert account.ensure().how == "made"
    assert account.sh(made.python, "-c", "print(7)") == "7"
