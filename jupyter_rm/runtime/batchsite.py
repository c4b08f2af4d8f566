"""A batch system at the other end of a connection: each call is one command there, its answer as records.

It renders a command of the description, runs it, reads what came back. It decides nothing: it does not know when to
ask, keeps no jobs and concludes nothing. Every method blocks; any thread may call it. Read next: :mod:`.collect`, which
decides when to ask, and ``docs/batch-systems.md``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ..batch import (
    Acknowledged,
    BatchSystem,
    JobRecord,
    JobState,
    NodeRecord,
    ProjectRecord,
    QueueRecord,
    Submitted,
)
from ..batch.picture import QueuePicture, picture
from ..model.errors import LinkError, SiteError

if TYPE_CHECKING:
    from .connect import Connection

FOREIGN = "this job number belongs to another job now"


class BatchSite:
    """One batch system, reached through one connection, as one account.

    Args:
        connection: where its commands are; system: how they are called.
        user: the account there; asked for once when it is empty.
        utc_offset_s: by how many seconds local time there is ahead of UTC, for listings without a zone.
        env: variables that its commands need there.
    """

    def __init__(
        self,
        connection: Connection,
        system: BatchSystem,
        user: str = "",
        utc_offset_s: float = 0.0,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.connection = connection
        self.system = system
        self.utc_offset_s = utc_offset_s
        self._user = user
        self._env = dict(env or {})
        # Readers and their notes are shared by all callers of this site.
        self._reading = threading.Lock()

    @property
    def user(self) -> str:
        """The account at the site.

        Raises:
            LinkError: it had to be asked for, and the connection is lost; SiteError: it has no name there.
        """
        if not self._user:
            said = self.connection.run(["id", "-un"], timeout=30)
            if said.rc or not said.text.strip():
                raise SiteError(
                    f"{self.connection.name}: id does not say who you are there: {said.complaint or 'no answer'}",
                    code="JRM-S28",
                    hint="look there with: id -un",
                )
            self._user = said.text.strip().splitlines()[-1]
        return self._user

    def can(self, op: str) -> bool:
        """Return whether the batch system has an operation."""
        return op in self.system.ops

    # --- one job

    def submit(
        self,
        values: Mapping[str, object],
        spec_path: str,
        script_path: str,
        choices: Mapping[str, Sequence[str]] | None = None,
    ) -> Submitted:
        """Submit a job: the script at ``script_path`` with the spec file at ``spec_path`` as its only parameter.

        Args:
            values: attributes by name, ``token`` among them; spec_path: empty for a script that takes none.
            script_path: absolute path there; nothing is written by this call.
            choices: discovered choices by attribute, such as ``{"queue": [...]}``.

        Raises:
            RequestError: a value is refused; nothing ran.
            BatchError: with ``refused`` nothing was submitted; without it look for the token before trying again.
            LinkError: the connection was lost; as unclear as a BatchError without ``refused``.
        """
        have = {**values, "script": script_path, **({"spec": spec_path} if spec_path else {})}
        made = self._ask("submit", have, choices=choices)
        assert isinstance(made, Submitted)
        return made

    def script(self, values: Mapping[str, object], path: str) -> Submitted:
        """Submit a user's own script, as it is, with the attributes given and no others. Raises as :meth:`submit`."""
        made = self._ask("script", {**values, "script": path})
        assert isinstance(made, Submitted)
        return made

    def status(self, ids: Iterable[str], tokens: Mapping[str, str] | None = None) -> list[JobRecord]:
        """Return what the batch system says of jobs, one record for each id, in order.

        Args:
            ids: job ids; tokens: by id, the token each was submitted with. A number whose job carries another token is
                UNKNOWN: a controller that forgot its last jobs gives their numbers away again.

        Raises:
            BatchError, LinkError: nothing is known about any of them.
        """
        asked = list(dict.fromkeys(ids))
        found: dict[str, JobRecord] = {}
        for some in self._portions("status", asked):
            for record in self._jobs("status", {"ids": some, "user": self._who("status")}, some):
                found[record.id] = record
        return [self._own(found.get(id, JobRecord(id)), (tokens or {}).get(id, "")) for id in asked]

    def _own(self, record: JobRecord, token: str) -> JobRecord:
        if not token or record.state is JobState.UNKNOWN:
            return record
        other_user = bool(record.user) and record.user != self.user
        # Not every listing shows tokens: there an empty one says nothing.
        listed = bool(record.token) or "token" in self.system.get("readers." + self._reader("status") + ".fields")
        if other_user or (listed and record.token != token):
            return JobRecord(record.id, reason_text=FOREIGN)
        return record

    def _reader(self, op: str) -> str:
        return str(self.system.get(f"ops.{op}.reader"))

    def find(self, token: str) -> JobRecord | None:
        """Return the job that was submitted with ``token``, None when the batch system lists none.

        Of several the one that lives counts, then the youngest.

        Raises:
            BatchError, LinkError: it is not known whether there is one.
        """
        if not self.can("find"):
            raise SiteError(
                f"{self.system.title}: there is no way to look for a job by its token",
                code="JRM-S28",
                hint="add [ops.find] to its description",
            )
        values: dict[str, object] = {"user": self._who("find")}
        if self._needs("find", "token"):
            values["token"] = token
        found = [record for record in self._jobs("find", values) if record.token == token]
        return max(found, key=lambda record: (record.alive, record.submit or 0.0, record.id)) if found else None

    def ours(self) -> list[JobRecord]:
        """Return all jobs of the account that carry a token.

        Raises:
            BatchError, LinkError: it is not known; also when this batch system has no operation ``find``.
        """
        if not self.can("find") or self._needs("find", "token"):
            raise SiteError(
                f"{self.system.title}: jobs are found one by one here", code="JRM-S28", hint="use find(token)"
            )
        return [record for record in self._jobs("find", {"user": self._who("find")}) if record.token]

    def final(self, id: str, token: str = "") -> JobRecord | None:
        """Return how a job ended, None when there is no proof that it did; see :meth:`proof`."""
        found = self.proof(id, token)
        return found[0] if found is not None else None

    def proof(self, id: str, token: str = "") -> tuple[JobRecord, str] | None:
        """Return how a job ended and which command says so: the accounting, else what is remembered besides.

        Args:
            id: of the job; token: a record with another one is not of this job.

        Raises:
            BatchError, LinkError: nothing is known.
        """
        trouble: SiteError | None = None
        answered = False
        for op in ("final", "ended"):
            if not self.can(op):
                continue
            try:
                records = self._jobs(op, {"ids": [id], "user": self._who(op)}, [id])
            except SiteError as error:
                trouble = trouble or (None if answered else error)
                continue
            answered = True
            for record in records:
                other_user = record.user and record.user != self.user
                foreign = other_user or (token and record.token and record.token != token)
                if record.id == id and record.state.final and not foreign:
                    return record, self._program(op)
        if trouble is not None:
            raise trouble
        return None

    def _program(self, op: str) -> str:
        """Return the name of the program that an operation runs."""
        return str(self.system.get(f"ops.{op}.argv")[0]).rpartition("/")[2]

    # --- several jobs

    def cancel(self, ids: Iterable[str], tokens: Mapping[str, str] | None = None) -> Acknowledged:
        """Ask for the end of jobs; ``missing`` are those it does not know (any more), a hint and no proof.

        Args:
            ids: job ids; tokens: by id; with them a number that is not listed, or belongs to another job
                now, is left alone and missing.

        Raises:
            BatchError, LinkError: some of them may not have been asked.
        """
        wanted = list(dict.fromkeys(ids))
        missing: list[str] = []
        if tokens:
            # Not every batch system says which numbers it does not know.
            missing = [record.id for record in self.status(wanted, tokens) if record.state is JobState.UNKNOWN]
            wanted = [id for id in wanted if id not in missing]
        said = self.tell("cancel", wanted)
        return Acknowledged((*missing, *said.missing), said.text)

    def tell(self, op: str, ids: Iterable[str]) -> Acknowledged:
        """Keep waiting jobs from starting (``hold``, ``release``), or stop running ones (``suspend``, ``resume``).

        Raises as ``cancel``; RequestError where this is not possible.
        """
        missing: list[str] = []
        texts: list[str] = []
        for some in self._portions(op, list(dict.fromkeys(ids))):
            said = self._ask(op, {"ids": some, "user": self._who(op)}, some)
            assert isinstance(said, Acknowledged)
            missing += said.missing
            texts += [said.text] if said.text else []
        return Acknowledged(tuple(missing), "\n".join(texts)[:4000])

    def estimates(self, ids: Iterable[str]) -> dict[str, float]:
        """Return when jobs are believed to start, in seconds since 1970, for those where something is believed.

        Raises:
            BatchError, LinkError: nothing is known.
        """
        out: dict[str, float] = {}
        asked = list(dict.fromkeys(ids))
        if not self.can("estimate"):
            return out
        for some in self._portions("estimate", asked):
            for record in self._jobs("estimate", {"ids": some, "user": self._who("estimate")}, some):
                if record.estimate and record.id in some:
                    out[record.id] = record.estimate
        return out

    # --- the site

    def queue(self) -> QueuePicture:
        """Return the line of waiting jobs, own ones first, and what runs.

        Where the batch system cannot list everybody's jobs only one's own are in it (``whole`` is False).

        Raises:
            BatchError, LinkError: nothing is known.
        """
        if self.can("queue"):
            return picture(self._jobs("queue", {}), self.user)
        if not self.can("find") or self._needs("find", "token"):
            return QueuePicture(whole=False)  # nothing lists jobs there
        own = [_owned(record, self.user) for record in self._jobs("find", {"user": self._who("find")})]
        return picture(own, self.user, whole=False)

    def nodes(self) -> list[NodeRecord]:
        """Return the nodes of the site; empty where it does not tell. Raises as ``queue``."""
        return self._list("nodes", NodeRecord)

    def queues(self) -> list[QueueRecord]:
        """Return the queues (partitions) and their limits; empty where it does not tell. Raises as ``queue``."""
        return self._list("queues", QueueRecord)

    def projects(self) -> list[ProjectRecord]:
        """Return what jobs of this account can be charged to; empty where it does not tell. Raises as ``queue``."""
        found = self._ask("projects", {"user": self._who("projects")}) if self.can("projects") else []
        return [one for one in found if isinstance(one, ProjectRecord)]

    def version(self) -> str:
        """Return what the batch system calls itself, one line. Raises as ``queue``."""
        said = self._ask("version", {}) if self.can("version") else Acknowledged()
        return next(iter(getattr(said, "text", "").splitlines()), "")

    # --- one command

    def _list(self, op: str, kind: type[Any]) -> list[Any]:
        found = self._ask(op, {}) if self.can(op) else []
        assert isinstance(found, list) and all(isinstance(one, kind) for one in found)
        return found

    def _jobs(self, op: str, values: Mapping[str, object], asked: Sequence[str] = ()) -> list[JobRecord]:
        found = self._ask(op, values, asked)
        assert isinstance(found, list)
        return [one for one in found if isinstance(one, JobRecord)]

    def _needs(self, op: str, name: str) -> bool:
        """Return whether the command of an operation has a place for ``name``."""
        return any(f"{{{name}" in word for item in self.system.get(f"ops.{op}.argv") for word in _words(item))

    def _who(self, op: str) -> str | None:
        return self.user if self._needs(op, "user") else None

    def _portions(self, op: str, ids: list[str]) -> Iterator[list[str]]:
        # A command without a place for ids lists them all at once.
        most = self.system.most_ids(op) if not self.can(op) or self._needs(op, "ids") else max(1, len(ids))
        for start in range(0, len(ids), most):
            yield ids[start : start + most]

    def _ask(
        self,
        op: str,
        values: Mapping[str, object],
        asked: Sequence[str] = (),
        choices: Mapping[str, Sequence[str]] | None = None,
    ) -> Any:
        command = self.system.render(op, {name: value for name, value in values.items() if value is not None}, choices)
        rc: int | None
        try:
            done = self.connection.run(
                command.argv, stdin=command.stdin, timeout=command.timeout_s, env={**self._env, **command.env}
            )
            out, err, rc = done.out, done.err, done.rc
        except LinkError as error:
            if error.code != "JRM-T28":
                raise
            out, err, rc = b"", b"", None  # it did not come to an end; what it did is not known
        with self._reading:
            return self.system.read(op, out, err, rc, asked=asked, utc_offset_s=self.utc_offset_s)


def _words(item: str | list[str]) -> list[str]:
    return [item] if isinstance(item, str) else item


def _owned(record: JobRecord, user: str) -> JobRecord:
    """Return a record that names its owner: a listing of one's own jobs need not."""
    return record if record.user else msgspec.structs.replace(record, user=user)
