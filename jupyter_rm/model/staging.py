"""Staging directives: which file goes where, before a task starts or after it ended.

A place is named by a scheme: ``client`` (the machine one works at), ``task`` (a sandbox), ``pilot``, ``session`` and
``resource`` (directories beside the sandboxes, shared by more and more), ``file`` (any path on the target), ``http``
and ``https``. Text in, text out: knows no file and no machine. Read next: :mod:`jupyter_rm.core.staging` (when),
:mod:`jupyter_rm.agent.staging` and :mod:`jupyter_rm.broker.carrier` (how).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from .errors import RequestError

ACTIONS = ("transfer", "copy", "link", "move", "tarball", "download")
# Parents are always made and directories always taken whole; said or not makes no difference.
FLAGS = ("optional", "create_parents", "recursive")
SAME = {"non_fatal": "optional"}
SPACES = ("pilot", "session", "resource")
ON_TARGET = ("task", "file", *SPACES)
WEB = ("http", "https")
SCHEMES = ("client", *ON_TARGET, *WEB)
# Name of a pilot's shared directory, below its sandbox; tasks see it as ../../shared.
SHARED = "shared"
MOST = 1000  # directives of one task
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(?://)?")
_OWNER = re.compile(r"(?:t\.(\d+)\.(\d+))?(?:@(-?\d+))?")
_EXAMPLE = 'write "source > target", ("source", "target") or {"source": ..., "target": ..., "action": "link"}'


class Directive(msgspec.Struct, frozen=True, array_like=True):
    """One file or directory: from ``source`` to ``target`` (both with their schemes) by ``action``."""

    source: str
    target: str
    action: str
    flags: tuple[str, ...] = ()

    @property
    def optional(self) -> bool:
        """Say whether a source that is not there is no failure."""
        return "optional" in self.flags

    def as_dict(self) -> dict[str, Any]:
        """Return the mapping from which this directive was or could have been made."""
        out: dict[str, Any] = {"source": self.source, "target": self.target, "action": self.action}
        return out | {"flags": list(self.flags)} if self.flags else out


class Found(msgspec.Struct, frozen=True, array_like=True):
    """What became of a ``client`` source on the target.

    Attributes:
        path: where it lies there; empty: it did not come, and ``note`` says why.
        kind: ``here`` the very file or directory, ``file`` a shared copy of its content, ``tar`` of a directory's.
        mode: permissions of the file.
    """

    path: str
    kind: str = "file"
    mode: int = 0o600
    note: str = ""


def bad(field: str, why: str, hint: str = _EXAMPLE) -> RequestError:
    """Return the error of a directive that cannot be."""
    return RequestError(f"{field}: {why}", hint=hint, code="JRM-Q90")


def split(url: str) -> tuple[str, str, str]:
    """Return (scheme, owner, path) of a place: ``task://t.3.1@2/a`` is ("task", "t.3.1@2", "a").

    Paths of ``client`` and ``file`` are absolute, all others relative to their directory. Text without a scheme has
    the scheme ''.
    """
    found = _SCHEME.match(url)
    if found is None or (found[1] not in SCHEMES and "://" not in url[: found.end()]):
        return "", "", url
    scheme, rest = found[1], url[found.end() :]
    if scheme in WEB:
        return scheme, "", url
    owner, slash, path = rest.partition("/") if url[: found.end()].endswith("//") else ("", "/", rest)
    if scheme in ("client", "file"):
        return scheme, owner, slash + path if not path.startswith("/") else path
    return scheme, owner, path.lstrip("/")


def leaves(path: str) -> bool:
    """Say whether a relative path leaves the directory it begins in."""
    depth = 0
    for part in path.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            return True
    return path.startswith("/")


def base_name(path: str) -> str:
    """Return the last part of a path."""
    return path.rstrip("/").rpartition("/")[2]


def hidden(name: str, mark: str) -> str:
    """Return the name of a file that is being made beside its goal ``name``: no longer than file systems take."""
    short = name.encode("utf-8", "surrogateescape")[: 250 - len(mark) - len("...part")]
    return f".{short.decode('utf-8', 'ignore')}.{mark}.part"


def directives(value: object, field: str) -> tuple[Directive, ...]:
    """Return the directives of a task's ``input_staging`` or ``output_staging``.

    Args:
        value: one directive or a list of them: ``"a > b"``, a pair, or a mapping with source, target, action, flags.
        field: its name, for errors.

    Raises:
        RequestError: JRM-Q90, naming the field and the index.
    """
    if isinstance(value, (str, Mapping, Directive)):
        value = (value,)
    if not isinstance(value, Iterable) or isinstance(value, bytes):
        raise bad(field, f"{value!r} is not a list of directives")
    items = list(value)
    if len(items) == 2 and isinstance(value, tuple) and all(_plain(item) for item in items):
        items = [tuple(items)]  # one pair, without a list around it
    if len(items) > MOST:
        raise bad(field, f"{len(items)} directives; at most {MOST}", "name directories, or pack the files")
    return tuple(_one(item, f"{field}[{at}]", out=field == "output_staging") for at, item in enumerate(items))


def _plain(item: object) -> bool:
    return isinstance(item, str) and ">" not in item and "<" not in item


def _one(item: object, field: str, *, out: bool) -> Directive:
    action: object = ""
    flags: tuple[str, ...] = ()
    if isinstance(item, Directive):
        item = item.as_dict()
    if isinstance(item, Mapping):
        unknown = set(item) - {"source", "target", "action", "flags"}
        if unknown or "source" not in item:
            raise bad(field, f"unknown key {min(map(str, unknown))!r}" if unknown else "no source")
        source, target = item["source"], item.get("target", "")
        action, flags = item.get("action", ""), _flags(item.get("flags", ()), field)
    elif isinstance(item, str):
        source, target = _line(item, field)
    elif isinstance(item, (tuple, list)) and len(item) == 2:
        source, target = item
    else:
        raise bad(field, f"{item!r} is not a directive")
    return _checked(_text(source, field), _text(target, field), action, flags, field, out=out)


def _line(text: str, field: str) -> tuple[str, str]:
    if text.count(">") + text.count("<") > 1:
        raise bad(field, f"{text!r} has more than one arrow", "write a pair: (source, target)")
    if "<" in text:
        target, _, source = text.partition("<")
    else:
        source, _, target = text.partition(">")
    return source.strip(), target.strip()


def _text(value: object, field: str) -> str:
    if hasattr(value, "__fspath__"):
        value = value.__fspath__()
    if not isinstance(value, str):
        raise bad(field, f"{value!r} is not text")
    if any(sign in value for sign in "\0\n\r"):
        raise bad(field, f"{value!r} holds a line break or a NUL character", "rename the file")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise bad(field, f"{value!r} holds {value[error.start]!a}, which is no character", "rename the file") from None
    return value


def _flags(value: object, field: str) -> tuple[str, ...]:
    given = (value,) if isinstance(value, str) else value
    if not isinstance(given, Iterable):
        raise bad(field, f"flags {value!r} are not a list", f"flags: {', '.join(FLAGS)}")
    flags = tuple(sorted({SAME.get(str(flag), str(flag)) for flag in given}))
    for flag in flags:
        if flag not in FLAGS:
            raise bad(field, f"unknown flag {flag!r}", f"flags: {', '.join(FLAGS)}")
    return flags


def _checked(source: str, target: str, action: object, flags: tuple[str, ...], field: str, *, out: bool) -> Directive:
    if not source:
        raise bad(field, "no source")
    source = _placed(source, "task" if out else "client", field, "source")
    if not target:
        target = base_name(split(source)[2].partition("?")[0])
        if not target:
            raise bad(field, f"{source!r} has no name of its own", "give a target")
    target = _placed(target, "client" if out else "task", field, "target")
    start, end = split(source)[0], split(target)[0]
    if not action:
        action = "download" if start in WEB else "transfer" if "client" in (start, end) else "copy"
    if action not in ACTIONS:
        raise bad(field, f"unknown action {action!r}", "actions: " + ", ".join(ACTIONS))
    made = Directive(source, target, str(action), flags)
    check(made, field, out=out)
    return made


def _placed(text: str, default: str, field: str, what: str) -> str:
    """Return a place with its scheme; relative ones of the client are made absolute where its directory is known."""
    scheme, owner, path = split(text)
    if not scheme and (not text or "://" in text):
        raise bad(field, f"{what} {text!r}: unknown scheme", "schemes: " + ", ".join(SCHEMES))
    if not scheme:
        absolute = text.startswith("/")
        if absolute and default == "task":
            return f"file://{text}"
        return f"{default}://{text}" if absolute else f"{default}:{text}" if default == "client" else f"task:///{text}"
    if scheme in WEB:
        return text
    if scheme == "client" and not text.startswith("client:/"):
        return text
    return f"{scheme}://{owner}{'' if path.startswith('/') else '/'}{path}"


def check(one: Directive, field: str, *, out: bool) -> None:
    """Refuse a directive that nobody can carry out (RequestError JRM-Q90)."""
    start, owner, path = split(one.source)
    end, end_owner, goal = split(one.target)
    for what, scheme, text, word in (("source", start, path, owner), ("target", end, goal, end_owner)):
        if scheme not in SCHEMES:
            raise bad(field, f"{what} {text!r}: unknown scheme", "schemes: " + ", ".join(SCHEMES))
        if scheme in ("task", *SPACES) and leaves(text):
            raise bad(field, f"{what} {text!r} leaves its directory", "name a path inside it, or an absolute file:///")
        if word and (out or scheme != "task" or what == "target" or not _OWNER.fullmatch(word)):
            raise bad(field, f"{what}: {word!r} after {scheme}://", f"write {scheme}:///path")
        if scheme not in WEB and not base_name(text) and (what == "source" and scheme != "task"):
            raise bad(field, f"{what}: no file is named", _EXAMPLE)
    if out and start not in ON_TARGET:
        raise bad(field, f"source: output comes from the target, not from {start}", "name a file of the task")
    if end in WEB or (not out and end == "client"):
        raise bad(field, f"target: nothing can be put to {end}", "targets: task, pilot, session, resource, file")
    allowed = _allowed(start, end)
    if one.action not in allowed:
        raise bad(field, f"action {one.action!r} from {start} to {end}", "possible: " + ", ".join(allowed))
    for flag in one.flags:
        if flag not in FLAGS:
            raise bad(field, f"unknown flag {flag!r}", f"flags: {', '.join(FLAGS)}")


def _allowed(start: str, end: str) -> tuple[str, ...]:
    if start in WEB:
        return ("download", "transfer")
    if start == "client":
        return ("transfer", "link", "tarball")
    if end == "client":
        return ("transfer", "tarball")
    return ("copy", "link", "move", "transfer")


def owner_of(word: str) -> tuple[int, int, int] | None:
    """Return (bulk, index, attempt) named by ``t.3.1@2``; bulk -1: the task itself; attempt 0: the last there is.

    A negative attempt counts back from the task's own. None: the word is empty.
    """
    if not word:
        return None
    found = _OWNER.fullmatch(word)
    assert found is not None, "checked when it was made"
    bulk, index, attempt = found.groups()
    return int(bulk) if bulk else -1, int(index) if index else -1, int(attempt or 0)


def spaces(sandbox: str, pilot: int) -> dict[str, str]:
    """Return the directories of ``pilot``, ``session`` and ``resource``, given a pilot's sandbox on the target.

    Beside the sandboxes of the session's pilots lies the session's, beside those of all sessions the resource's. In a
    sandbox of the user's own choice all of them lie in it.
    """
    base = sandbox.rstrip("/")
    above, _, name = base.rpartition("/")
    if name != f"p.{pilot}":
        return {"pilot": f"{base}/{SHARED}", "session": f"{base}/session", "resource": f"{base}/resource"}
    top = above.rpartition("/")[0]
    return {"pilot": f"{base}/{SHARED}", "session": f"{above}/session", "resource": f"{top}/resource"}


def from_client(one: Directive) -> bool:
    """Say whether the broker has to bring the source."""
    return one.source.startswith("client:")


def to_client(one: Directive) -> bool:
    """Say whether the broker has to fetch it home."""
    return one.target.startswith("client:")


def texts(staged: Iterable[Directive]) -> list[str]:
    """Return the texts of directives that may hold placeholders, in the order of :func:`with_texts`."""
    return [text for one in staged for text in (one.source, one.target)]


def with_texts(staged: Iterable[Directive], filled: Iterable[str]) -> tuple[Directive, ...]:
    """Return the same directives with other texts."""
    feed = iter(filled)
    return tuple(Directive(next(feed), next(feed), one.action, one.flags) for one in staged)
