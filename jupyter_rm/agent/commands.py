"""From a bulk's template to processes: what exactly is started for task ``index`` of a bulk.

A :class:`Plan` is made once per bulk and holds everything that is equal for all its tasks, ready as bytes; what is left
per task is filled in by :meth:`Plan.launches`. Starts nothing itself. Read next: :mod:`jupyter_rm.agent.executables`.
"""

from __future__ import annotations

import difflib
import os
import platform
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..core.holdings import HeldBulk
from ..model.columns import Picks, Scalar
from ..model.describe import PREPARED, Template
from ..model.errors import RequestError
from ..model.hooks import lines as hook_lines
from ..model.ids import INDEX_BITS, NAME
from ..model.late import Unknown, Value, filled
from ..model.resources import Node
from ..model.states import Cause
from ..runtime.home import write_private
from ..runtime.process import Launch
from .environments import Captured, Environments
from .launch import Chosen, Rank, for_ranks, ranks_line
from .launch.choose import launcher_on

Slots = list[tuple[int, int, list[int], list[tuple[int, int]]]]
# Constant text; the user's lines (pre_launch, post_exec, post_launch) are its first arguments, the program the rest.
# The later ones run only when the program ended by itself (a canceled task's whole group is gone), and decide the code
# only when the program itself succeeded.
_WITH_HOOKS = (
    "pre=$1 post=$2 last=$3; shift 3; "
    'failed() { echo "jupyter_rm: hook $1 ended with exit code $2$3" >&2; }; '
    'if [ -n "$pre" ]; then /bin/sh -ec "$pre" </dev/null || { '
    'rc=$?; failed pre_launch "$rc" "; the program was not started"; exit "$rc"; }; fi; '
    '"$@"; rc=$?; JRM_EXIT_CODE=$rc; export JRM_EXIT_CODE; '
    'if [ -n "$post" ]; then /bin/sh -ec "$post" </dev/null || { '
    'after=$?; failed post_exec "$after" ""; [ "$rc" -ne 0 ] || rc=$after; }; fi; '
    'if [ -n "$last" ]; then /bin/sh -ec "$last" </dev/null || { '
    'after=$?; failed post_launch "$after" ""; [ "$rc" -ne 0 ] || rc=$after; }; fi; '
    'exit "$rc"'
)
# Names on PATH that a wrong name is compared with, at most.
_NAMES = 5000


class Unstartable(Exception):
    """A task that cannot be started, with its cause and a note for its user."""

    def __init__(self, note: str, cause: Cause = Cause.START_FAILED) -> None:
        super().__init__(note)
        self.note = note
        self.cause = cause


@dataclass(slots=True)
class Site:
    """Where an agent works.

    ``here``: number of the node on which it starts processes, of several (None: there is but one). ``spread``: the
    nodes of an allocation of which only the ranks here are known. ``methods``: launch methods of the site, the best
    first; ``launch``: the one that was asked for. ``hooks``: lines of site and pilot by moment, before those of each
    task. ``facts``: what ``${facts.NAME}`` stands for. ``envs``: paths of named environments; under the empty name,
    the directory of those that were prepared for all pilots of the account.
    """

    sandbox: str
    session: str
    pilot: int
    nodes: Sequence[Node]
    pin: bool = False
    here: int | None = None
    grace: float = 5.0
    spread: dict[int, tuple[int, ...]] = field(default_factory=dict)
    methods: tuple[str, ...] = ()
    launch: str = ""
    hooks: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Value] = field(default_factory=dict)
    envs: Mapping[str, str] = field(default_factory=dict)

    def environment(self, name: str) -> str:
        """Return the path of a named environment, empty for none; Unstartable when the pilot has none of that name."""
        if not name:
            return ""
        path = self.envs.get(name, name)
        if path.startswith("~/"):
            path = os.path.expanduser(path)  # noqa: PTH111 (text as the user's shell would make it)
        if not path.startswith("/"):
            prepared = Path(self.envs.get("") or f"~/.jupyter_rm/{PREPARED}").expanduser()
            if NAME.fullmatch(path) and (prepared / path / "bin").is_dir():
                return str((prepared / path).resolve())  # its name may lead to another one tomorrow
            there = [each.name for each in prepared.iterdir() if each.is_symlink()] if prepared.is_dir() else []
            known = ", ".join(sorted({*self.envs, *there} - {""})) or "none"
            raise Unstartable(
                f"named_env: this pilot has no environment {name!r}; known: {known}; or give a path", Cause.ENV_FAILED
            )
        return path

    def lines(self, template: Template, name: str) -> tuple[str, ...]:
        """Return the lines of a hook for the tasks of a template, those of site and pilot first."""
        own: tuple[str, ...] = getattr(template, name)
        return (*hook_lines(self.hooks, name), *own)

    def known(self, text: str, name: str) -> str:
        """Return a text of a task with the facts that it names put in; Unstartable with the field's ``name``."""
        try:
            return filled(text, self.facts)
        except Unknown as error:
            known = ", ".join(sorted(self.facts)) or "none"
            raise Unstartable(f"{name}: ${{facts.{error.args[0]}}} is no fact of this pilot; known: {known}") from None

    @property
    def cores(self) -> int:
        """Return how many cores there are to start processes on."""
        return sum(node.cores for node in self.nodes) if self.here is None else self.nodes[self.here].cores

    def folder(self, bulk: int, index: int, attempt: int) -> str:
        """Return the directory of one attempt."""
        return f"{self.sandbox}/{bulk:06d}/{index:06d}.{attempt}"


@dataclass(slots=True)
class Lane:
    """An allocation while tasks of its pool run on it, one after the other. Cores are the system's numbers."""

    alloc: int
    pool: int
    node: int
    ranks: list[tuple[int, int, list[int], list[int]]]  # rank, node, cores, gpus
    cpus: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, alloc: int, pool: int, slots: Slots, site: Site) -> Lane:
        """Translate the placer's slots."""
        ranks = []
        for rank, node, cores, gpus in slots:
            ids = site.nodes[node].core_ids
            ranks.append((rank, node, [ids[c] for c in cores] if ids else list(cores), [g for g, _ in gpus]))
        lane = cls(alloc, pool, ranks[0][1] if ranks else 0, ranks)
        if site.pin:
            lane.cpus = sorted({c for _, node, cores, _ in ranks if node == lane.node for c in cores})
        return lane


class Plan:
    """How the tasks of one bulk are started.

    Args:
        bulk, held: the bulk and what is held of it.
        site: where.
        environments: registers what the tasks need.
        captured: the environment its ``pre_exec`` lines made; must be ready.
    """

    def __init__(self, bulk: int, held: HeldBulk, site: Site, environments: Environments, captured: Captured) -> None:
        self.bulk, self.held, self.site = bulk, held, site
        template = self.template = held.template
        request = template.request
        assert captured.env is not None
        self.mpi = template.mpi and template.mode == "executable"
        self.ranks = 1 if self.mpi else request.ranks
        self._params = template.params
        env = [item for item in template.environment if not self._open(item[1])]
        self._open_env = [item for item in template.environment if self._open(item[1])]
        fixed = {key: site.known(text, f"environment[{key!r}]") for key, text in env}
        fixed |= {
            "JRM_SESSION": site.session,
            "JRM_PILOT": f"p.{site.pilot}",
            "JRM_RANK": "0",
            "JRM_RANKS": str(request.ranks),
        }
        if site.here is not None:
            fixed["JRM_NODE"] = site.nodes[site.here].name
        if "OMP_NUM_THREADS" not in captured.env:
            fixed.setdefault("OMP_NUM_THREADS", str(request.cores))
        self.path = dict(template.environment).get("PATH", captured.env.get("PATH", os.defpath))
        self._chosen: dict[bool, Chosen | None] = {}
        self._captured = captured.env
        self._exports: list[str] = []
        if self.mpi:
            if self._method(False) is None and site.launch:
                raise Unstartable(f"mpi=True, but the pilot's launch method {site.launch} is not on PATH")
            if self._method(False) is None:
                raise Unstartable(
                    "mpi=True, but neither mpirun (Open MPI) nor mpiexec.hydra (MPICH) is on PATH; "
                    "install openmpi or mpich, or load its module in pre_exec"
                )
            fixed.pop("JRM_RANK")
            found = launcher_on(self.path)
            if found is not None and found[1]:
                fixed.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")
            if "SLURM_JOB_ID" in captured.env:
                # Launchers that start their daemons through srun would wait for ours to end.
                fixed.setdefault("SLURM_OVERLAP", "1")
            made = {name for name, value in captured.env.items() if environments.base.get(name) != value}
            made |= fixed.keys() | {"PATH", "LD_LIBRARY_PATH", "PYTHONPATH"} & captured.env.keys()
            self._exports = sorted(made | {"JRM_TASK_UID", "JRM_TASK_ATTEMPT", "JRM_SANDBOX", "JRM_CORES"})
        self.env = environments.register(captured, tuple(sorted(fixed.items())))
        self.gpus = request.gpus > 0
        # Processes that need nothing of their allocation but its CPUs may pass it on inside the spawner.
        self.passes_on = self.ranks == 1 and not self.gpus and request.cores == 1
        self._found: dict[str, tuple[float, str, str]] = {}  # name -> (when, file, note)
        texts = {name: "\n".join(site.lines(template, name)) for name in ("pre_launch", "post_exec", "post_launch")}
        # Of several ranks each is a process of its own, and what belongs to the launch runs around all of them.
        self.around = (texts["pre_launch"], texts["post_launch"]) if self.ranks > 1 else ("", "")
        if self.ranks > 1:
            texts["pre_launch"] = texts["post_launch"] = ""
        self._hooks = [os.fsencode(text) for text in texts.values()] if any(texts.values()) else []
        open_texts = [template.executable, *template.arguments, template.stdin, template.stdout, template.stderr]
        self._constant = not (self._open_env or any(map(self._open, (*open_texts, template.sandbox))))
        self._argv: list[bytes] | None = None

    def holds(self, held: HeldBulk) -> bool:
        """Say whether this is still the plan for what is held."""
        return self.held is held and self.template is held.template

    def _open(self, text: str) -> bool:
        return self._params and ("{" in text or "}" in text)

    # ------------------------------------------------------------ per task

    def launches(
        self, index: npt.NDArray[np.int64], attempts: npt.NDArray[np.uint16], lanes: Sequence[Lane] | None
    ) -> list[Launch | Unstartable]:
        """Return what to start for each task; ``lanes`` are their allocations, None: they are queued."""
        template, bulk = self.template, self.bulk
        if self._constant and self._argv is None:
            try:
                self._argv = self._command(template.executable, list(template.arguments))
            except Unstartable as error:
                return [error] * len(index)
        if not self._constant or self.mpi or template.sandbox:
            return [
                self._one(i, attempt, lanes[at] if lanes else None, row)
                for at, (i, attempt, row) in enumerate(
                    zip(index.tolist(), attempts.tolist(), self.rows(index), strict=True)
                )
            ]
        assert self._argv is not None
        # Ten thousand tasks come through here in a row: no call per task but the formatting and the constructor.
        argv, env, timeout, grace = self._argv, self.env, template.timeout, self.site.grace
        prefix = os.fsencode(f"{self.site.sandbox}/{bulk:06d}/")
        stdin = os.fsencode(template.stdin) or b"/dev/null"
        stdout, stderr = os.fsencode(template.stdout), os.fsencode(template.stderr)
        base = (bulk << INDEX_BITS) + 1
        none: list[int] = []
        out: list[Launch | Unstartable] = []
        for at, (i, attempt) in enumerate(zip(index.tolist(), attempts.tolist(), strict=True)):
            cwd = b"%b%06d.%d" % (prefix, i, attempt)
            extra = [b"JRM_TASK_UID=t.%d.%d" % (bulk, i), b"JRM_TASK_ATTEMPT=%d" % attempt, b"JRM_SANDBOX=" + cwd]
            cpus = none
            if lanes is not None:
                lane = lanes[at]
                cpus = lane.cpus
                extra += self._of_lane(lane, 0)
            out.append(Launch(base + i, argv, env, cwd, stdin, stdout, stderr, cpus, extra, timeout, grace))
        return out

    def _one(self, index: int, attempt: int, lane: Lane | None, row: Mapping[str, Scalar]) -> Launch | Unstartable:
        template = self.template
        try:
            cwd = self.folder(index, attempt, row)
            argv = self._argv if self._constant else None
            if argv is None:
                arguments = [self._fill(text, f"arguments[{n}]", row) for n, text in enumerate(template.arguments)]
                argv = self._command(self._fill(template.executable, "executable", row), arguments)
            if self.mpi:
                argv = self._spread(argv, lane, f"{self.bulk}.{index}.{attempt}")
            names = [self._fill(getattr(template, name), name, row) for name in ("stdin", "stdout", "stderr")]
            fill, known = self._fill, self.site.known
            opened = [(key, text, f"environment[{key!r}]") for key, text in self._open_env]
            extra = [f"{key}={known(fill(text, name, row), name)}" for key, text, name in opened]
            extra += [f"JRM_TASK_UID=t.{self.bulk}.{index}", f"JRM_TASK_ATTEMPT={attempt}", f"JRM_SANDBOX={cwd}"]
            items = list(map(os.fsencode, extra))
        except Unstartable as error:
            return error
        except UnicodeEncodeError as error:
            return Unstartable(f"text that cannot be passed to a program: {error}")
        stdin, stdout, stderr = map(os.fsencode, names)
        if lane is not None:
            items += self._of_lane(lane, None if self.mpi else 0)
            if self.mpi and self.site.here is not None:
                items.append(os.fsencode("JRM_NODES=" + ",".join(self._names(lane))))
        cpus = lane.cpus if lane is not None else []
        token = (self.bulk << INDEX_BITS) + index + 1
        return Launch(
            token,
            argv,
            self.env,
            os.fsencode(cwd),
            stdin or b"/dev/null",
            stdout,
            stderr,
            cpus,
            items,
            template.timeout,
            self.site.grace,
        )

    def rank(self, launch: Launch, lane: Lane, at: int, token: int) -> Launch:
        """Return the process of the ``at``-th rank of a task whose rank 0 is ``launch``."""
        number, _, cores, _ = lane.ranks[at]
        extra = [*launch.extra_env, *self._of_lane(lane, at), b"JRM_RANK=%d" % number]
        if self.site.here is not None:
            extra.append(os.fsencode("JRM_NODES=" + ",".join(self._names(lane))))
        tail = b"" if number == 0 else b".%d" % number
        out, err = launch.stdout, launch.stderr
        return Launch(
            token,
            launch.argv,
            launch.env,
            launch.cwd,
            launch.stdin,
            out + tail if out else b"",
            err + tail if err else b"",
            cores if self.site.pin else [],
            extra,
            launch.timeout,
            launch.grace,
        )

    def _names(self, lane: Lane) -> list[str]:
        """Return the names of the nodes that an allocation lies on, in the order of its ranks."""
        numbers = self.site.spread.get(lane.alloc) or dict.fromkeys(node for _, node, _, _ in lane.ranks)
        return [self.site.nodes[number].name for number in numbers]

    def _of_lane(self, lane: Lane, at: int | None) -> list[bytes]:
        """Return the variables that tell a rank (None: all ranks together) what it may use."""
        if at is not None:
            _, _, cores, gpus = lane.ranks[at]
        else:
            cores = sorted({c for _, node, cs, _ in lane.ranks if node == lane.node for c in cs})
            gpus = sorted({g for _, node, _, gs in lane.ranks if node == lane.node for g in gs})
        out = [b"JRM_CORES=%d" % cores[0]] if len(cores) == 1 else [b"JRM_CORES=" + ",".join(map(str, cores)).encode()]
        if self.gpus:
            devices = ",".join(map(str, gpus)).encode()
            out += [b"CUDA_VISIBLE_DEVICES=" + devices, b"ROCR_VISIBLE_DEVICES=" + devices]
        return out

    def folder(self, index: int, attempt: int, row: Mapping[str, Scalar]) -> str:
        """Return the working directory of one attempt; Unstartable for a placeholder nothing fills."""
        given = self.template.sandbox
        if not given:
            return self.site.folder(self.bulk, index, attempt)
        return os.path.join(self.site.sandbox, self._fill(given, "sandbox", row))  # noqa: PTH118

    def rows(self, index: npt.NDArray[np.int64]) -> list[dict[str, Scalar]]:
        """Return the column values of several tasks."""
        count = len(index)
        if not self._params or not count:
            return [{}] * count
        if (run := self.held.run(index)) is not None:
            segment, row = run
            names = list(segment.columns)
            picked = [segment.columns[name].take(Picks.span(row, row + count)).values() for name in names]
            return [dict(zip(names, values, strict=True)) for values in zip(*picked, strict=True)] or [{}] * count
        return [self.held.params(i) for i in index.tolist()]

    def text(self, name: str, row: Mapping[str, Scalar]) -> str:
        """Return a text field of the template as it is for one task."""
        return self._fill(getattr(self.template, name), name, row)

    def _fill(self, text: str, name: str, row: Mapping[str, Scalar]) -> str:
        if self._params and ("{" in text or "}" in text):
            try:
                text = text.format_map(row)
            except (KeyError, ValueError, IndexError, AttributeError, TypeError) as error:
                what = f"no column named {error}" if isinstance(error, KeyError) else str(error)
                raise Unstartable(f"{name}: {text!r}: {what}") from None
            if "\0" in text:
                raise Unstartable(f"{name}: holds a NUL character; no system can pass it on")
        return text

    # ------------------------------------------------------------ command lines

    def _command(self, executable: str, arguments: list[str]) -> list[bytes]:
        arguments = [self.site.known(text, f"arguments[{n}]") for n, text in enumerate(arguments)]
        if self.template.mode == "shell":
            argv = [b"/bin/sh", b"-c", os.fsencode(executable)]
            argv += [b"sh", *map(os.fsencode, arguments)] if arguments else []
        else:
            argv = [os.fsencode(self._resolve(executable)), *map(os.fsencode, arguments)]
        if self.mpi:
            return argv  # the launcher comes in front once the allocation is known
        return self._hooked(argv)

    def _hooked(self, argv: list[bytes]) -> list[bytes]:
        return [b"/bin/sh", b"-c", _WITH_HOOKS.encode(), b"sh", *self._hooks, *argv] if self._hooks else argv

    def hook(self, launch: Launch, lane: Lane, name: str, token: int, code: int = 0) -> Launch:
        """Return the process of a hook around all ranks of a task, whose rank 0 is ``launch``; it writes NAME.log."""
        lines = os.fsencode(self.around[name == "post_launch"])
        log = name.encode() + b".log"
        argv = [b"/bin/sh", b"-ec", lines, name.encode()]
        extra = [*launch.extra_env, *self._of_lane(lane, None), b"JRM_EXIT_CODE=%d" % code]
        stdin, cpus = b"/dev/null", lane.cpus
        return Launch(token, argv, launch.env, launch.cwd, stdin, log, log, cpus, extra, launch.timeout, launch.grace)

    def _method(self, wide: bool) -> Chosen | None:
        """Return what starts the ranks of a task on one node or (``wide``) several."""
        if wide not in self._chosen:
            pmi = dict(self.template.environment).get("SLURM_MPI_TYPE", self._captured.get("SLURM_MPI_TYPE", ""))
            site = self.site
            found = for_ranks(site.launch, site.methods, self.path, self._captured, 2 if wide else 1, pmi)
            self._chosen[wide] = found
        return self._chosen[wide]

    def _spread(self, argv: list[bytes], lane: Lane | None, name: str) -> list[bytes]:
        """Return the launcher's command line; ``name`` tells its host file from those of other tasks."""
        site, request = self.site, self.template.request
        ranks = [Rank(platform.node())] * request.ranks
        if lane is not None:
            ranks = [Rank(site.nodes[n].name, tuple(cores), tuple(gpus), n) for _, n, cores, gpus in lane.ranks]
        wide = len({rank.place for rank in ranks}) > 1
        chosen = self._method(wide)
        if chosen is None:
            raise Unstartable(f"no MPI launcher here can start ranks on {len({rank.host for rank in ranks})} nodes")
        file = Path(site.sandbox, ".launch", name)
        try:
            line = ranks_line(
                chosen.method,
                ranks,
                list(map(os.fsdecode, argv)),
                program=chosen.program,
                exports=self._exports,
                file=str(file),
                pmi=chosen.pmi,
                root=os.geteuid() == 0,
            )
            if line.file:
                file.parent.mkdir(mode=0o700, exist_ok=True)
                write_private(file, line.file.encode())
        except (RequestError, OSError) as error:
            raise Unstartable(str(error)) from None
        whole = [os.fsencode(part) for part in line.argv]
        if line.env:
            whole = [b"/usr/bin/env", *(os.fsencode(f"{key}={value}") for key, value in line.env.items()), *whole]
        return self._hooked(whole)

    def _resolve(self, name: str) -> str:
        if not name:
            raise Unstartable("executable: empty")
        if "/" in name:
            return name  # relative ones are looked up from the sandbox, by exec itself
        known = self._found.get(name)
        now = time.monotonic()
        # A program that was missing may have been installed since; one that was found is checked by exec.
        if known is None or (not known[1] and now - known[0] > 2.0):
            file = shutil.which(name, path=self.path)
            note = "" if file else missing(name, self.path)
            known = self._found[name] = (now, os.path.abspath(file) if file else "", note)  # noqa: PTH100
        if not known[1]:
            raise Unstartable(known[2])
        return known[1]


def missing(name: str, path: str) -> str:
    """Return a note about a program that is not on ``path``, with names that come near."""
    names: set[str] = set()
    for folder in path.split(os.pathsep):
        try:
            names.update(os.listdir(folder or "."))  # noqa: PTH208 (strings are wanted)
        except OSError:
            continue
        if len(names) > _NAMES:
            break
    near = difflib.get_close_matches(name, [n for n in names if abs(len(n) - len(name)) < 3], 1, 0.7)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"executable {name!r} not found on PATH{hint}"
