"""Completion of ``%jrm`` lines: verbs, options, session names, uids, sites, all from what is known here already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..client.session import _open
from ..model.states import TaskState
from .words import CELL_PARSERS, LINE_PARSERS, NAME_VERBS, SITES, UID_VERBS, options

if TYPE_CHECKING:
    from .magics import Magics

MOST = 50


def complete(line: str, magics: Magics) -> list[str] | None:
    """Return what the last word of ``line`` (up to the cursor) may become; None when it is not a line of ours."""
    text = line.lstrip()
    cell = text.startswith("%%jrm")
    if not (cell or text.startswith("%jrm")):
        return None
    rest = text[len("%%jrm" if cell else "%jrm") :]
    if not rest[:1].isspace():
        return None
    words = rest.split()
    word = "" if rest[-1:].isspace() else words.pop()
    if not words:
        choices = list(CELL_PARSERS if cell else LINE_PARSERS)
    elif word.startswith("-"):
        choices = options(words[0], cell)
    else:
        choices = _values(words, magics)
    return [choice for choice in choices if choice.startswith(word)][:MOST]


def _values(words: list[str], magics: Magics) -> list[str]:
    verb, last = words[0], words[-1]
    session = magics.known_session
    if last == "--state":
        return [state.name for state in TaskState]
    if verb in NAME_VERBS:
        return sorted({name for _, name in _open})
    if verb == "help":
        return [*LINE_PARSERS, *CELL_PARSERS]
    if verb == "pilot" and len(words) == 1:
        return list(SITES)
    if session is None:
        return []
    ledger = session._replica.ledger
    if last == "--pilot":
        return [f"p.{row.number}" for row in ledger.pilots]
    if verb in UID_VERBS or last == "--after":
        uids = [f"t.{number}" for number in range(len(ledger.bulks) - 1, -1, -1)]
        uids += [
            f"t.{n}.{i}"
            for n in range(len(ledger.bulks) - 1, -1, -1)[:20]
            for i in range(min(10, len(ledger.bulks[n])))
        ]
        return uids + ([f"p.{row.number}" for row in ledger.pilots] if verb == "cancel" else [])
    return []


def matcher(magics: Magics) -> Any:
    """Return a matcher of IPython's second interface."""
    from IPython.core.completer import SimpleCompletion, context_matcher

    @context_matcher(identifier="jupyter_rm", priority=100)  # type: ignore[untyped-decorator]
    def jupyter_rm_matcher(context: Any) -> Any:
        found = complete(context.text_until_cursor.rpartition("\n")[2], magics)
        if found is None:
            return {"completions": [], "suppress": False}
        word = context.text_until_cursor
        fragment = "" if word[-1:].isspace() else word.split()[-1]
        return {
            "completions": [SimpleCompletion(text=each, type="magic") for each in found],
            "suppress": True,
            "matched_fragment": fragment,
            "ordered": True,
        }

    return jupyter_rm_matcher
