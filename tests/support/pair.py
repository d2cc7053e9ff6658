"""Agents without Flower that hand each other their mail, round by round: two, or some more of which each has all the
others for neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from device import greeting, order
from flwr.app import RecordDict

from clients.home.home import Home
from clients.protocol.messages import CONFIG, OUTBOX, unpack_envelopes
from clients.service.service import Service
from symphony_fl.config.options import Recipe


@dataclass
class Pair:
    """Agents after the rounds of their recipe; `mail` is what each was sent in the last and has not had yet."""

    recipe: Recipe
    services: list[Service]
    roster: dict[int, str]
    mail: list[dict[str, bytes]]

    def evaluate(self, number: int) -> RecordDict:
        """An agent's answer to the last evaluation, with the mail it has not had."""
        message = order(self.recipe, self.recipe.rounds, self.mail[number], self.roster)
        return self.services[number].answer("evaluate", message)


def play(recipe: Recipe, folder: Path, after_round: Callable[[], None] = lambda: None) -> Pair:
    """Homes lie below the folder, by number. `after_round` is called when all have done a round."""
    services = [
        Service(n, lambda run, n=n: Home(folder / str(n)), lasting=False) for n in range(recipe.agents)
    ]
    roster = {
        n: str(service.answer("hello", greeting(recipe)).config_records[CONFIG]["did"])
        for n, service in enumerate(services)
    }
    mail: list[dict[str, bytes]] = [{} for _ in services]
    for round in range(1, recipe.rounds + 1):
        replies = [s.answer("train", order(recipe, round, mail[n], roster)) for n, s in enumerate(services)]
        after_round()
        boxes = [unpack_envelopes(reply, OUTBOX)["0"] for reply in replies]
        mail = [
            {f"{sender}/{round}/0": data for sender, data in enumerate(boxes) if sender != n}
            for n in range(recipe.agents)
        ]
        if round % recipe.tasks.evaluate_every == 0 and round < recipe.rounds:  # then mail comes with that
            for n, service in enumerate(services):
                service.answer("evaluate", order(recipe, round, mail[n], roster))
            mail = [{} for _ in services]
    return Pair(recipe, services, roster, mail)
