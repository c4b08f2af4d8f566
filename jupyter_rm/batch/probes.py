"""What a site is asked for the facts of its pilots: ``[probe.NAME]`` of its file, and how an answer becomes a value.

Text in, values out; the command is run by whoever is there. Read next: :mod:`jupyter_rm.agent.facts` (on the pilot's
own node), :mod:`jupyter_rm.broker.facts` (on the login machine).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ..model.late import Value

LOGIN, NODE = "login", "node"
LONGEST, MOST = 4096, 64
TIMEOUT_S = 20.0
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0", "")


def chosen(probes: Mapping[str, Mapping[str, Any]], where: str) -> dict[str, Mapping[str, Any]]:
    """Return the probes that run at a place: ``login`` (when none is said) or ``node``."""
    return {name: probe for name, probe in probes.items() if probe.get("where", LOGIN) == where}


def argv_of(probe: Mapping[str, Any]) -> list[str]:
    """Return the command of a probe: arguments as they are, or a line of its author for a shell."""
    command = probe["command"]
    return ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)


def value_of(probe: Mapping[str, Any], output: str) -> Value:
    """Return the value in what a probe's command printed.

    Args:
        probe: ``regex`` (its group ``value``, else its first, else the whole match) or ``json`` (a dotted path), and
            ``type``: text, int, float, bool or list (lines, or the items of a JSON list).

    Raises:
        ValueError: it is not there, or not of that type; the text says what was found.
    """
    found: Any = output.strip()
    if pattern := probe.get("regex"):
        match = re.search(pattern, output, re.MULTILINE)
        if match is None:
            raise ValueError(f"nothing fits {pattern!r} in {_short(output)}")
        found = match["value"] if "value" in match.groupdict() else match[1] if match.groups() else match[0]
    elif "json" in probe:
        found = _inside(json.loads(output), str(probe["json"]), output)
    return _typed(str(probe.get("type", "text")), found)


def _inside(value: Any, path: str, output: str) -> Any:
    for part in [part for part in path.split(".") if part]:
        if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        else:
            raise ValueError(f"there is no {path!r} in {_short(output)}")
    return value


def _typed(kind: str, found: Any) -> Value:
    if kind == "list":
        items = found if isinstance(found, list) else str(found).splitlines()
        return tuple(str(item)[:LONGEST] for item in items if str(item).strip())[:1000]
    if kind == "bool":
        word = str(found).strip().lower()
        if word not in (*_TRUE, *_FALSE):
            raise ValueError(f"{_short(str(found))} is not true or false")
        return word in _TRUE
    if kind == "int":
        return int(found)
    if kind == "float":
        return float(found)
    text = found if isinstance(found, str) else json.dumps(found)
    if "\0" in text or len(text) > LONGEST:
        raise ValueError(f"holds a NUL character, or more than {LONGEST} characters")
    return text


def _short(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:97] + "...")
