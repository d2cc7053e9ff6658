"""Small made-up worlds: facts between made-up names, written as sentences that can be read back.

    Tilo works for Varex. Varex is based in Nolburg. Nolburg lies in Korland.

A relation gives each subject one object. Nothing here can be known from elsewhere: who answers has read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from symphony_fl.learning.skills.base import ProposalError

MOST_FACTS = 20
_ENDINGS = {"person": "", "company": "x", "city": "burg", "country": "land", "language": "ish"}
_ONSETS = "bdfghjklmnprstvz"
_VOWELS = "aeiou"
_NAME = r"([A-Z][A-Za-z]{0,19}(?: [A-Z][A-Za-z]{0,19}){0,2})"


@dataclass(frozen=True)
class Relation:
    """``the {name} of subject`` is the object. ``sentence`` states it, ``who`` asks for the object (plain words)."""

    name: str
    subject: str
    object: str
    sentence: str
    who: str

    def read(self, sentence: str) -> tuple[str, str] | None:
        """(subject, object) of a sentence, without its full stop, of this relation."""
        pattern = (
            re.escape(self.sentence).replace(r"\{s\}", f"(?P<s>{_NAME})").replace(r"\{o\}", f"(?P<o>{_NAME})")
        )
        found = re.fullmatch(pattern, sentence)
        return (found["s"], found["o"]) if found else None


@dataclass(frozen=True)
class Fact:
    """One relation between two names of a made-up world."""

    relation: Relation
    subject: str
    object: str

    def __str__(self) -> str:
        return self.relation.sentence.format(s=self.subject, o=self.object) + "."


RELATIONS: tuple[Relation, ...] = (
    Relation("employer", "person", "company", "{s} works for {o}", "Who does {s} work for?"),
    Relation("best friend", "person", "person", "{o} is the best friend of {s}", "Who is closest to {s}?"),
    Relation("home town", "person", "city", "{s} lives in {o}", "Where is the home of {s}?"),
    Relation("seat", "company", "city", "{s} is based in {o}", "Where are the offices of {s}?"),
    Relation("head", "company", "person", "{s} is led by {o}", "Who leads {s}?"),
    Relation("country", "city", "country", "{s} lies in {o}", "Which country does {s} belong to?"),
    Relation("mayor", "city", "person", "{o} is the mayor of {s}", "Who governs {s}?"),
    Relation("language", "country", "language", "The people of {s} speak {o}", "What is spoken in {s}?"),
)
_BY_NAME = {relation.name: relation for relation in RELATIONS}


class Names:
    """Made-up names, no two alike within one world."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.given: set[str] = set()

    def new(self, kind: str) -> str:
        while True:
            syllables = [self._one(_ONSETS) + self._one(_VOWELS) for _ in range(2)]
            consonant = "l" if _ENDINGS[kind][:1] in ("b", "i") else ""
            name = ("".join(syllables) + consonant + _ENDINGS[kind]).capitalize()
            if name not in self.given:
                self.given.add(name)
                return name

    def _one(self, letters: str) -> str:
        return letters[int(self.rng.integers(len(letters)))]


def draw_chain(rng: np.random.Generator, hops: int) -> list[Relation]:
    """A random path of relations, each beginning at the kind where the one before ended."""
    while True:
        chain = [RELATIONS[int(rng.integers(len(RELATIONS)))]]
        while len(chain) < hops:
            following = [relation for relation in RELATIONS if relation.subject == chain[-1].object]
            if not following:  # nothing is told of languages
                break
            chain.append(following[int(rng.integers(len(following)))])
        if len(chain) == hops:
            return chain


def follow(names: Names, chain: Sequence[Relation]) -> list[Fact]:
    """Facts along a chain, all its names new."""
    subject = names.new(chain[0].subject)
    facts = []
    for relation in chain:
        facts.append(Fact(relation, subject, names.new(relation.object)))
        subject = facts[-1].object
    return facts


def more_facts(rng: np.random.Generator, names: Names, facts: Sequence[Fact], most: int) -> list[Fact]:
    """Up to ``most`` further facts about subjects that ``facts`` speak of, with new objects."""
    told = {(fact.subject, fact.relation) for fact in facts}
    kinds = {fact.subject: fact.relation.subject for fact in facts}
    open_ = [
        (s, r) for s, kind in kinds.items() for r in RELATIONS if r.subject == kind and (s, r) not in told
    ]
    chosen = rng.permutation(len(open_))[:most]
    return [Fact(open_[i][1], open_[i][0], names.new(open_[i][1].object)) for i in chosen]


def tell(rng: np.random.Generator, facts: Sequence[Fact]) -> str:
    """The facts as one line of text, in random order."""
    return " ".join(str(facts[i]) for i in rng.permutation(len(facts)))


def read_facts(text: str) -> list[Fact]:
    """The facts of a text.

    Raises
    ------
    ProposalError
        A sentence is none of the known forms, there are too many, or two contradict each other.
    """
    sentences = [part.strip() for part in text.split(".") if part.strip()]
    if not 1 <= len(sentences) <= MOST_FACTS:
        raise ProposalError(
            "out_of_bounds", f"bad facts: {len(sentences)} sentences, 1 to {MOST_FACTS} are allowed"
        )
    facts = [_read_fact(sentence) for sentence in sentences]
    if len({(fact.relation, fact.subject) for fact in facts}) < len(facts):
        raise ProposalError("executor", "contradicting facts: a relation of one subject is told twice")
    return facts


def _read_fact(sentence: str) -> Fact:
    for relation in RELATIONS:
        pair = relation.read(sentence)
        if pair is not None:
            return Fact(relation, *pair)
    known = ", ".join(relation.sentence.format(s="X", o="Y") for relation in RELATIONS)
    raise ProposalError("unparsable", f"unreadable fact: {sentence[:60]!r} is none of: {known}")


def ask(chain: Sequence[Relation], start: str) -> str:
    """The question for the end of a chain: ``What is the seat of the employer of Tilo?``"""
    path = "".join(f"the {relation.name} of " for relation in reversed(chain))
    return f"{'Who' if chain[-1].object == 'person' else 'What'} is {path}{start}?"


def read_question(question: str) -> tuple[list[Relation], str]:
    """(chain, start) of a question that ``ask`` could have written.

    Raises
    ------
    ProposalError
        It could not.
    """
    found = re.fullmatch(r"(?:Who|What) is (.+)\?", question)
    *path, start = found[1].split(" of ") if found else [""]
    if not path or not all(part.startswith("the ") for part in path) or not re.fullmatch(_NAME, start):
        said = f"unreadable question: {question[:60]!r} is not 'What is the X of the Y of Z?'"
        raise ProposalError("unparsable", said)
    names = [part.removeprefix("the ") for part in path]
    unknown = [name for name in names if name not in _BY_NAME]
    if unknown:
        raise ProposalError("executor", f"unknown relation: {unknown[0]!r} is none of: {', '.join(_BY_NAME)}")
    return [_BY_NAME[name] for name in reversed(names)], start


def resolve(facts: Sequence[Fact], chain: Sequence[Relation], start: str) -> str:
    """Follows a chain of relations through the facts to its end.

    Raises
    ------
    ProposalError
        A fact is missing, or the chain comes by the same name twice.
    """
    objects = {(fact.relation, fact.subject): fact.object for fact in facts}
    passed = [start]
    for relation in chain:
        if (relation, passed[-1]) not in objects:
            raise ProposalError(
                "executor", f"unresolved question: no fact tells the {relation.name} of {passed[-1]}"
            )
        passed.append(objects[relation, passed[-1]])
    if len(set(passed)) < len(passed):
        raise ProposalError("executor", f"circular question: {' - '.join(passed)}")
    return passed[-1]
