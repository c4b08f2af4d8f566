"""The command lines of seven job shapes on every system, word for word."""

from __future__ import annotations

import golden_kit


def test_command_lines_are_the_ones_on_the_page() -> None:
    assert golden_kit.page() == golden_kit.PAGE.read_text(encoding="utf-8"), (
        "read the difference; if it is meant, run: python tests/batch/golden_kit.py"
    )


def test_each_system_takes_most_shapes() -> None:
    page = golden_kit.PAGE.read_text(encoding="utf-8")
    for part in page.split("\n== ")[1:]:
        shapes = [line for line in part.splitlines() if line.startswith("submit, ")]
        taken = [line for line in shapes if "REFUSED" not in line]
        assert len(shapes) == len(golden_kit.SHAPES)
        assert taken, f"{part.splitlines()[0]} takes no shape at all"
