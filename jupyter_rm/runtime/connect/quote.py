"""The one place where a list of arguments becomes a command line.

SSH hands one string to the user's login shell, which may be sh, bash, dash, ksh, zsh, tcsh or fish. Their quoting rules
differ: in tcsh ``!`` and a line break are special even between single quotes, in fish a backslash is. So the line for
the login shell holds nothing between its single quotes but printable ASCII without quote, ``!`` and any backslash that
is not before a digit; a backslash before a digit is plain text to all of them. ``/bin/sh`` turns that back into the
script with ``printf %b``.

Knows: shells. Does not know: SSH. Read next: ``tests/connect/test_connect_quote.py``, where arguments go there and
back.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from jupyter_rm.model.errors import RequestError

LIMIT = 120_000  # bytes; Linux takes no argument longer than 128 KiB, and the line is one argument of the login shell
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_PLAIN = frozenset(b'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 "#$%&()*+,-./:;<=>?@[]^_`{|}~')


def check_argv(argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
    """Refuse arguments that no system can pass on.

    Raises:
        RequestError: JRM-Q71, naming the argument.
    """
    if isinstance(argv, str) or not argv:
        raise RequestError("argv: a list of at least one argument is needed", code="JRM-Q71", hint='["ls", "-l"]')
    for number, word in enumerate(argv):
        if "\0" in word:
            raise RequestError(
                f"argv[{number}]: holds a NUL character", code="JRM-Q71", hint="no system can pass it on"
            )
    if not argv[0] or argv[0].startswith("-"):
        raise RequestError(f"argv[0]: {argv[0]!r} is not a program", code="JRM-Q71", hint="name a program or its path")
    for name, value in (env or {}).items():
        if not _NAME.match(name):
            raise RequestError(f"env: {name!r} is not a variable name", code="JRM-Q71", hint="letters, digits and _")
        if "\0" in value:
            raise RequestError(f"env[{name!r}]: holds a NUL character", code="JRM-Q71", hint="no system can pass it on")


def command_line(argv: Sequence[str], env: Mapping[str, str] | None = None, mark: str = "") -> str:
    """Return a line that makes any login shell run ``argv``, byte for byte, with ``env`` added to the environment.

    Secrets do not belong in either: command lines are public on the remote machine. Send them through stdin.

    Args:
        argv: program and arguments; text as Python decodes file names (surrogates stand for other bytes).
        env: variables to set.
        mark: a word that is printed with the process id on a line of its own before the program starts.

    Raises:
        RequestError: JRM-Q71, a NUL, no program, a bad variable name, or too long.
    """
    check_argv(argv, env)
    script = f"printf '{mark} %d\\n' $$;" if mark else ""
    script += "".join(f"export {name}={_single(value)};" for name, value in (env or {}).items())
    # The subshell's exec always means a program, never a builtin or function; the shell above it stays to turn a death
    # by signal into 128 + n, which survives every transport.
    script += f"(exec {' '.join(map(_single, argv))});exit $?"
    line = f"exec /bin/sh -c 'eval \"$(printf %b \"$0\")\"' '{encoded(script)}'"
    if len(line) > LIMIT:
        raise RequestError(
            f"argv: {len(line)} bytes as a command line; the limit is {LIMIT}",
            code="JRM-Q71",
            hint="pass it through stdin or a file",
        )
    return line


def _single(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def encoded(script: str) -> str:
    """Return text that ``printf %b`` turns back into ``script`` and that may stand between single quotes anywhere."""
    return "".join(chr(byte) if byte in _PLAIN else f"\\0{byte:03o}" for byte in os.fsencode(script))
