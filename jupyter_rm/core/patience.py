"""All policy about time, in one place. Durations in seconds of a clock that counts suspend (CLOCK_BOOTTIME).

No decision compares clocks of two machines. Silence makes a pilot *unreachable*, nothing more; only proof (its job is
gone) gives its tasks back. Read next: :mod:`jupyter_rm.core.agent`.
"""

from __future__ import annotations

import msgspec


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait for what.

    Attributes:
        beat: an agent with nothing to say speaks at least this often.
        silent: without a word for this long a peer counts as unreachable.
        resend: unacknowledged frames are sent again after this long.
        hello: pause between an agent's attempts to be welcomed.
        orphan: an agent without any work that nobody has welcomed for this long ends.
        rerun: tasks with ``on_silence="rerun"`` are run elsewhere after their pilot was silent for this long.
        ahead: run-ahead queues hold about this much work per allocation.
        ahead_longest: tasks longer than this are never queued ahead.
        stock: an agent asks to hold about this much work.
        aside: a pilot that ruined its tasks is not used for this long, if there is another.
        node: a node agent that has not heard its head agent for this long ends, and all it runs with it.
        node_grace: what that takes at most; after both together its head counts on it.
        pause_most: the pause between two attempts of a task is doubled up to this.
        kept: longest time between two moments at which the journal is made safe for good.
    """

    beat: float = 5.0
    silent: float = 15.0
    resend: float = 2.0
    hello: float = 1.0
    orphan: float = 600.0
    rerun: float = 120.0
    ahead: float = 0.4
    ahead_longest: float = 0.2
    stock: float = 1.0
    aside: float = 30.0
    node: float = 20.0
    node_grace: float = 10.0
    pause_most: float = 3600.0
    kept: float = 5.0


DEFAULT = Patience()
