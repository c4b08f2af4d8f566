"""Encoding of messages; nothing that arrives is trusted before it has passed through here.

Decoders are strict and bounded: unknown tags, wrong types and oversized frames are :class:`ProtocolError`. Knows
nothing about sockets. Read next: :mod:`jupyter_rm.wire.link`.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from ..model import logs
from ..model import messages as m
from ..model.errors import ProtocolError
from ..model.messages import Message

# Frames between programs of one user on one machine may carry a big bulk; frames from agents may not.
LOCAL_LIMIT = 1 << 30
AGENT_LIMIT = 64 << 20

# What may come in each direction, and what the two streams between broker and agent carry.
# fmt: off
CLIENT = (
    m.Hello | m.Attach | m.Submit | m.SubmitBundle | m.Cancel | m.RequestPilot | m.CancelPilot | m.CloseSession
    | m.Detach | m.ListSessions | m.FetchValues | m.FetchStory | m.Explain | m.Status | m.StopBroker | m.Seen
    | m.Answer | m.AskSite | m.FetchFiles | m.MoveFiles | m.GiveService | logs.FetchLog
)
BROKER = (
    m.Welcome | m.Refused | m.Accepted | m.Attached | m.Feed | m.Sessions | m.Values | m.Story | m.Explained
    | m.BrokerStatus | m.Asked | m.AskOver | m.FilesRead | m.FilesMoved | m.SiteSeen | logs.LogSaid
)
ORDER = m.Assign | m.Function | m.CancelTasks | m.Drain | m.Stop | m.AskWhy | m.Deliver | logs.TellLog
REPORT = (
    m.Started | m.Ended | m.Inventory | m.Returned | m.Stock | m.Why | m.Goodbye | m.Staged | m.Staging | m.Serving
    | logs.LogTold
)
# fmt: on

_encoder = msgspec.msgpack.Encoder()
M = TypeVar("M", bound=Message)


class Codec(Generic[M]):
    """Decoder for one direction: ``decode(frame)`` returns one of its messages.

    Args:
        types: union of the messages allowed.
        limit: longest frame, bytes.
    """

    def __init__(self, types: Any, limit: int) -> None:
        self._decoder: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(types)
        self.limit = limit

    def decode(self, frame: bytes | memoryview) -> M:
        """Return the message in ``frame``; ProtocolError if it is none."""
        if len(frame) > self.limit:
            raise ProtocolError(f"frame of {len(frame)} bytes; the limit is {self.limit}", code="JRM-N02")
        try:
            return self._decoder.decode(frame)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
            raise ProtocolError(f"malformed message: {error}", code="JRM-N02") from None


def encode(message: Message) -> bytes:
    """Return the frame of a message."""
    return _encoder.encode(message)


from_client: Codec[Any] = Codec(CLIENT, LOCAL_LIMIT)
from_broker: Codec[Any] = Codec(BROKER, LOCAL_LIMIT)
from_agent: Codec[Any] = Codec(m.AgentHello | m.Up, AGENT_LIMIT)
to_agent: Codec[Any] = Codec(m.AgentWelcome | m.AgentRefused | m.Down, AGENT_LIMIT)
orders: Codec[Any] = Codec(ORDER, AGENT_LIMIT)
reports: Codec[Any] = Codec(REPORT, AGENT_LIMIT)
