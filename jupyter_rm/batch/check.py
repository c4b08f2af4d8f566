"""Whether a description can be used: every key known, every type right, every name it refers to there.

Works on merged descriptions and reports all problems at once, each with file, line, path, expected and found. Next:
:mod:`.system`, which may then trust what it is given.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..model.errors import JrmError
from .conditions import ConditionError
from .conditions import names as condition_names
from .origin import Loaded
from .readers import FORMATS
from .records import JobRecord as Job
from .records import NodeRecord, Problem, ProjectRecord, QueueRecord, Submitted
from .shape import (
    LAUNCHES,
    NODE_STATES,
    OF_PILOT,
    PROBE_PLACES,
    PROBE_TYPES,
    SHAPE,
    TYPE,
    WAYS_TEXT,
    state_word,
    ways_in,
)
from .templates import TemplateError, holes
from .values import FORMS, TYPES, Attribute, accept

# What each operation answers with.
OPS: dict[str, str] = {
    "submit": "submitted",
    "script": "submitted",
    "status": "job",
    "final": "job",
    "ended": "job",
    "find": "job",
    "estimate": "job",
    "queue": "job",
    "cancel": "",
    "hold": "",
    "release": "",
    "suspend": "",
    "resume": "",
    "queues": "queue",
    "projects": "project",
    "nodes": "node",
    "version": "",
}
# Arguments of a command that are no templates: all attributes with their flags; the constant text of the operation.
SPECIAL = ("{attributes}", "{constant}")
# What all batch systems but our own are spared: a status command more often than this, s.
EVERY_LEAST = 30
# A file on its way, its check, and a command beside them.
SESSIONS_LEAST = 3
NEEDED = ("submit", "status", "cancel")
RECORDS: dict[str, tuple[str, ...]] = {
    "submitted": tuple(name for name in Submitted.__struct_fields__ if name != "warnings"),
    "job": tuple(name for name in Job.__struct_fields__ if name not in ("detail", "raw_state", "reason_text")),
    "queue": QueueRecord.__struct_fields__,
    "project": ProjectRecord.__struct_fields__,
    "node": tuple(name for name in NodeRecord.__struct_fields__ if name != "raw_state"),
}


@dataclass(slots=True)
class _Checker:
    loaded: Loaded
    problems: list[Problem] = field(default_factory=list)

    def add(self, path: str, expected: str, found: object) -> None:
        """Note a problem at a dotted path; the nearest known origin says file and line."""
        origin, near = None, path
        while near and origin is None:
            origin = self.loaded.origin.get(near)
            if origin is None:
                inside = [o for key, o in self.loaded.origin.items() if key.startswith(near + ".")]
                origin = inside[0] if inside else None
                near = near.rpartition(".")[0]
        shown = found if isinstance(found, str) else repr(found)
        shown = shown if len(shown) <= 120 else shown[:117] + "..."
        file = origin.file if origin else self.loaded.files[0]
        self.problems.append(Problem(file, path, expected, shown, origin.line if origin else 0))

    def chain(self) -> list[str]:
        """Return the names of the description and all that it extends."""
        return [file.rpartition("/")[2].removesuffix(".toml") for file in self.loaded.files]

    def shape(self, shape: Any, value: Any, path: str) -> None:
        """Compare a value with a shape, all the way down."""
        if isinstance(shape, dict):
            if not isinstance(value, dict):
                self.add(path, "a table", value)
                return
            for key, inner in value.items():
                where = f"{path}.{key}" if path else key
                if "*" in shape:
                    self.shape(shape["*"], inner, where)
                elif key in shape:
                    self.shape(shape[key], inner, where)
                else:
                    self.add(where, f"one of {', '.join(shape)}", f"the unknown key {key!r}")
            return
        fits, expected = TYPE[shape]
        if not fits(value):
            self.add(path, expected, value)

    def attributes(self, tree: dict[str, Any]) -> dict[str, Attribute]:
        """Check every attribute and return those that are right."""
        out: dict[str, Attribute] = {}
        for name, said in tree.items():
            path = f"attributes.{name}"
            if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name):
                self.add(path, "a name of small letters, digits and '_'", name)
                continue
            attribute = out[name] = Attribute(name=name, **said)
            if attribute.type not in TYPES:
                self.add(f"{path}.type", f"one of {', '.join(TYPES)}", attribute.type)
                continue
            if attribute.choices_from and OPS.get(attribute.choices_from) not in ("queue", "project"):
                self.add(f"{path}.choices_from", "queues or projects", attribute.choices_from)
            if attribute.type == "choice" and not attribute.choices and not attribute.choices_from:
                self.add(f"{path}.choices", "choices of a choice", "none")
            for bound in ("min", "max"):
                limit = getattr(attribute, bound)
                if limit is not None and not self._limit(attribute, limit):
                    self.add(f"{path}.{bound}", f"a {attribute.type}", limit)
                    return {}
            if attribute.default is not None:
                try:
                    accept(attribute, attribute.default)
                except JrmError as error:
                    self.add(f"{path}.default", "a value that fits the attribute itself", error.message)
        for name, attribute in out.items():
            path = f"attributes.{name}"
            for factor in attribute.product:
                if factor not in out or out[factor].product:
                    self.add(f"{path}.product", "names of attributes that are given", factor)
            self._depends(out, name, attribute)
            for key in ("args", "args_false"):
                for text in getattr(attribute, key):
                    self.template(f"{path}.{key}", text, {**out, "value": attribute})
            for variable, text in attribute.env.items():
                self.template(f"{path}.env.{variable}", text, {**out, "value": attribute})
        return out

    def _limit(self, attribute: Attribute, limit: Any) -> bool:
        if attribute.type in ("int", "float"):
            return isinstance(limit, (int, float)) and not isinstance(limit, bool)
        if attribute.type not in ("duration", "memory"):
            return False
        try:
            accept(Attribute(name=attribute.name, type=attribute.type), limit)
        except JrmError:
            return False
        return True

    def _depends(self, known: dict[str, Attribute], name: str, attribute: Attribute) -> None:
        path, seen, queue = f"attributes.{name}.depends", set(), [attribute]
        while queue:
            one = queue.pop()
            if not one.depends:
                continue
            try:
                needs = condition_names(one.depends)
            except ConditionError as error:
                self.add(path, "a condition such as queue == 'gpu' and not debug", f"{one.depends}: {error}")
                return
            for need in needs:
                if need == name:
                    self.add(path, "a condition without a circle", one.depends)
                    return
                if need not in known:
                    self.add(path, "names of attributes", need)
                    return
                if need not in seen:
                    seen.add(need)
                    queue.append(known[need])

    def template(self, path: str, text: str, known: dict[str, Attribute]) -> None:
        """Check that a template can be read and asks for attributes, and forms of them, that exist."""
        try:
            found = holes(text)
        except TemplateError as error:
            self.add(path, "a template", f"{text}: {error}")
            return
        if "\0" in text:
            self.add(path, "a template without NUL", text)
        for hole in found:
            if hole.name not in known:
                self.add(path, "names of attributes", f"{{{hole.name}}}")
            elif hole.form and hole.form not in FORMS.get(known[hole.name].type, ()):
                kinds = ", ".join(filter(None, FORMS.get(known[hole.name].type, ()))) or "none"
                self.add(path, f"a form of {known[hole.name].type} ({kinds})", f"{{{hole.name}:{hole.form}}}")

    def operations(self, tree: dict[str, Any], attributes: dict[str, Attribute]) -> None:
        """Check ops and the readers they name."""
        readers = tree.get("readers", {})
        for name, op in tree.get("ops", {}).items():
            path = f"ops.{name}"
            if name not in OPS:
                self.add(path, f"one of {', '.join(OPS)}", name)
                continue
            if "argv" not in op:
                self.add(f"{path}.argv", "a command", "none")
            for text in _flat(op.get("argv", [])):
                if text not in SPECIAL:
                    self.template(f"{path}.argv", text, attributes)
            for variable, text in op.get("env", {}).items():
                self.template(f"{path}.env.{variable}", text, attributes)
            reader = op.get("reader", "")
            if OPS[name] and not reader:
                self.add(f"{path}.reader", "the name of a reader", "none")
            elif reader and reader not in readers:
                self.add(f"{path}.reader", f"one of {', '.join(readers) or 'readers (there are none)'}", reader)
            elif reader and OPS[name]:
                self.reader(f"readers.{reader}", readers[reader], RECORDS[OPS[name]])
        if not tree.get("abstract"):
            for name in NEEDED:
                if name not in tree.get("ops", {}):
                    self.add(f"ops.{name}", "an operation that every system has", "none")
        if "status" in tree.get("ops", {}) and not tree.get("states"):
            self.add("states", "what the system's states mean", "none")

    def site(self, said: dict[str, Any], attributes: dict[str, Attribute]) -> None:
        """Check where the site is and what is asked for there by default."""
        for name, value in said.items():
            path = f"site.{name}"
            if name == "url":
                if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*(\+ssh)?://\S*", value):
                    self.add(path, "a URL such as slurm+ssh://me@login", value)
                    continue
                system = value.partition("://")[0].removesuffix("+ssh")
                names = self.chain()
                if system not in ("auto", "ssh", *names) and set(names[1:]) - {"base"}:
                    self.add(path, f"a URL of what this file extends, {names[1]}", value)
            elif name in OF_PILOT and name not in attributes:
                if not isinstance(value, str):
                    self.add(path, "text", value)
                elif name == "launch" and value not in LAUNCHES:
                    self.add(path, f"one of {', '.join(LAUNCHES)}", value)
                elif name == "connect" and ways_in(value) is None:
                    self.add(path, WAYS_TEXT, value)
            elif name not in attributes:
                near = [name + "_per_node"] if name + "_per_node" in attributes else []
                near = near or difflib.get_close_matches(name, ["url", *OF_PILOT, *attributes], 1)
                self.add(path, f"url or an attribute{f' (did you mean {near[0]}?)' if near else ''}", name)
            elif not attributes[name].visible or attributes[name].product:
                self.add(path, "an attribute that a person gives", name)
            else:
                try:
                    accept(attributes[name], value)
                except JrmError as error:
                    self.add(path, "a value that fits the attribute", error.message)

    def login(self, said: dict[str, Any], site: dict[str, Any]) -> None:
        """Check what is allowed on the login node."""
        if said and "url" not in site:
            self.add("login", "[site] url beside it: which login node is meant", "none")
        sessions = said.get("sessions", SESSIONS_LEAST)
        if isinstance(sessions, int) and 1 <= sessions < SESSIONS_LEAST:  # below 1 is told already
            self.add("login.sessions", f"{SESSIONS_LEAST} or more", sessions)

    def poll(self, said: dict[str, Any]) -> None:
        """Check that a batch system that others use too is not asked too often."""
        if {"local", "sim"} & set(self.chain()) or self.loaded.tree.get("abstract"):
            return
        for name in ("every_s", "least_s"):
            if said.get(name, EVERY_LEAST) < EVERY_LEAST:
                self.add(f"poll.{name}", f"{EVERY_LEAST} or more", said[name])

    def launch(self, said: list[str]) -> None:
        """Check that each launch method is one."""
        for name in said:
            if name not in LAUNCHES:
                near = difflib.get_close_matches(name, LAUNCHES, 1)
                more = f" (did you mean {near[0]}?)" if near else ""
                self.add("launch", f"some of {', '.join(LAUNCHES)}{more}", name)

    def collect(self, said: dict[str, str]) -> None:
        """Check where one collection for all users lies."""
        path, owner, url = (said.get(name, "") for name in ("shared", "owner", "url"))
        if "shared" in said and not (path.startswith("/") and path.isprintable()):
            self.add("collect.shared", "the full path of a directory there", path)
        if "owner" in said and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", owner):
            self.add("collect.owner", "the name of an account there", owner)
        if owner and not path:
            self.add("collect.owner", "shared beside it", "none")
        if "url" in said and not re.fullmatch(r"https://[A-Za-z0-9.\[\]:-]+(/[!-~]*)?", url):
            self.add("collect.url", "an address that begins with https://, without name and password", url)
        if path and url:
            self.add("collect.url", "shared or url, not both", url)

    def probes(self, tree: dict[str, Any]) -> None:
        """Check what is to be asked of the site for its pilots' facts."""
        for name, probe in tree.items():
            path = f"probe.{name}"
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", name):
                self.add(path, "a name of letters, digits and '_'", name)
            if "command" not in probe:
                self.add(f"{path}.command", "what to run", "none")
            for key, known in (("type", PROBE_TYPES), ("where", PROBE_PLACES)):
                if probe.get(key, known[0]) not in known:
                    self.add(f"{path}.{key}", f"one of {', '.join(known)}", probe[key])
            if "regex" in probe and "json" in probe:
                self.add(f"{path}.json", "regex or json, not both", probe["json"])

    def reader(self, path: str, reader: dict[str, Any], fields: tuple[str, ...]) -> None:
        """Check that a reader has what its format needs and fills fields that exist."""
        kind = reader.get("format", "")
        if kind not in FORMATS:
            self.add(f"{path}.format", f"one of {', '.join(FORMATS)}", kind or "none")
            return
        needs = {"table": ["columns"], "xml": ["rows"], "regex": ["pattern"], "blocks": ["start", "pair"], "json": []}
        for key in needs[kind]:
            if not reader.get(key):
                self.add(f"{path}.{key}", f"a {key} for the format {kind}", "none")
        if kind == "blocks" and {"key", "value"} - set(re.compile(reader.get("pair", "")).groupindex):
            self.add(f"{path}.pair", "the groups (?P<key>...) and (?P<value>...)", reader.get("pair", "none"))
        if reader.get("stream", "stdout") not in ("stdout", "stderr", "both"):
            self.add(f"{path}.stream", "stdout, stderr or both", reader["stream"])
        said = reader.get("fields", {})
        for name in said:
            if name not in fields:
                self.add(f"{path}.fields.{name}", f"one of {', '.join(fields)}", name)
        key = "id" if "id" in fields else "name"
        if key not in said:
            self.add(f"{path}.fields.{key}", "where it stands", "none")
        if key == "id" and "state" in fields and "state" not in said:
            self.add(f"{path}.fields.state", "where the state stands", "none")


def _flat(argv: list[Any]) -> Iterator[str]:
    for item in argv:
        yield from (item,) if isinstance(item, str) else item


def problems_of(loaded: Loaded) -> list[Problem]:
    """Return everything that is wrong with a merged description, in order of its keys."""
    checker = _Checker(loaded)
    for path, names in loaded.unset.items():
        for name in names if path in loaded.origin else ():
            expected = f"a variable that is set here, or a default (${{{name}:default}})"
            checker.add(path, expected, f"${{{name}}}")
    checker.shape(SHAPE, loaded.tree, "")
    tree = loaded.tree
    if checker.problems:  # what follows relies on the types
        if isinstance(said := tree.get("login", {}), dict):
            checker.login(said, tree.get("site", {}))
        return checker.problems
    for table in ("state_rules", "reason_rules"):
        for name, rule in tree.get(table, {}).items():
            if "match" not in rule:
                checker.add(f"{table}.{name}.match", "a regular expression", "none")
            word = rule.get("is", "" if table == "reason_rules" else "none")
            if word and state_word(word) is None:
                checker.add(f"{table}.{name}.is", TYPE["state"][1], word)
    for name, word in tree.get("node_states", {}).items():
        if word not in NODE_STATES:
            checker.add(f"node_states.{name}", f"one of {', '.join(NODE_STATES)}", word)
    for name, rule in tree.get("errors", {}).items():
        for key in ("match", "say"):
            if key not in rule:
                checker.add(f"errors.{name}.{key}", "what to look for and what to say", "none")
        if rule.get("about") and rule["about"] not in tree.get("attributes", {}):
            checker.add(f"errors.{name}.about", "the name of an attribute", rule["about"])
        for op in rule.get("ops", []):
            if op not in OPS:
                checker.add(f"errors.{name}.ops", f"some of {', '.join(OPS)}", op)
    if tree.get("token_in", "name") not in ("name", "comment", "variable"):
        checker.add("token_in", "name, comment or variable", tree["token_in"])
    attributes = checker.attributes(tree.get("attributes", {}))
    if attributes or not tree.get("attributes"):
        checker.operations(tree, attributes)
        checker.site(tree.get("site", {}), attributes)
    checker.probes(tree.get("probe", {}))
    checker.poll(tree.get("poll", {}))
    checker.launch(tree.get("launch", []))
    checker.login(tree.get("login", {}), tree.get("site", {}))
    checker.collect(tree.get("collect", {}))
    return checker.problems
