"""Encrypted edges, with a SuperLink run by an adversary: the same adapters as in the clear."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile_relay import hostile_relay

from clients.home.home import Home

Run = Callable[..., dict[str, Any]]
EXCHANGE = ("exchange.rule=epidemic", "exchange.selection=topk", "exchange.selection.density=0.1",
            "exchange.codec=sign", "agents=4", "rounds=3", "tracking.agents=false")  # fmt: skip


def test_a_hostile_relay_changes_nothing_and_every_attempt_is_named(
    play: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = play("smoke", *EXCHANGE, folder="calm")
    hostile_relay(monkeypatch)
    hostile = play("smoke", *EXCHANGE, "exchange.encryption=edge", folder="hostile")

    assert hostile["adapter_digests"] == calm["adapter_digests"]
    assert hostile["accuracy_after"] == calm["accuracy_after"]
    assert calm["refused"] == {}
    names = {"bad_seal", "misdirected", "not_sealed", "replayed", "unknown_sender", "wrong_peer"}
    assert set(hostile["refused"]) == names, hostile["refused"]
    assert min(hostile["refused"].values()) >= 4, hostile["refused"]

    # What the relay carried in the clear was the envelopes; encrypted, it was never any of their bytes.
    for number in range(4):
        plain, parcels = (
            [data for outbox in _home(folder, number).values() for data in outbox.values()]
            for folder in (tmp_path / "calm", tmp_path / "hostile")
        )
        assert plain and parcels
        carried = b"".join(parcels)
        for envelope in plain:
            assert not any(envelope[start : start + 8] in carried for start in range(len(envelope) - 8))


def _home(run: Path, number: int) -> dict[int, dict[str, bytes]]:
    state = Home(run / "agents" / f"{number:04d}").load()
    assert state is not None
    return state.outbox
