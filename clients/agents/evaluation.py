"""What an agent can do: greedy answers to held-out tasks, of what is trained on and of what is not (section 6.4).

Where a recipe names tasks that no agent trains on, they are asked before the first and after the last round.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from symphony_fl.build.components import agent_skills, held_out_tasks
from symphony_fl.build.generalization import harder_tasks, unseen_tasks
from symphony_fl.config.options import Recipe
from symphony_fl.learning.memory.episodes import SOLVED
from symphony_fl.learning.model.adapters import Policy
from symphony_fl.learning.rl.sampling import greedy_rewards, mean_by_skill
from symphony_fl.learning.skills import Task, get_skill

BATCH = 256


def evaluation(
    policy: Policy, recipe: Recipe, number: int, round: int, folder: Path
) -> tuple[dict[str, float], str]:
    """What an agent answers an evaluation with: (metrics, a 1 or a 0 for every held-out task). After the last round the
    adapter that the policy carries is exported below its home's `folder`."""
    start = time.perf_counter()
    metrics, solved = held_out_accuracies(policy, recipe, number)
    metrics["seconds/evaluate"] = time.perf_counter() - start
    if round in (0, recipe.rounds):
        metrics |= generalisation(policy, recipe)
    if round == recipe.rounds:
        policy.model.save_pretrained(folder / "adapter")
    return metrics, solved


def held_out_accuracies(policy: Policy, recipe: Recipe, number: int) -> tuple[dict[str, float], str]:
    """(metrics, a 1 or a 0 for every held-out task) of agent `number`, with the adapter that the policy carries.

    accuracy/<skill>, accuracy/mean        of every skill of the run, the agent's own or not; their mean
    accuracy/own                           mean over the skills the agent trains on itself
    """
    tasks = held_out_tasks(recipe)
    rewards = _rewards(policy, tasks, recipe.learner.max_new_tokens)
    found = mean_by_skill(tasks, rewards)
    own = agent_skills(recipe, number)
    metrics = {f"accuracy/{skill}": value for skill, value in found.items()}
    metrics["accuracy/mean"] = sum(found.values()) / len(found)
    metrics["accuracy/own"] = sum(found[skill] for skill in own) / len(own)
    return metrics, "".join(str(int(reward >= SOLVED)) for reward in rewards)


def generalisation(policy: Policy, recipe: Recipe) -> dict[str, float]:
    """Greedy accuracies of the adapter that the policy carries.

    accuracy/unseen        mean over the skills of `tasks.unseen`; accuracy_unseen/<skill> of each
    accuracy/harder        mean over the tasks of `tasks.harder`; accuracy_harder/<skill>, accuracy_level/<difficulty>
    """
    metrics: dict[str, float] = {}
    unseen = unseen_tasks(recipe)
    if unseen:
        found = mean_by_skill(unseen, _rewards(policy, unseen, _longest(recipe, unseen)))
        metrics |= {f"accuracy_unseen/{skill}": value for skill, value in found.items()}
        metrics["accuracy/unseen"] = sum(found.values()) / len(found)
    harder = harder_tasks(recipe)
    if harder:
        rewards = _rewards(policy, harder, _longest(recipe, harder))
        found = mean_by_skill(harder, rewards)
        metrics |= {f"accuracy_harder/{skill}": value for skill, value in found.items()}
        by_level: dict[int, list[float]] = defaultdict(list)
        for task, reward in zip(harder, rewards, strict=True):
            by_level[task.difficulty].append(reward)
        metrics |= {f"accuracy_level/{level}": sum(got) / len(got) for level, got in by_level.items()}
        metrics["accuracy/harder"] = sum(rewards) / len(rewards)
    return metrics


def _longest(recipe: Recipe, tasks: Sequence[Task]) -> int:
    """Tokens of an answer: one to a harder task may be longer than any that was trained."""
    return max(recipe.learner.max_new_tokens, *(get_skill(task.skill).max_new_tokens for task in tasks))


def _rewards(policy: Policy, tasks: Sequence[Task], max_new_tokens: int) -> Sequence[float]:
    return greedy_rewards(
        policy.forward(train=False),
        policy.base.tokenizer,
        tasks,
        max_new_tokens=max_new_tokens,
        batch_size=BATCH,
    )
