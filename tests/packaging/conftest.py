"""One build of the sdist and the wheel for the whole session, from a copy of the tree without what was built in it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from wheel_kit import ROOT, Built, clean_environment, run


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build the sdist, and the wheel from the sdist, with the build tools of this environment."""
    source = tmp_path_factory.mktemp("tree") / "with a space"
    # Read from .gitignore, not asked of git: the tree may have been unpacked where there is no git.
    lines = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split()]
    anywhere = shutil.ignore_patterns(".git", *(line for line in lines if "/" not in line))

    def ignored(folder: str, names: list[str]) -> set[str]:
        here = Path(folder).relative_to(ROOT)
        return anywhere(folder, names) | {name for name in names if str(here / name) in lines}

    shutil.copytree(ROOT, source, ignore=ignored)
    # The cmake and ninja wheels of this environment serve where the system has none.
    bins = str(Path(sys.executable).parent)
    env = clean_environment(path=os.pathsep.join([os.environ.get("PATH", os.defpath), bins]))
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", source / "dist", ".", cwd=source, env=env)
    (sdist,) = (source / "dist").glob("*.tar.gz")
    (wheel,) = (source / "dist").glob("*.whl")
    return Built(source, sdist, wheel)


@pytest.fixture(scope="session")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into an empty environment where no compiler can be found; return its bin directory."""
    home = tmp_path_factory.mktemp("empty")
    run(sys.executable, "-m", "venv", home / "env", cwd=home, env=clean_environment())
    bins = home / "env" / "bin"
    env = clean_environment(path=str(bins))
    run(bins / "python", "-m", "pip", "install", "-q", built.wheel, cwd=home, env=env)
    return bins
