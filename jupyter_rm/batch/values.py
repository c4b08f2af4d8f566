"""Typed attributes: what may be asked of a batch system, checked, and written the way the system wants it.

A value is refused, naming its field, or reaches its argument byte for byte: no cutting, no quoting, no repair. Nothing
here knows a batch system. Read next: :mod:`.templates`, then ``systems/base.toml`` for the attributes themselves.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ..model.errors import JrmError, RequestError
from ..model.units import duration_s, memory_mib
from .conditions import holds

TYPES = ("string", "int", "float", "bool", "choice", "list", "path", "duration", "memory")
LONGEST = 4096  # characters of one value; far below what any system accepts as one argument

Value = str | int | float | bool | tuple[str, ...]

# Control characters, line separators, and the marks that turn the direction of writing: what a person cannot see in
# the command that is shown to them must not be in the command that runs.
_UNSEEN = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ufff9-\uffff]"
)


class Attribute(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One typed attribute, as a description declares it; see ``docs/batch-systems.md`` for each key."""

    name: str
    type: str = "string"
    help: str = ""
    label: str = ""
    unit: str = ""
    default: Any = None
    min: Any = None
    max: Any = None
    pattern: str = ""
    max_length: int = LONGEST
    choices: list[str] = []
    choices_from: str = ""
    required: bool = False
    optional: bool = False
    visible: bool = True
    read_only: bool = False
    depends: str = ""
    product: list[str] = []
    separator: str = ","
    each: bool = False
    map: dict[str, str] = {}
    args: list[str] = []
    args_false: list[str] = []
    env: dict[str, str] = {}


def _refuse(name: str, value: object, why: str, hint: str = "") -> RequestError:
    shown = ascii(value)
    shown = shown if len(shown) <= 100 else shown[:97] + "..."
    return RequestError(f"{name}: {shown} {why}", hint=hint or "give another value", code="JRM-Q21")


def _text(attribute: Attribute, value: object, *, item: bool = False) -> str:
    name = attribute.name
    if not isinstance(value, str):
        raise _refuse(name, value, "is not text", f"give {name} as text")
    if not value:
        raise _refuse(name, value, "is empty", "leave it out instead")
    if len(value) > attribute.max_length:
        raise _refuse(name, value, f"is longer than {attribute.max_length} characters", "shorten it")
    if found := _UNSEEN.search(value):
        raise _refuse(name, value, f"holds the character {found[0]!a}, which cannot be passed on", "remove it")
    if value.startswith("-"):
        raise _refuse(name, value, "starts with '-', which a command would take for an option", "start it otherwise")
    if attribute.type == "path" and not value.startswith("/"):
        raise _refuse(name, value, "is not an absolute path", "start it with '/'")
    if item and attribute.separator and attribute.separator in value:
        raise _refuse(name, value, f"holds {attribute.separator!r}, which separates the items", "give separate items")
    if attribute.pattern and not re.fullmatch(attribute.pattern, value):
        raise _refuse(name, value, f"does not fit {attribute.pattern}", attribute.help)
    return value


def _bounds(attribute: Attribute, value: float, low: float | None, high: float | None, given: object) -> None:
    if low is not None and value < low:
        raise _refuse(attribute.name, given, f"is below {attribute.min}", f"give {attribute.min} or more")
    if high is not None and value > high:
        raise _refuse(attribute.name, given, f"is above {attribute.max}", f"give {attribute.max} or less")


def _number(attribute: Attribute, value: object) -> int | float:
    name = attribute.name
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,18}(\.[0-9]{1,12})?", value, re.ASCII):
        value = float(value) if "." in value else int(value)
    if not isinstance(value, bool) and hasattr(value, "__index__"):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise _refuse(name, value, "is not a number")
    if attribute.type == "int":
        if value != int(value):
            raise _refuse(name, value, "is not a whole number")
        value = int(value)
    _bounds(attribute, value, attribute.min, attribute.max, value)
    return value


def accept(attribute: Attribute, value: object, choices: Sequence[str] = ()) -> Value:
    """Return ``value`` checked against its attribute: durations in seconds, memory in MiB.

    Args:
        attribute: the declaration; value: what a person gave; choices: discovered ones, empty when not known.

    Raises:
        RequestError: it does not fit; the message begins with the attribute's name.
    """
    kind, name = attribute.type, attribute.name
    if kind in ("int", "float"):
        return _number(attribute, value)
    if kind == "bool":
        if isinstance(value, bool):
            return value
        raise _refuse(name, value, "is not true or false", "give True or False")
    if kind in ("duration", "memory"):
        amount = _amount(kind, value, name)
        low = None if attribute.min is None else _amount(kind, attribute.min, name)
        high = None if attribute.max is None else _amount(kind, attribute.max, name)
        _bounds(attribute, amount, low, high, value)
        return amount
    if kind == "list":
        items = [value] if isinstance(value, (str, int)) and not isinstance(value, bool) else value
        if not isinstance(items, (list, tuple)) or not items:
            raise _refuse(name, value, "is not a list", 'write ["a", "b"], or leave it out')
        texts = [str(i) if isinstance(i, int) and not isinstance(i, bool) else i for i in items]
        return tuple(_text(attribute, item, item=not attribute.each) for item in texts)
    text = _text(attribute, value)
    allowed = list(choices) or attribute.choices
    if (kind == "choice" or choices) and text not in allowed:
        raise _refuse(name, value, f"is not one of {', '.join(allowed) or 'nothing'}", "choose one of them")
    return text


def _amount(kind: str, value: object, name: str) -> float:
    try:
        return duration_s(value, name) if kind == "duration" else memory_mib(value, name)
    except JrmError as error:
        raise _refuse(name, value, "is not a " + ("duration" if kind == "duration" else "size"), error.hint) from None


def _clock(seconds: float, form: str) -> str | None:
    whole = math.ceil(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    forms = {
        "": str(whole),
        "s": str(whole),
        "minutes": str(max(1, math.ceil(whole / 60))),
        "hms": f"{hours:02d}:{minutes:02d}:{secs:02d}",
        "hm": f"{math.ceil(whole / 60) // 60}:{math.ceil(whole / 60) % 60:02d}",
        "dhms": f"{hours // 24}-{hours % 24:02d}:{minutes:02d}:{secs:02d}",
    }
    return forms.get(form)


FORMS: dict[str, tuple[str, ...]] = {
    "duration": ("", "s", "minutes", "hms", "hm", "dhms"),
    "memory": ("", "mib", "kib", "gib"),
    "list": ("", "each"),
    "bool": ("", "number"),
}


def written(attribute: Attribute, value: Value, form: str = "") -> str:
    """Return ``value`` as the text that goes into an argument.

    Durations are written in whole seconds, rounded up; forms: ``s, minutes, hms, hm``, ``dhms`` (D-HH:MM:SS).
    Memory in MiB; forms: ``mib``, ``kib``, ``gib`` (rounded up).
    """
    if attribute.type == "duration" and isinstance(value, (int, float)):
        return str(_clock(float(value), form))
    if attribute.type == "memory" and isinstance(value, (int, float)):
        mib = math.ceil(value)
        return str({"kib": mib * 1024, "gib": math.ceil(mib / 1024)}.get(form, mib))
    if isinstance(value, bool):
        said = "true" if value else "false"
        return attribute.map.get(said, str(int(value)) if form == "number" else said)
    if isinstance(value, tuple):
        return attribute.separator.join(attribute.map.get(item, item) for item in value)
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return attribute.map.get(text, text)


def resolve(
    attributes: Mapping[str, Attribute],
    given: Mapping[str, object],
    choices: Mapping[str, Sequence[str]] | None = None,
    complete: bool = True,
    defaults: bool = True,
) -> dict[str, Value]:
    """Return every attribute that has a value: given, default or derived; conditions and bounds are checked.

    Args:
        attributes: declarations by name; given: values by name, None means not given.
        choices: discovered choices by attribute, for those that take them from discovery.
        complete: required attributes must be there (for a submission). defaults: use them.

    Raises:
        RequestError: an unknown name, a value that does not fit, a missing or a read-only attribute.
    """
    out: dict[str, Value] = {}
    for name, value in given.items():
        if value is None:
            continue
        if name not in attributes:
            known = ", ".join(attributes)
            raise RequestError(f"{name!a}: no such attribute here", hint=f"known: {known}", code="JRM-Q22")
        if attributes[name].read_only and value != attributes[name].default:
            raise _refuse(name, value, "cannot be set: this site decides it", "leave it out")
        if attributes[name].product:
            raise _refuse(name, value, f"is computed from {' and '.join(attributes[name].product)}", "give those")
        out[name] = accept(attributes[name], value, (choices or {}).get(name, ()))
    missing_ones = [a for a in attributes.values() if a.name not in out and a.default is not None]
    for attribute in missing_ones if defaults else ():
        out[attribute.name] = accept(attribute, attribute.default)
    for attribute in attributes.values():
        if attribute.product:
            factors = [factor for name in attribute.product if isinstance(factor := out.get(name), int)]
            if len(factors) == len(attribute.product):
                out[attribute.name] = accept(attribute, math.prod(factors))
    for attribute in attributes.values():
        if attribute.depends and attribute.name in out and not holds(attribute.depends, out):
            if given.get(attribute.name) is not None:
                raise _refuse(
                    attribute.name, given[attribute.name], f"is only possible when {attribute.depends}", "leave it out"
                )
            del out[attribute.name]
    for attribute in attributes.values():
        missing = complete and attribute.required and attribute.name not in out
        if missing and (not attribute.depends or holds(attribute.depends, out)):
            raise RequestError(f"{attribute.name}: missing", hint=attribute.help or "give it", code="JRM-Q21")
    return out
