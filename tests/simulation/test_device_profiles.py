"""Devices out of a recipe, and what work, transfers and outages take on them, against hand-computed seconds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symphony_fl.build.checks import check_recipe
from symphony_fl.config.recipe import RecipeError, load_recipe
from symphony_fl.simulation.device_profiles import (
    Fleet,
    Hardware,
    check_hardware,
    recipe_fleet,
    round_seconds,
)

LINKS = "clock.bandwidths=[8,2/4]"


def test_a_recipe_deals_out_speeds_links_and_availability_in_turn() -> None:
    overrides = ["clock.speeds=[rtx3060,2]", LINKS, "clock.latency=0.5", "clock.availability=[1,0.5,1,1]"]
    fleet = recipe_fleet(load_recipe("async_gossip", [*overrides, "clock.jitter=0"]))
    assert fleet.agents[0] == Hardware(1.0, 12 << 30, 8.0, 8.0, 0.5, 1.0)
    assert fleet.agents[1] == Hardware(2.0, None, 2.0, 4.0, 0.5, 0.5)
    assert fleet.agents[2] == fleet.agents[0] and fleet.agents[3].availability == 1.0
    assert fleet.compute(1, 1, 1024, 1024) == pytest.approx(30.0), "a round's samples at speed 2"
    assert fleet.compute(0, 1, 1024, 0) == pytest.approx(30.0), "half of a sample is generating it"


def test_a_round_on_the_fleet_is_as_long_as_on_the_virtual_clock() -> None:
    recipe = load_recipe("async_gossip", [])
    fleet = recipe_fleet(recipe)
    for agent in range(4):
        assert fleet.compute(agent, 3, 1024, 1024) == pytest.approx(round_seconds(recipe, agent, 3))


def test_without_links_nothing_takes_time_and_with_them_every_byte_does() -> None:
    assert Hardware().upload(10**9) == 0.0 == Hardware().download(10**9)
    item = Hardware(up=8.0, down=80.0, latency=0.25)
    assert item.upload(2_000_000) == pytest.approx(2.25)
    assert item.download(2_000_000) == pytest.approx(0.45)
    assert item.upload(0) == 0.0, "what is not sent has no latency"


@pytest.mark.parametrize("start", [0.0, 137.5, 90_000.25])
def test_who_is_always_there_is_done_after_just_so_long(start: float) -> None:
    assert Fleet((Hardware(),)).end(0, start, 77.25) == start + 77.25


def test_off_line_a_device_rests_and_goes_on_where_it_was() -> None:
    fleet = Fleet((Hardware(availability=0.5),), seed=3, outage=10.0)
    online = [fleet.end(0, 10.0 * n, 1e-9) < 10.0 * n + 1 for n in range(40)]
    assert 8 <= sum(online) <= 32
    first = online.index(True)
    off = next(n for n in range(first, 40) if not online[n])
    back = online.index(True, off)
    # Ten seconds before it goes off line, work of twelve: two are left for when it is back.
    assert fleet.end(0, 10.0 * off - 10, 12.0) == pytest.approx(10.0 * back + 2)


# Work in eighths of a second, so that sums are exact: what is lost in rounding at an outage's edge costs the outage.
WORK = st.integers(0, 40_000).map(lambda eighths: eighths / 8)


@given(st.integers(0, 100_000).map(float), WORK, WORK, st.floats(0.05, 1), st.integers(0, 9))
def test_more_work_is_never_done_earlier_and_work_can_be_cut_anywhere(
    start: float, first: float, second: float, share: float, seed: int
) -> None:
    fleet = Fleet((Hardware(availability=share),), seed=seed)
    middle, end = fleet.end(0, start, first), fleet.end(0, start, first + second)
    assert start + first <= middle + 1e-6 and middle <= end + 1e-6
    assert fleet.end(0, middle, second) == pytest.approx(end, abs=1e-3)


def test_share_of_the_time_that_a_device_is_there() -> None:
    fleet = Fleet((Hardware(availability=0.8),), outage=300.0)
    assert 1e6 / fleet.end(0, 0.0, 1e6) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("clock.bandwidths=[fast]", "clock.bandwidths = 'fast': must be Mbit/s above 0"),
        ("clock.bandwidths=[0]", "clock.bandwidths = '0': must be Mbit/s above 0"),
        ("clock.bandwidths=[5/]", "clock.bandwidths = '5/'"),
        ("clock.bandwidths=[1/nan]", "clock.bandwidths = '1/nan'"),
        ("clock.bandwidths=[1,1,1,1,1]", "clock.bandwidths: has 5 entries, must be at most one per agent, 4"),
        ("clock.availability=[0]", "clock.availability = 0.0: must be at least 0.01 and at most 1"),
        ("clock.availability=[1.5]", "clock.availability = 1.5: must be at least"),
        ("clock.availability=[nan]", "clock.availability = nan"),
        ("clock.latency=-1", "clock.latency = -1.0"),
        ("clock.outage=0", "clock.outage = 0.0: must be above 0"),
    ],
)
def test_what_no_device_can_be_is_refused_by_name(override: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        check_recipe(load_recipe("async_gossip", [override]))
    assert said in str(caught.value)


def test_a_model_that_does_not_fit_is_refused_where_both_are_known() -> None:
    named = ["model.name=mistralai/Mistral-7B-v0.1", "clock.speeds=[rtx4090,rtx3060]"]
    with pytest.raises(
        RecipeError, match="clock.speeds = 'rtx3060': has 12 GiB, must hold the weights of mistralai"
    ):
        check_hardware(load_recipe("given_tasks", [*named, "model.dtype=float16"]))
    check_hardware(load_recipe("given_tasks", [*named, "model.dtype=float16", "model.quantization=nf4"]))
    check_hardware(load_recipe("given_tasks", ["model.name=owner/unknown", "clock.speeds=[m2]"]))
    check_hardware(load_recipe("given_tasks", [named[0], "clock.speeds=[1]"]))


def test_links_can_be_replaced_all_at_once() -> None:
    fleet = recipe_fleet(load_recipe("hetero", [])).connected(100.0)
    assert {item.up for item in fleet.agents} == {item.down for item in fleet.agents} == {100.0}
    assert [item.availability for item in fleet.agents] == [1, 1, 1, 0.8, 0.9]
    assert all(math.isinf(item.up) for item in recipe_fleet(load_recipe("given_tasks", [])).agents)
