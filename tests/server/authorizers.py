"""Authorizers for servers under test: named on their command lines."""

from __future__ import annotations

import os
from typing import Any

from jupyter_server.auth.authorizer import Authorizer


class DenyAll(Authorizer):
    """Nobody may do anything; writes down what was asked."""

    def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
        note(handler, action, resource)
        return False


class ReadOnly(Authorizer):
    """Everybody may look and nothing else; not at tasks."""

    def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
        return action == "read" and resource != "jupyter_rm:tasks"


def note(handler: Any, action: str, resource: str) -> None:
    with open(os.environ["JRM_ASKED"], "a") as file:
        file.write(f"{handler.request.method} {handler.request.path} {action} {resource}\n")
