"""A message's content as bytes: Flower's RecordDict as protobuf."""

from __future__ import annotations

from flwr.app import RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as RecordDictProto


def to_bytes(content: RecordDict) -> bytes:
    """A message's content as protobuf."""
    return bytes(recorddict_to_proto(content).SerializeToString(deterministic=True))


def from_bytes(data: bytes) -> RecordDict:
    """The content again.

    Raises
    ------
    google.protobuf.message.DecodeError
        The bytes are no such protobuf.
    """
    return recorddict_from_proto(RecordDictProto.FromString(data))
