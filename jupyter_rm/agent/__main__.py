"""``python -m jupyter_rm.agent SPEC``: the agent of one pilot, started by the broker's jobs under a guard.

SPEC is a 0600 JSON file; nothing a user typed is on the command line. ``JRM_EPOCH`` counts the guard's restarts.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..core.agent import AgentMachine
    from ..model.resources import Node
    from .fleet import Fleet
    from .nodes import Hosts

# So much before the batch system ends the job the pilot ends itself, s: its last reports must get through.
LAST_SECONDS = 5.0


def noop_nodes(spec: Mapping[str, Any]) -> list[Node]:
    """Return the nodes of a pilot whose tasks end at once."""
    from ..model.resources import Node

    count, cores = max(spec["nodes"], 1), spec["cores"] or 64
    return [Node(f"noop{n:05d}", cores, spec["gpus"], spec["mem"] or 1 << 20, 1 << 20) for n in range(count)]


def own_node(spec: Mapping[str, Any], hosts: Hosts | None, place: Path) -> tuple[Node, bool, str]:
    """Return (what this machine is to the pilot, whether tasks may be bound to its cores, what it lacks, in words)."""
    from .node import facts_here
    from .nodes import Host, node_of, shortage

    facts = facts_here(-1, place)
    host = Host("", spec["cores"], spec["gpus"], spec["mem"])
    lacking = shortage(host, facts)
    if hosts is not None and hosts.own is not None:
        host, lacking = hosts.used[hosts.own], ""  # what it has was granted, not asked for
    return *node_of(host, facts, host.name or facts.names[-1]), lacking


def all_nodes(hosts: Hosts, fleet: Fleet, own: Node) -> list[Node]:
    """Return all nodes of a pilot; those that have not come yet are taken to be like one's own."""
    from ..model.resources import Node

    nodes = []
    for number, host in enumerate(hosts.used):
        far = fleet.serving.get(number)
        if number == hosts.own:
            nodes.append(own)
        elif far is not None and far.up:
            nodes.append(fleet.node(far))
        else:
            cores, gpus = host.cores or own.cores, host.gpus or own.gpus
            nodes.append(Node(fleet.names[number], cores, gpus, host.mem or own.mem, own.lfs))
    return nodes


def seconds_left(spec: Mapping[str, Any], end: float | None, now: float) -> float | None:
    """Return in how many seconds the pilot's time is over, None: never.

    Args:
        spec: ``walltime`` s from ``since`` on this machine's steady clock (left out: from now).
        end: epoch s at which the batch system ends the job; now: steady clock, s.
    """
    left = []
    if spec["walltime"]:
        left.append(spec.get("since", now) + spec["walltime"] - now)
    if end is not None:
        left.append(end - time.time() - LAST_SECONDS)
    return max(0.0, min(left)) if left else None


def main(argv: list[str] | None = None) -> int:
    """Run the agent; returns the exit code."""
    os.umask(0o077)  # before any file or socket can be made
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m jupyter_rm.agent SPEC\n")
        return 2
    from .claim import claimed
    from .link import life, open_link, read_spec

    try:
        spec = read_spec(Path(arguments[0]))
        if spec["site"] != "noop":
            spec["sandbox"] = str(claimed(spec))
    except OSError as error:
        sys.stderr.write(
            f"sandbox: {error.filename} cannot be made: {error.strerror} [JRM-S32]; next: give another sandbox=, where "
            "the nodes of the pilot may write\n"
        )
        return 1
    place, sandbox = Path(spec["place"]), Path(spec["sandbox"])

    from ..model.errors import RequestError, SiteError
    from ..runtime import logs
    from ..runtime.process import become_subreaper
    from ..runtime.spool import Spool
    from .environments import task_environment
    from .facts import gathered
    from .leftovers import clear_leftovers, no_core_files
    from .nodes import hosts_of, offering, partitioned
    from .parcel import bundle_in
    from .service import Agent

    logs.setup("jupyter_rm", place / "agent.trace")
    become_subreaper()
    no_core_files()
    clear_leftovers()
    epoch = life()
    tap = logs.Tap(logging.getLogger("jupyter_rm"), epoch)
    logging.getLogger("jupyter_rm.agent").info("life %d of the agent of p.%d", epoch, spec["pilot"])
    hosts: Hosts | None = None
    fleet: Fleet | None = None
    try:
        if spec["site"] == "noop":
            nodes, pin = noop_nodes(spec), False
            spec = {**spec, "facts": gathered({}, nodes[0], os.environ)}
        else:
            hosts = hosts_of(spec, os.environ)
            own, pin, lacking = own_node(spec, hosts, place)
            nodes = [own]
            # Node agents are told them too.
            spec = {**spec, "facts": gathered(spec, own, task_environment(os.environ))}
            spec["facts"] |= {"shortage": lacking} if lacking else {}
        if hosts is not None and (len(hosts.used) > 1 or hosts.spare or hosts.own is None):
            from .fleet import Fleet

            fleet = Fleet(hosts, spec, epoch)
            fleet.start()
            # A node whose agent answers has no tasks of an earlier life of this one any more.
            fleet.gather()
            nodes = all_nodes(hosts, fleet, own)
        nodes = offering(partitioned(nodes, spec.get("partitions") or ()), spec.get("resources") or {})
    except (RequestError, SiteError) as error:
        sys.stderr.write(f"{error}\n")
        return 1

    def performer(machine: AgentMachine) -> Any:
        from .perform import Performer

        floor = machine.floor
        told: dict[str, Any] = {
            "session": spec["session"],
            "pilot": spec["pilot"],
            "methods": tuple(spec.get("launches") or ()),
            "launch": spec.get("launch") or "",
            "hooks": spec.get("hooks") or {},
            "facts": spec["facts"],
            "envs": spec.get("envs") or {},
        }
        if fleet is None or hosts is None:
            noop = spec["site"] == "noop"
            return Performer(machine.holdings, floor.placer, nodes, sandbox, pin=pin, noop=noop, **told)
        from ..core.placing import NodeChanged
        from .node import SlotTable
        from .span import SpanPerformer

        table = SlotTable()
        local = None
        if hosts.own is not None:
            local = Performer(machine.holdings, table, nodes, sandbox, pin=pin, here=hosts.own, **told)
        for number, far in fleet.serving.items():
            if not far.up:
                floor.change(NodeChanged(number, False))
        return SpanPerformer(machine.holdings, floor.placer, fleet, len(nodes), hosts.own, local, table)

    agent = Agent(
        session=spec["session"],
        pilot=spec["pilot"],
        epoch=epoch,
        nodes=nodes,
        sandbox=str(sandbox),
        link=open_link(spec),
        spool=Spool.open(place / "spool"),
        performer=performer,
        host=nodes[0].name,
        bundle=bundle_in(place) if spec.get("bundle") else None,
        place=place if spec.get("link") or spec.get("bundle") else None,
        tap=tap,
    )
    agent.noop = spec["site"] == "noop"
    agent.machine.facts = spec["facts"]
    agent.in_job, agent.returns = bool(spec.get("link")), bool(spec.get("requeue"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    agent.drive.on_signal(signal.SIGTERM, agent.terminate)
    left = seconds_left(spec, hosts.end if hosts is not None else None, agent.clock.now())
    if left is not None:
        agent.limit(agent.clock.now() + left)
        if spec.get("drain"):
            agent.drive.later(max(0.0, left - spec["drain"]), agent.drain)
    try:
        return agent.run()
    except Exception:
        # The guard takes an exit for an end and a signal for an accident: only after that the pilot gets a new agent.
        logging.getLogger("jupyter_rm.agent").exception("this life of the agent ends here")
        traceback.print_exc()
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGABRT)
        return 1


if __name__ == "__main__":
    sys.exit(main())
