"""Attack 31: an auditor always says that the result is right, and computes nothing.

Forced errors, 3 to 5 % of audits, show who agrees with a wrong result. On the network audits are blind, so that one who
computes nothing has to ask the provider: there the beacon gives as many audits one auditor more. Honest twin: who
computes is never caught.
"""

from __future__ import annotations

from random import Random

from protocol.jobspec import ZERO_DIGEST
from protocol.messages import AuditRequest
from protocol.units import PPM, Digest
from tests.verifier.court import ME, SECOND_AUDITOR, STRANGER, Court
from tests.verifier.unit_court import THIRD, UNITS, UnitCourt, unit_job
from verifier.canaries import FORCED_PPM, ForcedError

RIGHT, WRONG = Digest(b"r" * 32), Digest(b"w" * 32)
ERROR = ForcedError(RIGHT, WRONG, b"s" * 32)
AUDITS = 20_000


def audits_until_caught(dice: Random, looks_at: float) -> int:
    """An auditor who computes only so many of its audits, and repeats what it is shown otherwise."""
    for count in range(1, AUDITS):
        seed = dice.randbytes(32)
        said = RIGHT if dice.random() < looks_at else ERROR.shown(seed)
        if ERROR.catches(seed, said):
            return count
    return AUDITS


def test_who_never_looks_is_caught_within_the_inverse_of_the_rate() -> None:
    dice = Random(31)
    runs = [audits_until_caught(dice, 0.0) for _ in range(400)]
    assert sum(runs) / len(runs) <= 1.15 * PPM / FORCED_PPM
    assert max(runs) < AUDITS


def test_who_looks_half_the_time_is_caught_in_twice_that() -> None:
    dice = Random(32)
    runs = [audits_until_caught(dice, 0.5) for _ in range(400)]
    assert 0.85 * 2 * PPM / FORCED_PPM <= sum(runs) / len(runs) <= 1.15 * 2 * PPM / FORCED_PPM


def test_looking_pays_at_fifty_fees_of_stake() -> None:
    """e (S + J) > c: with a stake of 50 fees and no bounty, the rate must be above a fiftieth."""
    assert FORCED_PPM * 50 > PPM


def test_nobody_knows_which_result_is_shown_when_both_are_sealed() -> None:
    assert ERROR.sealed != ForcedError(RIGHT, WRONG, b"t" * 32).sealed
    assert {ERROR.shown(bytes([n])) for n in range(200)} == {RIGHT, WRONG}


def test_the_network_asks_one_more_in_as_many_audits_and_nobody_sees_when() -> None:
    """The friend who repeats the provider's lie is then named: tests/verifier/test_canary_book.py."""
    counts: list[int] = []
    for number in range(1000):
        court = Court(auditors=(ME, SECOND_AUDITOR, STRANGER))
        court.beacon = number.to_bytes(32, "big")
        court.claim()
        court.know_spec()
        asked = [request for _, request in court.sent(AuditRequest)]
        assert all(request == asked[0] for request in asked), "nothing in the question tells"
        counts.append(len(asked))
    assert set(counts) == {1, 2}
    assert 0.02 < counts.count(2) / len(counts) < 0.06


def test_who_only_says_that_it_could_not_is_drawn_last_from_then_on() -> None:
    """The laziest of all: no result, so that nothing can be refuted. Others are asked, and it gets no more fees."""
    court = UnitCourt(unit_job(samples=UNITS), auditors=(SECOND_AUDITOR, THIRD)).begin(1).unfold()
    lazy = court.requests()[0][0]
    court.commit(ZERO_DIGEST, lazy)
    court.show()
    court.open(ZERO_DIGEST, lazy, "sandbox: it did not start")
    court.uncover(court.replay())
    assert court.found() == ("accept", "units_equal", True)
    for number in range(20):
        court.judge.cases.clear()
        court.beacon = number.to_bytes(32, "big")
        court.order()
        assert court.unfold().requests()[0][0] != lazy


def test_honest_twin_is_never_caught() -> None:
    assert audits_until_caught(Random(33), 1.0) == AUDITS
