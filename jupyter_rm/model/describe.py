"""Descriptions: what a person writes down before anything runs.

:class:`Task` checks every field when it is made, so that bad input never leaves the cell; :class:`Template` is the same
thing as it travels: one per bulk, with ``{name}`` placeholders that parameter columns fill. A description alone has no
side effect. Read next: :mod:`jupyter_rm.client.calls`.
"""

from __future__ import annotations

import difflib
import inspect
import re
import string
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any

import msgspec

from . import late, service
from .errors import RequestError
from .ids import NAME, check_name
from .resources import Request
from .staging import Directive, directives, texts
from .states import HOPELESS, INFRASTRUCTURE, Cause
from .units import duration_s, gpu_share, memory_mib, whole

MODES = ("executable", "shell", "call")
# Below ~/.jupyter_rm of an account: the environments that were made there for tasks, by name.
PREPARED = "envs"
_PLACEHOLDER = re.compile(r"\{[A-Za-z_]\w*(:[0-9A-Za-z.]*)?\}")


class Template(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The common part of all tasks of a bulk, as it travels and is journalled.

    Strings may hold ``{name}`` placeholders for the bulk's columns when ``params`` is true.
    Units: seconds for timeout; see :class:`~jupyter_rm.model.resources.Request`.
    """

    mode: str = "executable"
    executable: str = ""
    arguments: tuple[str, ...] = ()
    request: Request = Request()
    environment: tuple[tuple[str, str], ...] = ()
    named_env: str = ""
    pre_exec: tuple[str, ...] = ()
    post_exec: tuple[str, ...] = ()
    pre_launch: tuple[str, ...] = ()
    post_launch: tuple[str, ...] = ()
    stdin: str = ""
    stdout: str = "stdout"
    stderr: str = "stderr"
    input_staging: tuple[Directive, ...] = ()
    output_staging: tuple[Directive, ...] = ()
    stage_on_error: bool = False
    sandbox: str = ""
    priority: int = 0
    timeout: float = 0.0
    retries: int = 0
    retry_delay: float = 0.0
    retry_on: tuple[str, ...] = ()
    restart: str = "lost"
    on_silence: str = "wait"
    mpi: bool = False
    colocate: str = ""
    exclusive_tag: bool = False
    pilot: str = ""
    requires: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    # It is a service of this bulk's name: ready when a line of its output, or of a file, fits the pattern.
    service: bool = False
    ready: str = ""
    ready_file: str = ""
    startup_timeout: float = 0.0
    partition: int = -1
    category: str = ""
    name: str = ""
    metadata: tuple[tuple[str, str], ...] = ()
    params: bool = False
    # sha256 of the pickled function (mode call)
    function: bytes = b""


def _text(value: object, field: str) -> str:
    if hasattr(value, "__fspath__"):
        value = value.__fspath__()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if not isinstance(value, str):
        raise RequestError(f"{field}: {value!r} is not text", hint=f"give {field} as a string", code="JRM-Q05")
    if "\0" in value:
        raise RequestError(
            f"{field}: holds a NUL character", hint="remove it; no system can pass it on", code="JRM-Q05"
        )
    if not value.isascii():
        try:
            value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise RequestError(
                f"{field}: holds {value[error.start]!a}, half of a character", hint="remove it", code="JRM-Q05"
            ) from None
    return value


def _pilot(value: object, field: str) -> str:
    """Return the uid of a pilot, or the text that names one."""
    uid = getattr(value, "uid", None)
    return uid if isinstance(uid, str) and uid.startswith("p.") else _text(value, field)


def _texts(value: object, field: str) -> tuple[str, ...]:
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, Iterable) or isinstance(value, (bytes, Mapping)):
        raise RequestError(f"{field}: {value!r} is not a list of strings", hint='write ["a", "b"]', code="JRM-Q05")
    return tuple(_text(item, f"{field}[{i}]") for i, item in enumerate(value))


def _arguments(value: object, field: str) -> tuple[str, ...]:
    if isinstance(value, str):
        raise RequestError(
            f"{field}: {value!r} is one string", hint='write a list: ["--seed", "7"]; or use jrm.Shell', code="JRM-Q05"
        )
    if isinstance(value, Iterable) and not isinstance(value, (bytes, Mapping)):
        value = [str(v) if isinstance(v, Real) and not isinstance(v, bool) else v for v in value]
    return _texts(value, field)


def _pairs(value: object, field: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping):
        raise RequestError(f"{field}: {value!r} is not a mapping", hint='write {"NAME": "value"}', code="JRM-Q05")
    out = []
    for key, item in value.items():
        name = _text(key, f"{field} key")
        if not name or "=" in name:
            raise RequestError(f"{field}: {name!r} is not a variable name", hint="no '=' in names", code="JRM-Q05")
        out.append((name, _text(str(item) if isinstance(item, Real) else item, f"{field}[{name!r}]")))
    return tuple(sorted(out))


def _name(value: object, field: str) -> str:
    """Check a name; one with ``{column}`` in it is checked again when it is filled in."""
    if isinstance(value, str) and "{" in value and NAME.fullmatch(_PLACEHOLDER.sub("x", value)):
        return value
    return check_name(value, field)


def named_amounts(value: object, field: str) -> tuple[tuple[str, int], ...]:
    """Check amounts of named resources."""
    if not isinstance(value, Mapping):
        raise RequestError(f"{field}: {value!r} is not a mapping", hint='write {"licenses": 1}', code="JRM-Q05")
    return tuple(sorted((check_name(k, field), whole(v, f"{field}[{k!r}]")) for k, v in value.items()))


def _one_of(*choices: str) -> Callable[[object, str], str]:
    def check(value: object, field: str) -> str:
        if value not in choices:
            raise RequestError(
                f"{field}: {value!r} is unknown", hint="use one of " + ", ".join(choices), code="JRM-Q05"
            )
        return str(value)

    return check


def _flag(value: object, field: str) -> bool:
    if not isinstance(value, bool):
        raise RequestError(f"{field}: {value!r} is not True or False", hint="give True or False", code="JRM-Q05")
    return value


def _as_given(value: object, field: str) -> object:  # noqa: ARG001 (resolved by the session, which knows the handles)
    return value


def _count(least: int, most: int = 2**31 - 1) -> Callable[[object, str], int]:
    return lambda value, field: whole(value, field, least, most)


def causes(value: object, field: str) -> tuple[str, ...]:
    """Check names of causes that count against ``retries``, one or several."""
    known = [cause.name for cause in Cause if cause and cause not in INFRASTRUCTURE | HOPELESS]
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple, set, frozenset)) or not all(item in known for item in items):
        wrong = [item for item in items if item not in known] if isinstance(items, (list, tuple)) else []
        near = difflib.get_close_matches(str(wrong[0]).upper(), known, 1) if wrong else []
        hint = f"did you mean {near[0]}?" if near else "use some of " + ", ".join(known)
        raise RequestError(f"{field}: {value!r} names no cause of failure", hint=hint, code="JRM-Q05")
    return tuple(sorted(set(items)))


def _tags(value: object, field: str) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not set(value) <= {"colocate", "exclusive"}:
        raise RequestError(
            f"{field}: {value!r} is not understood",
            hint='write {"colocate": "name", "exclusive": True}',
            code="JRM-Q05",
        )
    out: dict[str, Any] = {}
    if "colocate" in value:
        out["colocate"] = _text(str(value["colocate"]), f"{field}['colocate']")
    if "exclusive" in value:
        out["exclusive"] = _flag(value["exclusive"], f"{field}['exclusive']")
    if out.get("exclusive") and not out.get("colocate"):
        raise RequestError(
            f"{field}: 'exclusive' keeps others off the node of a 'colocate' tag, and none is given",
            hint='write {"colocate": "name", "exclusive": True}',
            code="JRM-Q05",
        )
    return out


# name -> (check, default, meaning). The one list from which errors, completion and documentation are made.
FIELDS: dict[str, tuple[Callable[[Any, str], Any], Any, str]] = {
    "executable": (_text, "", "program: absolute path, path relative to the sandbox (./x), or a name found on PATH"),
    "arguments": (_arguments, (), "its arguments; {name} is filled from the columns of s.array (short: args)"),
    "ranks": (_count(1), 1, "number of equal processes"),
    "cores_per_rank": (_count(1, 512), 1, "cores of each rank (short: cores)"),
    "gpus_per_rank": (gpu_share, 0, "GPUs of each rank, fractions allowed (short: gpus)"),
    "mem_per_rank": (memory_mib, 0, 'memory of each rank, "4GiB" or MiB (short: mem)'),
    "lfs_per_rank": (memory_mib, 0, "node-local disk of each rank (short: lfs)"),
    "ranks_per_node": (_count(0), 0, "exactly so many ranks on a node"),
    "resources": (named_amounts, (), 'named resources of each rank: {"licenses": 1}'),
    "exclusive": (_flag, False, "whole nodes, shared with nobody"),
    "numa": (_one_of("compact", "spread", "any"), "compact", "where a rank's cores lie on its node"),
    "mpi": (_flag, False, "start the ranks through an MPI launcher"),
    "environment": (_pairs, (), "environment variables (short: env)"),
    "pre_exec": (_texts, (), "shell lines whose environment the task inherits; run once per identical list"),
    "post_exec": (_texts, (), "shell lines run after the program ended by itself"),
    "pre_launch": (_texts, (), "shell lines run once before the program or its ranks; they change no environment"),
    "post_launch": (_texts, (), "shell lines run once after the program and all its ranks ended by themselves"),
    "named_env": (_text, "", "environment to run in: a name from envs or prepare_env, or the path of one or a Python"),
    "stdin": (_text, "", "file to read standard input from, relative to the sandbox"),
    "stdout": (_text, "stdout", "file for standard output, relative to the sandbox"),
    "stderr": (_text, "stderr", "file for standard error, relative to the sandbox"),
    "input_staging": (directives, (), 'files put in place before it starts: ["in.dat", "pilot:///big > big"]'),
    "output_staging": (directives, (), 'files put in place after it ended: ["out.dat > results/{seed}.dat"]'),
    "stage_on_error": (_flag, False, "output_staging also when the program failed"),
    "sandbox": (_text, "", "working directory instead of the one chosen for the task"),
    "priority": (_count(-(2**15), 2**15 - 1), 0, "larger starts earlier"),
    "timeout": (duration_s, 0.0, 'longest run time: "10m" or seconds; 0 none'),
    "retries": (_count(0, 1000), 0, "further attempts after a failure of the task's own"),
    "retry_delay": (duration_s, 0.0, 'pause before the next attempt: "30s"; twice as long each time, up to 1 h'),
    "retry_on": (causes, (), 'tried again after these causes only, such as ["TASK_EXIT"]; none given: after all'),
    "restart": (_one_of("lost", "never"), "lost", "may it start a second time when its pilot or agent was lost"),
    "on_silence": (_one_of("wait", "rerun"), "wait", "while its pilot is silent: wait for proof, or run elsewhere"),
    "tags": (_tags, {}, '{"colocate": "name", "exclusive": True}: same node as others of that tag'),
    "after": (_as_given, (), "tasks or bulks that must be DONE first"),
    "pilot": (_pilot, "", "run on this pilot only: itself, its name or uid"),
    "requires": (late.capability_names, (), 'what its pilot must offer: {"dataset:x"}; it waits for one that does'),
    "services": (service.names, (), "services that must be ready, by name; JRM_INFO_NAME tells it where each is"),
    "service": (_flag, False, "it goes on running and serves tasks that name it in services; see jrm.Service"),
    "ready": (service.pattern, "", "of a service: pattern of the line that says it is ready; first group: endpoint"),
    "ready_file": (_text, "", "of a service: a file whose lines are looked at too, relative to the sandbox"),
    "startup_timeout": (duration_s, 0.0, "of a service: longest time until it is ready (default 60 s)"),
    "partition": (_count(0, 65535), -1, "run in this partition of the pilot only"),
    "category": (_text, "", "free label used in statistics"),
    "name": (_name, "", "a name for people; {column} is filled from the columns of s.array"),
    "metadata": (_pairs, (), "anything to keep with the task, as text"),
    "mode": (_one_of("executable", "shell"), "executable", "executable, or shell: the executable is a shell line"),
}
ALIASES = {
    "cores": "cores_per_rank",
    "gpus": "gpus_per_rank",
    "mem": "mem_per_rank",
    "lfs": "lfs_per_rank",
    "env": "environment",
    "args": "arguments",
}


class Task:
    """Description of one task; wrong fields raise :class:`RequestError` naming the field.

    Args:
        executable: the program.
        arguments: list of its arguments.
        **fields: see :data:`FIELDS`; ``cores``, ``gpus``, ``mem`` are short for the ``*_per_rank`` names.
    """

    __slots__ = ("_given",)

    def __init__(self, executable: object = "", arguments: object = (), **fields: object) -> None:
        given: dict[str, Any] = {}
        if executable != "":
            fields = {"executable": executable, **fields}
        if not (isinstance(arguments, tuple) and not arguments):
            fields = {"arguments": arguments, **fields}
        for key, value in fields.items():
            name = ALIASES.get(key, key)
            if name not in FIELDS:
                near = difflib.get_close_matches(key, [*FIELDS, *ALIASES], 1)
                hint = f"did you mean {near[0]}?" if near else "known fields: " + ", ".join(FIELDS)
                raise RequestError(f"{key}: no such field of a task", hint=hint, code="JRM-Q06")
            if name in given:
                raise RequestError(f"{key}: given twice", hint=f"give {name} once", code="JRM-Q06")
            checked = FIELDS[name][0](value, key)
            if checked != FIELDS[name][1]:
                given[name] = checked
        if not given.get("executable"):
            raise RequestError("executable: missing", hint='jrm.Task("simulate", ["--seed", "7"])', code="JRM-Q05")
        per_node = given.get("ranks_per_node", 0)
        if per_node > given.get("ranks", 1):
            raise RequestError("ranks_per_node: larger than ranks", hint="lower it", code="JRM-Q05")
        if given.get("service"):
            if not given.get("name"):
                text = "name: missing; tasks name a service by it"
                raise RequestError(text, hint='jrm.Service("redis-server", name="db")', code="JRM-Q05")
            service.names(given["name"], "name")
        elif "ready" in given or "ready_file" in given or "startup_timeout" in given:
            field = next(name for name in ("ready", "ready_file", "startup_timeout") if name in given)
            raise RequestError(f"{field}: this is no service", hint="describe it with jrm.Service", code="JRM-Q05")
        _facts_in(given)
        self._given = given

    def __getattr__(self, name: str) -> Any:
        name = ALIASES.get(name, name)
        if name.startswith("_") or name not in FIELDS:
            raise AttributeError(name)
        return self._given.get(name, FIELDS[name][1])

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *FIELDS, *ALIASES]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Task) and self._given == other._given

    def __hash__(self) -> int:
        return hash(repr(sorted(self._given.items())))

    def __repr__(self) -> str:
        rest = ", ".join(f"{key}={value!r}" for key, value in self.as_dict().items() if key != "executable")
        return f"{type(self).__name__}({self.executable!r}{', ' + rest if rest else ''})"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults, in the form the constructor takes."""
        out = dict(self._given)
        if "gpus_per_rank" in out:
            out["gpus_per_rank"] /= 10_000
        for key in ("environment", "metadata", "resources"):
            if key in out:
                out[key] = dict(out[key])
        for key in ("input_staging", "output_staging"):
            if key in out:
                out[key] = [one.as_dict() for one in out[key]]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in out.items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Task:
        """Return the task that :meth:`as_dict` described."""
        return Task(**fields)

    def replace(self, **fields: object) -> Task:
        """Return a copy with some fields changed."""
        return Task(**{**self.as_dict(), **{ALIASES.get(key, key): value for key, value in fields.items()}})

    def template(self, *, params: bool = False) -> Template:
        """Return the form that travels; ``params`` says that ``{name}`` placeholders are to be filled."""
        tags = self.tags
        if "{" in self.name and not params:
            raise RequestError(
                f"name: {self.name!r} is not a name",
                hint="placeholders are filled by s.array only",
                code="JRM-Q02",
            )
        return Template(
            mode=self.mode,
            executable=self.executable,
            arguments=tuple(map(late.braced, self.arguments)) if params else self.arguments,
            request=self.request(),
            environment=tuple((k, late.braced(v)) for k, v in self.environment) if params else self.environment,
            named_env=self.named_env,
            pre_exec=self.pre_exec,
            post_exec=self.post_exec,
            pre_launch=self.pre_launch,
            post_launch=self.post_launch,
            stdin=self.stdin,
            stdout=self.stdout,
            stderr=self.stderr,
            input_staging=self.input_staging,
            output_staging=self.output_staging,
            stage_on_error=self.stage_on_error,
            sandbox=self.sandbox,
            priority=self.priority,
            timeout=self.timeout,
            retries=self.retries,
            retry_delay=self.retry_delay,
            retry_on=self.retry_on,
            restart=self.restart,
            on_silence=self.on_silence,
            mpi=self.mpi,
            colocate=tags.get("colocate", ""),
            exclusive_tag=tags.get("exclusive", False),
            pilot=self.pilot,
            requires=self.requires,
            services=self.services,
            service=self.service,
            ready=self.ready,
            ready_file=self.ready_file,
            startup_timeout=self.startup_timeout or (service.STARTUP_S if self.service else 0.0),
            partition=self.partition,
            category=self.category,
            name=self.name,
            metadata=self.metadata,
            params=params,
        )

    def request(self) -> Request:
        """Return the resources asked for."""
        return Request(
            self.ranks,
            self.cores_per_rank,
            self.gpus_per_rank,
            self.mem_per_rank,
            self.lfs_per_rank,
            self.ranks_per_node,
            self.resources,
            self.exclusive,
            self.numa,
        )

    def placeholders(self) -> set[str]:
        """Return the names of all ``{name}`` placeholders in the text fields; RequestError for bad braces."""
        found: set[str] = set()
        fields = [("executable", self.executable), ("stdin", self.stdin), ("sandbox", self.sandbox)]
        fields += [("name", self.name), ("stdout", self.stdout), ("stderr", self.stderr)]
        fields += [(f"arguments[{i}]", late.braced(text)) for i, text in enumerate(self.arguments)]
        fields += [(f"environment[{key!r}]", late.braced(text)) for key, text in self.environment]
        for key in ("input_staging", "output_staging"):
            fields += [(f"{key}[{at // 2}]", text) for at, text in enumerate(texts(getattr(self, key)))]
        for field, text in fields:
            try:
                for _, name, _, _ in string.Formatter().parse(text):
                    if name is not None:
                        found.add(name.split(".")[0].split("[")[0])
            except ValueError as error:
                raise RequestError(
                    f"{field}: {text!r}: {error}", hint="write {{ and }} for literal braces", code="JRM-Q05"
                ) from None
        return found


def _facts_in(given: Mapping[str, Any]) -> None:
    """Refuse names of facts that are none, and facts where none are filled in."""
    for at, text in enumerate(given.get("arguments", ())):
        if late.MARK in text:
            late.check(text, f"arguments[{at}]")
    for key, text in given.get("environment", ()):
        if late.MARK in text:
            late.check(text, f"environment[{key!r}]")
    for field in ("executable", "stdin", "stdout", "stderr", "sandbox"):
        if late.MARK in given.get(field, ""):
            late.forbid(given[field], field)


def signature(leading: Mapping[str, object], rest: Iterable[str]) -> inspect.Signature:
    """Return what help and completion show: leading parameters with their defaults, then fields of a task by name.

    Args:
        leading: the default of each; ``...``: it has none. rest: fields of a task; their short names come along.
    """
    empty, kind = inspect.Parameter.empty, inspect.Parameter
    made = [
        kind(name, kind.POSITIONAL_OR_KEYWORD, default=empty if default is ... else default)
        for name, default in leading.items()
    ]
    names = [name for name in rest if name not in leading]
    named = {**{name: name for name in names}, **{alias: full for alias, full in ALIASES.items() if full in names}}
    made += [kind(name, kind.KEYWORD_ONLY, default=FIELDS[full][1]) for name, full in named.items()]
    return inspect.Signature(made)


# What jrm.Task? shows and jrm.Task(cor<TAB> offers: all fields, from the one list.
Task.__doc__ = "\n".join(
    [
        f"{(Task.__doc__ or '').partition('Args:')[0].rstrip()}\n\nFields:",
        *(f"    {name}: {meaning}" for name, (_, _, meaning) in FIELDS.items()),
    ]
)
Task.__signature__ = signature({"executable": "", "arguments": ()}, FIELDS)  # type: ignore[attr-defined]
TaskDescription = Task


def Shell(line: str, **fields: object) -> Task:
    """Describe a task that is one shell line: ``jrm.Shell("a | b > c")``; runs under ``/bin/sh -c``."""
    return Task(line, mode="shell", **fields)


def Service(executable: object, arguments: object = (), *, name: str, **fields: object) -> Task:
    """Describe a task that goes on running and serves others: ``jrm.Service("redis-server", name="db")``.

    Tasks that say ``services=["db"]`` start when it is ready, find where it is in ``JRM_INFO_DB``, and end with it.

    Args:
        name: what tasks call it.
        **fields: of a task, and ``ready``: a regular expression; the line of its output that fits says that it is
            ready, and where: the first group, ``host:port``, or a port alone. Without one it is ready when it started.
    """
    return Task(executable, arguments, name=name, service=True, **fields)


_OF_LINE = [name for name in FIELDS if name not in ("executable", "arguments", "mode")]
Shell.__signature__ = signature({"line": ...}, _OF_LINE)  # type: ignore[attr-defined]
Service.__signature__ = signature(  # type: ignore[attr-defined]
    {"executable": ..., "arguments": ()}, [name for name in FIELDS if name != "service"]
)
