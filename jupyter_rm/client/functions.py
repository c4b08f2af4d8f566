"""Pickling functions and arguments: once where that is safe, afresh where a stale copy could compute something wrong.

A function that workers can import travels by reference and is pickled once. A function from the notebook (or from a
module next to it) travels by value together with the globals it reads; its pickle is reused only while all of those
are the same unchangeable objects. Knows nothing about sessions. Read next: :mod:`.calls`.
"""

from __future__ import annotations

import builtins
import hashlib
import os
import pickle
import sys
import types
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..model.describe import Task, Template
from ..model.errors import RequestError
from .limits import check_call

# Objects that cannot change behind our back.
_FIXED = (int, float, complex, str, bytes, bool, type(None), types.BuiltinFunctionType, range)
_Watch = list[tuple[Any, str, Any]]  # a namespace or a function, a name in it, what it was
_MISSING = object()
_PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"


class Functions:
    """Pickled functions of one connection.

    Args:
        bodies: where the pickles are kept, by sha256.
    """

    def __init__(self, bodies: dict[bytes, bytes]) -> None:
        self._bodies = bodies
        self._known: weakref.WeakKeyDictionary[Any, tuple[bytes, Any, _Watch]] = weakref.WeakKeyDictionary()

    def sha(self, function: Callable[..., Any]) -> bytes:
        """Return the sha256 of the function's pickle, making it when needed.

        Raises:
            RequestError: it cannot be pickled; JRM-Q31, naming what is in the way; JRM-Q34: it is too large.
        """
        try:
            known = self._known.get(function)
        except TypeError:  # not hashable, or no weak references to it
            known = None
        if known is not None:
            sha, code, watch = known
            if code is getattr(function, "__code__", None) and all(_in(owner, n) is v for owner, n, v in watch):
                return sha
        if not callable(function):
            raise RequestError(f"{function!r} is not callable", hint="give a function", code="JRM-Q31")
        body = dump_function(function)
        check_call(f"function {getattr(function, '__qualname__', function)!s} with what it refers to", len(body))
        sha = hashlib.sha256(body).digest()
        self._bodies[sha] = body
        fixed = watch_of(function)
        if fixed is not None:
            try:
                self._known[function] = (sha, getattr(function, "__code__", None), fixed)
            except TypeError:
                pass
        return sha


def by_value(module: types.ModuleType | None) -> bool:
    """Must what this module defines travel by value, because a worker elsewhere cannot import it?"""
    if module is None or module.__name__ == "__main__":
        return True
    if module.__name__.partition(".")[0] in ("jupyter_rm", "builtins"):
        return False
    path = getattr(module, "__file__", None)
    if not path:
        return False
    path = str(Path(path).absolute())
    if any(path.startswith(base + os.sep) for base in {sys.prefix, sys.base_prefix}) or "site-packages" in path:
        return False
    try:
        return bool(path.startswith(str(Path.cwd()) + os.sep))
    except FileNotFoundError:
        return False


_local_cache: tuple[int, str, list[types.ModuleType], list[bytes]] = (0, "", [], [])


def _local() -> tuple[list[types.ModuleType], list[bytes]]:
    """Return the imported modules that travel by value, and all their names as they stand in a pickle."""
    global _local_cache
    try:
        here = str(Path.cwd())
    except FileNotFoundError:
        here = ""
    if _local_cache[:2] != (len(sys.modules), here):
        found = [
            module
            for name, module in list(sys.modules.items())
            if isinstance(module, types.ModuleType) and module.__name__ == name != "__main__" and by_value(module)
        ]
        names = [b"__main__", *(module.__name__.encode() for module in found)]
        _local_cache = (len(sys.modules), here, found, names)
    return _local_cache[2], _local_cache[3]


def _dumps_by_value(value: object) -> bytes:
    """Return a cloudpickle in which what local modules define stands by value."""
    import cloudpickle

    known = cloudpickle.list_registry_pickle_by_value()
    registered = [module for module in _local()[0] if module.__name__ not in known]
    for module in registered:
        cloudpickle.register_pickle_by_value(module)
    try:
        return _of_this_python(bytes(cloudpickle.dumps(value, protocol=5)))
    finally:
        for module in registered:
            cloudpickle.unregister_pickle_by_value(module)


def _of_this_python(body: bytes) -> bytes:
    """Return a pickle that names this Python, when ``body`` holds code: code runs in no other minor version."""
    if b"CodeType" not in body:
        return body
    version = _PYTHON.encode()
    # By hand: workers know this name, and nobody can import it here.
    head = b"\x80\x05c_jrm_worker\nof_python\n\x8c" + bytes([len(version)]) + version
    return head + b"B" + len(body).to_bytes(4, "little") + body + b"\x86R."


def dump_function(function: Callable[..., Any]) -> bytes:
    """Return the pickle of a function, by value where a worker could not import it.

    Raises:
        RequestError: it cannot be pickled; JRM-Q31.
    """
    try:
        return _dumps_by_value(function)
    except Exception as error:
        name = getattr(function, "__qualname__", repr(function))
        raise RequestError(
            f"function {name} cannot be pickled: {error}",
            hint="keep open files, locks and connections out of it; make them inside the function",
            code="JRM-Q31",
        ) from error


def dump_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Return the pickle of one call's arguments.

    Raises:
        RequestError: they cannot be pickled; JRM-Q32, naming the argument; JRM-Q34: they are too large.
    """
    body = _dump_arguments(args, kwargs)
    check_call("the arguments of a call", len(body))
    return body


def _dump_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    try:
        body = pickle.dumps((args, kwargs), 5)
        # Without this opcode it names no class and no function; with it, it may name one that workers cannot import.
        if b"\x93" not in body or not any(name in body for name in _local()[1]):
            return body
    except Exception:
        pass  # what pickle cannot do, cloudpickle may
    try:
        return _dumps_by_value((args, kwargs))
    except Exception as error:
        raise RequestError(
            f"{_culprit(args, kwargs)} cannot be pickled: {error}",
            hint="pass plain data: numbers, text, arrays, paths of files",
            code="JRM-Q32",
        ) from error


def dump_items(items: Sequence[Any]) -> list[bytes]:
    """Return one pickle of ``((item,), {})`` per item.

    Raises:
        RequestError: one cannot be pickled (JRM-Q32) or is too large (JRM-Q34).
    """
    dumps = pickle.dumps
    nothing: dict[str, Any] = {}
    try:
        bodies = [dumps(((item,), nothing), 5) for item in items]
    except Exception:
        return [dump_arguments((item,), {}) for item in items]
    check_call("an item", max(map(len, bodies), default=0))
    suspicious = [number for number, body in enumerate(bodies) if b"\x93" in body]
    if suspicious:
        for number in suspicious:
            bodies[number] = dump_arguments((items[number],), {})
    return bodies


def _culprit(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    import cloudpickle

    named = [(f"argument {number}", value) for number, value in enumerate(args)]
    named += [(f"argument {key!r}", value) for key, value in kwargs.items()]
    for name, value in named:
        try:
            cloudpickle.dumps(value, protocol=5)
        except Exception:
            return f"{name} ({type(value).__name__})"
    return "the arguments"


def watch_of(function: Any) -> _Watch | None:
    """Return what must stay the same for the function's pickle to stay right; None when that cannot be watched."""
    watch: _Watch = []
    return watch if _watch(function, watch, set()) else None


def _in(owner: Any, name: str) -> Any:
    return owner.get(name, _MISSING) if type(owner) is dict else getattr(owner, name)


def _watch(value: Any, watch: _Watch, seen: set[int]) -> bool:
    if id(value) in seen or isinstance(value, _FIXED):
        return True
    seen.add(id(value))
    if isinstance(value, types.ModuleType):  # one that travels by value may be reloaded, or a name in it set
        return not by_value(value)
    if isinstance(value, type):
        return not by_value(sys.modules.get(value.__module__))
    if isinstance(value, (tuple, frozenset)):
        return all(_watch(item, watch, seen) for item in value)
    if not isinstance(value, types.FunctionType):
        return False
    if not by_value(sys.modules.get(value.__module__)):
        return True
    if len(seen) > 1:  # a helper, not the function itself: %autoreload changes the code of both in place
        watch += [(value, name, getattr(value, name)) for name in ("__code__", "__defaults__")]
    parts: list[Any] = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    if value.__closure__:  # its variables can be rebound at any time by the function around it
        return False
    if value.__dict__:
        return False
    for name in _names(value.__code__):
        if name in value.__globals__:
            item = value.__globals__[name]
            watch.append((value.__globals__, name, item))
            parts.append(item)
        elif not hasattr(builtins, name):
            watch.append((value.__globals__, name, _MISSING))
    return all(_watch(part, watch, seen) for part in parts)


def _names(code: types.CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names(constant)
    return names


def call_template(fields: Mapping[str, Any]) -> Template:
    """Return the description of calls with such fields; RequestError JRM-Q06 for one that means nothing for a call."""
    nothing = (
        *("executable", "arguments", "args", "mode", "ranks", "stdin", "mpi"),
        *("pre_exec", "post_exec", "pre_launch", "post_launch"),
        *("service", "ready", "ready_file", "startup_timeout"),
    )
    for name in (*nothing, "input_staging", "output_staging", "stage_on_error"):
        if name in fields:
            raise RequestError(f"{name}: means nothing for a Python call", hint="leave it out", code="JRM-Q06")
    plain = Task("python", **{name: value for name, value in fields.items() if name != "after"}).template()
    return msgspec.structs.replace(plain, executable="", mode="call")
