"""Log lines: one each, no forgery, no secrets, private and bounded files."""

from __future__ import annotations

from pathlib import Path

import pytest

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
