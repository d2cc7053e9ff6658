"""A damaged home between two rounds: said, counted, and of no consequence for any number."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from device import greeting, order

from clients.home.founding import HomeError
from clients.home.home import COPY, STATE, Home
from clients.protocol.messages import CONFIG, OUTBOX, unpack_details, unpack_envelopes
from clients.service.service import Service
from symphony_fl.config.recipe import load_recipe

ROUNDS = 3
RECIPE = load_recipe("given_tasks", ("agents=2", f"rounds={ROUNDS}", "learner.steps=1", "learner.prompts=2"))


def _run(folder: Path, harmed: dict[int, list[str]]) -> tuple[list[str], dict[int, float]]:
    """Digests of two agents' adapters at the end, and round -> whether agent 0 reported a restored home."""
    services = [Service(n, lambda run, n=n: Home(folder / str(n)), lasting=False) for n in (0, 1)]
    roster = {
        n: str(service.answer("hello", greeting(RECIPE)).config_records[CONFIG]["did"])
        for n, service in enumerate(services)
    }
    mail: list[dict[str, bytes]] = [{}, {}]
    digests, restored = ["", ""], {}
    for round in range(1, ROUNDS + 1):
        for name in harmed.get(round, ()):
            path = folder / "0" / name
            path.write_bytes(path.read_bytes()[:-40])
        replies = [s.answer("train", order(RECIPE, round, mail[n], roster)) for n, s in enumerate(services)]
        boxes = [unpack_envelopes(reply, OUTBOX) for reply in replies]
        mail = [{f"{1 - n}/{round}/0": boxes[1 - n]["0"]} for n in (0, 1)]
        details = [unpack_details(reply) for reply in replies]
        digests = [str(one["adapter"]) for one in details]
        restored[round] = details[0]["metrics"].get("home_restored", 0.0)
    return digests, restored


def test_a_damaged_file_changes_no_number_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("flwr").propagate = True
    calm, untold = _run(tmp_path / "calm", {})
    harmed, told = _run(tmp_path / "harmed", {2: [STATE], 3: [COPY]})
    assert harmed == calm
    assert untold == {1: 0.0, 2: 0.0, 3: 0.0} and told == {1: 0.0, 2: 1.0, 3: 1.0}
    assert "agent 0: HomeError:" in caplog.text and "restored from its copy" in caplog.text


def test_an_agent_whose_files_are_both_damaged_refuses_by_name(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="state.safetensors: damaged.*state.copy.safetensors: damaged"):
        _run(tmp_path, {2: [STATE, COPY]})
