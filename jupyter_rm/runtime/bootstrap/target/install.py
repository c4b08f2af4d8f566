"""Makes an environment on the machine where it runs: ``python -I -c THIS``, an order on stdin, news on stdout.

Constant text for any Python from 3.10 on with nothing installed; lines of JSON in both directions. It takes the lock of
the environment, says which archives are missing, waits for ``go``, unpacks beside the goal, checks the result with the
interpreter that will use it, and renames it into place. Whoever is killed in between leaves nothing that is taken
for an environment; the lock goes with the process.

Knows: files of this machine. Does not know: who sends, or what is in the archives. Read next: ``../ensure.py``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from typing import Any

PATIENCE = 90.0  # seconds without any word from the other side after which nobody is waiting for us
SPARE = 8 << 20
KEPT = 60 * 86400.0  # s
Order = dict[str, Any]
heard = time.monotonic()
go = threading.Event()
talking = True


def say(word: str, **more: Any) -> None:
    """Send one line of news; a listener that is gone does not matter once everything needed is here."""
    global talking
    if talking:
        try:
            sys.stdout.write(json.dumps({"say": word, **more}) + "\n")
            sys.stdout.flush()
        except (OSError, ValueError):
            talking = False


class Failed(Exception):
    """A step that cannot be done: kind, text and the last output of a command."""

    def __init__(self, kind: str, text: str, **more: Any) -> None:
        super().__init__(text)
        self.more = {"kind": kind, "text": text, **more}


def listen() -> None:
    """Take words in: ``go`` when the archives are here, anything else as a sign of life; the end ends us."""
    global heard
    for line in sys.stdin:
        heard = time.monotonic()
        if line.strip() == "go":
            go.set()
    if not go.is_set():
        os._exit(3)


def read(path: str) -> Any:
    """Return the JSON in a file, None when there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def holder(path: str) -> str:
    """Return who holds the lock, for people."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(200).strip()
    except OSError:
        return ""


def lock(path: str) -> int:
    """Take the lock of the environment; a file system without locks goes without: the rename at the end is safe."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    said = 0.0
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() - heard > PATIENCE:
                os._exit(3)
            if time.monotonic() - said > 1:
                said = time.monotonic()
                say("wait", text=holder(path))
            time.sleep(0.05)
        except OSError:
            break
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.uname().nodename} process {os.getpid()}".encode(), 0)
    return fd


def check_room(folder: str, need: int) -> None:
    """Refuse a file system without room, or one from which nothing can be executed."""
    info = os.statvfs(folder)
    free = info.f_bavail * info.f_frsize
    if free < need + SPARE:
        raise Failed("space", folder, need=(need + SPARE) >> 20, free=free >> 20)
    if getattr(os, "ST_NOEXEC", 8) & info.f_flag:
        raise Failed("noexec", folder)


def unpack(archives: list[str], into: str, total: int) -> None:
    """Unpack archives that were made by us into a directory, with news of how far it is."""
    done = said = 0
    for archive in archives:
        with tarfile.open(archive, "r:gz") as members:
            for member in members:
                parts = member.name.split("/")
                if not member.isfile() or member.name.startswith("/") or ".." in parts:
                    raise Failed("archive", f"{archive}: unexpected entry {member.name!r}")
                path = os.path.join(into, *parts)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                source = members.extractfile(member)
                with open(path, "xb") as sink:
                    if source is not None:
                        shutil.copyfileobj(source, sink, 1 << 20)
                os.chmod(path, 0o700 if member.mode & 0o100 else 0o600)
                os.utime(path, (member.mtime, member.mtime))
                done += member.size
                if total and done * 10 // total > said:
                    said = done * 10 // total
                    say("progress", step="unpack", percent=min(100, 10 * said))


def command(step: str, argv: list[str], timeout: float, env: dict[str, str] | None = None) -> str:
    """Run a command to its end; its last lines when it fails."""
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, env=env, check=False
        )
    except subprocess.TimeoutExpired:
        raise Failed("command", f"not done after {timeout} s", step=step, tail="") from None
    out, err = (part.decode("utf-8", "replace").strip() for part in (done.stdout, done.stderr))
    if done.returncode:
        raise Failed("command", f"exit code {done.returncode}", step=step, tail=(err or out)[-2000:])
    return out


def layout(order: Order, root: str, python: str) -> str:
    """Lay an empty virtual environment out; the packages' directory in it."""
    packages = os.path.join(root, "lib", order["lib"], "site-packages")
    os.makedirs(packages, mode=0o700)
    os.makedirs(os.path.join(root, "bin"), mode=0o700)
    shared = "true" if order.get("system") else "false"
    with open(os.path.join(root, "pyvenv.cfg"), "w", encoding="utf-8") as file:
        file.write(f"home = {os.path.dirname(python)}\ninclude-system-site-packages = {shared}\n")
        file.write(f"version = {order['version']}\n")
    interpreter(root, python)
    return packages


def interpreter(root: str, python: str) -> None:
    """Put the interpreter into the environment, and a way to start it that the user's Python settings do not reach."""
    os.symlink(python, os.path.join(root, "bin", "python"))
    path = os.path.join(root, "bin", "isolated")
    write(path, '#!/bin/sh\nexec "${0%/*}/python" -I "$@"\n')
    os.chmod(path, 0o700)


def make(order: Order, root: str) -> Order:
    """Make the environment in ``root``, checked; its record."""
    if order["local"]:
        return local_only(order, root)
    python = os.path.realpath(sys.executable)
    packages = layout(order, root, python)
    own = os.path.join(root, "bin", "python")
    if "wheels" in order:
        from_wheels(order, root, own)
        return {**order["record"], "base_python": python, "at": time.time()}
    say("step", step="install" if order["pip"] else "unpack")
    if order["pip"]:
        command("install", [sys.executable, "-m", "pip", *order["pip"], "--target", packages], 1800, clean())
    else:
        archives = [os.path.join(order["cache"], part["file"]) for part in order["parts"]]
        unpack(archives, packages, sum(part["unpacked"] for part in order["parts"]))
    say("step", step="verify")
    facts = json.loads(command("verify", [own, "-I", "-c", order["texts"]["verify.py"], "ours"], 300).splitlines()[-1])
    write(os.path.join(root, "start.py"), order["texts"]["start.py"])
    versions = {**order["record"]["versions"], **facts.pop("versions")}
    return {**order["record"], **facts, "versions": versions, "base_python": python, "at": time.time()}


def clean() -> dict[str, str]:
    """Return the environment for pip, without the user's settings of Python."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def from_wheels(order: Order, root: str, own: str) -> None:
    """Install the wheels of a lock, each checked by its hash, with the pip that was sent along."""
    say("step", step="install")
    os.symlink("python", os.path.join(root, "bin", "python3"))
    write(os.path.join(root, "lock.txt"), order["lock"])
    wheels = os.path.join(root, ".wheels")
    os.mkdir(wheels)
    for wheel in order["wheels"]:
        os.symlink(os.path.join(order["cache"], wheel["sha256"]), os.path.join(wheels, wheel["file"]))
    env = {name: value for name, value in clean().items() if not name.startswith("PIP_")}
    env["PIP_CONFIG_FILE"] = os.devnull
    pip = [own, "-I", os.path.join(order["cache"], order["installer"])]
    quiet = ["--no-input", "--disable-pip-version-check", "--no-cache-dir", "--no-warn-script-location"]
    offline = ["--no-index", "--find-links", wheels, "--require-hashes", "-r", os.path.join(root, "lock.txt")]
    command("install", [*pip, "install", *quiet, *offline], 1800, env)
    say("step", step="verify")
    command("verify", [*pip, "check", "--disable-pip-version-check"], 300, env)
    shutil.rmtree(wheels)
    # Its programs name the interpreter by where it was made; that is about to get its name.
    for entry in os.scandir(os.path.join(root, "bin")):
        if entry.is_file(follow_symlinks=False) and entry.name != "isolated":
            with open(entry.path, "rb") as file:
                text = file.read()
            if text.startswith(b"#!"):
                with open(entry.path, "wb") as file:
                    file.write(text.replace(os.fsencode(root), os.fsencode(order["goal"])))


def local_only(order: Order, root: str) -> Order:
    """Lay out what unpacks the environment on a node; its record."""
    for name, text in order["texts"].items():
        write(os.path.join(root, name), text)
    os.makedirs(os.path.join(root, "bin"), mode=0o700)
    python = os.path.realpath(sys.executable)
    interpreter(root, python)
    unpack_there = {**order, "anew": False, "local": False, "alone": True}
    return {**order["record"], "unpack": unpack_there, "base_python": python, "native": {}, "at": time.time()}


def write(path: str, text: str) -> None:
    """Write a text file."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def put_in_place(order: Order, root: str) -> None:
    """Rename what was made to where it belongs, and lead the name to it."""
    goal = order["goal"]
    away = ""
    if os.path.lexists(goal):
        away = os.path.join(os.path.dirname(goal), f".old-{secrets.token_hex(4)}")
        os.rename(goal, away)
    os.rename(root, goal)
    if away:
        shutil.rmtree(away, ignore_errors=True)


def lead_name(order: Order) -> None:
    """Let the name of the environment lead to it."""
    if order["name"]:
        part = os.path.join(order["env"], f".name-{secrets.token_hex(4)}")
        os.symlink(os.path.basename(order["goal"]), part)
        os.replace(part, os.path.join(order["env"], order["name"]))


def fetch(order: Order) -> None:
    """Have the archives that are missing sent, with the room for everything checked before."""
    missing = [
        part["file"] for part in order["parts"] if not os.path.isfile(os.path.join(order["cache"], part["file"]))
    ]
    for part in order["parts"]:
        with contextlib.suppress(OSError):
            os.utime(os.path.join(order["cache"], part["file"]))  # in use: see sweep()
    need = sum(part["unpacked"] for part in order["parts"]) if not order["local"] else 0
    need += sum(part["size"] for part in order["parts"] if part["file"] in missing)
    check_room(order["env"], need)
    if not missing:
        go.set()
        return
    say("send", missing=missing)
    while not go.wait(1):
        if time.monotonic() - heard > PATIENCE:
            os._exit(3)


def main(order: Order) -> None:
    """Carry an order out."""
    os.umask(0o077)
    for folder in (order["base"], order["env"], order["cache"], os.path.dirname(order["goal"])):
        os.makedirs(folder, mode=0o700, exist_ok=True)
    held = lock(os.path.join(order["env"], "." + os.path.basename(order["key"]) + ".lock"))
    record = read(os.path.join(order["goal"], "environment.json"))
    usable = record is not None and record.get("key") == order["key"] and not order["anew"]
    if usable and os.access(os.path.join(order["goal"], "bin", "python"), os.X_OK):
        os.utime(os.path.join(order["goal"], "environment.json"))  # in use: see sweep()
        lead_name(order)
        say("ok", record=record, how="found")
        return
    fetch(order)
    root = os.path.join(os.path.dirname(order["goal"]), ".new-" + os.path.basename(order["goal"]))
    if os.path.lexists(root):  # of one who was killed: we hold the lock
        shutil.rmtree(root, ignore_errors=True)
    if os.path.lexists(root):
        root += "-" + secrets.token_hex(4)
    try:
        os.makedirs(root, mode=0o700)
        record = make(order, root)
        with open(os.path.join(root, "environment.json"), "w", encoding="utf-8") as file:
            json.dump(record, file)
        put_in_place(order, root)
        lead_name(order)
    except BaseException:
        shutil.rmtree(root, ignore_errors=True)
        raise
    say("ok", record=record, how="made")
    sweep(order)
    os.close(held)


def sweep(order: Order) -> None:
    """Remove what nobody used for two months, and what a killed program of ours had set aside."""
    now = time.time()
    env, cache = order["env"], order["cache"]
    for name in os.listdir(cache):
        path = os.path.join(cache, name)
        with contextlib.suppress(OSError):
            if name.endswith((".tar.gz", ".part")) and now - os.lstat(path).st_mtime > KEPT:
                os.unlink(path)
    links = [path for path in (os.path.join(env, name) for name in os.listdir(env)) if os.path.islink(path)]
    named = {os.readlink(path) for path in links}
    for name in os.listdir(env):
        path = os.path.join(env, name)
        with contextlib.suppress(OSError):
            if name.startswith(".old-"):
                unused = now - os.lstat(path).st_mtime > 86400
            else:
                record = os.path.join(path, "environment.json")  # touched at every start
                unused = name not in named and not os.path.islink(path) and now - os.lstat(record).st_mtime > KEPT
            if unused:
                shutil.rmtree(path, ignore_errors=True)


def run() -> None:
    """Read the order, carry it out, say what went wrong."""
    order = json.loads(sys.stdin.readline())
    if order["alone"]:
        go.set()
    else:
        threading.Thread(target=listen, daemon=True).start()
    try:
        main(order)
    except Failed as error:
        say("fail", **error.more)
    except OSError as error:
        kind = "space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "write"
        say("fail", kind=kind, text=f"{error.filename or order['base']}: {error.strerror}", need=0, free=-1)
    except (tarfile.TarError, EOFError, ValueError) as error:
        for part in order["parts"]:  # a damaged archive would be found again and again
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(order["cache"], part["file"]))
        say("fail", kind="archive", text=str(error))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    run()
