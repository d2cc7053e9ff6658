"""How answers are compared, as published.

    normalise_answer   SQuAD (Rajpurkar et al., arXiv 1606.05250, evaluate-v1.1): no case, punctuation, articles
    exact_match        the same paper's first figure; Natural Questions (open) and HotpotQA use it unchanged
    gsm8k_answer       GSM8K (Cobbe et al., arXiv 2110.14168): the number after the first ``####``
    math_equal         equality of two mathematical expressions by math-verify
    first_line         where a few-shot answer ends

All scores are in [0, 1]. Where several gold answers are accepted the best one counts, as in SQuAD.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
# The published pattern asks for exactly one space; models leave it out or write a dollar sign.
_GSM8K = re.compile(r"####\s*(?:\$\s*)?(-?[0-9][0-9.,]*)")

LONGEST_EXPRESSION = 100  # characters
_COMMANDS = frozenset(
    {"frac", "dfrac", "tfrac", "sqrt", "pi", "cdot", "times", "div", "left", "right", "text"}
)
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_INTEGER = re.compile(r"-?[0-9]+")
_SCIENTIFIC = re.compile(r"[0-9]e[+-]?[0-9]", re.IGNORECASE)  # math-verify would read 1e9 as 1
_HARMLESS = re.compile(r"[0-9A-Za-z\s+\-*/^=.,:%$(){}\[\]\\|<>]*")
_POWER = re.compile(r"(?:\^|\*\*)")
_LOW_POWER = re.compile(
    r"(?:\^|\*\*)\s*(?:\d{1,2}(?!\w)|\{\s*-?\d{1,2}\s*\}|\(\s*-?\d{1,2}\s*\))"  # at most two digits
    r"(?![\s)}\]]*(?:\^|\*\*))"  # and no power of a power
)
_CUBE = re.compile(r"(?:\^|\*\*)\W*[0-3](?!\d)")


def normalise_answer(text: str) -> str:
    """Lower case, without punctuation, the words a, an, the, and surplus white space."""
    plain = text.lower().translate(_WITHOUT_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", plain).split())


def exact_match(prediction: str, golds: Sequence[str]) -> float:
    """1 if the prediction equals one of the accepted answers after normalisation, else 0."""
    return float(any(normalise_answer(prediction) == normalise_answer(gold) for gold in golds))


def f1(prediction: str, golds: Sequence[str]) -> float:
    """Harmonic mean of precision and recall over normalised words, with multiplicity; the best of the golds."""
    return max((_f1(prediction, gold) for gold in golds), default=0.0)


def _f1(prediction: str, gold: str) -> float:
    said, meant = normalise_answer(prediction).split(), normalise_answer(gold).split()
    common = (Counter(said) & Counter(meant)).total()
    if common == 0:
        return 0.0
    precision, recall = common / len(said), common / len(meant)
    return 2 * precision * recall / (precision + recall)


def gsm8k_answer(text: str) -> str | None:
    r"""The number after the first ``####``, without thousands separators; ``None`` if there is none.

    ``"5 + 4 = 9\\n#### 1,009."`` gives ``"1009"``.
    """
    found = _GSM8K.search(text)
    return found.group(1).replace(",", "").rstrip(".") if found else None


def math_equal(gold: str, answer: str) -> bool:
    r"""Whether math-verify holds the two expressions (plain or LaTeX) for equal: ``\\frac{1}{2}`` and ``0.5``.

    Its timeouts are signals, which work in a main thread only, while agents may run in others. So they are off, and
    what could run for long (high powers, factorials, sums, long texts) is refused beforehand: not equal.
    """
    if gold.strip() == answer.strip():
        return True
    if not (_is_harmless(gold) and _is_harmless(answer)):
        return False
    if _INTEGER.fullmatch(gold.strip()) and _INTEGER.fullmatch(answer.strip()):
        return int(gold) == int(answer)
    from math_verify import parse, verify  # imports sympy

    left, right = (parse(_as_latex(text), parsing_timeout=None) for text in (gold, answer))
    return bool(left and right and verify(left, right, timeout_seconds=None))


def _is_harmless(text: str) -> bool:
    """Short, made of known signs, and with powers so low that neither numbers nor expanded polynomials explode."""
    if len(text) > LONGEST_EXPRESSION or not _HARMLESS.fullmatch(text) or _SCIENTIFIC.search(text):
        return False
    if not _COMMANDS.issuperset(_COMMAND.findall(text)):
        return False
    powers = len(_POWER.findall(text))
    symbols = set(re.findall(r"[A-Za-z]", _COMMAND.sub("", text)))
    cubes = len(_CUBE.findall(text)) if symbols else powers
    return len(symbols) <= 3 and powers <= 2 and cubes == powers == len(_LOW_POWER.findall(text))


def _as_latex(text: str) -> str:
    """math-verify reads LaTeX only between dollar signs."""
    return text if "$" in text or not re.search(r"[\\^{}]", text) else f"${text}$"


def first_line(completion: str) -> str:
    """The completion's first line, stripped: a few-shot answer ends with its line."""
    return completion.split("\n", 1)[0].strip()
