"""What the clients of a simulated world ask for, drawn from the seed.

Several bulks of executables and calls, 200 tasks and more in most seeds: retries, restart never, on_silence rerun,
priorities, dependencies, several shapes up to wide ones; cancels of tasks, bulks and pilots; sometimes the session is
closed. Read next: :mod:`jupyter_rm.testing.faults`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from ..model.columns import Column, Picks
from ..model.describe import Template
from ..model.facts import PilotSpec
from ..model.messages import Accepted, Cancel, CancelPilot, CloseSession, RequestPilot, Submit, SubmitBundle
from ..model.resources import Request
from ..testing.chance import Random, chance
from ..testing.oracles import payload_of
from ..testing.performer import behaviour
from ..testing.stager import with_files

if TYPE_CHECKING:
    from .client import Client
    from .world import World

FAULTY_S = 100.0  # seconds in which requests and faults fall
FUNCTION = b"a pickled function"
SHA = hashlib.sha256(FUNCTION).digest()
# What every healthy pilot at the end can hold.
LARGEST = PilotSpec(queue="now", nodes=3, cores=8, gpus=1, mem=16_384)
_SHAPES = (
    Request(),
    Request(),
    Request(),
    Request(cores=2),
    Request(cores=4, mem=1024),
    Request(ranks=4),
    Request(gpus=5000),
    Request(ranks=12, cores=2),
    Request(ranks=2, ranks_per_node=1),
    Request(ranks=2, cores=4, exclusive=True),
)


class Plan:
    """Draws and schedules the requests of one session's clients."""

    def __init__(self, world: World, rng: Random, clients: list[Client]) -> None:
        self._world, self._rng, self._clients = world, rng, clients
        self._other = chance(world.seed, "bundles")  # of its own: worlds without bundles stay as they were
        self._service = chance(world.seed, "services")  # likewise
        self._acked: list[tuple[int, int]] = []  # (bulk, count)
        self._serial = 0

    def schedule(self, pilots: int, tasks: int) -> None:
        """Put everything on the loop: ``pilots`` pilots, bulks of ``tasks`` tasks in all, and the rest."""
        rng, after = self._rng, self._world.loop.after
        for number in range(pilots):
            after(rng.uniform(0.0, 3.0 if number < 2 else 60.0), self._on, self._pilot, number)
        left = tasks
        while left > 0:
            count = min(left, rng.choice((1, 3, 20, 50, 80, 120, 200)))
            left -= count
            after(rng.choice((1.0, rng.uniform(0.0, FAULTY_S))), self._on, self._submit, count)
        for _ in range(rng.randint(1, 4)):
            after(rng.uniform(2.0, FAULTY_S), self._on, self._cancel)
        if rng.random() < 0.4 and pilots > 1:
            after(rng.uniform(10.0, FAULTY_S), self._on, self._cancel_pilot, rng.randrange(pilots))
        if rng.random() < 0.04:
            after(rng.uniform(0.6, 1.0) * FAULTY_S, self._on, self._close)
        elif self._other.random() < 0.3:
            for _ in range(self._other.randint(1, 2)):
                after(self._other.uniform(1.0, 60.0), self._on, self._bundle)
        if self._service.random() < 0.4:
            for number in range(self._service.randint(1, 2)):
                after(self._service.uniform(0.0, 40.0), self._serve, f"service{number}")

    def _on(self, call: object, *args: object) -> None:
        client = self._rng.choice(self._clients)
        client.when_attached(lambda: call(client, *args))  # type: ignore[operator]

    def _key(self) -> bytes:
        self._serial += 1
        return hashlib.md5(f"{self._clients[0].session}/{self._serial}".encode()).digest()  # noqa: S324

    def _pilot(self, client: Client, number: int) -> None:
        rng = self._rng
        if number == 0:
            spec = PilotSpec(queue="batch", nodes=3, cores=8, gpus=1, mem=16_384)
        else:
            spec = PilotSpec(queue="batch", nodes=rng.randint(1, 3), cores=rng.choice((4, 4, 8)), gpus=1, mem=16_384)
        client.ask(RequestPilot(0, client.session, self._key(), spec))

    def _submit(self, client: Client, count: int) -> None:
        rng, key = self._rng, self._key()
        calls = rng.random() < 0.4
        kind = rng.choice(("ms", "short", "short", "medium", "long" if count <= 20 else "medium"))
        wide = count <= 3 or (count <= 20 and kind != "long")
        template = Template(
            mode="call" if calls else "executable",
            executable="" if calls else "/bin/simulated",
            arguments=behaviour(kind, rng.choice((0.0, 0.0, 0.05, 0.3))),
            request=rng.choice(_SHAPES if wide else _SHAPES[:4]),
            retries=rng.choice((0, 0, 1, 2)),
            retry_delay=2.0 if count % 3 == 0 else 0.0,
            retry_on=("CALL_RAISED", "TASK_EXIT") if count % 5 == 0 else (),
            restart=rng.choice(("lost", "lost", "never")),
            on_silence=rng.choice(("wait", "rerun")),
            priority=rng.choice((0, 0, 0, 5, -3)),
            params=not calls,
            function=SHA if calls else b"",
        )
        if not calls:
            template = with_files(template, self._world.staging)
        after: tuple[tuple[int, Picks], ...] = ()
        if self._acked and rng.random() < 0.2:
            bulk, size = rng.choice(self._acked)
            after = ((bulk, Picks.span(0, rng.randint(1, size))),)
        message = Submit(
            0,
            client.session,
            key,
            count,
            template,
            {} if calls else {"x": rng.choice((Column.of(range(5, 5 + count)), Column.const(7, count)))},
            Column.of_bytes([payload_of(key, index) for index in range(count)]) if calls else None,
            {SHA: FUNCTION} if calls else {},
            after,
        )
        client.ask(message, lambda accepted: self._submitted(accepted))

    def _serve(self, name: str) -> None:
        """Ask for a service and for tasks that use it."""
        rng, client = self._service, self._service.choice(self._clients)
        template = Template(
            executable="/bin/simulated",
            arguments=behaviour(rng.choice(("short", "medium", "long")), rng.choice((0.0, 0.5))),
            retries=rng.choice((0, 1, 3)),
            restart=rng.choice(("lost", "never")),
            service=True,
            name=name,
            ready="." if rng.random() < 0.8 else "",
            startup_timeout=5.0,
        )

        def use(accepted: Accepted) -> None:
            self._submitted(accepted)
            for _ in range(rng.randint(1, 3)):
                self._world.loop.after(rng.uniform(0.0, 30.0), self._use, client, name)

        asked = Submit(0, client.session, self._key(), 1, template)
        client.when_attached(lambda: client.ask(asked, use))

    def _use(self, client: Client, name: str) -> None:
        rng, count = self._service, self._service.randint(1, 30)
        template = Template(
            executable="/bin/simulated",
            arguments=behaviour(rng.choice(("ms", "short", "medium")), rng.choice((0.0, 0.1))),
            retries=rng.choice((0, 2)),
            restart=rng.choice(("lost", "never")),
            services=(name,),
        )
        client.ask(Submit(0, client.session, self._key(), count, template), self._submitted)

    def _bundle(self, client: Client) -> None:
        """Ask for a pilot that brings its work along; nobody else is asked about that."""
        rng = self._other
        work = []
        for _ in range(rng.randint(1, 2)):
            key, count = self._key(), rng.randint(1, 40)
            calls, never = rng.random() < 0.4, rng.random() < 0.3
            template = Template(
                mode="call" if calls else "executable",
                executable="" if calls else "/bin/simulated",
                arguments=behaviour(rng.choice(("ms", "short", "short", "medium")), rng.choice((0.0, 0.1, 0.4))),
                # The watch hears of failures when the broker does: it could not tell a second start from a third.
                retries=0 if never else rng.choice((0, 1, 2)),
                restart="never" if never else "lost",
                params=not calls,
                function=SHA if calls else b"",
            )
            columns = {} if calls else {"x": Column.of(range(5, 5 + count))}
            payload = Column.of_bytes([payload_of(key, index) for index in range(count)]) if calls else None
            functions = {SHA: FUNCTION} if calls else {}
            work.append(Submit(0, client.session, key, count, template, columns, payload, functions))
        spec = PilotSpec(queue="batch", nodes=rng.randint(1, 2), cores=4)
        client.ask(SubmitBundle(0, client.session, self._key(), spec, tuple(work)))

    def _submitted(self, accepted: Accepted) -> None:
        self._acked.append((accepted.number, accepted.count))

    def _cancel(self, client: Client) -> None:
        rng = self._rng
        if self._acked:
            bulk, count = rng.choice(self._acked)
            picks: Picks | None = None
            if rng.random() < 0.7:
                picks = Picks.of(sorted(rng.sample(range(count), rng.randint(1, count))))
            client.ask(Cancel(0, client.session, ((bulk, picks),)))

    def _cancel_pilot(self, client: Client, number: int) -> None:
        client.ask(CancelPilot(0, client.session, number, drain=self._rng.random() < 0.5))

    def _close(self, client: Client) -> None:
        client.ask(CloseSession(0, client.session))

    def healthy_pilot(self) -> None:
        """Ask for one more pilot that can hold everything."""
        client = self._clients[0]
        client.when_attached(lambda: client.ask(RequestPilot(0, client.session, self._key(), LARGEST)))
