"""The processes of a job: starting the first one, finding all of them, and ending them, on one virtual node or all.

A job's processes carry its mark in their environment; what has dropped it is found below those that have it. Knows
marks and signals, decides nothing. Read next: :mod:`.control`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence

import psutil

from .schedule import Job
from .store import State, Store

# Variables of a job: its mark, the virtual node, and the cores of this machine that virtual nodes are made of.
MARK, NODE, REAL = "SIM_MARK", "SIM_NODE", "SIM_REAL_CORES"
# So often processes are looked for again that others started while these were being stopped.
ROUNDS = 20
# Constant text: one start of a job happens once, whoever tries again, and its exit code is kept whoever waits for it.
# A trap, unlike a signal that is ignored, is not handed down: the script is told to end, this shell waits for it.
_FIRST = """
base=$1; bell=$2; shift 2
set -C
{ echo $$ >"$base.pid"; } 2>/dev/null || exit 0
set +C
trap : TERM INT HUP
cd "$1" && : >>"$2" && : >>"$3" || { echo 66 >"$base.part"; mv -f "$base.part" "$base.exit"; exit 66; }
out=$2; err=$3; script=$4; shift 4
/bin/sh "$script" "$@" </dev/null >>"$out" 2>>"$err" &
child=$!
code=200
# A trap cuts a wait short: the number is the script's own once it is gone.
while :; do
    wait "$child"; code=$?
    kill -0 "$child" 2>/dev/null || break
done
echo "$code" >"$base.part"; mv -f "$base.part" "$base.exit"
if [ -p "$bell" ]; then printf x 1<>"$bell"; fi
"""


def mark(state: State, job: Job) -> str:
    """Return the word that only the processes of this start of a job carry."""
    return f"{state.made}.{job.id}.{job.restarts}"


def variables(state: State, job: Job, environ: Mapping[str, str], programs: str) -> dict[str, str]:
    """Return the environment of a job: that of its submission, and what the batch system says."""
    cores = {node.name: node.cores for node in state.nodes}
    made = {key: text for key, text in environ.items() if not key.startswith("SIM_") and key != "JRM_NODE_NAME"}
    return {
        **made,
        "PATH": f"{programs}:{environ.get('PATH', os.defpath)}",
        "SIM_JOB_ID": str(job.id),
        "SIM_JOB_NAME": job.name,
        "SIM_JOB_NODES": " ".join(f"{name} {job.cores or cores[name]}" for name in job.on),
        "SIM_JOB_END": f"{job.due:.0f}",
        "SIM_JOB_RESTARTS": str(job.restarts),
        MARK: mark(state, job),
        **of_node(job.on[0]),
    }


def real_cores() -> list[int]:
    """Return the cores that this process may use; empty where nobody can say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def keep_to(state: State, job: Job, node: str, real: Sequence[int]) -> None:
    """Keep this process, and what it starts, to the cores that a job has on a node.

    The cores of virtual nodes are dealt out over those of this machine; when there are more, several share one.
    """
    if not real or not hasattr(os, "sched_setaffinity"):  # macOS
        return
    number = next(at for at, one in enumerate(state.nodes) if one.name == node)
    first = number * state.nodes[number].cores
    os.sched_setaffinity(0, {real[(first + core) % len(real)] for core in job.own[job.on.index(node)]})


def of_node(name: str) -> dict[str, str]:
    """Return what tells a process on which virtual node it runs."""
    return {NODE: name, "JRM_NODE_NAME": name}


def start(store: Store, state: State, job: Job, programs: str) -> subprocess.Popen[bytes]:
    """Start the first process of a job; OSError when that is not possible."""
    environ = json.loads(store.file(job, "env").read_text())
    argv = ["/bin/sh", "-c", _FIRST, "sim-job", str(store.base(job)), str(store.bell)]
    argv += [job.workdir, job.stdout, job.stderr, job.script, *([job.spec] if job.spec else [])]
    real = real_cores()
    environ = variables(state, job, environ, programs) | {REAL: ",".join(map(str, real))}
    try:
        keep_to(state, job, job.on[0], real)
        return _started(argv, environ)
    finally:
        if real:
            os.sched_setaffinity(0, real)


def _started(argv: list[str], environ: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env=environ,
        start_new_session=True,
    )


def alive(store: Store, job: Job) -> bool:
    """Does the first process of a job still run?"""
    if not job.pid:
        return False
    try:
        process = psutil.Process(job.pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return str(store.base(job)) in process.cmdline()
    except psutil.Error:
        return False


def found(word: str, node: str = "") -> list[psutil.Process]:
    """Return all processes with a mark, and what runs below them; ``node``: only those of one virtual node."""
    own = [process for process in psutil.process_iter() if _has(process, word, node)]
    every = {process.pid: process for process in own}
    for process in own:
        with contextlib.suppress(psutil.Error):
            for child in process.children(recursive=True):
                if not node or _has(child, word, node) or not _has(child, word, ""):
                    every[child.pid] = child
    every.pop(os.getpid(), None)
    return [process for process in every.values() if _status(process) != psutil.STATUS_ZOMBIE]


def _has(process: psutil.Process, word: str, node: str) -> bool:
    try:
        environ = process.environ()
    except (psutil.Error, OSError):
        return False
    return environ.get(MARK) == word and (not node or environ.get(NODE) == node)


def ask_to_end(job: Job) -> None:
    """Tell the script of a job to end."""
    with contextlib.suppress(psutil.Error):
        send(psutil.Process(job.pid).children(), signal.SIGTERM, signal.SIGCONT)


def frozen(word: str, node: str = "") -> list[psutil.Process]:
    """Stop all processes with a mark, and those that they started meanwhile; return them."""
    some: list[psutil.Process] = []
    for _ in range(ROUNDS):
        some = found(word, node)
        moving = [process for process in some if _status(process) != psutil.STATUS_STOPPED]
        if not moving:
            break
        send(moving, signal.SIGSTOP)
    return some


def end_at_once(word: str, node: str = "") -> int:
    """Kill all processes with a mark as a power cut would; return how many there were.

    First they stand still: what watches over another one must neither start it anew nor tell anybody that it is gone.
    """
    return send(frozen(word, node), signal.SIGKILL)


def _status(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.Error:
        return str(psutil.STATUS_ZOMBIE)


def send(processes: Iterable[psutil.Process], *signals: signal.Signals) -> int:
    """Send signals to processes, all of one before the next; return how many there were."""
    some = list(processes)
    for one in signals:
        for process in some:
            with contextlib.suppress(psutil.Error, OSError):
                process.send_signal(one)
    return len(some)
