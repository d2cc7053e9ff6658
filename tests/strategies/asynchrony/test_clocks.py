"""Virtual time passes in the order of ends, whatever is answered first; the wall clock takes what is there."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.asynchrony.clocks import VirtualClock, WallClock
from symphony_fl.simulation.device_profiles import Fleet, Hardware


def test_the_earliest_end_is_waited_for_and_later_answers_are_kept() -> None:
    clock = VirtualClock(lambda agent, round: (3.0, 1.0, 2.0)[agent])
    for agent in range(3):
        clock.begin(agent, 1)
    assert clock.ready([0, 2]) == [], "agent 1 ends first and has not answered"
    assert clock.ready([0, 2, 1]) == [1] and clock.now == 1.0
    clock.begin(1, 2)
    assert clock.ready([0, 2]) == [], "agents 1 and 2 end together, at 2"
    assert clock.ready([0, 2, 1]) == [1, 2] and clock.now == 2.0
    assert clock.ready([0]) == [0] and clock.now == 3.0
    assert clock.ready([]) == []


def test_what_takes_no_time_ends_now_and_a_resumed_job_began_then() -> None:
    clock = VirtualClock(lambda agent, round: 10.0)
    clock.begin(0, 1, at=5.0)
    clock.begin(1, 1, at=2.0)
    assert clock.ready([0, 1]) == [1] and clock.now == 12.0
    clock.begin(1, 0)
    assert clock.ready([0, 1]) == [1] and clock.now == 12.0
    assert clock.ready([0]) == [0] and clock.now == 15.0


def test_an_agent_set_aside_is_not_waited_for_and_ends_when_it_answers() -> None:
    clock = VirtualClock(lambda agent, round: 1.0 + agent)
    clock.begin(0, 1)
    clock.begin(1, 1)
    clock.set_aside(0)
    clock.set_aside(0)
    assert clock.ready([1]) == [1] and clock.now == 2.0
    assert clock.ready([0]) == [0] and clock.now == 2.0


@given(st.integers(2, 6), st.integers(0, 1000))
def test_the_order_of_jobs_does_not_depend_on_the_order_of_answers(agents: int, seed: int) -> None:
    def play(order: random.Random) -> list[tuple[float, int]]:
        durations = random.Random(seed)
        table = {(a, r): durations.choice([1.0, 1.5, 2.0]) for a in range(agents) for r in range(20)}
        clock = VirtualClock(lambda agent, round: table[agent, round])
        rounds = dict.fromkeys(range(agents), 1)
        busy, answered, events = set(range(agents)), [], []
        for agent in sorted(busy):
            clock.begin(agent, 1)
        while len(events) < 3 * agents:
            agent = order.choice(sorted(busy))
            busy.remove(agent)
            answered.append(agent)
            while ending := clock.ready(answered):
                for agent in ending:
                    answered.remove(agent)
                    events.append((clock.now, agent))
                    rounds[agent] = min(19, rounds[agent] + 1)
                for agent in ending:
                    clock.begin(agent, rounds[agent])
                    busy.add(agent)
        return events[: 3 * agents]

    first = play(random.Random(1))
    assert first == play(random.Random(2)) == sorted(first)


def test_behind_a_barrier_every_round_is_as_long_as_its_slowest_agent() -> None:
    clock = VirtualClock(lambda agent, round: float(agent * round))
    assert clock.behind_barrier(3, 4) == 2 * (1 + 2 + 3 + 4)


def test_the_wall_clock_takes_answers_as_they_come_and_goes_on_after_a_resume() -> None:
    times = iter([100.0, 107.0])
    clock = WallClock(passed=50.0, time_source=lambda: next(times))
    clock.begin(0, 1)
    clock.set_aside(0)
    assert clock.ready([2, 0, 1]) == [2, 0, 1]
    assert clock.now == pytest.approx(57.0)


MB = 1_000_000
LINKS = Fleet(tuple(Hardware(up=8, down=80) for _ in range(3)))  # up 1 MB/s, down 10 MB/s


def test_mail_takes_its_way_and_what_is_shared_too() -> None:
    clock = VirtualClock(lambda agent, round: 10.0, LINKS)
    clock.begin(0, 1, received=20 * MB)
    clock.begin(1, 1)
    clock.weigh(1, 3 * MB)
    assert clock.ready([1]) == [], "agent 0 ends at 12 or later, as far as is known; agent 1 at 13"
    clock.weigh(0, 4 * MB)
    assert clock.ready([1, 0]) == [1] and clock.now == 13.0
    assert clock.ready([0]) == [0] and clock.now == 16.0


def test_the_way_of_an_evaluations_mail_is_part_of_the_next_round() -> None:
    clock = VirtualClock(lambda agent, round: 10.0, LINKS)
    clock.begin(0, 0, received=50 * MB)
    assert clock.ready([0]) == [0] and clock.now == 0.0
    clock.begin(0, 1, received=10 * MB)
    assert clock.ready([0]) == [0] and clock.now == 16.0
    clock.begin(0, 2)
    assert clock.ready([0]) == [0] and clock.now == 26.0, "it is paid for once"


def test_a_device_that_is_off_line_ends_later() -> None:
    fleet = Fleet((Hardware(availability=0.3), Hardware()), seed=1, outage=5.0)
    clock = VirtualClock(lambda agent, round: 10.0, fleet)
    clock.begin(0, 1)
    clock.begin(1, 1)
    assert clock.ready([0, 1]) == [1] and clock.now == 10.0
    assert clock.ready([0]) == [0] and clock.now == fleet.end(0, 0.0, 10.0) > 10.0


def test_without_a_fleet_bytes_take_no_time() -> None:
    clock = VirtualClock(lambda agent, round: 0.1 + 0.2)
    clock.begin(0, 1, at=0.7, received=10**9)
    clock.weigh(0, 10**9)
    assert clock.ready([0]) == [0] and clock.now == 0.7 + (0.1 + 0.2)


@given(st.integers(0, 1000))
def test_the_order_of_jobs_with_transfers_does_not_depend_on_the_order_of_answers(seed: int) -> None:
    def play(order: random.Random) -> list[tuple[float, int]]:
        drawn = random.Random(seed)
        seconds = {(a, r): drawn.choice([1.0, 1.5, 2.0]) for a in range(3) for r in range(1, 9)}
        sizes = {key: drawn.choice([0, MB // 2, MB]) for key in seconds}
        fleet = Fleet(
            tuple(Hardware(up=8, down=8, availability=0.6) for _ in range(3)), seed=seed, outage=1.0
        )
        clock = VirtualClock(lambda agent, round: seconds[agent, round], fleet)
        rounds, answered, events = dict.fromkeys(range(3), 1), [], []
        busy = {0, 1, 2}
        for agent in sorted(busy):
            clock.begin(agent, 1)
        while len(events) < 12:
            agent = order.choice(sorted(busy))
            busy.remove(agent)
            answered.append(agent)
            clock.weigh(agent, sizes[agent, rounds[agent]])
            while ending := clock.ready(answered):
                for agent in ending:
                    answered.remove(agent)
                    events.append((clock.now, agent))
                    rounds[agent] = min(8, rounds[agent] + 1)
                for agent in ending:
                    clock.begin(agent, rounds[agent], received=sizes[agent, rounds[agent]])
                    busy.add(agent)
        return events[:12]

    first = play(random.Random(1))
    assert first == play(random.Random(2)) == sorted(first)
