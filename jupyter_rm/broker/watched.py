"""One pilot elsewhere once its job was taken: the way to its agent, its job's news, its end.

A pilot is over only on proof: what its start program wrote last, or the batch system's word, heard twice or from two
sources. A job that the batch system may start anew begins another life of the same pilot. Runs in the thread of its
site. Read next: :mod:`jupyter_rm.broker.faraway`, which is this and all that comes before.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from ..batch import BatchError, JobRecord, JobState
from ..model.effects import JobChanged, QueueSeen, StartPilot, StepTaken
from ..model.errors import JrmError, SiteError
from ..model.facts import PilotSpec
from ..model.states import Cause, PilotState
from .back import come_back
from .lastword import last_word, stumbled, told
from .links import Keys, Road
from .places import NEW, OVER, SUBMITTED, Record, wants_requeue
from .post import Post
from .reach import Contact, Reached, describe, parse_ended, reach
from .remains import left_there
from .sites import PLAIN, completed, ways_of

if TYPE_CHECKING:
    from .site import Site

log = logging.getLogger("jupyter_rm.broker")
# Looks for the agent's contact: the first after this many s, then rarer up to the second number.
FIRST_LOOK, LAST_LOOK = 0.3, 5.0
# Looks into the accounting after a cancel, one each turn.
ACCOUNT_LOOKS = 4
# For so long a job that ends from outside is asked why, s, before it is canceled like any other; looks are this far
# apart at first, and twice as far each time.
WHY_SECONDS, WHY_LOOK = 40.0, 1.0
# While the road is good nothing has to be looked at but the batch system's listing.
CALM_LOOK = 60.0
# A road that does not mend is looked for anew after this long, from letters this much later.
ROAD_AGAIN, LETTERS_LOOK = 30.0, 300.0
# How often a job must be missing from every listing, and how long beyond its walltime, before it counts as gone.
MISSES, MARGIN = 3, 600.0
# How often something unexpected may happen to a pilot in a row before that counts, and the pauses after it, s.
STUMBLES, STUMBLE_FIRST, STUMBLE_LAST = 6, 2.0, 300.0


class Watched:
    """One pilot elsewhere whose job was taken.

    Attributes:
        key: (session, pilot). due: when to look again (monotonic s). wants_end: it is to be ended.
        began: it was seen running. suspended: all that runs in its job stands still.
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
        self._why_until = 0.0  # it ends from outside: until then the batch system is asked why
        self._why_look = WHY_LOOK
        self._finals = 0
        self._stumbles = 0
        self._looks = 0
        self.began = False  # it was seen running
        self.suspended = False  # the batch system has stopped all that runs in its job
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

    def end(self, cause: Cause, reason: str, salvage: bool = True) -> None:
        """The pilot is over, and this is proven; ``salvage``: reports that its agent left there are read first."""
        if self.over:
            return
        if self.record.phase == SUBMITTED and salvage:
            connection, _ = self._site.reached()
            self._site.tell(left_there(*self.key, connection, self.record.place))
        self.over = True
        self.close()
        self._site.tidy(self.record)
        try:
            self._site.places.forget_keys(*self.key, self.record)
        except OSError as error:  # a full disk: that it is over must be told all the same
            log.warning("%s: its keys are still written down: %s", self.key, error)
        self._site.tell(JobChanged(*self.key, False, cause=int(cause), reason=reason))

    def fail(self, error: JrmError, step: str, cause: Cause) -> None:
        """It cannot be had: nothing of it was submitted."""
        text = f"{error.message} [{error.code}]"
        self.step(step, "fail", text)
        self.end(cause, f"{text}; next: {error.hint}" if error.hint else text)

    def stumble(self, error: Exception) -> None:
        """Something here failed that nobody expected: say so, try again ever more rarely, and know when to give up.

        A pilot of which nothing was submitted fails after some tries. One that was submitted may well be running: it is
        tried again as long as it is wanted.
        """
        self._stumbles += 1
        what = stumbled(error)
        if self._stumbles >= STUMBLES and self.record.phase == NEW:
            self.fail(what, "submit", Cause.BOOT_STEP_FAILED)
            return
        if self._stumbles >= STUMBLES and self.wants_end:
            job = f"job {self.record.job_id}" if self.record.job_id else f"a job with the word {self.record.token}"
            reason = f"given up: {what.message} [{what.code}]; {job} may still be there"
            self.end(Cause.USER_CANCEL, reason, salvage=False)
            return
        pause = min(STUMBLE_LAST, STUMBLE_FIRST * 2.0 ** min(self._stumbles - 1, 20))
        self.step("queue" if self.record.job_id else "submit", "progress", f"{told(what)}; again in {pause:.0f} s")
        self._later(pause)

    @property
    def doubted(self) -> bool:
        """Was it called over, or not listed, without proof so far?"""
        return bool(self._finals or self.record.misses)

    def stood(self) -> None:
        """A turn went well."""
        self._stumbles = 0

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

    def _spec(self) -> PilotSpec:
        """Return what was asked for, with what the site's file says beside it."""
        return completed(self.order.spec, self._site.system, self._site.site)

    @property
    def linked(self) -> bool:
        """Whether the road to the agent is good."""
        return self._reached is not None and self._reached.road.up

    def _later(self, seconds: float) -> None:
        self.due = time.monotonic() + seconds

    # ------------------------------------------------------------ watching

    def ask_end(self, lost: bool) -> None:
        """End it; ``lost``: its agent is gone and said that the job is being ended from outside."""
        self.wants_end = True
        self.due = 0.0
        if lost:
            self._why_until = time.monotonic() + WHY_SECONDS
            self._drop_road()

    @property
    def _wonders(self) -> bool:
        """Is it ended from outside, and may the batch system still say why? That is worth more than its own word."""
        return self.wants_end and time.monotonic() < self._why_until and self._site.system.name != PLAIN

    def _why(self) -> bool:
        """Say whether it is still worth to ask why the job ended from outside; a cancel would hide it."""
        if not self._wonders:
            return False
        if self._site.batch.can("final"):
            try:
                proof = self._site.batch.final(self.record.job_id, self.record.token)
            except BatchError as error:
                log.info("job %s: %s", self.record.job_id, error.message)
                proof = None
            if proof is not None:
                self.end(*last_word(proof, self._site.system.title))
                return True
        self._later(self._why_look)
        self._why_look *= 2
        return True

    def _watch(self) -> None:
        if self._why():
            return
        if self.wants_end and not self._canceled:
            self._cancel()
        reached = self._reached
        if reached is not None and reached.road.up:
            if self._post is not None:
                self._found(f"{reached.name}: connected")  # it came late
            self._later(CALM_LOOK)
            return
        if self._look_ended() or self._look_accounted():
            return
        if reached is not None:
            if reached.broke():
                self._again_at = time.monotonic() + ROAD_AGAIN
            reached.tell()
        contact = self._read_contact()
        if self._asleep and contact is not None and contact != self._contact:
            self._asleep = False  # a start program removes the contact of the start before
        if (
            contact is not None
            and not (self._asleep or self.suspended)
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
        if connection.stat(path) is None:
            return False
        if self.requeues:
            # Nothing of this life runs any more. Whether another one comes is for the batch system to say.
            self._parted(f"job {self.record.job_id} was ended by {self._site.system.title}, which may start it anew")
            return False
        said = parse_ended(connection.read(path, 1 << 20))
        reason = str(said.get("reason") or "its agent ended")[:2000]
        lost = Cause.BOOT_STEP_FAILED if said.get("hook") else Cause.AGENT_LOST
        self.end(Cause.NONE if self.wants_end else lost, reason)
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

    def _parted(self, what: str) -> None:
        """This life of the job is over: its tasks may run elsewhere until the next one comes."""
        if self._asleep:
            return
        self._drop_road()
        self._asleep, self.began = True, False
        reason = f"{what}; what ran is run again, here or on another pilot [JRM-S30]"
        waits, cause = int(PilotState.QUEUED), int(Cause.PILOT_LOST)
        self.step("queue", "progress", reason)
        self._site.tell(JobChanged(*self.key, True, waits, self.record.job_id, cause, reason))
        self._site.hurry()

    def _go(self, contact: Contact) -> None:
        """Find a way to the agent, or write letters."""
        site = self._site
        connection, _ = site.reached()
        self._drop_road()
        self._again_at = time.monotonic() + ROAD_AGAIN
        if not self.began:
            self.began = True
            self._state(PilotState.STARTING, f"its agent starts on {contact.host}")
        self.step("link", "start", f"the way to its agent on {contact.host}")
        attempts: list[str] = []
        for way in ways_of(self._spec()):
            self._drop_road()
            self._reached, said = self._try(way, contact)
            attempts += said
            if self.linked:
                self._found(attempts[-1])
                return
        log.info("pilot %s p.%d: no road: %s", *self.key, describe(attempts))
        self._again_at += LETTERS_LOOK
        why = f"no network path ({describe(attempts)}); " if attempts else ""
        self.step("link", "progress", f"{why}letters in files are used, slowly")
        if self._post is None:
            post = self._post = Post(connection, self.record.place, f"{self.key[0]} p.{self.key[1]}", self._letters)
            site.call(lambda: site.links.by_letter(self.key, post.put))

    def _try(self, way: str, contact: Contact) -> tuple[Reached | None, list[str]]:
        """Try one way to the agent; return what was found, and what became of each attempt."""
        site, record = self._site, self.record
        connection, facts = site.reached()
        keys = Keys(record.public, record.secret, record.agent_public)
        plain, back = site.system.name == PLAIN, way == "reverse"

        def go(endpoint: str) -> Road:
            road = Road()
            site.call(lambda: site.links.open(self.key, endpoint, keys, road, listen=back))
            return road

        if back:
            return come_back(connection, record.place, plain or contact.host == facts.host, go)
        return reach(connection, contact, connection.route.target.local, plain, go)

    def _found(self, said: str) -> None:
        """There is a road to the agent: no letters are needed."""
        self._pause = FIRST_LOOK
        self.step("link", "ok", said)
        if self._post is not None:
            self._post.close()
            self._post = None

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
            if (self.began and not self.linked) or said.detail == "requeued":
                self._parted(f"job {said.id} was requeued by {title}")
            elif not self._asleep:
                self._state(PilotState.QUEUED, f"job {said.id} waits at {title}")
            position, length, believed = self._site.place_of(said.id)
            estimate = said.estimate or believed
            source = self._site.system.name if estimate else ""
            position, reason = said.position or position, said.reason_text or said.reason
            self._site.tell(QueueSeen(*self.key, position, length, estimate, source, reason))
            return
        self._stands(said)
        if said.state is JobState.RUNNING and not self.began:
            where = ", ".join(said.nodes[:4]) + (", ..." if len(said.nodes) > 4 else "")
            self._state(PilotState.STARTING, f"job {said.id} runs{f' on {where}' if where else ''}; its agent starts")
            self._pause = FIRST_LOOK
            self.due = 0.0

    def _stands(self, said: JobRecord) -> None:
        """Tell when its job is stopped, whoever did that, and when it goes on: until then nobody answers there."""
        if (said.detail == "suspended") is self.suspended:
            return
        self.suspended = not self.suspended
        if self.suspended:
            why = f" ({said.reason_text or said.reason})" if said.reason_text or said.reason else ""
            what = f"job {said.id} is suspended at {self._site.system.title}{why}; what runs in it stands still"
            self.step("suspend", "progress", what)
            return
        self.step("suspend", "ok", f"job {said.id} goes on")
        self._pause, self._again_at, self.due = FIRST_LOOK, 0.0, 0.0

    def _final(self, said: JobRecord) -> None:
        """The batch system calls the job over: heard twice, or from its accounting too, that is proof.

        A job that may be started anew is called failed in between, and the accounting knows its earlier start: of such
        a one only the word heard twice counts.
        """
        self._finals += 1
        proof: JobRecord | None = said if self._finals > 1 else None
        if proof is None and not self.requeues:
            if not self._wonders and self._look_ended():
                return
            try:
                proof = self._site.batch.final(said.id, self.record.token)
            except JrmError as error:
                log.info("job %s: no second word on its end: %s", said.id, error.message)
        if proof is None:
            return
        if self.wants_end and not self._why_until:
            self.end(proof.cause, f"job {said.id} ended: {proof.raw_state or proof.state.value}")
            return
        cause, reason = last_word(proof, self._site.system.title)
        tail = self._tail()
        self.end(cause, f"{reason}; its last words: {tail}" if tail else reason)

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
        if not self._wonders and self._look_ended():
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
