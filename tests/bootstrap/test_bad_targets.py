"""What is wrong with a machine is said with code, cause and next step, and nothing is left half done."""

from __future__ import annotations

import io
import os
import re
import tarfile
from dataclasses import replace

import pytest
from bootstrap_kit import UID, Account

from jupyter_rm.model.errors import RequestError, SiteError
from jupyter_rm.runtime.bootstrap import SiteFacts, Wanted


def refused(account: Account, want: Wanted, facts: SiteFacts | None = None) -> SiteError:
    with pytest.raises(SiteError) as caught:
        account.ensure(want, facts)
    assert account.steps[-1].status == "fail" and account.steps[-1].name == "environment"
    assert caught.value.hint
    assert not list(account.home.rglob("environment.json"))
    return caught.value


def test_no_python_that_will_do(account: Account) -> None:
    old = replace(account.facts, pythons=(("/usr/bin/python3", (3, 9, 2)), ("/opt/py/bin/python3", (3, 6, 8))))
    error = refused(account, Wanted(), old)
    assert error.code == "JRM-B04"
    assert "found: /usr/bin/python3 (3.9.2), /opt/py/bin/python3 (3.6.8)" in error.message
    assert account.connection.asked == [], "something was done before it was clear that it cannot be"
    account.file("python3.9", "#!/bin/sh\necho 3 9 18\n", 0o755)
    error = refused(account, Wanted(python=str(account.home / "python3.9")))
    assert error.code == "JRM-B04" and "is Python 3.9.18; 3.10 or later is needed" in error.message
    for path, says in ((account.home / "no-python", "is not there"), ("/etc/passwd", "may not be executed")):
        error = refused(account, Wanted(python=str(path)))
        assert error.code == "JRM-B04" and error.message.endswith(f": {path} {says}")
    error = refused(account, Wanted(python="/bin/true"))
    assert error.code == "JRM-B04" and "is not a Python" in error.message


def test_no_packages_for_the_machine(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    error = refused(account, Wanted(), replace(account.facts, arch="aarch64"))
    assert error.code == "JRM-B05"
    assert f"this machine is {os.uname().machine}, that one aarch64" in error.message
    error = refused(account, Wanted(), replace(account.facts, libc="glibc 2.17"))
    assert error.code == "JRM-B05" and "does not run with the C library there" in error.message


def test_a_full_disk_and_one_that_executes_nothing(account: Account) -> None:
    account.small_disk("full", "size=4m")
    base = str(account.home / "full")
    error = refused(account, Wanted(base=base))
    assert error.code == "JRM-B06" and f"no room in {base}/env" in error.message
    assert re.search(r"\d\d MiB are needed; [34] MiB are free", error.message)

    # Room is promised and not there: a quota. Here the number of files is what runs out.
    account.small_disk("quota", "size=500m,nr_inodes=300")
    error = refused(account, Wanted(base=str(account.home / "quota")), replace(account.facts, quota="alice 300 300"))
    assert error.code == "JRM-B06" and "no room in" in error.message and "alice 300 300" in error.message
    assert account.sh("sh", "-c", 'ls -A "$1" | grep -c "^.new"; :', "sh", str(account.home / "quota/env")) == "0"

    account.small_disk("dull", "size=500m,noexec")
    error = refused(account, Wanted(base=str(account.home / "dull")))
    assert error.code == "JRM-B06" and "noexec" in error.message and " env_base=" in error.hint


def test_a_home_that_is_not_writable(account: Account) -> None:
    os.chown(account.home, 0, 0)
    account.home.chmod(0o755)
    error = refused(account, Wanted())
    assert error.code == "JRM-B06" and f"{account.home}/.jupyter_rm: Permission denied" in error.message
    # Another place is.
    (account.home / "scratch").mkdir()
    os.chown(account.home / "scratch", UID, UID)
    assert account.ensure(Wanted(base=str(account.home / "scratch"))).how == "made"


def test_an_archive_that_is_damaged_there(account: Account) -> None:
    made = account.ensure()
    account.sh("rm", "-rf", made.root)
    for path in (account.home / ".jupyter_rm" / "cache").glob("base-*"):
        path.write_bytes(path.read_bytes()[:100_000])
    error = refused(account, Wanted())
    assert (error.code, error.retry) == ("JRM-B10", True)
    assert account.ensure().how == "made"


def test_packages_that_do_not_work_there(account: Account) -> None:
    made = account.ensure()
    account.sh("rm", "-rf", made.root)
    base = next((account.home / ".jupyter_rm" / "cache").glob("base-*"))
    whole = io.BytesIO()
    with tarfile.open(base) as source, tarfile.open(fileobj=whole, mode="w:gz", compresslevel=1) as sink:
        for member in source:
            if "msgspec/_core" not in member.name:
                sink.addfile(member, source.extractfile(member))
    base.write_bytes(whole.getvalue())
    error = refused(account, Wanted())
    assert error.code == "JRM-B09" and "verify: exit code 1" in error.message
    assert "msgspec" in error.message.splitlines()[-1], "the last line of the traceback is not shown"


def test_wishes_that_make_no_sense() -> None:
    for more, field in (
        ({"mode": "magic"}, "env_mode"),
        ({"source": "git"}, "source"),
        ({"mode": "use"}, "env"),
        ({"name": "../../etc"}, "env"),
        ({"name": "a b; rm -rf /"}, "env"),
        ({"mode": "use", "name": "/home/me\n/env"}, "env"),
        ({"python": "-c exit"}, "python"),
        ({"python": "python3\n"}, "python"),
        ({"base": "scratch"}, "env_base"),
    ):
        with pytest.raises(RequestError, match=field) as caught:
            Wanted(**more)
        assert caught.value.code == "JRM-B02"
