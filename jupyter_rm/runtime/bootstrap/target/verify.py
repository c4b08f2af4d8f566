"""Imports everything an agent needs with the Python that will run it, and prints what it is as one line of JSON.

Constant text, run as ``python -I -c THIS [ours]`` inside an environment; a failing import fails it, with its traceback.
``ours``: one that is being made, from which what does not work here is removed.
"""

import importlib
import importlib.util
import json
import os
import pkgutil
import subprocess
import sys

versions = {}
for name, module in (
    ("numpy", "numpy"),
    ("msgspec", "msgspec"),
    ("pyzmq", "zmq"),
    ("psutil", "psutil"),
    ("cloudpickle", "cloudpickle"),
    ("jupyter_rm", "jupyter_rm"),
):
    versions[name] = str(getattr(importlib.import_module(module), "__version__", ""))
import jupyter_rm  # noqa: E402

for package in ("agent", "core", "wire", "model"):
    found = importlib.import_module("jupyter_rm." + package)
    for info in pkgutil.walk_packages(found.__path__, found.__name__ + "."):
        if not info.name.endswith("__main__"):
            importlib.import_module(info.name)
for name in ("logs", "process", "spool", "probe"):
    importlib.import_module("jupyter_rm.runtime." + name)

native = {}
for name in ("_placer", "_spawner"):
    try:
        importlib.import_module("jupyter_rm.native." + name)
        native[name] = ""
    except ImportError as error:
        native[name] = str(error)
guard = os.path.join(os.path.dirname(jupyter_rm.__file__), "native", "jrm-guard")
if os.path.exists(guard):
    try:
        native["guard"] = "" if subprocess.run([guard, "--", "/bin/true"], timeout=20).returncode == 0 else "it fails"
    except (OSError, subprocess.SubprocessError) as error:
        native["guard"] = str(error)
    if native["guard"] and sys.argv[1:] == ["ours"]:  # it is looked for by its name
        try:
            os.unlink(guard)
        except OSError:
            pass
else:
    native["guard"] = "not built for this machine"
spec = importlib.util.find_spec("jupyter_rm.runtime.bootstrap")
start = os.path.join(os.path.dirname(spec.origin), "target", "start.py") if spec and spec.origin else ""
print(
    json.dumps(
        {
            "versions": versions,
            "native": native,
            "python": sys.executable,
            "python_version": ".".join(map(str, sys.version_info[:3])),
            "start": start if os.path.isfile(start) else "",
        }
    )
)
