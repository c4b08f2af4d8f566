"""A function made with one Python is not run by another: the call fails with both versions, instead of a crash."""

from __future__ import annotations

import pytest

from jupyter_rm.client import functions
from jupyter_rm.client.session import Session


def test_code_for_another_python_is_refused_by_the_worker(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    assert session.call(lambda x: x + 1, 41).result(timeout=60) == 42
    monkeypatch.setattr(functions, "_PYTHON", "3.99")
    task = session.call(lambda x: x + 2, 40)
    with pytest.raises(RuntimeError, match=r"Python 3\.99, and the pilot runs Python 3\.\d+, .* use Python 3\.99"):
        task.result(timeout=60)
    assert task.cause == "BAD_PAYLOAD", task.cause
    with pytest.raises(RuntimeError, match=r"made with Python 3\.99"):
        session.call(map, lambda x: x, [1]).result(timeout=60)
    # What names no code travels as ever.
    assert session.call(divmod, 7, 2).result(timeout=60) == (3, 1)
