"""The sdist and the wheel hold what they should, and the wheel works where nothing can be compiled."""

from __future__ import annotations

import email
import json
import re
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from wheel_kit import Built, clean_environment, run

LINUX = sys.platform.startswith("linux")
NATIVE = ["_placer", "_spawner"] if LINUX else ["_placer"]


@pytest.fixture(scope="session")
def names(built: Built) -> list[str]:
    with zipfile.ZipFile(built.wheel) as archive:
        return archive.namelist()


def test_wheel_holds_every_module_and_the_type_marker(names: list[str], built: Built) -> None:
    missing = [
        str(path.relative_to(built.source))
        for path in (built.source / "jupyter_rm").rglob("*.py")
        if str(path.relative_to(built.source)) not in names
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


def test_wheel_holds_nothing_beside_the_package_but_what_jupyter_reads(names: list[str]) -> None:
    beside = [name for name in names if not name.startswith("jupyter_rm/") and ".dist-info/" not in name]
    data = [name.split(".data/data/", 1)[-1] for name in beside]
    browser = [name for name in data if name.startswith("share/jupyter/labextensions/jupyter_rm/")]
    # What is left tells Jupyter of the server extension.
    assert set(data) - set(browser) == {"etc/jupyter/jupyter_server_config.d/jupyter_rm.json"}
    assert [name for name in browser if "/static/remoteEntry." in name], browser
    assert "share/jupyter/labextensions/jupyter_rm/install.json" in browser
    assert "jupyter_rm/notebook/static/view.js" in names
    assert not [name for name in names if name.startswith("jupyter_rm/labextension")], "carried twice"


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
    # A wheel made of it must not need Node.
    assert "jupyter_rm/notebook/static/view.js" in members
    assert [name for name in members if name.startswith("jupyter_rm/labextension/static/remoteEntry.")]
    places = (".venv", "build/", "labextension/node_modules", "labextension/lib")
    built_things = [n for n in members if n.endswith((".so", ".pyc", "jrm-guard")) or n.startswith(places)]
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


def test_installed_wheel_enables_both_extensions_without_node(built: Built, installed: Path, tmp_path: Path) -> None:
    env = {**clean_environment(path=str(installed)), "HOME": str(tmp_path), "NO_COLOR": "1"}
    run(installed / "python", "-m", "pip", "install", "-q", f"{built.wheel}[lab]", cwd=tmp_path, env=env)
    (front,) = (
        line.split()
        for line in run(installed / "jupyter", "labextension", "list", cwd=tmp_path, env=env).splitlines()
        if line.split()[:1] == ["jupyter_rm"]
    )
    assert [word for word in front if "enabled" in word] and [word for word in front if "OK" in word], front
    server = run(installed / "jupyter", "server", "extension", "list", cwd=tmp_path, env=env)
    assert re.search(r"jupyter_rm\.server\S* .*enabled", server), server
    assert re.search(r"jupyter_rm\.server\S* .*OK", server), server
