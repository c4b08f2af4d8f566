"""How fast the placer decides: one decision is one task released and one placed, through the batch API.

    python benchmarks/placement.py [--check] [--quick] [--rounds N]

Machines of 64 cores and 8 GPUs a node are filled, then churned: release a batch of random tasks, add as many, run a
pass. ``single`` asks for one core. ``mixed`` asks for 1 to 64 cores, some with 1 to 8 GPUs or half a GPU, and keeps ten
tasks a node waiting. ``memory`` is one core and one GiB, the shape real tasks have. The bare bitmap search
(``peers/bitmap.cpp``, compiled here) is the limit for ``single``: a search for a free core and nothing else.
Times cover release, add and schedule as Python calls them. Medians of rounds that alternate; ``--check`` exits 1 when
a bar is missed.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jupyter_rm.native._placer import Placer

NODES = (16, 1_000, 10_000)
CORES, GPUS, BATCH = 64, 8, 1_000
SINGLE_BAR, MIXED_BAR, GROWTH_BAR = 3e6, 1e6, 3.0


def machine(nodes: int) -> Placer:
    cores, gpus = np.full(nodes, CORES, np.uint16), np.full(nodes, GPUS, np.uint16)
    mem, lfs = np.full(nodes, 256 << 10, np.uint32), np.zeros(nodes, np.uint32)
    return Placer(cores, gpus, mem, lfs, np.full(nodes, 2, np.uint8), np.zeros(nodes, np.uint16))


class Churn:
    """A full machine and what it takes to keep it full."""

    def __init__(self, nodes: int, requests: list[dict[str, Any]], waiting: int) -> None:
        self.placer = machine(nodes)
        self.rng = np.random.default_rng(1)
        self.shapes = [self.placer.shape(**r) for r in requests]
        self.token, self.now = 1, 0.0
        self.add(waiting)
        started = self.placer.schedule(1 << 40, 0.0)[1]
        self.room = np.concatenate([started, np.zeros(len(started) + BATCH, np.uint64)])
        self.alive = self.room[: len(started)]

    def add(self, count: int) -> float:
        """Add `count` tasks, evenly over the shapes; the seconds spent in the placer."""
        spent = 0.0
        for shape, k in zip(
            self.shapes, self.rng.multinomial(count, [1 / len(self.shapes)] * len(self.shapes)), strict=True
        ):
            if k:
                tokens = np.arange(self.token, self.token + k, dtype=np.uint64)
                self.token += int(k)
                start = time.perf_counter()
                self.placer.add(shape, tokens)
                spent += time.perf_counter() - start
        return spent

    def run(self, batches: int) -> tuple[float, int]:
        """Seconds and decisions of `batches` batches."""
        spent, done = 0.0, 0
        for _ in range(batches):
            # Chosen and taken out without walking the whole list: a benchmark that empties the caches measures itself.
            size = len(self.alive)
            batch = min(BATCH, size)
            chosen = self.rng.choice(size, batch, replace=False, shuffle=False)
            gone, tail = self.alive[chosen], np.arange(size - batch, size)
            self.alive[np.sort(chosen[chosen < size - batch])] = self.alive[np.setdiff1d(tail, chosen)]
            self.alive = self.alive[: size - batch]
            self.now += 0.001
            start = time.perf_counter()
            self.placer.release(gone)
            spent += time.perf_counter() - start + self.add(batch)
            start = time.perf_counter()
            _, started, _ = self.placer.schedule(1 << 40, self.now)
            spent += time.perf_counter() - start
            if size - batch + len(started) > len(self.room):
                self.room = np.concatenate([self.room, np.zeros_like(self.room)])
                self.room[: size - batch] = self.alive
            self.room[size - batch : size - batch + len(started)] = started
            self.alive = self.room[: size - batch + len(started)]
            done += len(started)
        return spent, done


def mixed_requests() -> list[dict[str, Any]]:
    cores = range(1, 65)
    requests: list[dict[str, Any]] = [{"cores": c} for c in cores]
    requests += [{"cores": c, "gpus": g * 10_000} for c in (1, 2, 4, 8, 16, 32) for g in range(1, 9)]
    return requests + [{"cores": c, "gpus": 5_000} for c in (1, 2, 4, 8, 16, 32)]


def loads() -> dict[str, Callable[[int], Churn]]:
    return {
        "single": lambda n: Churn(n, [{"cores": 1}], n * CORES),
        "memory": lambda n: Churn(n, [{"cores": 1, "mem": 1024}], n * CORES),
        "mixed": lambda n: Churn(n, mixed_requests(), n * 10 + 2_000),
    }


def bitmap(program: Path, nodes: int, batches: int) -> tuple[float, int]:
    command = [str(program), str(nodes), str(CORES), str(BATCH), str(batches)]
    seconds, decisions = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(seconds), int(decisions)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit 1 when a bar is missed")
    parser.add_argument("--quick", action="store_true", help="fewer batches, for a first look")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    batches = 30 if options.quick else 150
    rates: dict[tuple[str, int], float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        program = Path(scratch) / "bitmap"
        source = Path(__file__).parent / "peers" / "bitmap.cpp"
        subprocess.run(["c++", "-O3", "-march=native", "-o", str(program), str(source)], check=True)
        for nodes in NODES:
            churns = {name: make(nodes) for name, make in loads().items()}
            times: dict[str, list[float]] = {name: [] for name in (*churns, "bitmap")}
            for _ in range(options.rounds):
                for name, churn in churns.items():
                    spent, done = churn.run(batches)
                    times[name].append(spent / done)
                spent, done = bitmap(program, nodes, batches)
                times["bitmap"].append(spent / done)
            for name, values in times.items():
                rates[name, nodes] = 1 / statistics.median(values)

    names = ["single", "memory", "mixed", "bitmap"]
    print(f"decisions/s, {CORES} cores + {GPUS} GPUs a node, batches of {BATCH}, medians of {options.rounds} rounds")
    print(f"{'nodes':>8}" + "".join(f"{name:>14}" for name in names) + f"{'single/bitmap':>16}")
    for nodes in NODES:
        ratio = rates["single", nodes] / rates["bitmap", nodes]
        print(f"{nodes:>8}" + "".join(f"{rates[name, nodes]:>14,.0f}" for name in names) + f"{ratio:>16.2f}")
    # Against the fastest smaller machine: 16 nodes end few mixed tasks a batch, and then Python's calls are the cost.
    growth = {name: max(rates[name, n] for n in NODES[:-1]) / rates[name, NODES[-1]] for name in names}
    print(f"{'growth':>8}" + "".join(f"{growth[name]:>13.2f}x" for name in names))

    missed = []
    for name, bar in (("single", SINGLE_BAR), ("memory", MIXED_BAR), ("mixed", MIXED_BAR)):
        if rates[name, NODES[-1]] < bar:
            missed.append(f"{name} at {NODES[-1]:,} nodes: {rates[name, NODES[-1]]:,.0f}/s is below {bar:,.0f}/s")
        if growth[name] > GROWTH_BAR:
            missed.append(
                f"{name} costs {growth[name]:.1f} times more at {NODES[-1]:,} nodes than on a smaller machine"
            )
    print("\n".join(f"MISSED: {m}" for m in missed) if missed else "all bars are met")
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
