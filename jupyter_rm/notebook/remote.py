"""The worker's half of ``%%jrm python``: runs a cell's text with the variables that travelled with it."""

from __future__ import annotations

import ast
import linecache
from typing import Any


def run_cell(source: str, inputs: dict[str, Any], outputs: tuple[str, ...]) -> tuple[dict[str, Any], Any]:
    """Run ``source`` with ``inputs`` as variables; return ({name: value} of ``outputs``, value of a last expression).

    Raises:
        NameError: an output was never assigned. Whatever the source raises.
    """
    name = "<%%jrm python>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    tree = ast.parse(source, name)
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]
    space: dict[str, Any] = {"__name__": "__main__", **inputs}
    exec(compile(tree, name, "exec"), space)  # noqa: S102 (running the user's cell is what this is for)
    value = eval(compile(last, name, "eval"), space) if last is not None else None  # noqa: S307
    missing = [each for each in outputs if each not in space]
    if missing:
        raise NameError(f"the cell never assigned {', '.join(missing)}")
    return {each: space[each] for each in outputs}, value


def names_bound(source: str) -> set[str]:
    """Return the names a cell gives a meaning itself, somewhere."""
    found = set()
    for node in ast.walk(ast.parse(source, "<%%jrm python>")):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler, ast.MatchAs)):
            found.add(node.name or "")
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.arg):
            found.add(node.arg)
    return found


def names_read(source: str) -> list[str]:
    """Return the names a cell reads, in order; SyntaxError when it is no Python."""
    found: dict[str, None] = {}
    for node in ast.walk(ast.parse(source, "<%%jrm python>")):
        if isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Load, ast.Del)):
            found[node.id] = None
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = None
    return list(found)
