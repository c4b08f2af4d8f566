"""The batch script: one constant text, whatever the job is.

Nothing a person wrote ever becomes part of a script. Parameters stand in a spec file that only its owner can read; its
path reaches the script as the first argument or, where a batch system passes none, as JRM_SPEC. Next: :mod:`.system`.
"""

from __future__ import annotations

from ..model.errors import RequestError

SPEC_MARK = "jupyter_rm spec 1"

BATCH_SCRIPT = b"""#!/bin/sh
# The same text for every job. What differs stands in the file named by the first argument, or by JRM_SPEC:
# line 1 a mark, line 2 the Python to use, line 3 the program to run with it; the program reads the rest.
spec=${1:-${JRM_SPEC:-}}
if [ ! -r "$spec" ]; then
    echo "jupyter_rm: the spec file '$spec' cannot be read on $(hostname)" >&2
    exit 64
fi
{ IFS= read -r mark && IFS= read -r python && IFS= read -r program; } < "$spec"
if [ "$mark" != "jupyter_rm spec 1" ] || [ -z "$program" ]; then
    echo "jupyter_rm: '$spec' is not a spec file" >&2
    exit 65
fi
if [ ! -x "$python" ]; then
    echo "jupyter_rm: no Python at '$python' on $(hostname)" >&2
    exit 66
fi
exec "$python" "$program" "$spec"
"""


def spec_bytes(python: str, program: str, body: bytes = b"") -> bytes:
    """Return the bytes of a spec file, to be written with mode 0600.

    Args:
        python: absolute path of the interpreter on the node; program: absolute path of what it runs.
        body: whatever the program wants to find below the three lines.

    Raises:
        RequestError: a path is not absolute or holds a line break or NUL.
    """
    for field, path in (("python", python), ("program", program)):
        if not path.startswith("/") or any(sign in path for sign in "\n\r\0"):
            raise RequestError(f"{field}: {path!r} is not an absolute path", hint="give a full path", code="JRM-Q20")
    head = f"{SPEC_MARK}\n{python}\n{program}\n".encode("utf-8", "surrogateescape")
    return head + body
