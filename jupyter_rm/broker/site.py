"""One site: a thread that logs in once, surveys once, and looks after all pilots there.

Everything that blocks (a login that waits for a person, a submission, a transfer) happens here, never in the broker's
loop; news goes there through ``call``. However many pilots there are: one connection, one status command in at least
30 s. A lost connection concludes nothing about any pilot; it is tried again, and when that needs a person, a question
waits for one. Read next: :mod:`jupyter_rm.broker.faraway` (one pilot), :mod:`jupyter_rm.runtime.connect`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from ..batch import BatchError, BatchSystem, recognise
from ..model.effects import Input, JobChanged, StartPilot
from ..model.errors import JrmError, LinkError, RequestError, SiteError
from ..model.states import Cause
from ..runtime.batchsite import BatchSite
from ..runtime.bootstrap import SiteFacts, prepare, survey
from ..runtime.collect import Collector
from ..runtime.collect_shared import shared_of
from ..runtime.connect import Connection, Connections, Event, Question
from .faraway import Faraway
from .lastword import stumbled, told
from .links import Key, Links
from .ownscript import OwnScript
from .places import NEW, OVER, Places, Record
from .questions import Questions
from .seen import Seen, view_of
from .sites import AUTO, PLAIN, SiteName, description_of, needs_to_stay, search_path

log = logging.getLogger("jupyter_rm.broker")
# Once all pilots answer themselves, one listing of jobs in this time, s; before that the collector sets the pace.
STATUS_CALM = 120.0
# Pauses after a login that failed, s: the first, doubled up to the last.
LOGIN_AGAIN, LOGIN_LAST = 5.0, 300.0
# How many listings a person's question may lead to: an end is only believed when it was heard twice.
ASKED_MOST = 3
# Codes of errors that a person must mend.
PERSON = frozenset({"JRM-T24", "JRM-T25", "JRM-T26", "JRM-T29"})


class Site(threading.Thread):
    """One site and its pilots.

    Args:
        name: what was asked for. connections: shared by all sites.
        tell: hands news to the broker's machine; call: runs something in the broker's loop; both from any thread.
        followed: says whether anybody follows a session. seen: told what the site looks like, in the broker's loop.
    """

    def __init__(
        self,
        name: SiteName,
        connections: Connections,
        places: Places,
        links: Links,
        questions: Questions,
        tell: Callable[[Input], None],
        call: Callable[[Callable[[], None]], None],
        followed: Callable[[str], bool],
        seen: Seen,
    ) -> None:
        super().__init__(name=f"site {name.text}"[:60], daemon=True)
        self.site = name
        self.places, self.links = places, links
        self.tell, self.call = tell, call
        self._connections, self._questions, self._followed = connections, questions, followed
        self._pilots: dict[Key, Faraway] = {}
        self._box: deque[Callable[[], None]] = deque()
        self._change = threading.Condition()
        self._stopped = False
        self._connection: Connection | None = None
        self._unlisten: Callable[[], None] = lambda: None
        self._facts: SiteFacts | None = None
        self._system: BatchSystem | None = None
        self._batch: BatchSite | None = None
        self._collector: Collector | None = None
        self._seen, self._shown = seen, 0
        self._login_at = 0.0
        self._login_pause = LOGIN_AGAIN
        self._needs_person = False
        self._reaching = False
        self._status_at = 0.0
        self._askers: list[Callable[[str], None]] = []
        self._rounds = 0

    # ------------------------------------------------------------ any thread

    def post(self, what: Callable[[], None]) -> None:
        """Have something done in this thread soon."""
        with self._change:
            self._box.append(what)
            self._change.notify()

    def start_pilot(self, order: StartPilot) -> None:
        """Take a pilot in."""
        self.post(lambda: self._take_in(order))

    def end_pilot(self, key: Key, lost: bool = False) -> None:
        """End a pilot; ``lost``: its job is being ended from outside already, find out why."""
        pilot = self._pilots.get(key)
        if pilot is not None:
            pilot.stop.set()
            if self._reaching and pilot.record.phase == NEW:
                # A login may last; nothing of this pilot was submitted, and nothing will be.
                reason = "canceled before it was submitted"
                self.tell(JobChanged(*key, False, cause=int(Cause.USER_CANCEL), reason=reason))
        self.post(lambda: self._end(key, lost))

    def look(self, key: Key) -> None:
        """Something about the road to a pilot has changed."""
        self.post(lambda: self._look(key))

    def ask_now(self, answer: Callable[[str], None]) -> None:
        """Ask the batch system out of turn: a person wants to know. ``answer`` gets what could not be found out."""

        def take() -> None:
            self._askers.append(answer)
            self._rounds = 0
            if self._needs_person:
                self._tell_askers("its login waits for a person: s.log_in()")
            else:
                self._login_at = 0.0

        self.post(take)

    def tell_job(self, key: Key, op: str, done: Callable[[JrmError | str], None]) -> None:
        """Have the batch system do a word of ``JOB_WORDS`` to a pilot's job; ``done`` gets its words, or the error."""
        self.post(lambda: self._tell_job(key, op, done))

    def person_came(self) -> None:
        """Somebody follows one of the sessions now: questions can be asked again."""
        if self._needs_person:
            self.post(self._try_again)

    def stop(self) -> None:
        """End the thread soon; pilots go on."""
        with self._change:
            self._stopped = True
            self._change.notify()

    @property
    def pilots(self) -> list[Key]:
        """The pilots that are looked after now."""
        return list(self._pilots)

    # ------------------------------------------------------------ this thread: what pilots ask

    @property
    def system(self) -> BatchSystem:
        """The batch system; known once the site was reached."""
        assert self._system is not None
        return self._system

    @property
    def batch(self) -> BatchSite:
        """The batch system behind the connection."""
        assert self._batch is not None
        return self._batch

    @property
    def checks_tokens(self) -> bool:
        """Whether a listing shows tokens, so that a number given to another job is noticed."""
        return self.system.name != PLAIN

    def place_of(self, job_id: str) -> tuple[int, int, float]:
        """Return (position, length of the line, believed start epoch s) of a waiting job; zeros: not known."""
        if self._collector is None:
            return 0, 0, 0.0
        return (*self._collector.place(job_id), self._collector.picture.estimates.get(job_id, 0.0))

    def choices(self, name: str) -> list[str]:
        """Return what the site itself offers for an attribute, such as the projects of this account; [] not told."""
        op = self.system.attributes[name].choices_from
        try:
            offers = self.batch.projects() if op == "projects" else self.batch.queues() if op == "queues" else []
        except JrmError as error:
            log.info("%s: %s", self.site.text, error)
            return []
        return [one.name for one in offers]

    def tidy(self, record: Record) -> None:
        """Remove what holds the keys of a pilot that is over; its logs stay."""
        if record.place and self._connection is not None and self._connection.alive:
            try:
                self._connection.remove(f"{record.place}/spec")
            except JrmError as error:
                log.info("%s/spec is left: %s", record.place, error.message)

    def reached(self) -> tuple[Connection, SiteFacts]:
        """Return the connection and what the machine is like."""
        assert self._connection is not None
        assert self._facts is not None
        return self._connection, self._facts

    def hurry(self, after: float = 0.0) -> None:
        """Ask the batch system as soon as politeness allows, ``after`` s from now at the earliest."""
        due = self._collector.due() if self._collector is not None else 0.0
        self._status_at = min(self._status_at, time.monotonic() + max(after, due))

    # ------------------------------------------------------------ the thread

    def run(self) -> None:
        """Look after the pilots until told to stop."""
        # What an environment is made from is packed while the login is on its way.
        threading.Thread(target=prepare, name="prepare", daemon=True).start()
        while True:
            with self._change:
                while not self._box and not self._stopped and (wait := self._wait()) > 0:
                    self._change.wait(min(wait, 60.0))
                box, self._box = list(self._box), deque()
                if self._stopped:
                    break
            for what in box:
                self._careful(what)
            self._careful(self._turn)
        self._unlisten()
        for pilot in self._pilots.values():
            pilot.close()

    def _careful(self, what: Callable[[], None]) -> None:
        """Do something; what nobody expected is told to the pilots, and this thread goes on: they have no other."""
        try:
            what()
        except LinkError as error:
            self._lost(error)
        except Exception as error:
            log.exception("site %s", self.site.text)
            self._login_at = time.monotonic() + LOGIN_AGAIN
            for pilot in list(self._pilots.values()):
                self._stumble(pilot, error)
            self._forget_over()

    def _stumble(self, pilot: Faraway, error: Exception) -> None:
        try:
            pilot.stumble(error)
        except Exception as another:
            log.exception("%s %s", self.site.text, pilot.key)
            pilot.step("connect", "fail", told(stumbled(another)))

    def _forget_over(self) -> None:
        for key in [key for key, pilot in self._pilots.items() if pilot.over]:
            del self._pilots[key]

    def _wait(self) -> float:
        """Return for how long nothing has to be done, s."""
        if not self._pilots:
            return 60.0
        now = time.monotonic()
        if self._login_at > now:
            return self._login_at - now
        asked = [now + self._collector.due(asked=True)] if self._askers and self._collector is not None else []
        return min(self._status_at, *asked, *(pilot.due for pilot in self._pilots.values())) - now

    def _turn(self) -> None:
        now = time.monotonic()
        if not self._pilots:
            self._tell_askers("")
        if not self._pilots or now < self._login_at:
            return
        try:
            self._reaching = True
            try:
                self._reach()
            finally:
                self._reaching = False
            for pilot in list(self._pilots.values()):
                if pilot.due <= time.monotonic():
                    self._one(pilot)
            if self._askers and self._collector is not None and self._collector.due(asked=True) <= 0:
                self._answer_askers()
            if time.monotonic() >= self._status_at:
                self._ask_status()
            self._look_around()
        except LinkError as error:
            self._lost(error)
        except JrmError as error:
            self._unfit(error)
        self._forget_over()

    def _one(self, pilot: Faraway) -> None:
        try:
            pilot.turn()
        except LinkError:
            raise
        except JrmError as error:
            log.warning("%s %s: %s", self.site.text, pilot.key, error)
            pilot.step("queue" if pilot.record.job_id else "submit", "progress", told(error))
            pilot.due = time.monotonic() + LOGIN_AGAIN
        except Exception as error:
            log.exception("%s %s", self.site.text, pilot.key)
            self._stumble(pilot, error)
        else:
            pilot.stood()

    def _unfit(self, error: JrmError) -> None:
        """The machine is reached and cannot do what it should: no pilot can be had, those that were are left alone."""
        self._tell_askers(told(error))
        log.warning("%s: %s", self.site.text, error)
        self._login_at = time.monotonic() + self._login_pause
        self._login_pause = min(LOGIN_LAST, 2 * self._login_pause)
        for pilot in list(self._pilots.values()):
            if pilot.record.phase == NEW:
                pilot.fail(error, "survey", Cause.BOOT_STEP_FAILED)
            else:
                pilot.step("survey", "progress", told(error))

    def _take_in(self, order: StartPilot) -> None:
        key = (order.session, order.pilot)
        if key in self._pilots:
            return
        try:
            record = self.places.open(order)
        except Exception as error:
            log.exception("%s %s", self.site.text, key)
            why = stumbled(error)
            self.tell(JobChanged(*key, False, cause=int(Cause.BOOT_STEP_FAILED), reason=told(why)))
            return
        if record.phase == OVER:
            return
        self._pilots[key] = (OwnScript if order.spec.script else Faraway)(self, order, record)
        self._try_again()

    def _end(self, key: Key, lost: bool) -> None:
        pilot = self._pilots.get(key)
        if pilot is None:
            return
        pilot.ask_end(lost)
        if pilot.record.phase == NEW:
            pilot.turn()  # nothing was submitted: no connection is needed to say that it is over
            if pilot.over:
                del self._pilots[key]

    def _look(self, key: Key) -> None:
        pilot = self._pilots.get(key)
        if pilot is not None:
            pilot.due = min(pilot.due, time.monotonic() + 0.2)
            self.hurry()

    def _try_again(self) -> None:
        self._needs_person = False
        self._login_at = 0.0

    # ------------------------------------------------------------ the login

    def _reach(self) -> None:
        """Log in, look around and find the batch system, as far as that is not done."""
        if self._connection is None or self._connection.state in ("failed", "closed"):
            again = self._connection is not None
            self._may_stay()
            self._say("connect", "start", f"logging in at {self.site.target}")
            self._unlisten()
            connection = self._connections.get(self.site.target, self)
            self._connection = connection
            self._unlisten = connection.listen(lambda event: self.post(lambda: self._event(event)))
            self._say("connect", "ok", f"logged in at {connection.name}")
            self._login_pause = LOGIN_AGAIN
            self._needs_person = False
            if again:
                for pilot in self._pilots.values():
                    pilot.due = 0.0
        connection = self._connection
        if connection.state == "lost":
            raise LinkError(f"the connection to {connection.name} is lost", code="JRM-T21", retry=True)
        if self._facts is None:
            self._say("survey", "start", f"looking at {connection.name}")
            self._facts = survey(connection)
            self._say("survey", "ok", f"{self._facts.host}: {self._facts.system} {self._facts.arch}")
        if self._batch is None:
            system = description_of(self._recognised(self._facts))
            self._must_have(system, self._facts)
            user = self._facts.user
            self._batch = BatchSite(connection, system, user, float(self._facts.utc_offset_s), self._variables())
            self._system = system
            pythons = [self._facts.linked, *(path for path, _ in self._facts.pythons)]
            shared = shared_of(system, connection, [*filter(None, pythons)])
            self._collector = Collector(self._batch, polite=self.site.polite, shared=shared)

    def _may_stay(self) -> None:
        """Refuse pilots that are processes of a login node where nothing may stay."""
        if needs_to_stay(self.site) and not (policy := self._connections.policy(self.site.target)).resident:
            raise RequestError(
                f"{self.site.target}: nothing may stay on this login node (site file {policy.source})",
                hint="ask for a pilot of its batch system",
                code="JRM-Q38",
            )

    def _variables(self) -> dict[str, str]:
        assert self._facts is not None
        return self.site.variables(self._facts, self.places.home)

    def _recognised(self, facts: SiteFacts) -> str:
        if self.site.system != AUTO:
            return self.site.system
        found = recognise(facts.commands, search_path())
        if not found:
            raise SiteError(
                f"{facts.host}: no batch system was recognised there",
                code="JRM-S33",
                hint="name it (slurm+ssh://...), or use ssh:// to run on that machine itself",
            )
        return found[0]

    @staticmethod
    def _must_have(system: BatchSystem, facts: SiteFacts) -> None:
        """Notice a wrong name before anything is sent there."""
        missing = [name for name in system.detect if name not in facts.commands]
        if system.detect and len(missing) == len(system.detect):
            there = recognise(facts.commands, search_path())
            hint = f"there is {there[0]}: {there[0]}+ssh://..." if there else "check the site's name, or use ssh://"
            raise SiteError(
                f"{facts.host}: {system.title} is not there: no command {' or '.join(missing)}",
                code="JRM-S27",
                hint=hint,
            )

    def ask(self, question: Question) -> None:
        """Put a question of the login before whoever waits for it."""
        self._say("connect", "progress", f"{question.host} asks: {question.text.strip() or question.kind}")
        self._questions.ask(question, self._pilots)

    def _lost(self, error: LinkError) -> None:
        """No connection: pilots that were never submitted cannot be had, all others are left as they are."""
        self._tell_askers(told(error))
        connected = self._connection is not None
        person = error.code in PERSON
        asked = any(self._followed(key[0]) for key in self._pilots)
        for pilot in list(self._pilots.values()):
            if pilot.record.phase == NEW and not connected and (asked or not person):
                pilot.fail(error, "connect", Cause.BOOT_STEP_FAILED)
            else:
                pilot.step("connect", "fail" if person else "progress", told(error))
        if connected and self._connection is not None and self._connection.state == "lost":
            self._login_at = time.monotonic() + 1.0  # it is tried again by itself, and says so
            return
        self._needs_person = person
        self._login_at = float("inf") if person else time.monotonic() + self._login_pause
        self._login_pause = min(LOGIN_LAST, 2 * self._login_pause)

    def _event(self, event: Event) -> None:
        """Something happened to the connection."""
        if event.kind == "reconnected":
            self._say("connect", "ok", event.text)
            self._login_at = 0.0
            for pilot in self._pilots.values():
                pilot.due = 0.0
        elif event.kind == "failed":
            error = self._connection.error if self._connection is not None else None
            self._needs_person = error is not None and error.code in PERSON
            self._say("connect", "fail", event.text)
            if not any(self._followed(key[0]) for key in self._pilots):
                self._login_at = float("inf")  # until somebody comes
        else:
            self._say("connect", "progress", event.text)

    def _say(self, step: str, status: str, text: str) -> None:
        for pilot in self._pilots.values():
            pilot.step(step, status, text)

    # ------------------------------------------------------------ the batch system

    def _look_around(self) -> None:
        """Show the site to whoever follows its pilots' sessions; ask for nodes and queues when it is their time."""
        sessions = {key[0] for key in self._pilots if self._followed(key[0])}
        if self._collector is None or not sessions or self.system.name == PLAIN:
            return
        if min(pilot.due for pilot in self._pilots.values()) < time.monotonic() + 1.0:
            return  # a pilot is about to start: it must not wait for this
        self._collector.look_around()
        picture = self._collector.picture
        if picture.number != self._shown:
            self._shown = picture.number
            view = view_of(self.site.text, self.system.title, picture, self.system.ops)
            whose = {key[0] for key in self._pilots}
            self.call(lambda: self._seen.show(whose, view))

    def _answer_askers(self) -> None:
        """Make the listing that a person waits for; what looks like an end is asked for once more."""
        self._ask_status(asked=True)
        self._rounds += 1
        if self._rounds < ASKED_MOST and any(pilot.doubted for pilot in self._pilots.values() if not pilot.over):
            return
        part = self._collector.picture.parts.get("jobs") if self._collector is not None else None
        self._tell_askers(f"{part.failure}; what was known stands" if part is not None and part.failure else "")

    def _tell_askers(self, said: str) -> None:
        askers, self._askers = self._askers, []
        for answer in askers:
            answer(said)

    def _tell_job(self, key: Key, op: str, done: Callable[[JrmError | str], None]) -> None:
        pilot = self._pilots.get(key)
        try:
            if pilot is None or not pilot.record.job_id or self._batch is None:
                raise RequestError(f"{op}: it was not submitted yet", hint="wait until it is queued", code="JRM-Q29")
            if not self._batch.can(op):
                title = self.system.title
                hint = f"see: jrm site show {self.site.system}"
                raise RequestError(f"{op}: {title} cannot do that", hint=hint, code="JRM-Q29")
            if op == "hold" and pilot.linked:
                hint = "p.cancel(drain=True) lets it end" + ("; p.suspend()" if self._batch.can("suspend") else "")
                raise RequestError(f"{op}: its job runs", hint=hint, code="JRM-Q29")
            if op == "suspend" and not pilot.began:
                raise RequestError(f"{op}: its job does not run yet", hint="p.hold() keeps it back", code="JRM-Q29")
            said = self._batch.tell(op, [pilot.record.job_id])
            if said.missing:
                raise SiteError(
                    f"{op}: {self.system.title} does not know job {pilot.record.job_id}",
                    hint="ask how it stands: jrm status --refresh",
                    code="JRM-S34",
                )
        except JrmError as error:
            done(error)
            if isinstance(error, LinkError):
                raise
            return
        self.ask_now(lambda _: done(said.text))

    def _ask_status(self, asked: bool = False) -> None:
        """Make one listing for all jobs, if it is time; a failure concludes nothing."""
        own = {pilot.record.job_id: pilot for pilot in self._pilots.values() if pilot.record.job_id}
        now = time.monotonic()
        if not own or self._collector is None:
            self._status_at = now + STATUS_CALM
            return
        tokens = {id: pilot.record.token if self.checks_tokens else "" for id, pilot in own.items()}
        try:
            # An older word of others must not make one that ran look as if it waited again.
            borrow = not any(pilot.began for pilot in own.values())
            heard = self._collector.status(tokens, asked, borrow)
        except BatchError as error:
            heard = []
            for pilot in own.values():
                if not pilot.linked:
                    pilot.step("queue", "progress", f"{error.message}; what was known stands")
        calm = all(pilot.linked and not (pilot.wants_end or pilot.suspended) for pilot in own.values())
        self._status_at = now + max(1.0, STATUS_CALM if calm else 0.0, self._collector.due())
        for record in heard:
            if record.id in own:
                own[record.id].listed(record)
