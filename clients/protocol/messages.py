"""What travels between a node and the server, in Flower's records. The only place that knows their keys.

    hello     server -> node: protocol, run, recipe    node -> server: agent number, did:key, rotations, addresses,
                                                                       round, outbox
    train     server -> node: run, round, roster, mail  node -> server: metrics, details, outbox (or arrays)
    evaluate  server -> node: the same                  node -> server: metrics, details

Changes of keys (`rotations`) and addresses come with the roster where there are any; a train reply has the agent's own
addresses as of now.

Envelopes travel as one opaque array, which Flower chunks and looks no further into, under labels
(`addressing.py`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.common.serde import recorddict_to_proto

from clients.protocol.addresses import AddressError, read_address_book, read_addresses
from symphony_fl.config.options import Recipe
from symphony_fl.errors import PublicError
from symphony_fl.exchange.messages.bundle import pack_bundle, unpack_bundle
from symphony_fl.refusals import Refusal

# Version of what this module describes: raised when nodes and servers of two versions would misread each other.
PROTOCOL = 1
CONFIG, MAIL, OUTBOX, ARRAYS, METRICS, DETAILS = "config", "mail", "outbox", "arrays", "metrics", "details"
ROUND = "server-round"  # the key Flower's own strategies use
BUNDLE = "bundle"  # the one array of a record of envelopes
ROTATIONS = "rotations"  # key rotations in a config record; absent where there are none
NONCE, PROOF = "nonce", "proof"  # of a greeting, and of its answer (`identity/proof_of_possession.py`)
ADDRESSES = "addresses"  # addresses of endpoints, JSON in a config record; absent where there are none
ADAPTER = "adapter"  # the one array of a FedAvg message
MAX_DETAILS = 1 << 20  # characters of JSON the server reads from one reply
MAX_ENVELOPES = 4096  # envelopes in one message


class MessageError(PublicError, ValueError):
    """A message that does not hold what its kind must hold; names the record and the key."""


def pack_greeting(run: str, recipe: Recipe) -> ConfigRecord:
    """What every node is told of a run before it takes part; the roster adds a nonce."""
    return ConfigRecord(
        {"protocol": PROTOCOL, "run": run, "digest": recipe.digest, "recipe": recipe.to_json()}
    )


def check_protocol(content: RecordDict) -> None:
    """Raises MessageError for a greeting by a server whose messages are of another version."""
    theirs = config_value(content, "protocol", int)
    if theirs != PROTOCOL:
        raise MessageError(f"{CONFIG}.protocol = {theirs}: must be {PROTOCOL}, as of the code installed here")


def pack_envelopes(envelopes: Mapping[str, bytes]) -> ArrayRecord:
    """Opaque bytes under short labels, as one array; labels mean something to the sender and receiver only."""
    data = pack_bundle(envelopes)
    return ArrayRecord({BUNDLE: Array(dtype="uint8", shape=(len(data),), stype="opaque", data=data)})


def unpack_envelopes(content: RecordDict, key: str) -> dict[str, bytes]:
    """The labelled bytes under `key`, or nothing if the message carries none.

    Raises
    ------
    MessageError
        No bundle, a damaged one, or more than MAX_ENVELOPES in it.
    """
    record = content.array_records.get(key)
    if record is None:
        return {}
    if BUNDLE not in record:
        raise MessageError(f"{key}: holds no {BUNDLE!r}")
    try:
        return unpack_bundle(record[BUNDLE].data, MAX_ENVELOPES)
    except Refusal as error:
        raise MessageError(f"{key}: {error}") from None


def pack_adapter(vector: np.ndarray) -> ArrayRecord:
    """The flat adapter [P] for Flower's own strategies."""
    return ArrayRecord({ADAPTER: Array(np.ascontiguousarray(vector, np.float32))})


def unpack_adapter(record: ArrayRecord) -> np.ndarray:
    """float32 [P]; FedAvg's weighted average comes back as float64."""
    return np.asarray(record[ADAPTER].numpy(), np.float32)


def array_bytes(record: ArrayRecord) -> int:
    """Bytes of the serialised arrays themselves."""
    return sum(len(array.data) for array in record.values())


def content_bytes(content: RecordDict) -> int:
    """Bytes of a whole message content as Flower puts it on the wire."""
    return int(recorddict_to_proto(content).ByteSize())


def pack_report(metrics: Mapping[str, float], details: Mapping[str, Any]) -> dict[str, Any]:
    """The metric record Flower's strategies average, and everything else an agent reports."""
    return {
        METRICS: MetricRecord({name: float(value) for name, value in metrics.items()}),
        DETAILS: ConfigRecord({"json": json.dumps(dict(details))}),
    }


def unpack_details(content: RecordDict) -> dict[str, Any]:
    """What an agent reports about a round. Self-reported, so bounded and checked; numbers must be finite.

    Raises
    ------
    MessageError
        The record is missing, too long, no JSON object, or holds a number that is not finite.
    """
    record = content.config_records.get(DETAILS)
    text = None if record is None else record.get("json")
    if not isinstance(text, str) or len(text) > MAX_DETAILS:
        raise MessageError(f"{DETAILS}.json: missing or over {MAX_DETAILS} characters")
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise MessageError(f"{DETAILS}.json: {error}") from None
    if not isinstance(values, dict):
        raise MessageError(f"{DETAILS}.json: must be an object")
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise MessageError(f"{DETAILS}.json: {name} = {value}: must be finite")
    return values


def config_value(content: RecordDict, key: str, kind: type) -> Any:
    """`config[key]`, of that type.

    Raises
    ------
    MessageError
        It is missing or of another type.
    """
    record = content.config_records.get(CONFIG)
    value = None if record is None else record.get(key)
    if not isinstance(value, kind):
        raise MessageError(f"{CONFIG}.{key} = {value!r}: must be {kind.__name__}")
    return value


def unpack_rotations(content: RecordDict) -> bytes:
    """Key rotations beside a roster or an introduction, not yet checked (`identity/rotation.py`).

    Raises
    ------
    MessageError
        They are no bytes.
    """
    record = content.config_records.get(CONFIG)
    return (
        b"" if record is None or ROTATIONS not in record else bytes(config_value(content, ROTATIONS, bytes))
    )


def unpack_addresses(content: RecordDict) -> tuple[str, ...]:
    """Where the agent that replies can be reached directly (`clients/protocol/addresses.py`). Raises MessageError."""
    try:
        return read_addresses(_text_or(content, ADDRESSES, "[]"))
    except AddressError as error:
        raise MessageError(f"{CONFIG}.{error}") from None


def unpack_address_book(content: RecordDict) -> dict[int, tuple[str, ...]]:
    """Where the agents of a roster can be reached directly. Raises MessageError."""
    try:
        return read_address_book(_text_or(content, ADDRESSES, "{}"))
    except AddressError as error:
        raise MessageError(f"{CONFIG}.{error}") from None


def _text_or(content: RecordDict, key: str, default: str) -> str:
    record = content.config_records.get(CONFIG)
    return default if record is None or key not in record else str(config_value(content, key, str))


def unpack_roster(content: RecordDict) -> dict[int, str]:
    """Agent number -> did:key, as the server knows them.

    Raises
    ------
    MessageError
        No JSON object of numbers to strings.
    """
    text = config_value(content, "roster", str)
    try:
        return {int(number): str(did) for number, did in json.loads(text).items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise MessageError(f"{CONFIG}.roster: {error}") from None
