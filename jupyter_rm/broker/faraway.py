"""One pilot elsewhere, step by step: environment, place, submission, the way to its agent, its end.

Each call of :meth:`Faraway.turn` does what can be done now and says when to look again. What must not happen twice is
written down before it is tried (:mod:`jupyter_rm.broker.places`): after a crash the record says whether the batch
system may have been told, and then it is asked before it is told again. A pilot is over only on proof: what its start
program wrote last, or the batch system's word, heard twice or from two sources. Runs in the thread of its site. Read
next: :mod:`jupyter_rm.broker.site`.
"""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING

import msgspec

from ..batch import BATCH_SCRIPT, BatchError, JobRecord, JobState, spec_bytes
from ..model.effects import JobChanged, QueueSeen, StartPilot, StepTaken
from ..model.errors import JrmError, LinkError, RequestError, SiteError
from ..model.states import Cause, PilotState
from ..runtime.bootstrap import Environment, Step, ensure
from ..wire import letters
from .links import Keys, Road
from .places import NEW, OVER, SUBMITTED, SUBMITTING, Record, remote_place, remote_sandbox, spec_of, wants_requeue
from .post import Post
from .reach import Contact, Reached, describe, parse_ended, reach
from .remains import left_there
from .sites import PLAIN, values_of, wanted_of

if TYPE_CHECKING:
    from .site import Site

log = logging.getLogger("jupyter_rm.broker")
# Looks for the agent's contact: the first after this many s, then rarer up to the second number.
FIRST_LOOK, LAST_LOOK = 0.3, 5.0
# The batch system is asked so long after a submission for the first time: most jobs have not begun before, s.
STATUS_SOON = 2.0
# Looks into the accounting after a cancel, one each turn.
ACCOUNT_LOOKS = 4
# While the road is good nothing has to be looked at but the batch system's listing.
CALM_LOOK = 60.0
# A road that does not mend is looked for anew after this long, from letters this much later.
ROAD_AGAIN, LETTERS_LOOK = 30.0, 300.0
# How often a submission whose end is unclear is looked for before it counts as never made, and the pause between, s.
RESOLVE_TIMES, RESOLVE_PAUSE = 3, 4.0
# ... and the pause when the batch system does not answer at all.
RESOLVE_WAIT = 10.0
# How often a job must be missing from every listing, and how long beyond its walltime, before it counts as gone.
MISSES, MARGIN = 3, 600.0

# Constant text: a private place, the spec from stdin, the script, and what is there already.
_PREPARE = """umask 077
mkdir -p -- "$1" && cd -- "$1" || exit 73
cat >.spec.part && mv -f .spec.part spec || exit 74
printf '%s' "$2" >.script.part && mv -f .script.part job.sh || exit 74
"""


class Faraway:
    """One pilot elsewhere.

    Attributes:
        key: (session, pilot). due: when to look again (monotonic s). wants_end: it is to be ended.
    """

    def __init__(self, site: Site, order: StartPilot, record: Record) -> None:
        self._site = site
        self.order, self.record = order, record
        self.key = (order.session, order.pilot)
        self.due = 0.0
        self.wants_end = False
        self.over = record.phase == OVER
        self._pause = FIRST_LOOK
        self._canceled = False
        self._resolved = 0
        self._unheard = 0
        self._finals = 0
        self._looks = 0
        self._began = False  # it was seen running
        self._asleep = False  # it was requeued: the contact of its earlier start leads nowhere
        self._again_at = 0.0
        self._contact: Contact | None = None
        self._reached: Reached | None = None
        self._post: Post | None = None
        self._said: tuple[str, str, str] = ("", "", "")

    # ------------------------------------------------------------ words

    def step(self, step: str, status: str, text: str = "", percent: float = -1.0) -> None:
        """Say where the way to the agent stands."""
        if status != "progress" or percent < 0:
            if (step, status, text) == self._said:
                return
            self._said = (step, status, text)
        self._site.tell(StepTaken(*self.key, step, status, percent, text))

    def _state(self, state: PilotState, reason: str) -> None:
        self._site.tell(JobChanged(*self.key, True, int(state), job_id=self.record.job_id, reason=reason))

    def end(self, cause: Cause, reason: str) -> None:
        """The pilot is over, and this is proven."""
        if self.over:
            return
        if self.record.phase == SUBMITTED:
            connection, _ = self._site.reached()
            self._site.tell(left_there(*self.key, connection, self.record.place))
        self.over = True
        self.close()
        self._site.tidy(self.record)
        self._site.places.forget_keys(*self.key, self.record)
        self._site.tell(JobChanged(*self.key, False, cause=int(cause), reason=reason))

    def fail(self, error: JrmError, step: str, cause: Cause) -> None:
        """It cannot be had: nothing of it was submitted."""
        text = f"{error.message} [{error.code}]"
        self.step(step, "fail", text)
        self.end(cause, f"{text}; next: {error.hint}" if error.hint else text)

    def close(self) -> None:
        """Leave it alone: it goes on without us."""
        self._drop_road()
        if self._post is not None:
            self._post.close()
            self._post = None
        self._site.call(lambda: self._site.links.close(self.key, letters=True))

    def _drop_road(self) -> None:
        if self._reached is not None:
            self._reached.close()
            self._reached = None

    @property
    def linked(self) -> bool:
        """Whether the road to the agent is good."""
        return self._reached is not None and self._reached.road.up

    # ------------------------------------------------------------ turns

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

    def _later(self, seconds: float) -> None:
        self.due = time.monotonic() + seconds

    def _begin(self) -> None:
        if self.wants_end:
            self.end(Cause.USER_CANCEL, "canceled before it was submitted")
            return
        step = "environment"
        try:
            made = self._environment()
            step = "submit"
            values = self._prepare(made)
        except LinkError:
            raise  # the connection comes back; every step so far may be repeated
        except JrmError as error:
            self.fail(error, step, Cause.BOOT_STEP_FAILED if step == "environment" else Cause.SUBMIT_REJECTED)
            return
        self._submit(values)

    def _environment(self) -> Environment:
        session, pilot = self.key
        want = wanted_of(self.order.spec, f"{session}.{self._site.places.broker}.p{pilot}")

        def heard(step: Step) -> None:
            outer = step.name == "environment"
            status = step.status if outer or step.status == "fail" else "progress"
            text = step.text if outer else f"{step.name}: {step.text}" if step.text else step.name
            self.step("environment", status, text, -1.0 if outer else float(step.percent))

        connection, facts = self._site.reached()
        return ensure(connection, facts, want, heard)

    def _prepare(self, made: Environment) -> dict[str, object]:
        site, record, spec = self._site, self.record, self.order.spec
        connection, facts = site.reached()
        session, pilot = self.key
        record.system = site.system.name
        record.place = remote_place(facts.home, session, site.places.broker, pilot)
        record.sandbox = remote_sandbox(facts.home, session, site.places.broker, pilot, spec.sandbox)
        values = values_of(spec, site.system, site.site, record.token, record.place)
        site.system.values(values)  # refused before anything is written there
        plain = site.system.name == PLAIN
        told = spec_of(self.order, record, site.system.launch, "127.0.0.1" if plain else "0.0.0.0")  # noqa: S104
        told["job"] = site.system.get("job")  # how the nodes of a job are told there
        body = spec_bytes(made.python, made.program, json.dumps(told).encode())
        done = connection.run(["/bin/sh", "-c", _PREPARE, "sh", record.place, BATCH_SCRIPT.decode()], stdin=body)
        if done.rc:
            raise SiteError(
                f"{connection.name}: {record.place} cannot be prepared: {done.complaint or done.rc}",
                code="JRM-S32",
                hint="check free space, quota and permissions of your home directory there",
                retry=True,
            )
        if spec.bundle:
            connection.write(f"{record.place}/{letters.WORK}", msgspec.msgpack.encode(self.order.orders))
        return values

    def _submit(self, values: dict[str, object]) -> None:
        site, record = self._site, self.record
        self.step("submit", "start", f"asking {site.system.title} for a job")
        record.phase = SUBMITTING
        site.places.save(*self.key, record)
        try:
            made = site.batch.submit(values, f"{record.place}/spec", f"{record.place}/job.sh")
        except RequestError as error:
            self._refused(error)
        except BatchError as error:
            if error.refused:
                self._refused(error)
            else:
                self.step("submit", "progress", f"not clear whether it was taken: {error.message}")
                self._later(RESOLVE_PAUSE)
        else:
            if made.warnings:
                log.info("pilot %s p.%d: %s", *self.key, made.warnings)
            self._submitted(made.id)

    def _refused(self, error: JrmError) -> None:
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
        record.phase = NEW
        site.places.save(*self.key, record)
        self.step("submit", "progress", "the batch system never got it; it is submitted again")
        self._later(0.0)

    # ------------------------------------------------------------ watching

    def _watch(self) -> None:
        if self.wants_end and not self._canceled:
            self._cancel()
        road = self._reached.road if self._reached is not None else None
        if road is not None and road.up:
            self._later(CALM_LOOK)
            return
        if self._look_ended() or self._look_accounted():
            return
        contact = self._read_contact()
        if self._asleep and contact is not None and contact != self._contact:
            self._asleep = False  # a start program removes the contact of the start before
        if (
            contact is not None
            and not self._asleep
            and (contact != self._contact or time.monotonic() >= self._again_at)
        ):
            # A road that was cut mends by itself; another one is looked for when the agent moved, or after a while.
            self._contact = contact
            self._go(contact)
        if self._reached is not None and self._reached.road.up:
            self._later(CALM_LOOK)
            return
        self._pause = min(LAST_LOOK, self._pause * 1.3)
        self._later(self._pause if self._post is None or self.wants_end else 6 * LAST_LOOK)

    def _read_contact(self) -> Contact | None:
        connection, _ = self._site.reached()
        path = f"{self.record.place}/contact.json"
        if connection.stat(path) is None:
            return None
        try:
            return Contact.read(connection.read(path, 1 << 16))
        except SiteError:
            return None  # removed in this moment

    def _look_ended(self) -> bool:
        """Say whether the start program has written its last words."""
        connection, _ = self._site.reached()
        path = f"{self.record.place}/ended.json"
        if self.requeues or connection.stat(path) is None:
            return False
        said = parse_ended(connection.read(path, 1 << 20))
        reason = str(said.get("reason") or "its agent ended")[:2000]
        self.end(Cause.NONE if self.wants_end else Cause.AGENT_LOST, reason)
        return True

    def _look_accounted(self) -> bool:
        """Say whether the accounting knows how a canceled job ended; it is asked a few times only."""
        if not self._canceled or self._looks >= ACCOUNT_LOOKS or not self._site.batch.can("final"):
            return False
        self._looks += 1
        try:
            proof = self._site.batch.final(self.record.job_id, self.record.token)
        except BatchError as error:
            log.info("job %s: %s", self.record.job_id, error.message)
            return False
        if proof is not None:
            self._finals = 1
            self._final(proof)
        return self.over

    @property
    def requeues(self) -> bool:
        """Say whether the batch system may start the job anew: then the end of one start is not the pilot's end."""
        return wants_requeue(self.order.spec)

    def _go(self, contact: Contact) -> None:
        """Find a way to the agent, or write letters."""
        site = self._site
        connection, _ = site.reached()
        self._drop_road()
        self._again_at = time.monotonic() + ROAD_AGAIN
        if not self._began:
            self._began = True
            self._state(PilotState.STARTING, f"its agent starts on {contact.host}")
        self.step("link", "start", f"the way to its agent on {contact.host}")
        keys = Keys(self.record.public, self.record.secret, self.record.agent_public)

        def go(endpoint: str) -> Road:
            road = Road()
            site.call(lambda: site.links.open(self.key, endpoint, keys, road))
            return road

        plain = site.system.name == PLAIN
        self._reached, attempts = reach(connection, contact, connection.route.target.local, plain, go)
        if self._reached is not None:
            self._pause = FIRST_LOOK
            self.step("link", "ok", attempts[-1])
            if self._post is not None:
                self._post.close()
                self._post = None
            return
        log.info("pilot %s p.%d: no road: %s", *self.key, describe(attempts))
        self._again_at += LETTERS_LOOK
        self.step("link", "progress", f"no network path ({describe(attempts)}); letters in files are used, slowly")
        if self._post is None:
            post = self._post = Post(connection, self.record.place, f"{self.key[0]} p.{self.key[1]}", self._letters)
            site.call(lambda: site.links.by_letter(self.key, post.put))

    def _letters(self, frames: list[bytes]) -> None:
        self._site.call(lambda: self._site.links.arrived(self.key, frames))

    def _cancel(self) -> None:
        site, record = self._site, self.record
        try:
            site.batch.cancel([record.job_id], {record.job_id: record.token} if self._site.checks_tokens else None)
        except BatchError as error:
            self.step("queue", "progress", f"its job could not be canceled yet: {error.message}")
            return
        self._canceled = True
        self._pause = FIRST_LOOK
        site.hurry()

    # ------------------------------------------------------------ what the batch system says

    def listed(self, said: JobRecord) -> None:
        """Take in what a status command said of the job."""
        record = self.record
        if self.over or record.phase != SUBMITTED:
            return
        if said.state is JobState.UNKNOWN:
            self._missing(said)
            return
        if record.misses:
            record.misses = 0
        title = self._site.system.title
        if said.state.final:
            self._final(said)
            return
        self._finals = 0
        if said.state is JobState.QUEUED:
            if self._began or said.detail == "requeued":
                self._drop_road()
                self._asleep, self._began = True, False
                self.step("queue", "progress", f"job {said.id} was requeued by {title}; it waits again")
            else:
                self._state(PilotState.QUEUED, f"job {said.id} waits at {title}")
            position, length, believed = self._site.place_of(said.id)
            estimate = said.estimate or believed
            source = self._site.system.name if estimate else ""
            position, reason = said.position or position, said.reason_text or said.reason
            self._site.tell(QueueSeen(*self.key, position, length, estimate, source, reason))
        elif said.state is JobState.RUNNING and not self._began:
            where = ", ".join(said.nodes[:4]) + (", ..." if len(said.nodes) > 4 else "")
            self._state(PilotState.STARTING, f"job {said.id} runs{f' on {where}' if where else ''}; its agent starts")
            self._pause = FIRST_LOOK
            self.due = 0.0

    def _final(self, said: JobRecord) -> None:
        """The batch system calls the job over: heard twice, or from its accounting too, that is proof.

        A job that may be started anew is called failed in between, and the accounting knows its earlier start: of such
        a one only the word heard twice counts.
        """
        self._finals += 1
        proof: JobRecord | None = said if self._finals > 1 else None
        if proof is None and not self.requeues:
            if self._look_ended():
                return
            try:
                proof = self._site.batch.final(said.id, self.record.token)
            except JrmError as error:
                log.info("job %s: no second word on its end: %s", said.id, error.message)
        if proof is None:
            return
        reason = f"job {said.id} ended: {proof.raw_state or proof.state.value}"
        if proof.reason_text or proof.reason:
            reason += f", {proof.reason_text or proof.reason}"
        tail = self._tail()
        self.end(proof.cause or Cause.NONE, f"{reason}; its last words: {tail}" if tail else reason)

    def _tail(self) -> str:
        """Return the last line of the job's own output, for people."""
        connection, _ = self._site.reached()
        for name in ("agent.log", "job.log"):
            try:
                if connection.stat(f"{self.record.place}/{name}") is None:
                    continue
                lines = connection.read(f"{self.record.place}/{name}").decode("utf-8", "replace").strip().splitlines()
            except SiteError:
                continue
            if lines:
                return lines[-1][:300]
        return ""

    def _missing(self, said: JobRecord) -> None:
        """A job that is not listed: ask every other source; without proof it stays unknown, and that is said."""
        site, record = self._site, self.record
        if self._look_ended():
            return
        try:
            proof = site.batch.final(record.job_id, record.token)
            again = proof is None and site.batch.can("find") and site.batch.find(record.token)
        except JrmError as error:
            log.info("job %s: %s", record.job_id, error.message)
            return
        if proof is not None:
            self._finals = 1
            self._final(proof)
            return
        if again:
            record.misses = 0
            return
        record.misses += 1
        limit = self.order.spec.walltime
        late = limit and time.time() - record.submitted > limit + MARGIN
        if record.misses >= MISSES and not self.linked and (late or self._canceled):
            what = "after it was canceled" if self._canceled else "and its time is over"
            self.end(Cause.WALLTIME if late else Cause.NONE, f"job {record.job_id} is in no listing any more, {what}")
            return
        if not self.linked:
            why = said.reason_text or "it is not listed"
            self.step("queue", "progress", f"job {record.job_id}: {why}; nothing is concluded from that (JRM-S29)")
