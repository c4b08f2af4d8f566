"""The placement oracle for tests: the portable placer, whose every choice can be read off.

The C++ core must make the same choices to the last core (``tests/native/test_placer_reference.py`` compares them). Read
next: ``native/placer_portable.py``.
"""

from __future__ import annotations

from jupyter_rm.native.placer_portable import PortablePlacer as ReferencePlacer

__all__ = ["ReferencePlacer"]
