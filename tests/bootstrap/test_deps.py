"""Where an agent's packages come from: the interpreter there when it has them new enough, else from here."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from bootstrap_kit import UID, Account
from test_modes import works

from jupyter_rm.model.errors import RequestError, SiteError
from jupyter_rm.runtime.bootstrap import Wanted
from jupyter_rm.runtime.bootstrap.deps import enough

WHERE = "import sysconfig; print(sysconfig.get_paths()['purelib'])"


@pytest.mark.parametrize(
    ("version", "asked", "fits"),
    [
        *(("26.2", ">=26.2", True), ("26.10", ">=26.2", True), ("26", ">=26.0.0", True), ("2.0.post1", ">=2.0", True)),
        *(("26.1.9", ">=26.2", False), ("2.0rc1", ">=2.0", False), ("2.0.dev3", ">=2.0", False), ("3", "", True)),
        *(("odd", ">=1", False), ("5", ">=1,<9", False)),
    ],
)
def test_what_is_new_enough(version: str, asked: str, fits: bool) -> None:
    assert enough(version, asked) is fits


@pytest.fixture
def packages(account: Account) -> Iterator[Path]:
    """The packages of the interpreter there, for her alone: cloudpickle and psutil as they are here, an old msgspec."""
    python = next(path for path, version in account.facts.pythons if version[:2] == sys.version_info[:2])
    site = Path(account.sh(python, "-I", "-c", WHERE))
    folder = account.home / "system"
    folder.mkdir()
    for name in ("cloudpickle", "psutil"):
        for file in metadata.distribution(name).files or ():
            source, goal = Path(str(file.locate())), folder / str(file)
            if ".." not in str(file) and source.is_file():
                goal.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, goal)
    old = ("msgspec-0.1.dist-info/METADATA", "Name: msgspec\nVersion: 0.1\n")
    for name, text in (("msgspec/__init__.py", ""), old):
        account.file(f"system/{name}", text)
    for path in (folder, *folder.rglob("*")):
        shutil.chown(path, UID, UID)
    account._inside("mount", "--bind", str(folder), str(site))
    account._mounts.insert(0, site)
    yield site


def test_what_the_system_has_is_taken_and_what_is_too_old_is_sent(account: Account, packages: Path) -> None:
    with pytest.raises(SiteError, match=r"msgspec: the system has 0\.1, >=0\.19 is needed") as caught:
        account.ensure(Wanted(prefer="system"))
    assert caught.value.code == "JRM-B12" and "numpy: the system has none" in caught.value.message
    assert "cloudpickle" not in caught.value.message and account.connection.asked == ["run"], "something was sent"

    made = account.ensure(Wanted(prefer="system-then-staged"))
    works(account, made)
    here = {name: metadata.version(name) for name in ("cloudpickle", "psutil", "msgspec")}
    assert made.deps["msgspec"] == "staged (the system has 0.1, >=0.19 is needed)"
    assert made.deps["numpy"] == "staged (the system has none)"
    for name in ("cloudpickle", "psutil"):
        assert made.deps[name] == f"{here[name]} of the system ({packages})"
    # What is told is what is so.
    code = "import cloudpickle, msgspec; print(cloudpickle.__file__, msgspec.__file__, msgspec.__version__)"
    system, staged, version = account.sh(made.python, "-I", "-c", code).split()
    assert system.startswith(f"{packages}/") and staged.startswith(f"{made.root}/") and version == here["msgspec"]
    record = json.loads((Path(made.root) / "environment.json").read_text())
    assert record["deps"] == made.deps and record["versions"]["cloudpickle"] == here["cloudpickle"]
    assert not list((Path(made.root) / "lib").rglob("cloudpickle")), "it was sent although the system has it"
    told = next(step.text for step in account.steps if step.name == "python" and step.status == "ok")
    assert f"cloudpickle {here['cloudpickle']} of the system" in told and "msgspec staged" in told

    again = account.ensure(Wanted(prefer="system-then-staged"))
    assert (again.how, again.deps, again.root) == ("found", made.deps, made.root)
    # The system loses a package: what was made from it does not count any more.
    shutil.rmtree(account.home / "system/psutil")
    after = account.ensure(Wanted(prefer="system-then-staged"))
    assert after.how == "made" and after.root != made.root and "cannot be imported" in after.deps["psutil"]
    works(account, after)
    # By default all is sent, and the system's packages are not even seen.
    plain = account.ensure()
    assert plain.deps == {} and plain.root not in (made.root, after.root)
    works(account, plain)


def test_a_wish_that_cannot_be(account: Account) -> None:
    for more in ({"prefer": "newest"}, {"prefer": "system", "source": "index"}):
        with pytest.raises(RequestError, match="env_prefer") as caught:
            account.ensure(Wanted(**more))  # type: ignore[arg-type]
        assert caught.value.code == "JRM-B02"
