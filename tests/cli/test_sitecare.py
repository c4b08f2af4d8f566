"""Site files from elsewhere, their JSON Schema, and an account that is left as it was found."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from jupyter_rm import cli
from jupyter_rm.batch import check
from jupyter_rm.batch.files import PACKAGED, read_toml
from jupyter_rm.batch.schema import site_schema
from jupyter_rm.client import sitecare, sites
from jupyter_rm.model.errors import RequestError

GOOD = 'extends = "slurm"\ntitle = "T"\n[site]\nurl = "slurm+ssh://me@login"\nqueue = "batch"\n'
PIECES: dict[str, str] = {
    "titel": 'titel = "x"',
    "title": "title = 3",
    "abstract": 'abstract = "yes"',
    "detect": 'detect = "sbatch"',
    "poll.every_s": "[poll]\nevery_s = -1",
    "poll.often": "[poll]\noften = 3",
    "poll.ids": "[poll]\nids = 0",
    "site.queue": "[site]\nqueue = { a = 1 }",
    "hooks.before_lunch": '[hooks]\nbefore_lunch = "x"',
    "attributes.queue.typ": '[attributes.queue]\ntyp = "text"',
    "attributes.queue.required": "[attributes.queue]\nrequired = 1",
    "attributes.queue.choices": '[attributes.queue]\nchoices = "a"',
    "ops.status.argv": "[ops.status]\nargv = []",
    "ops.status.rc_ok": '[ops.status]\nrc_ok = ["0"]',
    "ops.status.timeout_s": '[ops.status]\ntimeout_s = "30"',
    "readers.sbatch.must": '[readers.sbatch]\nmust = "no"',
    "states.ODD": '[states]\nODD = "perhaps"',
    "states.LATE": '[states]\nLATE = "failed:bored"',
    "errors.full.retry": '[errors.full]\nmatch = "x"\nretry = "yes"',
    "job.id": '[job]\nid = "SLURM_JOB_ID"',
}


def test_every_packaged_description_fits_the_schema() -> None:
    Draft202012Validator.check_schema(site_schema())
    validator = Draft202012Validator(site_schema())
    for path in sorted(PACKAGED.glob("*.toml")):
        errors = validator.iter_errors(read_toml(path)[0])
        assert not [f"{path.name}: {error.json_path}: {error.message}" for error in errors]


@pytest.mark.parametrize("where", PIECES)
def test_schema_and_check_refuse_the_same_at_the_same_place(where: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f'extends = "slurm"\n{PIECES[where]}\n')
    said = [problem.path for problem in check(file)]
    assert any(path == where or path.startswith(where) for path in said), said
    errors = list(Draft202012Validator(site_schema()).iter_errors(read_toml(file)[0]))
    assert errors
    paths = {".".join(map(str, error.absolute_path)) for error in errors}
    assert any(path.startswith(where) or where.rpartition(".")[0] == path for path in paths), paths


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A configuration directory of its own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    yield tmp_path


@pytest.fixture
def web(config: Path) -> Iterator[str]:
    """A web server of site files."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    (config / "www").mkdir()
    server = HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(config / "www")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_file_from_a_url_needs_its_hash(config: Path, web: str, capsys: pytest.CaptureFixture[str]) -> None:
    (config / "www/there.toml").write_text(GOOD)
    right = hashlib.sha256(GOOD.encode()).hexdigest()
    url = f"{web}/there.toml"
    nowhere = "http://127.0.0.1:1/there.toml"
    with pytest.raises(RequestError, match="who vouches"):
        sitecare.install(nowhere)
    with pytest.raises(RequestError, match="sha256: 'abc' is none"):
        sitecare.install(nowhere, "abc")
    with pytest.raises(RequestError, match="not 0000"):
        sitecare.install(url, "0" * 64)
    assert not sites.directory().exists()
    assert cli.main(["--json", "site", "install", url, "--sha256", right]) == 0
    path = Path(json.loads(capsys.readouterr().out)["file"])
    assert path.read_text() == GOOD
    assert path.stat().st_mode & 0o777 == 0o600
    assert "slurm+ssh://me@login" in repr(sites.listing())
    with pytest.raises(RequestError, match="is there already"):
        sitecare.install(url, right)
    (config / "bad.toml").write_text('extends = "slurm"\nnonsense = 1\n')
    with pytest.raises(RequestError, match="nonsense"):
        sitecare.install(str(config / "bad.toml"))
    with pytest.raises(RequestError, match="404"):
        sitecare.install(f"{web}/nothing.toml", right)
    assert [each.name for each in sites.directory().iterdir()] == ["there.toml"]


def test_an_account_is_left_as_it_was_found(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(config))
    url = "ssh://local"
    monkeypatch.setattr(sitecare, "parse", lambda _: type("Site", (), {"target": "local"}))
    assert "nothing of jupyter_rm" in repr(sitecare.clean(url))
    ours = config / ".jupyter_rm"
    for name in ("env/x/bin", "cache", "sandboxes/s/p.0", "pilots/s/p.0", "shell"):
        (ours / name).mkdir(parents=True)
    (ours / "env/x/bin/python").write_text("#!")
    (ours / "env/x/bin").chmod(0o500)
    (ours / "sandboxes/s/p.0/result").write_text("dear")
    mark = ours / "pilots/s/p.0/alive"
    mark.touch()
    found = sitecare.clean(url)
    assert set(found.parts) == {"env", "cache", "sandboxes", "pilots", "shell"}
    assert found.running == ["pilots/s/p.0"]
    with pytest.raises(RequestError, match="run there"):
        sitecare.clean(url, yes=True)
    (mark.parent / "ended.json").write_text("{}")
    assert sitecare.clean(url, yes=True).removed
    assert [each.name for each in ours.iterdir()] == ["sandboxes"]
    assert (ours / "sandboxes/s/p.0/result").read_text() == "dear"
    sitecare.clean(url, yes=True, sandboxes=True)
    assert not ours.exists()


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["site", "schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "A site file of jupyter_rm"
