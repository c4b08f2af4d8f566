"""Readers: from a command's output to rows of raw fields. Five formats: json, table, xml, regex, blocks.

A reader either understands the whole text or raises Unreadable: half a listing concludes nothing. Rows are mappings or
XML elements; which field means what is :mod:`.fields`' business. Nothing here knows a batch system.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import msgspec

LARGEST = 256 * 1024 * 1024  # characters
Row = Any


class Unreadable(ValueError):
    """The text is not what the description says; the message says what was met instead."""


class Reader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to read one command's output, as a description declares it; see ``docs/batch-systems.md`` for each key."""

    format: str
    rows: str = ""
    columns: list[str] = []
    delimiter: str = ""
    header: str = ""
    skip: str = ""
    empty: str = ""
    pattern: str = ""
    start: str = ""
    pair: str = ""
    join: str = ""
    stream: str = "stdout"
    must: bool = False
    whole: bool = False
    drop: dict[str, str] = {}
    fields: dict[str, Any] = {}


FORMATS = ("json", "table", "xml", "regex", "blocks")


def _no_constant(text: str) -> None:
    raise Unreadable(f"{text} is not JSON")


def _json(reader: Reader, text: str) -> list[Row]:
    # Warnings of login scripts and of the command itself may stand before and after the document.
    start = min((at for at in (text.find("{"), text.find("[")) if at >= 0), default=-1)
    if start < 0:
        raise Unreadable("there is no JSON in it")
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    rows: list[Row] = []
    found = False
    if reader.rows == "lines":
        for line in filter(str.strip, text.splitlines()):
            rows.append(decoder.decode(line))
        return rows
    while True:
        try:
            document, end = decoder.raw_decode(text, start)
        except ValueError:
            # A line of a warning may begin with a bracket: "[warning] ...". The document starts on a later line.
            following = [at for at in (text.find("\n{", start), text.find("\n[", start)) if at >= 0]
            if found or not following:
                raise
            start = min(following) + 1
            continue
        if not isinstance(document, (dict, list)):
            raise Unreadable("the JSON is not an object or a list")
        found = True
        path = _way(reader.rows, document)
        rows += [{**row, "@key": key} if isinstance(row, dict) else row for key, row in _walk(document, path, "")]
        if not text[end:].lstrip().startswith(("{", "[")):
            return rows
        start = end + (len(text) - end - len(text[end:].lstrip()))


def _way(rows: str, document: Any) -> list[str]:
    """Return the steps to the rows: of the ways in ``a.*|*|.`` the first that fits; ``.`` is the document itself."""
    for way in (rows or ".").split("|"):
        path = [] if way == "." else way.split(".")
        if not path or path[0] == "*" or (isinstance(document, dict) and path[0] in document):
            return path
    raise Unreadable(f"there is no {rows!r} in the JSON")


def _walk(value: Any, path: list[str], key: str) -> Iterator[tuple[str, Any]]:
    if not path:
        yield key, value
    elif path[0] == "*":
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for name, item in items:
            yield from _walk(item, path[1:], str(name))
    elif isinstance(value, dict) and path[0] in value:
        yield from _walk(value[path[0]], path[1:], path[0])


def _lines(reader: Reader, text: str) -> list[str]:
    lines = [line.rstrip("\r") for line in text.split("\n")]
    if reader.skip:
        lines = [line for line in lines if not re.search(reader.skip, line)]
    return [line for line in lines if line.strip()]


def _table(reader: Reader, text: str) -> list[Row]:
    lines = _lines(reader, text)
    if reader.header:
        for number, line in enumerate(lines):
            if re.search(reader.header, line):
                lines = lines[number + 1 :]
                break
        else:
            if lines or not reader.empty:
                raise Unreadable("its header is missing")
    rows = []
    for line in lines:
        if reader.delimiter:
            words = line.split(reader.delimiter, len(reader.columns) - 1)
        else:
            words = line.split(None, len(reader.columns) - 1)
        if len(words) != len(reader.columns):
            raise Unreadable(f"a line has {len(words)} columns, not {len(reader.columns)}: {line[:120]!r}")
        rows.append({name: word.strip() for name, word in zip(reader.columns, words, strict=True)})
    return rows


def _xml(reader: Reader, text: str) -> list[Row]:
    start = text.find("<")
    if start < 0:
        if reader.empty and not text.strip():
            return []
        raise Unreadable("there is no XML in it")
    body = text[start : text.rfind(">") + 1]
    if re.search(r"<!(DOCTYPE|ENTITY)", body, re.IGNORECASE):
        raise Unreadable("a document type in XML is not accepted")
    root = ElementTree.fromstring(body)  # noqa: S314 - entities are refused above
    if reader.header and not re.fullmatch(reader.header, root.tag):
        raise Unreadable(f"the XML is a <{root.tag}>")
    return list(root.iterfind(reader.rows))


def _regex(reader: Reader, text: str) -> list[Row]:
    return [match.groupdict() for match in re.finditer(reader.pattern, text, re.MULTILINE)]


def _blocks(reader: Reader, text: str) -> list[Row]:
    if reader.join:
        text = re.sub(reader.join, "", text)
    starts = [match.start() for match in re.finditer(reader.start, text, re.MULTILINE)]
    rows: list[Row] = []
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        row: dict[str, str] = {}
        for match in re.finditer(reader.pair, text[start:end], re.MULTILINE):
            row.setdefault(match["key"].strip(), match["value"].strip())
        rows.append(row)
    if not rows and text.strip() and not reader.empty:
        raise Unreadable("no block begins in it")
    return rows


_READ = {"json": _json, "table": _table, "xml": _xml, "regex": _regex, "blocks": _blocks}


def read_rows(reader: Reader, text: str) -> list[Row]:
    """Return the rows of ``text``.

    Raises:
        Unreadable: the text is cut, of another format, or has no row although the description says it must.
    """
    if len(text) > LARGEST:
        raise Unreadable(f"{len(text)} characters are too many")
    if reader.empty and re.search(reader.empty, text):
        return []
    if (reader.whole or reader.delimiter) and text and not text.endswith("\n"):
        # Every command ends its last line. One that does not was cut: the last field may be half a number.
        raise Unreadable("the last line is cut off")
    try:
        rows = _READ[reader.format](reader, text)
    except Unreadable:
        raise
    except (ValueError, ElementTree.ParseError, RecursionError, KeyError, IndexError, SyntaxError) as error:
        raise Unreadable(f"{type(error).__name__}: {error}"[:200]) from None
    if reader.must and not rows:
        raise Unreadable("what was looked for is not in it")
    return rows
