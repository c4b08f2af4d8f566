"""Why nobody takes a task that waits, as far as the ledger alone says it: for brokers' answers and clients' waits.

Read next: :mod:`jupyter_rm.core.binding`, which also knows what agents hold.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..model.describe import Template
from ..model.ids import pilot_uid
from ..model.late import capabilities
from ..model.pilotrow import PilotRow
from ..model.states import PilotState


def nobody(template: Template, pilots: Sequence[PilotRow]) -> str:
    """Return why no pilot that is there takes tasks of this kind; empty: one may. Says nothing of sizes."""
    alive = [row for row in pilots if not row.state.final and not row.spec.script]
    name = template.pilot
    if name:
        alive = [row for row in alive if name in (row.spec.name, pilot_uid(row.number))]
        if not alive:
            again = "start another of that name, or " if any(row.spec.name == name for row in pilots) else ""
            return f"asks for pilot {name}, which has ended; {again}cancel it and submit it without pilot="
    if alive and all(row.state >= PilotState.ACTIVE and lacking(template, row) for row in alive):
        names = ", ".join(template.requires)
        return f"requires {names}, which no pilot offers; p.add_capability(...) lets one offer it"
    return ""


def has_env(row: PilotRow, name: str) -> bool:
    """Say whether a pilot is known to have an environment of this name, by its request or its agent's word."""
    told = row.facts.get("envs", ())
    return name in row.spec.envs or (isinstance(told, tuple) and name in told)


def lacking(template: Template, row: PilotRow) -> set[str]:
    """Return what a task requires and a pilot does not offer."""
    return set(template.requires) - capabilities(row.spec.capabilities, row.facts)
