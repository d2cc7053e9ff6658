"""Reasoning about small pure functions, the three modes of Absolute Zero (Zhao et al., arXiv 2505.03335, Section 3.2).

    skill            asked                                        answered by       judged by
    code_deduction   program, input                               the output        comparing literals
    code_abduction   program, output                              an input          running the program on it
    code_induction   half of the (input, output) pairs            a program         running it on all pairs

    def f(x): return 3 * x + 1          def f(x): return 3 * x + 1         f(1) = 4
    f(4) =                              f(?) = 13                          f(2) = 7
                                        ? =                                Program:

Any input and any program that give the right values are right. All pairs of an induction task, the hidden ones too,
stand behind the program in ``Task.answer``, as comments: ``# f(5) == 16``.

A proposal is a program and, behind `#`, calls: ``def f(x): return 3 * x + 1  # f(4)`` (six calls for induction). It
must be within the difficulty's number of operations, read all its parameters, and give the same plain results in two
processes with different hash seeds. Departures from Absolute Zero: no message with an induction task; programs may use
the subset of Python in executors/python_syntax.py; results of an induction task that are all equal are refused.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from symphony_fl.learning.executors.allowance import Allowance
from symphony_fl.learning.executors.python import Call, PythonLimits, run_calls, run_twice
from symphony_fl.learning.executors.python_syntax import PythonError, parse_program, read_literals, same_value
from symphony_fl.learning.skills.base import ProposalError, ProposalReason, SkillError, Task, draw_difficulty
from symphony_fl.learning.skills.programs.functions import (
    OPERATIONS,
    PROGRAM_CHARS,
    VALUE_CHARS,
    Draw,
    Example,
    arguments_text,
    canonical,
    draw_template,
    operations,
    unused_parameters,
)
from symphony_fl.learning.skills.text import BLANK, answer_block, answer_line, question_of

_SHOWN = 3  # of the pairs of an induction task; as many are hidden
_PROPOSAL_CHARS = PROGRAM_CHARS + 6 * (VALUE_CHARS + 10)
_PROPOSAL_LIMITS = PythonLimits(
    seconds=1.0, batch_seconds=2.0
)  # half of what a judged program gets, so that none is near the limit
_REASONS: dict[str, ProposalReason] = {
    "too_long": "too_long",
    "unparsable": "unparsable",
    "forbidden": "refused",
}


@dataclass(frozen=True)
class CodeSkill:
    """One mode. ``write`` makes (question, answer) of an example, ``read`` the program and inputs of those again;
    ``judge(question, answer, completion)`` says whether a completion is right."""

    name: str
    write: Callable[[Example], tuple[str, str]]
    read: Callable[[str, str], tuple[str, tuple[str, ...]]]
    judge: Callable[[str, str, str], bool]
    instruction: str
    examples: str
    calls: int
    max_new_tokens: int
    draw: Draw = draw_template
    difficulties: range = range(1, 4)

    @property
    def computes_answer(self) -> bool:
        """The executor runs the proposed program: its outputs are the answer, or what is judged by."""
        return True

    def generate(self, rng: np.random.Generator, difficulty: int | None = None) -> Task:
        level = draw_difficulty(rng, self.difficulties, difficulty, self.name)
        return self.task(self.draw(rng, level, self.calls), level)

    def task(self, example: Example, difficulty: int, origin: str = "generated") -> Task:
        question, answer = self.write(example)
        return Task(self.name, self.examples + question, answer, difficulty, origin)

    def verify(self, task: Task, completion: str) -> float:
        """1 if the completion's first block is right when run, else 0. Takes up to a few seconds for hostile programs.

        Raises
        ------
        SandboxError
            Nothing can be run safely on this machine.
        """
        return float(self.judge(question_of(task.prompt), task.answer, completion))

    def chat(self, task: Task) -> list[dict[str, str]]:
        return [{"role": "user", "content": f"{self.instruction}{BLANK}{question_of(task.prompt)}"}]

    def propose_prompt(self, examples: Sequence[Task], difficulty: int) -> str:
        """Examples as proposals, one after the other; the completion is one more."""
        level = OPERATIONS[self._level(difficulty)]
        lines = [
            f"Write a new Python function f with {level[0]} to {level[-1]} operations and, after #, "
            f"{self.calls} different call{'s' if self.calls > 1 else ''} of it."
        ]
        for task in examples:
            if task.skill != self.name:
                raise SkillError(f"skill {self.name!r}: an example of skill {task.skill!r}")
            program, inputs = self.read(question_of(task.prompt), task.answer)
            lines.append(f"Task: {program}  # {', '.join(f'f({text})' for text in inputs)}")
        return "\n".join([*lines, "Task:"])

    def parse_proposal(self, text: str, difficulty: int) -> Task:
        return self.parse_within(text, difficulty, Allowance(2 * _PROPOSAL_LIMITS.batch_seconds))

    def parse_within(self, text: str, difficulty: int, allowance: Allowance) -> Task:
        level = self._level(difficulty)
        block = answer_block(text).removeprefix("Task:").strip()
        if len(block) > _PROPOSAL_CHARS:
            raise ProposalError("too_long", f"{len(block)} characters, at most {_PROPOSAL_CHARS}")
        source, mark, rest = block.rpartition("# f(")
        if not mark:
            raise ProposalError("unparsable", "no '# f(' with the calls")
        try:
            tree = parse_program(source.strip(), PROGRAM_CHARS)
            count, unused = operations(tree), unused_parameters(tree)
            program = canonical(tree)
            arguments = [read_literals(call, VALUE_CHARS) for call in _calls(f"f({rest}".partition("\n")[0])]
        except PythonError as error:
            raise ProposalError(_REASONS[error.reason], str(error)) from None
        if count not in OPERATIONS[level]:
            raise ProposalError("out_of_bounds", f"{count} operations at difficulty {level}")
        inputs = tuple(map(arguments_text, arguments))
        if len(inputs) != self.calls or len(set(inputs)) != self.calls:
            raise ProposalError(
                "out_of_bounds", f"{len(set(inputs))} different calls, {self.calls} are needed"
            )
        if unused:
            raise ProposalError("trivial", f"f does not read {', '.join(unused)}")
        outputs = _outputs([Call(program, values) for values in arguments], allowance)
        return self.task(Example(program, inputs, outputs), level, "proposed")

    def _level(self, difficulty: int) -> int:
        if difficulty not in self.difficulties:
            first, last = self.difficulties[0], self.difficulties[-1]
            raise SkillError(f"skill {self.name!r}: difficulty {difficulty} is outside {first}..{last}")
        return difficulty


def _outputs(calls: Sequence[Call], allowance: Allowance) -> tuple[str, ...]:
    """The literals of the calls' results, which are short, the same in two runs, and not all equal.

    Raises
    ------
    ProposalError
        They are not.
    """
    outcomes = run_twice(calls, _PROPOSAL_LIMITS, allowance, all_or_none=True)
    for outcome in outcomes:
        if outcome.error == "non_deterministic":
            raise ProposalError("non_deterministic", "two runs gave two results")
        if outcome.error:
            raise ProposalError("executor", outcome.error)
    texts = tuple(repr(outcome.value) for outcome in outcomes)
    if max(map(len, texts)) > VALUE_CHARS:
        raise ProposalError(
            "too_long", f"a result of {max(map(len, texts))} characters, at most {VALUE_CHARS}"
        )
    if len(texts) > 1 and len(set(texts)) == 1:
        raise ProposalError("trivial", "all results are equal")
    return texts


def _calls(text: str) -> list[str]:
    """The argument lists in ``f(1), f(2, 'a')``.

    Raises
    ------
    PythonError
        It is something else.
    """
    try:
        node = ast.parse(text.strip().rstrip(".,;"), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise PythonError("unparsable", f"{text[:80]!r} are no calls of f") from None
    calls = node.elts if isinstance(node, ast.Tuple) else [node]
    found = []
    for call in calls:
        if not isinstance(call, ast.Call) or ast.unparse(call.func) != "f" or call.keywords:
            raise PythonError("unparsable", f"{text[:80]!r} are no calls of f")
        found.append(", ".join(map(ast.unparse, call.args)))
    return found


def _returns(program: str, pairs: Sequence[tuple[str, str]]) -> bool:
    """Whether a program (untrusted) gives the (trusted) output of every pair of argument list and output."""
    try:
        calls = [Call(program, read_literals(arguments, VALUE_CHARS)) for arguments, _ in pairs]
    except PythonError:
        return False
    outcomes = run_calls(calls, all_or_none=True)
    wanted = [ast.literal_eval(output) for _, output in pairs]
    return all(not o.error and same_value(o.value, value) for o, value in zip(outcomes, wanted, strict=True))


def _write_deduction(example: Example) -> tuple[str, str]:
    return f"{example.program}\nf({example.inputs[0]}) =", example.outputs[0]


def _read_deduction(question: str, answer: str) -> tuple[str, tuple[str, ...]]:
    program, _, call = question.rpartition("\n")
    return program, (call.removeprefix("f(").removesuffix(") ="),)


def _judge_deduction(question: str, answer: str, completion: str) -> bool:
    try:
        values = read_literals(answer_line(completion), VALUE_CHARS)
    except PythonError:
        return False
    return same_value(values, (ast.literal_eval(answer),))


def _write_abduction(example: Example) -> tuple[str, str]:
    return f"{example.program}\nf(?) = {example.outputs[0]}\n? =", example.inputs[0]


def _read_abduction(question: str, answer: str) -> tuple[str, tuple[str, ...]]:
    return question.rpartition("\nf(?) = ")[0], (answer,)


def _judge_abduction(question: str, answer: str, completion: str) -> bool:
    program, _, rest = question.rpartition("\nf(?) = ")
    given = answer_line(completion)
    if given.startswith("f(") and given.endswith(")"):
        given = given[2:-1]
    return given == answer or _returns(program, [(given, rest.removesuffix("\n? ="))])


def _write_induction(example: Example) -> tuple[str, str]:
    pairs = list(zip(example.inputs, example.outputs, strict=True))
    shown = [f"f({given}) = {output}" for given, output in pairs[:_SHOWN]]
    checks = [f"# f({given}) == {output}" for given, output in pairs]
    return "\n".join([*shown, "Program:"]), "\n".join([example.program, *checks])


def _pairs(answer: str) -> list[tuple[str, str]]:
    """The (argument list, output) pairs behind the program."""
    lines = [line.removeprefix("# ") for line in answer.split("\n") if line.startswith("# f(")]
    nodes = [ast.parse(line, mode="eval").body for line in lines]
    return [
        (_calls(ast.unparse(node.left))[0], ast.unparse(node.comparators[0]))
        for node in nodes
        if isinstance(node, ast.Compare)
    ]


def _read_induction(question: str, answer: str) -> tuple[str, tuple[str, ...]]:
    return answer.partition("\n# f(")[0], tuple(given for given, _ in _pairs(answer))


def _judge_induction(question: str, answer: str, completion: str) -> bool:
    return _returns(answer_block(completion), _pairs(answer))


CODE: tuple[CodeSkill, ...] = (
    CodeSkill(
        "code_deduction", _write_deduction, _read_deduction, _judge_deduction,
        "What does the last call return? Answer with one Python literal and nothing else.",
        "def f(x): return 2 * x + 3\nf(5) = 13\n\ndef f(x): return x[::-1] + 'z'\nf('abc') = 'cbaz'\n\n"
        "def f(x): return [y + 1 for y in x]\nf([4, 0]) = [5, 1]\n\n",
        calls=1, max_new_tokens=64,
    ),
    CodeSkill(
        "code_abduction", _write_abduction, _read_abduction, _judge_abduction,
        "Which argument, put in place of ?, gives this result? Answer with Python literals and nothing else.",
        "def f(x): return 2 * x + 3\nf(?) = 13\n? = 5\n\ndef f(x): return x[::-1] + 'z'\nf(?) = 'cbaz'\n? = 'abc'\n\n"
        "def f(x): return [y + 1 for y in x]\nf(?) = [5, 1]\n? = [4, 0]\n\n",
        calls=1, max_new_tokens=64,
    ),
    CodeSkill(
        "code_induction", _write_induction, _read_induction, _judge_induction,
        "Write a Python function f that gives these results and continues them. Answer with the code and nothing else.",
        "f(5) = 13\nf(1) = 5\nf(2) = 7\nProgram: def f(x): return 2 * x + 3\n\n"
        "f('abc') = 'cbaz'\nf('k') = 'kz'\nf('to') = 'otz'\nProgram: def f(x): return x[::-1] + 'z'\n\n",
        calls=2 * _SHOWN, max_new_tokens=160,  # PROGRAM_CHARS are some 130 tokens
    ),
)  # fmt: skip
