"""What executions of a claim add up to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.units import Digest, PeerId
from verifier.settling import DISTINCT_MAX, Finding, Grade, lacking, settle


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
