"""Programs and calls in another environment than the agent's: by name or path, other Pythons told apart."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

import jupyter_rm as jrm
from jupyter_rm.agent import worker
from jupyter_rm.client import session as sessions
from jupyter_rm.client.pilot import Pilot
from jupyter_rm.client.session import Session


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with a module of its own, and without any package."""
    path = tmp_path_factory.mktemp("envs") / "an env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(path)], check=True, timeout=120)
    packages = path / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    (packages / "only_there.py").write_text("def where():\n    import sys\n    return sys.prefix\n")
    (path / "bin" / "tool").write_text("#!/bin/sh\necho tool of $VIRTUAL_ENV\n")
    (path / "bin" / "tool").chmod(0o755)
    return path


@pytest.fixture(scope="module")
def study(home: Path, venv: Path) -> Iterator[Session]:
    del home
    session = sessions.open("named")
    pilot = session.pilot("local", cores=2, envs={"sci": str(venv)})
    assert pilot.wait(timeout=60) == "ACTIVE", pilot.reason
    yield session
    session.close()


@pytest.fixture
def pilot(study: Session) -> Pilot:
    return study.pilots()[0]


def prefix(_: int) -> str:
    import only_there  # type: ignore[import-not-found]

    return str(only_there.where())


def test_programs_and_calls_run_in_the_environment(study: Session, venv: Path) -> None:
    task = study.submit(jrm.Task("tool", named_env="sci"))
    assert task.result(60) == f"tool of {venv}\n"
    assert study.submit(jrm.Task("tool")).exception(60) is not None  # the others are not in it
    # Their function comes as code, though the environment has no cloudpickle.
    where = study.map(lambda n: prefix(n), range(4), named_env=str(venv)).results()
    assert where == [str(venv)] * 4
    assert study.call(pow, 2, 5).result(60) == 32
    lines = ["python -c 'import only_there'", "LOADED=$VIRTUAL_ENV; export LOADED"]
    task = study.submit(jrm.Shell('echo "$LOADED"', named_env="sci", pre_exec=lines))
    assert task.result(60) == f"{venv}\n"
    assert study.executor(named_env="sci").submit(pow, 2, 3).result(60) == 8


def test_an_environment_that_is_not_there_is_named(study: Session, venv: Path) -> None:
    for given, says in (
        ("nope", "named_env: this pilot has no environment 'nope'; known: sci; or give a path"),
        (f"{venv}/nowhere", f"named_env: {venv}/nowhere is no interpreter"),
        (f"{venv}/bin", f"named_env: {venv}/bin/bin/python is no interpreter"),
    ):
        for task in (
            study.submit(jrm.Task("/bin/true", named_env=given)),
            study.map(abs, [1], named_env=given)[0],
        ):
            assert task.wait(60) == "FAILED"
            assert task.cause == "ENV_FAILED"
            assert says in task.reason, task.reason


def test_a_worker_of_another_version_is_refused_with_both(study: Session, tmp_path: Path) -> None:
    other = tmp_path / "worker"
    other.mkdir()
    text = Path(worker.__file__).read_text()
    (other / "worker.py").write_text(text.replace(f"\nVERSION = {worker.VERSION} ", "\nVERSION = 99 "))
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$1" "$2" "$3" {other} "$5"\n')
    python.chmod(0o755)
    task = study.map(abs, [1], named_env=str(python))[0]
    assert task.wait(60) == "FAILED"
    assert f"speaks protocol 99, its agent {worker.VERSION}" in task.reason, task.reason
    assert task.cause == "ENV_FAILED"


def test_a_python_that_is_too_old_is_refused_with_its_version(study: Session, tmp_path: Path) -> None:
    python = tmp_path / "python"
    fake = "import sys; sys.version_info = (3, 6, 15); sys.argv[:1] = []; exec(sys.argv.pop(0))"
    python.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -c "{fake}" "$@"\n')
    python.chmod(0o755)
    task = study.map(abs, [1], named_env=str(python))[0]
    others = [study.map(abs, [-n], named_env="sci")[0] for n in range(1, 5)]  # they stand behind it, and are well
    assert [other.result(60) for other in others] == [1, 2, 3, 4]
    assert task.wait(60) == "FAILED"
    assert "is Python 3.6; calls need 3.8 or later" in task.reason, task.reason
    assert task.cause == "ENV_FAILED"


def test_tasks_go_to_the_pilot_that_has_their_environment(home: Path, venv: Path) -> None:
    """The other one came first and is idle; it gets them once nobody has the environment any more."""
    del home
    with sessions.open("two") as session:
        without = session.pilot("local", cores=1)
        assert without.wait(timeout=60) == "ACTIVE", without.reason
        having = session.pilot("local", cores=1, envs={"far": str(venv)})
        bulk = session.submit([jrm.Task("tool", named_env="far") for _ in range(10)])
        assert bulk.wait(60) and bulk.counts() == {"DONE": 10}, [task.reason for task in bulk.failed()]
        assert {task.pilot.uid for task in bulk} == {having.uid}
        assert having.facts["envs"] == ("far",)
        having.cancel()
        assert having.wait("CANCELED", 30) == "CANCELED"
        task = session.submit(jrm.Task("tool", named_env="far"))
        assert task.wait(30) == "FAILED"
        assert "no environment 'far'" in task.reason
