"""Descriptions: who extends and overrides whom, where a value came from, and what is said of a wrong one."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from jupyter_rm.agent.launch.methods import METHODS
from jupyter_rm.batch import LAUNCHES, check, known, load, recognise, recognised_by
from jupyter_rm.batch.check import EVERY_LEAST
from jupyter_rm.batch.files import PACKAGED
from jupyter_rm.batch.lines import key_lines
from jupyter_rm.model.errors import RequestError
from jupyter_rm.runtime.collect import LEAST_JOBS

GOOD = """
extends = "base"
[ops.submit]
argv = ["put", "{script}"]
reader = "id"
[ops.status]
argv = ["look", "{ids:each}"]
reader = "look"
[ops.cancel]
argv = ["stop", "{ids:each}"]
[readers.id]
format = "regex"
pattern = '^(?P<id>[0-9]+)$'
fields = { id = "id" }
[readers.look]
format = "table"
columns = ["id", "state"]
fields = { id = "id", state = "state" }
[states]
R = "running"
"""


def put(place: Path, name: str, text: str) -> Path:
    place.mkdir(exist_ok=True)
    path = place / f"{name}.toml"
    path.write_text(text)
    return path


def test_all_packaged_descriptions_are_in_order() -> None:
    names = known()
    assert {
        "base",
        "local",
        "sim",
        "slurm",
        "slurm-json",
        "pbs",
        "torque",
        "sge",
        "lsf",
        "htcondor",
        "flux",
        "cobalt",
        "oar",
    } <= set(names)
    assert {name: check(name) for name in names} == {name: [] for name in names}
    for name in set(names) - {"base"}:
        system = load(name)
        assert {"submit", "status", "cancel", "find"} <= set(system.ops), name
        assert system.poll["every_s"] >= system.poll["least_s"] > 0 and system.most_ids("status") >= 1
        assert system.get("source"), f"{name} does not say what it rests on"


def test_a_user_file_changes_single_keys_and_says_where_from(tmp_path: Path) -> None:
    site = put(tmp_path / "site", "slurm", 'extends = "slurm"\n[poll]\nevery_s = 60\nleast_s = 45\n')
    user = put(
        tmp_path / "user", "slurm", 'extends = "slurm"\n\n[attributes.queue]\ndefault = "debug"\n[poll]\nevery_s = 90\n'
    )
    search = [tmp_path / "user", tmp_path / "site"]
    plain, mine = load("slurm"), load("slurm", search)
    assert mine.poll == {**plain.poll, "every_s": 90, "least_s": 45}
    assert mine.files == (str(user), str(site), str(PACKAGED / "slurm.toml"), str(PACKAGED / "base.toml"))
    values = {"token": "jrm0a1b2c3d", "script": "/b", "walltime": 60}
    before, after = plain.render("submit", values).argv, mine.render("submit", values).argv
    assert [one for one in after if one not in before] == ["--partition=debug"]
    assert [one for one in before if one not in after] == []
    said = mine.explain("poll.every_s")
    assert said.splitlines() == [
        f"poll.every_s = 90  from {user}:6",
        f"  hides 60  from {site}:3",
        f"  hides 30  from {PACKAGED / 'base.toml'}:{key_lines((PACKAGED / 'base.toml').read_text())['poll.every_s']}",
    ]
    assert f"attributes.queue.default = 'debug'  from {user}:4" in mine.explain("attributes.queue")
    assert mine.explain("states.RUNNING").startswith("states.RUNNING = 'running'  from ")
    # Nothing else changed.
    differ = {key for key, value in mine.get("*").items() if plain.get("*").get(key) != value}
    assert differ == {"poll.every_s", "poll.least_s", "attributes.queue.default", "extends"}


def test_a_description_under_a_new_name_and_by_path(tmp_path: Path) -> None:
    path = put(
        tmp_path,
        "mycluster",
        """extends = "slurm"
title = "My cluster"
[attributes.walltime]
max = "8h"
[attributes.licence]
args = ["--licenses={value}"]
""",
    )
    for system in (load("mycluster", [tmp_path]), load(path), load(str(path))):
        assert system.title == "My cluster" and system.name == "mycluster"
        command = system.render("submit", {"script": "/b", "token": "jrm0a1b2c3d", "licence": "abaqus"})
        assert "--licenses=abaqus" in command.argv
        with pytest.raises(RequestError, match=r"^walltime: '9h' is above 8h"):
            system.render("submit", {"script": "/b", "walltime": "9h"})
    assert known([tmp_path])["mycluster"] == path


def test_a_value_in_the_place_of_a_table_hides_it(tmp_path: Path) -> None:
    path = put(
        tmp_path,
        "mine",
        'extends = "slurm"\n[readers.squeue.fields]\ntoken = "comment"\nqueue = { path = "queue", match = "^x" }\n',
    )
    system = load(path)
    assert system.get("readers.squeue.fields.token") == "comment"
    assert "token.match" not in system.explain("readers.squeue.fields")
    assert system.get("readers.squeue.fields.queue") == {"path": "queue", "match": "^x"}


def test_dotted_questions() -> None:
    system = load("slurm")
    assert system.get("ops.cancel.argv") == ["scancel", "{ids:each}"]
    assert system.get("poll")["every_s"] == 30
    assert set(system.get("ops.*.timeout_s")) == {"ops.submit.timeout_s", "ops.script.timeout_s"}
    with pytest.raises(RequestError) as caught:
        system.get("ops.cancel.argw")
    assert caught.value.hint == "did you mean 'ops.cancel.argv'?"
    with pytest.raises(RequestError) as caught:
        system.explain("attributes.quee")
    assert caught.value.hint == "did you mean 'attributes.queue'?"
    with pytest.raises(RequestError, match="no such key"):
        system.explain("wings")
    with pytest.raises(RequestError) as caught:
        load("slrum")
    assert caught.value.hint == "did you mean 'slurm'?"


@pytest.mark.parametrize(
    ("text", "environ", "value"),
    [
        ("${QUEUE:batch}", {}, "batch"),
        ("${QUEUE:batch}", {"QUEUE": "fast"}, "fast"),
        ("${QUEUE}", {"QUEUE": "fast"}, "fast"),
        ("a-${X:b}-${Y:c}", {"Y": "z"}, "a-b-z"),
        ("${N:30}", {}, 30),
        ("${N:30}", {"N": "45"}, 45),
        ("${N:1.5}", {}, 1.5),
        ("x${N:30}", {}, "x30"),
        ("$${N:30}", {"N": "1"}, "${N:30}"),
        ("$N", {"N": "1"}, "$N"),
        ("${}", {}, "${}"),
        ("${N:-3}", {}, -3),
        ("${A:${B:c}}", {}, "${B:c}"),
        ("${TMP:-/tmp}", {}, "/tmp"),
        ("${QUEUE:}", {}, ""),
        ("${QUEUE}", {"QUEUE": "12345"}, "12345"),
    ],
)
def test_variables(tmp_path: Path, text: str, environ: dict[str, str], value: object) -> None:
    path = put(
        tmp_path,
        "mine",
        f"extends = 'slurm'\n[reasons]\nTest = '{text}'\n"
        if isinstance(value, str)
        else f"extends = 'slurm'\n[poll]\nnodes_s = '{text}'\n",
    )
    if value == -3:
        with pytest.raises(RequestError, match="a number, 0 or more"):
            load(path, environ=environ)
        return
    system = load(path, environ=environ)
    assert system.get("reasons.Test" if isinstance(value, str) else "poll.nodes_s") == value


def test_a_variable_that_is_not_set_is_told(tmp_path: Path) -> None:
    path = put(tmp_path, "mine", "extends = 'slurm'\n[site]\nurl = 'slurm+ssh://${NOBODY}@login'\n")
    (problem,) = check(path, environ={})
    assert str(problem).startswith(f"{path}:3: site.url: expected a variable that is set here")
    with pytest.raises(RequestError, match="NOBODY"):
        load(path, environ={"USER": "me"})
    assert check(path, environ={"NOBODY": "me"}) == []
    put(tmp_path, "over", "extends = 'mine'\n[site]\nurl = 'slurm+ssh://me@login'\n")
    assert check("over", [tmp_path], {}) == [], "it is hidden by another value"


def test_variables_in_lines_for_a_shell_there_belong_to_it(tmp_path: Path) -> None:
    path = put(
        tmp_path,
        "mine",
        """extends = "slurm"
[site]
python = ". ${HOME}/setup.sh"
queue = "${HOME}"
[hooks]
before_agent = ["rm -rf ${TMP:-/tmp}/old", "export PATH=${HOME}/bin:${PATH}"]
[probe.scratch]
command = "echo ${SCRATCH}"
[probe.home]
command = ["sh", "-c", "echo ${HOME}"]
""",
    )
    assert check(path, environ={"HOME": "here"}) == []
    system = load(path, environ={"HOME": "here"})
    assert system.table("site") == {"python": ". ${HOME}/setup.sh", "queue": "here"}
    assert system.get("hooks.before_agent") == ["rm -rf ${TMP:-/tmp}/old", "export PATH=${HOME}/bin:${PATH}"]
    assert system.get("probe.*.command") == {
        "probe.scratch.command": "echo ${SCRATCH}",
        "probe.home.command": ["sh", "-c", "echo ${HOME}"],
    }


def test_keys_are_never_expanded(tmp_path: Path) -> None:
    path = put(tmp_path, "mine", "extends = 'slurm'\n[reasons]\n'${A:b}' = 'x'\n")
    assert load(path).get("reasons")["${A:b}"] == "x"


@pytest.mark.parametrize(
    ("change", "path", "expected", "found"),
    [
        ("[ops.cancle]\nargv = ['x']", "ops.cancle", "one of submit", "cancle"),
        ("colour = 'red'", "colour", "one of title", "the unknown key 'colour'"),
        ("[poll]\nevery_s = 'often'", "poll.every_s", "a number", "often"),
        ("[poll]\nids = 0", "poll.ids", "a whole number, 1 or more", "0"),
        ("[states]\nQ = 'waiting'", "states.Q", "unknown, queued", "waiting"),
        ("[states]\nQ = 'failed:sadly'", "states.Q", "unknown, queued", "failed:sadly"),
        ("[readers.look]\nformat = 'yaml'", "readers.look.format", "one of json, table", "yaml"),
        ("[readers.look]\nskip = '('", "readers.look.skip", "a regular expression", "("),
        ("[readers.look.fields]\nmood = 'x'", "readers.look.fields.mood", "one of id, state", "mood"),
        ("[readers.look.fields]\nnodes = { path = 'x', form = 'tree' }", "readers.look.fields.nodes.form", "", ""),
        ("[ops.queues]\nargv = ['x']", "ops.queues.reader", "the name of a reader", "none"),
        ("[ops.queues]\nargv = ['x']\nreader = 'nosuch'", "ops.queues.reader", "one of id, look", "nosuch"),
        ("[ops.submit]\nargv = []", "ops.submit.argv", "a list of arguments", "[]"),
        ("[ops.submit]\nargv = ['put', '{wings}']", "ops.submit.argv", "names of attributes", "{wings}"),
        (
            "[ops.submit]\nargv = ['put', '{walltime:weeks}']",
            "ops.submit.argv",
            "a form of duration",
            "{walltime:weeks}",
        ),
        ("[ops.submit]\nargv = ['put', '{script']", "ops.submit.argv", "a template", "{script"),
        ("[attributes.nodes]\nmin = 'few'", "attributes.nodes.min", "a int", "few"),
        ("[attributes.nodes]\ndefault = 0", "attributes.nodes.default", "fits the attribute", "below 1"),
        ("[attributes.x]\ntype = 'colour'", "attributes.x.type", "one of string", "colour"),
        ("[attributes.x]\ntype = 'choice'", "attributes.x.choices", "choices", "none"),
        ("[attributes.x]\ndepends = 'wings'", "attributes.x.depends", "names of attributes", "wings"),
        ("[attributes.x]\ndepends = 'queue =='", "attributes.x.depends", "a condition", "queue =="),
        (
            "[attributes.x]\ndepends = 'y'\n[attributes.y]\ndepends = 'not x'",
            "attributes.x.depends",
            "without a circle",
            "not x",
        ),
        ("[attributes.x]\nproduct = ['nodes', 'x']", "attributes.x.product", "names of attributes", "x"),
        ("[attributes.X]\ntype = 'int'", "attributes.X", "a name of small letters", "X"),
        ("[job]\nnodes = [{ var = 'X', form = 'tree' }]", "job.nodes", "a list of", "tree"),
        ("[reason_rules.x]\nsay = 'x'", "reason_rules.x.match", "a regular expression", "none"),
        ("[errors.x]\nmatch = 'x'", "errors.x.say", "what to look for", "none"),
        ("[errors.x]\nmatch = 'x'\nsay = 'y'\nops = ['fly']", "errors.x.ops", "some of submit", "fly"),
        ("token_in = 'shoe'", "token_in", "name, comment or variable", "shoe"),
        ("[hooks]\nafter_lunch = 'true'", "hooks.after_lunch", "one of before_env", "after_lunch"),
        ("[hooks]\nbefore_env = 5", "hooks.before_env", "a shell line", "5"),
        ("[probe.x]\ntype = 'int'", "probe.x.command", "what to run", "none"),
        ("[probe.x]\ncommand = 'id'\ntype = 'number'", "probe.x.type", "one of text, int", "number"),
        ("[probe.x]\ncommand = 'id'\nwhere = 'moon'", "probe.x.where", "one of login, node", "moon"),
        ("[probe.'x y']\ncommand = 'id'", "probe.x y", "a name of letters", "x y"),
        ("[site]\nlaunch = 'catapult'", "site.launch", "one of fork, ssh", "catapult"),
        ("[site]\npython = 3", "site.python", "text", "3"),
        ("launch = ['srnu']", "launch", "(did you mean srun?)", "srnu"),
        ("[poll]\nevery_s = 1", "poll.every_s", "30 or more", "1"),
        ("[poll]\nleast_s = 10", "poll.least_s", "30 or more", "10"),
        ("[site]\nurl = 'pbs+ssh://me@login'", "site.url", "a URL of what this file extends, good", "pbs+ssh://me@login"),
        ("[envs]\nsci = 3", "envs.sci", "text", "3"),
    ],
)
def test_a_wrong_description_is_told_file_line_path_expected_found(
    tmp_path: Path, change: str, path: str, expected: str, found: str
) -> None:
    put(tmp_path, "good", GOOD)
    bad = put(tmp_path, "bad", f'extends = "good"\n{change}\n')
    problems = check(bad, [tmp_path])
    assert problems, f"{change!r} passed"
    one = next((p for p in problems if p.path == path or p.path == path.rpartition(".")[0]), None)
    assert one is not None, [str(p) for p in problems]
    assert expected in one.expected and found in one.found
    assert one.file == str(bad) and one.line >= 2
    assert str(one).startswith(f"{bad}:{one.line}: ")
    with pytest.raises(RequestError, match="expected"):
        load(bad, [tmp_path])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title = \n", "not TOML"),
        ("a = 1\na = 2\n", "not TOML"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, text: str, words: str) -> None:
    bad = put(tmp_path, "bad", text)
    (problem,) = check(bad, [tmp_path])
    assert words in problem.found, str(problem)
    with pytest.raises(RequestError, match=words.replace("=", ".")):
        load(bad, [tmp_path])


@pytest.mark.parametrize(
    ("said", "found", "near"),
    [('"slrum"', "slrum", " (did you mean slurm?)"), ('"alone"', "alone", ""), ("7", "7", "")],
)
def test_what_is_extended_must_be_there(tmp_path: Path, said: str, found: str, near: str) -> None:
    bad = put(tmp_path, "alone", f"title = 'x'\nextends = {said}\n")
    (problem,) = check(bad, [tmp_path])
    assert str(problem).startswith(f"{bad}:2: extends: expected one of ") and problem.found == found
    assert problem.expected.endswith(near) and ("did you mean slurm" in problem.expected) == bool(near)
    with pytest.raises(RequestError, match="extends: expected one of") as caught:
        load(bad, [tmp_path])
    assert caught.value.code == "JRM-Q24"


def test_nothing_is_lost_of_two_mistakes_in_one_table(tmp_path: Path) -> None:
    bad = put(tmp_path, "bad", 'extends = "slurm"\n[login]\nsessions = 2\nresident = "no"\n')
    assert [problem.path for problem in check(bad)] == ["login.resident", "login", "login.sessions"]


def test_the_pace_of_a_batch_system_is_known_to_the_check() -> None:
    assert EVERY_LEAST == LEAST_JOBS


def test_circles(tmp_path: Path) -> None:
    one = put(tmp_path, "one", 'extends = "two"\n')
    put(tmp_path, "two", 'extends = "one"\n')
    (problem,) = check(one, [tmp_path])
    assert "one.toml -> two.toml -> one.toml" in problem.found
    with pytest.raises(RequestError, match="extends itself"):
        load("two", [tmp_path])
    assert check(tmp_path / "nosuch.toml")[0].found == "No such file or directory"
    (tmp_path / "latin.toml").write_bytes(b"title = '\xe9'\n")
    assert "not UTF-8" in check(tmp_path / "latin.toml")[0].found


def test_a_description_without_its_operations(tmp_path: Path) -> None:
    path = put(tmp_path, "thin", 'extends = "base"\n[ops.status]\nargv = ["x", "{ids}"]\nreader = "look"\n')
    found = {(problem.path, problem.found) for problem in check(path)}
    assert {("ops.submit", "none"), ("ops.cancel", "none"), ("states", "none")} <= found
    assert check(put(tmp_path, "abstract", "abstract = true\n[poll]\nevery_s = 5\n")) == []


def test_lines_of_keys() -> None:
    text = """a = 1
[b.c]
d = [
  "x = 1", # ]
  2]
"e.f" = \"\"\"
[no]
g = 1
\"\"\"
h.i = { j = 1, k = "{" }
[[l]]
m = '''
x'''
n = 1
"""
    assert key_lines(text) == {
        "a": 1, "b": 2, "b.c": 2, "b.c.d": 3, "b.c.e.f": 6, "b.c.h.i": 10, "b.c.h.i.j": 10, "b.c.h.i.k": 10, "l": 11,
        "l.m": 12, "l.n": 14,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("commands", "systems"),
    [
        ("sbatch squeue sinfo", ("slurm",)),
        ("qsub qstat qdel pbs_rstat pbsnodes", ("pbs",)),
        ("qsub qstat qgpumode pbsnodes", ("torque",)),
        ("qsub qstat qconf qacct", ("sge",)),
        ("bsub bjobs", ("lsf",)),
        ("condor_submit condor_q", ("htcondor",)),
        ("flux", ("flux",)),
        ("flux sbatch squeue", ("slurm", "flux")),
        ("oarsub oarstat", ("oar",)),
        ("qsub cqsub cqstat qstat", ("cobalt",)),
        ("qsub qstat", ()),
        ("", ()),
    ],
)
def test_a_machine_is_recognised_by_its_commands(commands: str, systems: tuple[str, ...]) -> None:
    assert recognise(commands.split()) == systems
    assert set(commands.split()) & set(recognised_by()) or not systems


def test_the_floor_is_pure() -> None:
    forbidden = {"time", "random", "secrets", "os", "socket", "subprocess", "asyncio", "threading", "logging"}
    for path in (PACKAGED.parent).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
                assert node.level < 2 or (node.module or "").startswith("model"), f"{path.name} imports {node.module}"
            assert not {name.partition(".")[0] for name in names} & forbidden, path.name
            if path.name != "files.py":
                assert "pathlib" not in names, f"{path.name} reads files"


def test_the_example_of_the_manual_works(tmp_path: Path) -> None:
    manual = Path(__file__).resolve().parent.parent.parent / "docs" / "batch-systems.md"
    example = manual.read_text(encoding="utf-8").partition("```toml\n")[2].partition("```")[0]
    path = put(tmp_path, "mycluster", example)
    assert check(path) == []
    command = load(path).render("submit", {"script": "/b", "token": "jrm0a1b2c3d", "licence": "abaqus@server:2"})
    assert {"--partition=batch", "--licenses=abaqus@server:2"} <= set(command.argv)


def test_the_launch_methods_that_may_be_named_are_those_that_agents_know() -> None:
    assert set(LAUNCHES) == set(METHODS)
