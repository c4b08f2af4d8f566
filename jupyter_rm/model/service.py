"""Services: tasks that go on running and are reached by others, and what those others are told of them.

A service is ready when a line of its output fits its pattern; what the pattern's first group holds is its endpoint, and
each task that names the service finds it in a variable. Knows texts only. Read next: :mod:`jupyter_rm.core.services`
(who may start), :mod:`jupyter_rm.agent.watch` (who looks).
"""

from __future__ import annotations

import re
import warnings

from .errors import RequestError
from .ids import check_name

STARTUP_S = 60.0  # longest time until a service is ready, where it does not say
MOST = 64  # services of one task
LINE_MOST = 4096  # characters of a line that the pattern is tried on; also of an endpoint
_ANYWHERE = re.compile(r"(?<![\w.])0\.0\.0\.0(?=:)|\[::\](?=:)|(?<![\w*])\*(?=:\d)")


def variable(name: str) -> str:
    """Return the environment variable that tells tasks the endpoint of a service: ``JRM_INFO_NAME``."""
    return "JRM_INFO_" + re.sub(r"[^A-Za-z0-9]", "_", name).upper()


def names(value: object, field: str) -> tuple[str, ...]:
    """Return names of services, sorted (RequestError with the field)."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple, set, frozenset)) or len(items) > MOST:
        raise RequestError(f"{field}: {value!r} are no names of services", hint='write ["db"]', code="JRM-Q05")
    found = sorted({check_name(item, field) for item in items})
    told: dict[str, str] = {}
    for name in found:
        other = told.setdefault(variable(name), name)
        if other != name:
            raise RequestError(
                f"{field}: {other!r} and {name!r} would both be told as {variable(name)}",
                hint="give one of them another name",
                code="JRM-Q05",
            )
    return tuple(found)


def pattern(value: object, field: str) -> str:
    """Return a regular expression that compiles (RequestError with the field)."""
    if not isinstance(value, str) or len(value) > LINE_MOST:
        raise RequestError(f"{field}: {value!r} is not a pattern", hint=r'write r"listening on (\S+)"', code="JRM-Q05")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # what a set may mean one day is nothing for a cell
            re.compile(value)
    except re.error as error:
        raise RequestError(
            f"{field}: {value!r}: {error}", hint="escape ( ) [ ] { } . * + ? with a backslash", code="JRM-Q05"
        ) from None
    return value


def endpoint(value: object, field: str) -> str:
    """Return an endpoint as a person gives it, '' for none any more (RequestError with the field)."""
    if not isinstance(value, str) or len(value) > LINE_MOST or not value.isprintable():
        raise RequestError(f"{field}: {value!r} is not an endpoint", hint='write "host:port"', code="JRM-Q05")
    return value


def found(match: re.Match[str], host: str) -> str:
    """Return the endpoint that a fitting line tells of a service on ``host``.

    The first group that took part; a number alone is a port there, and every-address addresses become the host's.
    """
    told = next((group for group in match.groups() if group is not None), "").strip()
    if not told:
        return host
    if told.isdigit() or (told.startswith(":") and told[1:].isdigit()):
        return f"{host}:{told.lstrip(':')}"
    return _ANYWHERE.sub(host, told)
