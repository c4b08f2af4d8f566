"""Fixtures of the tests of several nodes."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "agent"))

from span_kit import spans

__all__ = ["spans"]
