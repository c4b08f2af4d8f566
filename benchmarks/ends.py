"""100 jobs on real Slurm of which nothing remembers the end: their final states, read when all is over.

    python benchmarks/ends.py [--bundles 97]

The test of that name at full size: no accounting, no entry in the queue, the broker killed before most of them begin.
Ends with 1 when one end is wrong or unknown.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

TEST = Path(__file__).parent.parent / "tests" / "remote" / "test_ends.py"


def main() -> int:
    """Run the test with this size and pass its output on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundles", type=int, default=97, help="besides three pilots and a bundle that fails")
    options = parser.parse_args()
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-s", "--timeout", "1800", str(TEST)],
        env={**os.environ, "JRM_ENDS_BUNDLES": str(options.bundles)},
        check=False,
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
