"""Completion of ``%jrm`` lines: verbs, options, session names, uids, sites, all from what is known here already."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..client import admin, listing
from ..client.session import _open
from ..model.errors import JrmError
from ..model.logs import LEVELS
from ..model.states import TaskState
from .words import CELL_PARSERS, JOB_VERBS, LINE_PARSERS, NAME_VERBS, UID_VERBS, options

if TYPE_CHECKING:
    from ..client.session import Session
    from .magics import Magics

MOST = 50
_ASSIGNED = re.compile(r"\s*[A-Za-z_]\w*\s*=\s*(?=%jrm\b)")
_IN_BULK = re.compile(r"t\.(\d+)\.")


def complete(line: str, magics: Magics) -> list[str] | None:
    """Return what the last word of ``line`` (up to the cursor) may become; None when it is not a line of ours."""
    text = _ASSIGNED.sub("", line, count=1).lstrip()
    cell = text.startswith("%%jrm")
    if not (cell or text.startswith("%jrm")):
        return None
    rest = text[len("%%jrm" if cell else "%jrm") :]
    if not rest[:1].isspace():
        return None
    words = rest.split()
    word = "" if rest[-1:].isspace() else words.pop()
    choices: Iterable[str]
    if not words:
        choices = list(CELL_PARSERS if cell else LINE_PARSERS)
    elif word.startswith("-"):
        choices = options(words[0], cell)
    else:
        choices = _chosen(words, cell) or _values(words, word, magics)
    return list(itertools.islice((choice for choice in choices if choice.startswith(word)), MOST))


def _chosen(words: list[str], cell: bool) -> list[str]:
    """Return the values that the grammar itself lists for the next word."""
    parser = (CELL_PARSERS if cell else LINE_PARSERS).get(words[0])
    if parser is None:
        return []
    for action in parser._actions:
        if words[-1] in action.option_strings:
            return [str(each) for each in action.choices or ()]
    free = [action for action in parser._actions if not action.option_strings]
    place = sum(not each.startswith("-") for each in words[1:])
    return [str(each) for each in free[place].choices or ()] if place < len(free) else []


def _values(words: list[str], word: str, magics: Magics) -> Iterable[str]:
    verb, last = words[0], words[-1]
    session = magics.known_session
    if last == "--state":
        return [state.name for state in TaskState]
    if last == "--level":
        return list(LEVELS)
    if verb in NAME_VERBS:
        return sorted({name for _, name in _open} | _in_the_broker())
    if verb == "help":
        return [*LINE_PARSERS, *CELL_PARSERS]
    if (verb in ("pilot", "form", "script") and len(words) == 1) or (verb == "site" and len(words) == 2):
        return sites(session)
    if verb == "export" and len(words) == 1:
        from ..views.windows import VIEWS

        return list(VIEWS)
    if verb == "sh" and len(words) == 1:
        from ..broker.sites import own_files

        return ["local", *own_files(), *hosts()]
    if last in ("--queue", "--project") and verb in ("pilot", "script") and len(words) > 2:
        return _offered(words[1], last)
    if last == "--set":
        return _attributes(words[1])
    if session is None:
        return []
    ledger = session._replica.ledger
    if last == "--pilot" or (verb in JOB_VERBS and len(words) == 1):
        return [f"p.{row.number}" for row in ledger.pilots]
    if verb == "logs":
        return ["broker", *(f"p.{row.number}" for row in ledger.pilots if not row.state.final)]
    if verb == "services":
        return [f"{name}=" for name in ledger.given]
    if last == "--services":
        return [*ledger.services, *ledger.given]
    if verb in UID_VERBS or last == "--after":
        return _uids(session, word, verb)
    return []


def _uids(session: Session, word: str, verb: str) -> Iterable[str]:
    """Return bulks, newest first, then tasks of the newest; all tasks of the bulk that is begun in ``word``."""
    bulks = session._replica.ledger.bulks
    begun = _IN_BULK.match(word)
    if begun:
        number = int(begun[1])
        return (f"t.{number}.{index}" for index in range(len(bulks[number]) if number < len(bulks) else 0))
    newest = range(len(bulks) - 1, -1, -1)
    uids = [f"t.{number}" for number in newest]
    uids += [f"t.{number}.{index}" for number in newest[:20] for index in range(min(10, len(bulks[number])))]
    pilots = [f"p.{row.number}" for row in session._replica.ledger.pilots]
    return uids + (pilots if verb in ("cancel", "explain") else [])


def _in_the_broker() -> set[str]:
    """Return the names of open sessions; starts no broker to learn them."""
    try:
        return {each.name for each in listing.sessions() if each.state == "open"} if admin.status() else set()
    except JrmError:
        return set()


def sites(session: Session | None) -> list[str]:
    """Return what may be asked for a pilot: known sites, those this session used, beginnings of URLs."""
    from ..batch import known
    from ..broker.sites import own_files

    used = [] if session is None else [row.spec.site for row in session._replica.ledger.pilots]
    systems = [f"{name}+ssh://" for name in sorted(known()) if name not in ("base", "local", "sim")]
    first = ["local", "noop", *own_files(), *reversed(used)]
    return list(dict.fromkeys([*first, "sim://", "ssh://", "auto+ssh://", *systems]))


def hosts() -> list[str]:
    """Return the aliases of the user's SSH configuration."""
    try:
        lines = (Path.home() / ".ssh" / "config").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    words = [line.split() for line in lines if line.strip().lower().startswith("host ")]
    return [name for each in words for name in each[1:] if not set(name) & set("*?!")]


def _offered(site: str, option: str) -> list[str]:
    """Return what was found at a site for an option; asks nobody."""
    from ..client.discover import known

    found = known(site)
    return list(found.projects) if option == "--project" else [each.name for each in found.queues if each.open]


def _attributes(site: str) -> list[str]:
    from ..views.forms import offered, system_of

    try:
        return [f"{each.name}=" for each in offered(system_of(site), site)]
    except JrmError:
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
