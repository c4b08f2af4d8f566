"""kill -9 of kernel, broker and agent at 20 random moments during 10,000 tasks; the test of that name, at full size.

    python benchmarks/chaos.py [--tasks 10000] [--kills 20] [--seed 7]

Ends with 1 when a task was lost, ended twice, started twice against its policy, or a process was left over.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

TEST = Path(__file__).parent.parent / "tests" / "chaos" / "test_kills.py"


def main() -> int:
    """Run the test with these sizes and pass its output on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    sizes = {"JRM_CHAOS_TASKS": options.tasks, "JRM_CHAOS_KILLS": options.kills, "JRM_CHAOS_SEED": options.seed}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-s", "--timeout", "600", str(TEST)],
        env={**os.environ, **{name: str(size) for name, size in sizes.items()}},
        check=False,
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
