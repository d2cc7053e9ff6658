"""A skill: how many vowels has a word?

symphony run given_tasks plugins=[examples/plugins/vowels.py] tasks.skills=[reverse,vowels] --in-process
"""

import numpy as np

import symphony_fl as sf

LETTERS = "abcdefghijklmnopqrst"  # what the embedded model can read, beside digits, + - = and names of skills


class Vowels:
    """Tasks of one to five letters; the answer is a digit."""

    name = "vowels"
    difficulties = range(1, 6)
    max_new_tokens = 3  # a digit, and the end

    def generate(self, rng: np.random.Generator, difficulty: int | None = None) -> sf.Task:
        level = int(rng.integers(1, 6)) if difficulty is None else difficulty
        word = "".join(rng.choice(list(LETTERS), size=level))
        answer = sum(letter in "aeio" for letter in word)
        return sf.Task(self.name, f"<max>{word}=", str(answer), level)

    def verify(self, task: sf.Task, completion: str) -> float:
        return float(completion.strip() == task.answer)


sf.register("skills", Vowels())
