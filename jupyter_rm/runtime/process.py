"""Starting task processes and hearing of their ends: one interface, two implementations.

What it is: `Launch` (what to start), `EVENT` (what is reported), and `Spawner(...)`, which picks the C++ spawner
where the kernel has what it needs and the portable one elsewhere. Beside them: finding executables, the guard
program, and ending whole process trees.

What it knows and does not know: processes, groups, descriptors, signals. It knows nothing of tasks, ranks, placement or
asyncio; a pool is a number, an allocation is a number, and what they stand for is the caller's business.

The life of a launch: `start` gives it an allocation, or `queue` lines it up behind a pool. When a process of the pool
ends, its allocation and CPUs pass to the first in line without any Python in between; the ENDED event names the heir
as `successor`. An ENDED with successor 0 gives the allocation back to the caller; launches still queued then (they
arrived a moment too late) are begun with `feed`.

Read next: process_native.py and native/spawner_core.hpp for the fast one, process_portable.py for the same behaviour in
Python, process_tree.py for ending process trees.
"""

from __future__ import annotations

import platform

from jupyter_rm.runtime.process_tree import become_subreaper, descendants, kill_descendants
from jupyter_rm.runtime.process_types import (
    CANCELLED,
    CORE_PASSED_ON,
    ENDED,
    EVENT,
    FAILED,
    STARTED,
    STEPS,
    TIMED_OUT,
    WAS_CANCELLED,
    Launch,
    SpawnerLike,
    guard_path,
    resolve,
)

__all__ = ["CANCELLED", "CORE_PASSED_ON", "ENDED", "EVENT", "FAILED", "STARTED", "STEPS", "TIMED_OUT", "WAS_CANCELLED"]
__all__ += ["Launch", "SpawnerLike", "Spawner", "guard_path", "resolve"]
__all__ += ["become_subreaper", "descendants", "kill_descendants", "native_supported"]


def native_supported() -> bool:
    """Whether the C++ spawner is built and this kernel has what it needs."""
    if platform.system() != "Linux":
        return False
    try:
        from jupyter_rm.native import _spawner
    except ImportError:
        return False
    return guard_path() is not None and _spawner.supported()


def Spawner(threads: int = 0, sweep: bool = True) -> SpawnerLike:
    """The best spawner for this machine. threads: 0 chooses. sweep: end what a leader leaves behind in its group."""
    if native_supported():
        from jupyter_rm.runtime.process_native import NativeSpawner

        return NativeSpawner(threads, sweep)
    from jupyter_rm.runtime.process_portable import PortableSpawner

    return PortableSpawner(threads, sweep)
