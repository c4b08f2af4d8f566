"""The shape of a description: every key there may be, and the type of its value.

:mod:`.check` compares a description with ``SHAPE`` first and looks at meanings after that.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ..model.hooks import HOOKS
from .fields import AS, SPEC_KEYS
from .nodelist import FORMS as NODE_FORMS
from .records import DETAILS, JobState

# Ways to start processes on the nodes of a job; how each is called stands in :mod:`jupyter_rm.agent.launch.methods`.
LAUNCHES = (
    *("fork", "ssh", "srun", "mpirun", "mpiexec", "prte", "flux"),
    *("jsrun", "aprun", "ibrun", "qrsh", "pbsdsh", "blaunch", "simrun"),
)
# What a site's file may say for all pilots there beside attributes: fields of a pilot.
OF_PILOT = ("python", "env", "env_mode", "env_source", "env_base", "env_prefer", "sandbox", "launch", "connect")
# Ways over a network to a pilot's agent: the broker goes there, or the agent comes. Letters in files are the last.
WAYS, LETTERS = ("forward", "reverse"), "letters"
WAYS_TEXT = "auto, letters, or forward and reverse in an order, such as reverse,forward"
PROBE_TYPES = ("text", "int", "float", "bool", "list")
PROBE_PLACES = ("login", "node")
NODE_STATES = ("free", "busy", "mixed", "offline", "unknown")
RULE = {"match": "regex", "is": "text", "say": "text"}

# Words for types: a trailing "s" is a list of them, {"*": x} a table with names of one's own.
SHAPE: dict[str, Any] = {
    "title": "text",
    "help": "text",
    "source": "text",
    "extends": "text",
    "abstract": "flag",
    "detect": "texts",
    "id": "regex",
    "token_in": "text",
    "nothing": "texts",
    "launch": "texts",
    # Where the site is ("url"), and what a pilot there asks for when nothing else is said, by attribute.
    "site": {"*": "any"},
    # Shell lines of the site by moment, before those of each pilot; what is asked of it, to be told with each pilot.
    "hooks": dict.fromkeys(HOOKS, "lines"),
    # Paths there of environments in which tasks may run, by name.
    "envs": {"*": "text"},
    "probe": {
        "*": {
            "command": "command",
            "where": "text",
            "regex": "regex",
            "json": "text",
            "type": "text",
            "timeout_s": "number",
            "help": "text",
        }
    },
    # What is allowed on its login node.
    "login": {"resident": "flag", "sessions": "whole"},
    # Where one collection for all users of the site lies: a directory there, or a URL; whose word on jobs counts.
    "collect": {"shared": "text", "owner": "text", "url": "text"},
    "poll": {"every_s": "number", "least_s": "number", "nodes_s": "number", "queues_s": "number", "ids": "whole"},
    "attributes": {
        "*": {
            "type": "text",
            "help": "text",
            "label": "text",
            "unit": "text",
            "default": "any",
            "min": "any",
            "max": "any",
            "pattern": "regex",
            "max_length": "whole",
            "choices": "texts",
            "choices_from": "text",
            "required": "flag",
            "optional": "flag",
            "visible": "flag",
            "read_only": "flag",
            "depends": "text",
            "product": "texts",
            "separator": "text",
            "each": "flag",
            "map": {"*": "text"},
            "args": "texts",
            "args_false": "texts",
            "env": {"*": "text"},
        }
    },
    "ops": {
        "*": {
            "argv": "argv",
            "stdin": "text",
            "constant": "text",
            "env": {"*": "text"},
            "timeout_s": "number",
            "rc_ok": "wholes",
            "gone": "regex",
            "noise": "regex",
            "ids": "whole",
            "reader": "text",
        }
    },
    "readers": {
        "*": {
            "format": "text",
            "rows": "text",
            "columns": "texts",
            "delimiter": "text",
            "header": "regex",
            "skip": "regex",
            "empty": "regex",
            "pattern": "regex",
            "start": "regex",
            "pair": "regex",
            "join": "regex",
            "stream": "text",
            "must": "flag",
            "whole": "flag",
            "drop": {"*": "regex"},
            "fields": {"*": "field"},
        }
    },
    "states": {"*": "state"},
    "state_rules": {"*": RULE},
    "exits": {"*": "state"},
    "node_states": {"*": "text"},
    "reasons": {"*": "text"},
    "reason_rules": {"*": RULE},
    "errors": {
        "*": {
            "match": "regex",
            "say": "text",
            "hint": "text",
            "code": "text",
            "retry": "flag",
            "refused": "flag",
            "about": "text",
            "ops": "texts",
        }
    },
    "job": {
        "id": "texts",
        "name": "texts",
        "restarts": "texts",
        "tmp": "texts",
        "end": "texts",
        "limit_s": "texts",
        "nodes": "places",
    },
}


def _compiles(value: Any) -> bool:
    try:
        re.compile(value, re.MULTILINE)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def state_word(value: str) -> tuple[JobState, str] | None:
    """Return (state, detail) of ``"failed:timeout"``; None when there is no such state or detail."""
    state, _, detail = value.partition(":")
    if state not in [one.value for one in JobState] or (detail and detail not in DETAILS):
        return None
    return JobState(state), detail


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _argv(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_text(item) or _texts(item) for item in value)


def _places(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, dict)
        and set(one) in ({"var", "form"}, {"file_var", "form"})
        and all(map(_text, one.values()))
        and one["form"] in NODE_FORMS
        for one in value
    )


def _field(value: Any) -> bool:
    if isinstance(value, dict):
        path = value.get("path")
        return (
            not set(value) - SPEC_KEYS
            and (_text(path) or (_texts(path) and bool(path)))
            and value.get("as", "text") in AS
            and value.get("form", "words") in NODE_FORMS
            and value.get("unit", "s") in ("s", "m", "h", "b", "k", "g")
            and _compiles(value.get("match", ""))
            and isinstance(value.get("map", {}), dict)
        )
    return _text(value) or (_texts(value) and bool(value))


def _state(value: Any) -> bool:
    return _text(value) and state_word(value) is not None


def ways_in(text: str) -> tuple[str, ...] | None:
    """Return the ways over a network that a text asks for, in their order; None when it is not understood."""
    if text in ("", "auto"):
        return WAYS
    *first, last = text.split(",")
    named = first if last == LETTERS else [*first, last]
    return tuple(named) if set(named) <= set(WAYS) and len(set(named)) == len(named) else None


TYPE: dict[str, tuple[Callable[[Any], bool], str]] = {
    "text": (_text, "text"),
    "texts": (_texts, "a list of texts"),
    "flag": (lambda value: isinstance(value, bool), "true or false"),
    "number": (lambda value: _number(value) and value >= 0, "a number, 0 or more"),
    "whole": (lambda value: _number(value) and isinstance(value, int) and value >= 1, "a whole number, 1 or more"),
    "wholes": (lambda value: isinstance(value, list) and all(isinstance(i, int) for i in value), "whole numbers"),
    "regex": (lambda value: _text(value) and _compiles(value), "a regular expression"),
    "any": (lambda value: not isinstance(value, dict), "a value"),
    "lines": (lambda value: _text(value) or _texts(value), "a shell line, or a list of them"),
    "command": (lambda value: bool(value) and (_text(value) or _texts(value)), "a shell line, or a list of arguments"),
    "argv": (_argv, "a list of arguments, or of lists of arguments that vanish together"),
    "field": (_field, f"a path, a list of paths, or a table with {', '.join(sorted(SPEC_KEYS))}"),
    "places": (_places, 'a list of {var or file_var = "NAME", form = "..."}'),
    "state": (_state, f"{', '.join(s.value for s in JobState)}, with one of :{', :'.join(DETAILS)}"),
}
