"""Log lines of a program: one event a line, in a rotating private file, without secrets and without forgery.

A line is ``time level name pid message``; line breaks, terminal sequences and other control characters inside a
message are written as escapes, so that text from a task or a peer cannot look like another line. Registered secrets are
replaced before anything is written, tracebacks included.

Knows: logging handlers. Does not know: what is worth logging. Read next: ``home.py`` for where the file stands.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import re
import threading
import time
from collections import deque
from itertools import islice
from pathlib import Path

from ..model.logs import KEPT, MOST, LogLine, LogPart

LINE_MOST = 2000  # characters of a line that is told
MAX_BYTES = 5 << 20
FILES = 3
_SECRET_MIN = 6  # characters; shorter ones would blacken ordinary words

# Control characters, and the Unicode ones that reorder or break lines on a screen.
_UNSAFE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\x1b": "\\x1b"}


def escape(text: str) -> str:
    """Return ``text`` as one harmless line."""
    return _UNSAFE.sub(lambda found: _SHORT.get(found[0]) or _spell(found[0]), text)


def _spell(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


class Redactor:
    """The secrets of this process and the means to strike them from text."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._secrets: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, secret: str) -> None:
        """Register a secret; shorter than 6 characters it is ignored."""
        if len(secret) < _SECRET_MIN:
            return
        with self._lock:
            # As it is, and as it looks after escaping or inside a repr.
            self._secrets |= {secret, escape(secret), repr(secret)[1:-1]}
            longest_first = sorted(self._secrets, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def clean(self, text: str) -> str:
        """Return ``text`` with every registered secret replaced by ``[secret]``."""
        pattern = self._pattern
        return pattern.sub("[secret]", text) if pattern is not None else text


redactor = Redactor()


class LineFormatter(logging.Formatter):
    """One line for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the escaped, redacted line."""
        message = record.getMessage()
        if record.exc_info:
            message += "\n" + self.formatException(record.exc_info)
        if record.stack_info:
            message += "\n" + self.formatStack(record.stack_info)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        head = f"{stamp}.{int(record.msecs):03d}Z {record.levelname} {escape(record.name)} {record.process}"
        return f"{head} {escape(redactor.clean(message))}"


class _PrivateRotating(logging.handlers.RotatingFileHandler):
    """A rotating file that is 0600 from its first moment and never follows a link."""

    def _open(self):  # type: ignore[no-untyped-def]
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        return open(os.open(self.baseFilename, flags, 0o600), "a", encoding="utf-8", errors="backslashreplace")


class Tap(logging.Handler):
    """Keeps the last lines of a program for whoever asks; see :mod:`jupyter_rm.model.logs`.

    Args:
        life: number of this life of the program: line numbers begin anew with each.
    """

    def __init__(self, logger: logging.Logger, life: int, kept: int = KEPT) -> None:
        super().__init__()
        self._logger, self.life = logger, life
        self._lines: deque[LogLine] = deque(maxlen=kept)
        self._last = 0
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f" ({type(record.exc_info[1]).__name__}: {record.exc_info[1]})"
        self._last += 1
        text = escape(redactor.clean(text))[:LINE_MOST]
        self._lines.append(LogLine(self._last, record.created, record.levelno, escape(record.name), text))

    def close(self) -> None:
        """Keep no more."""
        self._logger.removeHandler(self)
        super().close()

    def read(self, life: int, after: int, most: int, level: int = 0) -> LogPart:
        """Return at most so many lines after number ``after`` of its life ``life``; ``level``: log from that on."""
        if level:
            self._logger.setLevel(level)
        after = after if life == self.life else 0
        self.acquire()
        try:
            first = self._last - len(self._lines) + 1
            start = max(0, after + 1 - first)
            lines = tuple(islice(self._lines, start, start + max(0, min(most, MOST))))
        finally:
            self.release()
        return LogPart(self.life, lines, max(0, first - 1 - after), self._logger.getEffectiveLevel())


def setup(name: str, path: Path, level: int | str = logging.INFO) -> logging.Logger:
    """Send the records of logger ``name`` and below to the file ``path`` (3 files of 5 MB), once however often called.

    Raises:
        OSError: the file cannot be opened.
    """
    logger = logging.getLogger(name)
    logger.setLevel(level)
    logger.propagate = False
    for handler in list(logger.handlers):
        if isinstance(handler, _PrivateRotating):
            logger.removeHandler(handler)
            handler.close()
    added = _PrivateRotating(path, maxBytes=MAX_BYTES, backupCount=FILES - 1, encoding="utf-8")
    added.setFormatter(LineFormatter())
    logger.addHandler(added)
    return logger
