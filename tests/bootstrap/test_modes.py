"""Each way to come by an environment, with a real interpreter there; and two ways to run something in it."""

from __future__ import annotations

import os
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from bootstrap_kit import PATIENT_S, UID, Account, Place
from connect_kit import eventually

import jupyter_rm
from jupyter_rm.model.errors import RequestError, SiteError
from jupyter_rm.runtime.bootstrap import Environment, Wanted, pack

ELSEWHERE = sorted(
    (path, version)
    for version in ((3, 10), (3, 12), (3, 13))
    for path in Path.home().glob(f".pyenv/versions/{version[0]}.{version[1]}.*")
    if version != sys.version_info[:2]
)


def works(account: Account, made: Environment) -> None:
    """An agent's modules can be imported there; the program knows them."""
    code = "import jupyter_rm.agent.service, sys; print(sys.prefix)"
    assert account.sh(made.python, "-I", "-c", code)
    said = account.plain.run([made.python, made.program, "--module", "jupyter_rm.agent"], timeout=60)
    assert (said.rc, said.complaint) == (2, "usage: python -m jupyter_rm.agent SPEC")


def test_a_named_environment_is_made_used_and_updated(account: Account) -> None:
    made = account.ensure(Wanted(name="mine"))
    works(account, made)
    assert account.ensure(Wanted(name="mine")).how == "found"
    used = account.ensure(Wanted(mode="use", name="mine"))
    assert (used.root, used.how) == (made.root, "found"), "the name is not led to what it stands for"
    assert account.connection.asked == ["run"]

    patch = pytest.MonkeyPatch()
    with patch.context():
        patch.setattr(jupyter_rm, "__version__", "9.8.7")
        for want in (Wanted(mode="use", name="mine"), Wanted(name="mine")):
            with pytest.raises(SiteError, match=f"{made.versions['jupyter_rm']}.*9.8.7") as caught:
                account.ensure(want)
            assert caught.value.code == "JRM-B08" and "update" in caught.value.hint
        newer = account.ensure(Wanted(mode="update", name="mine"))
        assert newer.how == "made" and newer.root != made.root
        assert (account.home / ".jupyter_rm/env/mine").resolve() == Path(newer.root)
    patch.undo()
    # Pilots that run from the earlier one are not disturbed.
    works(account, made)
    with pytest.raises(SiteError) as caught:
        account.ensure(Wanted(mode="use", name="nobodys"))
    assert caught.value.code == "JRM-B07"


def test_every_mode_on_a_missing_a_present_and_a_broken_environment(account: Account) -> None:
    env = account.home / ".jupyter_rm/env"
    own = account.home / "own"
    wants = {
        "create": (Wanted(name="t"), "made", "found", "made"),
        "use": (Wanted(mode="use", name="t"), "JRM-B07", "found", "JRM-B07"),
        "update": (Wanted(mode="update", name="t"), "made", "found", "made"),
        "recreate": (Wanted(mode="recreate", name="t"), "made", "made", "made"),
        "private": (Wanted(mode="private", name=str(own)), "made", "found", "made"),
        "local": (Wanted(mode="local"), "made", "found", "made"),
        "none": (Wanted(mode="none", python=str(env / "t/bin/python")), "JRM-B07", "found", "JRM-B07"),
    }
    for mode, (want, *expected) in wants.items():
        for state, outcome in zip(("missing", "present", "broken"), expected, strict=True):
            if state == "missing":
                account.sh("rm", "-rf", str(env), str(own))
            elif state == "present":
                account.ensure(want if mode in ("private", "local") else Wanted(name="t"))
            else:
                root = own if mode == "private" else next(path for path in env.iterdir() if not path.is_symlink())
                account.sh("ln", "-sfn", "/nowhere/python", str(root / "bin/python"))
            if outcome in ("made", "found"):
                assert account.ensure(want).how == outcome, (mode, state)
                continue
            with pytest.raises(SiteError) as caught:
                account.ensure(want)
            assert caught.value.code == outcome, (mode, state)
            assert "'t'" in caught.value.message or want.python in caught.value.message, caught.value.message
            assert caught.value.hint, (mode, state)


def test_an_environment_of_the_users_own(account: Account) -> None:
    ours = account.ensure()
    packages = next(Path(ours.root, "lib").glob("python3*")) / "site-packages"
    account.sh("/usr/bin/python3", "-m", "venv", "--without-pip", str(account.home / "theirs"))
    copy = 'cp -r "$1"/* "$2"/lib/python3*/site-packages'
    account.sh("sh", "-c", copy, "sh", str(packages), str(account.home / "theirs"))
    for name in (str(account.home / "theirs"), "~/theirs", str(account.home / "theirs/bin/python3")):
        used = account.ensure(Wanted(mode="use", name=name))
        assert (used.how, used.root) == ("found", "") and used.python.startswith(str(account.home / "theirs"))
        works(account, used)
    # The same through `none` when it is the machine's Python.
    found = account.ensure(Wanted(mode="none", python=str(account.home / "theirs/bin/python")))
    assert found.program == used.program
    with pytest.raises(SiteError, match=r"/usr/bin/python3: ModuleNotFoundError: No module named 'numpy'") as caught:
        account.ensure(Wanted(mode="none"))
    assert caught.value.code == "JRM-B07"

    path = Path(used.program).parents[3] / "__init__.py"
    path.write_text(path.read_text().replace(f'"{jupyter_rm.__version__}"', '"0.0.9"'))
    with pytest.raises(SiteError, match=rf"0\.0\.9, this is {jupyter_rm.__version__}") as caught:
        account.ensure(Wanted(mode="use", name=str(account.home / "theirs")))
    assert caught.value.code == "JRM-B08"


def test_a_copy_of_the_pilots_own(account: Account) -> None:
    where = account.home / "the pilot's own é $HOME" / "env"
    made = account.ensure(Wanted(mode="private", name=str(where)))
    assert made.root == str(where)
    works(account, made)
    assert account.ensure(Wanted(mode="private", name=str(where))).how == "found"
    assert account.ensure().root != made.root
    with pytest.raises(RequestError):
        account.ensure(Wanted(mode="private"))


def test_an_environment_that_is_unpacked_on_the_node(account: Account) -> None:
    made = account.ensure(Wanted(mode="local"))
    assert not list(Path(made.root).rglob("numpy")), "it was unpacked on the shared file system"
    account.file("disk/.keep", "")
    for _ in range(2):
        said = account.plain.run(
            [made.python, made.program, "--module", "jupyter_rm.agent"], env={"TMPDIR": str(account.home / "disk")}
        )
        assert (said.rc, said.complaint) == (2, "usage: python -m jupyter_rm.agent SPEC")
    node = account.home / "disk" / f"jrm-env-{UID}" / made.key
    assert list(node.rglob("numpy/__init__.py"))
    first = node.stat().st_ino
    account.plain.run([made.python, made.program, "--module", "site"], env={"TMPDIR": str(account.home / "disk")})
    assert node.stat().st_ino == first, "it was unpacked twice"
    assert account.ensure(Wanted(mode="local")).how == "found"
    # Somebody else's directory in a shared /tmp is not walked into.
    os.chown(node.parent, 0, 0)
    said = account.plain.run(
        [made.python, made.program, "--module", "site"], env={"TMPDIR": str(account.home / "disk")}
    )
    assert said.rc == 1 and "not a private directory" in said.complaint


def test_nodes_that_unpack_for_themselves(account: Account) -> None:
    made = account.ensure(Wanted(mode="local"))
    account.file("disk/.keep", "")
    place = Place(account, made, site="ssh://here", nodes=2, launch="fork", launches=["fork"])
    stream = place.start(TMPDIR=str(account.home / "disk"))
    try:
        words = ("-m jupyter_rm.agent.node", f"jrm-env-{UID}/{made.key}/bin/python", str(place.path))
        eventually(lambda: account.processes(*words), f"no node agent: {place.look()}", PATIENT_S)
        # What its guard runs is what the start program of the node named.
        guards = [process for process in account.processes(*words) if process.cmdline()[0].endswith("jrm-guard")]
        assert guards and "--guarded" not in guards[0].cmdline()
    finally:
        place.program("--signal", "TERM")
        place.until(lambda seen: seen["ended"], "it does not end")
        stream.close()
    eventually(lambda: not account.processes(str(place.path)), "something is left", PATIENT_S)


def test_from_an_index(account: Account) -> None:
    """The target's own pip installs a wheel; here it holds all packages, so that no other index is needed."""
    folder = account.home / "wheels"
    folder.mkdir()
    version = jupyter_rm.__version__
    own = pack.own(pack.python_tag(), os.uname().machine)
    name = f"jupyter_rm-{version}.dist-info"
    names = []
    with zipfile.ZipFile(folder / f"jupyter_rm-{version}-py3-none-any.whl", "w") as wheel:
        for part in (pack.base_part(own.arch), pack.own_part(own)):
            with tarfile.open(part.path) as archive:
                for member in archive:
                    content = archive.extractfile(member)
                    if content is None or ".dist-info/" in member.name:
                        continue
                    wheel.writestr(member.name, content.read())
                    names.append(member.name)
        wheel.writestr(f"{name}/METADATA", f"Metadata-Version: 2.1\nName: jupyter_rm\nVersion: {version}\n")
        tag = "Root-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{name}/WHEEL", f"Wheel-Version: 1.0\nGenerator: test\n{tag}")
        with wheel.open(f"{name}/RECORD", "w") as record:
            for one in [*names, f"{name}/METADATA", f"{name}/WHEEL", f"{name}/RECORD"]:
                record.write(f"{one},,\n".encode())

    with pytest.raises(SiteError, match=r"install: exit code 1\n(.*\n)?.*No matching distribution") as caught:
        account.file(".config/pip/pip.conf", "[global]\nno-index = true\n")
        account.ensure(Wanted(source="index"))
    assert caught.value.code == "JRM-B09"
    account.file(".config/pip/pip.conf", f"[global]\nno-index = true\nfind-links = {folder}\n")
    made = account.ensure(Wanted(source="index"))
    assert "install ok" in account.told() and account.connection.asked == ["run", "start"]
    works(account, made)
    assert account.ensure(Wanted(source="index")).how == "found"


def test_hooks_before_and_after(account: Account) -> None:
    note = str(account.home / "note")
    hooks = (("sh", "-c", 'echo "$1 $JRM_ENV_BASE" >>"$2"', "sh", "a 'b' $HOME", note),)
    account.ensure(Wanted(before=hooks, after=(("touch", f"{note}.after"),)))
    assert Path(note).read_text() == f"a 'b' $HOME {account.home}/.jupyter_rm\n"
    assert Path(f"{note}.after").exists()
    assert account.told()[:3] == ["environment start", "before start", "before ok"]
    with pytest.raises(SiteError, match=r"hook before_env ended with exit code 3: no licence") as caught:
        account.ensure(Wanted(before=(("sh", "-c", "echo no licence >&2; exit 3"),)))
    assert caught.value.code == "JRM-B09"
    assert account.told()[-2:] == ["before fail", "environment fail"]


if ELSEWHERE:  # a target whose Python is another one; CI machines may have only one

    @pytest.mark.parametrize("path, version", ELSEWHERE[:1])
    def test_another_python_there(account: Account, path: Path, version: tuple[int, int]) -> None:
        account.lend(path)
        python = f"{path}/bin/python{version[0]}.{version[1]}"
        made = account.ensure(Wanted(python=python))
        assert made.how == "made" and len(made.notes) == 2, made
        said = account.sh(made.python, "-c", "import sys, numpy; print(*sys.version_info[:2])")
        assert said == " ".join(map(str, version))
        assert account.ensure(Wanted(python=python)).how == "found"
        # The agent lives there, without any of the compiled parts.
        place = Place(account, made)
        stream = place.start()
        place.until(lambda seen: seen["alive"], "no agent")
        trace = place.path / "agent.trace"
        place.until(lambda _seen: trace.exists(), "the agent wrote nothing")
        place.program("--signal", "TERM")
        seen = place.until(lambda seen: seen["ended"], "it does not end")
        assert seen["ended"]["told"] and seen["ended"]["code"] in (0, 143), seen  # 143: it did not listen yet
        stream.close()
