"""How long a person waits at the start: import, first session (broker started), pilot, first results, second kernel.

``python benchmarks/start.py [--quick]`` prints one line per figure. Limits measured beside it: the same interpreter
started for nothing (``python -c pass``). Uses a home of its own in /tmp and cleans up.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

FIRST = """
import time; t = [time.perf_counter()]
def lap(): t.append(time.perf_counter()); return round((t[-1] - t[-2]) * 1e3, 1)
out = {}
import jupyter_rm as jrm; out["import"] = lap()
s = jrm.open("start"); out["open a session"] = lap()
p = s.pilot("local"); p.wait(); out["local pilot active"] = lap()
s.submit(jrm.Task("/bin/true")).wait(); out["first program ended"] = lap()
s.call(pow, 2, 2).result(); out["first call (a worker is started)"] = lap()
out["all of it"] = round((t[-1] - t[0]) * 1e3, 1)
s.close()
import json; print(json.dumps(out))
"""
AGAIN = """
import time; b = time.perf_counter()
import jupyter_rm as jrm; s = jrm.open("start")
print(round((time.perf_counter() - b) * 1e3, 1)); s.close()
"""


def child(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def main() -> None:
    import time

    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    rounds = 2 if parser.parse_args().quick else 5
    rows: dict[str, list[float]] = {}
    for _ in range(rounds):
        home = str(Path(tempfile.mkdtemp(prefix="jrmb-")).resolve())
        os.environ["JUPYTER_RM_HOME"] = home
        try:
            begun = time.perf_counter()
            child("pass")
            rows.setdefault("(limit: python -c pass)", []).append((time.perf_counter() - begun) * 1e3)
            for name, value in json.loads(child(FIRST)).items():
                rows.setdefault(name, []).append(value)
            rows.setdefault("second kernel: import and open", []).append(float(child(AGAIN)))
        finally:
            subprocess.run([sys.executable, "-m", "jupyter_rm", "broker", "stop", "--force"], capture_output=True)
            shutil.rmtree(home, ignore_errors=True)
    for name, values in rows.items():
        print(f"{name:<40} {statistics.median(values):8.1f} ms")


if __name__ == "__main__":
    main()
