"""Starts the agent of a pilot where the pilot is, and says last of all how it ended.

    python start.py SPEC                     run the agent to its end; SPEC names the place of the pilot
    python start.py --module NAME ARG...     run another module of this environment in place of this program
    python start.py --guarded LOG N NAME ARG...   the same under a guard with its log, which starts it again N times
    python start.py --look PLACE             print what is known there as one line of JSON
    python start.py --signal NAME PLACE      send TERM or KILL to what runs there, then as --look

In the place it keeps ``process.json`` (who runs, since when), ``alive`` (touched every 15 s), ``alive.lock`` (locked
as long as anything of the pilot lives on that machine), ``agent.log``, and writes ``ended.json`` when all is over. A
second start of a pilot that lives does nothing (exit code 75); one after an end (a requeued job) is its next life: the
old ``ended.json`` and ``contact.json`` go, and epochs begin 1000 higher.

Constant text with nothing but Python's own library. Knows: processes and files of this machine. Does not know: tasks,
links. The hooks ``before_agent`` and ``after_agent`` of the spec run here. Read next: ``jupyter_rm/agent/__main__.py``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))
if sys.path and os.path.abspath(sys.path[0] or ".") == HERE:
    del sys.path[0]  # what lies beside this file is not for importing
BEAT_S = 15.0
RESTARTS = "20"
BUSY = 75
EPOCHS = 1000
HOOK_S, AFTER_S, CLEAR_S = 600.0, 20.0, 5.0
# Constant text; script, the program ``env`` and a file are its arguments.
TAKE = 'set -e; . "$1"; set +e; exec "$2" -0 >"$3"'
NOISE = {"_", "PWD", "OLDPWD", "SHLVL"}


def read(path: str) -> dict[str, Any]:
    """Return the JSON object in a file, also behind the three lines of a batch spec; an empty one without it."""
    with contextlib.suppress(OSError, ValueError), open(path, encoding="utf-8") as file:
        text = file.read()
        found = json.loads(text.split("\n", 3)[3] if text.startswith("jupyter_rm spec") else text)
        return found if isinstance(found, dict) else {}
    return {}


def write(path: str, value: dict[str, Any]) -> None:
    """Put a JSON object in place by one rename, on disk before it is seen."""
    part = f"{path}.{os.getpid()}"
    with open(part, "w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def boot() -> str:
    """Return what tells this run of the machine from all others, empty when it cannot be told."""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
    return ""


def stat_of(pid: int) -> tuple[int, str]:
    """Return (parent, start time in ticks) of a process that is not a zombie, (0, "") when there is none."""
    with contextlib.suppress(OSError, IndexError, ValueError), open(f"/proc/{pid}/stat", encoding="latin-1") as file:
        words = file.read().rpartition(")")[2].split()
        if words[0] not in "ZX":
            return int(words[1]), words[19]
    return 0, ""


def below(pid: int) -> list[int]:
    """Return the processes that descend from a process."""
    parents = {int(name): stat_of(int(name))[0] for name in os.listdir("/proc") if name.isdigit()}
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def take_lock(place: str) -> tuple[int, bool]:
    """Return (descriptor, whether the lock of the place could be had); True too where a file system has no locks."""
    fd = os.open(os.path.join(place, "alive.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return fd, False
    except OSError:
        return fd, True
    return fd, True


# --- running an agent


def module_argv(module: str, rest: list[str]) -> list[str]:
    """Return the command of a module, in an environment of ours with nothing of the user's Python settings in it."""
    own = ["-I"] if os.path.exists(os.path.join(HERE, "environment.json")) else []
    return [sys.executable, *own, "-m", module, *rest]


def guard(log: str, restarts: str) -> list[str]:
    """Return the guard's part of a command; empty where there is no guard."""
    for folder in (os.path.join(p, "jupyter_rm", "native") for p in packages()):
        path = os.path.join(folder, "jrm-guard")
        if os.access(path, os.X_OK):
            return [path, "-r", restarts, "-o", log, "--"]
    return []


def packages() -> list[str]:
    """Return the directories in which this package may lie."""
    above = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(HERE))))
    return [above, *sys.path]


def clean_environment() -> dict[str, str]:
    """Return the environment of the agent: the user's Python settings are for the user's programs."""
    env = dict(os.environ)
    if os.path.exists(os.path.join(HERE, "environment.json")):
        for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONUSERBASE"):
            env.pop(name, None)
    return env


def end_with(parent: int) -> None:
    """Have this process told to end (TERM) when its parent is gone, however that went: the root takes all along."""
    with contextlib.suppress(Exception):
        import ctypes

        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM), 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(BUSY)


def last_words(path: str, since: int) -> str:
    """Return the last lines of a log after a position."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        file.seek(max(since, file.seek(0, os.SEEK_END) - 2000))
        return "\n".join(file.read().decode("utf-8", "replace").strip().splitlines()[-12:])
    return ""


def run(spec_path: str) -> int:
    """Run the agent of a spec to its end; returns its exit code."""
    os.umask(0o077)
    place = str(read(spec_path)["place"])
    lock, mine = take_lock(place)
    for _ in range(20):  # somebody who only looks holds it for a moment
        if mine:
            break
        os.close(lock)
        time.sleep(0.05)
        lock, mine = take_lock(place)
    if not mine:
        sys.stderr.write(f"start: something of this pilot runs already ({place})\n")
        return BUSY
    record = os.path.join(place, "process.json")
    life = int(read(record).get("life", 0)) + 1
    for name in ("ended.json", "contact.json"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(place, name))
    with contextlib.suppress(OSError):
        os.utime(os.path.join(HERE, "environment.json"))  # in use: see sweep() in install.py
    log_path = os.path.join(place, "agent.log")
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    since = os.fstat(log).st_size
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, goal in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, goal)
    os.chdir("/")

    child: subprocess.Popen[bytes] | None = None
    told: list[int] = []
    hooks = Hooks(place, read(spec_path).get("hooks") or {}, log_path, told)

    def pass_on(number: int, _frame: object) -> None:
        told.append(number)
        hooks.signal(number)
        if child is not None:
            with contextlib.suppress(OSError):
                os.kill(child.pid, number)

    hear, wake = os.pipe()
    for fd in (hear, wake):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for passed in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(passed, pass_on)

    def note(pid: int) -> None:
        """Write down who runs."""
        write(
            record,
            {
                "life": life,
                "host": os.uname().nodename,
                "boot": boot(),
                "pid": os.getpid(),
                "ticks": stat_of(os.getpid())[1],
                "child": pid,
                "child_ticks": stat_of(pid)[1],
                "at": time.time(),
            },
        )

    def last(code: int, reason: str, **more: Any) -> int:
        """Write the last word."""
        ended = {"code": code, "reason": reason, "told": bool(told), "life": life, "host": os.uname().nodename, **more}
        write(os.path.join(place, "ended.json"), {**ended, "at": time.time()})
        return code

    why = hooks.before_agent(note)
    if why or told:
        why = f"{why} [JRM-B09]; next: mend or leave out the hook" if why else "ended while the hook before_agent ran"
        return last(1, why, hook="before_agent")
    env = {**clean_environment(), "JRM_EPOCH_BASE": str((life - 1) * EPOCHS)}
    argv = [*guard(os.path.join(place, "guard.log"), RESTARTS), *module_argv("jupyter_rm.agent", [spec_path])]
    root = os.getpid()
    # Nothing but this one thread runs here, so that code between fork and exec is harmless.
    child = subprocess.Popen(argv, env=env, pass_fds=(lock,), preexec_fn=lambda: end_with(root))
    for number in told:
        pass_on(number, None)
    note(child.pid)
    alive = os.path.join(place, "alive")
    beat = 0.0
    while (code := child.poll()) is None:
        if time.monotonic() >= beat:
            beat = time.monotonic() + BEAT_S
            with contextlib.suppress(OSError):
                with open(alive, "a", encoding="ascii"):
                    pass
                os.utime(alive)
        select.select([hear], [], [], BEAT_S)
        with contextlib.suppress(BlockingIOError):
            os.read(hear, 4096)
    # The guard has ended everything below it, so from here on nothing of the pilot runs on this machine.
    words = last_words(log_path, since)
    code = code if code >= 0 else 128 - code
    reason = "the agent ended" if not code else f"the agent ended with exit code {code}: {words or 'it said nothing'}"
    child = None
    why = hooks.after_agent(env)
    return last(code, f"{reason}; {why}" if why else reason)


class Hooks:
    """Lines of the user that run in the job before and after the agent; what they print is in the agent's log."""

    def __init__(self, place: str, hooks: dict[str, str], log: str, told: list[int]) -> None:
        self._place, self._hooks, self._log, self._told = place, hooks, log, told
        self._running: subprocess.Popen[bytes] | None = None

    def signal(self, number: int) -> None:
        """Pass a signal on to the one that runs, and to all that it started."""
        if self._running is not None:
            with contextlib.suppress(OSError):
                os.killpg(self._running.pid, number)

    def before_agent(self, note: Callable[[int], None]) -> str:
        """Run the lines, and take over the environment that they made; returns what went wrong."""
        text = self._hooks.get("before_agent", "")
        if not text:
            return ""
        script, dump = (os.path.join(self._place, f"before_agent.{end}") for end in ("sh", "env"))
        with open(script, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text + "\n")
        program = shutil.which("env") or "/usr/bin/env"
        why = self._run("before_agent", ["/bin/sh", "-c", TAKE, "before_agent", script, program, dump], HOOK_S, note)
        if not why:
            with open(dump, "rb") as made:
                items = [os.fsdecode(item).partition("=") for item in made.read().split(b"\0") if b"=" in item]
            for name in os.environ.keys() - {name for name, _, _ in items} - NOISE:
                del os.environ[name]
            os.environ.update({name: value for name, _, value in items if name not in NOISE})
        for path in (script, dump):  # it may hold anything
            with contextlib.suppress(OSError):
                os.unlink(path)
        return why

    def after_agent(self, env: dict[str, str]) -> str:
        """Run the lines; returns what went wrong."""
        text = self._hooks.get("after_agent", "")
        return self._run("after_agent", ["/bin/sh", "-ec", text, "after_agent"], AFTER_S, env=env) if text else ""

    def _run(
        self,
        name: str,
        argv: list[str],
        limit: float,
        note: Callable[[int], None] = lambda _pid: None,
        env: dict[str, str] | None = None,
    ) -> str:
        since = os.path.getsize(self._log)
        self._running = hook = subprocess.Popen(argv, env=env, start_new_session=True)
        note(hook.pid)
        begun, late = time.monotonic(), False
        before = len(self._told)
        while (code := hook.poll()) is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                hook.wait(1.0)
            if len(self._told) > before:  # so long it may clear up
                before, limit = len(self._told), min(limit, time.monotonic() - begun + CLEAR_S)
            if time.monotonic() - begun > limit:
                late = True
                self.signal(signal.SIGKILL)
        self._running = None
        words = last_words(self._log, since) or "it said nothing"
        if late:
            return f"hook {name} was not done after {limit:.0f} s: {words}"
        code = code if code >= 0 else 128 - code
        return f"hook {name} ended with exit code {code}: {words}" if code else ""


# --- looking at one


def look(place: str) -> dict[str, Any]:
    """Return what is known about the pilot of a place.

    ``alive``: True, False, or None when this machine cannot tell; ``ended``, ``contact``, ``process``: what those files
    say, empty when they are not there; ``silent_s``: seconds since the last sign of life, by the file server's clock.
    """
    process = read(os.path.join(place, "process.json"))
    known: dict[str, Any] = {
        "ended": read(os.path.join(place, "ended.json")),
        "contact": read(os.path.join(place, "contact.json")),
        "process": process,
        "silent_s": silence(place),
        "alive": None,
    }
    if known["ended"] or not process:
        known["alive"] = False if known["ended"] else None
    elif process["host"] == os.uname().nodename:
        known["alive"] = process["boot"] == boot() and lives(place, process)
    return known


def lives(place: str, process: dict[str, Any]) -> bool:
    """Say whether anything of a pilot that was started on this machine lives."""
    if any(ours(process, name) for name in ("pid", "child")):
        return True
    lock, free = take_lock(place)
    os.close(lock)
    return not free


def ours(process: dict[str, Any], name: str) -> bool:
    """Say whether a recorded process is still the one that was recorded."""
    ticks = process["ticks" if name == "pid" else "child_ticks"]
    return bool(ticks) and stat_of(process[name])[1] == ticks


def silence(place: str) -> float:
    """Return the seconds since ``alive`` was touched, -1 when it never was."""
    probe = os.path.join(place, f".now.{os.getpid()}")
    try:
        with open(probe, "w", encoding="ascii"):
            pass
        return os.stat(probe).st_mtime - os.stat(os.path.join(place, "alive")).st_mtime
    except OSError:
        return -1.0
    finally:
        with contextlib.suppress(OSError):
            os.unlink(probe)


def send(name: str, place: str) -> dict[str, Any]:
    """Send a signal to the pilot of a place, and look at it."""
    process = read(os.path.join(place, "process.json"))
    if process and process["host"] == os.uname().nodename and process["boot"] == boot():
        if name == "KILL":
            # The start program is spared: it sees the end and writes it down.
            for _ in range(100):
                if not ours(process, "child"):
                    break
                for pid in [*below(process["child"]), process["child"]]:
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.02)
        else:
            goal = next((name for name in ("pid", "child") if ours(process, name)), "")
            if goal:
                with contextlib.suppress(OSError):
                    os.kill(process[goal], signal.SIGTERM)
    return look(place)


# --- environments that are unpacked on the node


def unpacked(order: dict[str, Any]) -> tuple[str, str]:
    """Return (python, this program) of the environment on this node, unpacking it when it is not there."""
    scratch = os.path.join(os.environ.get("TMPDIR") or order["tmp"], f"jrm-env-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        os.mkdir(scratch, 0o700)
    info = os.lstat(scratch)
    if info.st_uid != os.getuid() or info.st_mode & 0o170077 != 0o040000:
        raise SystemExit(f"start: {scratch} is not a private directory of ours")
    goal = os.path.join(scratch, order["key"])
    here = {"base": scratch, "env": scratch, "goal": goal, "name": "", "local": False, "alone": True}
    done = subprocess.run(
        [sys.executable, "-I", os.path.join(HERE, "install.py")],
        input=json.dumps({**order, **here}).encode() + b"\n",
        stdout=subprocess.PIPE,
        check=False,
    )
    last = json.loads(done.stdout.decode().strip().rpartition("\n")[2] or "{}")
    if last.get("say") != "ok":
        raise SystemExit(f"start: no environment on {os.uname().nodename}: {last or done.returncode}")
    return os.path.join(goal, "bin", "python"), os.path.join(goal, "start.py")


def main(argv: list[str]) -> int:
    """Do what the arguments say; returns the exit code."""
    if len(argv) == 2 and argv[0] == "--look":
        print(json.dumps(look(argv[1])))
        return 0
    if len(argv) == 3 and argv[0] == "--signal" and argv[1] in ("TERM", "KILL"):
        print(json.dumps(send(argv[1], argv[2])))
        return 0
    module, guarded = len(argv) > 1 and argv[0] == "--module", len(argv) > 3 and argv[0] == "--guarded"
    if not (module or guarded) and (len(argv) != 1 or argv[0].startswith("--")):
        sys.stderr.write(str(__doc__))
        return 2
    order = read(os.path.join(HERE, "environment.json")).get("unpack")
    if order:
        python, program = unpacked(order)
        # With this the agent has other nodes unpack it too.
        os.environ["JRM_START"] = json.dumps([os.path.join(HERE, "bin", "isolated"), os.path.abspath(__file__)])
        os.execv(python, [python, "-I", program, *argv])  # noqa: S606
    if module or guarded:
        rest = module_argv(argv[1], argv[2:]) if module else [*guard(*argv[1:3]), *module_argv(argv[3], argv[4:])]
        os.execve(rest[0], rest, clean_environment())  # noqa: S606
    return run(argv[0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
