"""Encrypted edges through real `flwr run`, with a SuperLink run by an adversary: the same adapters as in the clear."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from checkout import copy_checkout

from clients.home.home import Home
from symphony_fl.build.checks import check_recipe
from symphony_fl.config.recipe import load_recipe
from symphony_fl.launch.flower import run_recipe
from symphony_fl.launch.local_superlink import private_superlink

Run = Callable[..., dict[str, Any]]
EXCHANGE = ("exchange.rule=epidemic", "exchange.selection=topk", "exchange.selection.density=0.1",
            "exchange.codec=sign", "agents=4", "rounds=3")  # fmt: skip


def _hostile_checkout(folder: Path) -> Path:
    copy_checkout(folder)
    shutil.copy(Path(__file__).with_name("hostile_relay.py"), folder / "strategies" / "hostile_relay.py")
    gossip = folder / "strategies" / "gossip.py"
    text = gossip.read_text()
    line = "from strategies.mailbox import Mailbox\n"
    assert line in text
    hostile = "from strategies.hostile_relay import HostileMailbox as Mailbox, swap_keys\nswap_keys()\n"
    gossip.write_text(text.replace(line, hostile))
    return folder


def test_a_hostile_relay_changes_nothing_and_every_attempt_is_named(run: Run, tmp_path: Path) -> None:
    calm = run("smoke", *EXCHANGE, folder="calm")
    app = _hostile_checkout(tmp_path / "hostile-app")
    recipe = check_recipe(load_recipe("smoke", [*EXCHANGE, "exchange.encryption=edge"]))
    with private_superlink(app) as link:
        hostile = run_recipe(link, recipe, tmp_path / "hostile", print, app)

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
