"""Where each key of a TOML file stands: dotted path to line number, for provenance and for messages.

A scanner, not a reader: it trusts that the file was read as TOML already, and knows just enough of the language to step
over strings and arrays. Next: :mod:`.files`.
"""

from __future__ import annotations

import re

_KEY = re.compile(
    r"""\s*((?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*'))*)\s*="""
)
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*'""")


def _parts(text: str) -> list[str]:
    return [part.strip("\"'") for part in _PART.findall(text)]


def _skip_value(lines: list[str], at: int, column: int) -> int:
    """Return the line on which the value that begins at (at, column) ends."""
    depth, quote = 0, ""
    while at < len(lines):
        line = lines[at]
        while column < len(line):
            if quote:
                if quote[0] == '"' and line[column] == "\\":
                    column += 2
                elif line.startswith(quote, column):
                    column += len(quote)
                    quote = ""
                else:
                    column += 1
                continue
            sign = line[column]
            if sign == "#":
                break
            if sign in "\"'":
                quote = sign * 3 if line.startswith(sign * 3, column) else sign
                column += len(quote)
                continue
            depth += (sign in "[{") - (sign in "]}")
            column += 1
        if len(quote) != 3 and depth <= 0:
            return at
        if len(quote) == 1:
            quote = ""
        at, column = at + 1, 0
    return at


def key_lines(text: str) -> dict[str, int]:
    """Return the line (from 1) of every table and key of a TOML text, by dotted path."""
    lines = text.splitlines()
    out: dict[str, int] = {}
    table: list[str] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        if match := re.match(r"\s*\[{1,2}([^\[\]]+)\]{1,2}\s*(#.*)?$", line):
            table = _parts(match[1])
            for depth in range(1, len(table) + 1):
                out.setdefault(".".join(table[:depth]), at + 1)
        elif match := _KEY.match(line):
            path = [*table, *_parts(match[1])]
            out[".".join(path)] = at + 1
            end = _skip_value(lines, at, match.end())
            if line[match.end() :].lstrip().startswith("{"):
                for inner in re.finditer(r"""[{,]\s*([A-Za-z0-9_-]+)\s*=""", line[match.end() :]):
                    out.setdefault(".".join([*path, inner[1]]), at + 1)
            at = end
        at += 1
    return out
