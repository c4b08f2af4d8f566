"""The clocks of a program: one that measures durations, one that a person reads.

Knows: which operating system clock keeps counting while the machine sleeps. Does not know: leases, timeouts or
schedules; machines get ``now`` as an argument. Read next: ``core/patience.py`` for what durations mean.
"""

from __future__ import annotations

import time

# Linux: CLOCK_BOOTTIME counts through suspend, so a lease cannot seem younger than it is after a nap.
# macOS: CLOCK_MONOTONIC already counts through sleep.
_STEADY: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock:
    """The real clock; tests pass an object with the same two methods that jumps when told."""

    def now(self) -> float:
        """Return seconds since an unknown start, never going back; for durations and leases only."""
        return time.clock_gettime(_STEADY)

    def wall(self) -> float:
        """Return seconds since 1970-01-01 UTC, which may jump; for display only."""
        return time.time()
