"""Asynchronous gossip over Flower's real grid: nobody waits for the slow, the lost or the sleeping; nothing is counted
twice; and with the virtual clock the numbers do not depend on what really happened when."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from flwr.app import Message
from loopback import Loopback, Scripted, real_network

from clients.protocol.messages import unpack_roster
from strategies.async_gossip import SilenceError
from strategies.asynchrony import dispatcher as dispatcher
from strategies.asynchrony.clocks import VirtualClock
from strategies.grids.per_message import PerMessageGrid
from symphony_fl.build.checks import check_recipe
from symphony_fl.config.options import Recipe
from symphony_fl.config.recipe import load_recipe
from symphony_fl.metrics.history import History
from symphony_fl.simulation.device_profiles import round_seconds

FAST = (
    "tracking.agents=false",
    "tasks.evaluate_every=100",
    "limits.round_timeout=2",
    "strategy.deadline_floor=0.3",
)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backing off and looking around take tests' time, not people's."""
    monkeypatch.setattr(dispatcher, "BACKOFF_SECONDS", 0.05)
    monkeypatch.setattr(dispatcher, "MOST_BACKOFF", 0.2)
    monkeypatch.setattr(dispatcher, "REFRESH_SECONDS", 0.05)


def recipe_of(name: str, *overrides: str) -> Recipe:
    return check_recipe(load_recipe(name, overrides))


Play = Callable[..., History]


def network(recipe: Recipe, *, seed: int = 0, lost: Callable[[int, Message], bool] | None = None) -> Loopback:
    """Scripted agents, all there."""
    scripted = Scripted(recipe.tasks.skills)
    loop = Loopback(scripted, seed=seed, lost=lost or (lambda agent, message: False))
    for agent in range(recipe.agents):
        loop.join(agent)
    return loop


def within(history: History, seconds: float, agents: int) -> int:
    """Updates that the first so many agents did in so much virtual time."""
    return sum(
        time <= seconds
        for agent, times in history.own_rounds().items()
        for time in times.values()
        if agent < agents
    )


def test_a_slow_agent_holds_nobody_up_and_behind_a_barrier_it_does(play: Play) -> None:
    horizon = 60.0 * 6
    slow = recipe_of("async_gossip", *FAST, "agents=8", "rounds=6", "clock.speeds=[1,1,1,1,1,1,1,0.1]")
    alone = recipe_of("async_gossip", *FAST, "agents=7", "rounds=7", "clock.speeds=[]")
    with_it = within(play(slow, network(slow)), horizon, agents=7)
    without = within(play(alone, network(alone), name="alone"), horizon, agents=7)
    assert without >= 7 * 5, "the horizon lies within the run"
    assert with_it >= 0.95 * without
    clock = VirtualClock(lambda agent, round: round_seconds(slow, agent, round))
    in_step = sum(clock.behind_barrier(8, rounds) <= horizon for rounds in range(1, 8))
    assert 7 * in_step <= 0.2 * without


def test_the_virtual_clock_makes_mail_independent_of_real_order_and_lost_replies(play: Play) -> None:
    recipe = recipe_of("async_gossip", *FAST, "rounds=6", "topology=ring", "tasks.evaluate_every=2")
    calm, other = network(recipe), network(recipe, seed=1)
    dropped: set[tuple[int, str]] = set()

    def once(agent: int, message: Message) -> bool:
        """Every agent's first answers of each kind never leave it."""
        what = (agent, message.metadata.message_type)
        if message.metadata.message_type == "query.hello" or what in dropped or agent == 3:
            return False
        dropped.add(what)
        return True

    unlucky = network(recipe, seed=2, lost=once)
    histories = [play(recipe, loop, name=f"run{n}") for n, loop in enumerate((calm, other, unlucky))]
    assert len(dropped) >= 3
    given = [loop.handler.given for loop in (calm, other, unlucky)]
    assert given[0] == given[1] == given[2]
    assert histories[0].own_rounds() == histories[1].own_rounds() == histories[2].own_rounds()
    events = list(histories[0].events("train"))
    assert len(events) == 6 * 4 and len({(e.agent, e.own) for e in events}) == 6 * 4
    assert [sum(e.round == n for e in events) for n in range(1, 7)] == [4] * 6
    for number in (0, 2, 4, 6):
        assert {e.agent for e in histories[0].events("evaluate") if e.round == number} == {0, 1, 2, 3}


def test_slow_links_and_outages_delay_everybody_alike_whatever_really_happened_when(play: Play) -> None:
    base = (*FAST, "rounds=6", "topology=ring", "tasks.evaluate_every=2", "clock.jitter=0")
    # A scripted envelope has 15 bytes and goes to two neighbours: 60 s up and 60 s down, and a second each of latency.
    links = ("clock.bandwidths=[0.000004]", "clock.latency=1")
    even = recipe_of("async_gossip", *base, *links, "clock.speeds=[]")
    own = play(even, network(even), name="even").own_rounds()
    assert [own[2][round] for round in (1, 2, 3)] == pytest.approx([60 + 61, 2 * 121 + 61, 3 * 121 + 2 * 61])
    uneven = recipe_of("async_gossip", *base, *links, "clock.availability=[0.5,1]")
    loops = [network(uneven), network(uneven, seed=1)]
    found = [play(uneven, loop, name=f"uneven{number}").own_rounds() for number, loop in enumerate(loops)]
    assert found[0] == found[1] and loops[0].handler.given == loops[1].handler.given


def test_every_update_reaches_every_neighbour_once_and_in_order(play: Play) -> None:
    recipe = recipe_of("async_gossip", *FAST, "rounds=8", "topology=ring")
    loop = network(recipe)
    play(recipe, loop)
    given = loop.handler.given
    for agent in range(4):
        mail = [label for (who, _), labels in sorted(given.items()) if who == agent for label in labels]
        assert len(mail) == len(set(mail))
        for neighbour in ((agent - 1) % 4, (agent + 1) % 4):
            rounds = [int(label.split("/")[1]) for label in mail if label.startswith(f"{neighbour}/")]
            assert sorted(rounds) == list(range(1, len(rounds) + 1)), "none is skipped; the last may be left"


@pytest.mark.parametrize("kind", ["virtual", "wall"])
def test_an_agent_that_leaves_is_replaced_by_the_others_and_is_welcome_back(play: Play, kind: str) -> None:
    recipe = recipe_of(
        "async_gossip", *FAST, "rounds=40", *(["clock=wall"] if kind == "wall" else ["clock.speeds=[]"])
    )
    loop = network(recipe)
    scripted: Scripted = loop.handler
    seen = threading.Event()

    def handler(agent: int, message: Message) -> Message:
        if scripted.rounds.get(0, 0) >= 5 and not seen.is_set():
            seen.set()
            loop.leave(1)
        if scripted.rounds.get(0, 0) >= 20 and 1 not in loop.nodes:
            loop.join(1)
        time.sleep(0.01)
        return scripted(agent, message)

    loop.handler = handler
    history = play(recipe, loop)
    own = history.own_rounds()
    assert seen.is_set()
    assert 160 <= sum(map(len, own.values())) <= 161, "the rounds of a leaver are done by others"
    assert len(own[1]) < min(len(own[agent]) for agent in (0, 2, 3))
    back = max((len(labels), round) for (agent, round), labels in scripted.given.items() if agent == 1)
    assert back[0] > 10, "its mail has waited for it"
    assert max(own[1]) > back[1], "it went on after that"
    assert sorted(own[1]) == list(range(1, len(own[1]) + 1))


def test_of_an_agent_that_worked_ahead_no_round_is_skipped(play: Play) -> None:
    """It introduces itself with two rounds done that nobody has asked for yet: both are fetched, in order."""
    recipe = recipe_of("async_gossip", *FAST, "rounds=8", "topology=ring")
    loop = network(recipe)
    scripted: Scripted = loop.handler
    scripted.rounds[2] = 2
    own = play(recipe, loop).own_rounds()
    assert sorted(own[2]) == list(range(1, len(own[2]) + 1))
    heard = [label for (agent, _), labels in scripted.given.items() if agent == 1 for label in labels]
    assert {"2/1/0", "2/2/0", "2/3/0"} <= set(heard)


def test_who_comes_late_takes_part_under_its_own_key(play: Play) -> None:
    recipe = recipe_of("async_gossip", *FAST, "rounds=30", "clock=wall", "strategy.start_with=3")
    loop = network(recipe)
    scripted: Scripted = loop.handler
    loop.leave(3)

    def handler(agent: int, message: Message) -> Message:
        if agent == 0 and scripted.rounds.get(0, 0) == 5 and 3 not in loop.nodes:
            loop.join(3)
        time.sleep(0.01)
        return scripted(agent, message)

    loop.handler = handler
    history = play(recipe, loop)
    own = history.own_rounds()
    assert set(own) == {0, 1, 2, 3}
    assert {e.agent for e in history.events("evaluate") if e.round == 30} == {0, 1, 2, 3}
    assert sum(map(len, own.values())) == 120


class Halting:
    """Flower's grid as it is for devices: a call waits for the whole of every reply that has begun to arrive. That of
    one node's first train message never ends."""

    def __init__(self, loop: Loopback, agent: int) -> None:
        self.push_messages = loop.grid.push_messages
        self.get_node_ids = loop.grid.get_node_ids
        self._pull = loop.grid.pull_messages
        self._node = loop.nodes[agent]
        self.cut = False
        self.over = threading.Event()

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies = list(self._pull(message_ids))
        train = {r.metadata.src_node_id for r in replies if r.metadata.message_type == "train"}
        if self._node in train and not self.cut:
            self.cut = True
            assert self.over.wait(60.0)
        return replies


@pytest.mark.parametrize("kind", ["virtual", "wall"])
def test_a_reply_that_never_ends_holds_nobody_up(play: Play, kind: str) -> None:
    recipe = recipe_of(
        "async_gossip", *FAST, "rounds=8", *(["clock=wall"] if kind == "wall" else ["clock.speeds=[]"])
    )
    loop = network(recipe)
    halting = Halting(loop, agent=2)
    loop.grid = PerMessageGrid(halting)  # type: ignore[assignment, arg-type]
    began = time.monotonic()
    try:
        own = play(recipe, loop).own_rounds()
    finally:
        halting.over.set()
    assert halting.cut and time.monotonic() - began < 50, "before the reply ended"
    assert sum(map(len, own.values())) == 32
    assert sorted(own[2]) == list(range(1, len(own[2]) + 1)), "it was asked again, and went on"


def test_where_updates_are_not_passed_on_agents_hear_of_their_neighbours_only(play: Play) -> None:
    recipe = recipe_of("async_gossip", *FAST, "agents=6", "rounds=2", "topology=ring", "exchange.rule=choco")
    loop = network(recipe)
    scripted: Scripted = loop.handler
    told: dict[int, set[int]] = {}

    def handler(agent: int, message: Message) -> Message:
        if message.metadata.message_type == "train":
            told.setdefault(agent, set()).update(unpack_roster(message.content))
        return scripted(agent, message)

    loop.handler = handler
    play(recipe, loop)
    assert told == {agent: {(agent - 1) % 6, (agent + 1) % 6} for agent in range(6)}


def test_one_that_always_fails_is_left_behind_and_all_failing_is_an_error(play: Play) -> None:
    recipe = recipe_of("async_gossip", *FAST, "rounds=4")
    loop = network(recipe)
    scripted: Scripted = loop.handler
    scripted.broken = {2}
    with pytest.raises(SilenceError, match="fails again and again"):
        scripted.broken = {0, 1, 2, 3}
        play(recipe, loop, name="all")
    loop = network(recipe)
    loop.handler.broken = {2}
    own = play(recipe, loop, name="one").own_rounds()
    assert set(own) == {0, 1, 3} and sum(map(len, own.values())) == 16


def digests(history: History, round: int) -> dict[int, str]:
    return {e.agent: e.adapter for e in history.events("evaluate") if e.round == round}


def test_in_step_it_is_synchronous_gossip_to_the_last_bit(play: Play, tmp_path: Path) -> None:
    small = (
        "tracking.agents=false",
        "learner.steps=1",
        "tasks.evaluate_every=2",
    )
    found = []
    for strategy in ("gossip", "async_gossip"):
        recipe = recipe_of("smoke", f"strategy={strategy}", *small)
        history = play(recipe, real_network(recipe, tmp_path / strategy), name=strategy)
        found.append((digests(history, 2), history.total("bytes/sent")))
    assert found[0][0] == found[1][0] and len(set(found[0][0].values())) == 3
    assert found[0][1] == pytest.approx(found[1][1], rel=0.01), (
        "zstandard of other envelopes: not to the byte"
    )


@pytest.mark.slow  # in step it is fast: test_edge_encryption.py, end_to_end/test_encryption.py
@pytest.mark.parametrize("rule", ["epidemic", "choco"])
def test_encrypted_edges_change_no_number_out_of_step(play: Play, tmp_path: Path, rule: str) -> None:
    """Neither where updates are passed on nor where they are not; a lost reply is asked for again."""
    found = []
    for encryption in ("none", "edge"):
        recipe = recipe_of("smoke", "strategy=async_gossip", "rounds=3", "learner.steps=1", "learner.prompts=2",
                           "tracking.agents=false",
                           "clock.speeds=[1,3,0.5]", "tasks.evaluate_every=3", "limits.round_timeout=8",
                           f"exchange.rule={rule}", "exchange.selection=topk", "exchange.selection.density=0.2",
                           f"exchange.encryption={encryption}")  # fmt: skip
        loop = real_network(recipe, tmp_path / encryption)
        heard: list[int] = []

        def second(agent: int, message: Message, heard: list[int] = heard) -> bool:
            """Agent 1's second reply never leaves it: its home has committed it by then."""
            if agent != 1 or message.metadata.message_type != "train":
                return False
            heard.append(len(heard) + 1)
            return heard[-1] == 2

        loop.lost = second
        history = play(recipe, loop, name=encryption)
        assert history.refused() == {} and len(heard) > 2
        found.append(digests(history, 3))
    assert found[0] == found[1] and len(found[0]) == 3


SLOW_LINKS = ("clock.bandwidths=[0.001,0.002/0.01]", "clock.latency=0.5", "clock.availability=[0.7,1]")


@pytest.mark.parametrize(
    ("rule", "links"),
    [
        ("average", ()),
        pytest.param("epidemic", (), marks=pytest.mark.slow),
        ("epidemic", SLOW_LINKS),
    ],
)
def test_a_run_stopped_anywhere_goes_on_and_ends_with_the_same_adapters(
    play: Play, tmp_path: Path, rule: str, links: tuple[str, ...]
) -> None:
    recipe = recipe_of("smoke", "strategy=async_gossip", "rounds=4", "learner.steps=1", "learner.prompts=2",
                       "tracking.agents=false",
                       "clock.speeds=[1,3,0.5]", "tasks.evaluate_every=2", f"exchange.rule={rule}",
                       "exchange.selection=topk", "exchange.selection.density=0.2", *links)  # fmt: skip
    calm = play(recipe, real_network(recipe, tmp_path / "calm"), name="calm")
    stopped = None
    for stop in (4, 5, None):
        loop = real_network(recipe, tmp_path / "stopped", seed=stop or 0)
        left = stop

        def push(messages: list[Message], push: object = loop.grid.push_messages) -> object:
            nonlocal left
            if messages[0].metadata.message_type == "train" and left is not None:
                left -= 1
                if left < 0:
                    raise KeyboardInterrupt
            return push(messages)  # type: ignore[operator]

        loop.grid.push_messages = push  # type: ignore[method-assign]
        if stop is None:
            stopped = play(recipe, loop, name="stopped")
        else:
            with pytest.raises(KeyboardInterrupt):
                play(recipe, loop, name="stopped")
    assert stopped is not None
    assert digests(stopped, 4) == digests(calm, 4)
    # Who has had the same updates holds the same state of `epidemic`, out of step too.
    assert len(set(digests(calm, 4).values())) == {"average": 3, "epidemic": 1}[rule]
    assert stopped.own_rounds() == calm.own_rounds()
    assert len(list(stopped.events("train"))) == len(list(calm.events("train"))) == 12
