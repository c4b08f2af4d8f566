"""Submissions sent all at once: one wait for all answers, all or nothing. Read next: :mod:`.connection`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from ..model.errors import JrmError, LinkError
from ..model.messages import Accepted, Refused, Submit
from .connection import Connection


def send_all(
    connection: Connection, submits: Sequence[Submit], timeout_s: float, undo: Callable[[list[int]], object]
) -> list[int]:
    """Send all, then wait for all; return their numbers.

    Args:
        undo: is called with the numbers of those that were accepted when another one was refused.

    Raises:
        JrmError: the first refusal. LinkError: no answer in time.
    """
    answers: list[Any] = [None] * len(submits)
    left = threading.Semaphore(0)
    for place, submit in enumerate(submits):

        def reply(message: Any, place: int = place) -> None:
            answers[place] = message
            left.release()

        connection.post(submit, reply)
    for _ in submits:
        if not left.acquire(timeout=timeout_s):
            raise LinkError("the broker did not answer in time", code="JRM-T02", hint="jrm broker status", retry=True)
    errors = [each for each in answers if isinstance(each, (JrmError, Refused))]
    if errors:
        numbers = [each.number for each in answers if isinstance(each, Accepted)]
        if numbers:
            undo(numbers)
        raise errors[0].error.error() if isinstance(errors[0], Refused) else errors[0]
    return [each.number for each in answers]
