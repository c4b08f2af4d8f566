"""Placement in C++: which waiting task starts on which cores and GPUs of which node.

Pure decisions on flat arrays: it knows no clock (``schedule`` is told the time), no thread, no file, no socket.
Tokens are the caller's names for tasks (any u64 but 2**64-1, unique among those waiting); allocations are the placer's
names for what a running task holds. GPUs are counted in 1/10000. The rules are written at the top of
``placer_core.hpp``, and once more as plain Python in ``jupyter_rm/native/placer_portable.py``: read that next.
"""

from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

class Explanation(TypedDict):
    """Why a shape waits: ``free`` and ``largest`` are numbers of the resource named by ``limit``."""

    ever: bool
    now: bool
    reason: str
    limit: str
    free: int
    largest: int

class Placer:
    """The placer of one pilot: its nodes, its waiting tokens, its running allocations."""

    def __init__(
        self,
        cores: NDArray[np.uint16],
        gpus: NDArray[np.uint16],
        mem: NDArray[np.uint32],
        lfs: NDArray[np.uint32],
        numa: NDArray[np.uint8],
        partition: NDArray[np.uint16],
        named: dict[str, NDArray[np.uint32]] = {},
        *,
        patience: float = 2.0,
        lookahead: int = 1024,
    ) -> None:
        """Take n nodes (1..65536): cores (<= 512), GPUs (<= 64), memory and local disk in MiB, NUMA domains, partition.

        ``named`` counts further resources per node. ``patience``: seconds of ``now`` a blocked class is bypassed before
        nodes are reserved for it. ``lookahead``: blocked classes one pass steps over. ValueError on bad arrays.
        """

    def shape(
        self,
        ranks: int = 1,
        cores: int = 1,
        gpus: int = 0,
        mem: int = 0,
        lfs: int = 0,
        ranks_per_node: int = 0,
        named: dict[str, int] = {},
        partition: int = -1,
        exclusive: bool = False,
        numa: str = "compact",
    ) -> int:
        """Intern a request (all amounts per rank, GPUs in 1/10000, MiB) and return its id; equal requests, equal id.

        ``ranks_per_node`` 0 packs; ``partition`` -1 is any; ``exclusive`` takes whole nodes; ``numa`` compact, spread
        or any. ValueError when the request makes no sense; one that merely cannot fit is accepted, see ``explain``.
        """

    def add(
        self, shape: int, tokens: NDArray[np.uint64], priority: int = 0, tag: int = 0, exclusive_tag: bool = False
    ) -> None:
        """Queue tokens of one shape behind those of equal priority.

        Tokens of one ``tag`` (not 0) go to the nodes its first one got; ``exclusive_tag`` keeps everybody else off them
        while they run. ValueError: unknown shape, exclusive_tag without tag.
        """

    def remove(self, tokens: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Cancel waiting tokens; returns those that were still waiting and are now gone. O(k)."""

    def schedule(
        self, limit: int, now: float
    ) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint32]]:
        """One pass at time ``now`` (s, any origin, never backwards), at most ``limit`` starts.

        Returns tokens, allocations and the node of rank 0, in the order of the decisions. Releases the GIL.
        """

    def take(self, shape: int, n: int) -> NDArray[np.uint64]:
        """Pop up to n waiting untagged tokens of this shape, best priority first, without placing them.

        They are meant to inherit the allocation of a task of equal shape. Nothing is given while a class of higher
        priority waits, or while nodes are reserved for another class of equal or higher priority.
        """

    def put_back(self, shape: int, tokens: NDArray[np.uint64], priority: int = 0) -> None:
        """Return taken tokens; they stand in front of everything of that priority."""

    def release(self, allocs: NDArray[np.uint64]) -> None:
        """Free allocations. ValueError when one is unknown or already released; then nothing is released."""

    def slots(self, alloc: int) -> list[tuple[int, int, list[int], list[tuple[int, int]]]]:
        """(rank, node, cores, [(GPU, share in 1/10000)]) for each rank of an allocation. ValueError if unknown."""

    def node_state(self, node: int, state: Literal["up", "drain", "down"]) -> NDArray[np.uint64]:
        """Set a node's state; drain and down admit nothing new.

        Returns for ``down`` the allocations that touch the node (held until released), else an empty array.
        """

    def explain(self, shape: int) -> Explanation:
        """Say whether such a task can ever start, whether now, and which resource binds with its numbers."""

    def capacity(self, shape: int) -> int:
        """How many such tasks the up nodes hold when empty."""

    def fits_now(self, shape: int) -> int:
        """How many such tasks fit into what is free now, reserved nodes left out."""

    def waiting_shape(self, shape: int) -> int:
        """Waiting tokens of one shape, tagged ones included."""

    def free(self) -> dict[str, Any]:
        """Free totals of the up nodes: nodes (idle), cores, gpus (1/10000), mem, lfs (MiB), named (a dict)."""

    def reservations(self) -> list[tuple[int, int, list[int]]]:
        """(shape, priority, nodes) of each reservation that keeps a class from starving."""

    @property
    def waiting(self) -> int:
        """Waiting tokens."""

    @property
    def running(self) -> int:
        """Allocations not yet released."""

    @property
    def nodes(self) -> int:
        """Number of nodes."""

    @property
    def node_busy_cores(self) -> NDArray[np.uint16]:
        """Busy cores per node, a fresh array."""

    @property
    def node_busy_gpus(self) -> NDArray[np.uint32]:
        """Busy GPU capacity per node in 1/10000, a fresh array."""
