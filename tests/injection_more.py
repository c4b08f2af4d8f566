"""Hostile text through all other text that a person gives: labels, names, sites, scripts, bundles, facts, paths.

Read next: :mod:`injection_kit`, which says where each field is sent.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from injection_kit import PATIENT_S, Count, Trap, file_fits, passes

import jupyter_rm as jrm
from jupyter_rm.batch import load
from jupyter_rm.broker import ownscript
from jupyter_rm.client import bundle, script, sitecare, sites
from jupyter_rm.client.pilot import Pilot
from jupyter_rm.client.session import Session
from jupyter_rm.client.tunnel import goal
from jupyter_rm.core.sound import check_pilot
from jupyter_rm.model.errors import JrmError, LinkError, RequestError, SiteError
from jupyter_rm.runtime.connect import Connections, ConnectSettings, Nobody, Target

_PARTS = ("site", "target", "scheme", "host", "user", "port")
_OF_TASK = {
    "timeout": "timeout", "mem": "mem", "lfs": "lfs", "gpus": "gpus", "cores": "cores", "ranks": "ranks",
    "priority": "priority", "retries": "retries", "numa": "numa", "restart": "restart", "on_silence": "on_silence",
    "mode": "mode", "requires": "requires", "partition": "partition",
}  # fmt: skip
_OF_PILOT = ("walltime", "mem", "drain", "nodes", "cores", "gpus", "backup", "partitions", "renew", "capabilities")
_URLS = ("{}://alice@tb-slurm", "ssh://{}", "ssh://{}@tb-slurm", "slurm+ssh://alice@{}", "sge+ssh://tb-sge:{}",
         "slurm://{}", "{}+ssh://tb-slurm")  # fmt: skip
_OUTPUTS = ("stdout", "stderr", "workdir")


class OtherFields:
    """Text that is no field of a task's program, on one pilot.

    Args:
        url: of the pilot's site. base: a directory here. most: how many go where each costs a job or a login.
    """

    def __init__(
        self, session: Session, pilot: Pilot, trap: Trap, texts: Sequence[str], base: Path, url: str, most: int
    ) -> None:
        self._session, self._pilot, self._trap, self._texts = session, pilot, trap, texts
        self._base, self._url, self._most = base, url, most
        self._jobs: list[tuple[str, Any]] = []
        self.counts: dict[str, Count] = {}

    def all(self) -> dict[str, Count]:
        """Send every string through every field; return what became of them."""
        parts = ("words", "sites", "scripts", "labels", "waiting", "facts", "services")
        for part in (*parts, "environments", "bundles", "jobs"):
            getattr(self, part)()
        return self.counts

    def _refused(
        self,
        name: str,
        starts: str | tuple[str, ...],
        call: Callable[[str], Any],
        texts: Sequence[str] | None = None,
    ) -> list[str]:
        """Count refusals by field; return what was taken."""
        count = self.counts.setdefault(name, Count())
        taken = []
        for text in self._texts if texts is None else texts:
            count.sent += 1
            try:
                call(text)
            except RequestError as error:
                count.refused += 1
                if not error.message.startswith(starts):
                    count.note(f"{name}: {text!r} is refused as {error.message!r}")
            except Exception as error:
                count.note(f"{name}: {text!r}: {type(error).__name__}: {error}")
            else:
                count.arrived += 1
                taken.append(text)
        return taken

    # ------------------------------------------------------------ what is a word, a number, a name, or refused

    def words(self) -> None:
        """Fields that take one of few words, a quantity, a name of something there, or the path of a file here."""
        session, pilot = self._session, self._pilot
        for name, start in _OF_TASK.items():
            self._refused(name, start, lambda text, name=name: jrm.Task("/bin/true", **{name: text}))
        for name in _OF_PILOT:
            self._refused(
                f"pilot {name}", name, lambda text, name=name: script.capacity.pilot_spec(self._url, {name: text})
            )
        self._refused("tags keys", "tags", lambda text: jrm.Task("/bin/true", tags={text: "x"}))
        self._refused("resources", "resources", lambda text: jrm.Task("/bin/true", resources={text: 1}))
        self._refused("after", "after", lambda text: session.submit(jrm.Task("/bin/true", after=text)))
        self._refused("open", ("name", "there is no session"), lambda text: jrm.open(text, create=False))
        self._refused("uid", "", lambda text: session[text])
        self._refused("fs of", "fs", session.fs)
        self._refused("view", "", session.view)
        self._refused("sql", "sql", session.sql)
        self._refused("where", "state", lambda text: session.tasks().where(text))
        self._refused("wait", "state", lambda text: pilot.wait(text, timeout=0))
        self._refused("tunnel to", "to", goal)
        # Not what is there by chance: it would be copied.
        files = [text for text in self._texts if text != "~" and text[:2] != "~/" and not os.path.exists(text)]
        self._refused("stage", "stage", session.stage, files)
        self._refused("fs put", "local", lambda text: session.fs(pilot).put(text), files)
        self._refused("bundle file", "", lambda text: bundle.read(text), files)
        self._refused("site file", "", sitecare.install, files)
        done = session.submit(jrm.Task("/bin/true", pilot=pilot.uid))
        done.wait(PATIENT_S)
        some = self._texts[: self._most]
        self._refused("files", "", lambda text: session.files(done, text, to=self._base / "files"), some)

    # ------------------------------------------------------------ sites

    def sites(self) -> None:
        """Names and addresses of sites: refused, or a login that fails; and the files that name them."""
        asked = [text for text in self._refused("site", "site", self._ask) if text not in ("local", "noop")]
        for url in _URLS:
            asked += [
                url.format(text)
                for text in self._refused("site address", _PARTS, lambda text, url=url: self._parsed(url.format(text)))
            ][: self._most // 4]
        self._refused_logins(asked)
        self._refused("new site", "name", lambda text: sites.new(text, "slurm+ssh://alice@tb-slurm"))
        self._refused("new site address", _PARTS, lambda text: sites.new("mine", text))
        self._refused("bundle site", _PARTS, self._made)

    def _ask(self, text: str) -> None:
        self._session.pilot(text).cancel()

    @staticmethod
    def _parsed(url: str) -> None:
        script.capacity.pilot_spec(url, {})
        ownscript.parse(url)

    def _refused_logins(self, urls: Sequence[str]) -> None:
        """Log in where a host or account of such a name was taken: there is none, and that is what is said."""
        count = self.counts["logins"] = Count()
        connections = Connections(ConnectSettings.load() if hasattr(ConnectSettings, "load") else ConnectSettings())
        for url in urls:
            count.sent += 1
            try:
                connections.get(Target.parse("ssh://" + url.partition("://")[2]), Nobody())
                count.arrived += 1
            except (LinkError, SiteError, RequestError):
                count.failed += 1
            except Exception as error:
                count.note(f"{url!r}: {type(error).__name__}: {error}")

    def _made(self, text: str) -> None:
        path = bundle.make(self._base / "made.toml", text, force=True)
        site, _, _ = bundle.read(path)
        assert site == text, f"{site!r} was written for {text!r}"

    # ------------------------------------------------------------ scripts

    def scripts(self) -> None:
        """The path of a script here, its name, and what is asked for it; some are really run."""
        paths = [text for text in self._texts if "\n" not in text]  # what has several lines is a script itself
        self._refused("script", ("script", "site"), lambda text: self._session.script(self._url, text), paths)
        system = self._url.partition("+ssh")[0]
        if system not in ("slurm", "sge"):
            return
        for name, attribute in load(system).attributes.items():
            if attribute.type in ("string", "path", "list", "choice") or name in _OUTPUTS:
                starts = (name, f"options[{name!r}]")
                self._refused(f"script {name}", starts, lambda text, name=name: self._checked(name, text))
        names = [text for text in self._texts if file_fits(text) and "/" not in text and "\n" not in text][: self._most]
        for number, name in enumerate(names):
            path = self._base / "scripts" / str(number) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text('#!/bin/sh\nprintf "%s\\n" ran\n')
            self._jobs.append((name, self._session.script(self._url, path)))

    def _checked(self, name: str, text: str) -> None:
        spec = script.script_spec(self._url, b"#!/bin/sh\n", "x", {name: text})
        check_pilot(spec)
        ownscript.check(spec)

    def jobs(self) -> None:
        """What became of the scripts that were submitted meanwhile."""
        count = self.counts["scripts run"] = Count(len(self._jobs))
        for name, job in self._jobs:
            if job.wait(PATIENT_S) == "DONE" and job.name == name and job.stdout() == "ran\n":
                count.arrived += 1
            else:
                count.note(f"{name!r}: {job.name!r} {job.state} {job.reason} {job.stdout()!r}")

    # ------------------------------------------------------------ what is kept with a task

    def _run(
        self, count: Count, make: Callable[[str], jrm.Task], starts: str | tuple[str, ...], *more: str
    ) -> list[tuple[str, Any]]:
        """Run a task for each text that is taken, and for some ``more``; return them."""
        made = []
        for text in (*self._texts, *more):
            count.sent += 1
            try:
                made.append((text, make(text)))
            except RequestError as error:
                count.refused += 1
                if not error.message.startswith(starts):
                    count.note(f"{text!r} is refused as {error.message!r}")
        bulk = self._session.submit([task for _, task in made])
        if not bulk.wait(PATIENT_S):
            count.note(f"not over: {bulk.counts()}")
        return list(zip([text for text, _ in made], bulk, strict=True))

    def labels(self) -> None:
        """Metadata and tags are kept with the task, and change nothing about it."""
        kinds: dict[str, tuple[tuple[str, ...], Callable[[str], dict[str, Any]], Callable[[Any], set[str]]]] = {
            "metadata and tags": (
                ("metadata", "tags"),
                lambda text: {"metadata": {"k": text}, "tags": {"colocate": text}},
                lambda form: {dict(form.metadata)["k"], form.colocate},
            ),
            "metadata keys": (
                ("metadata",),
                lambda text: {"metadata": {text: "v"}},
                lambda form: {form.metadata[0][0]},
            ),
        }
        for name, (starts, fields, read) in kinds.items():
            count = self.counts[name] = Count()
            make = lambda text, fields=fields: jrm.Task("/bin/true", pilot=self._pilot.uid, **fields(text))  # noqa: E731
            for text, task in self._run(count, make, starts):
                kept = read(task._table().form.template)
                if task.state == "DONE" and kept == {text}:
                    count.arrived += 1
                else:
                    count.note(f"{name}={text!r}: {task.state} {task.reason} {kept!r}")

    def waiting(self) -> None:
        """Capabilities: a task waits for one of such a name until the pilot has it; only names are taken."""
        count = self.counts["capabilities"] = Count(len(self._texts))
        taken = []
        for text in self._texts:
            try:
                make = jrm.Task("/bin/true", pilot=self._pilot.uid, requires={text})
            except RequestError:
                count.refused += 1
                try:
                    self._pilot.add_capability(text)
                    count.note(f"{text!r} was taken")
                except RequestError as error:
                    if not error.message.startswith("capabilities"):
                        count.note(f"{text!r} is refused as {error.message!r}")
                continue
            taken.append((text, self._session.submit(make)))
        for text, task in taken[:100]:
            waited = not task.done()
            self._pilot.add_capability(text)
            if waited and task.wait(PATIENT_S) and task.state == "DONE":
                count.arrived += 1
            else:
                count.note(f"{text!r}: {task.state} {task.reason}")
        for _, task in taken[100:]:
            task.cancel()
            count.arrived += 1

    def facts(self) -> None:
        """Names of facts: refused, not known where the task starts, or no name at all but text that arrives."""
        count = self.counts["facts"] = Count()
        record = str(self._trap.record)
        make = lambda text: jrm.Task(record, [f"${{facts.{text}}}"], pilot=self._pilot.uid)  # noqa: E731
        for text, task in self._run(count, make, "arguments[0]"):
            name, end, _ = f"{text}}}".partition("}")
            if task.state == "FAILED" and end and name in task.reason and "arguments" in task.reason:
                count.failed += 1
            elif task.state == "DONE" and self._told(task)[0] == os.fsencode(f"${{facts.{text}}}"):
                count.arrived += 1
            else:
                count.note(f"{text!r}: {task.state} {task.reason}")

    def services(self) -> None:
        """Names of services are refused or known; endpoints, given or printed by a service, arrive as they are."""
        session, pilot, uid = self._session, self._pilot, self._pilot.uid
        for text in self._refused("service names", "name", lambda text: session.register_service(text, "x:1")):
            jrm.Task("/bin/true", services=text)
        self._refused(
            "ready", "ready", lambda text: jrm.Service("/bin/true", name="s", ready=text) and text
        )  # none is tried here: a pattern from a stranger may take for ever
        count = self.counts["endpoints"] = Count()
        numbers = {text: number for number, text in enumerate(self._texts)}

        def told(text: str) -> jrm.Task:
            session.register_service(f"e{numbers[text]}", text)
            return jrm.Task(
                "/usr/bin/printenv", [f"JRM_INFO_E{numbers[text]}"], services=f"e{numbers[text]}", pilot=uid
            )

        for text, task in self._run(count, told, ("endpoint", "services")):
            if task.state == "DONE" and Path(f"{task.sandbox}/stdout").read_bytes() == os.fsencode(text) + b"\n":
                count.arrived += 1
            else:
                count.note(f"{text!r}: {task.state} {task.reason}")
        count = self.counts["endpoints printed"] = Count()
        lines = [text for text in self._texts if text.strip() == text and text.isprintable() and passes(text)]
        script = 'printf "%s\\n" "$1"; exec sleep 1000'
        room = sum(node.cores for node in pilot.nodes) > 1  # for a service and a task that uses it
        for number, text in enumerate(lines[: 12 * room]):
            count.sent += 1
            made = jrm.Service(
                "/bin/sh", ["-c", script, "sh", text], name=f"p{number}", ready="^(.*)$", pilot=pilot.uid
            )
            service = session.submit(made)
            endpoint = service.wait_ready(PATIENT_S)
            task = session.submit(
                jrm.Task("/usr/bin/printenv", [f"JRM_INFO_P{number}"], services=f"p{number}", pilot=uid)
            )
            if endpoint == text and task.wait(PATIENT_S) == "DONE" and task.stdout() == f"{text}\n":
                count.arrived += 1
            else:
                count.note(f"{text!r}: {endpoint!r} {task.state} {task.reason}")
            service.cancel()
            service.wait(PATIENT_S)

    def _told(self, task: Any) -> list[bytes]:
        return Path(f"{task.sandbox}/stdout").read_bytes().split(b"\0")

    # ------------------------------------------------------------ environments

    def environments(self) -> None:
        """Named environments: a name that the pilot has not, and directories of such names that are one."""
        count = self.counts["named_env"] = Count()
        make = lambda text: jrm.Task("/bin/true", named_env=text, pilot=self._pilot.uid)  # noqa: E731
        for text, task in self._run(count, make, "named_env", f"/{'n' * 300}", "/dev/null/x"):
            if task.state == "FAILED" and "named_env" in task.reason:
                count.failed += 1
            elif task.state == "DONE" and not text:
                count.arrived += 1
            else:
                count.note(f"{text!r}: {task.state} {task.reason}")
        count = self.counts["named_env directories"] = Count()
        where: dict[str, str] = {}
        root = tempfile.mkdtemp(prefix="envs", dir=self._trap.place)
        Path(root).chmod(0o755)
        for number, text in enumerate(self._texts):
            if file_fits(text) and ".." not in text.split("/"):  # two that lead out may meet
                where[text] = f"{root}/{number}/{text}"
                folder = Path(where[text])
                (folder / "bin").mkdir(parents=True)
                (folder / "pyvenv.cfg").touch()
                for name in ("python", "jrm-tool"):
                    (folder / "bin" / name).symlink_to(self._trap.record)

        def inside(text: str) -> jrm.Task:
            if text not in where:
                raise RequestError("named_env: no directory can have this name", code="JRM-Q05", hint="")
            return jrm.Task("jrm-tool", [text], named_env=where[text], pilot=self._pilot.uid,
                            pre_launch=['printf %s "$VIRTUAL_ENV" >venv'])  # fmt: skip

        for text, task in self._run(count, inside, "named_env"):
            if task.state == "FAILED" and "named_env" in task.reason and ":" in text:
                count.failed += 1  # PATH cannot hold it
                continue
            told = Path(f"{task.sandbox}/venv").read_bytes() if task.state == "DONE" else b""
            if told == os.fsencode(where[text]) and self._told(task)[0] == os.fsencode(text):
                count.arrived += 1
            else:
                count.note(f"{text!r}: {task.state} {task.reason} {told!r}")

    # ------------------------------------------------------------ bundles

    def bundles(self) -> None:
        """A bundle whose tasks get all strings as arguments: described here, and in a file."""
        if not self._most and self._url != "local":
            return
        good = [text for text in self._texts if passes(text)]
        work = jrm.Array(jrm.Task(str(self._trap.record), ["{x}", "plain"], environment={"HOSTILE": "{x}"}), x=good)
        self._bundle("bundle", good, lambda: self._session.bundle(self._url, work, **self._cores()))
        if not self._most:
            return
        path = self._base / "bundle.toml"
        good = good[:1000]
        quoted = [json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f") for text in good]
        lines = [f"site = {json.dumps(self._url)}", *[f"{name} = {value}" for name, value in self._cores().items()]]
        lines += ["[[work]]", f"executable = {json.dumps(str(self._trap.record))}", 'arguments = ["{x}", "plain"]']
        lines += ['environment = { HOSTILE = "{x}" }', "[work.columns]", f"x = [{', '.join(quoted)}]"]
        path.write_bytes(os.fsencode("\n".join(lines)))
        self._bundle("bundle from a file", good, lambda: self._session.bundle(path))

    def _cores(self) -> dict[str, int]:
        return {"cores": 2} if self._url == "local" else {}

    def _bundle(self, name: str, texts: Sequence[str], submit: Callable[[], Any]) -> None:
        count = self.counts[name] = Count(len(texts))
        try:
            made = submit()
        except JrmError as error:
            count.note(error.message)
            return
        made.wait(PATIENT_S)
        for text, task in zip(texts, made.tasks, strict=True):
            raw = os.fsencode(text)
            told = self._told(task) if task.state == "DONE" else []
            if told[:3] == [raw, b"plain", raw]:
                count.arrived += 1
            else:
                count.note(f"{text!r}: {task.state} {task.reason} {told!r}")
        made.pilot.cancel()
        made.pilot.wait("DONE", 60)


def run(session: Session, pilot: Pilot, trap: Trap, texts: Sequence[str], url: str, most: int) -> dict[str, Count]:
    """Send every string through every other field; return what became of them."""
    with tempfile.TemporaryDirectory(prefix="jrm-more-") as base:
        saved = os.environ.get("XDG_CONFIG_HOME")
        os.environ["XDG_CONFIG_HOME"] = f"{base}/config"
        try:
            return OtherFields(session, pilot, trap, texts, Path(base), url, most).all()
        finally:
            os.environ.pop("XDG_CONFIG_HOME") if saved is None else os.environ.update(XDG_CONFIG_HOME=saved)
