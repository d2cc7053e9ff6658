"""Many agents behind one SuperNode: a node's message carries the messages of all its agents, and its reply the replies.

It is a mod of the ClientApp, so the message handler does not know of it. The handler is called once per agent, with
that agent's content and a context in which `partition-id` is the agent's number. A failing agent is reported as such
and affects no other. Each agent has its own home; where the node's configuration names a home, theirs lie in it. The
server's half is `strategies/grids/multiplex.py`; both take the format of a batch from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as RecordDictProto
from google.protobuf.message import DecodeError

from clients.protocol.messages import MessageError, config_value
from symphony_fl.exchange.messages.bundle import pack_bundle, unpack_bundle
from symphony_fl.refusals import Refusal

BATCH = "batch"
PER_NODE = "agents-per-node"
FAILED = "!"  # ends the label of an agent that failed; its bytes are the reason
MAX_AGENTS = 4096
MAX_REASON = 2000  # characters


def each_agent(
    message: Message, context: Context, call_next: Callable[[Message, Context], Message]
) -> Message:
    """The mod: one call per agent of a batch, or one as always."""
    if BATCH not in message.content.array_records:
        return call_next(message, context)
    per_node = int(config_value(message.content, PER_NODE, int))
    replies: dict[str, bytes] = {}
    for slot, data in unpack_batch(message.content).items():
        message.content = unpack_content(data)
        try:
            reply = call_next(message, _context_of(context, per_node, slot))
            replies[slot] = pack_content(reply.content)
        except (
            Exception
        ) as error:  # Flower answers any failure so; here it must not take the others along. What the
            # handler raises on a device may be told (`error_replies.py`).
            replies[slot + FAILED] = f"{type(error).__name__}: {error}"[:MAX_REASON].encode()
    return Message(pack_batch(replies), reply_to=message)


def pack_batch(parts: Mapping[str, bytes]) -> RecordDict:
    """Slot -> bytes, as one content."""
    data = pack_bundle(parts)
    return RecordDict(
        {BATCH: ArrayRecord({BATCH: Array(dtype="uint8", shape=(len(data),), stype="opaque", data=data)})}
    )


def batch_for(parts: Mapping[str, bytes], per_node: int) -> RecordDict:
    """The same on its way to a node, which must know how many agents it has to number its own."""
    content = pack_batch(parts)
    content["config"] = ConfigRecord({PER_NODE: per_node})
    return content


def unpack_batch(content: RecordDict) -> dict[str, bytes]:
    """Slot -> bytes. Raises MessageError where it cannot be read."""
    record = content.array_records.get(BATCH)
    if record is None or BATCH not in record:
        raise MessageError(f"{BATCH}: missing")
    try:
        return unpack_bundle(record[BATCH].data, MAX_AGENTS)
    except Refusal as error:
        raise MessageError(f"{BATCH}: {error}") from None


def pack_content(content: RecordDict) -> bytes:
    """One agent's content, as Flower itself serialises it."""
    return bytes(recorddict_to_proto(content).SerializeToString())


def unpack_content(data: bytes) -> RecordDict:
    """The content again. Raises MessageError where the bytes are none."""
    try:
        return recorddict_from_proto(RecordDictProto.FromString(data))
    except (DecodeError, ValueError, TypeError, KeyError) as error:
        raise MessageError(f"{BATCH}: {str(error)[:200]}") from None


def _context_of(context: Context, per_node: int, slot: str) -> Context:
    if not slot.isdecimal() or len(slot) > 4 or not int(slot) < per_node <= MAX_AGENTS:
        raise MessageError(
            f"{BATCH}: slot {slot!r:.80} of {per_node}: must be below {PER_NODE}, {MAX_AGENTS} at most"
        )
    number = int(context.node_config["partition-id"]) * per_node + int(slot)
    config = {**context.node_config, "partition-id": number}
    if context.node_config.get("home"):
        config["home"] = f"{context.node_config['home']}/{number:04d}"
    return Context(context.run_id, context.node_id, config, context.state, context.run_config)
