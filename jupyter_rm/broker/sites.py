"""What a site's name means: a machine, how it is reached, and the description of its batch system.

``local`` and ``noop`` are this machine's own and handled elsewhere. ``ssh://me@host``: processes of that account.
``slurm+ssh://me@host``: the batch system there; ``auto+ssh://``: whichever is found there; ``slurm://``, ``auto://``:
that of this machine; ``sim://NAME``: a cluster of our own small batch system. A word names a site file of the user.
Knows names and values, opens no connection. Read next: :mod:`jupyter_rm.broker.site`.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import platformdirs

from ..batch import LAUNCHES, OF_PILOT, WAYS_TEXT, BatchSystem, known, load, ways_in
from ..batch.values import accept
from ..core.session import SITES, only_here
from ..core.sound import NODES_MOST, check_pilot
from ..model import hooks
from ..model.errors import JrmError, RequestError
from ..model.facts import PilotSpec
from ..runtime.bootstrap import SiteFacts, Wanted
from ..runtime.connect import LoginPolicy, Route, Target, resolve
from ..runtime.home import Home, private_directory
from ..simbatch import named as simulated

AUTO, PLAIN = "auto", "local"
SIM = simulated.SCHEME
_URL = re.compile(r"(?P<system>[A-Za-z][A-Za-z0-9_.-]*)(?P<ssh>\+ssh)?://(?P<rest>.*)\Z")
# Attributes that are fields of a pilot, and how those are called.
OF_A_FIELD = {
    **{name: name for name in ("name", "nodes", "queue", "project", "walltime")},
    "cores_per_node": "cores",
    "gpus_per_node": "gpus",
    "mem_per_node": "mem",
}
# What is decided when a pilot is submitted.
NOT_YOURS = ("token", "script", "spec", "ids", "user", "workdir", "stdout", "stderr")
# Of the fields, what a site's file says becomes part of what is asked for, and is checked with it.
_OF_FILE = ("nodes", "walltime", "queue", "project")
_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def search_path() -> list[Path]:
    """Return the directories with site files: the user's own, then those that an administrator gives everybody."""
    places = (platformdirs.user_config_dir("jupyter_rm"), platformdirs.site_config_dir("jupyter_rm"))
    return [Path(place) / "sites" for place in places]


def description_of(name: str) -> BatchSystem:
    """Return the description of a batch system or a site as this user has it, with this program's variables in it.

    Raises:
        RequestError: JRM-Q23, JRM-Q24, there is none or it cannot be used.
    """
    return load(name, search_path(), os.environ)


@dataclass(frozen=True)
class SiteName:
    """A site as it was named.

    Attributes:
        text: as given. target: where to log in. system: name of the batch system's description, ``auto``: look there.
        given: what the site's file asks for by default. sim: which of our own clusters it is, None: none.
    """

    text: str
    target: Target
    system: str
    given: Mapping[str, Any] = field(default_factory=dict)
    sim: simulated.SimName | None = None

    @property
    def key(self) -> str:
        """What tells two sites apart."""
        return f"{self.system} {self.target}" if self.sim is None else f"{self.system} {self.sim}"

    @property
    def polite(self) -> bool:
        """Whether its commands are a burden to others, and are kept rare."""
        return self.system != PLAIN and self.sim is None

    def variables(self, facts: SiteFacts, home: Home) -> dict[str, str]:
        """Return what the batch system's commands need; a cluster of our own is made when it is not there.

        Commands of a batch system are often found in login shells only.

        Raises:
            RequestError: JRM-Q17, the cluster has jobs and another size than is asked for.
        """
        path = facts.path
        if self.sim is not None:
            place = private_directory(private_directory(home.state / SIM) / self.sim.name)
            path = f"{simulated.prepare(place, self.sim)}:{path or os.defpath}"
        return {"PATH": path} if path else {}


def parse(text: str, depth: int = 0) -> SiteName:
    """Return what a site's name means.

    Raises:
        RequestError: JRM-Q17 unknown, JRM-Q70 malformed address, JRM-Q23 or JRM-Q24 an unusable site file.
    """
    found = _URL.match(text)
    systems = known(search_path())
    if found is None:
        return SiteName(text, Target(""), PLAIN) if text in SITES else _of_file(text, systems, depth)
    system = found["system"]
    if found["ssh"] is None and system == "ssh":
        return SiteName(text, Target.parse("ssh://" + found["rest"]), PLAIN)
    if found["ssh"] is None and system == SIM:
        # The very environment that this program runs in: there is no other machine to send one to.
        return SiteName(text, Target(""), SIM, {"env": sys.executable}, simulated.parse(found["rest"]))
    systems.pop("base", None)  # all systems extend it; it is none
    if system != AUTO and system not in systems:
        names = ["ssh", AUTO, *systems]
        near = difflib.get_close_matches(system.lower(), names, 1)
        hint = f"did you mean {near[0]!r}?" if near else "known: " + ", ".join(sorted(names))
        raise RequestError(f"site: there is no batch system {system!r}", hint=hint, code="JRM-Q17")
    if found["ssh"] is not None:
        return SiteName(text, Target.parse("ssh://" + found["rest"]), system)
    if found["rest"].strip("/") not in ("", "localhost"):
        raise RequestError(
            f"site: {text!r} names a machine but no way to it", hint=f"write {system}+ssh://user@host", code="JRM-Q17"
        )
    return SiteName(text, Target(""), system)


def own_files() -> list[str]:
    """Return the names of the sites that have a file of the user's or the administrator's."""
    return [name for name, path in known(search_path()).items() if path.parent in search_path()]


def machine(text: str) -> str:
    """Return the address of the machine behind a site's name; any other text as it is.

    Raises:
        RequestError: the site's file cannot be used.
    """
    return str(parse(text).target) if text in own_files() else text


def _of_file(name: str, systems: Mapping[str, Path], depth: int) -> SiteName:
    own = own_files()
    if name not in own or depth:
        names = [*SITES, *own]
        near = difflib.get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]!r}?" if near else "known here: " + ", ".join(names) + ", or a URL"
        raise RequestError(f"site: {name!r} is not known here", hint=hint, code="JRM-Q17")
    system = description_of(name)
    try:
        said = system.get("site")
    except RequestError:
        said = {}
    url = said.get("url", "") if isinstance(said, Mapping) else ""
    if not url:
        raise RequestError(
            f"site: {systems[name]} does not say where the site is", hint="add [site] url = ...", code="JRM-Q17"
        )
    place = parse(str(url), depth + 1)
    given = {**place.given, **{key: value for key, value in said.items() if key not in ("url",)}}
    return SiteName(name, place.target, name, given, place.sim)


def login_policy(route: Route, ssh_config: Path | None = None) -> LoginPolicy:
    """Return what site files say about the machine at the end of a route (``[login]``), of several the strictest word.

    Args:
        route: the way there; ssh_config: the configuration by which the machines of site files are found.
    """
    resident, sessions, source = True, 0, ""
    for name, path in known(search_path()).items():
        if route.target.local or path.parent not in search_path():
            continue
        try:
            said = description_of(name).table("login")
            if not said or not _same(resolve(parse(name).target, ssh_config), route):
                continue
        except JrmError:
            continue  # a file that cannot be used is refused where it is used
        resident, source = resident and bool(said.get("resident", True)), name
        most = int(said.get("sessions", 0))
        sessions = min(most, sessions) if most and sessions else most or sessions
    return LoginPolicy(resident, sessions, source)


def _same(one: Route, other: Route) -> bool:
    return (one.last.host.lower(), one.last.port) == (other.last.host.lower(), other.last.port)


def needs_to_stay(name: SiteName) -> bool:
    """Say whether a pilot there is a process of the login node itself."""
    if name.target.local or name.system == PLAIN:
        return not name.target.local
    try:
        url = str(description_of(name.system).table("site").get("url", ""))
        return bool(url) and parse(url).system == PLAIN
    except RequestError:
        return False


def check(spec: PilotSpec) -> None:
    """Refuse a pilot that its site cannot give, before anything is recorded.

    Raises:
        RequestError: names the field.
    """
    if "://" not in spec.site and spec.site in SITES:
        only_here(spec)
        hooks.check(spec.hooks, here=True)
        _check_launch(spec.launch)
        return
    name = parse(spec.site)
    if name.system == AUTO:
        wanted_of(spec, "own")
        ways_of(spec)
        _check_launch(spec.launch)
        return
    system = description_of(name.system)
    whole = completed(spec, system, name)
    check_pilot(_settled(spec, system, name))
    wanted_of(whole, "own")
    ways_of(whole)
    _check_launch(whole.launch)
    values = values_of(whole, system, name, "jrm000000", "/x")
    system.render("submit", {**values, "script": "/x/job.sh", "spec": "/x/spec"})


def given_at(site: str) -> dict[str, Any]:
    """Return nodes, walltime, queue and project that a site's file asks for where a pilot says nothing.

    Raises:
        RequestError: JRM-Q23, the file cannot be used.
    """
    if site not in own_files():
        return {}
    name = parse(site)
    return _given(description_of(name.system), name)


def _settled(spec: PilotSpec, system: BatchSystem, name: SiteName) -> PilotSpec:
    said = {key: value for key, value in _given(system, name).items() if not getattr(spec, key)}
    return msgspec.structs.replace(spec, **said) if said else spec


def _given(system: BatchSystem, name: SiteName) -> dict[str, Any]:
    said = {key: name.given[key] for key in _OF_FILE if key in name.given and key in system.attributes}
    return {key: accept(system.attributes[key], value) for key, value in said.items()}


def completed(spec: PilotSpec, system: BatchSystem, name: SiteName) -> PilotSpec:
    """Return what is asked for with what the site's file says where nothing was said, and its hooks before one's own.

    Raises:
        RequestError: JRM-Q17, the file says something that is no text, or names a hook that does not exist.
    """
    spec = _settled(spec, system, name)
    said: dict[str, Any] = {}
    for field_name in OF_PILOT:
        value = name.given.get(field_name)
        if value is None or getattr(spec, field_name) or field_name in system.attributes:
            continue
        if field_name == "env" and str(value).startswith("/") and spec.env_mode not in ("", "use"):
            continue  # a path is an environment that is there; another one is wanted
        if not isinstance(value, str):
            raise RequestError(f"site.{field_name}: {value!r} is not text", hint="see docs", code="JRM-Q17")
        said[field_name] = value
    table = system.table("hooks")
    of_site = {each: text if isinstance(text, str) else "\n".join(text) for each, text in table.items()}
    if of_site:
        said["hooks"] = hooks.joined(of_site, spec.hooks)
    if envs := system.table("envs"):
        said["envs"] = {**envs, **spec.envs}
    return msgspec.structs.replace(spec, **said) if said else spec


def _check_launch(method: str) -> None:
    if method and method not in LAUNCHES:
        near = difflib.get_close_matches(method, LAUNCHES, 1)
        hint = f"did you mean {near[0]!r}?" if near else "known: " + ", ".join(LAUNCHES)
        raise RequestError(f"launch: there is no launch method {method!r}", hint=hint, code="JRM-Q17")


def ways_of(spec: PilotSpec) -> tuple[str, ...]:
    """Return the ways over a network to a pilot's agent, in the order in which they are to be tried.

    Raises:
        RequestError: JRM-Q17, something else is asked for.
    """
    ways = ways_in(spec.connect)
    if ways is None:
        raise RequestError(f"connect: {spec.connect!r} is not understood", hint=WAYS_TEXT, code="JRM-Q17")
    return ways


def wanted_of(spec: PilotSpec, own: str) -> Wanted:
    """Return which environment a pilot's agent is to run in; ``own`` names one that is the pilot's alone.

    Raises:
        RequestError: a mode, source, name or hook that does not exist.
    """
    hooks.check(spec.hooks)
    before, after = (
        (("/bin/sh", "-ec", spec.hooks[name], name),) if spec.hooks.get(name) else ()
        for name in ("before_env", "after_env")
    )
    mode = spec.env_mode or ("use" if spec.env.startswith("/") else "create")
    name = spec.env or (own if mode == "private" else "")
    source, prefer = spec.env_source or "staged", spec.env_prefer or "staged"
    return Wanted(mode, name, source, spec.python, spec.env_base, prefer, before, after)


def values_of(spec: PilotSpec, system: BatchSystem, name: SiteName, token: str, place: str) -> dict[str, Any]:
    """Return what the batch system is asked for, by attribute.

    Without any word about cores a pilot is whole nodes, where the system can say that.

    Raises:
        RequestError: an unknown option, or a value of the wrong kind, named.
    """
    nodes = max(spec.nodes, 1) + spec.backup
    if nodes > NODES_MOST:
        raise RequestError(f"nodes: {nodes} with those in reserve", hint=f"at most {NODES_MOST}", code="JRM-Q17")
    values: dict[str, Any] = {"nodes": nodes, "token": token}
    if system.attributes["workdir"].args or system.attributes["workdir"].default:
        values["workdir"] = place
    values["stdout"] = values["stderr"] = f"{place}/job.log"
    pattern = system.attributes["name"].pattern if "name" in system.attributes else ".*"
    values["name"] = spec.name if spec.name and re.fullmatch(pattern, spec.name) else "jrm-pilot"
    asked = {"queue": spec.queue, "project": spec.project, "walltime": spec.walltime or None}
    if spec.cores:
        asked["cores_per_node"] = -(-spec.cores // max(spec.nodes, 1))
    if spec.gpus:
        asked["gpus_per_node"] = -(-spec.gpus // max(spec.nodes, 1))
    if spec.mem:
        asked["mem_per_node"] = f"{spec.mem}MiB"
    defaults = {key: value for key, value in name.given.items() if key in system.attributes and key not in _OF_FILE}
    values |= defaults
    values |= {key: value for key, value in asked.items() if value}
    for key, text in spec.options.items():
        if key in NOT_YOURS:
            raise RequestError(f"options[{key!r}]: is not yours to choose", hint="leave it out", code="JRM-Q21")
        if key in OF_A_FIELD:
            raise RequestError(f"options[{key!r}]: is a field", hint=f"say {OF_A_FIELD[key]}=", code="JRM-Q21")
        values[key] = _typed(system, key, text)
    if nodes > 1 and "no_kill" in system.attributes:
        values.setdefault("no_kill", True)  # the agent goes on with the others
    whole = system.attributes.get("exclusive")
    if whole is not None and whole.args and "cores_per_node" not in values:
        values.setdefault("exclusive", True)
    return values


def _typed(system: BatchSystem, key: str, text: str) -> Any:
    attribute = system.attributes.get(key)
    if attribute is None:
        free = [each.name for each in system.attributes.values() if each.visible and not each.product]
        free = [each for each in free if each not in OF_A_FIELD and each not in NOT_YOURS]
        near = difflib.get_close_matches(key, free, 1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(free)}"
        raise RequestError(f"options[{key!r}]: no such attribute here", hint=hint, code="JRM-Q22")
    if attribute.type == "bool" and text.lower() in _FLAGS:
        return _FLAGS[text.lower()]
    if attribute.type == "list":
        return [part for part in text.split(attribute.separator) if part]
    return text
