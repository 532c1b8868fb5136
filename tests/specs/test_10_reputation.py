"""specs/10-reputation.md against protocol.reputation."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

import specs
from protocol import reputation, units
from protocol.reputation import Rank, Record
from protocol.units import Credits, Micros, PeerId

SPEC = specs.load("10-reputation")
counts = st.integers(0, 1_000)
spans = st.integers(0, 10**12)


def test_constants_are_those_of_the_code() -> None:
    found = {}
    for module in (units, reputation):
        found.update({name: getattr(module, name) for name in SPEC.constants if hasattr(module, name)})
    assert found == SPEC.constants


@given(accepted=counts, missing=counts, wrong=counts, fraud=counts, streak=counts)
def test_points(accepted: int, missing: int, wrong: int, fraud: int, streak: int) -> None:
    known = Record(accepted, missing, wrong, fraud, streak)
    assert reputation.points(known) == SPEC.functions["points"](accepted, missing, wrong, fraud, streak)


@given(accepted=counts, missing=counts, response=spans, present=spans, observed=spans, stake=spans, recommended=spans)
def test_formula(
    accepted: int, missing: int, response: int, present: int, observed: int, stake: int, recommended: int
) -> None:
    known = Record(
        accepted=accepted,
        missing=missing,
        response=Micros(response),
        present=Micros(present),
        observed=Micros(observed),
        stake=Credits(stake),
    )
    said = SPEC.functions["score"](
        accepted, accepted + missing, response, present, observed, stake, recommended, reputation.points(known)
    )
    assert reputation.score(known, Credits(recommended)) == said


@given(ranks=st.dictionaries(st.integers(0, 255), st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=10))
def test_order(ranks: dict[int, tuple[int, int]]) -> None:
    known = {PeerId(bytes([n]) * 32): Rank(score, Credits(stake), False) for n, (score, stake) in ranks.items()}
    said = SPEC.functions["order"]([(peer, rank.reputation, rank.stake) for peer, rank in known.items()])
    assert reputation.order(known, known, 0, Random(0)) == said


def test_steps_of_the_table_of_faults() -> None:
    steps = {row["counted as"]: row["points"] for row in SPEC.table("faults")}
    assert steps == {
        "missing": f"−{reputation.MINOR_STEP // 10_000}",
        "wrong": f"−{reputation.MAJOR_STEP // 10_000}",
        "fraud": f"−{reputation.SEVERE_STEP // 10_000}",
    }
