"""A user's own batch script elsewhere: its bytes as they are, the submit command as it is, and what became of it.

Nothing of ours runs in it. What is added to the command is what was asked for, the word by which the job is found
again, and two files for its output unless the script names its own. That it is over is taken from what knows how it
ended (accounting, or the batch system's own memory of it), else from two listings. Runs in the thread of its site.
Read next: :mod:`jupyter_rm.broker.faraway`.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from ..batch import BatchError, BatchSystem, JobRecord, JobState, Submitted
from ..core.session import SITES
from ..model.effects import JobChanged, QueueSeen
from ..model.errors import JrmError, LinkError, RequestError
from ..model.facts import PilotSpec
from ..model.states import Cause, PilotState
from .faraway import Faraway
from .places import SUBMITTED, remote_place
from .reach import Contact
from .sites import AUTO, _typed, description_of, parse
from .watched import ACCOUNT_LOOKS, CALM_LOOK, FIRST_LOOK, LAST_LOOK, MISSES

log = logging.getLogger("jupyter_rm.broker")
# What begins a line of wishes inside a script, by the program that reads it.
MARKS = {"sbatch": ("#SBATCH",), "qsub": ("#PBS", "#$", "#COBALT"), "bsub": ("#BSUB",), "oarsub": ("#OAR",),
         "flux": ("#flux:", "# flux:")}  # fmt: skip
_WISH = re.compile(r"(?:^|\s)(-oo|-eo|-o|-e|-O|-E|-j|--output|--error|--stdout|--stderr)(?:[=\s]+|(?=/))(\S+)")
_OUT, _ERR = ("-oo", "-o", "-O", "--output", "--stdout"), ("-eo", "-e", "-E", "--error", "--stderr")
_NOT_YOURS = ("token", "script", "spec", "ids", "user")


def check(spec: PilotSpec) -> None:
    """Refuse a script that its site cannot take, before anything is recorded.

    Raises:
        RequestError: names the field.
    """
    if spec.site in SITES:
        raise RequestError(
            f"site: {spec.site} takes no batch scripts", hint="name a batch system (slurm+ssh://...)", code="JRM-Q28"
        )
    name = parse(spec.site)
    if name.system != AUTO:
        check_script(spec, description_of(name.system))


def check_script(spec: PilotSpec, system: BatchSystem) -> None:
    """Refuse what a batch system cannot take (RequestError)."""
    if "script" not in system.ops:
        raise RequestError(
            f"site: {system.title} takes no batch scripts",
            hint="name a batch system (slurm+ssh://...); %%jrm sh HOST runs a cell in a shell there",
            code="JRM-Q28",
        )
    if not spec.script.startswith(b"#!"):
        raise RequestError(
            "script: its first line does not say which program runs it", hint="begin with #!/bin/sh", code="JRM-Q28"
        )
    values = script_values(spec, system, "jrm000000", "/x")
    system.render("script", {**values, "script": "/x/script"})


def script_values(spec: PilotSpec, system: BatchSystem, token: str, place: str) -> dict[str, Any]:
    """Return what is asked for besides what the script says itself, by attribute.

    Raises:
        RequestError: an option that is not the user's to choose.
    """
    asked = {"nodes": spec.nodes, "queue": spec.queue, "project": spec.project, "walltime": spec.walltime}
    values: dict[str, Any] = {name: value for name, value in asked.items() if value}
    if spec.name or system.token_in == "name":  # noqa: S105 (a place, not a secret)
        stem = re.sub(r"[^A-Za-z0-9_-]", "-", spec.script_name.partition(".")[0])[:40]
        values["name"] = spec.name or (stem if stem[:1].isalpha() else "script")
    for key, text in spec.options.items():
        if key in _NOT_YOURS:
            raise RequestError(f"{key}: is not yours to choose", hint="leave it out", code="JRM-Q21")
        if key in asked or key == "name":
            raise RequestError(f"options[{key!r}]: is a field", hint=f"say {key}=", code="JRM-Q21")
        values[key] = _typed(system, key, text)
    out, err, joins = wishes(spec.script, system)
    # Where it names a file for its output, errors go there too unless it says otherwise: that stays so.
    for field, own in (("stdout", bool(out)), ("stderr", bool(out or err or joins))):
        if not own and field in system.heard:
            values.setdefault(field, f"{place}/{field}")
    return {**values, "token": token}


def wishes(script: bytes, system: BatchSystem) -> tuple[str, str, bool]:
    """Return (stdout, stderr) as the script itself names them, empty where it does not; and whether it joins them."""
    program = str(system.get("ops.script.argv")[0]).rpartition("/")[2]
    marks = MARKS.get(program, MARKS["bsub"])
    out = err = ""
    joins = False
    for line in script.decode("utf-8", "replace").splitlines():
        mark = next((mark for mark in marks if line.startswith(mark)), "")
        for option, value in _WISH.findall(line[len(mark) :]) if mark else ():
            if option in _OUT:
                out = value.strip("\"'")
            elif option in _ERR:
                err = value.strip("\"'")
            elif value != "n":
                joins = True  # -j oe, -j y
    return out, err, joins


def expanded(path: str, job_id: str, name: str, user: str, home: str) -> str:
    """Return where a path of a script leads; empty when it holds what only the batch system can fill in."""
    number = job_id.partition(".")[0]
    for sign, value in (("%j", number), ("%J", number), ("%A", number), ("%x", name), ("%u", user), ("$JOB_ID", number),
                        ("$JOB_NAME", name), ("$USER", user), ("$HOME", home), ("{{id}}", number)):  # fmt: skip
        path = path.replace(sign, value)
    if path.startswith(":"):
        path = path[1:]  # Grid Engine: on whichever host
    if re.search(r"[%${}]", path):
        return ""
    return path if path.startswith("/") else f"{home}/{path.removeprefix('./')}"


class OwnScript(Faraway):
    """One script elsewhere, from its submission to its end."""

    def _begin(self) -> None:
        if self.wants_end:
            self.end(Cause.USER_CANCEL, "canceled before it was submitted")
            return
        try:
            values = self._bring()
        except LinkError:
            raise
        except JrmError as error:
            self.fail(error, "submit", Cause.SUBMIT_REJECTED)
            return
        self._submit(values)

    def _bring(self) -> dict[str, object]:
        site, record, spec = self._site, self.record, self.order.spec
        check_script(spec, site.system)
        connection, facts = site.reached()
        record.system = site.system.name
        record.place = remote_place(facts.home, self.key[0], site.places.broker, self.key[1])
        connection.mkdir(record.place)
        connection.write(self._path, spec.script, 0o700)
        return script_values(spec, site.system, record.token, record.place)

    @property
    def _path(self) -> str:
        name = self.order.spec.script_name
        return f"{self.record.place}/{name if re.fullmatch(r'[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}', name) else 'script'}"

    def _hand_over(self, values: dict[str, object]) -> Submitted:
        return self._site.batch.script(values, self._path)

    def _files(self) -> tuple[str, ...]:
        """Return where its output goes: (stdout, stderr), empty for what is not known."""
        system, spec, record = self._site.system, self.order.spec, self.record
        _, facts = self._site.reached()
        values = script_values(spec, system, record.token, record.place)
        name = str(values.get("name") or self._path.rpartition("/")[2])
        said = wishes(spec.script, system)
        home = str(values.get("workdir") or facts.home)
        own = [expanded(path, record.job_id, name, facts.user, home) if path else "" for path in said[:2]]
        out = str(values.get("stdout") or own[0])
        return out, str(values.get("stderr") or own[1] or out)

    def _state(self, state: PilotState, reason: str) -> None:
        files = self._files()
        self._site.tell(JobChanged(*self.key, True, int(state), job_id=self.record.job_id, reason=reason, files=files))

    def _read_contact(self) -> Contact | None:
        return None  # there is no agent in it

    def _look_ended(self) -> bool:
        return False

    def end(
        self,
        cause: Cause,
        reason: str,
        salvage: bool = True,
        state: PilotState | None = None,
        code: int | None = None,
    ) -> None:
        """It is over, and this is proven; nothing of it is to be salvaged."""
        del salvage
        if self.over:
            return
        if state is None:
            state = PilotState.CANCELED if cause is Cause.USER_CANCEL else PilotState.FAILED
        self.over = True
        self._site.places.forget_keys(*self.key, self.record)
        self._site.tell(JobChanged(*self.key, False, int(state), cause=int(cause), reason=reason, code=code))

    # ------------------------------------------------------------ watching

    def _watch(self) -> None:
        if self.wants_end and not self._canceled:
            self._cancel()
        if self._canceled and self._looks < ACCOUNT_LOOKS:
            self._looks += 1
            if self._proven():
                return
            self._pause = min(LAST_LOOK, 2 * self._pause)
            self._later(self._pause)
            return
        self._later(FIRST_LOOK if self.wants_end and not self._canceled else CALM_LOOK)

    def listed(self, said: JobRecord) -> None:
        """Take in what a status command said of the job."""
        if self.over or self.record.phase != SUBMITTED:
            return
        if said.state is JobState.UNKNOWN:
            self._missing(said)
            return
        self.record.misses = 0
        if said.state.final:
            self._heard_end(said, "its listing, twice")
            return
        self._finals = 0
        if said.state is JobState.QUEUED:
            if said.detail == "requeued" or self.began:
                self.step("queue", "progress", f"job {said.id} was requeued; it waits again")
            self._state(PilotState.QUEUED, f"job {said.id} waits at {self._site.system.title}")
            position, length, believed = self._site.place_of(said.id)
            estimate = said.estimate or believed
            source = self._site.system.name if estimate else ""
            reason = said.reason_text or said.reason
            self._site.tell(QueueSeen(*self.key, said.position or position, length, estimate, source, reason))
        else:
            self.began = True
            where = ", ".join(said.nodes[:4]) + (", ..." if len(said.nodes) > 4 else "")
            self._state(PilotState.ACTIVE, f"job {said.id} runs{f' on {where}' if where else ''}")
            self._stands(said)

    def _proven(self) -> bool:
        """Say whether something knows how it ended."""
        try:
            found = self._site.batch.proof(self.record.job_id, self.record.token)
        except BatchError as error:
            log.info("job %s: %s", self.record.job_id, error.message)
            return False
        if found is not None:
            self._conclude(*found)
        return self.over

    def _heard_end(self, said: JobRecord, by: str) -> None:
        """A listing calls it over: that is believed when something else knows more, or when it is said twice."""
        if self._proven():
            return
        self._finals += 1
        if self._finals > 1:
            self._conclude(said, by)
        else:
            self._site.hurry()

    def _missing(self, said: JobRecord) -> None:
        site, record = self._site, self.record
        if self._proven():
            return
        try:
            again = site.batch.find(record.token) if site.batch.can("find") else None
        except JrmError as error:
            self.step("queue", "progress", f"job {record.job_id}: {error.message}; nothing is concluded from that")
            return
        if again is not None and again.state.final:
            self._heard_end(again, "its listing by its token, twice")
        elif again is not None:
            record.misses = 0
        else:
            record.misses += 1
            if record.misses >= MISSES:
                why = "no listing knows it any more, and nothing says how it ended"
                self.end(Cause.NONE, f"job {record.job_id} is over: {why}")
                return
            why = said.reason_text or "it is not listed"
            self.step("queue", "progress", f"job {record.job_id}: {why}; nothing is concluded from that (JRM-S29)")

    def _conclude(self, said: JobRecord, by: str) -> None:
        code = -said.signal if said.signal else said.exit
        good = said.state is JobState.DONE or (said.state is JobState.ENDED and code == 0)
        state = PilotState.DONE if good else PilotState.FAILED
        cause = Cause.NONE if good else said.cause
        if said.state is JobState.CANCELED:
            state = PilotState.CANCELED
        elif not good and cause is Cause.PILOT_LOST and code is not None:
            cause = Cause.TASK_EXIT
        how = "" if code is None else f" with exit code {code}" if code >= 0 else f", killed by signal {-code}"
        took = f" after {said.end - said.start:.0f} s" if said.start and said.end else ""
        words = ", ".join(part for part in (said.raw_state, said.reason_text or said.reason) if part)
        self.end(cause, f"job {said.id} ended{how}{took}; {by} says {words}", state=state, code=code)
