"""How near the spawner comes to the floor: N x /bin/true, each with its own directory, stdout and stderr file.

    python benchmarks/spawn.py [N] [--rounds 5] [--allocs 2] [--threads 0]

Peers in the same run, alternating: the floor (peers/vfork_limit.c: vfork, two files, wait; as many processes as there
are allocations) and subprocess.Popen in as many threads. Ours makes N directories besides. Prints one line per round,
then medians and their ratios; the spawner's bar is 92 % of the floor. Nothing is deleted before the last round: ext4
avoids inodes deleted within the last seconds and searches long for others, which makes the next round up to four
times slower, whoever's turn it is. Wait a little between two runs for the same reason, or try --dir /dev/shm.
"""

import argparse
import os
import select
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from jupyter_rm.runtime.process import ENDED, STARTED, Launch, Spawner

TRUE = "/bin/true"


def ours(n: int, allocs: int, threads: int, root: str) -> float:
    spawner = Spawner(threads)
    base = os.fsencode(root)
    spawner.running  # noqa: B018  (the host is up: a session starts it once)
    begin = time.perf_counter()
    env = spawner.env([b"%s=%s" % kv for kv in os.environb.items()])
    tasks = [Launch(i, [TRUE.encode()], env, b"%s/%d" % (base, i), b"", b"stdout", b"stderr") for i in range(1, n + 1)]
    spawner.queue(1, tasks[allocs:])
    spawner.start(1, range(allocs), tasks[:allocs])
    over = good = 0
    while over < n:
        select.select([spawner], [], [])
        events = spawner.events()
        over += int((events["kind"] != STARTED).sum())
        good += int(((events["kind"] == ENDED) & (events["status"] == 0)).sum())
    took = time.perf_counter() - begin
    spawner.close()
    assert good == n, f"{n - good} of {n} went wrong"
    return took


def popen(n: int, allocs: int, _threads: int, root: str) -> float:
    def work(first: int) -> None:
        for i in range(first, n, allocs):
            cwd = f"{root}/{i}"
            os.mkdir(cwd, 0o700)
            with open(f"{cwd}/stdout", "wb") as out, open(f"{cwd}/stderr", "wb") as err:
                subprocess.Popen([TRUE], cwd=cwd, stdin=subprocess.DEVNULL, stdout=out, stderr=err).wait()

    begin = time.perf_counter()
    workers = [threading.Thread(target=work, args=(i,)) for i in range(allocs)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    return time.perf_counter() - begin


def compile_floor(folder: str) -> Callable[[int, int, int, str], float]:
    program = Path(folder, "vfork_limit")
    source = Path(__file__).parent / "peers" / "vfork_limit.c"
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", program, source], check=True)

    def floor(n: int, allocs: int, _threads: int, root: str) -> float:
        return float(subprocess.run([program, str(n), str(allocs), root, TRUE], check=True, capture_output=True).stdout)

    return floor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("n", nargs="?", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--allocs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--no-popen", action="store_true")
    parser.add_argument("--dir", help="where the directories are made")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.dir) as scratch:
        runs = {"floor": compile_floor(scratch), "spawner": ours}
        if not args.no_popen:
            runs["popen"] = popen
        rates: dict[str, list[float]] = {name: [] for name in runs}
        for i in range(args.rounds):
            for name in list(runs)[:: 1 if i % 2 == 0 else -1]:
                root = tempfile.mkdtemp(dir=scratch)
                rates[name].append(args.n / runs[name](args.n, args.allocs, args.threads, root))
            print(f"round {i + 1}: " + "   ".join(f"{k} {v[-1]:7.0f}/s" for k, v in rates.items()), flush=True)
        floor = statistics.median(rates["floor"])
        for name, got in rates.items():
            middle = statistics.median(got)
            pairs = statistics.median(a / b for a, b in zip(got, rates["floor"], strict=True))
            print(
                f"{name:8} median {middle:7.0f}/s   {middle / floor:6.1%} of the floor   (median of pairs {pairs:6.1%})"
            )
        print(f"{args.n} x {TRUE}, {args.allocs} at a time; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cpus")


if __name__ == "__main__":
    main()
