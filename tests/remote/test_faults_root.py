"""Every process of a pilot descends from one root: whoever ends the root ends all of it, daemons of tasks too."""

from __future__ import annotations

import json
import os
import signal

import psutil
import pytest
from remote_kit import Far, active, until

import jupyter_rm as jrm
from jupyter_rm.client.session import Session

# A task with a child of its own session, and one that has left for good: its parent is gone at once.
DAEMONS = 'setsid sleep "$1" & (setsid sh -c "sleep $1 & exit" &); sleep "$1"'


def living(word: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.cmdline()[-1:] == [word] and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["TERM", "KILL"])
@pytest.mark.parametrize("site", ["ssh://alice@tb-slurm", "slurm+ssh://alice@tb-slurm"], ids=["ssh", "slurm"])
def test_who_ends_the_root_ends_everything(far: Far, study: Session, site: str, number: signal.Signals) -> None:
    pilot = active(study.pilot(site, **({"nodes": 1} if "slurm+" in site else {"cores": 2})))
    word = f"{86400 + os.getpid()}.{number:d}{len(site)}"
    study.submit([jrm.Task("/bin/sh", ["-c", DAEMONS, "sh", word])] * 2)
    until(lambda: len(living(word)) >= 6, lambda: f"the daemons do not come: {living(word)}")
    agents = far.agents()
    place = far.place(study.name)
    inside = int(json.loads((place / "process.json").read_text())["pid"])
    roots = [psutil.Process(int(line.split(":")[0])) for line in agents if line.endswith(f"start.py {place}/spec")]
    assert len(roots) == 1, (inside, agents)
    below = [*roots, *roots[0].children(recursive=True)]
    assert {one.pid for one in living(word)} <= {one.pid for one in below}, "a daemon has left the tree"
    roots[0].send_signal(number)
    _, left = psutil.wait_procs(below, timeout=60)  # 3 s on a calm machine
    assert not [one for one in left if one.is_running() and one.status() != psutil.STATUS_ZOMBIE], left
    assert not living(word)
    until(lambda: pilot.state in ("FAILED", "DONE"), lambda: f"{pilot.state} {pilot.reason}", 90)
    assert pilot.reason
