"""What the proposer of an arithmetic skill is shown: questions of one difficulty, and the words before each.

Plain numbers and the commonest names, many of them, keep a small model to the form. Valid questions of
SmolLM2-135M-Instruct out of 32 per skill, at temperature 1: addition 22, larger 22, smaller 22, next_number 24,
word_problem 12, first_letter 6 (words it writes, but not of a given length).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shots:
    """``lead`` stands, with a space, before every question; the questions are given separated by semicolons."""

    lead: str
    text: str

    @property
    def questions(self) -> list[str]:
        return self.text.split("; ")


_ONE_DIGIT = "8 or 3?; 2 or 7?; 5 or 4?; 1 or 9?; 6 or 2?; 3 or 5?; 9 or 8?; 4 or 7?; 7 or 1?; 2 or 6?"
_TWO_DIGITS = (
    "25 or 61?; 93 or 48?; 17 or 70?; 56 or 32?; 84 or 89?; 41 or 26?; 12 or 67?; 95 or 38?; 73 or 54?"
)
_THREE_DIGITS = (
    "625 or 318?; 147 or 502?; 880 or 934?; 263 or 719?; 456 or 401?; 398 or 875?; 531 or 684?; 752 or 290?"
)

ADDITION = {
    1: Shots(
        "Sum:",
        "21 + 6; 14 + 3; 28 + 5; 17 + 9; 10 + 2; 25 + 8; 19 + 4; 23 + 7; 12 + 1; 26 + 9; 15 + 5; 29 + 2; 18 + 6",
    ),
    2: Shots(
        "Sum:",
        "34 + 15; 12 + 27; 21 + 38; 26 + 10; 19 + 44; 30 + 23; 15 + 31; 28 + 16; 13 + 42; 37 + 11; 24 + 25; 18 + 33",
    ),
    3: Shots(
        "Sum:",
        "64 + 15; 87 + 42; 50 + 31; 93 + 26; 78 + 11; 59 + 37; 82 + 49; 71 + 20; 66 + 34; 95 + 18; 57 + 23; 84 + 12",
    ),
}

LARGER = {
    1: Shots("Which is larger,", _ONE_DIGIT),
    2: Shots("Which is larger,", _TWO_DIGITS),
    3: Shots("Which is larger,", _THREE_DIGITS),
}

SMALLER = {
    1: Shots("Which is smaller,", _ONE_DIGIT),
    2: Shots("Which is smaller,", _TWO_DIGITS),
    3: Shots("Which is smaller,", _THREE_DIGITS),
}

NEXT_NUMBER = {
    1: Shots("Two-digit number:", "32?; 85?; 19?; 60?; 47?; 93?; 28?; 71?; 54?; 16?; 89?; 40?"),
    2: Shots("Three-digit number:", "149?; 508?; 736?; 299?; 851?; 620?; 417?; 983?; 364?; 572?; 205?; 798?"),
}

FIRST_LETTER = {
    3: Shots(
        "First letter of",
        "bit; tam; dok; lun; sep; rag; fim; vob; hep; nal; cus; wid; pem; zot; jal; mur; kip; gon",
    ),
    4: Shots(
        "First letter of",
        "tilo; bane; dumi; rosa; kefu; lapi; vode; nuta; hibo; samu; pelo; cati; zuri; gome; fani; wole",
    ),
    5: Shots(
        "First letter of",
        "tilom; banek; dumis; rosal; keful; lapin; voder; nutas; hibon; samup; pelok; catir; zuris; gomel",
    ),
    6: Shots(
        "First letter of",
        "tiloma; baneku; dumisa; rosali; kefulo; lapine; vodera; nutasi; hibonu; samupe; peloka; catiro; zurise",
    ),
}

WORD_PROBLEM = {
    1: Shots(
        "Story:",
        "Tom has 5 apples and buys 4 more; Anna has 8 books and finds 2 more; Sam has 3 coins and gets 7 more; "
        "Lucy has 2 pens and buys 9 more; Ben has 6 cards and finds 1 more; Mia has 9 eggs and gets 3 more; "
        "Leo has 4 shells and buys 8 more; Emma has 7 stamps and finds 5 more; Jack has 3 cookies and gets 2 more; "
        "Nora has 5 berries and buys 6 more; Paul has 8 pencils and finds 4 more; Rosa has 2 flowers and gets 3 more",
    ),
    2: Shots(
        "Story:",
        "Tom has 9 apples and loses 5; Anna has 12 books and sells 4; Sam has 6 coins and drops 3; "
        "Lucy has 15 pens and loses 8; Ben has 7 cards and sells 2; Mia has 11 eggs and drops 6; "
        "Leo has 10 shells and loses 1; Emma has 8 stamps and sells 5; Jack has 14 cookies and drops 7; "
        "Nora has 5 berries and loses 2; Paul has 13 pencils and sells 9; Rosa has 9 flowers and loses 4",
    ),
    3: Shots(
        "Story:",
        "Tom has 15 apples and buys 4 more; Anna has 18 books and finds 2 more; Sam has 13 coins and gets 7 more; "
        "Lucy has 12 pens and buys 9 more; Ben has 16 cards and finds 1 more; Mia has 19 eggs and gets 3 more; "
        "Leo has 14 shells and buys 8 more; Emma has 17 stamps and finds 5 more; Jack has 20 cookies and gets 2 more; "
        "Nora has 11 berries and buys 6 more; Paul has 18 pencils and finds 4 more; Rosa has 10 pins and gets 3 more",
    ),
}
