"""Reading descriptions: files, what they extend, who overrides whom, and where each value came from.

The only module here that opens files. A name is looked up in the given directories first, then in the package; a file
may extend another name, and a file that has the name of the one it extends means the next one down the search path, so
a user's ``slurm.toml`` with ``extends = "slurm"`` changes single keys of the package's. Next: :mod:`.system`.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..model.errors import RequestError
from .check import problems_of
from .lines import key_lines
from .origin import Loaded, Origin
from .records import Problem
from .system import BatchSystem

_toml: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
PACKAGED = Path(__file__).resolve().parent / "systems"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
# Reading a description takes many times longer than seeing that none of its files has changed.
LOADED_MOST = 64
State = tuple[tuple[str, int, int, int], ...]
_loaded: dict[tuple[Any, ...], tuple[State, BatchSystem]] = {}
_NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,9})?", re.ASCII)
_VARIABLE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::([^}]*))?\}")


class _Unfit(RequestError):
    """What a file extends is none; carries the problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem), hint=f"see: jrm site check {problem.file}", code="JRM-Q24")
        self.problem = problem


def _wrong(path: str, what: str, hint: str = "") -> RequestError:
    return RequestError(f"{path}: {what}", hint=hint or f"see: jrm site check {path}", code="JRM-Q23")


def read_toml(path: Path) -> tuple[dict[str, Any], str]:
    """Return (tree, text) of a TOML file; RequestError with file and line when it is none."""
    try:
        text = path.read_bytes().decode("utf-8")
        return dict(_toml.loads(text)), text
    except OSError as error:
        raise _wrong(str(path), str(error.strerror), "check the path") from None
    except UnicodeDecodeError as error:
        raise _wrong(str(path), f"byte {error.start} is not UTF-8", "save it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise _wrong(str(path), f"not TOML: {error}", "mend that line") from None


def expanded(value: Any, environ: Mapping[str, str], unset: list[str]) -> Any:
    """Return ``value`` with ``${NAME:default}`` in its strings (never in keys) replaced; ``$${`` stands for ``${``.

    A string that is one such variable, has a number as its default and reads as a number becomes that number. A shell's
    ``${NAME:-default}`` means the same here. Variables with neither value nor default are added to ``unset``.
    """
    if isinstance(value, dict):
        return {key: expanded(item, environ, unset) for key, item in value.items()}
    if isinstance(value, list):
        return [expanded(item, environ, unset) for item in value]
    if not isinstance(value, str) or "${" not in value:
        return value

    def one(match: re.Match[str]) -> str:
        name, default = match[1], match[2]
        if name is None:
            return "${"
        if name not in environ and default is None:
            unset.append(name)
        if default and default.startswith("-") and not _NUMBER.fullmatch(default):
            default = default[1:]
        return environ.get(name, default or "")

    text = _VARIABLE.sub(one, value)
    whole = _VARIABLE.fullmatch(value)
    if whole and _NUMBER.fullmatch(whole[2] or "") and _NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    return text


def _of_a_shell(keys: tuple[str, ...]) -> bool:
    """Whether a value is a line for a shell at the site, to which its variables belong."""
    return keys[0] == "hooks" or keys == ("site", "python") or (keys[0] == "probe" and keys[2:] == ("command",))


def known(search: Iterable[str | Path] = ()) -> dict[str, Path]:
    """Return every description that can be loaded by name: the first file of that name on the search path."""
    out: dict[str, Path] = {}
    for directory in [*map(Path, search), PACKAGED]:
        for path in sorted(directory.glob("*.toml")) if directory.is_dir() else ():
            out.setdefault(path.stem, path)
    return out


def _find(name: str, search: Sequence[Path], below: Path | None) -> Path | None:
    """Return the file of ``name``: the first on the path, or the next one when ``below`` has that name; None: none."""
    places = [*search, PACKAGED]
    if below is not None and below.stem == name:
        here = [number for number, place in enumerate(places) if place.resolve() == below.parent.resolve()]
        places = places[here[0] + 1 :] if here else places
    for place in places:
        path = place / f"{name}.toml"
        if path.is_file() and (below is None or path.resolve() != below.resolve()):
            return path
    return None


def chain(name_or_path: str | Path, search: Iterable[str | Path] = ()) -> list[tuple[Path, dict[str, Any], str]]:
    """Return (path, tree, text) of a description and all it extends, the most special first.

    Raises:
        RequestError: a file is missing, is no TOML, or the files extend one another in a circle.
    """
    places = [Path(place) for place in search]
    given = str(name_or_path)
    is_name = bool(_NAME.fullmatch(given)) and not given.endswith(".toml")
    names = sorted(known(places))
    path = _find(given, places, None) if is_name else Path(given)
    if path is None:
        close = difflib.get_close_matches(given, names, 1, 0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
        raise RequestError(f"batch system {given!r}: there is no such description", hint=hint, code="JRM-Q24")
    out: list[tuple[Path, dict[str, Any], str]] = []
    seen: list[Path] = []
    while True:
        if path.resolve() in seen:
            circle = " -> ".join(one.name for one in [*seen, path])
            raise _wrong(str(path), f"extends itself: {circle}", "break the circle")
        seen.append(path.resolve())
        tree, text = read_toml(path)
        out.append((path, tree, text))
        parent = tree.get("extends", "base" if path.resolve() != (PACKAGED / "base.toml").resolve() else "")
        if not parent:
            return out
        above = _find(parent, places, path) if isinstance(parent, str) and _NAME.fullmatch(parent) else None
        if above is None:
            close = difflib.get_close_matches(str(parent), names, 1, 0.5)
            expected = f"one of {', '.join(names)}" + (f" (did you mean {close[0]}?)" if close else "")
            found = parent if isinstance(parent, str) else repr(parent)
            raise _Unfit(Problem(str(path), "extends", expected, found, key_lines(text).get("extends", 0)))
        path = above


def _leaves(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value


def _put(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        inner = tree.get(key)
        if not isinstance(inner, dict):
            inner = tree[key] = {}
        tree = inner
    tree[path[-1]] = value


def merged(links: list[tuple[Path, dict[str, Any], str]], environ: Mapping[str, str] | None) -> Loaded:
    """Return the merged description of a chain: the general files first, each later key replaces the earlier one."""
    loaded = Loaded(links[0][0].stem, files=[str(path) for path, _, _ in links])
    for path, tree, text in reversed(links):
        lines = key_lines(text)
        for keys, value in _leaves(tree):
            if keys in (("extends",), ("abstract",)) and path != links[0][0]:
                continue
            dotted = ".".join(keys)
            unset: list[str] = []
            loaded.unset[dotted] = unset
            if not _of_a_shell(keys):
                value = expanded(value, environ or {}, unset)
            old = loaded.origin.get(dotted)
            hides = ((old.file, old.line, old.value), *old.hides) if old else ()
            line = lines.get(dotted, 0)
            for depth in range(len(keys) - 1, 0, -1):
                line = line or lines.get(".".join(keys[:depth]), 0)
            # A value in the place of a table hides all of it, and the other way round.
            for other in [key for key in loaded.origin if key.startswith(dotted + ".")]:
                del loaded.origin[other]
            for depth in range(1, len(keys)):
                loaded.origin.pop(".".join(keys[:depth]), None)
            loaded.origin[dotted] = Origin(str(path), line, value, hides)
            _put(loaded.tree, keys, value)
    if environ is None:  # nobody was asked
        loaded.unset.clear()
    return loaded


def load(
    name_or_path: str | Path,
    search: Iterable[str | Path] = (),
    environ: Mapping[str, str] | None = None,
) -> BatchSystem:
    """Return the batch system of a description.

    Args:
        name_or_path: a name (``"slurm"``) looked up in ``search``, then in the package; or the path of a file.
        search: directories with descriptions, the most special first (user before site).
        environ: what ``${NAME:default}`` is replaced from; None: only defaults apply, and none may be missing.

    Raises:
        RequestError: missing, no TOML, circular, or not a description (the first problem that :func:`check` reports).
    """
    places = [Path(place) for place in search]
    mark = (str(name_or_path), tuple(places), None if environ is None else tuple(sorted(environ.items())))
    state = _state(name_or_path, places)
    known_as = _loaded.get(mark)
    if known_as is not None and known_as[0] == state:
        return known_as[1].again()
    made = _load(name_or_path, places, environ)
    if len(_loaded) >= LOADED_MOST:
        _loaded.clear()
    _loaded[mark] = (state, made)
    return made.again()


def _state(name_or_path: str | Path, places: Sequence[Path]) -> State:
    """Return what tells whether any file that a description may rest on has changed."""
    files = [path for place in [*places, PACKAGED] if place.is_dir() for path in place.glob("*.toml")]
    given = Path(name_or_path)
    files += [given, *given.parent.glob("*.toml")] if given.suffix == ".toml" else []
    out = []
    for path in files:
        with contextlib.suppress(OSError):
            info = path.stat()
            out.append((str(path), info.st_mtime_ns, info.st_size, info.st_ino))
    return tuple(out)


def _load(name_or_path: str | Path, places: Sequence[Path], environ: Mapping[str, str] | None) -> BatchSystem:
    links = chain(name_or_path, places)
    loaded = merged(links, environ)
    problems = problems_of(loaded)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise _wrong(str(links[0][0]), f"{problems[0]}{more}")
    return BatchSystem(loaded.name, loaded.tree, loaded.origin, tuple(loaded.files))


def _usable(search: Iterable[str | Path]) -> dict[str, BatchSystem]:
    """Return the kinds of batch systems; not the sites that are made of them, nor files that cannot be used."""
    places, out = list(search), {}
    for name in known(places):
        try:
            system = load(name, places)
        except RequestError:
            continue  # whoever names it is told; the others are not to suffer from it
        if not system.is_site:
            out[name] = system
    return out


def recognised_by(search: Iterable[str | Path] = ()) -> tuple[str, ...]:
    """Return the commands whose presence on a machine tells which batch system it has; ask for all at once."""
    return tuple(sorted({command for system in _usable(search).values() for command in system.detect}))


def recognise(present: Iterable[str], search: Iterable[str | Path] = ()) -> tuple[str, ...]:
    """Return the systems all of whose telling commands are present, the surest first; several: ask the person.

    Args:
        present: those of :func:`recognised_by` that the machine has; search: as for :func:`load`.
    """
    have = frozenset(present)
    found = {name: system.detect for name, system in _usable(search).items()}
    fits = [name for name, commands in found.items() if commands and have.issuperset(commands)]
    return tuple(sorted(fits, key=lambda name: (-len(found[name]), name)))


def check(
    path: str | Path, search: Iterable[str | Path] = (), environ: Mapping[str, str] | None = None
) -> list[Problem]:
    """Return everything that is wrong with a description; an empty list is praise.

    Args:
        path: a name or a file; search: directories in which what it extends is looked up; environ: as for :func:`load`.
    """
    try:
        links = chain(path, search)
    except _Unfit as error:
        return [error.problem]
    except RequestError as error:
        where, _, what = error.message.partition(": ")
        return [Problem(where if what else str(path), "", "a description that can be read", what or error.message)]
    return problems_of(merged(links, environ))
