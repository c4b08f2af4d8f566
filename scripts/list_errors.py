"""Write docs/errors.md from the code: every error code, who must act, what it says and what to do next.

    scripts/list_errors.py            write the page
    scripts/list_errors.py --check    exit 1 when the page is not what the code says

Reads the source, never runs it: a code is a string ``JRM-<letter><number>``, and what is said about it is taken from
the call it stands in. Read next: ``jupyter_rm/model/errors.py``.
"""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from pages import keep

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "errors.md"
CODE = re.compile(r"JRM-([A-Z])[0-9]{2,3}")
KINDS = ("RequestError", "SiteError", "LinkError", "ProtocolError", "TaskError")

HEAD = """\
# Error codes

Written from the code by `scripts/list_errors.py` (`make docs`); do not edit by hand. Every error of this package is a
`jupyter_rm.JrmError` with a stable `.code`, a `.hint` (what to do next) and `.retry` (may the same call succeed later
without any change?). The class says who must act:

| class | who must act |
|---|---|
| `RequestError` | you: the request is impossible or malformed; nothing was submitted |
| `SiteError` | somebody at the machine: batch system, filesystem, quota |
| `LinkError` | nobody yet: two programs cannot talk right now; work goes on |
| `ProtocolError` | the maintainers, or whoever mixed two versions |
| `TaskError` | the author of the task: exit code, signal, exception, last output |

Words in braces stand for what the message names."""


@dataclass
class Entry:
    """What the source says about one code."""

    kinds: set[str] = field(default_factory=set)
    says: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    where: set[str] = field(default_factory=set)


def words(node: ast.expr | None) -> str:
    """Return the text of a literal or f-string, with ``{name}`` for what is filled in; empty for other things."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(words(part) if isinstance(part, ast.Constant) else filled(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return (words(node.left) or "{...}") + (words(node.right) or "{...}")
    if isinstance(node, ast.IfExp):
        return words(node.body) or words(node.orelse)
    return ""


def filled(node: ast.expr) -> str:
    """Return what stands for a filled-in value: its name in braces when it has one."""
    value = node.value if isinstance(node, ast.FormattedValue) else node
    name = value.id if isinstance(value, ast.Name) else value.attr if isinstance(value, ast.Attribute) else "..."
    return f"{{{name}}}"


def called(node: ast.Call) -> str:
    """Return the last part of the name of what is called."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def collect(tree: ast.AST, where: str, entries: dict[str, Entry]) -> None:
    """Add what one module says to ``entries``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name in KINDS:
            for line in node.body:
                if isinstance(line, ast.Assign) and CODE.fullmatch(words(line.value)):
                    entry = entries.setdefault(words(line.value), Entry())
                    entry.kinds.add(node.name)
                    entry.where.add(where)
                    entry.says.append("(when nothing more precise is known)")
        if not isinstance(node, ast.Call) or called(node) == "get":  # a code looked up, not one given
            continue
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        for code in filter(CODE.fullmatch, map(words, given)):
            entry = entries.setdefault(code, Entry())
            entry.where.add(where)
            if called(node) in KINDS:
                entry.kinds.add(called(node))
            text = next((words(arg) for arg in node.args if words(arg) and not CODE.fullmatch(words(arg))), "")
            hint = next((words(keyword.value) for keyword in node.keywords if keyword.arg == "hint"), "")
            if text and text not in entry.says:
                entry.says.append(text)
            if hint and hint not in entry.hints:
                entry.hints.append(hint)


def cell(texts: list[str]) -> str:
    """Return texts as one cell of a table."""
    return "<br>".join(sorted(" ".join(text.split()).replace("|", "\\|").replace("<", "&lt;") for text in texts))


def page() -> str:
    """Return the whole page."""
    entries: dict[str, Entry] = {}
    for path in sorted((ROOT / "jupyter_rm").rglob("*.py")):
        where = str(path.relative_to(ROOT))
        collect(ast.parse(path.read_text(encoding="utf-8"), where), where, entries)
    lines = [HEAD, "", "| code | class | it says | next | raised in |", "|---|---|---|---|---|"]
    for code, entry in sorted(entries.items()):
        kinds = ", ".join(f"`{kind}`" for kind in sorted(entry.kinds))
        where = ", ".join(f"`{name.removeprefix('jupyter_rm/')}`" for name in sorted(entry.where))
        lines.append(f"| {code} | {kinds} | {cell(entry.says)} | {cell(entry.hints)} | {where} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(keep(PAGE, page()))
