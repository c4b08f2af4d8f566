"""The interface against its own description, and what it does, through a real Jupyter server."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from server_kit import Server
from spec_kit import DESCRIPTION, METHODS, OPERATIONS, example
from world_kit import eventually

import jupyter_rm as jrm
from jupyter_rm.client.session import Session
from jupyter_rm.model.states import PilotState, TaskState
from jupyter_rm.server.assets import API_ROUTES


def handler_of(path: str) -> Any:
    found = [handler for pattern, handler in API_ROUTES if re.fullmatch(pattern, example(path).lstrip("/"))]
    assert found, f"{path} is described, but no route serves it"
    return found[0]


def resolved(node: Any) -> Any:
    while isinstance(node, dict) and "$ref" in node:
        target: Any = DESCRIPTION
        for name in node["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        node = target
    return node


def validate(path: str, method: str, status: int, body: Any) -> None:
    """Check a body against what the description promises for this answer."""
    answers = DESCRIPTION["paths"][path][method]["responses"]
    assert str(status) in answers or status >= 400, f"{method} {path}: {status} is not described"
    answer = resolved(answers.get(str(status), answers["default"]))
    schema = answer["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator({**schema, "components": DESCRIPTION["components"]}).validate(body)


class Checked:
    """Requests whose answers are checked against the description."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def __call__(self, method: str, path: str, body: Any = None, query: str = "", expect: int = 200, **at: str) -> Any:
        whole = path
        for name, value in at.items():
            whole = whole.replace(f"{{{name}}}", value)
        answer = self.server.ask(method.upper(), whole + query, body)
        assert answer.status == expect, f"{method} {whole}: {answer.status} {answer.body!r}"
        validate(path, method, answer.status, answer.json)
        assert answer.headers["Content-Type"].startswith("application/json")
        return answer.json


@pytest.fixture(scope="module")
def ask(server: Server) -> Checked:
    return Checked(server)


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS, ids=lambda value: str(value)[:40])
def test_what_is_described_exists_with_the_rights_it_names(path: str, method: str, operation: dict[str, Any]) -> None:
    function = getattr(handler_of(path), method)
    assert list(function.guarded) == operation["x-authorized"]


def test_what_exists_is_described() -> None:
    described = {(handler_of(path), method) for path, method, _ in OPERATIONS}
    served = {
        (handler, method)
        for _, handler in API_ROUTES
        for method in METHODS
        if hasattr(getattr(handler, method), "guarded")
    }
    assert served == described


def test_states_are_those_of_the_model() -> None:
    schemas = DESCRIPTION["components"]["schemas"]
    assert schemas["Task"]["properties"]["state"]["enum"] == [state.name for state in TaskState]
    assert schemas["Pilot"]["properties"]["state"]["enum"] == [state.name for state in PilotState]


def test_status_starts_nothing(server: Server, home: Path) -> None:
    told = server.get("/status")
    validate("/status", "get", 200, told)
    assert told["extension"] == "ok"
    if not told["broker"]["up"]:
        assert told["broker"]["code"] == "JRM-T02"
        assert not (home / "default" / "journal").exists()


def test_a_session_from_its_beginning_to_its_end(ask: Checked, server: Server) -> None:
    assert ask("post", "/sessions", {"name": "study"}, expect=201)["state"] == "open"
    assert ask("post", "/sessions", {"name": "study"}, expect=200)["total"] == 0
    assert ask("get", "/status")["broker"]["up"] is True

    wish = {"site": "local", "cores": 2, "name": "here", "key": "click-1"}
    pilot = ask("post", "/sessions/{name}/pilots", wish, expect=202, name="study")
    again = ask("post", "/sessions/{name}/pilots", wish, expect=202, name="study")
    assert pilot["uid"] == again["uid"] == "p.0", "the same click twice is one pilot"

    session = jrm.open("study")
    bulk = session.array(
        jrm.Task("sh", ["-c", "printf 'line \\033[31mred\\033[0m <b>{i}</b>\\n'; test {i} -lt 15"], name="n{i}"),
        i=range(20),
    )
    assert bulk.wait(30)
    eventually(
        lambda: ask("get", "/sessions/{name}", name="study")["counts"] == {"DONE": 15, "FAILED": 5}, "counts arrive"
    )
    page = ask(
        "get",
        "/sessions/{name}/tasks",
        query="?state=FAILED&sort=param:i&order=desc&max_items=2&offset=1",
        name="study",
    )
    assert [task["name"] for task in page["tasks"]] == ["n18", "n17"]
    assert (page["matched"], page["total"]) == (5, 20)

    task = ask("get", "/sessions/{name}/tasks/{task}", name="study", task="t.0.18")
    assert task["state"] == "FAILED" and task["exit_code"] == 1 and "exit code 1" in task["reason"]
    assert task["parameters"] == {"i": 18} and task["node"] and task["pilot"] == "p.0"
    assert task["stdout"]["text"] == "line red <b>18</b>\n", "text without terminal commands; not made into HTML"
    assert "submitted as one of 20 tasks" in "\n".join(task["story"])
    text = ask(
        "get",
        "/sessions/{name}/tasks/{task}/{stream}",
        query="?max_bytes=5",
        name="study",
        task="t.0.1",
        stream="stdout",
    )
    assert text["cut"] is True and text["bytes"] > 5 and len(text["text"]) <= 5

    answer = ask("post", "/sessions/{name}/tasks/retry", {"filter": {"state": "FAILED"}}, expect=202, name="study")
    assert answer == {"named": 5, "submitted": 5, "bulks": ["t.1"]}
    waits = session.submit(jrm.Task("sleep", ["1000"]))
    session.submit(jrm.Task("sleep", ["1000"]))
    answer = ask("post", "/sessions/{name}/tasks/cancel", {"uids": [waits.uid, "t.3"]}, expect=202, name="study")
    assert answer == {"named": 2, "canceled": 2}
    assert session.wait(30)
    for slip in ({"filter": {}}, {"filter": {"state": ""}}, {"uids": []}, {"all": True, "uids": ["t.0"]}):
        told = ask("post", "/sessions/{name}/tasks/cancel", slip, expect=400, name="study")
        assert told["code"] == "JRM-Q61" and told["hint"], slip
    answer = ask("post", "/sessions/{name}/tasks/cancel", {"all": True}, expect=202, name="study")
    assert answer["canceled"] == 0, "what has ended cannot be canceled"

    ask("post", "/sessions/{name}/pilots/{pilot}/cancel", {"drain": True}, expect=202, name="study", pilot="p.0")
    eventually(
        lambda: ask("get", "/sessions/{name}/pilots", name="study")["pilots"][0]["state"] in ("DONE", "CANCELED"),
        "the pilot ends",
    )
    assert ask("post", "/sessions/{name}/detach", {}, name="study") == {"session": "study", "detached": True}
    lines = {line["name"]: line for line in ask("get", "/sessions")["sessions"]}
    assert lines["study"]["state"] == "open", "detaching ends nothing"
    assert ask("delete", "/sessions/{name}", name="study")["state"] == "closed"
    lines = {line["name"]: line for line in ask("get", "/sessions")["sessions"]}
    assert lines["study"]["state"] == "closed"
    assert "session" in ask("get", "/broker/log") or ask("get", "/broker/log")["text"] is not None
    assert ask("post", "/broker", {})["broker"]["up"] is True


def test_a_service_tells_where_it_is(ask: Checked, session: Session) -> None:
    service = session.submit(jrm.Service("sh", ["-c", "echo port 81; exec sleep 1000"], name="db", ready=r"port (\d+)"))
    endpoint = service.wait_ready(20)

    def told() -> Any:
        return ask("get", "/sessions/{name}/tasks/{task}", name=session.name, task=service.uid)["endpoint"]

    eventually(lambda: told() == f"{service.node}:81" == endpoint, "the server knows the endpoint")
    service.cancel()
    eventually(lambda: told() is None, "what has ended is nowhere")


def test_a_pilot_without_a_batch_job_cannot_be_suspended_and_says_so(ask: Checked, session: Session) -> None:
    (pilot,) = ask("get", "/sessions/{name}/pilots", name=session.name)["pilots"]
    assert pilot["ops"] == [] and pilot["suspended"] is False
    for op in ("hold", "release", "suspend", "resume"):
        told = ask(
            "post", "/sessions/{name}/pilots/{pilot}/job", {"op": op}, expect=400, name=session.name, pilot="p.0"
        )
        assert told["code"] == "JRM-Q29" and "p.0 has no job at a batch system" in told["message"] and told["hint"]


def test_log_lines_are_read_from_where_one_stands(ask: Checked, session: Session) -> None:
    path = "/sessions/{name}/logs"

    def told(query: str = "") -> Any:
        return ask("get", path, query=f"?component=p.0{query}", name=session.name)

    def say(level: str) -> Any:
        return ask("post", path, {"component": "p.0", "level": level}, name=session.name)

    first = told()
    assert (first["component"], first["level"], first["dropped"]) == ("p.0", "INFO", 0)
    assert any("agent of p.0" in line["text"] for line in first["lines"])
    here = f"&life={first['life']}&after={first['lines'][-1]['no']}"
    assert told(here)["lines"] == []
    assert say("DEBUG") == {"component": "p.0", "level": "DEBUG"}
    session.submit(jrm.Task("true")).wait(20)
    news = told(here)
    assert news["level"] == "DEBUG" and "Launch: 1 tasks" in [line["text"] for line in news["lines"]]
    assert [line["no"] for line in told(f"{here}&max_items=1")["lines"]] == [first["lines"][-1]["no"] + 1]
    assert told("&life=7&after=1000")["lines"][0]["no"] == 1, "of another life all is new"
    assert say("INFO")["level"] == "INFO" == told()["level"]
    lines = ask("get", path, name=session.name)["lines"]
    assert any("incarnation" in line["text"] for line in lines), "of none named, the broker's"


def test_binary_and_large_output_stay_harmless(ask: Checked, session: Session) -> None:
    task = session.submit(jrm.Shell("head -c 300000 /dev/zero; printf 'x\\0y' >&2"))
    text = session.submit(jrm.Shell("yes 'a line of text' | head -c 3000000"))
    assert session.wait(30)
    data = ask("get", "/sessions/{name}/tasks/{task}", name=session.name, task=task.uid)
    assert data["stdout"]["binary"] is True and data["stdout"]["text"] == ""
    assert data["stderr"]["binary"] is True
    big = server_bytes(ask, session, text.uid)
    assert big["cut"] and big["bytes"] == 3_000_000 and 200_000 < len(big["text"]) <= 262144
    assert big["text"].startswith("a line of text\n"), "begins with a whole line"


def server_bytes(ask: Checked, session: Session, uid: str) -> Any:
    return ask(
        "get",
        "/sessions/{name}/tasks/{task}/{stream}",
        query="?max_bytes=262144",
        name=session.name,
        task=uid,
        stream="stdout",
    )


WRONG = [
    ("post", "/sessions", b"{", 400, "JRM-Q61", "body"),
    ("post", "/sessions", {"name": 7}, 400, "JRM-Q61", "name"),
    ("post", "/sessions", {"nam": "x"}, 400, "JRM-Q61", "nam"),
    ("post", "/sessions", {"name": "../x"}, 400, "JRM-Q02", "../x"),
    ("post", "/sessions", b'{"name": "' + b"x" * (3 << 20) + b'"}', 400, "JRM-Q61", "large"),
    ("get", "/sessions/nix", None, 404, "JRM-Q08", "nix"),
    ("delete", "/sessions/nix", None, 404, "JRM-Q08", "nix"),
    ("get", "/sessions/nix/tasks", None, 404, "JRM-Q08", "nix"),
    ("get", "/sessions/%2e%2e%2fetc", None, 400, "JRM-Q02", "etc"),
    ("get", "/sessions/{s}/tasks?sort=moon", None, 400, "JRM-Q60", "moon"),
    ("get", "/sessions/{s}/tasks?state=BUSY", None, 400, "JRM-Q60", "BUSY"),
    ("get", "/sessions/{s}/tasks?colour=red", None, 400, "JRM-Q60", "colour"),
    ("get", "/sessions/{s}/tasks?max_items=1001", None, 400, "JRM-Q61", "max_items"),
    ("get", "/sessions/{s}/tasks?offset=-1", None, 400, "JRM-Q61", "offset"),
    ("get", "/sessions/{s}/tasks/t.9.9", None, 404, "JRM-Q03", "t.9.9"),
    ("get", "/sessions/{s}/tasks/t.9.9/stdout", None, 404, "JRM-Q03", "t.9.9"),
    ("post", "/sessions/{s}/tasks/cancel", {}, 400, "JRM-Q61", "uids"),
    ("post", "/sessions/{s}/tasks/cancel", {"uids": ["p.0"]}, 404, "JRM-Q03", "p.0"),
    ("post", "/sessions/{s}/tasks/retry", {"filter": {"stat": "x"}}, 400, "JRM-Q60", "stat"),
    ("post", "/sessions/{s}/pilots", {"cores": "many"}, 400, "JRM-", "cores"),
    ("post", "/sessions/{s}/pilots", {"corse": 2}, 400, "JRM-Q61", "corse"),
    ("post", "/sessions/{s}/pilots", {"walltime": "soon"}, 400, "JRM-", "walltime"),
    ("post", "/sessions/{s}/pilots/p.7/cancel", {}, 404, "JRM-Q03", "p.7"),
    ("post", "/sessions/{s}/pilots/x/cancel", {}, 404, "JRM-Q03", "x"),
    ("post", "/sessions/{s}/pilots/p.7/job", {"op": "suspend"}, 404, "JRM-Q03", "p.7"),
    ("post", "/sessions/{s}/pilots/p.0/job", {}, 400, "JRM-Q61", "op"),
    ("post", "/sessions/{s}/pilots/p.0/job", {"op": "stop"}, 400, "JRM-Q61", "op"),
    ("get", "/sessions/{s}/logs?component=p.7", None, 404, "JRM-Q03", "p.7"),
    ("get", "/sessions/{s}/logs?component=x", None, 404, "JRM-Q03", "x"),
    ("get", "/sessions/{s}/logs?life=-1", None, 400, "JRM-Q61", "life"),
    ("get", "/sessions/{s}/logs?max_items=2001", None, 400, "JRM-Q61", "max_items"),
    ("get", "/sessions/{s}/logs?level=DEBUG", None, 400, "JRM-Q61", "level"),
    ("post", "/sessions/{s}/logs", {}, 400, "JRM-Q61", "level"),
    ("post", "/sessions/{s}/logs", {"level": "LOUD"}, 400, "JRM-Q61", "level"),
    ("get", "/nowhere", None, 404, "", ""),
    ("put", "/sessions", {}, 405, "JRM-H405", ""),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "code", "names"), WRONG, ids=lambda v: str(v)[:30])
def test_a_mistake_is_told_with_code_and_hint(
    server: Server, bare: Session, method: str, path: str, body: Any, status: int, code: str, names: str
) -> None:
    answer = server.ask(method.upper(), path.replace("{s}", bare.name), body)
    assert answer.status == status, answer.body
    if code:
        told = json.loads(answer.body)
        jsonschema.validate(told, DESCRIPTION["components"]["schemas"]["Error"])
        assert told["code"].startswith(code) and names in told["message"] and told["hint"]
