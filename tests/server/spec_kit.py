"""The description of the interface, read for tests that walk through it."""

from __future__ import annotations

from typing import Any

import yaml

from jupyter_rm.server.api import SPEC

DESCRIPTION: dict[str, Any] = yaml.safe_load(SPEC.read_text())
METHODS = ("get", "post", "put", "patch", "delete")
OPERATIONS = [
    (path, method, operation)
    for path, item in DESCRIPTION["paths"].items()
    for method, operation in item.items()
    if method in METHODS
]
EXAMPLES = {
    "{view}": "usage",
    "{name}": "study",
    "{pilot}": "p.0",
    "{task}": "t.0.1",
    "{stream}": "stdout",
    "{site}": "local",
    "{number}": "1",
}


def example(path: str) -> str:
    for name, value in EXAMPLES.items():
        path = path.replace(name, value)
    return path
