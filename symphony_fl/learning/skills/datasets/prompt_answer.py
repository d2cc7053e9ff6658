"""A skill over any rows with a prompt and an answer: no code, only a metric to choose.

    {"prompt": "What is the capital of France?", "answer": "Paris"}

The rows obey the same split as all tasks: a tenth of the prompts, chosen by their hash, is only ever asked.

Metrics, each in [0, 1]:

    exact     the completion's first line equals the answer, spaces at the ends aside
    numeric   the last number of the first line equals the answer's, to a relative 1e-6
    f1        words in common (SQuAD's, after its normalisation)
    contains  the answer stands somewhere in the completion
    math      the two are equal expressions (math-verify)
    python    the completion is a Python function; the answer is JSON, [[arguments, value], ...]: the share that it gets
              right, run in the confined executor
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from symphony_fl.learning.executors.python import Call, run_calls
from symphony_fl.learning.executors.python_syntax import same_value
from symphony_fl.learning.skills.base import SkillError, Task, check_difficulty
from symphony_fl.learning.skills.datasets.text_rows import read_rows
from symphony_fl.learning.skills.metrics import f1, first_line, math_equal

_NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*(?:[eE][-+]?\d+)?")
TOLERANCE = 1e-6
MAX_CASES = 32  # of a python check


@dataclass(frozen=True)
class PromptAnswer:
    """A skill whose tasks are rows. `source`: a .json, .jsonl or .parquet file, a folder or a hub dataset; `prompt` and
    `answer`: the names of the fields."""

    name: str
    source: str
    split: str
    metric: str
    prompt: str
    answer: str
    max_new_tokens: int

    difficulties = range(1, 2)

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """All rows as tasks, read at the first draw.

        Raises
        ------
        SkillError
            The rows cannot be read, there are none, a prompt is there twice, or an answer does not suit the metric.
        """
        try:
            rows = read_rows(self.source, self.split, (self.prompt, self.answer))
        except (OSError, ValueError) as error:
            raise SkillError(f"rows of {self.name!r}: {error}") from None
        if len({row[self.prompt] for row in rows}) != len(rows) or not rows:
            raise SkillError(f"rows of {self.name!r}: must be at least one, and no prompt twice")
        for row in rows:
            _check_answer(self.metric, row[self.answer], self.name)
        return tuple(Task(self.name, row[self.prompt], row[self.answer]) for row in rows)

    def generate(self, rng: np.random.Generator, difficulty: int | None = None) -> Task:
        if difficulty is not None:
            check_difficulty(self.difficulties, difficulty, self.name)
        return self.tasks[int(rng.integers(len(self.tasks)))]

    def verify(self, task: Task, completion: str) -> float:
        return METRICS[self.metric](task.answer, completion)


def _numbers(text: str) -> list[float]:
    return [float(found.replace(",", "")) for found in _NUMBER.findall(text)]


def _exact(answer: str, completion: str) -> float:
    return float(first_line(completion) == answer.strip())


def _numeric(answer: str, completion: str) -> float:
    said, meant = _numbers(first_line(completion)), _numbers(answer)
    return float(bool(said) and math.isclose(said[-1], meant[-1], rel_tol=TOLERANCE))


def _python(answer: str, completion: str) -> float:
    cases = json.loads(answer)
    calls = [Call(completion, tuple(arguments)) for arguments, _ in cases]
    outcomes = run_calls(calls)
    right = [
        not found.error and same_value(found.value, value)
        for found, (_, value) in zip(outcomes, cases, strict=True)
    ]
    return sum(right) / len(right)


METRICS: dict[str, Callable[[str, str], float]] = {
    "exact": _exact,
    "numeric": _numeric,
    "f1": lambda answer, completion: f1(first_line(completion), [answer]),
    "contains": lambda answer, completion: float(answer.strip() in completion),
    "math": lambda answer, completion: float(math_equal(answer, first_line(completion))),
    "python": _python,
}
"""(answer, completion) -> reward, by the metric's name."""


def _check_answer(metric: str, answer: str, name: str) -> None:
    if not answer.strip():
        raise SkillError(f"rows of {name!r}: an answer is empty")
    if metric == "numeric" and not _numbers(answer):
        raise SkillError(f"rows of {name!r}: answer {answer[:60]!r} holds no number (metric 'numeric')")
    if metric == "python":
        try:
            cases = json.loads(answer)
            fits = 1 <= len(cases) <= MAX_CASES and all(isinstance(args, list) for args, _ in cases)
        except (ValueError, TypeError):
            fits = False
        if not fits:
            raise SkillError(
                f"rows of {name!r}: answer {answer[:60]!r} must be 1 to {MAX_CASES} pairs "
                "[[arguments, value], ...] as JSON (metric 'python')"
            )
