"""Views are made from ledgers of any size and state; how to make those stands with the tests of the server."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "server"))
