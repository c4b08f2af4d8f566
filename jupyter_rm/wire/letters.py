"""Frames in files: the road that is left when no network path joins two programs that see the same directory.

A letter is one file that holds the frames said since the last one, in order. Letters are numbered; the reader takes
those that are complete and removes them. They may be lost, come twice or late: the streams above expect no better.
Knows names and bytes, no filesystem. Read next: :mod:`jupyter_rm.agent.link` and :mod:`jupyter_rm.broker.post`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from ..model.errors import ProtocolError

# A letter is not larger than this unless a single frame is.
LETTER_BYTES = 4 << 20
# Directories under a pilot's place: what the agent wrote, what the broker wrote.
UP, DOWN = "up", "down"
# Files there: orders that came with the pilot (written by the broker), and the agent's last hello.
WORK, HELLO = "work", "hello"
# Beside the broker's letters: where the agent is to dial. It stays there, so that an agent's next life knows it too.
DIAL = "dial"
_NAME = re.compile(r"([0-9]{12})\.([0-9a-f]{8})")
_decoder = msgspec.msgpack.Decoder(list[bytes])
_ENDPOINT = re.compile(r"tcp://[0-9]{1,3}(\.[0-9]{1,3}){3}:[0-9]{1,5}")
_ENDPOINTS_MOST = 16


class Dial(msgspec.Struct):
    """Where the agent is to dial.

    Attributes:
        endpoints: ``tcp://`` and a numeric address; all lead to one socket. number: which telling this is.
    """

    endpoints: list[str]
    number: str

    @classmethod
    def read(cls, body: bytes) -> Dial:
        """Return what a file says; ProtocolError when it says nothing of the kind."""
        try:
            said = msgspec.json.decode(body, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ProtocolError(f"malformed endpoints: {error}", code="JRM-N02") from None
        if len(said.endpoints) > _ENDPOINTS_MOST or not all(map(_ENDPOINT.fullmatch, said.endpoints)):
            raise ProtocolError(f"malformed endpoints: {said.endpoints[:_ENDPOINTS_MOST]}", code="JRM-N02")
        return said


def name_of(number: int, writer: int) -> str:
    """Return the file name of a letter: its number, and who of several writers in a row wrote it."""
    return f"{number:012d}.{writer & 0xFFFFFFFF:08x}"


def letters_in(names: Iterable[str]) -> list[str]:
    """Return those of a directory's entries that are letters, in the order in which they were written."""
    return sorted(name for name in names if _NAME.fullmatch(name))


def number_of(name: str) -> int:
    """Return the number of a letter."""
    return int(name[:12])


def pack(frames: Sequence[bytes]) -> list[bytes]:
    """Return the bytes of the letters that hold ``frames``."""
    letters: list[list[bytes]] = []
    size = 0
    for frame in frames:
        if not letters or (letters[-1] and size + len(frame) > LETTER_BYTES):
            letters.append([])
            size = 0
        letters[-1].append(frame)
        size += len(frame)
    return [msgspec.msgpack.encode(letter) for letter in letters]


def unpack(body: bytes) -> list[bytes]:
    """Return the frames of a letter; ProtocolError when it is none."""
    try:
        return _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"malformed letter: {error}", code="JRM-N02") from None
