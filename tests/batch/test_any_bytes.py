"""Whatever a batch system prints, reading it gives records or a SiteError that concludes nothing."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transcript import PLACE

from jupyter_rm.batch import Acknowledged, BatchError, BatchSystem, JobRecord, JobState, known, load
from jupyter_rm.batch.fields import convert
from jupyter_rm.batch.nodelist import FORMS, MOST, of_form
from jupyter_rm.model.errors import SiteError

NAMES = sorted(set(known()) - {"base"})
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@cache
def system(name: str) -> BatchSystem:
    return load(name)


@cache
def texts() -> list[bytes]:
    """Every transcript there is: the best place to start breaking things from."""
    return [
        path.read_bytes().partition(b"--- stdout\n")[2] or path.read_bytes()
        for path in sorted(PLACE.rglob("*.*"))
        if path.is_file()
    ]


def read_all(name: str, stdout: bytes, stderr: bytes, rc: int | None) -> None:
    one = system(name)
    for op in one.ops:
        try:
            answer = one.read(op, stdout, stderr, rc, asked=["12"])
        except BatchError as error:
            assert isinstance(error, SiteError) and error.code and error.hint and error.op == op
            assert len(str(error)) < 2000
            continue
        if isinstance(answer, list):
            missing = [record for record in answer if isinstance(record, JobRecord) and not record.raw_state]
            assert all(record.state is JobState.UNKNOWN for record in missing), "a conclusion out of nothing"
        else:
            assert isinstance(answer, Acknowledged) or answer.id


@pytest.mark.parametrize("name", NAMES)
@QUICK
@given(st.binary(max_size=400), st.binary(max_size=100), st.sampled_from([0, 0, 0, 1, 35, 127, 153, 255, -9, None]))
def test_arbitrary_bytes(name: str, stdout: bytes, stderr: bytes, rc: int | None) -> None:
    read_all(name, stdout, stderr, rc)


@pytest.mark.parametrize("name", NAMES)
@QUICK
@given(st.data())
def test_real_output_cut_mixed_and_damaged(name: str, data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(texts()))[:3000]
    low = data.draw(st.integers(0, len(text)))
    high = data.draw(st.integers(low, len(text)))
    patch = data.draw(
        st.binary(max_size=12) | st.sampled_from([b"|", b"\n", b"[", b"{", b"\x00", b'"', b"9" * 30, b"<!DOCTYPE x>"])
    )
    read_all(name, text[:low] + patch + text[high:], data.draw(st.sampled_from([b"", b"warning: x\n"])), 0)


@QUICK
@given(st.text(max_size=60))
def test_node_lists(text: str) -> None:
    for form in FORMS:
        try:
            nodes = of_form(form, text)
        except SiteError:
            continue
        assert len(nodes) <= MOST and all(host and isinstance(slots, int) for host, slots in nodes)


@QUICK
@given(
    st.sampled_from(["int", "float", "time", "duration", "memory", "bool", "words", "exit", "exit_colon", "exit_pbs",
                     "wait_status", "count", "runs", "text"]),
    st.text(max_size=40) | st.floats() | st.integers() | st.none() | st.lists(st.text(max_size=5), max_size=3),
)  # fmt: skip
def test_conversions(kind: str, raw: object) -> None:
    convert(kind, raw)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"jobs":' * 50_000,
        '{"jobs": [' + "9" * 10_000 + "]}",
        "<a>" * 50_000,
        "n[0-99999999999]",
        "\0" * 1000,
    ],
    ids=["brackets", "nested", "digits", "tags", "range", "zeros"],
)
@pytest.mark.parametrize("name", ["slurm-json", "sge", "slurm", "torque", "pbs"])
def test_bombs(name: str, text: str) -> None:
    read_all(name, text.encode(), b"", 0)


def test_an_entity_bomb_is_refused() -> None:
    bomb = '<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a "aaaaaaaaaa"><!ENTITY c "&a;&a;">]><job_info>&c;</job_info>'
    with pytest.raises(BatchError, match="document type"):
        system("sge").read("status", bomb)


def test_a_listing_that_is_cut_is_no_listing() -> None:
    files = {
        "slurm": "slurm-22.05/status.txt",
        "sge": "sge-8.1.9/status.txt",
        "slurm-json": "slurm-22.05/status-json.txt",
        "pbs": "openpbs-23.06.06/qstat-f.json",
        "flux": "flux-0.88/jobs.json",
    }
    for name, file in files.items():
        whole = (PLACE / file).read_text()
        text = whole.partition("--- stdout\n")[2] or whole
        for part in (text[:-3], text[: len(text) // 2], text[:20], ""):
            if name == "slurm" and (not part or part.endswith("\n")):
                continue  # squeue prints nothing when it has nothing to list; and whole lines are whole lines
            with pytest.raises(BatchError) as caught:
                system(name).read("status", part)
            assert caught.value.retry and not caught.value.refused
