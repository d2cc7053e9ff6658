"""Similar texts by trigrams: the nearest come first, and no text, however odd, breaks a query."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from examples import examples
from symphony_fl.learning.memory.retrieval import TextIndex

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def test_more_shared_letters_come_first() -> None:
    texts = ["<sort>qrst=", "<sort>abcdxy=", "<sort>abcdef=", "<sort>abpqrs="]
    assert TextIndex(texts).search("<sort>abcdeg=", 3) == [2, 1, 3]


def test_what_all_texts_begin_with_tells_nothing() -> None:
    examples = "3 + 4 = 7\n21 + 6 = 27\n"
    texts = [f"{examples}{question} =" for question in ("55 + 12", "71 + 30", "55 + 13")]
    assert TextIndex(texts).search(f"{examples}55 + 18 =", 2) == [0, 2]
    assert TextIndex(texts).search("quite another text", 2) == []


def test_a_rare_trigram_counts_more_than_a_common_one() -> None:
    texts = [*(f"aaaa{letter}" for letter in "bcdefgh"), "xyzw-"]
    assert TextIndex(texts).search("aaaaxyz", 1) == [7]


def test_one_text_is_found_and_none_is_no_error() -> None:
    assert TextIndex(["<max>1,2,3="]).search("<max>1,2,4=", 4) == [0]
    assert TextIndex([]).search("anything", 4) == []


@examples(200)
@given(st.lists(TEXTS, max_size=6), TEXTS, st.integers(0, 5))
def test_any_text_can_be_searched_for(texts: list[str], text: str, count: int) -> None:
    index = TextIndex(texts)
    found = index.search(text, count)
    index.close()
    assert len(found) == len(set(found)) <= count
    assert all(0 <= place < len(texts) for place in found)


@given(st.text('ab" *()-:^', min_size=3, max_size=12))
def test_the_query_language_is_quoted(text: str) -> None:
    assert TextIndex(["something else", text]).search(text, 1) == [1]
