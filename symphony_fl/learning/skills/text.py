"""Where the answer is in what a model wrote, and the question in what it was asked."""

from __future__ import annotations

BLANK = "\n\n"
_FENCE = "```"


def question_of(prompt: str) -> str:
    """The last block of a few-shot prompt whose blocks are separated by blank lines."""
    return prompt.rpartition(BLANK)[2]


def answer_block(completion: str) -> str:
    """The first fenced block of a completion (a chat model's), else all up to the first blank line; stripped."""
    before, fence, fenced = completion.partition(_FENCE)
    if not fence:
        return before.strip().partition(BLANK)[0].strip()
    first, newline, rest = fenced.partition("\n")
    body = rest if (newline and first.strip().isalnum()) or not first.strip() else fenced
    return body.partition(_FENCE)[0].strip()


def answer_line(completion: str) -> str:
    """The first line of ``answer_block``."""
    return answer_block(completion).partition("\n")[0].strip()
