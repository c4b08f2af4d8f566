"""Where frames for an agent go: one road for each life (epoch) of an agent.

An agent that was replaced may speak for a while beside its successor. Each is answered on its own road, so the words
for one never reach the other. Knows nothing of what is sent. Read next: :mod:`jupyter_rm.broker.service`.
"""

from __future__ import annotations

# Lives of one agent whose roads are remembered; the oldest is forgotten first.
LIVES = 8


class Roads:
    """Routes of agents, as their socket names them, by (session, pilot) and epoch."""

    def __init__(self) -> None:
        self._routes: dict[object, dict[int, bytes]] = {}

    def note(self, agent: tuple[str, int], epoch: int, route: bytes) -> None:
        """Remember on which road the agent of this epoch spoke last."""
        lives = self._routes.get(agent)
        if lives is None:
            lives = self._routes[agent] = {}
        if epoch not in lives and len(lives) >= LIVES:
            del lives[next(iter(lives))]
        lives[epoch] = route

    def to(self, agent: object, epoch: int) -> bytes | None:
        """Return the road to the agent of this epoch, None when it never spoke."""
        lives = self._routes.get(agent)
        return lives.get(epoch) if lives is not None else None

    def forget(self, agent: object) -> None:
        """Remember nothing of this agent."""
        self._routes.pop(agent, None)
