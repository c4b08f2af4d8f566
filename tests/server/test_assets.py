"""What pages need to draw comes from the server itself, to those who are logged in, and is kept by the page."""

from __future__ import annotations

import gzip
from pathlib import Path

import bokeh
import pytest
from server_kit import Server

from jupyter_rm.views.windows import DRAWN

JS = Path(bokeh.__file__).parent / "server" / "static" / "js"


@pytest.mark.parametrize("view", DRAWN)
def test_a_figure_is_small_and_kept_by_the_page(server: Server, view: str) -> None:
    light = server.ask("GET", f"/figures/{view}")
    dark = server.ask("GET", f"/figures/{view}?theme=dark")
    assert light.json["bokeh"] == bokeh.__version__ and light.json["view"] == view
    assert light.json["version"] != dark.json["version"], "two themes, two figures"
    assert max(len(light.body), len(dark.body)) <= 60_000
    etag = light.headers["Etag"]
    again = server.ask("GET", f"/figures/{view}", headers={"If-None-Match": etag})
    assert (again.status, again.body) == (304, b"")
    other = server.ask("GET", f"/figures/{view}?theme=dark", headers={"If-None-Match": etag})
    assert other.status == 200


def test_a_wrong_figure_is_named(server: Server) -> None:
    for path, code in (("/figures/moon", 400), ("/figures/usage?theme=pink", 400), ("/figures/../status", 404)):
        answer = server.ask("GET", path)
        assert answer.status in (code, 404), answer.body
        if answer.status == 400:
            assert answer.json["code"] == "JRM-Q65" and answer.json["hint"]


def test_bokehjs_comes_from_the_installed_package(server: Server) -> None:
    path = "/jupyter-rm/static/bokeh/bokeh.min.js"
    answer = server.ask("GET", path, path_is_whole=True)
    assert answer.status == 200 and answer.body == (JS / "bokeh.min.js").read_bytes()
    assert answer.headers["Content-Type"].startswith("text/javascript")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    packed = server.ask("GET", path + "?v=1", headers={"Accept-Encoding": "gzip"}, path_is_whole=True)
    assert gzip.decompress(packed.body) == answer.body and "immutable" in packed.headers["Cache-Control"]
    etag = {"If-None-Match": answer.headers["Etag"]}
    assert server.ask("GET", path, headers=etag, path_is_whole=True).status == 304


@pytest.mark.parametrize(
    "name", ["bokeh.js", "compiler.js", "..%2f..%2fapplication.js", "%2e%2e/bokeh.min.js", "bokeh.min.js.map", "bokeh"]
)
def test_nothing_else_is_served(server: Server, name: str) -> None:
    answer = server.ask("GET", f"/jupyter-rm/static/bokeh/{name}", path_is_whole=True)
    assert answer.status in (400, 404), answer.status


def test_no_script_without_a_login(server: Server) -> None:
    answer = server.ask("GET", "/jupyter-rm/static/bokeh/bokeh.min.js", token=None, path_is_whole=True)
    assert answer.status in (401, 403)
