"""Conditions of attributes: ``exclusive``, ``queue == 'gpu' and not (debug or nodes == 1)``.

A name alone is true when it has a value other than false, 0 and the empty text. A small reader of its own, so that a
description can hold no code. Read next: :mod:`.values`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_TOKEN = re.compile(r"\s*(?:(?P<op>==|!=|\(|\))|'(?P<text>[^']*)'|(?P<word>[A-Za-z0-9_.+-]+))")


class ConditionError(ValueError):
    """A condition that cannot be read."""


def _tokens(text: str) -> list[tuple[str, str]]:
    out, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if not match:
            raise ConditionError(f"{text[at:].strip()!r} is not understood")
        kind = str(match.lastgroup)
        word = match[kind]
        out.append((word, word) if kind == "op" or (kind == "word" and word in ("and", "or", "not")) else (kind, word))
        at = match.end()
    return out


@dataclass(slots=True)
class _Reader:
    """Recursive descent over the tokens; ``values`` None only checks the writing and collects names."""

    tokens: list[tuple[str, str]]
    values: Mapping[str, object] | None
    names: set[str]
    at: int = 0
    depth: int = 0

    def next(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        if self.at >= len(self.tokens):
            raise ConditionError("it ends too early")
        self.at += 1
        return self.tokens[self.at - 1][1]

    def any_of(self) -> bool:
        result = self.all_of()
        while self.next() == "or":
            self.take()
            result = self.all_of() or result
        return result

    def all_of(self) -> bool:
        result = self.one()
        while self.next() == "and":
            self.take()
            result = self.one() and result
        return result

    def one(self) -> bool:
        self.depth += 1
        if self.depth > 50:
            raise ConditionError("it is nested too deep")
        try:
            if self.next() == "not":
                self.take()
                return not self.one()
            if self.next() == "(":
                self.take()
                result = self.any_of()
                if self.next() != ")":
                    raise ConditionError("a ')' is missing")
                self.take()
                return result
            if self.next() != "word":
                raise ConditionError(f"{self.take()!r} stands where an attribute belongs")
            name = self.take()
            self.names.add(name)
            value = None if self.values is None else self.values.get(name)
            if self.next() not in ("==", "!="):
                return value not in (None, False, 0, "", ())
            equal = self.take() == "=="
            if self.next() not in ("word", "text"):
                raise ConditionError(f"a value is missing after {name!r}")
            said = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            return (said == self.take()) is equal
        finally:
            self.depth -= 1


def _run(text: str, values: Mapping[str, object] | None) -> tuple[bool, set[str]]:
    reader = _Reader(_tokens(text), values, set())
    result = reader.any_of()
    if reader.at != len(reader.tokens):
        raise ConditionError(f"{reader.take()!r} is not understood")
    return result, reader.names


def holds(text: str, values: Mapping[str, object]) -> bool:
    """Say whether condition ``text`` is true for ``values`` (attributes without a value are absent or None)."""
    return _run(text, values)[0]


def names(text: str) -> set[str]:
    """Return the attributes a condition speaks of; ConditionError when it cannot be read."""
    return _run(text, None)[1]
