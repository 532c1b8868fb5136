"""Attack 41: back-dated or future timestamps.

Times are those of who receives: the ledger's clock, the issuer's receipts; a beacon inside a message dates it. What
does not fit is `bad_time` or `bad_times`. Honest twin: a clock that is a little off.
"""

from __future__ import annotations

import pytest

from protocol.errors import Refused
from protocol.ledger import Ledger
from protocol.operations import signed_op
from protocol.units import SECOND, Micros
from tests.protocol.ledger_world import (
    CHAIN,
    CLAIM_BY,
    GENESIS,
    PROVIDERS,
    RENTER,
    START,
    STEWARD,
    assign,
    claim,
    open_escrow,
)
from verifier.plausibility import Counts, Receipts, check_time, judge

NOW = Micros(START + 30 * SECOND)


@pytest.mark.parametrize(
    ("stamped", "beacon"),
    [
        (NOW + 60 * SECOND, None),
        (NOW - 3600 * SECOND, None),
        (NOW - 20 * SECOND, NOW - 10 * SECOND),
        (0, None),
        (2**62, None),
    ],
)
def test_a_time_that_cannot_be(stamped: int, beacon: int | None) -> None:
    with pytest.raises(Refused) as caught:
        check_time(stamped, NOW, START, beacon)
    assert caught.value.code == "bad_time"


def test_an_executor_cannot_make_itself_slow_or_quick_by_its_own_clock() -> None:
    """Elapsed time is between two receipts of the issuer: nothing that the executor writes is in it."""
    counts = Counts(gflop=100_000_000)
    assert judge(counts, 1, Receipts(NOW, Micros(NOW + SECOND), 0), 0) == "impossible_speed"
    assert judge(counts, 1, Receipts(NOW, Micros(NOW + 60 * SECOND), 0), 0) == "plausible"


def test_leases_and_claims_out_of_their_time_are_refused() -> None:
    ledger = Ledger(GENESIS)
    opened = signed_op(CHAIN, open_escrow(), RENTER)
    assert ledger.apply(opened, START).status == "applied"
    past = signed_op(CHAIN, assign(opened.op_id, claim_by=START - SECOND), STEWARD, PROVIDERS[0])
    assert ledger.apply(past, START).code == "bad_times"
    fine = signed_op(CHAIN, assign(opened.op_id), STEWARD, PROVIDERS[0])
    assert ledger.apply(fine, START).status == "applied"
    late = signed_op(CHAIN, claim(opened.op_id), PROVIDERS[0])
    assert ledger.apply(late, CLAIM_BY + 1).status == "refused", "the ledger's clock decides, not the claim"


def test_honest_twin_a_clock_that_is_a_little_off() -> None:
    for stamped in (NOW, NOW + 4 * SECOND, NOW - 4 * SECOND):
        check_time(stamped, NOW, START, NOW - SECOND)
