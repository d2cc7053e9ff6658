"""A network with a traitor: agent 0 learns and shares like the others, and adds to its mail everything an insider with
a valid key could try. Agent 2 fails in round 2.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import zstandard
from flwr.app import Message, MessageType
from loopback import Handler, real_agents

from clients.agents.agent import Agent
from clients.home.home import Home
from clients.protocol.messages import OUTBOX, ROUND, config_value, pack_envelopes, unpack_envelopes
from symphony_fl.config.recipe import recipe_from_json
from symphony_fl.exchange.codecs.indices import encode_indices
from symphony_fl.exchange.messages import envelope as wire
from symphony_fl.exchange.messages.header import unpack_header
from symphony_fl.exchange.messages.session import Session
from symphony_fl.identity.did_key import load_private_key
from symphony_fl.identity.signatures import SIGNATURE_BYTES
from symphony_fl.storage.folders import home_folder


def agents_with_a_traitor(run: Path) -> Handler:
    """Our ClientApp for all agents of the run in that folder, and what agents 0 and 2 make of it."""
    honest = real_agents(run)

    def handle(number: int, message: Message) -> Message:
        if message.metadata.message_type != MessageType.TRAIN:
            return honest(number, message)
        if number == 2 and config_value(message.content, ROUND, int) == 2:
            raise RuntimeError("this agent fails in round 2")
        reply = honest(number, message)
        if number == 0:
            genuine = unpack_envelopes(reply.content, OUTBOX)
            (data,) = genuine.values()
            # Attacks come first: behind the genuine envelope of the round they would only be replays.
            reply.content[OUTBOX] = pack_envelopes(_attacks(run, data) | {"genuine": data, "replayed": data})
        return reply

    return handle


def _attacks(run: Path, genuine: bytes) -> dict[str, bytes]:
    home = Home(home_folder(run, 0))
    founding = home.founding()
    agent = Agent(home, 0, recipe_from_json(founding["recipe_json"]), founding["run"])
    session, key = agent.exchange.session, home.key()
    agent.close()
    length = int.from_bytes(genuine[:2], "big")
    header = unpack_header(genuine[2 : 2 + length])
    indices = genuine[2 + length : 2 + length + header.index_bytes]
    size, count = session.selection.size, header.count
    bomb = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(format=zstandard.FORMAT_ZSTD1_MAGICLESS)
    ).compress(bytes(100_000_000))
    beyond = encode_indices(np.arange(2 * size - count, 2 * size, dtype=np.int64), 2 * size)
    plain = session.codec.encode(np.ones(count, np.float32))

    def forge(session: Session, changed: object, payload: bytes) -> bytes:
        packed = changed.pack()  # type: ignore[attr-defined]
        body = len(packed).to_bytes(2, "big") + packed + payload
        return body + load_private_key(key).sign(wire._signed(session, body))

    other_run = replace(session, run=b"another run here")
    return {
        "truncated": genuine[:40],
        "oversized": genuine + bytes(session.max_bytes),
        "forged": genuine[:-SIGNATURE_BYTES] + bytes(SIGNATURE_BYTES),
        "garbage": b"\x00\x10" + bytes(200),
        "run": forge(other_run, replace(header, run=other_run.run[:4]), indices + plain),
        "layout": forge(session, replace(header, layout=b"none", compressed=0), indices + plain),
        "bomb": forge(session, replace(header, compressed=1), indices + bomb),
        "nan": forge(session, replace(header, compressed=0), indices + b"\xff" * len(plain)),
        "range": forge(session, replace(header, compressed=0, index_bytes=len(beyond)), beyond + plain),
    }
