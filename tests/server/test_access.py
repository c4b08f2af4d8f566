"""Nobody gets in who should not: no login, foreign pages, a denying authorizer; on every route and on the feed."""

from __future__ import annotations

import http.client
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import websocket
from server_kit import TOKEN, Answer, Feed, Server
from spec_kit import OPERATIONS, example
from tornado import web
from tornado.httputil import HTTPHeaders, HTTPServerRequest

from jupyter_rm.server.api import Api
from jupyter_rm.server.assets import API_ROUTES

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
CALLS = [(method, example(path)) for path, _, _ in OPERATIONS for method in METHODS]
DESCRIBED = [(method.upper(), example(path), operation["x-authorized"]) for path, method, operation in OPERATIONS]


@pytest.fixture(scope="module")
def open_server(home: Path) -> Iterator[Server]:
    """A server whose administrator allows unauthenticated access to handlers that do not say otherwise."""
    made = Server(home, "--ServerApp.allow_unauthenticated_access=True")
    yield made
    made.stop()


@pytest.fixture(scope="module")
def denying(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    asked = tmp_path_factory.mktemp("asked") / "asked"
    patch = pytest.MonkeyPatch()
    patch.setenv("JRM_ASKED", str(asked))
    made = Server(home, "--ServerApp.authorizer_class=authorizers.DenyAll")
    patch.undo()
    yield made, asked
    made.stop()


def untouched(home: Path) -> bool:
    """Did no request reach the broker?"""
    return not (home / "default" / "broker.lock").exists()


def refused(answer: Answer) -> bool:
    # 405: the method does not exist there, for nobody.
    return answer.status in (401, 403, 405)


def walk(server: Server, token: str | None) -> list[str]:
    bodies = {"POST": {}, "PUT": {}, "PATCH": {}}
    answers = [(method, path, server.ask(method, path, bodies.get(method), token=token)) for method, path in CALLS]
    return [f"{method} {path}: {answer.status}" for method, path, answer in answers if not refused(answer)]


def test_the_walk_is_complete() -> None:
    assert len({path for _, path in CALLS}) == len(API_ROUTES)


def test_no_route_without_a_login(server: Server, home: Path) -> None:
    assert walk(server, None) == []
    assert walk(server, "wrong") == []
    assert untouched(home)


def test_no_route_without_a_login_whatever_the_administrator_allows(open_server: Server, home: Path) -> None:
    assert walk(open_server, None) == []
    assert untouched(home)


def test_an_address_that_is_none_is_answered_like_all_errors(server: Server) -> None:
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        for path in ("/nothing", "/sessions/x/nothing", "/", ""):
            answer = server.ask(method, path, {} if method == "POST" else None)
            assert answer.status == 404 and answer.json["code"] == "JRM-H404" and answer.json["hint"], (
                f"{method} {path}"
            )
            assert server.ask(method, path, token=None).status == 403


def test_jupyter_finds_no_handler_without_a_rule(server: Server) -> None:
    assert "JupyterServerAuthWarning" not in server.log.read_text()
    assert server.get("/status")["extension"] == "ok"


def test_no_route_against_the_authorizer(denying: tuple[Server, Path], home: Path) -> None:
    server, asked = denying
    for method, path, rights in DESCRIBED:
        asked.unlink(missing_ok=True)
        answer = server.ask(method, path, {} if method == "POST" else None)
        assert answer.status == 403, f"{method} {path}: {answer.status}"
        assert answer.json["hint"]
        # The action and resource of this very route: not those of the route that was asked for first.
        assert asked.read_text().split()[-2:] == rights, f"{method} {path}"
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        Feed(server)
    assert caught.value.status_code == 403
    assert asked.read_text().split()[-2:] == ["read", "jupyter_rm:sessions"]
    assert untouched(home)


def test_the_feed_lets_see_only_what_the_authorizer_lets_see(home: Path) -> None:
    server = Server(home, "--ServerApp.authorizer_class=authorizers.ReadOnly", "--JupyterRM.start_broker=False")
    try:
        may = server.get("/status")["may"]
        assert may == {"sessions": ["read"], "pilots": ["read"], "tasks": [], "admin": ["read"]}
        assert server.ask("POST", "/sessions", {"name": "x"}).status == 403
        assert server.ask("GET", "/sessions/x/tasks").status == 403
        feed = server.feed()
        feed.say("subscribe", id="t", view="tasks", session="x")
        told = feed.next()
        assert (told["kind"], told["id"], told["code"]) == ("error", "t", "JRM-H403")
        feed.say("subscribe", id="s", view="sessions")
        assert feed.next()["kind"] == "lost", "may be looked at, but no broker runs and none may be started"
        feed.close()
        answer = server.ask("GET", "/sessions")
        assert answer.status == 503 and answer.json["hint"] and answer.json["retry"] is True
        assert untouched(home)
    finally:
        server.stop()


# ------------------------------------------------------------ the browser: cookies, other pages


def set_cookies(answer: Answer) -> dict[str, str]:
    return dict(line.split(";")[0].split("=", 1) for line in answer.headers.get_all("Set-Cookie", []))


def cookies(server: Server) -> dict[str, str]:
    """Log in as a page does; return its cookies."""
    before = set_cookies(server.ask("GET", "/login", token=None, path_is_whole=True))
    return before | set_cookies(server.ask("GET", f"/login?token={TOKEN}", token=None, path_is_whole=True))


def test_a_page_needs_its_xsrf_token_to_change_anything(server: Server, home: Path) -> None:
    jar = cookies(server)
    cookie = "; ".join(f"{name}={value}" for name, value in jar.items())
    for method, path, _ in DESCRIBED:
        if method != "GET":
            answer = server.ask(method, path, {} if method == "POST" else None, token=None, headers={"Cookie": cookie})
            assert answer.status == 403, f"{method} {path}: {answer.status}"
    assert untouched(home)
    assert server.ask("GET", "/status", token=None, headers={"Cookie": cookie}).status == 200
    own = {"Cookie": cookie, "X-XSRFToken": jar["_xsrf"]}
    # Gets through to us: an impossible name is our answer, not the gate's.
    answer = server.ask("POST", "/sessions", {"name": "!"}, token=None, headers=own)
    assert answer.status == 400 and answer.json["code"] == "JRM-Q02"


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://{host}.evil.example",
        "http://evil{host}",
        "https://127.0.0.1:1",
        "http://127.0.0.1",
        "null",
        "",
        "file://",
        "http://LOCALHOST:{port}",
    ],
)
def test_a_foreign_page_gets_no_feed(server: Server, origin: str) -> None:
    cookie = "; ".join(f"{name}={value}" for name, value in cookies(server).items())
    origin = origin.format(host=server.host, port=server.port)
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        Feed(server, token=None, header=[f"Origin: {origin}", f"Cookie: {cookie}"])
    assert caught.value.status_code == 403


def test_the_own_page_gets_its_feed(server: Server) -> None:
    cookie = "; ".join(f"{name}={value}" for name, value in cookies(server).items())
    feed = Feed(server, token=None, cookie=cookie, origin=f"http://{server.host}", suppress_origin=False)
    feed.close()


@pytest.mark.parametrize("origin", [None, "http://{host}", "http://evil.example"])
def test_no_feed_without_a_login(server: Server, open_server: Server, home: Path, origin: str | None) -> None:
    for each in (server, open_server):
        options = {} if origin is None else {"origin": origin.format(host=each.host), "suppress_origin": False}
        with pytest.raises(websocket.WebSocketBadStatusException) as caught:
            Feed(each, token=None, **options)
        assert caught.value.status_code == 403


def test_a_foreign_host_name_is_refused(server: Server) -> None:
    answer = server.ask("GET", "/status", headers={"Host": "evil.example"})
    assert answer.status == 403, "DNS rebinding"


def test_answers_cannot_be_framed_or_sniffed(server: Server) -> None:
    headers = server.ask("GET", "/status").headers
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_nothing_answers_outside_the_base_url(server: Server) -> None:
    for path in ("/jupyter-rm/api/status", "/jupyter-rm/feed"):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", path, headers={"Authorization": f"token {TOKEN}"})
        assert connection.getresponse().status in (302, 404)
        connection.close()


def test_the_token_is_not_logged(server: Server) -> None:
    server.ask("GET", f"/status?token={TOKEN}", token=None)
    server.ask("GET", f"/sessions/nix?token={TOKEN}", token=None)
    assert TOKEN not in server.said


@pytest.mark.parametrize("error", [ZeroDivisionError("a slip of ours"), web.HTTPError(404, "nothing there")])
def test_the_token_is_not_logged_when_a_handler_fails(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(Api, "log", logging.getLogger("jrm-test-api"))
    handler = object.__new__(Api)
    asked = HTTPServerRequest("GET", f"/jupyter-rm/api/x?token={TOKEN}", headers=HTTPHeaders({"Host": "here"}))
    asked.remote_ip = "127.0.0.1"
    handler.request = asked
    handler.log_exception(type(error), error, None)
    assert "GET /jupyter-rm/api/x (127.0.0.1)" in caplog.text
    assert TOKEN not in caplog.text
