"""protocol.reasons: every code that the proof can emit has a sentence, somebody whose fault it is, and a way on."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final, get_args

import pytest

from protocol import reasons
from protocol.reasons import REASONS, Fault

ROOT: Final = Path(__file__).parents[2]
CODE: Final = re.compile(r"[a-z]+(?:_[a-z0-9]+)*")
CONSENSUS: Final = {"orderer", "replica", "pool", "block_log", "head_gossip", "verdicts", "wiring", "dealer"}
"""Modules of the verifier that order blocks: their refusals are between validators and reach nobody else."""

DECISIONS: Final = {"decide", "_rule", "_end", "_audit_impossible", "give_up", "failed", "Settled"}
"""Calls that name a verdict's, a ruling's or an auditor's code among their arguments."""

OUTCOMES: Final = {"accept", "wrong", "fraud", "severe", "rejected", "withheld", "missing", "work", "check"}
"""What else those calls name."""

PAPERWORK: Final = {"bad_state", "not_accepted", "bad_game", "bad_beacon", "bad_route"}
"""Codes of our own faults: a node that meets one stops, and no verdict has it."""


def sources() -> list[Path]:
    """Where verdicts, rulings and refusals of proof are made."""
    verifier = [path for path in sorted((ROOT / "verifier").rglob("*.py")) if path.stem not in CONSENSUS]
    ledger = ("disputes", "exposure", "beacons", "absences", "judging", "holding", "escrow_state")
    return [*verifier, *(ROOT / "protocol" / f"{name}.py" for name in ledger)]


def literals(expression: ast.expr) -> Iterator[str]:
    """Texts that the expression can be."""
    match expression:
        case ast.Constant(value=str() as text):
            yield text
        case ast.IfExp():
            yield from literals(expression.body)
            yield from literals(expression.orelse)


def emitted() -> dict[str, set[str]]:
    """Code -> the modules that emit it."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if called == "LocalError":
                continue
            said = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
            said += node.args[1:2] if called == "Comparison" else node.args if called in DECISIONS else []
            for text in (text for expression in said for text in literals(expression)):
                if CODE.fullmatch(text) and text not in OUTCOMES - {"withheld"} | PAPERWORK:
                    found[text].add(path.stem)
    return found


def test_every_code_that_is_emitted_has_a_row() -> None:
    missing = {code: sorted(where) for code, where in emitted().items() if code not in REASONS}
    assert not missing, f"add a row to protocol/reasons.py for {missing}"


def test_the_search_finds_codes_at_all() -> None:
    assert {"bad_path", "withheld", "update_differs", "seal_mismatch", "not_revealed", "window_closed"} <= set(
        emitted()
    )
    assert len(emitted()) > 60


@pytest.mark.parametrize("code", REASONS)
def test_a_row_is_a_sentence_a_fault_and_a_way_on(code: str) -> None:
    row = REASONS[code]
    assert row.code == code and CODE.fullmatch(code) and len(code) <= 128  # `Verdict.code` takes 128 letters.
    assert row.sentence[0].isupper() and not row.sentence.endswith(".")
    assert row.fix[0].isupper() and row.fix.endswith(".")
    assert row.fault in get_args(Fault) and row.fault in reasons.WHO
    assert row.sentence.lower() != row.fix.lower().rstrip(".")


def test_no_code_twice() -> None:
    codes = [row[0] for row in reasons._ROWS]
    assert len(codes) == len(set(codes))


def test_an_accepted_result_is_nobody_s_fault() -> None:
    assert reasons.explained("check_failed", "accept").fault == "nobody"
    assert reasons.explained("check_failed", "rejected").fault == "provider"
    assert reasons.explained("not_reproducible", "accept").fault == "job"


def test_codes_of_the_future_are_told_as_such() -> None:
    assert reasons.reason("quantum_differs").code == "quantum_differs"
    assert "does not know" in reasons.reason("quantum_differs").sentence
