"""Self-play: what a proposal is and earns, what is trained, and that nothing given or reserved slips in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from symphony_fl.learning.memory.memory import Memory
from symphony_fl.learning.model.adapters import Policy
from symphony_fl.learning.model.base_model import Base, load_base
from symphony_fl.learning.report import LearnReport, Meter
from symphony_fl.learning.rl.grpo_settings import GRPOSettings
from symphony_fl.learning.rl.policy_gradient import PolicyGradient, PolicyMismatch, Scored
from symphony_fl.learning.selfplay.bootstrap import Bootstrap
from symphony_fl.learning.selfplay.proposal_stats import ProposalStats
from symphony_fl.learning.selfplay.proposers import INVALID, FreeProposer, free_prompt, proposal_rewards
from symphony_fl.learning.selfplay.selfplay import SelfPlay, SelfPlaySettings
from symphony_fl.learning.skills import ProposalError, SkillError, Task
from symphony_fl.learning.skills.symbolic import FAR, LONG, SYMBOLIC, SymbolicSkill, question_of
from symphony_fl.learning.tasks.task_sampler import is_reserved

torch.set_num_threads(1)
SETTINGS = GRPOSettings(prompts=16, samples=4, learning_rate=3e-3, max_new_tokens=16)
PLAY = SelfPlaySettings(group=4, weight=0.2, discount=0.7, floor=0.1, mastery=0.5, examples=0)
TAUGHT = Bootstrap(SYMBOLIC[:3], steps=80, batch=16, seed=1)


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base("tiny")


def fresh(base: Base) -> Policy:
    policy = Policy(base, kind="lora", rank=4, alpha=8.0)
    policy.set(policy.initial(0))
    return policy


def taught(base: Base) -> Policy:
    policy = fresh(base)
    TAUGHT.teach(PolicyGradient(policy, SETTINGS))
    return policy


@given(st.sampled_from(SYMBOLIC + LONG + FAR), st.integers(0, 2**31), st.data())
def test_every_question_that_is_generated_can_be_proposed(
    skill: SymbolicSkill, seed: int, data: st.DataObject
) -> None:
    level = data.draw(st.sampled_from(list(skill.difficulties)))
    task = skill.generate(np.random.default_rng(seed), level)
    read = skill.parse_proposal(skill.proposal_of(task), level)
    assert (read.prompt, read.answer, read.difficulty, read.origin) == (
        task.prompt,
        task.answer,
        level,
        "proposed",
    )


@given(
    st.sampled_from(SYMBOLIC), st.integers(1, 7), st.text("abct059+-=<>", max_size=10) | st.text(max_size=8)
)
def test_what_is_read_is_a_question_of_that_difficulty(skill: SymbolicSkill, level: int, text: str) -> None:
    if level not in skill.difficulties:
        return
    try:
        task = skill.parse_proposal(text, level)
    except ProposalError as error:
        assert error.reason in ("unparsable", "out_of_bounds", "too_long")
        return
    assert question_of(task) == text and skill.verify(task, task.answer) == 1.0
    assert int(task.answer) >= 0 if skill.name == "subtract" else task.answer


def test_reasons() -> None:
    reverse = SYMBOLIC[0]
    for text, reason in (("abc", "out_of_bounds"), ("ab!d", "unparsable"), ("a" * 40, "too_long")):
        with pytest.raises(ProposalError) as refused:
            reverse.parse_proposal(text, 4)
        assert refused.value.reason == reason


def test_a_proposal_earns_its_learnability_shared_among_duplicates() -> None:
    a, b, c = (Task("reverse", f"<reverse>{text}=", text) for text in ("ab", "bc", "cd"))
    times = {a.prompt: 2, b.prompt: 1, c.prompt: 1}
    earned = proposal_rewards([a, a, b, None, c], {a.prompt: 0.5, b.prompt: 0.25}, times)
    mean = (1 / math.sqrt(2) + 0.75) / 2  # c is reserved, was not tried
    assert earned.tolist() == pytest.approx([1 / math.sqrt(2), 1 / math.sqrt(2), 0.75, INVALID, mean])
    assert proposal_rewards([a], {a.prompt: 1.0}).tolist() == [0.0]


def test_the_tally_sees_a_collapse() -> None:
    wide, narrow = ProposalStats(5), ProposalStats(5)
    wide.proposed([Task(s, f"<{s}>a{i}=", "") for i, s in enumerate(("sort", "add", "max", "swap"))])
    narrow.proposed([Task("sort", "<sort>ab=", "", 2)] * 3 + [None])
    assert wide.figures()["proposals/effective"] == pytest.approx(1.0)
    assert wide.figures()["proposals/skills"] == pytest.approx(4.0)
    assert narrow.figures() == pytest.approx({
        "proposals/valid": 0.75, "proposals/distinct": 1.0, "proposals/duplicate": 2 / 3, "proposals/difficulty": 2.0,
        "proposals/effective": 1 / 3, "proposals/skills": 1.0, "proposals/collapsed": 1.0,
    })  # fmt: skip
    assert wide.figures()["proposals/collapsed"] == 0.0
    assert ProposalStats(1).figures() == {}


def test_a_free_proposer_writes_the_request_as_well(base: Base) -> None:
    skills = {skill.name: skill for skill in SYMBOLIC[:3]}
    proposer = FreeProposer(skills, 4, base.tokenizer)
    requests = proposer.requests(np.random.default_rng(0), 6)
    assert [request.prompt for request in requests] == ["="] * 8  # rounded up to whole groups
    read = proposer.read(requests[0], "<sort>3=cba")
    assert read is not None and (read.skill, read.difficulty, read.answer) == ("sort", 3, "abc")
    for text in (
        "sort>3=cb",
        "next>3=abc",
        "sort>9=abcabcabc",
        "",
        "cba",
    ):  # other level, skill, no such level
        assert proposer.read(requests[0], text) is None
    same = [read] * 3 + [None]
    assert proposal_rewards(same, {read.prompt: 0.5}).tolist() == [1.0, 1.0, 1.0, INVALID]
    paid = proposer.advantages(same, {read.prompt: 0.5})
    assert paid.tolist() == pytest.approx([0.375] * 3 + [-1.125]), "duplicates cost nothing: why it collapses"


def test_a_free_proposer_needs_something_to_ask(base: Base) -> None:
    with pytest.raises(SkillError, match="no common beginning"):
        free_prompt([SYMBOLIC[0], Shouted()], base.tokenizer)


def test_a_free_proposer_is_taught_its_form_and_trained(base: Base, tmp_path: Path) -> None:
    policy, memory = fresh(base), Memory(tmp_path / "m.sqlite", capacity=1000)
    free = replace(PLAY, free=True)
    replace(TAUGHT, steps=200, free=True).teach(PolicyGradient(policy, SETTINGS))
    learner = SelfPlay(policy, SYMBOLIC[:3], memory, SETTINGS, free, 1)
    report = learner.improve(1, 2)
    memory.close()
    assert report.figures["proposals/valid"] > 0.3 and report.attempts


class Shouted:
    """A skill whose requests begin like no other's."""

    name = "shouted"
    difficulties = range(1, 3)

    def propose_prompt(self, examples: Sequence[Task], difficulty: int) -> str:
        return f"{difficulty}+"


def play(base: Base, folder: Path, rounds: int, seed: int = 1) -> tuple[Policy, list[LearnReport]]:
    policy, memory = taught(base), Memory(folder / f"{seed}-{rounds}.sqlite", capacity=1000)
    learner = SelfPlay(policy, SYMBOLIC[:3], memory, SETTINGS, PLAY, seed)
    reports = [learner.improve(round, 2) for round in range(1, rounds + 1)]
    memory.close()
    return policy, reports


def test_only_own_tasks_are_trained_on_and_runs_repeat(base: Base, tmp_path: Path) -> None:
    policy, reports = play(base, tmp_path, 2)
    (tmp_path / "again").mkdir()
    again, _ = play(base, tmp_path / "again", 2)
    assert np.array_equal(policy.get(), again.get())
    attempts = [attempt for report in reports for attempt in report.attempts]
    assert attempts and all(a.task.origin == "proposed" and not is_reserved(a.task.prompt) for a in attempts)
    assert {a.task.skill for a in attempts} <= {skill.name for skill in SYMBOLIC[:3]}
    assert all(report.shared == () for report in reports), "nothing is offered unless asked for"
    assert len({a.policy for a in attempts}) == 4, "each step's adapter is another one"
    assert all(0 < report.figures["proposals/valid"] <= 1 and report.mismatch < 1e-4 for report in reports)


def test_received_tasks_take_the_place_of_proposals_and_own_ones_are_offered(
    base: Base, tmp_path: Path
) -> None:
    """Six tasks of a neighbour over two steps: three each, all solved once, none offered on as one's own."""
    memory = Memory(tmp_path / "m.sqlite", capacity=1000)
    rng = np.random.default_rng(3)
    drawn = {
        t.prompt: replace(t, origin="received") for t in (SYMBOLIC[4].generate(rng, 5) for _ in range(6))
    }
    learner = SelfPlay(
        taught(base),
        SYMBOLIC[:3],
        memory,
        SETTINGS,
        replace(PLAY, share=5),
        1,
        received=[*drawn.values()],
    )
    report = learner.improve(1, 2)
    memory.close()
    tried = [attempt.task for attempt in report.attempts]
    received = [task for task in tried if task.origin == "received"]
    assert {task.prompt for task in received} == set(drawn) and learner.received == []
    assert len(received) == 6 * SETTINGS.samples <= len(tried) / 2
    assert len(tried) <= 2 * (SETTINGS.prompts + PLAY.group) * SETTINGS.samples
    assert 0 < len(report.shared) <= 5
    rates: dict[str, list[float]] = {}
    for attempt in report.attempts:
        rates.setdefault(attempt.task.prompt, []).append(attempt.reward)
    for proposal in report.shared:
        task = {skill.name: skill for skill in SYMBOLIC[:3]}[proposal.skill].parse_proposal(
            proposal.text, proposal.difficulty
        )
        earned = rates[task.prompt]
        assert task.prompt not in drawn and not is_reserved(task.prompt)
        assert proposal.success == pytest.approx(sum(earned) / len(earned)) and 0 < proposal.success < 1
        assert proposal.attempts == len(earned)


def test_all_agents_are_taught_alike(base: Base) -> None:
    """Whatever their own skills and seeds are: averaging them after the bootstrap changes nothing."""
    adapters = []
    for _ in range(2):
        gradient = PolicyGradient(fresh(base), SETTINGS)
        replace(TAUGHT, steps=3).teach(gradient)
        adapters.append(gradient.policy.get())
    assert np.array_equal(adapters[0], adapters[1])
    assert not np.array_equal(adapters[0], fresh(base).get())


def test_the_bootstrap_teaches_the_form_and_keeps_the_solver(base: Base) -> None:
    policy = fresh(base)
    gradient = PolicyGradient(
        policy, GRPOSettings(prompts=32, samples=4, learning_rate=3e-3, max_new_tokens=16)
    )
    pairs = [("=<reverse>3=", text) for text in ("abc", "bca", "tab", "dae")] + [("<sort>cab=", "abc")]
    losses = [gradient.imitate(pairs) for _ in range(30)]
    assert losses[-1] < losses[0] / 3
    written = gradient.sample(["=<reverse>3="], 16, seed=0).texts
    assert sum(len(text) == 3 for text in written) >= 12


def test_the_adapter_that_is_trained_is_the_one_that_generated(base: Base) -> None:
    policy = fresh(base)
    gradient = PolicyGradient(policy, SETTINGS)
    mine = gradient.digest()
    rollout = gradient.sample(["<sort>cab="], 4, seed=0)
    scored = Scored(rollout, mine, torch.tensor([1.0, -1.0, 0.5, -0.5]), 4)
    moved = policy.get()
    moved[0] += np.float32(1e-3)
    policy.set(moved)
    with pytest.raises(PolicyMismatch, match=mine.hex()):
        gradient.update([scored], 0, Meter())
    assert np.array_equal(policy.get(), moved)


def test_a_weight_of_zero_leaves_the_proposer_out(base: Base) -> None:
    """The joint step with weight w has the gradient solver + w x proposer."""
    gradients = []
    for weight in (0.0, 0.5, 1.0):
        policy = fresh(base)
        gradient = PolicyGradient(policy, GRPOSettings(2, 4, 0.0, 16, max_grad_norm=1e9))
        mine = gradient.digest()
        solver = Scored(gradient.sample(["<sort>cab="], 4, 0), mine, torch.tensor([1.0, -1.0, 0.5, -0.5]), 4)
        proposer = Scored(
            gradient.sample(["=<sort>3="], 4, 1), mine, torch.tensor([1.0, 1.0, 0.5, 0.2]), 4, weight
        )
        gradient.update([solver, proposer], 0, Meter())
        gradients.append(torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[1], (gradients[0] + gradients[2]) / 2, atol=1e-6, rtol=1e-4)
    assert not torch.allclose(gradients[0], gradients[2], atol=1e-5)


def test_senseless_settings_are_refused(base: Base, tmp_path: Path) -> None:
    memory = Memory(tmp_path / "m.sqlite", capacity=10)
    with pytest.raises(ValueError, match="group 3"):
        SelfPlay(fresh(base), SYMBOLIC[:1], memory, SETTINGS, replace(PLAY, group=3), 0)
    memory.close()
