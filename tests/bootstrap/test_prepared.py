"""Environments of tasks, resolved here and installed on a machine that has no way to any index."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from bootstrap_kit import PATIENT_S, Account
from world_kit import new_home

import jupyter_rm as jrm
from jupyter_rm import cli
from jupyter_rm.client import session as sessions
from jupyter_rm.client.session import Session
from jupyter_rm.model.errors import RequestError
from jupyter_rm.notebook.magics import Magics


def wheel(folder: Path, name: str, version: str, body: str, *needs: str) -> str:
    """Make a wheel by hand, with a program of its name that prints ``main()``; its checksum."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": body,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + "".join(f"Requires-Dist: {need}\n" for need in needs),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name}-tool = {name}:main\n",
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as packed:
        for file, text in {**files, f"{info}/RECORD": record}.items():
            packed.writestr(file, text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


BODY = """
import tinydep
def twice(x):
    return tinydep.times(x, 2)
def main():
    print("tiny", {v!r})
"""


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "my wheels"
    folder.mkdir()
    wheel(folder, "tinydep", "1.0", "def times(x, y):\n    return x * y\n")
    wheel(folder, "tinypack", "1.2", BODY.format(v="1.2"), "tinydep>=1")
    return folder


def packed(site: str) -> Iterator[Session]:
    """Yield a session with an active pilot at a site."""
    with new_home():
        session = sessions.open("packed")
        pilot = session.pilot(site, cores=2)
        assert pilot.wait(timeout=PATIENT_S) == "ACTIVE", pilot.reason
        yield session


@pytest.fixture
def far(far_account: Account, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """A session with a pilot at the far account."""
    monkeypatch.setenv("JUPYTER_RM_SSH_CONFIG", str(far_account.bed.client / "config"))
    monkeypatch.setenv("JUPYTER_RM_SSH_AGENT", "0")
    yield from packed("ssh://alice@tb-login")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """A session with a pilot on this machine, for somebody with an empty home directory."""
    account = tmp_path / "somebody"
    account.mkdir()
    monkeypatch.setenv("HOME", str(account))
    yield from packed("local")


def twice(number: int) -> tuple[int, str]:
    import tinypack  # type: ignore[import-not-found]

    return tinypack.twice(number), str(tinypack.__file__)


def test_a_list_becomes_an_environment_where_there_is_no_internet(
    far: Session, far_account: Account, wheels: Path
) -> None:
    assert far_account.sh("sh", "-c", "ip route | grep -c default || :") == "0"
    early = far.submit(jrm.Task("tinypack-tool", named_env="fit"))
    assert early.wait(PATIENT_S) == "FAILED" and "no environment 'fit'; known: none" in early.reason, early.reason

    made = far.prepare_env("fit", ["tinypack==1.*"], wheels=wheels)[0]
    assert (made.how, made.sent > 1 << 20) == ("made", True), made  # with the pip that installs them
    sums = {path.name.split("-")[0]: hashlib.sha256(path.read_bytes()).hexdigest() for path in wheels.iterdir()}
    assert {name: (version, sum_) for name, version, sum_ in made.lock} == {
        "tinydep": ("1.0", sums["tinydep"]),
        "tinypack": ("1.2", sums["tinypack"]),
    }
    task = far.submit(jrm.Task("tinypack-tool", named_env="fit"))
    assert task.result(PATIENT_S) == "tiny 1.2\n"
    results = far.map(lambda n: twice(n), range(3), named_env="fit").results()
    assert [number for number, _ in results] == [0, 2, 4]
    assert all(path.startswith(f"{made.path}/lib/") for _, path in results), results
    # The lock stands with it, and nobody else can read it.
    root = Path(made.path)
    record = json.loads((root / "environment.json").read_text())
    assert {(each["name"], each["sha256"]) for each in record["lock"]} == set(sums.items())
    assert record["versions"] == {"tinydep": "1.0", "tinypack": "1.2"}
    assert stat.S_IMODE(root.stat().st_mode) == stat.S_IMODE(root.parent.stat().st_mode) == 0o700

    # The same list again sends nothing and asks nobody: not even the wheels here are looked into.
    again = far.prepare_env("fit", ["tinypack==1.*"], wheels=wheels)[0]
    assert (again.how, again.sent, again.path, again.lock) == ("found", 0, made.path, made.lock)

    # Another wheel makes another environment; only what is new is sent, and what runs in the first is not disturbed.
    wheel(wheels, "tinypack", "1.3", BODY.format(v="1.3"), "tinydep>=1")
    newer = far.prepare_env("fit", ["tinypack==1.*"], wheels=wheels)[0]
    assert newer.how == "made" and newer.path != made.path
    assert newer.sent == os.path.getsize(wheels / "tinypack-1.3-py3-none-any.whl")
    tasks = far.submit([jrm.Task("tinypack-tool", named_env=env) for env in ("fit", made.path)])
    assert [each.result(PATIENT_S) for each in tasks] == ["tiny 1.3\n", "tiny 1.2\n"]
    wrong = far.submit(jrm.Task("/bin/true", named_env="fitt"))
    assert wrong.wait(PATIENT_S) == "FAILED" and "known: fit;" in wrong.reason, wrong.reason


def run_jrm(words: list[str], capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    capsys.readouterr()
    assert cli.main(words) == 0
    return list(json.loads(capsys.readouterr().out))


def test_on_this_machine_and_what_cannot_be_had(
    here: Session, wheels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sums = {path.name.split("-")[0]: hashlib.sha256(path.read_bytes()).hexdigest() for path in wheels.iterdir()}
    envs = tmp_path / "somebody/.jupyter_rm/envs"
    wheel(wheels, "lonely", "1.0", "", "nowhere-to-be-found>=3")
    listed = tmp_path / "requirements.txt"
    listed.write_text("tinypack>=7\n")
    for given, says in (
        (listed, "No matching distribution found for tinypack>=7"),
        (["lonely"], "nowhere-to-be-found"),
        (["--index-url=http://evil/"], "is no requirement"),
        ([], "there are none"),
        (tmp_path / "none.txt", "is not there"),
    ):
        with pytest.raises(RequestError) as caught:
            here.prepare_env("fit", given, wheels=wheels)
        assert caught.value.code == "JRM-B11" and says in caught.value.message, (given, caught.value)
    for how, says in (
        ({"wheels": tmp_path / "nowhere"}, "is no directory"),
        ({"index_url": "https://me:secret@host/simple"}, "a password does not belong"),
        ({"indexurl": "x"}, "no 'indexurl'"),
    ):
        with pytest.raises(RequestError, match=says):
            here.prepare_env("fit", ["tinypack"], **how)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="is not a name"):
        here.prepare_env("../fit", ["tinypack"], wheels=wheels)
    assert not envs.exists()

    listed.write_text("tinypack\n")
    made = here.prepare_env("fit", listed, wheels=wheels, pilot="p.0")[0]
    assert Path(made.path).parent == envs
    assert here.submit(jrm.Task("tinypack-tool", named_env="fit")).result(PATIENT_S) == "tiny 1.2\n"
    words = f"prepare fit -r '{listed}' --wheels '{wheels}' --pilot p.0"
    shown = Magics({}).line(words)._repr_mimebundle_()
    assert "fit at " in shown["text/plain"] and "<pre>" in shown["text/html"]
    said = run_jrm([*shlex.split(words), "-s", here.name, "--json"], capsys)
    assert said[0]["lock"][0] == ["tinydep", "1.0", sums["tinydep"]] and said[0]["how"] == "found"  # type: ignore[index]
    assert [number for number, _ in here.map(lambda n: twice(n), [4], named_env="fit").results()] == [8]
