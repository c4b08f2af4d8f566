"""A survey tells what is there, whatever the login prints, in one command."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from bootstrap_kit import UID, Account

from jupyter_rm.model.errors import SiteError
from jupyter_rm.runtime.bootstrap import survey
from jupyter_rm.runtime.bootstrap.survey import read


def test_it_tells_what_the_machine_is_like(account: Account) -> None:
    facts = survey(account.connection)
    assert account.connection.asked == ["run"], "more than one round trip"
    assert (facts.user, facts.uid, facts.home) == ("alice", UID, str(account.home))
    assert (facts.host, facts.arch, facts.system) == (os.uname().nodename, os.uname().machine, "Linux")
    version = subprocess.run(
        ["/usr/bin/python3", "-c", "import sys; print(*sys.version_info[:3])"], capture_output=True, text=True
    ).stdout
    assert ("/usr/bin/python3", tuple(map(int, version.split()))) in facts.pythons
    assert facts.commands["ssh"].endswith("/ssh")
    assert facts.libc == " ".join(os.confstr("CS_GNU_LIBC_VERSION").split())  # type: ignore[union-attr]
    assert facts.utc_offset_s == time.localtime().tm_gmtoff
    assert facts.cores == os.cpu_count()
    disk = os.statvfs(account.home)
    assert abs(facts.free_mib - (disk.f_bavail * disk.f_frsize >> 20)) < 2000
    assert facts.writable
    assert [path.name for path in account.home.iterdir()] == [], "it left something behind"


def test_a_login_that_greets_and_a_path_of_login_shells_only(account: Account) -> None:
    account.file("tools/ibrun", "#!/bin/sh\n", 0o755)
    account.file("tools/mpirun", "not executable\n")
    account.file(".bash_profile", 'echo "Welcome!"; echo "host\tnowhere"; export PATH="$HOME/tools:$PATH"\n')
    account.file(".bashrc", 'printf "home\t/nowhere\\n"; ssh() { echo mine; }; export -f ssh\n')
    facts = survey(account.connection)
    assert facts.commands["ibrun"] == f"{account.home}/tools/ibrun"
    assert facts.commands.get("mpirun", "/usr").startswith("/usr")
    assert facts.commands["ssh"].startswith("/usr"), "a function was taken for a program"
    assert (facts.host, facts.home) == (os.uname().nodename, str(account.home))
    assert f"{account.home}/tools" in facts.path.split(":")


def test_a_linked_interpreter_comes_before_all_others(account: Account) -> None:
    account.file(".jupyter_rm/kept", "")
    account.sh("ln", "-s", "/usr/bin/python3", ".jupyter_rm/python")
    facts = survey(account.connection)
    assert facts.linked == os.path.realpath("/usr/bin/python3")
    # Chosen even when another one has the version of here.
    other = replace(facts, pythons=((sys.executable, sys.version_info[:3]), *facts.pythons))
    made = account.ensure(facts=other)
    assert os.path.realpath(os.path.join(made.root, "bin", "python")) == facts.linked


def test_a_home_in_which_nothing_can_be_written(account: Account) -> None:
    os.chown(account.home, 0, 0)
    account.home.chmod(0o755)
    assert not survey(account.connection).writable


def test_an_account_that_runs_no_commands_says_why(account: Account) -> None:
    account.file(".bashrc", 'echo "This account is restricted." >&2; exit 1\n')
    with pytest.raises(SiteError, match=r"This account is restricted") as caught:
        survey(account.connection)
    assert caught.value.code == "JRM-B01"


def test_interpreters_that_cannot_serve_are_left_out() -> None:
    facts = read(
        "home\t/h\npython\t/a\t3.9.2\tcpython\npython\t/b\t3.12.1\tpypy\npython\t/c\t3.13.0\tcpythont\n"
        "python\t/d\t3.11.7\tcpython\npython\t/e\t3.11.7\tcpython32\noffset\t-0330\nend\tyes\n"
    )
    assert facts is not None
    assert facts.pythons == (("/a", (3, 9, 2)), ("/d", (3, 11, 7)))
    assert facts.utc_offset_s == -12600
    assert sys.version_info >= (3, 10)
