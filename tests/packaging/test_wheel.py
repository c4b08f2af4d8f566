"""The sdist and the wheel hold what they should, and the wheel works where nothing can be compiled."""

from __future__ import annotations

import email
import json
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from wheel_kit import ROOT, Built, clean_environment, run

LINUX = sys.platform.startswith("linux")
NATIVE = ["_placer", "_spawner"] if LINUX else ["_placer"]


@pytest.fixture(scope="session")
def names(built: Built) -> list[str]:
    with zipfile.ZipFile(built.wheel) as archive:
        return archive.namelist()


def test_wheel_holds_every_module_and_the_type_marker(names: list[str]) -> None:
    # Other people's new modules may appear in the tree while the build runs, so only what the build saw is compared.
    missing = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "jupyter_rm").rglob("__init__.py")
        if "__pycache__" not in path.parts and str(path.relative_to(ROOT)) not in names
    ]
    assert missing == []
    assert "jupyter_rm/py.typed" in names


def test_wheel_holds_the_native_parts_and_not_their_sources(names: list[str], built: Built) -> None:
    native = [name for name in names if name.startswith("jupyter_rm/native/")]
    for module in NATIVE:
        found = [name for name in native if name.startswith(f"jupyter_rm/native/{module}.") and name.endswith(".so")]
        assert len(found) == 1, f"{module}: {native}"
    assert not [name for name in native if name.endswith((".cpp", ".hpp"))]
    if LINUX:
        with zipfile.ZipFile(built.wheel) as archive:
            mode = archive.getinfo("jupyter_rm/native/jrm-guard").external_attr >> 16
        assert mode & 0o111 == 0o111, f"jrm-guard has mode {mode:o}"


def test_wheel_holds_nothing_beside_the_package(names: list[str]) -> None:
    beside = [name for name in names if not name.startswith("jupyter_rm/") and ".dist-info/" not in name]
    (switch,) = beside  # what tells Jupyter of the server extension, put into etc/ of the environment
    assert switch.endswith(".data/data/etc/jupyter/jupyter_server_config.d/jupyter_rm.json")


def test_metadata_says_what_a_reader_of_the_index_needs(built: Built, names: list[str]) -> None:
    (where,) = (name for name in names if name.endswith(".dist-info/METADATA"))
    with zipfile.ZipFile(built.wheel) as archive:
        text = archive.read(where).decode()
    metadata = email.message_from_string(text)
    assert metadata["Name"].replace("-", "_") == "jupyter_rm"
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert "pilot" in str(metadata.get_payload()).lower(), "the README is not the long description"
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    classifiers = metadata.get_all("Classifier") or []
    for version in ("3.10", "3.11", "3.12", "3.13"):
        assert f"Programming Language :: Python :: {version}" in classifiers


def test_sdist_holds_the_sources_and_no_built_thing(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        members = [name.split("/", 1)[1] for name in archive.getnames() if "/" in name]
    for needed in ("pyproject.toml", "CMakeLists.txt", "LICENSE", "README.md", "jupyter_rm/native/guard.cpp"):
        assert needed in members
    built_things = [n for n in members if n.endswith((".so", ".pyc", "jrm-guard")) or n.startswith((".venv", "build/"))]
    assert built_things == []


PROBE = """
import json, os, pathlib, jupyter_rm, jupyter_rm.native
here = pathlib.Path(jupyter_rm.__file__).resolve().parent
import importlib
for name in {native!r}:
    importlib.import_module("jupyter_rm.native." + name)
guard = here / "native" / "jrm-guard"
print(json.dumps({{"here": str(here), "guard": str(guard), "runs": os.access(guard, os.X_OK)}}))
"""


def test_installed_wheel_imports_its_native_parts_without_a_compiler(installed: Path, tmp_path: Path) -> None:
    env = clean_environment(path=str(installed))
    out = run(installed / "python", "-c", PROBE.format(native=NATIVE), cwd=tmp_path, env=env)
    seen = json.loads(out.splitlines()[-1])
    assert Path(seen["here"]).is_relative_to(installed.parent.resolve()), "the checkout was imported, not the wheel"
    if LINUX:
        assert seen["runs"], f"{seen['guard']} cannot be executed"
        run(seen["guard"], "--", "/bin/true", cwd=tmp_path, env=env)


def test_installed_command_answers(installed: Path, tmp_path: Path) -> None:
    env = {**clean_environment(path=str(installed)), "JUPYTER_RM_HOME": str(tmp_path / "home")}
    out = run(installed / "jrm", "version", cwd=tmp_path, env=env)
    assert "0.1.0" in out
