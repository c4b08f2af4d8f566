"""Fault schedules: what goes wrong when, drawn from a seed.

A :class:`Fault` is a plain value; :mod:`jupyter_rm.sim.inflict` knows how to do each kind to a world. The kinds are
mixed: at least :data:`LEAST` faults of the groups network, broker, agent, site, clock and client a schedule.
Read next: :mod:`jupyter_rm.sim.inflict`.
"""

from __future__ import annotations

from dataclasses import dataclass

from .chance import Random

LEAST = 8
# kind -> (weight, shortest, longest) seconds it lasts
KINDS: dict[str, tuple[int, float, float]] = {
    "loss": (4, 5.0, 40.0),
    "repeat": (4, 5.0, 60.0),
    "slow": (4, 5.0, 40.0),
    "cut-one-way": (5, 2.0, 60.0),
    "cut": (6, 5.0, 150.0),
    "clog": (3, 5.0, 40.0),
    "reconnect": (3, 0.0, 0.0),
    "broker-crash": (8, 0.05, 30.0),
    "broker-damage": (2, 0.5, 20.0),
    "broker-freeze": (2, 1.0, 40.0),
    "broker-suspend": (3, 0.0, 0.0),
    "broker-wall-jumps": (6, 1.0, 60.0),
    "agent-crash": (6, 0.0, 0.0),
    "spool-damage": (1, 0.0, 0.0),
    "node-crash": (5, 0.0, 0.0),
    "agent-freeze": (3, 1.0, 50.0),
    "agent-wall-jump": (2, 0.0, 0.0),
    "job-lost": (2, 0.0, 0.0),
    "lying-site": (3, 10.0, 60.0),
    "start-again": (3, 0.0, 0.0),
    "client-crash": (2, 0.0, 0.0),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """At ``at`` seconds something of ``kind`` begins and lasts ``span`` s; ``pick`` and ``amount`` are in [0, 1)."""

    at: float
    kind: str
    span: float
    pick: float
    amount: float

    def __str__(self) -> str:
        return f"{self.at:7.2f} s  {self.kind} for {self.span:.1f} s"


def draw(rng: Random, begin: float, end: float, kinds: dict[str, tuple[int, float, float]] = KINDS) -> list[Fault]:
    """Return a schedule of :data:`LEAST` to twice as many faults between ``begin`` and ``end``, in order."""
    names, weights = list(kinds), [weight for weight, _, _ in kinds.values()]
    out = []
    for _ in range(rng.randint(LEAST, 2 * LEAST)):
        kind = rng.choices(names, weights)[0]
        _, shortest, longest = kinds[kind]
        # Short faults are as likely as long ones: what counts is what they fall between.
        span = shortest * (longest / shortest) ** rng.random() if shortest else 0.0
        out.append(Fault(rng.uniform(begin, end), kind, span, rng.random(), rng.random()))
    return sorted(out, key=lambda fault: fault.at)
