"""Arguments go through every login shell and come back byte for byte, or are refused by name."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from connect_kit import SCRIPTS
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from jupyter_rm.model.errors import RequestError
from jupyter_rm.runtime.connect.quote import LIMIT, command_line

SHELLS = ("sh", "dash", "bash", "tcsh", "fish")
HOSTILE = [
    "", " ", "-n", "--", "a b", "'", '"', "\\", "\\\\", "\\'", "'\\''", "!", "!!", "!$", "a!b'c", "\n", "a\nb",
    "\\\n", "\r\n", "\t",
    "$(touch canary)", "`touch canary`", "; touch canary", "| touch canary", "&& touch canary", "' ; touch canary ; '",
    "\n touch canary \n", "\\'; touch canary #", "%s%d%n", "\\0101", "\\x41", "~", "~root", "*", "?", "[a]",
    "{a,b}", "#", "=ls", "%1",
    "$0", "${IFS}", "$HOME", "(", ")", "<", ">", "^a^b", "é€😀", "\udcff\udc80", "\x01\x1b[31m\x7f", "a" * 3000,
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def shells(tmp_path_factory: pytest.TempPathFactory) -> None:
    """All shells are there, or are installed."""
    if not all(map(shutil.which, SHELLS)):
        env = {**os.environ, "TB_STATE": str(tmp_path_factory.mktemp("apt"))}
        subprocess.run(["bash", "-c", f". {SCRIPTS}/lib.sh; tb_apt tcsh fish dash"], env=env, check=True, timeout=200)


def there_and_back(shell: str, words: list[str], where: Path) -> list[str]:
    line = command_line(["printf", "%s\\0", *words])
    done = subprocess.run(
        [shell, "-c", line],
        capture_output=True,
        cwd=where,
        env={"PATH": os.environ["PATH"], "HOME": str(where)},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, (shell, done.stderr)
    return [os.fsdecode(part) for part in done.stdout.split(b"\0")[:-1]]


@pytest.mark.parametrize("shell", SHELLS)
def test_hostile_arguments_come_back_unchanged_and_run_nothing(shell: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    assert there_and_back(shell, HOSTILE, home) == HOSTILE
    assert not list(home.rglob("canary"))


TEXT = st.binary(max_size=40).map(lambda raw: os.fsdecode(raw.replace(b"\0", b"")))
ODD = st.text(alphabet="'\"\\!$`\n\r\t #%&*()[]{}<>?;|~^=-a0\x01\x1b\x7fé", max_size=20)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TEXT | ODD, min_size=1, max_size=60))
@example(["\\0"])
def test_any_bytes_come_back_from_every_shell(tmp_path: Path, words: list[str]) -> None:
    for shell in SHELLS:
        assert there_and_back(shell, words, tmp_path) == words


@pytest.mark.parametrize("shell", SHELLS)
def test_variables_exit_codes_and_the_mark(shell: str, tmp_path: Path) -> None:
    line = command_line(["sh", "-c", 'printf %s "$ODD"; exit 42'], {"ODD": "a'b\\!\n$x"}, mark="here")
    done = subprocess.run([shell, "-c", line], capture_output=True, cwd=tmp_path, timeout=60, check=False)
    first, _, rest = done.stdout.partition(b"\n")
    assert first.split()[0] == b"here"
    assert int(first.split()[1]) > 1
    assert rest == b"a'b\\!\n$x"
    assert done.returncode == 42


def test_a_builtin_is_not_what_is_meant(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", command_line(["exit", "0"])], capture_output=True, cwd=tmp_path, timeout=60, check=False
    )
    assert done.returncode == 127


@pytest.mark.parametrize(
    ("argv", "env", "names"),
    [
        ([], {}, "argv"),
        ("ls", {}, "argv"),
        (["ls", "a", "b\0c"], {}, "argv[2]"),
        (["-x"], {}, "argv[0]"),
        ([""], {}, "argv[0]"),
        (["ls"], {"A B": "x"}, "A B"),
        (["ls"], {"A": "\0"}, "A"),
        (["ls", "x" * LIMIT], {}, "bytes"),
    ],
)
def test_what_cannot_be_passed_on_is_refused_by_name(argv: list[str], env: dict[str, str], names: str) -> None:
    with pytest.raises(RequestError) as caught:
        command_line(argv, env)
    assert caught.value.code == "JRM-Q71"
    assert names in caught.value.message
