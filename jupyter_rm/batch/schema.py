"""The shape of a site file as a JSON Schema, for editors that complete and check TOML while one writes.

Made from :mod:`.shape`, so it says what ``jrm site check`` says of keys and types; what names refer to, only the check
knows. A file with an error that the schema sees is refused by the check at the same path.
"""

from __future__ import annotations

from typing import Any

from .fields import AS, SPEC_KEYS
from .nodelist import FORMS as NODE_FORMS
from .records import DETAILS, JobState
from .shape import SHAPE, TYPE

_TEXT: dict[str, Any] = {"type": "string"}
_TEXTS: dict[str, Any] = {"type": "array", "items": _TEXT}
_STATE = f"^({'|'.join(state.value for state in JobState)})(:({'|'.join(DETAILS)})?)?$"
_VAR = {"type": "string", "description": "the name of a variable of the job"}
_FIELD = {
    "type": "object",
    "properties": {
        **{key: {} for key in sorted(SPEC_KEYS)},
        "path": {"anyOf": [_TEXT, {**_TEXTS, "minItems": 1}]},
        "as": {"enum": sorted(AS)},
        "form": {"enum": sorted(NODE_FORMS)},
        "unit": {"enum": ["s", "m", "h", "b", "k", "g"]},
        "map": {"type": "object"},
    },
    "required": ["path"],
    "additionalProperties": False,
}
_TYPES: dict[str, dict[str, Any]] = {
    "text": _TEXT,
    "texts": _TEXTS,
    "flag": {"type": "boolean"},
    "number": {"type": "number", "minimum": 0},
    "whole": {"type": "integer", "minimum": 1},
    "wholes": {"type": "array", "items": {"type": "integer"}},
    "regex": {"type": "string", "format": "regex"},
    "any": {"not": {"type": "object"}},
    "lines": {"anyOf": [_TEXT, _TEXTS]},
    "command": {"anyOf": [{"type": "string", "minLength": 1}, {**_TEXTS, "minItems": 1}]},
    "argv": {"type": "array", "minItems": 1, "items": {"anyOf": [_TEXT, _TEXTS]}},
    "field": {"anyOf": [_TEXT, {**_TEXTS, "minItems": 1}, _FIELD]},
    "places": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"var": _VAR, "file_var": _VAR, "form": {"enum": sorted(NODE_FORMS)}},
            "required": ["form"],
            "oneOf": [{"required": ["var"]}, {"required": ["file_var"]}],
            "additionalProperties": False,
        },
    },
    "state": {"type": "string", "pattern": _STATE},
}


def site_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a site file."""
    made: dict[str, Any] = _of(SHAPE)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A site file of jupyter_rm",
        "description": "See docs/batch-systems.md; jrm site check FILE says more.",
        **made,
    }


def _of(shape: Any) -> dict[str, Any]:
    if isinstance(shape, str):
        return {**_TYPES[shape], "description": TYPE[shape][1]}
    if set(shape) == {"*"}:
        return {"type": "object", "additionalProperties": _of(shape["*"])}
    inner = {key: _of(value) for key, value in shape.items()}
    return {"type": "object", "properties": inner, "additionalProperties": False}
