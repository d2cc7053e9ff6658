"""Rows through the real `datasets` library: every format of file, every kind of damage, named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from symphony_fl.learning.skills import SkillError
from symphony_fl.learning.skills.datasets.gsm import GSM
from symphony_fl.learning.skills.datasets.loaders import FORMATS, SHIPPED, SHIPPED_SPLIT, load_rows
from symphony_fl.learning.skills.datasets.multihop import MULTIHOP
from symphony_fl.learning.skills.datasets.openqa import OPENQA
from symphony_fl.learning.skills.datasets.rows import with_rows


def _rows(format: str) -> list[dict]:
    lines = (SHIPPED / format / f"{SHIPPED_SPLIT}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _write(folder: Path, rows: list[dict], name: str = "train.jsonl") -> None:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


@pytest.mark.parametrize("format", FORMATS)
def test_one_row_reads_the_same_from_every_kind_of_file(format: str, tmp_path: Path) -> None:
    rows = _rows(format)
    assert load_rows(format, str(SHIPPED / format), SHIPPED_SPLIT) == rows
    (tmp_path / "dev.json").write_text(json.dumps(rows), "utf-8")
    assert load_rows(format, str(tmp_path), "dev") == rows
    for part in range(2):  # as the hub names them
        piece = datasets.Dataset.from_list(rows[part * 20 : (part + 1) * 20])
        piece.to_parquet(str(tmp_path / f"test-{part:05}-of-00002.parquet"))
    assert load_rows(format, str(tmp_path), "test") == rows[:40]


def _damaged(what: tuple[int, bytes]) -> bytes:
    """Two good rows, some bytes of them overwritten."""
    place, by = what
    good = (SHIPPED / "nq_open" / "train.jsonl").read_bytes().split(b"\n")
    text = b"\n".join(good[:2])
    return text[:place] + by + text[place + len(by) :]


GSM8K = {"question": "How many?", "answer": "2\n#### 2"}
HOTPOT = _rows("hotpotqa")[0]


@pytest.mark.parametrize(
    ("format", "row", "message"),
    [
        (
            "gsm8k",
            {"question": "How many?"},
            r"train.jsonl, row 2: no field 'answer' \(there are: question\)",
        ),
        (
            "gsm8k",
            {**GSM8K, "answer": "two"},
            r"row 2: field 'answer' = 'two' must be text that ends with \"#### \"",
        ),
        ("gsm8k", {**GSM8K, "question": " "}, "row 2: field 'question' = ' ' must be text"),
        (
            "hotpotqa",
            {**HOTPOT, "level": "easiest"},
            "row 2: field 'level' = 'easiest' must be easy, medium or hard",
        ),
        ("hotpotqa", {**HOTPOT, "type": "chain"}, "row 2: field 'type' = 'chain'"),
        ("hotpotqa", {**HOTPOT, "context": {"title": ["a"], "sentences": []}}, "row 2: field 'context'"),
        (
            "hotpotqa",
            {**HOTPOT, "supporting_facts": {"title": ["a"], "sent_id": [-1]}},
            r"row 2: field 'supporting_facts' .* must be \{title",
        ),
        (
            "nq_open",
            {"question": "who", "answer": []},
            r"row 2: field 'answer' = '\[\]' must be a list of accepted",
        ),
        ("nq_open", {"question": "who", "answer": [""]}, "row 2: field 'answer'"),
    ],
)
def test_a_wrong_row_is_named(format: str, row: dict, message: str, tmp_path: Path) -> None:
    _write(tmp_path, [_rows(format)[0], row])
    with pytest.raises(SkillError, match=message):
        load_rows(format, str(tmp_path), "train")


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5), lambda x: st.lists(x, max_size=3), max_leaves=6
    )
)
def test_any_value_is_accepted_or_refused_by_name(value: object) -> None:
    for format in FORMATS:
        row = _rows(format)[0]
        for field in row:
            try:
                FORMATS[format].check({**row, field: value}, "here")
            except SkillError as error:
                assert f"here: field '{field}' = " in str(error)


@given(
    st.binary(max_size=60)
    | st.sampled_from([b"null", b"[]", b"{}", b"[1]", b"[" * 9999, b'"x"', b"1e999"])
    | st.tuples(st.integers(0, 400), st.binary(max_size=4)).map(_damaged),
    st.sampled_from(["train.jsonl", "train.json"]),
)
def test_any_json_is_read_or_refused_by_name(content: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(content)
        try:
            rows = load_rows("nq_open", folder, "train")
        except SkillError as error:
            assert name in str(error)
        else:
            assert rows


@pytest.mark.parametrize("content", [b"", b"PAR1", b"{}", b"\x00" * 100])
def test_an_unreadable_parquet_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(content)
    with pytest.raises(SkillError, match="train.parquet"):
        load_rows("gsm8k", str(tmp_path), "train")


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    _write(tmp_path, [GSM8K])
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write("\n{broken\n")
    with pytest.raises(SkillError, match="train.jsonl, row 2: not readable as JSON"):
        load_rows("gsm8k", str(tmp_path), "train")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SkillError, match="unknown dataset format 'squad'"):
        load_rows("squad", str(tmp_path), "train")
    with pytest.raises(SkillError, match=f"folder {tmp_path}: no train.jsonl"):
        load_rows("gsm8k", str(tmp_path), "train")
    with pytest.raises(SkillError, match="source '/no/such/place' is neither a folder nor a hub name"):
        load_rows("gsm8k", "/no/such/place", "train")
    _write(tmp_path, [GSM8K])
    (tmp_path / "train.json").write_text("[]")
    with pytest.raises(SkillError, match="split 'train' is there twice: train.json, train.jsonl"):
        load_rows("gsm8k", str(tmp_path), "train")


def test_an_absent_hub_is_named() -> None:
    code = (
        "from symphony_fl.learning.skills.datasets.loaders import load_rows\n"
        "from symphony_fl.learning.skills import SkillError\n"
        "try: load_rows('gsm8k', 'openai/gsm8k-not-cached', 'train')\n"
        "except SkillError as error: print(error)\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith("hub dataset 'openai/gsm8k-not-cached', split 'train': ")


@pytest.mark.parametrize("skill", [GSM[0], MULTIHOP[0], OPENQA[0]], ids=lambda skill: skill.name)
def test_other_rows_replace_the_shipped_ones(skill, tmp_path: Path) -> None:
    rows = _rows(skill.draw.format)
    _write(tmp_path, rows[:3], "validation.jsonl")
    other = with_rows(skill, str(tmp_path), "validation")
    shutil.rmtree(tmp_path)  # they were read at once
    assert other.name == skill.name and other.difficulties == range(1, 2)
    asked = {other.generate(np.random.default_rng(seed)).prompt for seed in range(60)}
    assert len(asked) == 3
    for row in rows[:3]:
        assert sum(" ".join(row["question"].split()) in prompt for prompt in asked) == 1
    assert {skill.form.prompt(question) for question, _ in other.draw.by_difficulty[1]} == asked


def test_difficulties_are_those_of_the_rows(tmp_path: Path) -> None:
    rows = _rows("hotpotqa")
    hard = [row for row in rows if row["level"] == "hard"]
    _write(tmp_path, hard, "validation.jsonl")
    skill = with_rows(MULTIHOP[0], str(tmp_path), "validation")
    assert skill.difficulties == range(3, 4)
    with pytest.raises(SkillError, match="difficulty 1 is outside 3..3"):
        skill.generate(np.random.default_rng(0), 1)
    _write(tmp_path, [*hard, *(row for row in rows if row["level"] == "easy")])
    with pytest.raises(SkillError, match=r"difficulties \[1, 3\] but none of \[2\]"):
        with_rows(MULTIHOP[0], str(tmp_path), "train")


def test_a_generated_skill_takes_no_rows() -> None:
    with pytest.raises(SkillError, match="skill 'multihop' is generated"):
        with_rows(MULTIHOP[1], str(SHIPPED / "hotpotqa"), "train")


def test_listing_the_skills_reads_nothing_heavy() -> None:
    code = (
        "import sys, symphony_fl.learning.skills as skills\n"
        "heavy = {'torch', 'datasets', 'pyarrow', 'sympy', 'reasoning_gym', 'math_verify'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "import numpy; rng = numpy.random.default_rng(0)\n"
        "for name in ('gsm8k', 'hotpotqa', 'multihop', 'nq', 'openqa'):\n"
        "    skills.SKILLS[name].generate(rng)\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split("\n")[:2] == ["[]", "False"]
