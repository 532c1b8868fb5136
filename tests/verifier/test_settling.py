"""What executions of a claim add up to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.units import Digest, PeerId
from verifier.settling import DISTINCT_MAX, Finding, Grade, Settlement, joined, lacking, settle


def found(word: str) -> list[Finding]:
    """`s` agrees, `n` is unsure, capitals contradict and say what they are; one auditor each, in order."""
    grades: dict[str, Grade] = {"s": "same", "n": "near"}
    return [
        Finding(PeerId(bytes([number]) * 32), Digest(bytes(32)), grades.get(letter, "other"), letter.encode())
        for number, letter in enumerate(word)
    ]


def short(word: str, wanted: int, is_exact: bool) -> str:
    settled = settle(found(word), wanted, is_exact)
    return "" if settled is None else f"{settled.end} {settled.by.auditor[0]} {[peer[0] for peer in settled.faulted]}"


@pytest.mark.parametrize(
    ("word", "wanted", "said"),
    [
        ("", 1, ""),
        ("s", 1, "stands 0 []"),
        ("X", 1, ""),
        ("XX", 1, "refuted 1 []"),
        ("Xs", 1, ""),
        ("Xss", 1, "stands 2 [0]"),
        ("XsX", 1, "refuted 2 [1]"),
        ("XY", 1, ""),
        ("XYX", 1, "refuted 2 [1]"),
        ("XYZ", 1, "irreproducible 2 []"),
        ("s", 2, ""),
        ("ss", 2, "stands 1 []"),
        ("sX", 2, ""),
        ("sXX", 2, "refuted 2 [0]"),
        ("sXs", 2, ""),
        ("sXss", 2, "stands 3 [1]"),
        ("sXY", 2, ""),
        ("sXYX", 2, "refuted 3 [0, 2]"),
        ("sXYZ", 2, "irreproducible 3 []"),
        ("XsYsss", 2, "stands 5 [0, 2]"),
    ],
)
def test_bitwise(word: str, wanted: int, said: str) -> None:
    assert short(word, wanted, is_exact=True) == said


@pytest.mark.parametrize(
    ("word", "wanted", "said"),
    [
        ("s", 1, "stands 0 []"),
        ("n", 1, ""),
        ("ns", 1, "stands 1 []"),
        ("nn", 1, "stands 1 []"),
        ("X", 1, ""),
        ("Xs", 1, ""),
        ("Xss", 1, "stands 2 []"),
        ("XY", 1, "refuted 1 []"),
        ("nX", 1, ""),
        ("nXs", 1, "stands 2 []"),
        ("nXY", 1, "refuted 2 []"),
        ("sn", 2, "stands 1 []"),
        ("sX", 2, ""),
        ("sXY", 2, "refuted 2 []"),
    ],
)
def test_within_a_tolerance(word: str, wanted: int, said: str) -> None:
    assert short(word, wanted, is_exact=False) == said


def test_nobody_refutes_itself() -> None:
    """Where one peer alone can audit, it is asked twice; a flipped bit costs it nothing."""
    first, second, _ = found("Xss")
    again = Finding(first.auditor, second.output, "same", b"s")
    settled = settle([first, again, again], 1, is_exact=True)
    assert settled is not None
    assert settled.faulted == ()


@given(word=st.text("snXYZ", max_size=12), wanted=st.integers(1, 5), is_exact=st.booleans())
def test_it_ends_and_one_word_condemns_nobody(word: str, wanted: int, is_exact: bool) -> None:
    findings = found(word if not is_exact else word.replace("n", "s"))
    end = next((turn for turn in range(len(findings) + 1) if settle(findings[:turn], wanted, is_exact)), None)
    if len(findings) >= wanted + 2 * DISTINCT_MAX - 1:
        assert end is not None
    if end is None:
        assert lacking(findings, wanted) >= 1
        return
    settled = settle(findings[:end], wanted, is_exact)
    assert settled is not None
    others = [finding for finding in findings[:end] if finding.grade == "other"]
    if settled.end == "refuted":
        assert len(others) >= 2
    if settled.end == "stands":
        assert sum(finding.grade != "other" for finding in findings[:end]) >= wanted


def names(word: str, wanted: int, is_exact: bool) -> list[int]:
    """Who decided it with the one that is named."""
    settled = settle(found(word), wanted, is_exact)
    assert settled is not None
    return [peer[0] for peer in settled.agreed]


def test_everybody_on_the_winning_side_is_named() -> None:
    assert names("sss", 3, True) == [0, 1]
    assert names("Xss", 1, True) == [1]
    assert names("XsX", 1, True) == [0]
    assert names("nn", 1, False) == [0]
    assert names("sXY", 1, False) == [1]


def test_bad_units_are_those_in_which_all_who_say_any_agree() -> None:
    def units(*said: tuple[int, ...]) -> tuple[int, ...]:
        others = [
            Finding(PeerId(bytes([number]) * 32), Digest(bytes(32)), "other", b"", units=units)
            for number, units in enumerate(said)
        ]
        settled = settle(others, 1, is_exact=False)
        assert settled is not None
        return settled.units

    assert units((3, 1), (1, 2)) == (1,)
    assert units((), (2, 5)) == (2, 5) == units((2, 5), ())
    assert units((1,), (4,)) == (4,), "nothing in common: what the one says that is named"
    assert units((), ()) == ()


def test_hearings_that_uphold_a_claim_are_told_as_one() -> None:
    one, two, three = (PeerId(bytes([number]) * 32) for number in range(3))
    first = Settlement("stands", Finding(two, Digest(b"2" * 32), "same"), (three,))
    second = Settlement("stands", Finding(three, Digest(b"3" * 32), "same"), agreed=(one, two))
    assert joined([first, second]) == Settlement("stands", first.by, (three,), (one,))
