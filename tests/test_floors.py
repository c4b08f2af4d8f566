"""The house rules that a machine can check: floors, cycles, forbidden calls, sizes, generated pages."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "jupyter_rm"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)
TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py") if "__pycache__" not in path.parts)
# Bytes become objects only where the user's own code runs: in the kernel (client, notebook) and in a worker.
MAY_UNPICKLE = ("jupyter_rm/client/", "jupyter_rm/notebook/", "jupyter_rm/agent/worker")
LONGEST = 600  # lines; the aim is 450


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


def dotted(node: ast.expr) -> str:
    """Return ``a.b.c`` of a name or attribute, empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = dotted(node.value)
        return f"{head}.{node.attr}" if head else ""
    return ""


def calls(path: Path) -> Iterator[tuple[int, str, ast.Call]]:
    """Yield (line, full name, call) of every call whose name can be followed through the imports of the module."""
    module = tree(path)
    known: dict[str, str] = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                known[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and (name := dotted(node.func)):
            head, _, rest = name.partition(".")
            full = known.get(head, head)
            yield node.lineno, f"{full}.{rest}" if rest else full, node


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, absolute module name or name within it) of every import that is ever executed, deferred ones too."""
    package = [*path.relative_to(ROOT).with_suffix("").parts]
    module = tree(path)
    # What only the type checker reads is never executed.
    unread = {
        inner
        for node in ast.walk(module)
        if isinstance(node, ast.If) and dotted(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for line in node.body
        for inner in ast.walk(line)
    }
    for node in ast.walk(module):
        if node in unread:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level]) if node.level else ""
            name = ".".join(filter(None, (base, node.module)))
            yield node.lineno, name
            yield from ((node.lineno, f"{name}.{alias.name}") for alias in node.names)


def test_contracts_hold() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache", "--no-logo"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_package_has_a_floor() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    layers = text[text.index("layers = [") : text.index("]", text.index("layers = ["))]
    packages = [path.parent.name for path in PACKAGE.glob("*/__init__.py")]
    homeless = [name for name in packages if f"jupyter_rm.{name}" not in layers and name != "testing"]
    assert homeless == [], "name these packages in the layers of tool.importlinter in pyproject.toml"


def test_no_import_cycles() -> None:
    names = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in MODULES}
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        seen = {module for _, module in imports(path) if module in names and module != name}
        # `from . import journal` means the module, not the package it lies in.
        graph[name] = {one for one in seen if not any(other.startswith(one + ".") for other in seen)}
    # Peel off modules that import nothing that is left: what remains is on a cycle or leads to one; from the other
    # side, peel off what nothing imports.
    left = dict(graph)
    while True:
        leaves = [n for n, to in left.items() if not to & left.keys()]
        tops = [n for n in left if not any(n in to for m, to in left.items() if m != n)]
        if not leaves and not tops:
            break
        for name in {*leaves, *tops}:
            left.pop(name, None)
    arrows = [f"{name} -> {', '.join(sorted(graph[name] & left.keys()))}" for name in sorted(left)]
    assert not left, "import cycle:\n" + "\n".join(arrows)


def is_zero(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and not node.value


UNPICKLING = {f"{m}.{f}" for m in ("pickle", "cloudpickle", "_pickle") for f in ("load", "loads", "Unpickler")}
FORBIDDEN_CALLS = {"os.fork", "os.forkpty", "os.system", "os.popen", "pty.fork"}


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_module_keeps_the_rules(path: Path) -> None:
    wrong: list[str] = []
    for line, name in imports(path):
        if name.split(".")[0] == "multiprocessing" or name in FORBIDDEN_CALLS:
            wrong.append(f"line {line}: {name}")
        if name in ("concurrent.futures.ProcessPoolExecutor", "concurrent.futures.process"):
            wrong.append(f"line {line}: {name} forks")
    for line, name, call in calls(path):
        if name in FORBIDDEN_CALLS:
            wrong.append(f"line {line}: {name}()")
        shell = next((keyword.value for keyword in call.keywords if keyword.arg == "shell"), None)
        if shell is not None and not is_zero(shell) and name.startswith(("subprocess.", "asyncio.")):
            wrong.append(f"line {line}: {name}(shell=...)")
        if name == "asyncio.create_subprocess_shell":
            wrong.append(f"line {line}: {name}()")
        if name in UNPICKLING and not short(path).startswith(MAY_UNPICKLE):
            wrong.append(f"line {line}: {name}() outside the kernel and the worker")
    module = tree(path)
    if module.body and not (ast.get_docstring(module) or "").strip():
        wrong.append("no module docstring")
    assert wrong == []


@pytest.mark.parametrize("path", TESTS, ids=short)
def test_tests_never_sleep(path: Path) -> None:
    naps = [
        f"line {line}: {name}"
        for line, name, call in calls(path)
        # A sleep of zero only lets others run.
        if name in ("time.sleep", "asyncio.sleep") and not (call.args and is_zero(call.args[0]))
    ]
    assert naps == [], "wait for an event with a deadline instead"


def test_files_are_short_enough_to_read() -> None:
    kinds = (".py", ".pyi", ".cpp", ".hpp", ".sh", ".c", ".js", ".ts")
    places = [PACKAGE, ROOT / "tests", ROOT / "scripts", ROOT / "benchmarks"]
    found = {
        short(path): len(path.read_bytes().splitlines())
        for place in places
        for path in place.rglob("*")
        if path.suffix in kinds and "node_modules" not in path.parts
    }
    assert found, "nothing was looked at"
    assert {name: lines for name, lines in found.items() if lines > LONGEST} == {}, "split along a noun"


@pytest.mark.parametrize("script", ["draw_states.py", "list_errors.py", "list_fields.py"])
def test_generated_pages_are_current(script: str) -> None:
    command = [sys.executable, str(ROOT / "scripts" / script), "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
