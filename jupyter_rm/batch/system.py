"""A batch system: values in, commands out; output in, records out. The one class callers need.

Built from a checked description by :func:`jupyter_rm.batch.load`. It holds no connection and no jobs; the same object
serves any number of sessions. What it cannot read is an error that concludes nothing; what it does not know is UNKNOWN,
noted once in ``notes``. Read next: ``docs/batch-systems.md``.
"""

from __future__ import annotations

import copy
import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..model.errors import RequestError
from .check import OPS, SPECIAL
from .errors import Failures
from .fields import Fields, epoch_of, seconds_of
from .nodelist import of_file, of_form
from .origin import Origin
from .readers import Reader, Unreadable, read_rows
from .records import (
    Acknowledged,
    Command,
    JobContext,
    JobRecord,
    JobState,
    NodeRecord,
    ProjectRecord,
    QueueRecord,
    Submitted,
)
from .templates import Hole, fill, holes
from .translate import Translator
from .values import Attribute, Value, resolve, written

Answer = Submitted | Acknowledged | list[JobRecord] | list[QueueRecord] | list[ProjectRecord] | list[NodeRecord]


class BatchSystem:
    """One batch system as its description tells it.

    Args:
        name: what it was loaded as; tree: the merged description, checked; origin: where each leaf came from;
        files: the files it was made of, the most special first.

    Attributes:
        attributes: what can be asked for, by name; notes: states that no description explains, each once;
        poll: seconds between status commands (``every_s``, never below ``least_s``), ``nodes_s``, ``queues_s``,
        ``ids`` how many jobs one command may name; launch: launch methods of the site, the best first.
    """

    def __init__(
        self, name: str, tree: Mapping[str, Any], origin: Mapping[str, Origin], files: tuple[str, ...] = ()
    ) -> None:
        self.name = name
        self.title = str(tree.get("title", name))
        self.files = files
        self.attributes = {key: Attribute(name=key, **said) for key, said in tree.get("attributes", {}).items()}
        self.poll: dict[str, float] = dict(tree.get("poll", {}))
        self.launch: tuple[str, ...] = tuple(tree.get("launch", ()))
        self.detect: tuple[str, ...] = tuple(tree.get("detect", ()))
        self.token_in = str(tree.get("token_in", "name"))
        self._tree = tree
        self._origin = origin
        self._translate = Translator(self.title, tree)
        self.notes = self._translate.notes
        self._failures = Failures(self.title, tree.get("errors", {}))
        self._readers = {key: Reader(**said) for key, said in tree.get("readers", {}).items()}
        self._fields = {key: Fields(one.fields, tree.get("nothing", ())) for key, one in self._readers.items()}

    def again(self) -> BatchSystem:
        """Return this system as one that has noted nothing yet: notes belong to whoever reads answers with it."""
        other = copy.copy(self)
        other._translate = Translator(self.title, self._tree)
        other.notes = other._translate.notes
        return other

    @property
    def ops(self) -> tuple[str, ...]:
        """The operations this system can do."""
        return tuple(self._tree.get("ops", {}))

    @property
    def is_site(self) -> bool:
        """True for the description of one site: it says where that is."""
        return "url" in self._tree.get("site", {})

    def state_of(self, raw: str) -> tuple[JobState, str]:
        """Return (state, detail) of a state as the batch system writes it; UNKNOWN, and a note, when nobody knows."""
        return self._translate.state_of(raw)

    def reason_of(self, raw: str) -> str:
        """Return a reason in plain words; as it is when nobody has translated it."""
        return self._translate.reason_of(raw)[0]

    # What to run ------------------------------------------------------------------------------------------------

    def values(
        self, given: Mapping[str, object], choices: Mapping[str, Sequence[str]] | None = None
    ) -> dict[str, Value]:
        """Return every attribute that has a value: given, default or derived, each checked.

        Args:
            given: by attribute name, None is 'not given'; choices: discovered ones, e.g. ``{"queue": ["batch"]}``.

        Raises:
            RequestError: naming the attribute.
        """
        return resolve(self.attributes, given, choices)

    def render(
        self, op: str, values: Mapping[str, object] | None = None, choices: Mapping[str, Sequence[str]] | None = None
    ) -> Command:
        """Return the command for an operation.

        Args:
            op: ``submit, script, status, final, ended, find, estimate, cancel, hold, release, suspend,
                resume, queues, projects, nodes, version``.
                A user's own ``script`` is asked for with what is given and nothing else: no defaults.
            values: by attribute name; ``ids`` is the list of job ids, ``user`` the account on the machine.
            choices: discovered choices by attribute.

        Raises:
            RequestError: no such operation here, or a value that is refused (the message names the attribute).
        """
        said = self._tree.get("ops", {}).get(op)
        if said is None:
            raise RequestError(
                f"{self.title} has no operation {op!r}", hint=f"it has: {', '.join(self.ops)}", code="JRM-Q25"
            )
        have = resolve(self.attributes, values or {}, choices, op == "submit", defaults=op != "script")
        if op in ("submit", "script"):
            self._unheard(values or {})
        argv: list[str] = []
        env: dict[str, str] = {}
        for item in said["argv"]:
            if item == "{attributes}":
                self._attributes_into(have, argv, env)
            elif item == "{constant}":
                argv.append(said.get("constant", ""))
            else:
                argv += self._group([item] if isinstance(item, str) else item, have)
        for name, template in said.get("env", {}).items():
            if (text := fill(template, self._lookup(have))) is not None:
                env[name] = text
        self._need(op, said["argv"], have)
        return Command(tuple(argv), said.get("stdin", "").encode(), env, float(said.get("timeout_s", 30.0)))

    @property
    def heard(self) -> frozenset[str]:
        """The attributes that reach a submission; the others it has no way to ask for."""
        heard: set[str] = set()
        argv = self._tree.get("ops", {}).get("submit", {}).get("argv", ())
        texts = [item for group in argv for item in ([group] if isinstance(group, str) else group)]
        for name, attribute in self.attributes.items():
            own = [*attribute.args, *attribute.args_false, *attribute.env.values()]
            heard |= {name} if own else set()
            texts += own
        heard |= {hole.name for text in texts if text not in SPECIAL for hole in holes(text)}
        for attribute in self.attributes.values():
            heard |= set(attribute.product) if attribute.name in heard else set()
        return frozenset(heard)

    def _unheard(self, given: Mapping[str, object]) -> None:
        """Refuse what would be dropped silently: a person who asks for memory believes to have got it."""
        heard = self.heard
        for name, value in given.items():
            attribute = self.attributes[name]
            if value is None or name in heard or attribute.optional or not attribute.visible:
                continue
            if value != attribute.default:
                raise RequestError(
                    f"{name}: {self.title} has no way to ask for it",
                    hint=f"leave it out, or give attributes.{name}.args in a file that extends {self.name!r}",
                    code="JRM-Q21",
                )

    def most_ids(self, op: str) -> int:
        """Return how many job ids one command of this operation may name."""
        own = self._tree.get("ops", {}).get(op, {}).get("ids")
        return int(own or self.poll.get("ids", 200))

    def _need(self, op: str, argv: Iterable[Any], have: Mapping[str, Value]) -> None:
        """A status command without its ids would list everybody's jobs, a cancel without them end more than asked."""
        for item in argv:
            for hole in holes(item) if isinstance(item, str) and item not in SPECIAL else ():
                if hole.name in ("ids", "user", "script") and hole.name not in have:
                    raise RequestError(f"{hole.name}: needed to {op}", hint=f"give {hole.name}", code="JRM-Q21")

    def _lookup(self, have: Mapping[str, Value], value_of: str = "") -> Callable[[Hole], str | None]:
        def one(hole: Hole) -> str | None:
            name = value_of if hole.name == "value" and value_of else hole.name
            return written(self.attributes[name], have[name], hole.form) if name in have else None

        return one

    def _group(self, templates: Sequence[str], have: Mapping[str, Value], value_of: str = "") -> list[str]:
        """Return the arguments of templates that stand or vanish together."""
        out: list[str] = []
        for template in templates:
            repeated = next((hole for hole in holes(template) if hole.form == "each"), None)
            if repeated is None:
                text = fill(template, self._lookup(have, value_of))
                if text is None:
                    return []
                out.append(text)
                continue
            name = value_of if repeated.name == "value" and value_of else repeated.name
            items = have.get(name, ())
            if not isinstance(items, tuple) or not items:
                return []
            for item in items:
                text = fill(template, self._lookup({**have, name: (item,)}, value_of))
                if text is None:
                    return []
                out.append(text)
        return out

    def _attributes_into(self, have: Mapping[str, Value], argv: list[str], env: dict[str, str]) -> None:
        for name, attribute in self.attributes.items():
            if name not in have:
                continue
            chosen = attribute.args if have[name] is not False else attribute.args_false
            argv += self._group(chosen, have, name)
            for variable, template in attribute.env.items():
                text = fill(template, self._lookup(have, name))
                if text is not None and have[name] is not False:
                    env[variable] = text

    # What came back ---------------------------------------------------------------------------------------------

    def read(
        self,
        op: str,
        stdout: bytes | str,
        stderr: bytes | str = b"",
        rc: int | None = 0,
        *,
        asked: Iterable[str] = (),
        utc_offset_s: float = 0.0,
    ) -> Answer:
        """Return what a command said.

        Args:
            op: as rendered; stdout, stderr: all of it; rc: its exit code, None when it did not come to an end.
            asked: job ids that were asked for: those that the answer leaves out come back as UNKNOWN.
            utc_offset_s: what local time on that machine is ahead of UTC, for times printed without a zone.

        Returns:
            Submitted, Acknowledged, or a list of JobRecord, QueueRecord, ProjectRecord or NodeRecord.

        Raises:
            BatchError: a SiteError with raw output and translation. It concludes nothing about any job; only with
            ``refused`` set is it certain that nothing was submitted.
        """
        said = self._tree["ops"][op]
        asked = tuple(asked)
        out, err = _decoded(stdout), _decoded(stderr)
        gone: tuple[str, ...] = ()
        if said.get("noise"):
            err = _without(said["noise"], err)
        if rc is None:
            raise self._failures.silent(op, out, err)
        if said.get("gone"):
            found = [match for text in (err, out) for match in re.finditer(said["gone"], text, re.MULTILINE)]
            if found:
                gone = tuple(dict.fromkeys(m["id"] for m in found if m.groupdict().get("id")))
                if not gone and len(asked) == 1:
                    gone = asked
                left_out, left_err = _without(said["gone"], out), _without(said["gone"], err)
                if rc not in said.get("rc_ok", [0]) and left_err.strip():
                    raise self._failures.failed(op, out, err, rc)
                out, err, rc = left_out, left_err, 0
        if rc not in said.get("rc_ok", [0]):
            raise self._failures.failed(op, out, err, rc)
        if not OPS[op]:
            return Acknowledged(gone, (out + err).strip()[:4000])
        name = said["reader"]
        reader = self._readers[name]
        text = {"stdout": out, "stderr": err, "both": out + "\n" + err}[reader.stream]
        if gone and not text.strip():
            rows: list[Any] = []
        else:
            try:
                rows = read_rows(reader, text)
            except Unreadable as error:
                raise self._failures.garbled(op, out, err, rc, str(error)) from None
        fields = [self._fields[name].of(row, utc_offset_s) for row in rows]
        fields = [one for one in fields if not self._dropped(reader, one)]
        while self._fields[name].odd:
            self._translate.note(self._fields[name].odd.pop())
        return self._records(op, fields, asked, out, err)

    def _dropped(self, reader: Reader, fields: Mapping[str, Any]) -> bool:
        return any(re.search(pattern, str(fields.get(key, ""))) for key, pattern in reader.drop.items())

    def _records(self, op: str, fields: list[dict[str, Any]], asked: tuple[str, ...], out: str, err: str) -> Answer:
        kind = OPS[op]
        key = "id" if kind in ("job", "submitted") else "name"
        if any(key not in one for one in fields):
            raise self._failures.garbled(op, out, err, 0, f"a row has no {key}")
        if kind == "submitted":
            pattern = self._tree.get("id", r"\S+")
            ids = [one for one in fields if re.fullmatch(pattern, one["id"])]
            if not ids:
                raise self._failures.garbled(op, out, err, 0, "no job id in it")
            # Warnings and banners come before the id, and some of them hold numbers.
            return Submitted(ids[-1]["id"], ids[-1].get("cluster", ""), err.strip()[:4000])
        if kind == "queue":
            return list({one["name"]: QueueRecord(**one) for one in fields}.values())
        if kind == "project":
            return list({one["name"]: ProjectRecord(**one) for one in fields}.values())
        if kind == "node":
            return self._translate.nodes(fields)
        jobs = {record.id: record for record in map(self._translate.job, fields)}
        for missing in asked:
            jobs.setdefault(missing, JobRecord(missing, reason_text="the batch system does not list it"))
        return list(jobs.values())

    # Inside a job -----------------------------------------------------------------------------------------------

    def job(self, environ: Mapping[str, str], read: Callable[[str], str]) -> JobContext:
        """Return what a running job sees of itself.

        Args:
            environ: the job's environment; read: returns the text of a file (node files), may raise OSError.

        Raises:
            BatchError: there is no job here, or its node list cannot be read.
        """
        said = self._tree.get("job", {})

        def first(key: str) -> str:
            return next((environ[name] for name in said.get(key, []) if environ.get(name)), "")

        nodes: tuple[tuple[str, int], ...] = ()
        for place in said.get("nodes", []):
            text = environ.get(place.get("var") or place.get("file_var"), "")
            if not text:
                continue
            try:
                nodes = of_file(place["form"], read(text)) if "file_var" in place else of_form(place["form"], text)
            except OSError as error:
                raise self._failures.outside(f"its node file {text} cannot be read: {error}") from None
            if nodes:
                break
        if not first("id"):
            names = ", ".join(said.get("id", [])) or "nothing"
            raise self._failures.outside(f"this is not inside a job: {names} is not set")
        restarts = first("restarts")
        return JobContext(
            id=first("id"),
            nodes=nodes,
            name=first("name"),
            end=epoch_of(first("end")),
            limit_s=seconds_of(first("limit_s")),
            restarts=int(restarts) if restarts.isascii() and restarts.isdecimal() and len(restarts) < 7 else 0,
            tmp=first("tmp"),
        )

    # Where it came from -----------------------------------------------------------------------------------------

    def table(self, name: str) -> Mapping[str, Any]:
        """Return a table of the description, empty when it has none of that name."""
        found = self._tree.get(name, {})
        return found if isinstance(found, Mapping) else {}

    def get(self, key: str) -> Any:
        """Return the value at a dotted path; ``*`` parts give a dict of all matches. RequestError: no such key."""
        if any(sign in key for sign in "*?["):
            return {path: one.value for path, one in self._origin.items() if fnmatch.fnmatchcase(path, key)}
        value: Any = self._tree
        for part in self._path(key):
            value = value[part]
        return value

    def _path(self, key: str) -> list[str]:
        """Split a dotted path along the tree, so that keys with dots in them are found too."""
        value: Any = self._tree
        parts, out = key.split("."), []
        while parts:
            for size in range(1, len(parts) + 1):
                name = ".".join(parts[:size])
                if isinstance(value, Mapping) and name in value:
                    out.append(name)
                    value, parts = value[name], parts[size:]
                    break
            else:
                paths = (path.split(".") for path in self._origin)
                heads = {".".join(path[:depth]) for path in paths for depth in range(1, len(path) + 1)}
                close = difflib.get_close_matches(key, heads, 1, 0.5)
                hint = f"did you mean {close[0]!r}?" if close else f"keys begin with: {', '.join(self._tree)}"
                raise RequestError(f"{key!r}: {self.title} has no such key", hint=hint, code="JRM-Q25")
        return out

    def origins(self, key: str) -> dict[str, Origin]:
        """Return each value under a dotted path with the file and line it came from, and what it hides there.

        Raises:
            RequestError: no such key; the hint names the nearest.
        """
        if any(sign in key for sign in "*?["):
            return {path: one for path, one in self._origin.items() if fnmatch.fnmatchcase(path, key)}
        dotted = ".".join(self._path(key))
        return {p: one for p, one in self._origin.items() if p == dotted or p.startswith(dotted + ".")}

    def explain(self, key: str) -> str:
        """Return the same as :meth:`origins`, for people."""
        return "\n".join(f"{path} = {one}" for path, one in self.origins(key).items())


def _decoded(raw: bytes | str) -> str:
    # Login scripts write in whatever encoding; one bad byte must not hide a job id.
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw


def _without(pattern: str, text: str) -> str:
    return "\n".join(line for line in text.split("\n") if not re.search(pattern, line))
