"""A shell that stays on another machine: directory, variables and running commands outlive whoever talks to it.

Runs there by itself, with Python's own library alone: ``python3 keeper.py run|follow|last|interrupt|state|close``. The
shell reads a named pipe in a directory that is its owner's alone, one line a cell; cells, their output and how they
ended are files beside it. There is at most one an account and host: a lock says so, and the pipe without a reader says
that there is none. It listens nowhere. Read next: :mod:`jupyter_rm.notebook.kept`, who calls it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress

READY_S = 10.0  # a shell must have come up after this long
LOOK_S = 0.05
IDLE_S = 7 * 86_400.0  # without any cell for so long it ends
KEPT = 50  # cells whose files are kept
MOST_LINE = 4000  # a line up to the size of PIPE_BUF is written whole or not at all
PART = 1 << 18
# bash where there is one, since people write bash. No start-up files: what a cell does depends on cells alone.
SHELL = ["sh", "-c", "if command -v bash >/dev/null 2>&1; then exec bash --noprofile --norc; else exec sh; fi"]
# What runs is a function, so that Ctrl-C can leave it (and any loop in it) without ending the shell.
BEGIN = "trap 'return 130' INT; jrm_run() { command eval \"$jrm_cell\" </dev/null; }\n"
LINE = (
    "jrm_cell=$(cat {n}.cell; printf .); jrm_cell=${{jrm_cell%.}}; "
    'jrm_run >{n}.out 2>{n}.err; jrm_code=$?; printf \'%d\\n%s\\n\' "$jrm_code" "$PWD" >{n}.part; '
    "printf '%s' \"$PWD\" >{d}/cwd; command mv -f {n}.part {n}.done\n"
)


def folder() -> str:
    """Return the directory of this host's shell, which exists and is ours alone."""
    host = re.sub(r"[^A-Za-z0-9._-]", "_", platform.node()) or "host"
    made = os.path.join(os.path.expanduser("~"), ".jupyter_rm", "shell", host)
    os.makedirs(made, mode=0o700, exist_ok=True)
    os.chmod(made, 0o700)
    return made


def quoted(text: str) -> str:
    """Return a word for the shell."""
    return "'" + text.replace("'", "'\\''") + "'"


def pipe_of(place: str) -> int:
    """Return the pipe, open for writing; -1 when no shell reads it."""
    try:
        return os.open(os.path.join(place, "pipe"), os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENOENT):
            return -1
        raise


def serve(place: str) -> int:
    """Be the one that looks after the shell; 0 at once when there is another."""
    lock = os.open(os.path.join(place, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return 0
    held = pipe_of(place)
    if held >= 0:  # the shell of one that was killed lives on
        os.close(held)
        return 0
    # Nobody may write before the shell has read its first line: the pipe gets its name when that is in it.
    path, new = os.path.join(place, "pipe"), os.path.join(place, "pipe.new")
    for old in (path, new):
        with suppress(FileNotFoundError):
            os.unlink(old)
    os.mkfifo(new, 0o600)
    inlet = os.open(new, os.O_RDWR | os.O_CLOEXEC)
    try:
        with open(os.path.join(place, "cwd")) as file:
            start = file.read()
    except OSError:
        start = ""
    home = os.path.expanduser("~")
    with open(os.path.join(place, "shell.log"), "ab") as log:
        shell = subprocess.Popen(
            SHELL,
            stdin=inlet,
            stdout=log,
            stderr=log,
            cwd=start if os.path.isdir(start) else home,
            start_new_session=True,
        )
    with open(os.path.join(place, "pid"), "w") as file:
        file.write(str(shell.pid))
    os.write(inlet, BEGIN.encode())
    os.rename(new, path)
    os.close(inlet)  # from now on the pipe has a reader exactly as long as the shell lives
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        try:
            shell.wait(60.0)
            return 0
        except subprocess.TimeoutExpired:
            newest = max((os.path.getmtime(entry.path) for entry in os.scandir(place)), default=0.0)
            if time.time() - newest > IDLE_S and not waiting(place):
                with suppress(OSError):
                    os.killpg(shell.pid, signal.SIGHUP)


def ensured(place: str) -> int:
    """Return the pipe of a shell that lives, starting one if need be; -1 when none comes up."""
    held = pipe_of(place)
    if held >= 0:
        return held
    subprocess.Popen(
        [sys.executable, os.path.abspath(__file__), "serve"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        held = pipe_of(place)
        if held >= 0:
            return held
        time.sleep(LOOK_S)
    return -1


def cells(place: str) -> list[int]:
    """Return the numbers of the cells that are known, in order."""
    return sorted(int(name[:-5]) for name in os.listdir(place) if name.endswith(".cell") and name[:-5].isdigit())


def waiting(place: str) -> list[int]:
    """Return the numbers of the cells that have not ended."""
    return [number for number in cells(place) if not os.path.exists(os.path.join(place, f"{number}.done"))]


def new_cell(place: str, text: bytes) -> int:
    """Write a cell down under a number of its own, forget old ones, and return the number."""
    known = cells(place)
    for old in known[:-KEPT]:
        for end in ("cell", "out", "err", "part", "done"):
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(place, f"{old}.{end}"))
    number = known[-1] + 1 if known else 0
    while True:
        try:
            fd = os.open(os.path.join(place, f"{number}.cell"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            break
        except FileExistsError:
            number += 1
    with os.fdopen(fd, "wb") as file:
        file.write(text)
    for end in ("out", "err"):
        open(os.path.join(place, f"{number}.{end}"), "wb").close()
    return number


def run(place: str, mark: str, size: int) -> int:
    """Take a cell of ``size`` bytes from stdin, have it run, and pass on what it prints."""
    text = b""
    while len(text) < size:
        part = os.read(0, size - len(text))
        if not part:
            return 1
        text += part
    pipe = ensured(place)
    if pipe < 0:
        sys.stderr.write(f"it did not come up within {READY_S:g} s\n")
        return 3
    number = new_cell(place, text)
    # Paths of the owner's home, quoted; nothing of the cell itself stands in the line.
    line = LINE.format(n=quoted(os.path.join(place, str(number))), d=quoted(place)).encode()
    if len(line) > MOST_LINE:
        sys.stderr.write("the path of the home is too long\n")
        return 3
    try:
        os.write(pipe, line)
    except BlockingIOError:
        sys.stderr.write("too many cells wait for the shell\n")
        return 3
    finally:
        os.close(pipe)
    return follow(place, mark, number)


def follow(place: str, mark: str, number: int) -> int:
    """Pass on what a cell printed and prints, from its beginning; a line at the end says how it ended."""
    base = os.path.join(place, str(number))
    if not os.path.exists(base + ".out"):
        sys.stderr.write(f"there is no cell {number}\n")
        return 3
    with open(base + ".out", "rb") as out, open(base + ".err", "rb") as err:
        while True:
            over = os.path.exists(base + ".done")
            gone = not over and not reads(place)
            if passed(out, 1) + passed(err, 2):
                continue
            if over or gone:
                break
            if select.select([0], [], [], LOOK_S)[0] and not os.read(0, 1):
                return 0  # whoever asked has left; the cell goes on
    code, where = "-1", ""
    if over:
        with open(base + ".done", "rb") as file:
            code, where = file.read().decode("utf-8", "surrogateescape").rstrip("\n").split("\n", 1)
    os.write(1, f"{mark} {code} {where}\n".encode("utf-8", "surrogateescape"))
    os.write(2, f"{mark}\n".encode())
    return 0


def reads(place: str) -> bool:
    """Does a shell live?"""
    held = pipe_of(place)
    if held >= 0:
        os.close(held)
    return held >= 0


def passed(source: object, sink: int) -> int:
    """Copy what is there of an open file to a descriptor; return how many bytes that were."""
    data = source.read(PART)  # type: ignore[attr-defined]
    left = data
    while left:
        left = left[os.write(sink, left) :]
    return len(data)


def own_pid(place: str) -> int:
    """Return the process of the shell, 0 when there is none."""
    try:
        with open(os.path.join(place, "pid")) as file:
            return int(file.read()) if reads(place) else 0
    except (OSError, ValueError):
        return 0


def interrupt(place: str) -> int:
    """Send Ctrl-C to what runs, and then to the shell, which leaves the cell. Without a cell nothing is done."""
    shell = own_pid(place)
    if shell and waiting(place):
        listed = subprocess.run(["ps", "-A", "-o", "pid=,pgid="], stdout=subprocess.PIPE, check=False).stdout.decode()
        group = [int(line.split()[0]) for line in listed.splitlines() if line.split()[1] == str(shell)]
        for pid in [pid for pid in group if pid != shell] + [shell]:
            with suppress(OSError):
                os.kill(pid, signal.SIGINT)
    return 0


def close(place: str) -> int:
    """End the shell and what runs in it, and remove its files."""
    shell = own_pid(place)
    if shell:
        for number in (signal.SIGHUP, signal.SIGKILL):
            with suppress(OSError):
                os.killpg(shell, number)
            deadline = time.monotonic() + 2.0
            while reads(place) and time.monotonic() < deadline:
                time.sleep(LOOK_S)
    for entry in list(os.scandir(place)):
        if entry.name != "lock":  # who waits for it must find the same file
            with suppress(OSError):
                os.unlink(entry.path)
    return 0


def state(place: str) -> int:
    """Say in one line: process, the last cell, how many have not ended, directory."""
    known = cells(place)
    try:
        with open(os.path.join(place, "cwd")) as file:
            where = file.read()
    except OSError:
        where = ""
    print(own_pid(place), known[-1] if known else -1, len(waiting(place)), where)
    return 0


def main(words: list[str]) -> int:
    """Do one thing; returns the exit code."""
    os.umask(0o077)
    place = folder()
    if words[0] == "run":
        return run(place, words[1], int(words[2]))
    if words[0] == "follow":
        return follow(place, words[1], int(words[2]))
    actions = {"serve": serve, "interrupt": interrupt, "close": close, "state": state}
    return actions[words[0]](place)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
