"""Log lines: one each, no forgery, no secrets, private and bounded files."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from jupyter_rm.model.logs import LogLine
from jupyter_rm.runtime import logs


def test_a_message_cannot_forge_a_line_or_drive_a_terminal(tmp_path: Path) -> None:
    logger = logs.setup("jrm-test-forge", tmp_path / "log")
    logger.info("first\n2026-01-01 INFO forged\r\x1b[31mred\x9b\u2028\u202e\ud800 end %s", "é")
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert "first\\n2026-01-01 INFO forged\\r\\x1b[31mred\\x9b\\u2028\\u202e\\ud800 end é" in line
    assert " INFO jrm-test-forge " in line


def test_secrets_are_struck_in_messages_and_tracebacks(tmp_path: Path) -> None:
    secret = "s3cret'key\nx"
    logs.redactor.add(secret)
    logger = logs.setup("jrm-test-secret", tmp_path / "log")
    logger.warning("key is %s, as repr %r", secret, secret)
    try:
        raise ValueError(f"bad {secret}")
    except ValueError:
        logger.exception("failed")
    text = (tmp_path / "log").read_text()
    assert len(text.splitlines()) == 2
    assert "s3cret" not in text
    assert text.count("[secret]") >= 3
    assert "ValueError" in text


def test_files_are_private_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_BYTES", 2000)
    logger = logs.setup("jrm-test-turn", tmp_path / "log")
    for number in range(200):
        logger.info("line %d", number)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["log", "log.1", "log.2"]
    assert all(file.stat().st_mode & 0o777 == 0o600 and file.stat().st_size <= 2000 for file in files)
    assert "line 199" in (tmp_path / "log").read_text()


def test_setup_twice_writes_once_and_links_are_not_followed(tmp_path: Path) -> None:
    logs.setup("jrm-test-twice", tmp_path / "log")
    logs.setup("jrm-test-twice", tmp_path / "log").info("once")
    assert (tmp_path / "log").read_text().count("once") == 1
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="link"):
        logs.setup("jrm-test-link", tmp_path / "link")


def test_ten_thousand_lines_of_many_threads_are_told_in_order_and_whole() -> None:
    logger = logging.getLogger("jrm-test-tap")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    tap = logs.Tap(logger, life=3)

    def work(name: str) -> None:
        for number in range(2500):
            logger.info("%s %d", name, number)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    told: list[LogLine] = []
    while len(told) < 10_000:
        part = tap.read(3, told[-1].no if told else 0, 700)
        assert (part.life, part.dropped) == (3, 0)
        told += part.lines
    for thread in threads:
        thread.join()
    assert [line.no for line in told] == list(range(1, 10_001))
    for name in "abcd":
        assert [line.text for line in told if line.text[0] == name] == [f"{name} {number}" for number in range(2500)]
    assert tap.read(3, 10_000, 10).lines == ()
    tap.close()
    logger.info("nobody keeps this")
    assert tap.read(3, 10_000, 10).lines == ()


def test_what_was_not_kept_is_counted_and_another_life_begins_anew() -> None:
    logger = logging.getLogger("jrm-test-overflow")
    logger.propagate = False
    tap = logs.Tap(logger, life=1, kept=100)
    logger.setLevel(logging.INFO)
    for number in range(250):
        logger.info("line %d", number)
    logger.debug("not asked for")
    part = tap.read(1, 20, 1000)
    assert (part.dropped, part.lines[0].no, len(part.lines), part.level) == (130, 151, 100, logging.INFO)
    assert tap.read(0, 999, 1).lines[0].no == 151, "numbers of another life mean nothing"
    assert tap.read(1, 250, 10, logging.DEBUG).level == logging.DEBUG
    logger.debug("asked for, \x1b[31m\n, with %s", "a secret of mine")
    (line,) = tap.read(1, 250, 10).lines
    assert line.text == "asked for, \\x1b[31m\\n, with a secret of mine" and line.level == logging.DEBUG
    logs.redactor.add("a secret of mine")
    logger.debug("with %s", "a secret of mine")
    assert tap.read(1, 251, 10).lines[0].text == "with [secret]"
    tap.close()
