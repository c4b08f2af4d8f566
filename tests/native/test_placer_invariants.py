"""Whatever happens, nothing is given twice, everything comes back, and no token is lost or doubled."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from placer_kit import machine, request, u64

from jupyter_rm.native._placer import Placer


class Books:
    """What a suspicious accountant writes down about one placer."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        args, keywords = machine(self.rng)
        self.cores, self.gpus, self.mem, _, _, self.parts, self.named = args
        self.p = Placer(*args, **keywords)
        self.empty = self.p.free()
        self.requests = [request(self.rng) for _ in range(4)]
        self.shapes = [self.p.shape(**r) for r in self.requests]
        self.shape_of: dict[int, int] = {}
        self.waiting: set[int] = set()
        self.taken: dict[int, list[int]] = {}
        self.running: dict[int, int] = {}  # alloc -> token
        self.ended: set[int] = set()
        self.next_token = 1
        self.now = 0.0

    def add(self, which: int, count: int, tag: int) -> None:
        tokens = list(range(self.next_token, self.next_token + count))
        self.next_token += count
        self.shape_of.update(dict.fromkeys(tokens, which))
        self.waiting |= set(tokens)
        self.p.add(self.shapes[which], u64(tokens), self.rng.choice((0, 1)), tag, tag == 2)

    def schedule(self, limit: int) -> None:
        self.now += 1.0
        tokens, allocs, where = (x.tolist() for x in self.p.schedule(limit, self.now))
        assert len(tokens) <= limit
        for token, alloc, node in zip(tokens, allocs, where, strict=True):
            assert token in self.waiting, f"token {token} started without waiting"
            assert alloc not in self.running
            assert self.p.slots(alloc)[0][1] == node
            self.waiting.remove(token)
            self.running[alloc] = token

    def release(self, share: float) -> None:
        gone = self.rng.sample(sorted(self.running), int(len(self.running) * share))
        self.p.release(u64(gone))
        self.ended |= {self.running.pop(a) for a in gone}

    def remove(self, share: float) -> None:
        asked = self.rng.sample(range(1, self.next_token + 1), int(self.next_token * share))
        gone = self.p.remove(u64(asked)).tolist()
        assert set(gone) == set(asked) & self.waiting
        assert len(gone) == len(set(gone))
        self.waiting -= set(gone)
        self.ended |= set(gone)

    def take(self, which: int, count: int) -> None:
        tokens = self.p.take(self.shapes[which], count).tolist()
        assert set(tokens) <= self.waiting
        self.waiting -= set(tokens)
        self.taken.setdefault(self.shapes[which], []).extend(tokens)

    def put_back(self) -> None:
        for shape, tokens in self.taken.items():
            self.p.put_back(shape, u64(tokens))
            self.waiting |= set(tokens)
        self.taken.clear()

    def node(self, node: int, state: Any) -> None:
        self.p.node_state(node % len(self.cores), state)

    def audit(self) -> None:
        cores: Counter[tuple[int, int]] = Counter()
        gpus: Counter[tuple[int, int]] = Counter()
        mem: Counter[int] = Counter()
        for alloc, token in self.running.items():
            want = self.requests[self.shape_of[token]]
            slots = self.p.slots(alloc)
            assert [s[0] for s in slots] == list(range(want["ranks"])), "a rank is missing"
            per_node = Counter(s[1] for s in slots)
            if want["ranks_per_node"]:
                assert max(per_node.values()) <= want["ranks_per_node"]
            for _, node, mine, devices in slots:
                assert len(set(mine)) == want["cores"]
                assert sum(share for _, share in devices) == want["gpus"]
                assert len(devices) == max(1, want["gpus"] // 10_000) if want["gpus"] else not devices
                assert want.get("partition", -1) in (-1, self.parts[node])
                cores.update((node, c) for c in mine)
                for g, share in devices:
                    gpus[node, g] += share
                mem[node] += want.get("mem", 0)
        assert all(n == 1 for n in cores.values()), "a core was given twice"
        assert all(c < self.cores[node] for node, c in cores)
        assert all(n <= 10_000 for n in gpus.values()), "a GPU was given beyond its whole"
        assert all(g < self.gpus[node] for node, g in gpus)
        assert all(n <= self.mem[node] for node, n in mem.items())
        busy = Counter(node for node, _ in cores)
        assert all(self.p.node_busy_cores[node] >= n for node, n in busy.items())
        assert (self.p.waiting, self.p.running) == (len(self.waiting), len(self.running))
        everything = set(range(1, self.next_token))
        known = [self.waiting, set(self.running.values()), self.ended, set().union(*self.taken.values())]
        assert set().union(*known) == everything and sum(map(len, known)) == len(everything)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 3), st.integers(1, 20), st.sampled_from((0, 0, 0, 1, 2))),
        st.tuples(st.just("schedule"), st.sampled_from((1, 5, 1000))),
        st.tuples(st.just("release"), st.floats(0, 1)),
        st.tuples(st.just("remove"), st.floats(0, 0.3)),
        st.tuples(st.just("take"), st.integers(0, 3), st.integers(1, 9)),
        st.tuples(st.just("put_back")),
        st.tuples(st.just("node"), st.integers(0, 7), st.sampled_from(("up", "up", "drain", "down"))),
    ),
    max_size=40,
)


@settings(max_examples=250, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 1 << 32), story=steps)
def test_the_books_always_balance(seed: int, story: list[tuple[Any, ...]]) -> None:
    books = Books(seed)
    for name, *args in story:
        getattr(books, name)(*args)
        books.audit()
    for node in range(len(books.cores)):
        books.node(node, "up")
    books.release(1.0)
    assert books.p.free() == books.empty, "release did not restore exactly what was there"
    assert not books.p.node_busy_cores.any()
    assert not books.p.node_busy_gpus.any()


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 1 << 32))
def test_everything_that_can_run_runs_in_the_end(seed: int) -> None:
    books = Books(seed)
    for _ in range(30):
        books.add(books.rng.randrange(4), books.rng.randint(1, 5), books.rng.choice((0, 0, 1, 2)))
    for _ in range(2_000):
        if not any(books.p.explain(s)["ever"] and books.p.waiting_shape(s) for s in books.shapes):
            break
        books.schedule(1000)
        assert books.running, f"stuck with {books.p.waiting} waiting tokens on an idle machine"
        books.release(1.0)
    else:
        raise AssertionError(f"{books.p.waiting} tokens still wait after 2000 rounds")
