"""Followers that keep up hear everything; one that does not is skipped, and told where it stands when it speaks."""

from __future__ import annotations

from jupyter_rm.broker.feeds import CREDIT_BYTES, Feeds
from jupyter_rm.model.messages import Feed, Message

BIG = b"\x90" * (CREDIT_BYTES // 4)


class Told:
    """Feeds and what was sent to whom."""

    def __init__(self) -> None:
        self.sent: dict[bytes, list[Feed]] = {}
        self.deaf: set[bytes] = set()
        self.feeds = Feeds(self._send)

    def _send(self, client: bytes, message: Message) -> bool:
        if client in self.deaf:
            return False
        assert isinstance(message, Feed)
        self.sent.setdefault(client, []).append(message)
        return True

    def cursors(self, client: bytes) -> list[int]:
        return [feed.cursor for feed in self.sent.get(client, [])]


def test_a_follower_that_says_nothing_is_skipped_after_its_credit_and_caught_up_when_it_speaks() -> None:
    told = Told()
    for client in (b"slow", b"quick"):
        told.feeds.follow("0-s", client, "s")
    for cursor in range(1, 21):
        told.feeds.publish("0-s", cursor - 1, cursor, [BIG])
        told.feeds.seen("0-s", b"quick", cursor, cursor)
    assert told.cursors(b"quick") == list(range(1, 21))
    assert told.cursors(b"slow") == [1, 2, 3, 4, 5]
    told.feeds.seen("0-s", b"slow", 5, 20)
    last = told.sent[b"slow"][-1]
    assert (last.before, last.cursor, last.facts) == (20, 20, ())
    told.feeds.publish("0-s", 20, 21, [BIG])
    assert told.cursors(b"slow")[-1] == 21


def test_seeing_a_part_gives_credit_for_that_part() -> None:
    told = Told()
    told.feeds.follow("0-s", b"c", "s")
    for cursor in range(1, 5):
        told.feeds.publish("0-s", cursor - 1, cursor, [BIG])
    told.feeds.seen("0-s", b"c", 3, 4)
    for cursor in range(5, 12):
        told.feeds.publish("0-s", cursor - 1, cursor, [BIG])
    assert told.cursors(b"c") == list(range(1, 9))


def test_a_client_that_takes_nothing_is_not_asked_again_and_one_that_left_hears_nothing() -> None:
    told = Told()
    told.feeds.follow("0-s", b"deaf", "s")
    told.feeds.follow("1-t", b"deaf", "t")
    told.deaf.add(b"deaf")
    told.feeds.publish("0-s", 0, 1, [b"\x90"])
    told.deaf.clear()
    told.feeds.publish("0-s", 1, 2, [b"\x90"])
    assert told.cursors(b"deaf") == []
    told.feeds.leave(b"deaf", "0-s")
    assert (told.feeds.count("0-s"), told.feeds.count("1-t")) == (0, 1)
