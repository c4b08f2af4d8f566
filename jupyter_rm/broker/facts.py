"""Facts of a site that its login machine tells: from the survey, and the answers to the site's probes.

They travel with a pilot's spec; its agent adds those of its own node. A probe that fails is left out and said. Knows
the connection. Read next: :mod:`jupyter_rm.agent.facts`, :mod:`jupyter_rm.batch.probes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..batch import BatchSystem, probes
from ..model.errors import LinkError
from ..model.late import Value
from ..runtime.bootstrap import Environment, SiteFacts
from ..runtime.bootstrap.talk import Runs


def of_login(
    connection: Runs, survey: SiteFacts, system: BatchSystem, made: Environment, say: Callable[[str], None]
) -> dict[str, Value]:
    """Return what is known of a site before a pilot runs there.

    Args:
        made: the environment of its agent. say: hears of probes that failed.

    Raises:
        LinkError: the connection was lost.
    """
    known: dict[str, Value] = {
        "login_host": survey.host,
        "home": survey.home,
        "libc": survey.libc,
        "home_free_mib": survey.free_mib,
        "site": system.name,
        "env": made.root,
    }
    if made.deps:
        known["deps"] = tuple(f"{name} {text}" for name, text in made.deps.items())
    for name, probe in probes.chosen(system.table("probe"), probes.LOGIN).items():
        try:
            known[name] = _asked(connection, probe)
        except ValueError as error:
            say(f"probe {name}: {error}")
    return known


def _asked(connection: Runs, probe: Mapping[str, Any]) -> Value:
    limit = float(probe.get("timeout_s", probes.TIMEOUT_S))
    try:
        done = connection.run(probes.argv_of(probe), timeout=limit)
    except LinkError as error:
        if error.code != "JRM-T28":
            raise
        raise ValueError(f"not done after {limit:g} s") from None
    if done.rc:
        raise ValueError(f"exit code {done.rc}: {done.complaint[-300:]}")
    return probes.value_of(probe, done.text)
