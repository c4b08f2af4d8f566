"""``sim://`` as a site: the whole way from ``s.pilot`` to tasks on several virtual nodes, without a cluster."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_kit import eventually
from world_kit import end_world, left_behind, set_home

import jupyter_rm as jrm
from jupyter_rm.batch import load
from jupyter_rm.broker import sites as broker_sites
from jupyter_rm.client import discover, sites
from jupyter_rm.client import session as sessions
from jupyter_rm.client.pilot import Pilot
from jupyter_rm.client.session import Session
from jupyter_rm.model.errors import RequestError
from jupyter_rm.model.facts import PilotSpec
from jupyter_rm.notebook.magics import Magics
from jupyter_rm.views.queue import place_of


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A home directory of its own: nothing of a site is put into the real one."""
    place = Path(tempfile.mkdtemp(prefix="jrms-", dir="/var/tmp")).resolve()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(place))
        (place / "h").mkdir(mode=0o700)
        set_home(place / "h")
        yield place
        end_world(place / "h")
        assert not left_behind(place / "h")
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def study(place: Path, request: pytest.FixtureRequest) -> Iterator[Session]:
    del place
    session = sessions.open(request.node.name[5:40].strip("_"))
    yield session
    if not session.closed:
        # A broker that is stopped at once leaves jobs alone.
        alive = [pilot for pilot in session.pilots() if pilot.state not in ("DONE", "FAILED", "CANCELED")]
        for pilot in alive:
            pilot.cancel()
        for pilot in alive:
            ended(pilot)
        session.close()


def by_hand(name: str, *words: str) -> None:
    subprocess.run([sys.executable, "-m", "jupyter_rm.simbatch", "--at", f"sim://{name}", *words], check=True, cwd="/")


def ended(pilot: Pilot, within_s: float = 60.0) -> str:
    eventually(lambda: pilot.state in ("DONE", "FAILED", "CANCELED"), lambda: f"{pilot!r} goes on", within_s)
    return f"{pilot.state} {pilot.reason}"


def test_a_queue_is_seen_and_tasks_run_on_both_nodes(study: Session) -> None:
    site = "sim://queue?nodes=4&busy=2&pace=4&wait=1"
    pilot = study.pilot(site, nodes=2, walltime="5m")
    Magics({})  # views are drawn by it
    reasons: list[str] = []
    shown: list[str] = []

    def active() -> bool:
        if pilot.reason not in reasons:
            reasons.append(pilot.reason)
            shown.append(str(study.view("queue")._repr_mimebundle_()))
        return str(pilot.state) == "ACTIVE"

    eventually(active, lambda: f"not active: {reasons}")
    waited = [one for one in reasons if "position 1 of 1" in one]
    assert any(one.startswith("next in line; waits for nodes") and "expected to start" in one for one in waited), (
        reasons
    )
    assert place_of(site) == "queue"
    assert any("chen" in one and "nodes to become free" in one for one in shown), shown[-1]
    assert [node.name for node in pilot.nodes] == ["queue-01", "queue-02"]
    view: Any = eventually(lambda: (seen := study.sites.get(site)) and seen.nodes and seen, "the site is not seen")
    assert {job.user for job in view.jobs if not job.mine} <= {"boris", "chen"} and view.title == "Simbatch"
    assert [node.name for node in view.nodes] == [f"queue-{n:02}" for n in range(1, 5)]
    ran = study.submit([jrm.Shell("echo $SIM_NODE; sleep 0.2")] * 8)
    assert ran.wait(60) and {task.stdout().strip() for task in ran} == {"queue-01", "queue-02"}
    with pytest.raises(RequestError):
        study.pilot("sim://queue?knots=4")
    pilot.cancel()
    assert ended(pilot).startswith("CANCELED")


def test_a_lost_node_and_a_lost_pilot(study: Session) -> None:
    pilot = study.pilot("sim://nodes?nodes=2&wait=0", nodes=2, walltime="5m")
    assert pilot.wait(timeout=60) == "ACTIVE", pilot.reason
    tasks = study.array(jrm.Shell("echo $SIM_NODE; sleep {n}"), n=[0, 0, 0, 0])
    assert tasks.wait(60)
    by_hand("nodes", "fail", "nodes-02")
    eventually(lambda: not pilot.nodes[1].cores, lambda: f"its node is not missed: {pilot.nodes}")
    assert "nodes-02" in pilot.reason
    by_hand("nodes", "fail", "nodes-01")
    ended(pilot)
    words = "job 1 lost a node [JRM-L37]; Simbatch says: NODE_FAIL, node nodes-01 failed"
    eventually(lambda: pilot.reason.startswith(words), lambda: pilot.reason, 30.0)


def test_its_time_ends_a_pilot_and_a_more_urgent_one_another(study: Session) -> None:
    brief = study.pilot("sim://ends?nodes=1&wait=0&grace=5", walltime="12s", queue="spare")
    assert brief.wait(timeout=60) == "ACTIVE", brief.reason
    assert ended(brief) == "DONE the pilot reached its time limit"
    spare = study.pilot("sim://ends", walltime="5m", queue="spare")
    assert spare.wait(timeout=60) == "ACTIVE", spare.reason
    urgent = study.pilot("sim://ends", walltime="5m")
    ended(spare)
    # What the batch system says is heard a moment after the agent's own last word.
    eventually(lambda: "[JRM-L36]; Simbatch says: PREEMPTED" in spare.reason, lambda: spare.reason, 30.0)
    assert urgent.wait(timeout=60) == "ACTIVE", urgent.reason


def test_it_is_known_wherever_sites_are(place: Path, study: Session) -> None:
    lines = {line.name: line for line in sites.listing()}
    assert lines["sim"].kind == "here" and lines["sim"].url.startswith("sim://")
    assert "no_kill" in sites.shown("sim") and "at most every 1 s" in sites.shown("sim://queue")
    found = {one.name: one for one in sites.attempt("sim://try?nodes=3")}
    assert found["nodes"].ok and found["nodes"].text == "3: 3 free" and found["queues"].text.startswith("batch*")
    assert {queue.name for queue in discover.discover("sim://try").queues} == {"batch", "debug", "spare"}
    name = broker_sites.parse("sim://try?nodes=3")
    for mode, env in {"": sys.executable, "use": sys.executable, "create": ""}.items():
        spec = PilotSpec(site="sim://try", env_mode=mode)
        assert broker_sites.completed(spec, load("sim"), name).env == env, "another environment than this one is wanted"
    assert not name.polite and broker_sites.parse("slurm://").polite
    own = place / ".config" / "jupyter_rm" / "sites"
    own.mkdir(parents=True)
    (own / "course.toml").write_text('extends = "sim"\n[site]\nurl = "sim://try"\nqueue = "debug"\n')
    pilot = study.pilot("course", walltime="5m")
    assert pilot.wait(timeout=60) == "ACTIVE", pilot.reason
    view: Any = eventually(lambda: (seen := study.sites.get("course")) and seen.jobs and seen, "not seen")
    assert [job.queue for job in view.jobs] == ["debug"]
