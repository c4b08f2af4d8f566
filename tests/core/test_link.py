"""The link: whatever the network does, both streams arrive whole, in order, once; also over restarts of both ends."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_rm.wire.link import WINDOW_FRAMES, Inbox, Outbox


@settings(max_examples=300, deadline=None)
@given(st.data(), st.integers(1, 150))
def test_everything_arrives_in_order_once(data: st.DataObject, count: int) -> None:
    outbox, inbox = Outbox(patience=2.0), Inbox()
    for number in range(count):
        outbox.put(b"%d" % number)
    taken: list[bytes] = []
    now = 0.0
    flying: list[tuple[int, bytes]] = []
    for _ in range(60):  # a network that may do anything to what is under way
        now += 1.0
        if outbox.overdue(now):
            outbox.rewind(outbox.acked, now)
        flying += outbox.take(now)
        order = data.draw(st.permutations(range(len(flying)))) if len(flying) < 8 else range(len(flying))
        fate = data.draw(st.lists(st.sampled_from(["arrive", "lose", "twice", "late"]), min_size=1, max_size=8))
        later = []
        for at, place in enumerate(order):
            what = fate[at % len(fate)]
            if what == "late":
                later.append(flying[place])
            for _ in range({"arrive": 1, "twice": 2}.get(what, 0)):
                if inbox.take(flying[place][0]):
                    taken.append(flying[place][1])
        flying = later
        if data.draw(st.booleans()):
            outbox.ack(inbox.last, now)
    for _ in range(count + 5):  # then one that works
        now += 3.0
        if outbox.overdue(now):
            outbox.rewind(outbox.acked, now)
        taken += [body for seq, body in outbox.take(now) if inbox.take(seq)]
        outbox.ack(inbox.last, now)
    assert taken == [b"%d" % number for number in range(count)]
    assert outbox.unacked == 0


def test_the_window_bounds_what_flies() -> None:
    outbox = Outbox()
    for _ in range(3 * WINDOW_FRAMES):
        outbox.put(b"x")
    assert len(outbox.take(0.0)) == WINDOW_FRAMES
    assert outbox.take(0.0) == []
    outbox.ack(10, 1.0)
    assert [seq for seq, _ in outbox.take(1.0)] == list(range(WINDOW_FRAMES + 1, WINDOW_FRAMES + 11))


def test_a_large_body_goes_alone_but_goes() -> None:
    outbox = Outbox()
    outbox.put(bytes(40 << 20))
    outbox.put(b"x")
    assert [seq for seq, _ in outbox.take(0.0)] == [1]
    assert outbox.take(0.0) == []
    outbox.ack(1, 0.0)
    assert [seq for seq, _ in outbox.take(0.0)] == [2]


def test_what_is_acknowledged_stays_until_it_may_be_forgotten() -> None:
    outbox = Outbox()
    for number in range(5):
        outbox.put(b"%d" % number)
    outbox.take(0.0)
    outbox.ack(4, 0.0)
    outbox.forget(2)
    outbox.rewind(2, 0.0)  # the journal on the other side was damaged down to what it had kept
    assert [body for _, body in outbox.take(0.0)] == [b"2", b"3", b"4"]


def test_a_new_life_goes_on_from_the_spool() -> None:
    outbox = Outbox()
    outbox.restore(7, b"g")
    outbox.restore(8, b"h")
    outbox.rewind(7, 0.0)
    assert outbox.put(b"i") == 9
    assert outbox.take(0.0) == [(8, b"h"), (9, b"i")]


def test_numbers_the_other_side_knows_are_never_used_again() -> None:
    # Seed 24 of the simulation: a node lost the tail of its spool, and its agent was never heard again.
    outbox = Outbox()
    outbox.restore(1, b"a")
    outbox.rewind(5, 0.0)
    assert outbox.put(b"f") == 6
    assert outbox.take(0.0) == [(6, b"f")]


def test_a_spool_with_left_out_numbers_is_read_to_its_end() -> None:
    outbox = Outbox(filler=b"-")
    for seq, body in ((1, b"a"), (6, b"f"), (7, b"g")):
        outbox.restore(seq, body)
    outbox.rewind(4, 0.0)
    assert outbox.take(0.0) == [(5, b"-"), (6, b"f"), (7, b"g")]


def test_what_is_lost_for_good_does_not_stop_the_stream() -> None:
    # The other side waits for numbers that nobody has any more.
    outbox = Outbox(filler=b"-")
    outbox.restore(4, b"d")
    outbox.rewind(1, 0.0)
    assert outbox.take(0.0) == [(2, b"-"), (3, b"-"), (4, b"d")]
    outbox.ack(4, 0.0)
    outbox.forget(4)
    outbox.rewind(2, 0.0)
    assert outbox.take(0.0) == [(3, b"-"), (4, b"-")]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_lives_of_an_agent_lose_nothing_that_was_synced(data: st.DataObject) -> None:
    """Crashes of the agent and of its node, restarts of the broker: what was applied is a run of what was written."""
    disk: list[tuple[int, bytes]] = []
    synced = 0
    applied: list[bytes] = []
    inbox, kept, written = Inbox(), 0, 0
    outbox = Outbox()
    durable: set[bytes] = set()
    for _ in range(data.draw(st.integers(1, 40))):
        what = data.draw(st.sampled_from(("write", "write", "write", "sync", "talk", "talk", "crash", "node", "keep")))
        if what == "write":
            written += 1
            body = b"%d" % written
            disk.append((outbox.put(body), body))
        elif what == "sync":
            synced = len(disk)
            durable |= {body for _, body in disk}
        elif what == "keep":
            kept = inbox.last
            outbox.forget(min(kept, outbox.acked))
        elif what == "talk":
            for seq, body in outbox.take(0.0):
                if data.draw(st.booleans()) and inbox.take(seq):
                    applied.append(body)
            outbox.ack(inbox.last, 0.0)
        else:
            if what == "node":
                del disk[max(synced, len(disk) - data.draw(st.integers(0, 3))) :]
            outbox = Outbox()
            for seq, body in disk:
                outbox.restore(seq, body)
            outbox.rewind(inbox.last, 0.0)
    outbox.rewind(inbox.last, 0.0)
    applied += [body for seq, body in outbox.take(0.0) if inbox.take(seq)]
    numbers = [int(body) for body in applied]
    assert numbers == sorted(set(numbers)), "repeated or out of order"
    assert durable <= set(applied), "something synced was lost"
