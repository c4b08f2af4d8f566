"""The sites of a person: list, show, check, explain, write anew, try.

A site is a TOML file in the directory ``sites`` of the user's configuration: what it extends, where it is
(``[site] url``), and what differs. Nothing here submits anything; only :func:`attempt` opens a connection. Read next:
``docs/batch-systems.md``, :mod:`jupyter_rm.broker.sites` for how a name becomes a site.
"""

from __future__ import annotations

import contextlib
import getpass
import html
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..batch import BatchError, BatchSystem, Problem, known, recognise
from ..batch import check as check_file
from ..batch.values import accept
from ..broker.sites import AUTO, PLAIN, SIM, SiteName, description_of, parse, search_path
from ..model.errors import JrmError, RequestError
from .doctor import Finding, Findings
from .show import Text

if TYPE_CHECKING:
    from ..runtime.connect import Connection, ConnectSettings, Question
    from ..runtime.home import Home

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_RESERVED = ("local", "noop", "ssh", AUTO, SIM)


@dataclass(frozen=True)
class SiteLine:
    """One site: ``kind`` is ``here`` (this machine), ``yours``, ``shared`` (by an administrator) or ``system``."""

    name: str
    kind: str
    url: str
    title: str
    file: str = ""
    problem: str = ""


class SiteList(list[SiteLine]):
    """All sites; shows itself."""

    def __repr__(self) -> str:
        lines = [f"{one.name:<16} {one.kind:<7} {one.url:<34} {one.problem or one.title}" for one in self]
        return "\n".join([*lines, f"your site files: {directory()}"])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": f"<pre>{html.escape(repr(self))}</pre>"}


class Problems(list[Problem]):
    """What is wrong with a file; shows itself."""

    def __init__(self, file: str, found: list[Problem]) -> None:
        super().__init__(found)
        self.file = file

    def __repr__(self) -> str:
        return "\n".join(map(str, self)) or f"{self.file}: nothing is wrong with it"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": repr(self), "text/html": f"<pre>{html.escape(repr(self))}</pre>"}


def directory() -> Path:
    """Return the directory of the user's site files."""
    return search_path()[0]


def listing() -> SiteList:
    """Return this machine, the user's sites and the kinds of batch systems; a broken file is in it with its problem."""
    out = SiteList(
        [
            SiteLine("local", "here", "", "this machine"),
            SiteLine("noop", "here", "", "tasks end at once"),
            SiteLine(SIM, "here", f"{SIM}://NAME?nodes=4", "a cluster with a queue, virtual nodes of this machine"),
        ]
    )
    places = search_path()
    systems: list[SiteLine] = []
    for name, path in sorted(known(places).items()):
        mine = path.parent in places
        kind = "yours" if path.parent == places[0] else "shared" if mine else "system"
        try:
            system = description_of(name)
        except JrmError as error:
            out.append(SiteLine(name, kind, "", "", str(path), error.message))
            continue
        if mine:
            out.append(SiteLine(name, kind, _url(system), system.title, str(path)))
        elif name not in ("base", PLAIN, SIM):
            systems.append(SiteLine(name, "system", f"{name}+ssh://me@login", system.title, str(path)))
    return SiteList([*out, SiteLine("ssh", "system", "ssh://me@host", "a machine without batch system"), *systems])


def _url(system: BatchSystem) -> str:
    try:
        return str(system.get("site.url"))
    except RequestError:
        return ""


def system_of(name: str) -> BatchSystem:
    """Return the description behind a site's name, a URL or the name of a batch system.

    Raises:
        RequestError: there is none, or its file is wrong.
    """
    if "://" in name:
        system = parse(name).system
        return description_of("base" if system == AUTO else system)
    return description_of(PLAIN if name in ("local", "ssh") else name)


def facts_of(name: str) -> dict[str, Any]:
    """Return what a site is and what can be asked of it, as plain data.

    Raises:
        RequestError: as :func:`system_of`.
    """
    system = system_of(name)
    url = name if "://" in name else _url(system)
    least = 1 if system.name == SIM or url.startswith(f"{SIM}://") else 30
    given, heard = _defaults(system), system.heard
    keys = ("name", "type", "help", "min", "max", "choices")
    return {
        "name": system.name,
        "title": system.title,
        "url": url,
        "files": list(system.files),
        "every_s": max(least, int(system.poll.get("every_s", 30))),
        "launch": list(system.launch),
        "can": list(system.ops),
        "attributes": [
            {key: getattr(each, key) for key in keys} | {"default": given.get(each.name, each.default)}
            for each in system.attributes.values()
            if each.visible and (each.name in heard or each.optional)
        ],
    }


def shown(name: str) -> str:
    """Return what a site is and what can be asked of it, for people.

    Raises:
        RequestError: as :func:`system_of`.
    """
    told = facts_of(name)
    lines = [f"{told['name']}: {told['title']}" + (f"  at {told['url']}" if told["url"] else "")]
    lines += [f"  files: {', '.join(told['files'])}"] if told["files"] else []
    lines.append(f"  its commands run at most every {told['every_s']} s")
    if told["launch"]:
        lines.append(f"  launches ranks with: {', '.join(told['launch'])}")
    lines.append("  can: " + ", ".join(told["can"]))
    lines.append("  a pilot may ask for:")
    for each in told["attributes"]:
        limits = [f"{word} {each[key]}" for word, key in (("from", "min"), ("to", "max")) if each[key] is not None]
        limits += [f"one of {', '.join(each['choices'])}"] if each["choices"] else []
        limits += [f"default {each['default']}"] if each["default"] is not None else []
        more = f" ({'; '.join(limits)})" if limits else ""
        lines.append(f"    {each['name']:<20} {each['type']:<9} {each['help']}{more}")
    return "\n".join(lines)


def _defaults(system: BatchSystem) -> dict[str, Any]:
    try:
        said = system.get("site")
    except RequestError:
        return {}
    return {key: value for key, value in said.items() if key != "url"} if isinstance(said, Mapping) else {}


def check(file: str) -> Problems:
    """Return everything that is wrong with a site file (a path, or the name of a site)."""
    places = search_path()
    path = Path(file).expanduser()
    place = path if path.suffix == ".toml" or path.exists() else file
    return Problems(file, check_file(place, [path.parent, *places], os.environ))


def explain(name: str, key: str = "") -> str:
    """Return each value of a site with the file and line it came from, and what it hides there.

    Args:
        name: of the site; key: a dotted path, ``*`` allowed; empty for everything.

    Raises:
        RequestError: no such site or key; the hint names the nearest.
    """
    return system_of(name).explain(key or "*")


def origins(name: str, key: str = "") -> list[dict[str, Any]]:
    """Return the same as plain data: key, value, file and line of each, and what it hides."""
    words = ("file", "line", "value")
    return [
        {
            "key": path,
            **{word: getattr(one, word) for word in words},
            "hides": [dict(zip(words, hidden, strict=True)) for hidden in one.hides],
        }
        for path, one in system_of(name).origins(key or "*").items()
    ]


# ------------------------------------------------------------ a new one


def text_of(extends: str, url: str, title: str = "", defaults: Mapping[str, Any] | None = None) -> str:
    """Return the text of a site file.

    Args:
        extends: the batch system; url: where it is; title: for people; defaults: by attribute.
    """
    lines = [f"extends = {_toml(extends)}"]
    lines += [f"title = {_toml(title)}"] if title else []
    lines += ["", "[site]", f"url = {_toml(url)}"]
    lines += [f"{key} = {_toml(value)}" for key, value in (defaults or {}).items()]
    return "\n".join([*lines, "", f"# What else can be said here: jrm site explain {extends}", ""])


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    marks = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    text = "".join(marks.get(sign, sign if sign.isprintable() else f"\\u{ord(sign):04x}") for sign in str(value))
    return f'"{text}"'


def new(name: str, url: str, title: str = "", defaults: Mapping[str, Any] | None = None, force: bool = False) -> Path:
    """Write a new site file; nothing is written when anything is wrong with it.

    Args:
        name: of the site; url: such as ``slurm+ssh://me@login``; defaults: by attribute; force: replace an old file.

    Raises:
        RequestError: the name, the URL or a default is refused, or there is such a file already.
    """
    if not _NAME.fullmatch(name) or name in _RESERVED or name in known():
        raise RequestError(
            f"name: {name!r} cannot be the name of a site",
            hint="use letters, digits, '.', '_' and '-', and no name of a batch system",
            code="JRM-Q26",
        )
    place = parse(url)
    if place.system == AUTO:
        raise RequestError(
            f"url: {url!r} does not say which batch system", hint=f"find out with: jrm site try {url}", code="JRM-Q26"
        )
    attributes, said = description_of(place.system).attributes, dict(defaults or {})
    for key, value in said.items():
        if key in attributes and attributes[key].type in ("int", "float") and isinstance(value, str):
            with contextlib.suppress(RequestError):  # told below
                said[key] = accept(attributes[key], value)
    body = text_of(place.system, url, title, said).encode()
    return put(name, body, force, system=place.system)


def put(name: str, body: bytes, force: bool, source: str = "", system: str = "") -> Path:
    """Write a site file of the user; nothing is written when anything is wrong with it.

    Args:
        name: of the site; body: the file; force: replace an old one; source: where it is from, or system: what the
            file that was made here extends.

    Raises:
        RequestError: JRM-Q26, there is such a file already, or it is wrong.
    """
    path = directory() / f"{name}.toml"
    if path.exists() and not force:
        raise RequestError(f"name: {path} is there already", hint="choose another name, or --force", code="JRM-Q26")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f".{name}.part.toml")
    try:
        part.touch(mode=0o600)
        part.write_bytes(body)
        wrong = check_file(part, search_path(), os.environ)
        if wrong:
            origin = f"{source}: " if source else ""
            raise RequestError(
                f"{origin}{wrong[0].path}: expected {wrong[0].expected}, found {wrong[0].found}",
                hint=f"see: jrm site show {system}" if system else "tell its publisher; nothing was written",
                code="JRM-Q26",
            )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


GUIDE: tuple[tuple[str, str], ...] = (
    ("url", "where is it? (slurm+ssh://me@login; ssh://me@host without a batch system)"),
    ("name", "what shall it be called here?"),
    ("title", "a title for people (may be left empty)"),
)


def guide(
    ask: Callable[[str], str], say: Callable[[str], None], given: Mapping[str, Any]
) -> tuple[str, str, str, dict[str, Any]]:
    """Ask a person for a site, one line each, until each answer can be used; return name, URL, title and defaults.

    Args:
        ask: shows a question and returns the answer; say: shows a line; given: what needs not be asked.
    """
    answers = dict(given)
    for field, question in GUIDE:
        while field not in answers:
            text = ask(question).strip()
            try:
                if field == "url":
                    parse(text)
                elif field == "name" and not _NAME.fullmatch(text):
                    raise RequestError("letters, digits, '.', '_' and '-', starting with a letter", code="JRM-Q26")
                answers[field] = text
            except RequestError as error:
                say(f"  {error.message}" + (f"; {error.hint}" if error.hint else ""))
    defaults = dict(answers.get("defaults", {}))
    system = system_of(answers["url"])
    for each in system.attributes.values():
        if each.name in ("queue", "project", "walltime") and each.name in system.heard and each.name not in defaults:
            while text := ask(
                f"{each.label or each.name} that a pilot asks for by default ({each.help}; may be left empty)"
            ).strip():
                try:
                    system.values({each.name: text, "token": "jrm000000", "script": "/x"})
                except RequestError as error:
                    say(f"  {error.message}; {error.hint}")
                    continue
                defaults[each.name] = text
                break
    return answers["name"], answers["url"], answers["title"], defaults


# ------------------------------------------------------------ trying


class Person:
    """Somebody at the terminal who answers what a login asks."""

    def ask(self, question: Question) -> None:
        """Show the question and hand the answer on."""
        told = f"{question.user}@{question.host}: {question.text.strip()}"
        if question.fingerprint:
            told += f"\n  {question.key_type} {question.fingerprint}\n  answer yes when this is the right machine"
        sys.stderr.write(told + "\n")
        try:
            question.answer(getpass.getpass("> ") if question.secret else input("> "))
        except (EOFError, KeyboardInterrupt):
            question.cancel()


def attempt(name: str, settings: ConnectSettings | None = None, person: Any = None) -> Iterator[Finding]:
    """Try a site step by step without submitting anything: login, survey, batch system, queues, nodes.

    Args:
        name: of the site, or a URL; settings: of the connection; person: who answers questions of the login.

    Raises:
        RequestError: the name means nothing.
    """
    from ..runtime.connect import connect

    place = parse(name)
    try:
        connection = connect(place.target, person or Person(), settings or _settings())
    except JrmError as error:
        yield Finding("login", False, error.message, error.hint, error.code)
        return
    with connection:
        yield Finding("login", True, f"at {connection.name}")
        yield from _look(connection, place)


def home() -> Home:
    """Return the places of the profile that this process uses."""
    from ..runtime.home import Home
    from .settings import current

    return Home.locate(current().profile)


def _settings() -> ConnectSettings:
    from ..broker.remote import settings_of

    return settings_of(home())


def _look(connection: Connection, place: SiteName) -> Iterator[Finding]:
    from ..runtime.batchsite import BatchSite
    from ..runtime.bootstrap import survey

    try:
        facts = survey(connection)
    except JrmError as error:
        yield Finding("survey", False, error.message, error.hint, error.code)
        return
    pythons = ", ".join(".".join(map(str, version)) for _, version in facts.pythons) or "none"
    yield Finding(
        "machine",
        bool(facts.pythons),
        f"{facts.host}, {facts.arch}, Python {pythons}",
        "Python 3.10 or newer is needed",
    )
    fits = recognise(facts.commands, search_path())
    system = place.system
    if system == AUTO:
        yield Finding("batch system", bool(fits), f"fits: {', '.join(fits) or 'none'}", "name it: jrm site list")
        if not fits:
            return
        system = fits[0]
    elif system != PLAIN:
        described = description_of(system)
        missing = [one for one in described.detect if one not in facts.commands]
        yield Finding(
            "batch system",
            not missing,
            f"{described.title}"
            + (f"; not found: {', '.join(missing)}; fits: {', '.join(fits) or 'none'}" if missing else ""),
            "another system, or a module must be loaded there first",
        )
        if missing:
            return
    if system == PLAIN:
        return
    try:
        variables = place.variables(facts, home())
    except JrmError as error:
        yield Finding("cluster", False, error.message, error.hint, error.code)
        return
    site = BatchSite(connection, description_of(system), facts.user, float(facts.utc_offset_s), variables)
    for what, look in _LOOKS.items():
        try:
            yield Finding(what, True, look(site))
        except (BatchError, JrmError) as error:
            yield Finding(what, False, error.message, error.hint, error.code)
    for note in site.system.notes:
        yield Finding("note", False, note, "tell the description what it means: [states] or [node_states]")


def _queues(site: Any) -> str:
    found = site.queues()
    return ", ".join(f"{one.name}{'*' if one.default else ''}" for one in found) or "not told"


def _nodes(site: Any) -> str:
    found = site.nodes()
    states = {
        state: sum(one.state == state for one in found) for state in ("free", "mixed", "busy", "offline", "unknown")
    }
    return (
        f"{len(found)}: " + ", ".join(f"{count} {state}" for state, count in states.items() if count)
        if found
        else "not told"
    )


def _jobs(site: Any) -> str:
    line = site.queue()
    return f"{len(line.mine)} of yours" + (
        f", {len(line.others)} of others" if line.whole else "; others are not shown"
    )


_LOOKS: dict[str, Callable[[Any], str]] = {
    "version": lambda site: site.version() or "not told",
    "queues": _queues,
    "projects": lambda site: ", ".join(one.name for one in site.projects()) or "not told",
    "nodes": _nodes,
    "jobs": _jobs,
}


def given(words: list[str]) -> dict[str, Any]:
    """Return the defaults of ``NAME=VALUE`` words; RequestError when one is none."""
    out: dict[str, Any] = {}
    for word in words:
        key, found, value = word.partition("=")
        if not found:
            raise RequestError(f"--set: {word!r}", hint="write NAME=VALUE", code="JRM-Q40")
        out[key] = {"true": True, "false": False}.get(value, value)
    return out


def do(
    action: str,
    name: str = "",
    key: str = "",
    url: str = "",
    title: str = "",
    words: list[str] | None = None,
    force: bool = False,
) -> Any:
    """Return what an action of ``jrm site`` gives, as an object that shows itself.

    Raises:
        RequestError: a name or URL is missing or refused.
    """
    if action == "list":
        return listing()
    if not name or (action == "new" and not url):
        missing = "url" if name else "name"
        raise RequestError(
            f"{missing}: missing",
            hint=f"%jrm site {action} NAME" + (" --url URL" if action == "new" else ""),
            code="JRM-Q40",
        )
    if action == "check":
        return check(name)
    if action == "try":
        return tried(name)
    if action == "new":
        return Text(f"{new(name, url, title, given(words or []), force)}; next: %jrm site try {name}")
    return Text(shown(name) if action == "show" else explain(name, key))


def as_json(value: Any) -> Any:
    """Return a finding, line or problem as plain data."""
    return (
        {name: getattr(value, name) for name in value.__struct_fields__}
        if isinstance(value, Problem)
        else asdict(value)
    )


def tried(name: str) -> Findings:
    """Return all that :func:`attempt` finds."""
    return Findings(attempt(name))
