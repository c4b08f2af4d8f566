"""The server half of the cockpit: an extension of the Jupyter server that shows and steers what the broker does.

It owns nothing: killing the Jupyter server harms no session, pilot or task. Importing this package is cheap; what is
heavy (numpy, ZeroMQ, the client) is loaded by threads when it is first needed. Needs ``jupyter_server``, which is no
dependency of the core package (``pip install jupyter_rm[lab]``). Read next: :mod:`.extension`.
"""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """Tell Jupyter where the extension is."""
    from .extension import JupyterRM

    return [{"module": "jupyter_rm.server.extension", "app": JupyterRM}]
