"""``python -m jupyter_rm.agent SPEC``: the agent of one pilot, started by the broker's jobs under a guard.

SPEC is a 0600 JSON file; nothing a user typed is on the command line. ``JRM_EPOCH`` counts the guard's restarts.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..core.agent import AgentMachine
    from ..model.resources import Node


def nodes_of(spec: dict[str, Any], place: Path) -> tuple[list[Node], bool]:
    """Return (nodes, whether tasks may be pinned to cores) for a pilot on this machine or a ``noop`` one."""
    from ..model.resources import Node

    if spec["site"] == "noop":
        count, cores = max(spec["nodes"], 1), spec["cores"] or 64
        return [Node(f"noop{n:05d}", cores, spec["gpus"], spec["mem"] or 1 << 20, 1 << 20) for n in range(count)], False
    from ..core.sound import CORES_MOST, GPUS_MOST
    from ..runtime.probe import probe_node

    facts = probe_node(place)
    # The largest machines have more than one node may have; what is beyond that stays idle.
    cores = min(spec["cores"] or len(facts.cores), CORES_MOST)
    gpus = min(spec["gpus"] or len(facts.gpus), GPUS_MOST)
    pin = cores <= len(facts.cores)
    even = len({len(group) for group in facts.numa}) == 1 and cores == len(facts.cores)
    ids = tuple(core for group in facts.numa for core in group) if even else tuple(facts.cores[:cores])
    node = Node(
        facts.hostname,
        cores,
        gpus,
        spec["mem"] or facts.mem_mib,
        facts.lfs_mib,
        len(facts.numa) if even else 1,
        # More cores promised than there are: the surplus has no numbers, so nothing is pinned and none is named.
        core_ids=ids if pin else (),
    )
    return [node], pin


def main(argv: list[str] | None = None) -> int:
    """Run the agent; returns the exit code."""
    os.umask(0o077)  # before any file or socket can be made
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m jupyter_rm.agent SPEC\n")
        return 2
    from .link import life, open_link, read_spec

    spec = read_spec(Path(arguments[0]))
    place, sandbox = Path(spec["place"]), Path(spec["sandbox"])

    from ..runtime import logs
    from ..runtime.process import become_subreaper
    from ..runtime.spool import Spool
    from .service import Agent

    logs.setup("jupyter_rm", place / "agent.trace")
    become_subreaper()
    nodes, pin = nodes_of(spec, place)

    def performer(machine: AgentMachine) -> Any:
        from .perform import Performer

        return Performer(
            machine.holdings,
            machine.floor.placer,
            nodes,
            sandbox,
            pin=pin,
            session=spec["session"],
            pilot=spec["pilot"],
            noop=spec["site"] == "noop",
        )

    agent = Agent(
        session=spec["session"],
        pilot=spec["pilot"],
        epoch=life(),
        nodes=nodes,
        sandbox=str(sandbox),
        link=open_link(spec),
        spool=Spool.open(place / "spool"),
        performer=performer,
        host=nodes[0].name,
    )
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    agent.drive.on_signal(signal.SIGTERM, agent.terminate)
    if spec["walltime"]:
        agent.limit(spec["since"] + spec["walltime"])
    try:
        return agent.run()
    except Exception:
        # The guard takes an exit for an end and a signal for an accident: only after that the pilot gets a new agent.
        logging.getLogger("jupyter_rm.agent").exception("this life of the agent ends here")
        traceback.print_exc()
        sys.stderr.flush()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.kill(os.getpid(), signal.SIGABRT)
        return 1


if __name__ == "__main__":
    sys.exit(main())
