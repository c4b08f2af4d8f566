"""Hostile names of files: every form of ``input_staging`` and ``output_staging``, really carried out, and ``s.fs``.

Each string is the name of a file here, of one in the sandbox, of one in the pilot's directory, and of one that comes
home; what arrives is compared byte for byte. A name that no directive can carry is refused with field and index. Read
next: :mod:`injection_kit`, whose strings and counts these are.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from injection_kit import PATIENT_S, Count, Trap, as_file, file_fits, passes

import jupyter_rm as jrm
from jupyter_rm.client.fs import SiteFiles
from jupyter_rm.client.pilot import Pilot
from jupyter_rm.client.session import Session
from jupyter_rm.model.errors import JrmError, RequestError

MANY = 1000  # strings, from which on each goes through one chain of forms; fewer go through all of them
AT_ONCE = 100  # strings of one task; each is in at most eight directives a direction
THREADS = 4
# Names of full length: whatever is put beside a file until it is whole must still fit.
LONG = ("n" * 255, "\\" * 200, "\U0001f4a5" * 63, "é" * 127)

# name of the form -> directive, given a directory here, the task's own name at the pilot, and a string. A place in the
# sandbox has the form's name as its directory.
INPUT: dict[str, Callable[[str, str, str], Any]] = {
    "map": lambda here, _, text: {"source": f"{here}/{text}", "target": f"map/{text}"},
    "pair": lambda here, _, text: (f"client://{here}/{text}", f"task:///pair/{text}"),
    "line": lambda here, _, text: f"{here}/{text} > line/{text}",
    "link": lambda here, _, text: {"source": f"{here}/{text}", "target": f"link/{text}", "action": "link"},
    "to pilot": lambda here, key, text: (f"{here}/{text}", f"pilot:///{key}/{text}"),
    "copy": lambda _, key, text: {"source": f"pilot:///{key}/{text}", "target": f"copy/{text}", "action": "copy"},
    "link there": lambda _, key, text: {"source": f"pilot:///{key}/{text}", "target": f"l/{text}", "action": "link"},
    "to move": lambda _, key, text: (f"pilot:///{key}/{text}", f"moved/{text}"),
}
OUTPUT: dict[str, Callable[[str, str, str], Any]] = {
    "map": lambda home, _, text: {"source": f"map/{text}", "target": f"{home}/map/{text}"},
    "pair": lambda home, _, text: (f"task:///pair/{text}", f"client://{home}/pair/{text}"),
    "line": lambda home, _, text: f"pair/{text} > {home}/line/{text}",
    "copy": lambda _, key, text: (f"copy/{text}", f"pilot:///out {key}/copy/{text}"),
    "link": lambda _, key, text: {"source": f"copy/{text}", "target": f"pilot:///out {key}/{text}", "action": "link"},
    "move": lambda _, key, text: {"source": f"moved/{text}", "target": f"pilot:///m {key}/{text}", "action": "move"},
}


# Forms that need each other, by direction. Every string goes through "map", both ways.
CHAINS = (
    {"in": {"line", "link", "pair"}, "out": {"pair", "line"}},
    {"in": {"to pilot", "copy", "link there"}, "out": {"copy", "link"}},
    {"in": {"to pilot", "to move"}, "out": {"move"}},
)


def apart(texts: Sequence[str]) -> list[list[str]]:
    """Return the texts in as few lists as need be that no two of one list name the same file, or a file in a file."""
    lists: list[tuple[list[str], set[str], set[str]]] = []
    for text in texts:
        path = os.path.normpath(text).lstrip("/")
        above = {path[:at] for at, sign in enumerate(path) if sign == "/"} - {""}
        fitting = (one for one in lists if path not in one[1] and path not in one[2] and not above & one[1])
        chosen = next(fitting, None)
        if chosen is None:
            lists.append(chosen := ([], set(), set()))
        chosen[0].append(text)
        chosen[1].add(path)
        chosen[2].update(above)
    return [members for members, _, _ in lists]


def one_line(text: str) -> bool:
    """Say whether a directive can hold this text: files with line breaks travel in directories only."""
    return passes(text) and not any(sign in text for sign in "\n\r")


def arrows(text: str) -> bool:
    """Say whether the text would be more than a name in ``"source > target"``."""
    return ">" in text or "<" in text


@contextlib.contextmanager
def at(folder: Path) -> Iterator[None]:
    """Work in a directory for a while; relative paths of the client begin there."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


class FileFields:
    """Files of tasks, on one pilot.

    Args:
        base: a directory here that the session's broker may read and write; what is made in it is removed.
    """

    def __init__(self, session: Session, pilot: Pilot, trap: Trap, texts: Sequence[str], base: Path) -> None:
        self._session, self._pilot, self._trap, self._texts = session, pilot, trap, texts
        self._source, self._home = base / "files of tasks", base / "home of files"
        fit = [text for text in texts if file_fits(as_file(text)) and ".." not in text.split("/")]
        self._names = [*dict.fromkeys(fit), *LONG]
        self.counts: dict[str, Count] = {}

    def all(self) -> dict[str, Count]:
        """Send every string through every form; return what became of them."""
        for folder in (self._source, self._home):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        self.refusals()
        self.carried()
        self.columns()
        self.column_refusals()
        self.folders()
        for folder in (self._source, self._home):
            shutil.rmtree(folder)
        return self.counts

    def _count(self, name: str) -> Count:
        return self.counts.setdefault(name, Count())

    def _write(self, folder: Path, names: Sequence[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            path = Path(f"{folder}/{name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(os.fsencode(name))

    def _check(self, count: Count, path: str, text: str) -> None:
        try:
            held = Path(path).read_bytes()
        except OSError as error:
            count.note(f"{text!r}: {error.strerror}: {path!r}")
            return
        if held == os.fsencode(text):
            count.arrived += 1
        else:
            count.note(f"{text!r} holds {held!r}: {path!r}")

    def refusals(self) -> None:
        """What no directive can hold is refused with field and index, the rest is not."""
        for field, forms in (("input_staging", INPUT), ("output_staging", OUTPUT)):
            for form, make in forms.items():
                count = self._count(f"{field} {form}")
                for text in (*self._texts, *LONG):
                    count.sent += 1
                    if not text:
                        count.failed += 1  # the directory itself
                        continue
                    try:
                        jrm.Task("/bin/true", **{field: ["x", make("/here", "key", text)]})  # type: ignore[arg-type]
                    except RequestError as error:
                        count.refused += 1
                        if not error.message.startswith(f"{field}[1]: "):
                            count.note(f"{text!r} is refused as {error.message!r}")
                        elif one_line(text) and ".." not in text.split("/") and not (form == "line" and arrows(text)):
                            count.note(f"{text!r} is refused without need: {error.message!r}")
                    else:
                        if not one_line(text.strip() if form == "line" else text) or (form == "line" and arrows(text)):
                            count.note(f"{text!r} was taken")

    def carried(self) -> None:
        """Carry all others out: here to sandbox, sandbox to pilot and home, pilot to sandbox."""
        names = [text for text in self._names if one_line(text)]
        turn = {text: number % len(CHAINS) for number, text in enumerate(names)}
        few = len(names) < MANY

        def goes(way: str, form: str, text: str) -> bool:
            return fits(form, text) and (few or form == "map" or form in CHAINS[turn[text]][way])

        tasks: list[jrm.Task] = []
        lots: list[tuple[list[str], str, str]] = []
        for layer, members in enumerate(apart(names)):
            here, home = f"{self._source}/{layer}", f"{self._home}/{layer}"
            self._write(Path(here), members)
            for start in range(0, len(members), AT_ONCE):
                lot, key = members[start : start + AT_ONCE], f"files {layer} {start}"
                given = {
                    field: [
                        make(where, key, text) for form, make in forms.items() for text in lot if goes(way, form, text)
                    ]
                    for field, way, forms, where in (
                        ("input_staging", "in", INPUT, here),
                        ("output_staging", "out", OUTPUT, home),
                    )
                }
                tasks.append(jrm.Task("/bin/true", pilot=self._pilot.uid, **given))  # type: ignore[arg-type]
                lots.append((lot, key, home))
        half = len(tasks) // 2  # many at once travel as columns, one by one as they are
        sent = [*self._session.submit(tasks[:half]), *(self._session.submit(task) for task in tasks[half:])]
        for task, (lot, key, home) in zip(sent, lots, strict=True):
            if not task.wait(PATIENT_S) or task.state != "DONE":
                self._count("input_staging map").note(f"{task.uid} with {lot[:2]}...: {task.state} {task.reason}")
                continue
            box, shared = str(task.sandbox), f"{self._pilot.sandbox}/shared"
            lies = {
                "input_staging": {"to pilot": f"{shared}/{key}", "link there": f"{box}/l", "to move": ""},
                "output_staging": {
                    "copy": f"{shared}/out {key}/copy", "link": f"{shared}/out {key}", "move": f"{shared}/m {key}",
                },
            }  # fmt: skip
            for field, way, forms, root in (
                ("input_staging", "in", INPUT, box),
                ("output_staging", "out", OUTPUT, home),
            ):
                for form in forms:
                    where = lies[field].get(form, f"{root}/{form}")
                    count = self._count(f"{field} {form}")
                    for text in lot:
                        if goes(way, form, text) and where:
                            self._check(count, f"{where}/{text}", text)
                        elif goes(way, form, text):
                            count.arrived += 1  # moved on: looked for where it is now

    def columns(self) -> None:
        """The same from the columns of an array, relative on both sides: the name is all there is of the path."""
        count = self._count("staging columns")
        names = [as_file(text) for text in self._names if one_line(text)]
        for layer, members in enumerate(apart(list(dict.fromkeys(names)))):
            here, home = self._source / f"c{layer}", self._home / f"c{layer}"
            self._write(here, members)
            count.sent += len(members)
            made = jrm.Task(
                "/bin/true",
                pilot=self._pilot.uid,
                input_staging=[("{x}", "{x}"), {"source": "{x}", "target": "link/{x}", "action": "link"}],
                output_staging=[("{x}", f"{home}/{{x}}"), ("{x}", "pilot:///columns/{x}")],
            )
            with at(here):
                bulk = self._session.array(made, x=members)
            bulk.wait(PATIENT_S)
            for task, text in zip(bulk, members, strict=True):
                if task.state != "DONE":
                    count.note(f"{text!r}: {task.state} {task.reason}")
                    continue
                before = len(count.wrong)
                for where in (home, task.sandbox, f"{task.sandbox}/link", f"{self._pilot.sandbox}/shared/columns"):
                    self._check(count, f"{where}/{text}", text)
                count.arrived -= 3 if len(count.wrong) == before else 0
            shutil.rmtree(f"{self._pilot.sandbox}/shared/columns", ignore_errors=True)

    def column_refusals(self) -> None:
        """Values of columns that no directive can hold are refused by the field, or the column."""
        count = self._count("staging columns")
        forms: dict[str, dict[str, Any]] = {
            "input_staging": {"input_staging": [("{x}", "{x}")]},
            "output_staging": {"output_staging": [("{x}", f"{self._home}/{{x}}")]},
            "there": {"output_staging": [("{x}", "pilot:///there/{x}")]},
        }
        for text in self._texts:
            if one_line(text):
                continue
            for form, fields in forms.items():
                count.sent += 1
                try:
                    self._session.array(jrm.Task("/bin/true", **fields, pilot=self._pilot.uid), x=[text])
                    count.note(f"{form}: {text!r} was taken")
                except RequestError as error:
                    count.refused += 1
                    if not error.message.startswith((*(f"{field}[0]: " for field in fields), "x: ")):
                        count.note(f"{text!r} is refused as {error.message!r}")

    def folders(self) -> None:
        """Directories with such files, names with line breaks too."""
        count = self._count("staged directories")
        for layer, members in enumerate(apart(self._names)):
            here, home = self._source / f"d{layer}", self._home / f"d{layer}"
            self._write(here, members)
            count.sent += len(members)
            task = self._session.submit(
                jrm.Task(
                    "/bin/true",
                    pilot=self._pilot.uid,
                    input_staging=[(f"{here}", "whole"), {"source": f"{here}", "target": "link", "action": "link"}],
                    output_staging=[("whole", f"{home}"), ("whole", f"pilot:///{home.name}")],
                )
            )
            if not task.wait(PATIENT_S) or task.state != "DONE":
                count.note(f"{task.state} {task.reason}")
                continue
            for text in members:
                for where in (home, f"{task.sandbox}/whole", f"{task.sandbox}/link"):
                    self._check(count, f"{where}/{text}", text)
            count.arrived -= 2 * len(members) if not count.wrong else 0


def fits(form: str, text: str) -> bool:
    """Say whether a form can carry a name: the spaces around it belong to a line, not to the name."""
    return form != "line" or not (arrows(text) or text != text.strip())


def by_hand(session: Session, pilot: Pilot, texts: Sequence[str], base: Path, most: int) -> dict[str, Count]:
    """Send names through ``s.fs``: all in whole directories, the first ``most`` in calls of their own."""
    there, top = session.fs(pilot), f"{pilot.sandbox}/by hand"
    return {"fs directories": _whole(there, top, texts, base), "fs": _singly(there, top, texts[:most], base)}


def _whole(there: SiteFiles, top: str, texts: Sequence[str], base: Path) -> Count:
    """Put directories full of such names, look into them, and get them back."""
    count = Count()
    names = [text for text in dict.fromkeys(texts) if file_fits(text) and one_line(text) and "/" not in text]
    for name in names:
        path = base / "to put" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.fsencode(name))
    there.put(base / "to put", f"{top}/all")
    listed = {entry.name for entry in there.ls(f"{top}/all")}
    got = there.get(f"{top}/all", base / "got")
    for name in names:
        count.sent += 1
        if name in listed and all(Path(f"{at}/{name}").read_bytes() == os.fsencode(name) for at in (got, f"{top}/all")):
            count.arrived += 1
        else:
            count.note(f"{name!r}: listed: {name in listed}")
    if len(listed) != len(names):
        count.note(f"{sorted(listed - set(names))[:5]} are there too")
    shutil.rmtree(base / "to put")
    shutil.rmtree(got)
    return count


def _singly(there: SiteFiles, top: str, texts: Sequence[str], base: Path) -> Count:
    """Make a directory of each name, put a file into it, look, read, and remove it."""
    count = Count(len(texts))
    source = base / "one"
    source.write_bytes(b"put")

    def one(number: int) -> tuple[str, str]:
        text = texts[number]
        if passes(text) and (not file_fits(text) or not file_fits(f"file{text}") or ".." in text.split("/")):
            return "failed", ""  # no file has such a name
        folder = f"{top}/{number}/{text}"
        name = f"{folder}/file{text}"
        try:
            made = there.mkdir(folder)
            goal = there.put(source, name)
            listed = [entry.name for entry in there.ls(name.rpartition("/")[0])]
            held = there.read(goal)
            there.remove(goal)
        except RequestError as error:
            right = error.message.startswith("path: ") and not one_line(text)
            return "refused", "" if right else f"{text!r} is refused as {error.message!r}"
        except JrmError as error:
            return "", f"{text!r}: {error.message!r}"
        right = name.rpartition("/")[2] in listed and held == b"put" and Path(folder) == Path(made)
        if right and Path(folder).is_dir() and not os.path.lexists(name):
            return "arrived", ""
        return "", f"{text!r}: {made!r} {goal!r} {listed!r} {held!r}"

    with ThreadPoolExecutor(THREADS) as pool:
        for kind, note in pool.map(one, range(len(texts))):
            if kind:
                setattr(count, kind, getattr(count, kind) + 1)
            if note:
                count.note(note)
    source.unlink()
    return count
