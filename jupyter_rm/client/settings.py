"""Settings of the client: one frozen object, and for each value where it came from.

Sources, the later wins: the default, ``jupyter_rm_config.json`` in the Jupyter configuration directory (key
``JupyterRM``), the environment (``JUPYTER_RM_<NAME>``), ``%config JupyterRM.<name>`` in a notebook. Knows nothing about
what the values do. Read next: :mod:`.connection`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..model.errors import RequestError
from ..model.units import duration_s


@dataclass(frozen=True)
class Settings:
    """Settings of one process.

    Attributes:
        profile: which broker; profiles share nothing.
        request_timeout_s: how long to wait for the broker's answer to a request.
        start_timeout_s: how long a broker may take to start.
        progress_interval_s: least time between two updates of a progress display.
        progress_after_s: a wait shorter than this shows no progress.
        progress: show progress of blocking waits at all.
        traceback: show full tracebacks of jupyter_rm's own errors in notebooks.
        value_cache_mib: results of calls kept in this process; older ones are fetched again when asked for.
    """

    profile: str = "default"
    request_timeout_s: float = 60.0
    start_timeout_s: float = 30.0
    progress_interval_s: float = 0.25
    progress_after_s: float = 0.5
    progress: bool = True
    traceback: bool = False
    value_cache_mib: int = 256


_DURATIONS = {"request_timeout_s", "start_timeout_s", "progress_interval_s", "progress_after_s"}


def _read(name: str, value: object) -> Any:
    kind = type(getattr(Settings, name))
    if name in _DURATIONS:
        if isinstance(value, str) and value.replace(".", "", 1).isdigit():
            value = float(value)
        return duration_s(value, name)
    if kind is bool:
        text = str(value).lower()
        if text not in ("1", "0", "true", "false", "yes", "no", "on", "off"):
            raise RequestError(f"{name}: {value!r} is not yes or no", hint="use 1 or 0", code="JRM-C65")
        return text in ("1", "true", "yes", "on")
    if kind is int:
        try:
            return int(str(value))
        except ValueError:
            raise RequestError(f"{name}: {value!r} is not a number", hint="give a number", code="JRM-C65") from None
    return str(value)


def config_file(environ: Mapping[str, str] | None = None) -> Path:
    """Return the path of the settings file (it need not exist)."""
    env = os.environ if environ is None else environ
    base = env.get("JUPYTER_CONFIG_DIR") or str(Path(env.get("HOME", "~")).expanduser() / ".jupyter")
    return Path(base) / "jupyter_rm_config.json"


def load(environ: Mapping[str, str] | None = None, **given: object) -> tuple[Settings, dict[str, str]]:
    """Return the settings and for each name where its value came from.

    Args:
        environ: the environment (default: this process's).
        **given: values set by the program itself.

    Raises:
        RequestError: a value cannot be read; JRM-C65, naming it.
    """
    env = os.environ if environ is None else environ
    names = [field.name for field in fields(Settings)]
    values: dict[str, Any] = {}
    why = dict.fromkeys(names, "default")
    path = config_file(env)
    try:
        saved = json.loads(path.read_text(encoding="utf-8")).get("JupyterRM", {})
    except FileNotFoundError:
        saved = {}
    except (OSError, ValueError, AttributeError) as error:
        raise RequestError(f"{path}: {error}", hint="repair or remove the file", code="JRM-C65") from None
    for name, value in saved.items():
        if name not in names:
            raise RequestError(f"{path}: no setting {name!r}", hint="known: " + ", ".join(names), code="JRM-C65")
        values[name], why[name] = _read(name, value), str(path)
    for name in names:
        variable = "JUPYTER_RM_" + name.upper()
        if env.get(variable):
            values[name], why[name] = _read(name, env[variable]), variable
        if name in given:
            values[name], why[name] = _read(name, given[name]), "set here"
    return Settings(**values), why


_current: Settings | None = None


def current() -> Settings:
    """Return the settings of this process, reading them at first use."""
    global _current
    if _current is None:
        _current = load()[0]
    return _current


def change(**given: object) -> Settings:
    """Set some values for this process from now on."""
    global _current
    base = {field.name: getattr(current(), field.name) for field in fields(Settings)}
    base.update({name: _read(name, value) for name, value in given.items()})
    _current = Settings(**base)
    return _current


def forget() -> None:
    """Read the settings anew at next use (tests change the environment)."""
    global _current
    _current = None
