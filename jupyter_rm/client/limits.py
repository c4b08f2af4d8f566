"""What cannot travel to a pilot, found before it is sent: text that is no text, and things that are too large.

One oversized order would stop everything behind it, so it is refused here, at once and by name. Agents take frames up
to :data:`jupyter_rm.wire.codec.AGENT_LIMIT`; these limits stay well below. Read next: :mod:`.connection`.
"""

from __future__ import annotations

import msgspec
import numpy as np

from ..model.columns import Column
from ..model.describe import Template
from ..model.errors import RequestError
from ..model.messages import Submit

MIB = 1 << 20
CALL_MOST = 32 * MIB  # the pickle of one function, or of one call's arguments
TEXT_MOST = 8 * MIB  # all texts of one description
VALUE_MOST = 1 * MIB  # one value of a parameter column


def check(message: Submit) -> None:
    """Refuse a submission that cannot reach a pilot.

    Raises:
        RequestError: JRM-Q05 text that is not UTF-8, JRM-Q34 something too large; naming the field.
    """
    _check_template(message.template)
    for name, column in message.columns.items():
        size = _largest(column)
        if size > VALUE_MOST:
            raise RequestError(
                f"{name}: a value of {size / MIB:.1f} MiB; the limit is {VALUE_MOST // MIB} MiB",
                hint="write it to a file and pass the file's path",
                code="JRM-Q34",
            )
    if message.payload is not None:
        check_call("the arguments of a call", _largest(message.payload))


def check_call(what: str, size: int) -> None:
    """Refuse a pickle of ``size`` bytes that is too large to travel.

    Raises:
        RequestError: JRM-Q34.
    """
    if size > CALL_MOST:
        raise RequestError(
            f"{what}: {size / MIB:.1f} MiB when pickled; the limit is {CALL_MOST // MIB} MiB",
            hint="write large data to a file and pass the file's path",
            code="JRM-Q34",
        )


def _check_template(template: Template) -> None:
    try:
        size = len(msgspec.msgpack.encode(template))
    except UnicodeEncodeError:
        raise RequestError(
            f"{_not_text(template)}: holds bytes that are not UTF-8 text",
            hint="rename the file; or give the bytes in a column of s.array",
            code="JRM-Q05",
        ) from None
    if size > TEXT_MOST:
        raise RequestError(
            f"a description of {size / MIB:.1f} MiB; the limit is {TEXT_MOST // MIB} MiB",
            hint="write long lists to a file and pass the file's path",
            code="JRM-Q34",
        )


def _not_text(template: Template) -> str:
    for field in template.__struct_fields__:
        try:
            msgspec.msgpack.encode(getattr(template, field))
        except UnicodeEncodeError:
            return field
    return "description"


def _largest(column: Column) -> int:
    """Return the size of a column's largest value, bytes."""
    if column.kind == "const":
        return len(column.first) if isinstance(column.first, (str, bytes)) else 0
    if not column.ends:
        return 0
    ends = np.frombuffer(column.ends, "<u8")
    return int(np.diff(ends, prepend=np.uint64(0)).max()) if len(ends) else 0
