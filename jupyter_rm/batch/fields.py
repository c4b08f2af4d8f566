"""Fields: from raw rows to records. Where a value stands, what it means, and what stands for "nothing".

A field is declared as a path, a list of paths (the first that holds something wins: versions of one system differ), or
a table ``{path, match, as, form, unit, map}``. Paths are dotted for JSON (``time.limit.number``, ``*`` for all, digits
for a place in a list, ``@key`` for the key of the row), ElementTree paths for XML (``a/b``, ``a/@x``), names otherwise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any
from xml.etree.ElementTree import Element

from ..model.errors import SiteError
from .nodelist import FORMS as NODE_FORMS
from .nodelist import of_form

_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
MONTHS = {name: number for number, name in enumerate(_NAMES, 1)}
_ISO = re.compile(r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?\s*(Z|[+-]\d\d:?\d\d)?", re.ASCII)
_US = re.compile(r"(\d\d)/(\d\d)/(\d{4}) (\d\d):(\d\d):(\d\d)(?:\.\d+)?", re.ASCII)
_C = re.compile(
    r"(?:[A-Z][a-z]{2} )?([A-Z][a-z]{2}) {1,2}(\d{1,2}) (\d\d):(\d\d)(?::(\d\d))?(?: [A-Z]{3,4})? (\d{4})", re.ASCII
)
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)\+?", re.ASCII)
_UNITS = {"": 1.0, "b": 1 / 1048576, "k": 1 / 1024, "m": 1.0, "g": 1024.0, "t": 1048576.0, "p": 1073741824.0}
AS = ("text", "int", "float", "time", "duration", "memory", "bool", "nodes", "words", "exit", "exit_colon", "exit_pbs",
      "wait_status", "count", "runs")  # fmt: skip

# What a field of a record is, unless its declaration says otherwise.
DEFAULT_AS = {
    "submit": "time", "start": "time", "end": "time", "estimate": "time", "ends_by": "time", "limit_s": "duration",
    "priority": "float", "position": "int", "exit": "exit", "signal": "int", "restarts": "int", "nodes": "nodes",
    "max_walltime_s": "duration", "max_nodes": "int", "cores_per_node": "int", "cores": "int", "mem_mib": "memory",
    "gpus": "count", "load": "float", "running": "int", "queued": "int", "open": "bool", "default": "bool",
    "queues": "words",
}  # fmt: skip


def _inside(value: Any, path: Sequence[str]) -> Any:
    for place, step in enumerate(path):
        if isinstance(value, Mapping):
            if step == "*":
                return [_inside(item, path[place + 1 :]) for item in value.values()]
            value = value.get(step)
        elif isinstance(value, list):
            if step == "*":
                return [_inside(item, path[place + 1 :]) for item in value]
            if not step.isdecimal() or len(step) > 6 or int(step) >= len(value):
                return None
            value = value[int(step)]
        else:
            return None
    return value


def _raw(row: Any, path: str) -> Any:
    if isinstance(row, Element):
        where, attribute = path, ""
        if path.startswith("@") or "/@" in path:
            where, _, attribute = path.rpartition("@")
        found = row.findall(where.rstrip("/")) if where else [row]
        texts = [(node.get(attribute) if attribute else node.text) or "" for node in found]
        return texts[0] if len(texts) == 1 else texts or None
    if not isinstance(row, Mapping):
        return None
    return row[path] if path in row else _inside(row, path.split("."))


def _text(value: Any) -> str | None:
    """Return scalars and lists of scalars as text; anything else has none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        # A double with 300 digits is no number that a batch system means.
        return None if isinstance(value, float) and not math.isfinite(value) else str(value)
    if isinstance(value, list):
        parts = [part for part in map(_text, value) if part]
        return ",".join(parts) or None
    return value.strip() if isinstance(value, str) else None


def seconds_of(text: str, unit: str = "s") -> float | None:
    """Return the seconds of ``3-00:00:00``, ``00:05:00``, ``5:00`` (m:s) or a number of ``unit`` (s, m, h)."""
    if match := re.fullmatch(r"(?:([0-9]{1,6})-)?([0-9]{1,9})((?::[0-9]{1,2}){1,2})", text, re.ASCII):
        parts = [int(match[2]), *map(int, match[3].strip(":").split(":"))]
        if match[1] and len(parts) == 2:
            parts.append(0)
        total = 0
        for part in parts:
            total = total * 60 + part
        return float(total + 86400 * int(match[1] or 0))
    if match := re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(?:\s*(?:s|sec|seconds)?|/.*)", text, re.ASCII):
        return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[unit]
    return None


def epoch_of(text: str, utc_offset_s: float = 0.0) -> float | None:
    """Return seconds since 1970 of an epoch number, ISO, ``Sun Nov 22 02:20:31 2026`` or ``11/22/2026 02:20:31``.

    Args:
        text: as printed; utc_offset_s: what local time is ahead of UTC where it was printed, for text without a zone.
    """
    if re.fullmatch(r"[0-9]{1,14}(\.[0-9]{1,9})?", text, re.ASCII):
        value = float(text)
        return value if 0 < value < 1e11 else None
    year = month = day = hour = minute = second = 0
    shift = utc_offset_s
    if match := _ISO.match(text):
        year, month, day, hour, minute = (int(match[n]) for n in range(1, 6))
        second = int(match[6] or 0)
        if zone := match[8]:
            digits = zone[1:].replace(":", "")
            away = 0 if zone == "Z" else int(digits[:2]) * 3600 + int(digits[2:]) * 60
            shift = -away if zone[0] == "-" else away
    elif match := _US.match(text):
        month, day, year, hour, minute, second = (int(match[n]) for n in range(1, 7))
    elif (match := _C.match(text)) and match[1] in MONTHS:
        month, day, hour, minute = MONTHS[match[1]], int(match[2]), int(match[3]), int(match[4])
        second, year = int(match[5] or 0), int(match[6])
    else:
        return None
    try:
        moment = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=timezone.utc)
        return (moment - timedelta(seconds=shift)).timestamp()
    except (ValueError, OverflowError):
        return None


def mib_of(text: str, unit: str = "m") -> int | None:
    """Return whole MiB of ``16777216kb``, ``23.5G``, ``4000+`` or a number of ``unit`` (b, k, m, g)."""
    match = _SIZE.fullmatch(text)
    if not match:
        return None
    letter = (match[2] or unit)[:1].lower()
    return round(float(match[1][:20]) * _UNITS[letter]) if letter in _UNITS else None


def _int(text: str) -> int | None:
    match = re.match(r"[+-]?[0-9]{1,18}(?![0-9])", text, re.ASCII)
    return int(match[0]) if match else None


def _exits(kind: str, text: str) -> tuple[int | None, int | None]:
    """Return (exit code, signal) of the ways to write them."""
    if kind == "exit_colon":  # Slurm: code:signal
        match = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,9})", text, re.ASCII)
        return (int(match[1]), int(match[2]) or None) if match else (None, None)
    code = _int(text)
    if code is None:
        return None, None
    if kind == "wait_status":  # as wait(2) gives it
        return (code >> 8) & 0xFF, (code & 0x7F) or None
    if kind == "exit_pbs" and 256 < code < 384:  # a signal + 256; below that a signal + 128 in older versions
        return code, code - 256
    return code, code - 128 if 128 < code < 193 else None


def convert(kind: str, raw: Any, *, form: str = "", unit: str = "", utc_offset_s: float = 0.0) -> Any:
    """Return ``raw`` as ``kind`` (one of ``AS``), or None when it says nothing; exit kinds return (code, signal).

    Raises:
        SiteError: a node list that is none.
    """
    text = _text(raw)
    if text is None or text == "":
        return None
    if kind == "nodes":
        return tuple(host for host, _ in of_form(form or "words", text))
    if kind == "words":
        return tuple(word for word in re.split(r"[\s,:]+", text) if word)
    if kind == "int":
        return _int(text)
    if kind == "runs":  # how often it began; the first time is no restart
        number = _int(text)
        return None if number is None else max(0, number - 1)
    if kind == "float":
        try:
            value = float(text)
        except ValueError:
            return None
        return value if math.isfinite(value) else None
    if kind == "time":
        return epoch_of(text, utc_offset_s)
    if kind == "duration":
        return seconds_of(text, unit or "s")
    if kind == "memory":
        return mib_of(text, unit or "m")
    if kind == "bool":
        return text.lower() in ("1", "true", "yes", "up", "open", "enabled", "on")
    if kind == "count":
        numbers = re.findall(r"(?:^|[:=,])([0-9]{1,6})(?=$|[,(])", text)
        return sum(map(int, numbers)) if numbers else None
    return _exits(kind, text) if kind.startswith(("exit", "wait")) else text


class Fields:
    """The declared fields of one reader.

    Args:
        spec: field name to declaration; nothing: texts that stand for "no value" here.

    Attributes:
        odd: what could not be read in values that do not decide anything; whoever reads it empties it.
    """

    def __init__(self, spec: Mapping[str, Any], nothing: Sequence[str]) -> None:
        self._nothing = frozenset(nothing)
        self.odd: set[str] = set()
        self._spec: dict[str, dict[str, Any]] = {}
        for name, said in spec.items():
            one = dict(said) if isinstance(said, Mapping) else {"path": said}
            paths = one["path"]
            one["path"] = [paths] if isinstance(paths, str) else list(paths)
            one.setdefault("as", DEFAULT_AS.get(name, "text"))
            self._spec[name] = one

    def of(self, row: Any, utc_offset_s: float = 0.0) -> dict[str, Any]:
        """Return the fields of one row that say something."""
        out: dict[str, Any] = {}
        for name, one in self._spec.items():
            for path in one["path"]:
                raw = _raw(row, path)
                text = _text(raw)
                if text is None or text in self._nothing:
                    continue
                if "match" in one:
                    found = re.search(one["match"], text)
                    if not found:
                        continue
                    raw = text = (found[1] or "") if found.groups() else found[0]
                if "map" in one:
                    raw = text = one["map"].get(text, one["map"].get("else", text))
                try:
                    value = convert(
                        one["as"], raw, form=one.get("form", ""), unit=one.get("unit", ""), utc_offset_s=utc_offset_s
                    )
                except SiteError as error:
                    # A node list that cannot be read does not make the job's state wrong.
                    self.odd.add(error.message)
                    continue
                if isinstance(value, tuple) and name == "exit":
                    out["exit"], signal = value
                    if signal is not None:
                        out.setdefault("signal", signal)
                elif value is not None:
                    out[name] = value
                break
        if out.get("signal") == 0:
            del out["signal"]
        return out


SPEC_KEYS = {"path", "match", "as", "form", "unit", "map"}
__all__ = ["AS", "DEFAULT_AS", "NODE_FORMS", "SPEC_KEYS", "Fields", "convert", "epoch_of", "mib_of", "seconds_of"]
