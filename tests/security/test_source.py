"""What no module may do, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import jupyter_rm

ROOT = Path(jupyter_rm.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
OPENS_CODE = {"pickle", "_pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib", "yaml", "runpy"}
# The user's kernel makes and opens pickles, a worker opens them to run them; a cell of %%jrm python is run there.
MAY_PICKLE = {"agent/worker.py", "client/functions.py", "client/results.py"}
MAY_EVALUATE = {"notebook/remote.py"}
# Tables in memory for people's own questions; the names of their columns are quoted there.
MAY_BUILD_SQL = {"client/tables.py"}


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


def _calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.AST]:
    return {_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}


def test_only_the_users_kernel_and_workers_open_pickles(trees: dict[str, ast.AST]) -> None:
    found = {name for name, tree in trees.items() if OPENS_CODE & set(_imports(tree))}
    assert found == MAY_PICKLE
    for name, tree in trees.items():
        for called, node in _calls(tree):
            assert called != "np.load", f"{name}:{node.lineno}"


def test_text_becomes_code_in_one_place_only(trees: dict[str, ast.AST]) -> None:
    found = {name for name, tree in trees.items() for called, _ in _calls(tree) if called in ("eval", "exec")}
    assert found == MAY_EVALUATE


def test_no_shell_and_no_fork(trees: dict[str, ast.AST]) -> None:
    for name, tree in trees.items():
        assert "multiprocessing" not in set(_imports(tree)), name
        for called, node in _calls(tree):
            place = f"{name}:{node.lineno}"
            assert called not in ("os.system", "os.popen", "os.fork", "subprocess.getoutput", "pty.fork"), place
            for keyword in node.keywords:
                shell = keyword.arg == "shell" and isinstance(keyword.value, ast.Constant) and keyword.value.value
                assert not shell, place


def test_sql_is_put_together_from_constants_only(trees: dict[str, ast.AST]) -> None:
    for name, tree in trees.items():
        if name in MAY_BUILD_SQL:
            continue
        for called, node in _calls(tree):
            if called.endswith((".execute", ".executemany")) and node.args:
                assert not isinstance(node.args[0], (ast.JoinedStr, ast.BinOp)), f"{name}:{node.lineno}"


def test_unknown_ssh_hosts_are_never_added_silently(trees: dict[str, ast.AST]) -> None:
    for name, tree in trees.items():
        text = ast.unparse(tree)
        assert "AutoAddPolicy" not in text, name
        assert "WarningPolicy" not in text, name
