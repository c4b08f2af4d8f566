"""Hostile text through every field a person fills, on the real way: session, broker, agent, batch system, program.

Each string either reaches the program byte for byte, or is refused with the name of its field; what is written in it
never runs. Used by the tests of this directory with few strings and by ``benchmarks/injection.py`` with thousands.

===============================================  =======================================================================
text that a person gives                         what sends it, and what is real about it
===============================================  =======================================================================
Task: arguments, environment (names, values),    ``TaskFields``: a real task for each string; the program writes down
stdin, stdout, stderr, sandbox, executable,      what reached it, or the file is looked for
columns of s.array
Task: name, category, pilot                      ``TaskFields.labels``: submitted, and read back from the session
s.stage                                          ``TaskFields.staged``: a directory full of such names, compared
Task: input_staging, output_staging              ``injection_files.FileFields``: text, pair and mapping; transfer, link,
                                                 copy, move; columns; whole directories: carried out and compared
s.fs: ls, read, get, put, mkdir, remove          ``injection_files.by_hand``: carried out; what is there is compared
Task: named_env                                  ``OtherFields.environments``: real tasks in real directories
Task: metadata, tags                             ``OtherFields.labels``: real tasks, read back
Task: requires; p.add_capability; facts          ``OtherFields.waiting``, ``facts``: real tasks that wait, or get text
Task: partition, requires, timeout, mem, cores,  ``OtherFields.words``: refused when the task is made; nothing else than
mode, numa, resources, after ...                 a word of a list, a number or a name is taken
jrm.open, s[uid], s.view, s.sql, s.fs of,        ``OtherFields.words``: the call itself
s.files, b.where, p.wait, tunnel
s.pilot(site), URLs, %%jrm sh HOST               ``OtherFields.sites``: the call; a login where the host is taken
jrm site new, install; jrm bundle make           ``OtherFields.sites``, ``words``: the file is written and read again
s.script: path, name, options                    ``OtherFields.scripts``: options by the checks of client and broker,
                                                 some files of such names really run as jobs
s.bundle: columns, a file                        ``OtherFields.bundles``: a job with all strings; the same from a file
Pilot: queue, project, name, qos, reservation,   ``pilots``: all strings by the checks of client and broker, called
constraint, ... (what a batch system is told)    directly; ``through`` of them by the broker itself; ``parsed`` of those
                                                 that were taken by the site's own sbatch --test-only or qsub -verify
Pilot: env, env_source, env_base                 the same; ``started`` asks for real pilots with such texts
Pilot: env_mode, launch, options, hooks (names)  one of few words: the checks, and ``through`` by the broker
Pilot: sandbox, envs                             the checks; ``named_directories`` starts pilots in such directories
===============================================  =======================================================================

What is shell text by its meaning has no place here: ``jrm.Shell``, pre_exec and its like, hooks, scripts, cells of
``%%jrm sh``, a pilot's ``python`` that is more than a path (``module load python/3.12``; only the checks see it); nor
what holds code: ``s.sql`` may only read, functions are the user's own.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "batch"))
from cluster_kit import Cluster
from test_hostile import FRAGMENTS

import jupyter_rm as jrm
from jupyter_rm.batch import BATCH_SCRIPT, BatchSystem, load
from jupyter_rm.broker.sites import check, parse, values_of
from jupyter_rm.client import capacity
from jupyter_rm.client.bulk import Bulk
from jupyter_rm.client.pilot import Pilot
from jupyter_rm.client.session import Session
from jupyter_rm.core.sound import check_pilot
from jupyter_rm.model.errors import RequestError

CANARY = "CANARY"
PATIENT_S = 600.0
RECORD = """#!/bin/sh
printf '%s\\0' "$@" "${HOSTILE-unset}" "$(pwd -P; echo .)"
"""
_TEXT_FIELDS = (
    *("queue", "project", "env", "env_mode", "env_source", "env_base", "python", "launch", "name", "sandbox"),
)


@dataclass
class Count:
    """What became of the strings of one field."""

    sent: int = 0
    refused: int = 0  # by the field's name
    arrived: int = 0  # byte for byte, or as the file they name
    failed: int = 0  # the system could not do it and said so with the field's name
    wrong: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        if len(self.wrong) < 20:
            self.wrong.append(text)


class Trap:
    """A directory where a canary would appear that was told an absolute path, and the places to look in.

    Args:
        place: a directory that every account may write to and that every host of the site sees.
        roots: directories searched for canaries that were told a relative one.
    """

    def __init__(self, place: Path, roots: Sequence[Path] = ()) -> None:
        place.mkdir(mode=0o777, parents=True, exist_ok=True)
        place.chmod(0o777)
        self.place, self.roots = place, [place, *roots]
        self.record = place / "record"
        self.record.write_text(RECORD)
        self.record.chmod(0o755)

    def strings(self, count: int, seed: int) -> list[str]:
        """Return ``count`` different strings; every other one names the canary by its absolute path."""
        dice = random.Random(seed)
        made = dict.fromkeys(FRAGMENTS)
        while len(made) < count:
            parts = dice.choices(FRAGMENTS, k=dice.randint(1, 4))
            made[dice.choice(["", "", "/", "/tmp/", "a", "-", " "]) + "".join(parts)] = None
        texts = list(made)[:count]
        return [text.replace(CANARY, f"{self.place}/{CANARY}") if n % 2 else text for n, text in enumerate(texts)]

    def sprung(self) -> list[str]:
        """Return the canaries that are there."""
        found = []
        for root in [*self.roots, Path("/tmp"), Path("/var/tmp"), Path("/"), Path.home(), Path.cwd()]:
            if root in self.roots:
                seen = [os.path.join(where, CANARY) for where, _, names in os.walk(root) if CANARY in names]
                # A canary is empty; what is not is a file that was staged under that name.
                found += [path for path in seen if not Path(path).lstat().st_size]
            elif (root / CANARY).exists():
                found.append(str(root / CANARY))
        return found


def passes(text: str) -> bool:
    """Say whether a program can be given this text at all."""
    try:
        return "\0" not in text and bool(os.fsencode(text) or True)
    except UnicodeEncodeError:
        return False


def as_file(text: str) -> str:
    """Return the text as a name below the sandbox: a task may write wherever its user may, a test may not."""
    return "." + text if text.startswith("/") else text


def file_fits(text: str) -> bool:
    """Say whether a file can have this name."""
    parts = text.split("/")
    if not passes(text) or not text or text.endswith("/") or parts[-1] in (".", ".."):
        return False
    return all(len(os.fsencode(part)) <= 255 for part in parts) and len(os.fsencode(text)) < 3500


class TaskFields:
    """All fields of a task, on one pilot."""

    def __init__(self, session: Session, pilot: Pilot, trap: Trap, texts: Sequence[str]) -> None:
        self._session, self._pilot, self._trap, self._texts = session, pilot, trap, texts
        self.counts: dict[str, Count] = {}

    def all(self) -> dict[str, Count]:
        """Send every string through every field; return what became of them."""
        for name in ("arguments", "columns", "environment_names", "stdout", "stderr", "stdin", "sandbox"):
            getattr(self, name)()
        self.executable()
        self.labels()
        self.staged()
        return self.counts

    def _tasks(self, name: str, make: Callable[[str], jrm.Task]) -> tuple[Count, list[tuple[str, jrm.Task]]]:
        """Describe a task for each string; a refusal must name the field."""
        count = self.counts[name] = Count()
        made = []
        fields = {"arguments": ("arguments", "environment"), "environment names": ("environment",)}.get(name, (name,))
        for text in self._texts:
            count.sent += 1
            try:
                made.append((text, make(text)))
            except RequestError as error:
                count.refused += 1
                if not error.message.startswith(tuple(fields)):
                    count.note(f"{name}={text!r} is refused as {error.message!r}")
        return count, made

    def _run(self, count: Count, made: Sequence[tuple[str, jrm.Task]]) -> Bulk | None:
        if not made:
            return None
        bulk = self._session.submit([task for _, task in made])
        if not bulk.wait(PATIENT_S):
            count.note(f"not over: {bulk.counts()}")
        return bulk

    def _read(self, task: Any, name: str = "stdout") -> bytes:
        return (Path(str(self._pilot.sandbox)) / "{:06d}/{:06d}.1".format(*_numbers(task.uid)) / name).read_bytes()

    def _compare(self, count: Count, made: Sequence[tuple[str, jrm.Task]], bulk: Bulk | None) -> None:
        for (text, _), task in zip(made, bulk or (), strict=bulk is not None):
            if task.state != "DONE":
                count.note(f"{text!r}: {task.state} {task.reason}")
                continue
            *told, _ = self._read(task).split(b"\0")
            raw = os.fsencode(text)
            if told[:4] == [raw, b"plain", raw, raw]:
                count.arrived += 1
            else:
                count.note(f"{text!r} arrived as {told[:4]!r}")

    def _task(self, *arguments: str, **fields: Any) -> jrm.Task:
        return jrm.Task(str(self._trap.record), list(arguments), pilot=self._pilot.uid, **fields)

    def arguments(self) -> None:
        """Arguments, and the value of a variable."""
        count, made = self._tasks(
            "arguments", lambda text: self._task(text, "plain", text, environment={"HOSTILE": text})
        )
        self._compare(count, made, self._run(count, made))

    def columns(self) -> None:
        """The same from the columns of an array."""
        count = self.counts["columns"] = Count(len(self._texts))
        good = [text for text in self._texts if passes(text)]
        for text in self._texts:
            if not passes(text):
                try:
                    self._session.array(self._task("{x}"), x=[text])
                    count.note(f"{text!r} was taken")
                except RequestError as error:
                    count.refused += 1
                    if not error.message.startswith("x"):
                        count.note(f"x={text!r} is refused as {error.message!r}")
        bulk = self._session.array(self._task("{x}", "plain", "{x}", environment={"HOSTILE": "{x}"}), x=good)
        bulk.wait(PATIENT_S)
        self._compare(count, [(text, self._task()) for text in good], bulk)

    def environment_names(self) -> None:
        """The name of a variable."""

        def make(text: str) -> jrm.Task:
            return jrm.Task("/usr/bin/env", ["-0"], environment={text: "value"}, pilot=self._pilot.uid)

        count, made = self._tasks("environment names", make)
        bulk = self._run(count, made)
        for (text, _), task in zip(made, bulk or (), strict=bulk is not None):
            if task.state == "DONE" and os.fsencode(text) + b"=value" in self._read(task).split(b"\0"):
                count.arrived += 1
            else:
                count.note(f"{text!r}: {task.state} {task.reason}")

    def stdout(self) -> None:
        """The file of standard output."""
        self._output("stdout", 1)

    def stderr(self) -> None:
        """The file of standard error."""
        self._output("stderr", 2)

    def _output(self, name: str, number: int) -> None:
        line = f"echo written >&{number}"
        count, made = self._tasks(
            name,
            lambda text: jrm.Shell(line, **{name: as_file(text)}, pilot=self._pilot.uid),  # type: ignore[arg-type]
        )
        bulk = self._run(count, made)
        for (text, _), task in zip(made, bulk or (), strict=bulk is not None):
            if task.state == "DONE":
                try:
                    right = self._read(task, as_file(text)) == b"written\n" if text else True
                except (OSError, ValueError) as error:
                    right = False
                    count.note(f"{name}={text!r}: {error}")
                count.arrived += right
            elif name in task.reason and (not file_fits(as_file(text)) or "No such file" in task.reason):
                count.failed += 1
            else:
                count.note(f"{name}={text!r}: {task.state} {task.reason}")

    def stdin(self) -> None:
        """The file of standard input, which is not there."""
        count, made = self._tasks("stdin", lambda text: self._task("x", stdin=as_file(text)))
        bulk = self._run(count, made)
        for (text, _), task in zip(made, bulk or (), strict=bulk is not None):
            if task.state == "FAILED" and "stdin" in task.reason:
                count.failed += 1
            elif task.state == "DONE" and (not text or not file_fits(as_file(text)) or as_file(text)[-1] in "/."):
                count.arrived += 1  # a directory that is there
            else:
                count.note(f"stdin={text!r}: {task.state} {task.reason}")

    def sandbox(self) -> None:
        """The working directory."""
        count, made = self._tasks("sandbox", lambda text: self._task("x", sandbox=as_file(text)))
        bulk = self._run(count, made)
        root = Path(str(self._pilot.sandbox))
        for (text, _), task in zip(made, bulk or (), strict=bulk is not None):
            name = as_file(text)
            if task.state == "DONE":
                cwd = os.path.join(root, name) if name else str(root / "{:06d}/{:06d}.1".format(*_numbers(task.uid)))
                try:
                    told = Path(cwd, "stdout").read_bytes().split(b"\0")[2]
                except (OSError, IndexError) as error:
                    count.note(f"sandbox={text!r}: {error}")
                    continue
                if told == os.fsencode(os.path.realpath(cwd)) + b"\n.":
                    count.arrived += 1
                else:
                    count.note(f"sandbox={text!r}: it ran in {told!r}")
            elif "sandbox" in task.reason and not file_fits(name.rstrip("/.")):
                count.failed += 1
            else:
                count.note(f"sandbox={text!r}: {task.state} {task.reason}")

    def executable(self) -> None:
        """The program itself: text that is none."""
        count, made = self._tasks("executable", lambda text: jrm.Task(text, ["x"], pilot=self._pilot.uid))
        bulk = self._run(count, made)
        for (text, _), task in zip(made, bulk or (), strict=bulk is not None):
            if task.state == "FAILED" and "executable" in task.reason:
                count.failed += 1
            else:
                count.note(f"executable={text!r}: {task.state} {task.reason}")

    def labels(self) -> None:
        """What is only kept with the task: name, category, metadata, pilot."""
        for name in ("name", "category", "pilot"):
            count, made = self._tasks(name, lambda text, name=name: jrm.Task("/bin/true", **{name: text}))
            if name == "pilot":
                for text, task in made:
                    try:
                        self._session.submit(task)
                        count.arrived += not text
                    except RequestError as error:
                        count.refused += 1
                        if not error.message.startswith("pilot"):
                            count.note(f"pilot={text!r} is refused as {error.message!r}")
                continue
            made = [each for each in made if self._list_takes(count, *each)]
            bulk = self._run(count, made)
            for (text, _), task in zip(made, bulk or (), strict=bulk is not None):
                said = task.name if name == "name" else task._table().form.template.category
                if task.state == "DONE" and (said == text or not text):
                    count.arrived += 1
                else:
                    count.note(f"{name}={text!r}: {task.state} {said!r}")

    def _list_takes(self, count: Count, text: str, task: jrm.Task) -> bool:
        """A name with braces is a placeholder, which only arrays fill."""
        if "{" not in task.name:
            return True
        try:
            self._session.submit([task])
        except RequestError as error:
            count.refused += 1
            if ".name: " not in error.message:
                count.note(f"name={text!r} is refused as {error.message!r}")
        else:
            count.note(f"name={text!r} was taken")
        return False

    def staged(self) -> None:
        """Names of files that are brought to the pilot, and back."""
        count = self.counts["staged files"] = Count(len(self._texts))
        source = self._trap.place / "to stage"
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir()
        names = [text for text in self._texts if file_fits(text) and "/" not in text and text not in ("", ".", "..")]
        for text in names:
            (source / text).write_bytes(os.fsencode(text))
        self._session.stage(str(source))
        there = Path(str(self._pilot.sandbox)) / "shared" / source.name
        held = {path.name: path.read_bytes() for path in there.iterdir()}
        for text in names:
            if held.get(text) == os.fsencode(text):
                count.arrived += 1
            else:
                count.note(f"staged {text!r}: {held.get(text)!r}")
        count.failed = count.sent - len(names)  # no file of this machine can have such a name
        shutil.rmtree(source)


def _numbers(uid: str) -> tuple[int, int]:
    _, bulk, index = uid.split(".")
    return int(bulk), int(index)


# ---------------------------------------------------------------- pilots


def pilot_fields(site: str, system: BatchSystem | None) -> list[tuple[str, Callable[[str], dict[str, Any]]]]:
    """Return (field, how a text is put into it) of all text that a pilot takes at a site."""

    def plain(name: str) -> Callable[[str], dict[str, Any]]:
        return lambda text: {name: text}

    out = [(name, plain(name)) for name in _TEXT_FIELDS]
    out.append(("options", lambda text: {"options": {text: "x"}}))
    out.append(("hooks", lambda text: {"hooks": {text: "true"}}))
    out.append(("envs", lambda text: {"envs": {text: "/x"}}))
    out.append(("envs", lambda text: {"envs": {"x": text}}))
    if system is not None:
        for name, attribute in system.attributes.items():
            if attribute.type in ("string", "path", "list", "choice"):
                out.append((name, lambda text, name=name: {"options": {name: text}}))
    return out


def refused(site: str, fields: dict[str, Any]) -> RequestError | None:
    """Return what client and broker say to a pilot, None when they take it: the very functions that they call."""
    try:
        spec = capacity.pilot_spec(site, fields)
        check_pilot(spec)
        check(spec)
    except RequestError as error:
        return error
    return None


def pilots(
    session: Session, site: str, system_name: str, texts: Iterable[str], through: int
) -> tuple[dict[str, Count], list[tuple[str, dict[str, Any]]]]:
    """Send every string through every field of a pilot; return (counts, what was taken).

    Args:
        through: so many refused ones of each field go all the way to the broker; it must say the same.
    """
    system = load(system_name) if system_name else None
    counts: dict[str, Count] = {}
    taken: list[tuple[str, dict[str, Any]]] = []
    strings = list(texts)
    for name, make in pilot_fields(site, system):
        count = counts.setdefault(name, Count())
        asked = 0
        for text in strings:
            count.sent += 1
            error = refused(site, make(text))
            if error is None:
                count.arrived += 1
                taken.append((name, make(text)))
                continue
            count.refused += 1
            field_name = {"env_source": "source"}.get(name, name)
            whole = name in ("options", "hooks")  # the text is the name of the field itself
            if not (error.message.startswith((name, field_name, f"options[{name!r}]")) or whole):
                count.note(f"{name}={text!r} is refused as {error.message!r}")
            if asked < through:
                asked += 1
                try:
                    session.pilot(site, **make(text))
                    count.note(f"{name}={text!r}: the broker took it")
                except RequestError as again:
                    if again.message != error.message:
                        count.note(f"{name}={text!r}: {again.message!r} instead of {error.message!r}")
    return counts, taken


def table(counts: dict[str, Count]) -> str:
    """Return the counts as text, a line for each field."""
    lines = [f"{'field':24} {'sent':>7} {'refused':>8} {'arrived':>8} {'failed':>7} {'wrong':>6}"]
    for name, one in counts.items():
        wrong = len(one.wrong)
        lines.append(f"{name:24} {one.sent:7} {one.refused:8} {one.arrived:8} {one.failed:7} {wrong:6}")
    return "\n".join(lines)


def totals(counts: Iterable[Count]) -> Counter[str]:
    """Return the sums."""
    out: Counter[str] = Counter()
    for one in counts:
        out.update(sent=one.sent, refused=one.refused, arrived=one.arrived, failed=one.failed, wrong=len(one.wrong))
    return out


def parsed(cluster: Cluster, name: str, taken: Sequence[tuple[str, dict[str, Any]]], most: int) -> Count:
    """Show what client and broker took to the site's own parser, which submits nothing; what it says is its affair."""
    system = load(name)
    url = f"{name}+ssh://alice@tb-{name}"
    look = {"slurm": "--test-only", "sge": "-verify"}[name]
    count = Count()
    home = f"{cluster.state}/home/alice"
    with cluster.connect("paramiko", name) as connection:
        connection.write(f"{home}/job.sh", BATCH_SCRIPT, 0o700)
        connection.write(f"{home}/spec", b"")
        # First those that a batch system sees; the others change nothing about its command.
        seen = [each for each in taken if each[0] in system.attributes or each[0] in ("queue", "project", "name")]
        rest = random.Random(3).sample(list(taken), min(most, len(taken)))
        for field_name, fields in [*seen, *rest][:most]:
            count.sent += 1
            spec = capacity.pilot_spec(url, fields)
            values = values_of(spec, system, parse(url), "jrm000000000000", home)
            values |= {"script": f"{home}/job.sh", "spec": f"{home}/spec"}
            command = system.render("submit", values)
            done = connection.run([command.argv[0], look, *command.argv[1:]], env=command.env, timeout=60)
            count.arrived += done.rc == 0
            count.failed += done.rc != 0
            if done.rc in (126, 127) or b"sh: " in done.err:
                count.note(f"{field_name} {fields}: {done}")
    return count


def named_directories(session: Session, site: str, base: str, trap: Trap, texts: Sequence[str], most: int) -> Count:
    """Start pilots whose tasks run in directories of such names below ``base``, and a task in each."""
    count = Count()
    parts = [text for text in texts if file_fits(text) and "/" not in text and "\n" not in text and len(text) < 100]
    started = []
    for number in range(most):
        some = parts[number * 12 : (number + 1) * 12]
        where = "/".join([base, f"{site.partition(':')[0]} {number}", *some])
        count.sent += 1
        try:
            made = session.pilot(site, sandbox=where, **({"cores": 1} if site == "local" else {}))
        except RequestError as error:
            count.refused += 1
            if not error.message.startswith("sandbox"):
                count.note(f"sandbox={where!r} is refused as {error.message!r}")
            continue
        started.append((where, made, session.submit(jrm.Task(str(trap.record), ["x"], pilot=made.uid))))
    for where, pilot, task in started:
        if pilot.wait(timeout=120) != "ACTIVE" or task.wait(120) != "DONE":
            count.note(f"{where!r}: {pilot.state} {pilot.reason}; {task.state} {task.reason}")
        elif task.stdout().split("\0")[2] == os.path.join(where, *str(task.sandbox).split("/")[-2:]) + "\n.":
            count.arrived += 1
        else:
            count.note(f"{where!r}: it ran in {task.stdout()!r}")
        pilot.cancel()
    for _, pilot, _ in started:
        pilot.wait("DONE", 60)
    return count


def started(session: Session, site: str, taken: Sequence[tuple[str, dict[str, Any]]], most: int) -> Count:
    """Ask for real pilots with what was taken, ``most`` of each field; each begins, or says why it cannot."""
    count = Count()
    chosen: dict[str, list[dict[str, Any]]] = {}
    for name, fields in random.Random(5).sample(list(taken), len(taken)):
        if name not in ("sandbox", "envs", "python") and len(chosen.setdefault(name, [])) < most:
            chosen[name].append(fields)
    asked = []
    for fields in (each for some in chosen.values() for each in some):
        count.sent += 1
        asked.append((fields, session.pilot(site, **fields)))
    for fields, pilot in asked:
        if pilot.wait("QUEUED", timeout=PATIENT_S) < "QUEUED":
            count.note(f"{fields}: {pilot.state} {pilot.reason}")
        elif pilot.state == "FAILED":
            count.failed += 1
            if not pilot.reason:
                count.note(f"{fields}: nothing is said")
        else:
            count.arrived += 1
        pilot.cancel()
    for fields, pilot in asked:
        if not pilot.wait("DONE", PATIENT_S).final:
            count.note(f"{fields}: does not end: {pilot.state} {pilot.reason}")
    return count
