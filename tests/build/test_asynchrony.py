"""What asynchronous runs read out of a recipe, and what they refuse before any work."""

from __future__ import annotations

import statistics

import pytest

from symphony_fl.build.asynchrony import kept_outboxes, last_round
from symphony_fl.build.checks import check_recipe
from symphony_fl.config.recipe import RecipeError, load_recipe
from symphony_fl.simulation.device_profiles import agent_speeds, round_seconds, speed_of


def test_speeds_are_numbers_or_devices_dealt_out_in_turn() -> None:
    assert agent_speeds([], 3) == [1.0, 1.0, 1.0]
    assert agent_speeds(["rtx3060", "2"], 3) == [1.0, 2.0, 1.0]
    assert speed_of("rtx4090") > speed_of("rtx3060") == 1 > speed_of("m2") > speed_of("jetson_orin_nano")


def test_durations_follow_speed_and_jitter_is_the_same_for_everyone_who_asks() -> None:
    plain = load_recipe("async_gossip", ["clock.speeds=[1,4]", "clock.jitter=0"])
    assert [round_seconds(plain, agent, 7) for agent in range(4)] == [60.0, 15.0, 60.0, 15.0]
    noisy = load_recipe("async_gossip", ["clock.speeds=[]", "clock.jitter=0.3"])
    drawn = [round_seconds(noisy, 0, round) for round in range(2000)]
    assert drawn == [round_seconds(noisy, 0, round) for round in range(2000)]
    assert statistics.mean(drawn) == pytest.approx(60.0, rel=0.03)
    assert len(set(drawn)) == 2000
    assert drawn != [round_seconds(noisy, 1, round) for round in range(2000)]


def test_rounds_reach_as_far_as_one_agent_can_go_and_homes_keep_what_may_be_asked_for() -> None:
    recipe = load_recipe("async_gossip", [])
    assert last_round(recipe) == 60 and last_round(load_recipe("given_tasks", [])) == 15
    assert kept_outboxes(recipe) == 33
    assert kept_outboxes(load_recipe("async_gossip", ["exchange.rule=average"])) == 2
    assert kept_outboxes(load_recipe("given_tasks", [])) == 2


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("exchange.rule=noloco", "exchange.rule = 'noloco': must be one of average, delta, choco, epidemic"),
        ("exchange.rule.combine=senders", "exchange.rule.combine = 'senders': must be 'agents'"),
        ("exchange.robust=median", "exchange.robust = 'median': must be 'none'"),
        ("reward=shared", "reward = 'shared': must be 'local'"),
        ("topology=one_peer_exponential", "topology = 'one_peer_exponential': must be a graph"),
        ("topology=fresh_k_regular", "topology = 'fresh_k_regular'"),
        (
            "strategy.start_with=5 clock=wall",
            "strategy.start_with = 5: must be at most agents, 4",
        ),
        ("strategy.start_with=3", "strategy.start_with = 3: must be 0 with the virtual clock"),
        ("clock.speeds=[rtx490]", "clock.speeds = 'rtx490'"),
        ("clock.speeds=[0]", "clock.speeds = '0': must be above 0"),
        ("clock.speeds=[nan]", "clock.speeds = 'nan': must be above 0"),
        ("clock.speeds=[1,1,1,1,1]", "clock.speeds: has 5 entries"),
        ("clock=sun", "clock = 'sun': unknown"),
        ("clock.seconds_per_round=0", "clock.seconds_per_round = 0.0: must be above 0"),
        ("strategy.max_staleness=-1", "strategy.max_staleness = -1"),
    ],
)
def test_what_cannot_be_asynchronous_is_refused_by_name(override: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said.replace("[", r"\[")):
        check_recipe(load_recipe("async_gossip", override.split()))


@pytest.mark.parametrize("rule", ["average", "delta", "choco", "epidemic"])
def test_these_rules_take_updates_whenever_they_come(rule: str) -> None:
    check_recipe(load_recipe("async_gossip", [f"exchange.rule={rule}"]))
