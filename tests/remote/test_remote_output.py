"""What tasks elsewhere wrote, read through the broker's login: whole, in parts, as it grows, many at once."""

from __future__ import annotations

import pytest
from remote_kit import Far, active

import jupyter_rm as jrm
from jupyter_rm.client import distant
from jupyter_rm.client.session import Session
from jupyter_rm.model.errors import LinkError, RequestError
from jupyter_rm.model.messages import FetchFiles


@pytest.fixture(autouse=True)
def another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here site and test share a disk: look away from it, as on a machine of one's own."""
    monkeypatch.setattr(distant, "seen_here", lambda path: False)


def test_output_comes_back(far: Far, study: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    active(study.pilot("ssh://alice@tb-slurm", cores=2))
    said = study.submit(jrm.Shell("printf 'ü no end'; echo oh >&2; exit 3"))
    many = study.array(jrm.Shell("echo $((N * N))", environment={"N": "{n}"}), n=range(900))
    large = study.submit(jrm.Shell("head -c 9000000 /dev/zero | tr '\\0' x; echo end"))
    slow = study.submit(jrm.Shell("for i in 1 2 3; do echo $i; sleep 0.7; done"))
    assert study.wait(120)
    assert said.stdout() == "ü no end" and said.stderr() == "oh\n"
    error = said.exception()
    assert isinstance(error, jrm.TaskError) and error.output == "oh\n"
    asked = []
    real = distant._ask
    monkeypatch.setattr(distant, "_ask", lambda *given: asked.append(1) or real(*given))
    assert [int(text) for text in many.results()] == [n * n for n in range(900)]
    assert len(asked) == 3, "900 files in three goes"
    text = large.stdout()
    assert len(text) == 9_000_004 and text.endswith("xend\n")
    assert "".join(slow.follow()) == "1\n2\n3\n"
    monkeypatch.setattr("jupyter_rm.client.files.LIMIT", 1 << 20)
    with pytest.raises(LinkError, match="larger than 1 MiB"):
        large.stdout()


def test_what_cannot_be_read_is_said(far: Far, study: Session) -> None:
    active(study.pilot("ssh://alice@tb-slurm", cores=1))
    task = study.submit(jrm.Shell("rm -f stdout"))
    task.wait(60)
    assert task.stdout() == ""
    connection = study._connection

    def ask(*paths: str, pilot: int = 0, size: int = 10) -> object:
        return connection.request(FetchFiles(connection.number(), study.name, pilot, paths, 0, size))

    for paths, pilot in ((("relative",), 0), (("/a\n/etc/passwd",), 0), (("/x",), 7)):
        with pytest.raises(RequestError):
            ask(*paths, pilot=pilot)
    with pytest.raises(RequestError, match="too much"):
        ask("/x", size=1 << 30)
    canary = far.dir / "canary"
    answer = ask("/nothing/here", f"/$(touch {canary})", f"/`touch {canary}`; touch {canary}")
    assert answer.sizes == (-1, -1, -1)  # type: ignore[attr-defined]
    assert not canary.exists()
