"""Which fields of launch forms a person wants to see: kept per user and batch system, in the user's configuration.

Knows one small file. Read next: :mod:`.forms`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from ..model.errors import SiteError

_NAME = "forms.json"
MOST = 200


def folder() -> Path:
    """Return the directory of the file; ``JUPYTER_RM_FORMS`` names another one."""
    chosen = os.environ.get("JUPYTER_RM_FORMS")
    if chosen:
        return Path(chosen)
    import platformdirs

    return Path(platformdirs.user_config_dir("jupyter_rm"))


def _read() -> dict[str, list[str]]:
    try:
        told = json.loads((folder() / _NAME).read_text("utf-8"))["hidden"]
        return {str(name): [str(each) for each in some][:MOST] for name, some in told.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def hidden(system: str) -> frozenset[str]:
    """Return the attributes of a batch system that this person does not want to see."""
    return frozenset(_read().get(system, ()))


def hide(system: str, names: Iterable[str]) -> None:
    """Keep which attributes of a batch system are not shown, from now on and for all forms of it.

    Raises:
        SiteError: the file cannot be written; JRM-D21.
    """
    told = _read()
    told[system] = sorted(set(names))[:MOST]
    place = folder()
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = place / f".{_NAME}.{os.getpid()}"
        part.touch(mode=0o600)
        part.write_text(json.dumps({"hidden": {name: some for name, some in told.items() if some}}, indent=1), "utf-8")
        part.replace(place / _NAME)
    except OSError as error:
        raise SiteError(
            f"{place / _NAME}: {error.strerror or error}", code="JRM-D21", hint="make the directory writable"
        ) from None
