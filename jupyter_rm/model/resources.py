"""What a task asks for and what a pilot holds.

A :class:`Request` is the shape of a task: equal requests are one shape, and everything about placement works on
shapes x nodes. A :class:`Node` is one host of a pilot. Units: cores, 1/10000 GPU, MiB. Read next:
:mod:`jupyter_rm.core.placing`.
"""

from __future__ import annotations

import msgspec

from .units import GPU_UNIT, human_mib


class Request(msgspec.Struct, frozen=True, array_like=True):
    """Resources of one task: ``ranks`` equal processes, each with what the other fields say.

    Attributes:
        ranks: number of processes.
        cores: cores per rank.
        gpus: 1/10000 GPUs per rank; above 10000 whole devices.
        mem: MiB of memory per rank (0: not counted).
        lfs: MiB of node-local disk per rank.
        ranks_per_node: exactly so many ranks on a node (0: as they fit).
        named: (name, amount) per rank of resources the site defines.
        exclusive: whole nodes, shared with nobody.
        numa: ``compact`` (default), ``spread`` or ``any``.
    """

    ranks: int = 1
    cores: int = 1
    gpus: int = 0
    mem: int = 0
    lfs: int = 0
    ranks_per_node: int = 0
    named: tuple[tuple[str, int], ...] = ()
    exclusive: bool = False
    numa: str = "compact"

    def __str__(self) -> str:
        parts = [f"{self.cores} core{'s' * (self.cores != 1)}"]
        if self.gpus:
            parts.append(f"{self.gpus / GPU_UNIT:g} GPU")
        if self.mem:
            parts.append(human_mib(self.mem))
        if self.lfs:
            parts.append(f"{human_mib(self.lfs)} local disk")
        parts += [f"{amount} {name}" for name, amount in self.named]
        text = ", ".join(parts)
        return f"{self.ranks} x ({text})" if self.ranks > 1 else text


class Node(msgspec.Struct, frozen=True, array_like=True):
    """One host of a pilot.

    Attributes:
        name: host name.
        cores: usable cores; ``core_ids`` are their numbers in the operating system ([] = 0..cores-1).
        gpus: whole devices.
        mem: MiB of memory.
        lfs: MiB of local disk.
        numa: number of equal NUMA domains.
        partition: partition number.
        named: (name, amount) of resources the site defines.
    """

    name: str
    cores: int
    gpus: int = 0
    mem: int = 0
    lfs: int = 0
    numa: int = 1
    partition: int = 0
    named: tuple[tuple[str, int], ...] = ()
    core_ids: tuple[int, ...] = ()
