"""One pilot elsewhere, step by step: environment, place, submission, and then all of :mod:`jupyter_rm.broker.watched`.

Each call of :meth:`Faraway.turn` does what can be done now and says when to look again. What must not happen twice is
written down before it is tried (:mod:`jupyter_rm.broker.places`): after a crash the record says whether the batch
system may have been told, and then it is asked before it is told again. Runs in the thread of its site. Read next:
:mod:`jupyter_rm.broker.site`.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import TYPE_CHECKING

import msgspec

from ..batch import BATCH_SCRIPT, BatchError, Submitted, spec_bytes
from ..model.effects import StartPilot
from ..model.errors import JrmError, LinkError, RequestError, SiteError
from ..model.states import Cause, PilotState
from ..runtime.bootstrap import Environment, Step, Stoppable, Stopped, ensure
from ..wire import letters
from .facts import of_login
from .parcel import loaded
from .places import NEW, SUBMITTED, SUBMITTING, Record, remote_place, remote_sandbox, spec_of
from .sites import PLAIN, values_of, wanted_of
from .watched import FIRST_LOOK, Watched

if TYPE_CHECKING:
    from ..runtime.connect import Connection
    from .site import Site

log = logging.getLogger("jupyter_rm.broker")
# The batch system is asked so long after a submission for the first time: most jobs have not begun before, s.
STATUS_SOON = 2.0
# Of what a site offers a refusal names so many at most.
MOST_NAMED = 20
# How often a submission whose end is unclear is looked for before it counts as never made, and the pause between, s.
RESOLVE_TIMES, RESOLVE_PAUSE = 3, 4.0
# ... and the pause when the batch system does not answer at all.
RESOLVE_WAIT = 10.0
# A submission that ends so often in the same words, and never in a job, was refused in words that no rule knows.
SAME_WORDS, AGAIN_MOST = 3, 120.0

# Constant text: a private place, the spec from stdin, the script, and what is there already.
_PREPARE = """umask 077
mkdir -p -- "$1" && cd -- "$1" || exit 73
cat >.spec.part && mv -f .spec.part spec || exit 74
printf '%s' "$2" >.script.part && mv -f .script.part job.sh || exit 74
"""


class Faraway(Watched):
    """One pilot elsewhere, from its very beginning."""

    def __init__(self, site: Site, order: StartPilot, record: Record) -> None:
        super().__init__(site, order, record)
        self._resolved = 0
        self._unheard = 0
        self._unclear: list[BatchError] = []  # what the submissions so far came to, none of them a job
        self.stop = threading.Event()  # set from any thread: what is being prepared is not wanted any more

    def turn(self) -> None:
        """Do what can be done now.

        Raises:
            LinkError: the connection is lost; nothing was concluded.
        """
        phase = self.record.phase
        if phase == NEW:
            self._begin()
        elif phase == SUBMITTING:
            self._resolve()
        elif phase == SUBMITTED:
            self._watch()

    def _begin(self) -> None:
        if self.wants_end or self.stop.is_set():
            self.end(Cause.USER_CANCEL, "canceled before it was submitted")
            return
        step = "environment"
        try:
            made = self._environment()
            step = "submit"
            values = self._prepare(made)
        except Stopped:
            self.end(Cause.USER_CANCEL, "canceled before it was submitted")
            return
        except LinkError:
            raise  # the connection comes back; every step so far may be repeated
        except JrmError as error:
            self.fail(error, step, Cause.BOOT_STEP_FAILED if step == "environment" else Cause.SUBMIT_REJECTED)
            return
        self._submit(values)

    def _environment(self) -> Environment:
        session, pilot = self.key
        want = wanted_of(self._spec(), f"{session}.{self._site.places.broker}.p{pilot}")

        def heard(step: Step) -> None:
            outer = step.name == "environment"
            status = step.status if outer or step.status == "fail" else "progress"
            text = step.text if outer else f"{step.name}: {step.text}" if step.text else step.name
            self.step("environment", status, text, -1.0 if outer else float(step.percent))

        connection, facts = self._site.reached()
        return ensure(Stoppable(connection, self.stop), facts, want, heard)

    def _prepare(self, made: Environment) -> dict[str, object]:
        site, record, spec = self._site, self.record, self._spec()
        connection, facts = site.reached()
        session, pilot = self.key
        record.system = site.system.name
        record.place = remote_place(facts.home, session, site.places.broker, pilot)
        record.sandbox = remote_sandbox(facts.home, session, site.places.broker, pilot, spec.sandbox)
        values = values_of(spec, site.system, site.site, record.token, record.place)
        site.system.values(values)  # refused before anything is written there
        plain = site.system.name == PLAIN
        told = spec_of(self.order, spec, record, site.system.launch, "127.0.0.1" if plain else "0.0.0.0")  # noqa: S104
        told["job"] = site.system.get("job")  # how the nodes of a job are told there
        told["probes"] = dict(site.system.table("probe"))
        told["facts"] = of_login(
            Stoppable(connection, self.stop),
            *(facts, site.system, made),
            lambda text: self.step("environment", "progress", text),
        )
        body = spec_bytes(made.python, made.program, json.dumps(told).encode())
        done = connection.run(["/bin/sh", "-c", _PREPARE, "sh", record.place, BATCH_SCRIPT.decode()], stdin=body)
        if done.rc:
            raise SiteError(
                f"{connection.name}: {record.place} cannot be prepared: {done.complaint or done.rc}",
                code="JRM-S32",
                hint="check free space, quota and permissions of your home directory there",
                retry=True,
            )
        if self.stop.is_set():
            raise Stopped
        if spec.bundle:
            self._load(connection)
        return values

    def _load(self, connection: Connection) -> None:
        """Put the work of a bundle beside the spec, and what its tasks take from here."""

        def say(text: str) -> None:
            self.step("submit", "progress", text)

        place = self.record.place
        orders = loaded(self.order.orders, connection, place, self._site.places.scratch, say)
        connection.write(f"{place}/{letters.WORK}", msgspec.msgpack.encode(orders))

    def _submit(self, values: dict[str, object]) -> None:
        site, record = self._site, self.record
        self.step("submit", "start", f"asking {site.system.title} for a job")
        record.phase = SUBMITTING
        site.places.save(*self.key, record)
        try:
            made = self._hand_over(values)
        except RequestError as error:
            self._refused(error)
        except BatchError as error:
            if error.refused:
                self._refused(error)
            else:
                self.step("submit", "progress", f"not clear whether it was taken: {error.message}")
                self._unclear.append(error)
                self._later(RESOLVE_PAUSE)
        else:
            if made.warnings:
                log.info("pilot %s p.%d: %s", *self.key, made.warnings)
            self._submitted(made.id)

    def _hand_over(self, values: dict[str, object]) -> Submitted:
        return self._site.batch.submit(values, f"{self.record.place}/spec", f"{self.record.place}/job.sh")

    def _refused(self, error: JrmError) -> None:
        about = error.about if isinstance(error, BatchError) else ""
        if about and (known := self._site.choices(about)):
            error.hint = f"{error.hint}; known there: {', '.join(known[:MOST_NAMED])}"
        self.fail(error, "submit", Cause.SUBMIT_REJECTED)

    def _submitted(self, job_id: str) -> None:
        record, plain = self.record, self._site.system.name == PLAIN
        record.phase, record.job_id, record.submitted = SUBMITTED, job_id, time.time()
        self._site.places.save(*self.key, record)
        self.step("submit", "ok", f"process {job_id.partition('.')[0]}" if plain else f"job {job_id}")
        if plain:
            self._state(PilotState.STARTING, "its agent is starting")
        else:
            self._state(PilotState.QUEUED, f"job {job_id} waits at {self._site.system.title}")
        self._pause = FIRST_LOOK
        self._later(0.1)
        self._site.hurry(STATUS_SOON)

    def _resolve(self) -> None:
        """Find out whether an earlier submission was taken, before anything is submitted again."""
        site, record = self._site, self.record
        try:
            found = site.batch.find(record.token)
            if found is None and (contact := self._read_contact()) is not None:
                self.step("submit", "progress", f"its agent answers on {contact.host}, its job is not listed")
                self._resolved = 0
        except BatchError as error:
            self.step("submit", "progress", f"not clear whether it was taken: {error.message}")
            self._unheard += 1
            if self.wants_end and self._unheard >= RESOLVE_TIMES:
                # Should there be a job all the same, its agent finds nobody who knows it, and ends.
                title, token = self._site.system.title, self.record.token
                self.end(Cause.USER_CANCEL, f"canceled; {title} does not say whether it took a job of it ({token})")
                return
            self._later(RESOLVE_PAUSE if self.wants_end else RESOLVE_WAIT)
            return
        if found is not None:
            self._submitted(found.id)
            return
        self._resolved += 1
        if self._resolved < RESOLVE_TIMES:
            self._later(RESOLVE_PAUSE)
            return
        # Every listing since says that there is no such job: it never came to one.
        last = self._unclear[-SAME_WORDS:]
        if len(last) == SAME_WORDS and len({(error.rc, error.raw) for error in last}) == 1 and last[0].rc is not None:
            last[0].hint = f"it said so {SAME_WORDS} times, and no job came of it; ask the site when it is not clear"
            self._refused(last[0])
            return
        record.phase, self._resolved = NEW, 0
        site.places.save(*self.key, record)
        self.step("submit", "progress", "the batch system never got it; it is submitted again")
        self._later(min(RESOLVE_PAUSE * 2.0 ** max(0, len(self._unclear) - 1), AGAIN_MOST) if self._unclear else 0.0)
