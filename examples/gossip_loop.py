"""Symphony's algorithm in one file: agents on a ring learn different skills and teach each other. No Flower, no server.

    python examples/gossip_loop.py                          # as `symphony run given_tasks`
    python examples/gossip_loop.py --rounds 2 --steps 2     # a short one

Each round, every agent i

    starts from   S_i      = theta_0 + eta * (sum of all updates it has, its own included) / N
    learns        theta_i  = GRPO(S_i) on its own skills only                               (eq. 7 of the paper)
    owes          o_i      = (theta_i - S_i) + residual_i
    sends         q_i      = the 5 % largest entries of o_i, one bit each, to its neighbours        (eq. 3)
    keeps         residual_i = o_i - q_i                                                    (error feedback)
    passes on     updates that were new to it, so that each travels once around the ring
    merges        what arrived, by adding it to its sum                                             (eq. 4)

Updates are summed as whole numbers on a grid of 2^-40. Agents with the same updates therefore hold the same S to the
last bit, in whatever order the updates came.

The package adds what a network needs: signatures, encryption, a home on disk, other rules, graphs and models. The
adapters of both are equal, bit for bit; tests/examples/test_gossip_loop.py compares their digests.

Shapes: P entries of the flat adapter, k entries sent, N agents.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import NamedTuple

import numpy as np
import torch

from symphony_fl.exchange.codecs.codec import build_codec
from symphony_fl.exchange.codecs.indices import decode_indices, encode_indices
from symphony_fl.exchange.fixed_point import UNIT, from_grid, to_grid
from symphony_fl.exchange.flat import digest
from symphony_fl.exchange.selection.density import count_of
from symphony_fl.exchange.selection.topk import largest
from symphony_fl.learning.model.adapters import Policy
from symphony_fl.learning.model.base_model import load_base
from symphony_fl.learning.rl.grpo import GRPO
from symphony_fl.learning.rl.grpo_settings import GRPOSettings
from symphony_fl.learning.rl.sampling import greedy_rewards
from symphony_fl.learning.tasks.task_sampler import TaskSampler, held_out

SKILLS = ("reverse", "sort", "duplicate", "next", "swap", "rotate", "max", "min", "add", "subtract")
CODEC = build_codec("sign")  # one bit per value, and one scale per 1,024 values


@dataclass(frozen=True)
class Config:
    """The settings of `recipes/given_tasks.yaml`."""

    agents: int = 4
    rounds: int = 15
    seed: int = 0
    steps: int = 8  # GRPO steps per round
    prompts: int = 16
    samples: int = 8  # completions per prompt
    density: float = 0.05  # share of the entries that travels
    eta: float = 1.5  # outer step size
    held_out: int = 30  # tasks per skill
    evaluate_every: int = 3


class Update(NamedTuple):
    """What travels. `hops` and `direction` say how far it still goes around the ring, and which way."""

    sender: int
    round: int
    indices: bytes
    values: bytes
    direction: int
    hops: int


@dataclass
class Agent:
    """One agent: what it learns with, and its state of the exchange."""

    number: int
    learner: GRPO
    total: np.ndarray  # int64 [P], on the grid: the sum of all updates it has
    residual: np.ndarray  # int64 [P], on the grid: what it has learnt and not sent yet
    seen: set[tuple[int, int]] = field(default_factory=set)  # (sender, round) of the updates in `total`
    relay: list[Update] = field(default_factory=list)  # to be passed on in the next round


def make_agent(number: int, policy: Policy, config: Config) -> Agent:
    """Skills are dealt out like cards: with four agents, agent 0 gets reverse, swap and add."""
    skills = SKILLS[number :: config.agents]
    seed = int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0])
    settings = GRPOSettings(config.prompts, config.samples, learning_rate=3e-3, max_new_tokens=16)
    learner = GRPO(policy, TaskSampler(skills, seed), settings, seed)
    size = policy.layout.size
    return Agent(number, learner, np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64))


def shared_state(agent: Agent, initial: np.ndarray, config: Config) -> np.ndarray:
    """S, float32 [P]: the adapter that all agents with the same updates rebuild."""
    change = agent.total.astype(np.float64) / config.agents * (UNIT * config.eta)
    return (initial.astype(np.float64) + change).astype(np.float32)


def learn(agent: Agent, policy: Policy, initial: np.ndarray, round: int, config: Config) -> list[Update]:
    """One round of local learning; the agent's own update, once for each direction of the ring."""
    start = shared_state(agent, initial, config)
    policy.set(start)  # one model in memory: the agents' adapters take turns in it
    agent.learner.improve(round, config.steps)
    agent.residual += to_grid(policy.get().astype(np.float64) - start)  # now all that the agent owes

    owed = from_grid(agent.residual)
    indices = largest(owed, count_of(config.density, owed.size))  # int64 [k]
    coded = CODEC.encode(owed[indices])
    sent = to_grid(CODEC.decode(coded, indices.size))  # what the others will read, coding errors included
    agent.residual[indices] -= sent
    agent.total[indices] += sent
    agent.seen.add((agent.number, round))

    # Half of the others are reached clockwise, the other half counter-clockwise: each gets the update once.
    ways = ((+1, config.agents // 2), (-1, (config.agents - 1) // 2))
    packed = encode_indices(indices, owed.size)
    return [Update(agent.number, round, packed, coded, way, hops) for way, hops in ways if hops]


def receive(agent: Agent, update: Update, config: Config) -> None:
    """Merge an update that is new, and keep it to be passed on."""
    if (update.sender, update.round) in agent.seen:
        return
    agent.seen.add((update.sender, update.round))
    count = count_of(config.density, agent.total.size)
    indices = decode_indices(update.indices, count, agent.total.size)
    agent.total[indices] += to_grid(CODEC.decode(update.values, count))
    if update.hops > 1:
        agent.relay.append(update._replace(hops=update.hops - 1))


def accuracies(agents: Sequence[Agent], policy: Policy, initial: np.ndarray, config: Config) -> list[float]:
    """Of each agent on held-out tasks of all skills, its own or not: the share of right greedy answers."""
    tasks = held_out(SKILLS, config.held_out, seed=1234)
    found = []
    for agent in agents:
        policy.set(shared_state(agent, initial, config))
        rewards = greedy_rewards(
            policy.forward(train=False), policy.base.tokenizer, tasks, max_new_tokens=16, batch_size=256
        )
        found.append(sum(rewards) / len(rewards))
    return found


def run(config: Config) -> tuple[list[float], list[str]]:
    """All rounds. Returns every agent's accuracy and the digest of its adapter at the end."""
    torch.set_num_threads(1)
    policy = Policy(load_base("tiny"), rank=8, alpha=16.0)
    initial = policy.initial(config.seed)  # theta_0, the same on every agent
    agents = [make_agent(number, policy, config) for number in range(config.agents)]
    accuracy = accuracies(agents, policy, initial, config)
    print(f"before: accuracy {np.mean(accuracy):.3f}, {initial.size:,} entries in an adapter")
    sent = 0
    for round in range(1, config.rounds + 1):
        outboxes = []
        for agent in agents:
            outboxes.append(learn(agent, policy, initial, round, config) + agent.relay)
            agent.relay = []
        for agent, outbox in zip(agents, outboxes, strict=True):
            for update in outbox:
                neighbour = agents[(agent.number + update.direction) % config.agents]
                receive(neighbour, update, config)
                sent += len(update.indices) + len(update.values)
        if round % config.evaluate_every == 0 or round == config.rounds:
            accuracy = accuracies(agents, policy, initial, config)
            kilobytes = sent / config.agents / 1000
            print(f"round {round}: accuracy {np.mean(accuracy):.3f}, {kilobytes:.1f} kB sent per agent")
    return accuracy, [digest(shared_state(agent, initial, config)).hex() for agent in agents]


def main() -> None:
    """Every field of `Config` is an option of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for option in fields(Config):
        parser.add_argument(
            f"--{option.name.replace('_', '-')}", type=type(option.default), default=option.default
        )
    accuracy, digests = run(Config(**vars(parser.parse_args())))
    for number, (found, name) in enumerate(zip(accuracy, digests, strict=True)):
        print(f"agent {number}: accuracy {found:.3f}, adapter {name}")


if __name__ == "__main__":
    main()
