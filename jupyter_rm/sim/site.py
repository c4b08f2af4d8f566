"""The site of a simulated world: pilots are jobs that start late, vanish, and are spoken of wrongly.

A job is known by (session, pilot); asking for it twice is harmless. What the site says about a job may be late or
repeated, and a job that is gone may be called alive for a while; only ``alive=False`` is always true. The node of a job
keeps its clock, its spool and the count of its agent's lives. Read next: :mod:`jupyter_rm.sim.agent`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..model.effects import EndPilot, JobChanged, Remains, StartPilot
from ..model.resources import Node
from ..model.states import Cause, PilotState
from ..testing.clock import Clock
from ..testing.disk import SpoolDisk
from ..wire import codec
from .agent import AgentLife

if TYPE_CHECKING:
    from .world import World

REPEATS = 3


class Job:
    """One pilot's job."""

    def __init__(self, world: World, order: StartPilot, number: int) -> None:
        self.session, self.pilot, spec = order.session, order.pilot, order.spec
        self.bundle = order.orders if spec.bundle else None
        self.hello = b""  # the last word of its agent on who it is, which stays when the agent is gone
        self.job_id = f"job{number}"
        self.state = PilotState.QUEUED
        self.cause = Cause.NONE
        self.nodes = tuple(Node(f"n{at}", spec.cores, gpus=spec.gpus, mem=spec.mem) for at in range(max(1, spec.nodes)))
        self.clock = Clock(world.loop, world.chance)
        self.spool = SpoolDisk()
        self.epoch = -1 if spec.bundle else 0
        self.agent: AgentLife | None = None
        self.told = 0
        self.past: list[PilotState] = [self.state]

    @property
    def over(self) -> bool:
        """Say whether nothing of the job runs any more."""
        return self.state.final

    @property
    def address(self) -> str:
        """Return where its agent is reached."""
        return f"a.{self.session}.{self.pilot}"


class Site:
    """All jobs of the world.

    Attributes:
        lying: probability that a piece of news is old.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.jobs: dict[tuple[str, int], Job] = {}
        self.lying = 0.0

    # ------------------------------------------------------------ what the broker asks

    def start(self, order: StartPilot) -> None:
        """Submit a job; asked again for the same pilot, speak of the job there is."""
        world = self._world
        key = (order.session, order.pilot)
        job = self.jobs.get(key)
        if job is None:
            job = self.jobs[key] = Job(world, order, len(self.jobs))
            wait = 0.0 if order.spec.queue == "now" else world.chance.choice((0.1, 2.0, 20.0))
            world.loop.after(world.chance.uniform(0.0, wait), self._run, job)
        self._tell(job, job.state)

    def end(self, order: EndPilot) -> None:
        """Cancel a job, some time later."""
        job = self.jobs.get((order.session, order.pilot))
        if job is not None:
            self._world.loop.after(self._world.chance.uniform(0.5, 10.0), self.lose, job, Cause.NONE)

    # ------------------------------------------------------------ what happens

    def _run(self, job: Job) -> None:
        if not job.over:
            self._set(job, PilotState.STARTING)
            self._world.loop.after(self._world.chance.uniform(0.05, 3.0), self.spawn, job)

    def spawn(self, job: Job) -> None:
        """Start the next life of a job's agent, unless one is there or the job is over."""
        if not job.over and job.agent is None:
            job.epoch += 1
            job.agent = AgentLife(self._world, job)

    def lose(self, job: Job, cause: Cause = Cause.PILOT_LOST) -> None:
        """End a job and everything that runs in it, now."""
        if not job.over:
            self.kill_agent(job, restart=False)
            job.cause = cause
            self._set(job, PilotState.DONE)

    def kill_agent(self, job: Job, *, restart: bool, node: bool = False) -> None:
        """Kill the agent and its tasks; ``node``: what it had not synced goes too; ``restart``: it comes back."""
        world = self._world
        if job.agent is not None:
            job.agent.die()
            job.agent = None
        if node:
            before = dict(job.spool.load())
            lost = job.spool.lose_cache(world.chance)
            if job.bundle is not None:  # nobody else may know of it
                after = {seq for seq, _ in job.spool.load()}
                for body in (body for seq, body in before.items() if seq not in after):
                    world.watch(job.session).forgive(codec.reports.decode(body))
            world.trace.note(world.loop.now, job.address, f"the node went down, {lost} reports lost")
        if restart and not job.over:
            # Often so soon that words of the last life are still under way.
            world.loop.after(world.chance.uniform(0.02, world.chance.choice((0.3, 3.0, 30.0))), self.spawn, job)

    def reconnect(self, job: Job) -> None:
        """Tell a job's agent, if there is one, that its road to the broker is open again."""
        if job.agent is not None:
            job.agent.reconnected()

    def exited(self, job: Job) -> None:
        """The agent ended by its own decision: so does the job."""
        self._world.loop.after(self._world.chance.uniform(0.1, 5.0), self.lose, job, Cause.NONE)

    def _set(self, job: Job, state: PilotState) -> None:
        job.state = state
        job.past.append(state)
        self._world.trace.note(self._world.loop.now, job.address, f"job {state.name}")

    # ------------------------------------------------------------ what the broker hears

    def new_broker(self) -> None:
        """A new life of the broker has heard nothing yet; most agents notice that their road was closed."""
        for job in self.jobs.values():
            job.told = 0
            if self._world.chance.random() < 0.7:
                self._world.loop.after(self._world.chance.uniform(0.01, 2.0), self.reconnect, job)

    def poll(self) -> None:
        """Say what there is to say about every job."""
        for job in list(self.jobs.values()):
            state = job.state
            if self.lying and self._world.chance.random() < self.lying:
                state = self._world.chance.choice(job.past)
            if not state.final or job.told < REPEATS:
                self._tell(job, state)

    def _tell(self, job: Job, state: PilotState) -> None:
        alive = not state.final
        job.told += not alive
        if not alive and (job.bundle is not None or self._world.staging.random() < 0.5):
            # What its agent left is read first; a site that cannot be reached then leaves it unread.
            left = Remains(job.session, job.pilot, job.hello, tuple(job.spool.load()))
            self._world.broker.input(left)
        self._world.broker.input(
            JobChanged(
                job.session, job.pilot, alive, int(state) if alive else None, job.job_id, 0 if alive else int(job.cause)
            )
        )
