"""How a result travels: one marker byte, then the value, the place where it lies, or the exception.

Small results ride along with the news that the call ended (at most ``RIDE_ALONG`` bytes), larger ones stay in a file of
the task's sandbox and only the path travels. Nothing here unpickles; that happens in the user's kernel alone.
"""

from __future__ import annotations

RIDE_ALONG = 256 * 1024
INLINE = b"\x00"  # + pickle of the value
IN_FILE = b"\x01"  # + absolute path (utf-8) of a file that holds the pickle
RAISED = b"\x02"  # + pickle of (exception pickle or None, type name, message, remote traceback text)
NOTHING = b""  # no value (executables; calls that never ran)
