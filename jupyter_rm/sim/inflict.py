"""How each kind of fault is done to a world, and undone.

Faults overlap: links count how often they are cut, and a thing that is down already is left alone.
Read next: :mod:`jupyter_rm.testing.faults`, where schedules are drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..model.effects import StartPilot
from ..testing.faults import Fault
from ..testing.network import Link
from ..wire import codec
from .broker import ADDRESS

if TYPE_CHECKING:
    from .site import Job
    from .world import World

SLOWEST = 10.0
NIGHT = 8 * 3600.0


class Inflict:
    """Does faults to a world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __call__(self, fault: Fault) -> None:
        """Begin a fault; its end is put on the loop."""
        self._world.trace.note(self._world.loop.now, "fault", str(fault))
        _DO[fault.kind](self, fault)

    def _job(self, fault: Fault) -> Job | None:
        jobs = [job for job in self._world.site.jobs.values() if not job.over]
        return jobs[int(fault.pick * len(jobs))] if jobs else None

    def _peer(self, fault: Fault) -> str:
        jobs = [job.address for job in self._world.site.jobs.values() if not job.over]
        peers = jobs * 3 + [client.address for client in self._world.clients]
        return peers[int(fault.pick * len(peers))]

    def _links(self, fault: Fault) -> list[Link]:
        """Return both directions between the broker and somebody, or one of them."""
        peer, network = self._peer(fault), self._world.network
        both = [network.link(ADDRESS, peer), network.link(peer, ADDRESS)]
        return both if fault.amount < 0.5 else [both[int(fault.amount * 4) % 2]]

    # ------------------------------------------------------------ network

    def _loss(self, fault: Fault) -> None:
        for link in self._links(fault):
            link.loss = 0.1 + 0.6 * fault.amount
            self._world.loop.after(fault.span, setattr, link, "loss", 0.0)

    def _repeat(self, fault: Fault) -> None:
        for link in self._links(fault):
            link.repeat = 0.2 + 0.6 * fault.amount
            self._world.loop.after(fault.span, setattr, link, "repeat", 0.0)

    def _slow(self, fault: Fault) -> None:
        for link in self._links(fault):
            link.slow = SLOWEST * fault.amount
            self._world.loop.after(fault.span, setattr, link, "slow", 0.0)

    def _cut_one_way(self, fault: Fault) -> None:
        network, peer = self._world.network, self._peer(fault)
        self._cut_link(network.link(ADDRESS, peer) if fault.amount < 0.5 else network.link(peer, ADDRESS), fault.span)

    def _cut(self, fault: Fault) -> None:
        network = self._world.network
        peers = [self._peer(fault)] if fault.amount < 0.8 else [job.address for job in self._world.site.jobs.values()]
        for peer in peers:
            self._cut_link(network.link(ADDRESS, peer), fault.span)
            self._cut_link(network.link(peer, ADDRESS), fault.span)

    def _cut_link(self, link: Link, span: float) -> None:
        link.cut += 1
        self._world.loop.after(span, self._uncut, link)

    @staticmethod
    def _uncut(link: Link) -> None:
        link.cut = max(0, link.cut - 1)

    def _clog(self, fault: Fault) -> None:
        """Stop links one by one and let them go on in another order."""
        world = self._world
        ends = [job.address for job in world.site.jobs.values() if not job.over]
        ways = [way for end in ends for way in ((ADDRESS, end), (end, ADDRESS))]
        world.chance.shuffle(ways)
        for at, way in enumerate(ways):
            world.loop.after(fault.span * at / (2 * len(ways)), self._stop, way)
        world.chance.shuffle(ways)
        for at, way in enumerate(ways):
            world.loop.after(fault.span * (0.5 + (at + 1) / (2 * len(ways))), world.network.unclog, *way)

    def _stop(self, way: tuple[str, str]) -> None:
        if not self._world.healing:
            self._world.network.link(*way).clogged += 1

    def _reconnect(self, fault: Fault) -> None:
        job = self._job(fault)
        if job is not None:
            self._world.site.reconnect(job)

    # ------------------------------------------------------------ broker

    def _broker_crash(self, fault: Fault) -> None:
        self._world.broker.doom(fault.amount, fault.span)

    def _broker_damage(self, fault: Fault) -> None:
        if self._world.broker.machine is not None:
            self._world.broker.die(fault.span)
            self._world.damage_journal()

    def _broker_freeze(self, fault: Fault) -> None:
        self._world.broker.frozen_until = self._world.loop.now + fault.span

    def _broker_suspend(self, fault: Fault) -> None:
        del fault
        self._world.broker.clock.suspend(NIGHT)

    def _broker_wall_jumps(self, fault: Fault) -> None:
        """Somebody sets the clock right, again and again."""
        world = self._world
        world.broker.clock.set_wall((world.chance.random() - 0.4) * NIGHT)
        pause = world.chance.uniform(2.0, 9.0)
        if pause < fault.span:
            again = replace(fault, span=fault.span - pause)
            world.loop.after(pause, self._broker_wall_jumps, again)

    # ------------------------------------------------------------ agents and their site

    def _agent_crash(self, fault: Fault) -> None:
        job = self._job(fault)
        if job is not None and job.agent is not None:
            job.agent.doom(fault.amount)

    def _node_crash(self, fault: Fault) -> None:
        job = self._job(fault)
        if job is not None:
            self._world.site.kill_agent(job, restart=fault.amount < 0.75, node=True)
            if fault.amount >= 0.75:
                self._world.site.lose(job)

    def _spool_damage(self, fault: Fault) -> None:
        """The agent dies, and its next life finds a hole in the spool; what stood there may have to run again."""
        job = self._job(fault)
        if job is not None:
            self._world.site.kill_agent(job, restart=True)
            for body in job.spool.damage(self._world.chance):
                self._world.watch(job.session).forgive(codec.reports.decode(body))

    def _agent_freeze(self, fault: Fault) -> None:
        job = self._job(fault)
        if job is not None and job.agent is not None:
            job.agent.frozen_until = self._world.loop.now + fault.span

    def _agent_wall_jump(self, fault: Fault) -> None:
        job = self._job(fault)
        if job is not None:
            job.clock.set_wall((fault.amount - 0.5) * 2 * NIGHT)

    def _job_lost(self, fault: Fault) -> None:
        job = self._job(fault)
        if job is not None:
            self._world.site.lose(job)

    def _lying_site(self, fault: Fault) -> None:
        self._world.site.lying = 0.2 + 0.6 * fault.amount
        self._world.loop.after(fault.span, setattr, self._world.site, "lying", 0.0)

    def _start_again(self, fault: Fault) -> None:
        """The broker's order to start a pilot is performed once more."""
        machine = self._world.broker.machine
        job = self._job(fault)
        if machine is not None and job is not None and job.session in machine.sessions:
            row = machine.sessions[job.session].ledger.pilots[job.pilot]
            self._world.site.start(StartPilot(job.session, job.pilot, row.spec, row.key))

    def _client_crash(self, fault: Fault) -> None:
        clients = self._world.clients
        clients[int(fault.pick * len(clients))].die()


_DO: dict[str, Callable[[Inflict, Fault], None]] = {
    "loss": Inflict._loss,
    "repeat": Inflict._repeat,
    "slow": Inflict._slow,
    "cut-one-way": Inflict._cut_one_way,
    "cut": Inflict._cut,
    "clog": Inflict._clog,
    "reconnect": Inflict._reconnect,
    "broker-crash": Inflict._broker_crash,
    "broker-damage": Inflict._broker_damage,
    "broker-freeze": Inflict._broker_freeze,
    "broker-suspend": Inflict._broker_suspend,
    "broker-wall-jumps": Inflict._broker_wall_jumps,
    "agent-crash": Inflict._agent_crash,
    "spool-damage": Inflict._spool_damage,
    "node-crash": Inflict._node_crash,
    "agent-freeze": Inflict._agent_freeze,
    "agent-wall-jump": Inflict._agent_wall_jump,
    "job-lost": Inflict._job_lost,
    "lying-site": Inflict._lying_site,
    "start-again": Inflict._start_again,
    "client-crash": Inflict._client_crash,
}
