"""Text that programs wrote, made fit to be shown: no terminal commands, no hidden characters, bounded.

What it returns is still text, to be shown as text: it may hold ``<`` and ``&``. Knows nothing of who shows it.
Read next: :mod:`.tables`.
"""

from __future__ import annotations

import re

# Commands of terminals (CSI, OSC with its text, other strings and two-character ones), in the order they are tried.
_COMMANDS = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]?|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[PX^_][^\x1b]*(?:\x1b\\)?|\x1b[ -/]*[0-~]?"
    r"|\x9b[0-?]*[ -/]*[@-~]?"
)
# Control characters but tab and line ends; marks that turn the direction of text; invisible separators; halves of
# characters, which stand for bytes that were no UTF-8.
_HIDDEN = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
_REWRITTEN = re.compile(r"[^\n]*\r(?=[^\n\r])")


def plain(text: str) -> str:
    """Return ``text`` without terminal commands and hidden characters; rewritten lines show their last state."""
    if text.isascii() and text.isprintable():
        return text
    text = _COMMANDS.sub("", text).replace("\r\n", "\n")
    return _HIDDEN.sub("\N{REPLACEMENT CHARACTER}", _REWRITTEN.sub("", text).replace("\r", ""))


def line(text: str, most: int = 300) -> str:
    """Return ``text`` as one plain line of at most ``most`` characters."""
    flat = " ".join(plain(text).split())
    return flat if len(flat) <= most else flat[: most - 1] + "…"
