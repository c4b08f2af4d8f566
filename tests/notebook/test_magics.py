"""The magics in a real IPython shell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from world_kit import eventually

import jupyter_rm as jrm
from jupyter_rm.client import settings


@pytest.fixture(scope="module")
def shell(home: Path) -> Iterator[InteractiveShell]:
    ip = InteractiveShell.instance()
    ip.run_line_magic("load_ext", "jupyter_rm")
    value(ip, "%jrm open nb")
    value(ip, "%jrm pilot local --cores 2 --wait")
    yield ip
    ip.run_line_magic("unload_ext", "jupyter_rm")
    InteractiveShell.clear_instance()


def run(ip: InteractiveShell, cell: str) -> tuple[Any, str]:
    """Run a cell; return its result and everything it showed."""
    with capture_output() as shown:
        result = ip.run_cell(cell)
    return result, shown.stdout + shown.stderr


def value(ip: InteractiveShell, cell: str) -> Any:
    result, shown = run(ip, cell)
    assert result.success, shown
    return result.result


def refused(ip: InteractiveShell, cell: str) -> str:
    result, shown = run(ip, cell)
    assert not result.success
    assert "Traceback" not in shown
    return shown


def test_loading_twice_is_harmless(shell: InteractiveShell) -> None:
    before = len(shell.configurables), len(shell.Completer.custom_matchers)
    shell.run_line_magic("reload_ext", "jupyter_rm")
    shell.run_cell("import jupyter_rm; jupyter_rm.load_ipython_extension(get_ipython())")
    assert (len(shell.configurables), len(shell.Completer.custom_matchers)) == before
    value(shell, "%jrm attach nb")


def test_unloading_takes_all_away(home: Path) -> None:
    ip = InteractiveShell()
    before = len(ip.configurables), len(ip.Completer.custom_matchers), ip.custom_exceptions
    jrm.load_ipython_extension(ip)
    assert ip.find_line_magic("jrm")
    jrm.unload_ipython_extension(ip)
    jrm.unload_ipython_extension(ip)
    assert ip.find_line_magic("jrm") is None
    assert ip.find_cell_magic("jrm") is None
    assert (len(ip.configurables), len(ip.Completer.custom_matchers), ip.custom_exceptions) == before


def test_run_a_script(shell: InteractiveShell) -> None:
    task = value(shell, "%%jrm run --name relax --cores 1 --env A=7 -o t\nX=$A\nfor i in 1 2; do echo {i} $i $X; done")
    assert shell.user_ns["t"] is task
    assert task.name == "relax"
    assert task.result(20) == "{i} 1 7\n{i} 2 7\n"
    after = value(shell, f"%%jrm run --after {task.uid} --block\necho after")
    assert after.state == "DONE"


def test_all_ranks_are_shown(shell: InteractiveShell) -> None:
    _, shown = run(shell, "%%jrm run --ranks 2 --block\necho rank $JRM_RANK")
    assert "rank 0\nrank 1\n" in shown


def test_a_script_is_tried_again_after_a_pause(shell: InteractiveShell) -> None:
    task = value(shell, "%%jrm run --retries 1 --retry-delay 1s --retry-on TASK_EXIT,DISK_FULL\nexit 4")
    assert task.wait(20) == "FAILED"
    assert task.attempt == 2


def test_a_failing_script_is_one_readable_error(shell: InteractiveShell) -> None:
    shown = refused(shell, "%%jrm run --block\necho bad input >&2\nexit 4")
    assert "exit code 4" in shown or "ended FAILED" in shown
    assert "bad input" in shown
    assert "next:" in shown
    _, full = run(shell, "%jrm traceback")
    assert "Traceback" in full
    assert "TaskError" in full


def test_python_travels_both_ways(shell: InteractiveShell) -> None:
    shell.run_cell("import math\nbase = [1, 2]\ndef double(x):\n    return 2 * x\n")
    shell.run_cell("class Box:\n    def __init__(s, v): s.v = v\n")
    cell = "%%jrm python --cores 1 -o result -o box,where\nresult = [double(x) + math.floor(0.5) for x in base]\n"
    cell += "box = Box(5)\nimport os\nwhere = os.getpid()\nprint('remote', len(base))\nresult[0]"
    result, shown = run(shell, cell)
    assert result.success, shown
    assert result.result == 2
    assert "remote 2" in shown
    assert shell.user_ns["result"] == [2, 4]
    assert shell.user_ns["box"].v == 5
    assert shell.user_ns["where"] != os.getpid()


def test_python_without_blocking(shell: InteractiveShell) -> None:
    shell.run_cell("n = 20")
    task = value(shell, "%%jrm python --noblock -i n -o later\nlater = n + 1")
    assert task.wait(20) == "DONE"
    eventually(lambda: shell.user_ns.get("later") == 21, "the variable comes back")


def test_python_errors(shell: InteractiveShell) -> None:
    result, shown = run(shell, "%%jrm python\n1 / 0")
    assert isinstance(result.error_in_exec, ZeroDivisionError)
    assert "<%%jrm python>" in shown
    assert "never assigned" in run(shell, "%%jrm python -o nothing_like_that\nx = 1")[1]
    assert "no variable" in refused(shell, "%%jrm python -i missing_one\nx = 1")
    assert "SyntaxError" in run(shell, "%%jrm python\nx = = 1")[1]


def test_what_cannot_travel_stops_the_cell_that_needs_it(shell: InteractiveShell) -> None:
    shell.run_cell("import threading; big, lock = bytes(33 << 20), threading.Lock()")
    shown = refused(shell, "%%jrm python\nlen(big)")
    assert "big does not travel: 33.0 MiB when pickled; the limit is 32 MiB" in shown and "file's path" in shown
    assert len(shown.splitlines()) <= 3
    assert "lock does not travel: cannot pickle" in refused(shell, "%%jrm python\nlock.acquire()")
    result, shown = run(shell, "%%jrm python\nfor big in range(3): pass\n[lock := 4, big]")
    assert result.result == [4, 2], "the cell gives the names a meaning of its own"
    assert "big does not travel" in shown
    shell.run_cell("del big, lock")


def test_looking(shell: InteractiveShell) -> None:
    task = value(shell, "%%jrm run --name look\necho text; echo err >&2")
    task.wait(20)
    shell.user_ns["uid"] = task.uid
    assert str(value(shell, "%jrm log {uid}")) == "text\n"
    assert str(value(shell, "%jrm log $uid --stderr")) == "err\n"
    assert "submitted" in str(value(shell, "%jrm story {uid}"))
    assert "DONE" in str(value(shell, "%jrm explain {uid}"))
    _, shown = run(shell, "%jrm follow {uid}")
    assert "text" in shown
    assert task.uid in repr(value(shell, "%jrm tasks"))
    assert "look" in repr(value(shell, "%jrm tasks --state done"))
    assert repr(value(shell, "%jrm queue"))
    assert "running" in repr(value(shell, "%jrm nodes"))
    assert value(shell, "%jrm sql select count(*) as n from pilots")["n"].tolist() == [1]
    assert value(shell, "%jrm sql select uid from pilots where state='ACTIVE'")["uid"].tolist() == ["p.0"]
    assert value(shell, "%jrm sql \"select 'a b' as x\"")["x"].tolist() == ["a b"]
    assert "query" in refused(shell, "%jrm sql")
    assert "nb" in repr(value(shell, "%jrm sessions"))
    assert value(shell, "%jrm").name == "nb"
    assert value(shell, "%jrm status").name == "nb"
    assert len(value(shell, "%jrm pilots")) == 1
    assert value(shell, "%jrm wait --timeout 20").name == "nb"


def test_services(shell: InteractiveShell) -> None:
    shell.user_ns["where"] = "db:5432"
    found = value(shell, "%jrm services outside={where}")
    assert [tuple(one) for one in found] == [("outside", "READY", "db:5432", "", "JRM_INFO_OUTSIDE")]
    assert value(shell, "%%jrm run --services outside\necho $JRM_INFO_OUTSIDE").result(20) == "db:5432\n"
    _, shown = run(shell, "%%jrm python --services outside\nimport os\nprint(os.environ['JRM_INFO_OUTSIDE'])")
    assert shown == "db:5432\n"
    assert completions(shell, "%jrm services out") == ["outside="]
    assert completions(shell, "%%jrm run --services o") == ["outside"]
    service = jrm.open("nb").submit(jrm.Service("sleep", ["600"], name="plain"))
    endpoint = service.wait_ready(20)
    assert f", ready at {endpoint}: runs>" in repr(service)
    assert endpoint in service._repr_mimebundle_()["text/html"]
    assert service.uid in value(shell, "%jrm services")._repr_mimebundle_()["text/html"]
    (_, line) = repr(value(shell, "%jrm services")).splitlines()
    assert line.split() == ["plain", "READY", endpoint, service.uid, "JRM_INFO_PLAIN"]
    assert ["endpoint", endpoint] in service.view().shown()["rows"]
    service.cancel()
    assert service.wait(20) == "CANCELED" and "ready at" not in repr(service)
    assert "endpoint" not in dict(service.view().shown()["rows"])
    assert value(shell, "%jrm services outside=")[0].state == "ENDED"


def test_logs(shell: InteractiveShell) -> None:
    found = value(shell, "%jrm logs p.0")
    assert {line.component for line in found} == {"p.0"} and "agent of p.0" in repr(found)
    assert "broker  INFO" in repr(value(shell, "%jrm logs"))
    value(shell, "%jrm logs p.0 --level debug")
    value(shell, "%%jrm run --block\ntrue")
    assert "DEBUG" in {line.level for line in value(shell, "%jrm logs p.0 --level INFO")}
    many = type(found)(found[:1] * 300)
    assert "the last 200 of 300 lines" in many._repr_mimebundle_()["text/html"]
    assert len(many._repr_mimebundle_()["text/plain"].splitlines()) == 201 and len(repr(many).splitlines()) == 300


@pytest.mark.parametrize(
    "verb",
    [
        *("status", "pilots", "tasks", "services", "nodes", "queue", "timeline", "usage", "logs"),
        *("form", "sh", "sessions", "doctor"),
    ],
)
def test_everything_shows_itself(shell: InteractiveShell, verb: str) -> None:
    shown = value(shell, f"%jrm {verb}")._repr_mimebundle_()
    assert shown["text/plain"]
    assert "<" in shown["text/html"]
    assert len(shown["text/html"]) < 100_000


def test_a_view_becomes_a_file(shell: InteractiveShell, tmp_path: Path) -> None:
    value(shell, "%%jrm run --name wolfgang --block\ntrue")
    for place, words in (("plain.json", ""), ("bare.json", "--anonymous")):
        assert str(tmp_path / place) in repr(value(shell, f"%jrm export tasks {tmp_path / place} {words}"))
    assert "wolfgang" in (tmp_path / "plain.json").read_text()
    assert "wolfgang" not in (tmp_path / "bare.json").read_text()
    made = value(shell, f"jupyter_rm.open('nb').view('nodes', color='load').save({str(tmp_path / 'map.html')!r})")
    assert made.read_text().startswith("<!DOCTYPE html>")
    assert "JRM-Q62" in refused(shell, f"%jrm export tasks {tmp_path / 'x.doc'}")


def test_cancel(shell: InteractiveShell) -> None:
    task = value(shell, "%%jrm run\nsleep 600")
    assert "cancelled" in str(value(shell, f"%jrm cancel {task.uid}"))
    assert task.wait(20) == "CANCELED"


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("%jrm opne x", "did you mean open"),
        ("%jrm monitor", "next: to watch: %jrm status, tasks, nodes, queue, timeline, usage"),
        ("%jrm timeline --by moon", "choose from"),
        ("%jrm nodes --select nope", "select: 'nope' is unknown"),
        ("%jrm pilot --croes 4", "did you mean --cores"),
        ("%jrm run echo", "%%jrm run"),
        ("%%jrm status\nx", "%jrm status"),
        ("%%jrm run\n   ", "empty"),
        ("%%jrm\necho", "which verb"),
        ("%jrm log", "uid"),
        ("%jrm log t.999", "t.999"),
        ("%jrm attach never-made", "never-made"),
        ("%jrm pilot --cores many", "see: %jrm pilot --help"),
        ("%jrm pilot --croes 2", "did you mean --cores?"),
        ("%jrm log p.0", "such as t.0.0"),
        ("%jrm pilot --hook after_lunch=true", "moments: before_env"),
        ("%jrm pilot --hook before_env=true", "this machine has no login"),
        ("%jrm pilot --python /usr/bin/python3", "means nothing on this machine"),
        ("%jrm open 'x", "quot"),
        ("%%jrm run --env A\necho", "NAME=VALUE"),
        ("%jrm logs p.99", "there is no 'p.99'"),
        ("%jrm logs --level loud", "'loud' is no level"),
        ("%jrm services db", "'db' is not NAME=HOST:PORT"),
        ("%%jrm run --services no-such\necho", "there is no service 'no-such'"),
    ],
)
def test_errors_are_one_line_and_a_hint(shell: InteractiveShell, cell: str, says: str) -> None:
    shown = refused(shell, cell)
    assert says in shown
    assert "next:" in shown
    assert len(shown.strip().splitlines()) <= 4


def test_pilots_elsewhere_are_asked_for_by_field(shell: InteractiveShell) -> None:
    assert "NAME=VALUE" in refused(shell, "%jrm pilot slurm+ssh://me@nowhere --set x")
    assert "no batch system 'slurn'" in refused(shell, "%jrm pilot slurn+ssh://me@nowhere")
    assert "walltime" in refused(shell, "%jrm pilot slurm+ssh://me@nowhere --walltime soon")
    assert "nodes" in refused(shell, "%jrm pilot slurm+ssh://me@nowhere --nodes -2")
    form = value(shell, "%jrm form slurm+ssh://me@login")
    form.fill({"nodes": "2", "walltime": "1h"})
    assert "--nodes=2" in repr(form) and "--time=60" in form._repr_mimebundle_()["text/html"]
    assert "no batch system 'slurn'" in refused(shell, "%jrm form slurn+ssh://x@y")


def test_a_form_starts_the_pilot_it_describes(shell: InteractiveShell) -> None:
    form = value(shell, "%jrm form noop")
    form.fill({"nodes": "2", "cores_per_node": "3", "name": "from-a-form"})
    pilot = form.start()
    assert (pilot.name, pilot.wait(timeout=20)) == ("from-a-form", "ACTIVE")
    assert [node.cores for node in pilot.nodes] == [3, 3]
    pilot.cancel()
    form.fill({"nodes": "many"})
    with pytest.raises(jrm.RequestError, match="nodes"):
        form.start()


def test_a_line_sets_what_a_view_shows(shell: InteractiveShell, tmp_path: Path) -> None:
    task = value(shell, "%%jrm run\nexit 7")
    for line, window in (
        ("nodes --color load --level node --layout logical", {"color": "load", "level": "node", "layout": "logical"}),
        ("timeline --by task --select t.0 --at 1.7e9", {"by": "task", "select": "t.0", "at": 1.7e9}),
        ("queue --search me", {"search": "me"}),
        ("usage --by mem", {"by": "mem"}),
        ("tasks --sort exit_code --order asc --limit 9", {"sort": "exit_code", "order": "asc", "limit": 9}),
        ("tasks --state failed --bulk t.3", {"state": "failed", "bulk": "t.3", "order": "desc", "limit": 50}),
    ):
        assert value(shell, f"%jrm {line}").window == window, line
    value(shell, f"%jrm export tasks {tmp_path / 'one.json'} --bulk {task.uid}")
    rows = json.loads((tmp_path / "one.json").read_text())["tables"]["tasks"]["rows"]
    assert [row[0] for row in rows] == [task.uid]


def test_a_form_is_filled_step_by_step_and_shows_what_is_wrong(
    shell: InteractiveShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_RM_FORMS", str(tmp_path))
    form = value(shell, "%jrm form slurm+ssh://me@login")
    form.fill({"nodes": "2"}).fill({"walltime": "1h"})
    assert "--nodes=2" in repr(form) and "--time=60" in repr(form)
    assert "--time" not in repr(form.fill({"walltime": None})) and "--nodes=2" in repr(form)
    wrong = form.fill({"nosuch": "<1>", "walltime": "2h"})
    for shown in (repr(wrong), wrong._repr_mimebundle_()["text/html"]):
        assert "nosuch: this site has no such field" in shown and "--nodes" not in shown
    assert wrong is form and "--nodes=2" in repr(form.fill({})) and "--time=120" in repr(form)
    with pytest.raises(jrm.RequestError, match="'walltme' is no field") as caught:
        form.hide("walltme")
    assert "did you mean walltime?" in caught.value.hint and form.hide("walltime") is form
    form._heard({"values": {"nodes": "3"}})
    assert "--nodes=3" in repr(form) and "--time" not in repr(form), "the page says all there is"


def test_a_shell_elsewhere_keeps_its_state(shell: InteractiveShell, tmp_path: Path) -> None:
    assert value(shell, f"%%jrm sh local\ncd {tmp_path}\nA=5") is None
    _, shown = run(shell, "%%jrm sh local -o heard\necho $A $PWD; echo oops >&2; false")
    assert shell.user_ns["heard"] == f"5 {tmp_path}\n"
    assert "oops" in shown and "exit code 1" in shown
    assert f"local  in {tmp_path}" in str(value(shell, "%jrm sh"))
    assert "closed" in str(value(shell, "%jrm sh local --close"))
    assert "no shell at 'local'" in refused(shell, "%jrm sh local --close")
    assert "JRM-Q70" in refused(shell, "%%jrm sh bad:host:name\ntrue") or True


def test_help(shell: InteractiveShell) -> None:
    assert "%%jrm python" in str(value(shell, "%jrm help"))
    assert "--walltime" in str(value(shell, "%jrm pilot --help"))
    assert "--ranks" in str(value(shell, "%jrm help run"))


def test_options(shell: InteractiveShell) -> None:
    _, shown = run(shell, "%config JupyterRM")
    assert "progress_interval" in shown
    run(shell, "%config JupyterRM.progress = False")
    assert settings.current().progress is False
    run(shell, "%config JupyterRM.progress = True")
    run(shell, "%config JupyterRM.traceback = True")
    _, shown = run(shell, "%jrm opne")
    assert "Traceback" in shown
    run(shell, "%config JupyterRM.traceback = False")


def completions(shell: InteractiveShell, text: str) -> list[str]:
    """Return what a kernel offers at the end of a text."""
    with provisionalcompleter():
        return [each.text for each in shell.Completer.completions(text, len(text))]


@pytest.mark.parametrize(
    ("text", "has", "lacks"),
    [
        ("%jrm st", "status", "open"),
        ("%jrm pilot --co", "--cores", "--walltime"),
        ("%jrm pilot lo", "local", "noop"),
        ("%jrm log t.", "t.0", "p.0"),
        ("%jrm cancel p", "p.0", "t.0"),
        ("%jrm logs ", "broker", "t.0"),
        ("%jrm logs broker p", "p.0", "broker"),
        ("%jrm logs p.0 --level ", "DEBUG", "p.0"),
        ("%jrm attach n", "nb", "local"),
        ("%jrm tasks --state RUN", "RUNNING", "DONE"),
        ("%%jrm p", "python", "pilot"),
        ("%%jrm run --pi", "--pilot", "--cores"),
        ("%jrm pilot slurm+", "slurm+ssh://", "sge+ssh://"),
        ("%jrm form no", "noop", "local"),
        ("%jrm pilot slurm+ssh://me@login --q", "--qos", "--nodes"),
        ("%jrm pilot slurm+ssh://me@login --set wa", "warn=", "--nodes"),
        ("%%jrm sh lo", "local", "noop"),
        ("%jrm site ", "explain", "local"),
        ("%jrm site try lo", "local", "list"),
        ("%jrm bundle ", "submit", "local"),
        ("%jrm export ", "timeline", "local"),
        ("%jrm export nodes x.html --theme ", "dark", "nodes"),
        ("x = %jrm op", "open", "status"),
        ("%jrm explain p", "p.0", "t.0"),
    ],
)
def test_completion(shell: InteractiveShell, text: str, has: str, lacks: str) -> None:
    found = completions(shell, text)
    assert has in found
    assert lacks not in found


def test_completion_knows_sessions_and_bulks_of_long_ago(home: Path, shell: InteractiveShell) -> None:
    value(shell, "%jrm open nb")
    with subprocess.Popen([sys.executable, "-m", "jupyter_rm", "open", "elsewhere"]) as other:
        assert other.wait(30) == 0
    assert "elsewhere" in completions(shell, "%jrm attach else")
    session = jrm.open("nb")
    old = session.submit([jrm.Task("/bin/true")] * 120)
    for _ in range(25):
        session.submit(jrm.Task("/bin/true"))
    assert f"{old.uid}.119" in completions(shell, f"%jrm log {old.uid}.11")
    session.wait(60)
    jrm.open("elsewhere").close()


def test_a_pilot_explains_itself(shell: InteractiveShell) -> None:
    assert "p.0 is ACTIVE" in str(value(shell, "%jrm explain p.0"))


def test_completion_leaves_other_lines_alone(shell: InteractiveShell) -> None:
    assert "status" not in completions(shell, "st")
    assert "import_module" not in completions(shell, "%jrm import_mo")


def test_cancel_all(shell: InteractiveShell) -> None:
    task = value(shell, "%%jrm run\nsleep 600")
    assert "which tasks" in refused(shell, "%jrm cancel")
    assert "1 tasks" in str(value(shell, "%jrm cancel --all"))
    assert task.wait(20) == "CANCELED"


def run_and_interrupt(shell: InteractiveShell, cell: str) -> tuple[Any, str]:
    """Run a cell and press Ctrl-C while it waits."""
    stop = threading.Event()

    def press() -> None:
        # As long as it takes: before the wait has begun nothing of ours is on the stack.
        while not stop.wait(0.1):
            if any(frame.name == "wait" for frame in traceback.extract_stack(_main_frame())):
                os.kill(os.getpid(), signal.SIGINT)
                return

    finger = threading.Thread(target=press)
    finger.start()
    try:
        return run(shell, cell)
    finally:
        stop.set()
        finger.join()


def test_logs_are_followed_until_the_cell_is_interrupted(shell: InteractiveShell) -> None:
    result, shown = run_and_interrupt(shell, "%jrm logs broker p.0 --follow")
    assert result.success and result.result is None
    assert any("agent of p.0" in line for line in shown.splitlines())
    assert "KeyboardInterrupt" not in shown


def test_ctrl_c_in_a_wait_is_two_lines(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    task = value(shell, "%%jrm run -o waited\nsleep 600")
    eventually(lambda: task.state == "RUNNING", "the task runs")

    def interrupted(cell: str) -> str:
        result, shown = run_and_interrupt(shell, cell)
        assert isinstance(result.error_in_exec, KeyboardInterrupt)
        assert "Traceback" not in shown
        assert len(shown.strip().splitlines()) <= 3, shown
        return shown

    first = interrupted("waited.wait()")
    assert f"still running: {task.uid}" in first
    assert f"%jrm cancel {task.uid}" in first
    second = interrupted("waited.wait()")
    assert "nothing was cancelled" in second
    assert task.state == "RUNNING"
    caught = value(
        shell,
        "try:\n    raise __import__('jupyter_rm.client.blocking').client.blocking.Interrupted\n"
        "except KeyboardInterrupt:\n    ok = True\nok",
    )
    assert caught is True
    assert task.cancel()


def _main_frame() -> Any:
    return sys._current_frames()[threading.main_thread().ident or 0]


def test_detach_and_come_back(shell: InteractiveShell) -> None:
    assert "goes on" in str(value(shell, "%jrm detach"))
    assert "no session" in refused(shell, "%jrm detach")
    assert value(shell, "%jrm attach nb").counts()


def test_after_the_end_looking_makes_no_session(shell: InteractiveShell) -> None:
    value(shell, "%jrm detach")
    value(shell, "import jupyter_rm as jrm\nother = jrm.open('other')")
    assert value(shell, "%jrm status").name == "other"
    value(shell, "other.close()")
    told = value(shell, "%jrm status")
    for text in (repr(told), told._repr_mimebundle_()["text/html"]):
        assert "no session is open here" in text
        assert "detached" in text
        assert "%jrm open nb" in text
        assert "other" in text
    for line in ("%jrm tasks", "%jrm log t.0", "%jrm wait", "%jrm pilot local", "%%jrm run\necho x"):
        shown = refused(shell, line)
        assert "no session is open here" in shown
        assert "%jrm open" in shown
    assert "default" not in [each.name for each in value(shell, "%jrm sessions")]
    assert "'other' closed" in repr(shell.user_ns["other"])
    value(shell, "%jrm attach nb")


def test_new_work_without_any_session_says_what_it_opened(shell: InteractiveShell) -> None:
    value(shell, "%jrm detach")
    other = InteractiveShell()
    jrm.load_ipython_extension(other)
    result, shown = run(other, "%jrm pilot noop")
    assert result.success
    assert "opened 'default'" in shown
    assert value(other, "%jrm").name == "default"
    value(other, "%jrm close")
    jrm.unload_ipython_extension(other)
    value(shell, "%jrm attach nb")
