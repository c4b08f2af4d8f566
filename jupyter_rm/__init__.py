"""jupyter_rm: drive pilots and thousands of tasks on this machine or a cluster from a notebook, and lose nothing.

    import jupyter_rm as jrm
    s = jrm.open("study")
    b = s.array(jrm.Task("simulate", ["--seed", "{seed}"]), seed=range(100))
    b.wait(); b.to_frame()

Names are loaded when first used, so that importing the package is quick. Read next: :mod:`jupyter_rm.client.session`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client.bulk import Bulk
    from .client.bundle import Array, Bundle, Calls
    from .client.listing import sessions
    from .client.pilot import Pilot
    from .client.script import Job
    from .client.session import Session, open
    from .client.task import TaskHandle
    from .client.tunnel import Tunnel, tunnel
    from .model.describe import Service, Shell, Task, TaskDescription
    from .model.errors import JrmError, LinkError, ProtocolError, RequestError, SiteError, TaskError
    from .model.states import Cause, PilotState, TaskState

__version__ = "0.1.0"

_HOMES = {
    "Array": "client.bundle",
    "Bundle": "client.bundle",
    "Calls": "client.bundle",
    "Bulk": "client.bulk",
    "Job": "client.script",
    "Pilot": "client.pilot",
    "Session": "client.session",
    "TaskHandle": "client.task",
    "Tunnel": "client.tunnel",
    "tunnel": "client.tunnel",
    "open": "client.session",
    "sessions": "client.listing",
    "Service": "model.describe",
    "Shell": "model.describe",
    "Task": "model.describe",
    "TaskDescription": "model.describe",
    "JrmError": "model.errors",
    "LinkError": "model.errors",
    "ProtocolError": "model.errors",
    "RequestError": "model.errors",
    "SiteError": "model.errors",
    "TaskError": "model.errors",
    "Cause": "model.states",
    "PilotState": "model.states",
    "TaskState": "model.states",
}

__all__ = [
    "Array",
    "Bulk",
    "Bundle",
    "Calls",
    "Cause",
    "Job",
    "JrmError",
    "LinkError",
    "Pilot",
    "PilotState",
    "ProtocolError",
    "RequestError",
    "Service",
    "Session",
    "Shell",
    "SiteError",
    "Task",
    "TaskDescription",
    "TaskError",
    "TaskHandle",
    "TaskState",
    "Tunnel",
    "open",
    "sessions",
    "tunnel",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    if name in ("Bulk", "Job", "Pilot", "TaskHandle"):
        importlib.import_module(".client.session", __name__)  # their from_dict attaches
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    if name in ("open", "Session"):
        # Sessions show themselves with what stands above them.
        from .client import show

        show.viewer = _viewer
    globals()[name] = value
    return value


def _viewer() -> Any:
    from .notebook import live

    return live


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})


def load_ipython_extension(shell: Any) -> None:
    """Bring ``%jrm`` and ``%%jrm`` into a notebook (``%load_ext jupyter_rm``)."""
    from .notebook.extension import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Take the magics away again."""
    from .notebook.extension import unload

    unload(shell)
