"""The part of a shared collection that runs at the site: looks at a directory, gives out turns, puts a document there.

Sent as constant text to any Python 3 there: ``python3 -I -S -c THIS look|put DIRECTORY PART ...``. A file counts only
when it is a plain one of the account that its name holds and nobody else may write it; of several the youngest. Who is
to collect next is settled by making a file that only one can make, one in each slot of time: no lock is ever left
behind that somebody must break. It reads no document and believes no name. Read next: :mod:`.collect_shared`, who
calls it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pwd
import re
import stat
import sys
import time
import zlib
from typing import Any

MOST = 16 << 20  # bytes of a document
MARK = "jrm-collect-1 "
PATIENCE = 30.0  # for so long a turn of the slot before is respected, s
SLOT = 60.0
AHEAD = 60.0  # clocks may differ by so much, s
FILES = 4000  # entries of the directory that are looked at


def say(body: bytes = b"", **said: Any) -> None:
    """Print the answer: a line after a mark (logins may print too), then the packed document."""
    packed = zlib.compress(body, 1) if body else b""
    line = MARK + json.dumps({**said, "size": len(packed)}) + "\n"
    sys.stdout.buffer.write(b"\n" + line.encode("ascii") + packed)
    sys.stdout.buffer.flush()


def name_of(uid: int) -> str:
    """Return the name of an account, its number when it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def opened(place: str, owner: str) -> tuple[int, set[int]]:
    """Return the directory and the owners that a site trusts; ValueError says why it is not used."""
    try:
        there = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ValueError(f"{place}: {error.strerror}") from None
    mode = os.fstat(there).st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise ValueError(f"{place}: everybody may replace the files of others there; chmod +t mends that")
    trusted = {0}
    if owner:
        try:
            trusted.add(pwd.getpwnam(owner).pw_uid)
        except KeyError:
            raise ValueError(f"there is no account {owner}") from None
    return there, trusted


def wrong(info: os.stat_result, uid: int, now: float) -> str:
    """Return why a file is not believed, empty when it is."""
    if not stat.S_ISREG(info.st_mode):
        return "is no plain file"
    if info.st_uid != uid:
        return "belongs to " + name_of(info.st_uid)
    if info.st_mode & 0o022:
        return "may be written by others"
    if info.st_nlink != 1:
        return "has several names"
    if info.st_size > MOST:
        return f"is larger than {MOST >> 20} MiB"
    if info.st_mtime > now + AHEAD:
        return "is from the future"
    return ""


def candidates(
    there: int, part: str, now: float, trusted: set[int], only: str, known: list[str]
) -> tuple[list[tuple[float, int, str]], list[str]]:
    """Return (time, uid, name) of the files that may hold a part, youngest first, and why others are left out."""
    found: list[tuple[float, int, str]] = []
    refused: list[str] = []
    with os.scandir(there) as entries:
        for number, entry in enumerate(entries):
            if number >= FILES:
                refused.append("the directory holds too many files")
                break
            match = re.fullmatch(re.escape(part) + r"\.([0-9]{1,10})\.json", entry.name)
            if match is None:
                continue
            uid = int(match.group(1))
            try:
                info = os.stat(entry.name, dir_fd=there, follow_symlinks=False)
            except OSError:
                continue
            if f"{uid}:{info.st_mtime_ns}" in known:
                continue
            why = wrong(info, uid, now) or ("is not of " + only if only and uid not in trusted else "")
            if why:
                refused.append(f"{entry.name} {why}")
            else:
                found.append((info.st_mtime, uid, entry.name))
    return sorted(found, reverse=True), refused[:5]


def content(there: int, name: str, uid: int, now: float) -> tuple[bytes, int]:
    """Return what stands in a file and when it was written (ns); ValueError when it is another one by now."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    file = os.open(name, flags, dir_fd=there)
    with open(file, "rb") as opened_file:
        info = os.fstat(file)
        why = wrong(info, uid, now)
        if why:
            raise ValueError(f"{name} {why}")
        return opened_file.read(MOST + 1), info.st_mtime_ns


def turn(there: int, part: str, now: float, pause: float) -> tuple[bool, str]:
    """Return whether the caller is the one who collects now, and why it cannot be when nobody here can."""
    length = min(SLOT, pause)
    slot = int(now // length)
    names = [f"turn.{part}.{number}" for number in (slot, slot - 1)]
    with os.scandir(there) as entries:
        old = [entry.name for entry in entries if entry.name.startswith(f"turn.{part}.") and entry.name not in names]
    for name in old[:FILES]:
        with contextlib.suppress(OSError):
            if os.stat(name, dir_fd=there, follow_symlinks=False).st_uid == os.getuid():
                os.unlink(name, dir_fd=there)
    with contextlib.suppress(OSError):
        # Somebody took it at the end of the slot before and is still at it.
        if now - os.stat(names[1], dir_fd=there, follow_symlinks=False).st_mtime < min(PATIENCE, length / 2):
            return False, ""
    try:
        os.close(os.open(names[0], os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=there))
    except OSError as error:
        return False, "" if error.errno == errno.EEXIST else str(error.strerror)
    return True, ""


def look(place: str, part: str, pause: float, owner: str, known: str) -> None:
    """Say what the youngest file holds that is believed, or that it is the caller's turn to collect."""
    there, trusted = opened(place, owner)
    now = time.time()
    found, refused = candidates(there, part, now, trusted, owner, known.split(","))
    age = now - found[0][0] if found else None
    mine, cannot = False, ""
    if owner and os.getuid() not in trusted:
        cannot = f"only {owner} collects there"
    elif age is None or age >= pause:
        mine, cannot = turn(there, part, now, pause)
    said: dict[str, Any] = {"now": now, "turn": mine, "cannot": cannot, "refused": refused}
    if mine or age is None or age > 4 * pause:
        say(**said)
        return
    try:
        body, written = content(there, found[0][2], found[0][1], now)
    except (OSError, ValueError) as error:
        said["refused"] = [*refused, str(error)]
        say(**said)
        return
    uid = found[0][1]
    trust = uid in trusted
    say(body, uid=uid, written=written, user=name_of(uid), file=found[0][2], trusted=trust, **said)


def put(place: str, part: str, owner: str) -> None:
    """Put the document on standard input there: the old one or the new one is there, never a part."""
    there, trusted = opened(place, owner)
    uid = os.getuid()
    if owner and uid not in trusted:
        raise ValueError(f"only {owner} collects there")
    body = sys.stdin.buffer.read(MOST + 1)
    if len(body) > MOST:
        raise ValueError("the document is too large")
    name = f"{part}.{uid}.json"
    made = f".{name}.{os.getpid()}.{time.time_ns()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with open(os.open(made, flags, 0o600, dir_fd=there), "wb") as file:
        try:
            file.write(body)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
            os.rename(made, name, src_dir_fd=there, dst_dir_fd=there)
        except BaseException:
            os.unlink(made, dir_fd=there)
            raise
    with os.scandir(there) as entries:  # what an earlier one of ours left that was killed
        left = [entry.name for entry in entries if entry.name.startswith(f".{part}.{uid}.json.")]
    for name in left[:FILES]:
        with contextlib.suppress(OSError):
            info = os.stat(name, dir_fd=there, follow_symlinks=False)
            if info.st_uid == uid and time.time() - info.st_mtime > 3600:
                os.unlink(name, dir_fd=there)
    say(written=name)


def main(words: list[str]) -> None:
    """Do what was asked; why it cannot be is an answer too."""
    try:
        if words[0] == "look":
            place, part, pause, owner, known = words[1:]
            look(place, part, float(pause), owner, known)
        else:
            put(*words[1:])
    except OSError as error:
        say(trouble=f"{words[1]}: {error.strerror}")
    except ValueError as error:
        say(trouble=str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
