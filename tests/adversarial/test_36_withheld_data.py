"""Attack 36: keep the data back that an audit needs."""

from __future__ import annotations

import pytest

from protocol.completions import Fetched
from protocol.jobspec import ZERO_DIGEST
from protocol.messages import Message, Reveal, RevealRequest, UnitsRequest
from protocol.penalties import WITHHELD_PPM, WITHHELD_PPM_MAX, withheld_ppm
from protocol.units import PPM
from tests.protocol.test_steward import finish, start
from tests.protocol.test_unit_jobs import first_end, only, unit_spec
from tests.protocol.town import Town, open_town
from tests.verifier.court import ME
from tests.verifier.unit_court import UnitCourt, unit_job
from verifier.deadlines import UNREACHABLE_MAX


@pytest.mark.parametrize(
    ("deaf", "end"),
    [((UnitsRequest,), ("withheld", "withheld")), ((RevealRequest,), ("missing", "not_revealed"))],
)
def test_who_does_not_answer_is_not_paid_and_the_chunk_is_done_by_another(
    deaf: tuple[type[Message], ...], end: tuple[str, str]
) -> None:
    town = open_town(providers=2, auditors=1)
    town.citizens["p0"].deaf = deaf
    town.cut.add("p1")
    record = start(town, unit_spec())
    town.run(lambda: bool(town.citizens["p0"].provider.leases))
    town.cut.clear()
    assert first_end(town, record) == end
    finish(town, record, 900)
    assert record.state == "settled"
    assert record.chunks[0].epoch > 1
    assert record.chunks[0].provider == town.citizens["p1"].identity.peer


def test_states_that_no_auditor_can_get_are_withheld() -> None:
    court = UnitCourt().begin().unfold()
    for number in range(UNREACHABLE_MAX):
        auditor = court.requests()[0][0]
        court.commit(ZERO_DIGEST, auditor)
        if not number:
            court.show()
        court.open(ZERO_DIGEST, auditor, "inputs: nobody has the state")
    assert court.found() == ("withheld", "withheld", False)


def test_one_auditors_word_for_it_is_not_enough() -> None:
    court = UnitCourt().begin().unfold()
    auditor = court.requests()[0][0]
    court.commit(ZERO_DIGEST, auditor)
    court.show()
    court.open(ZERO_DIGEST, auditor, "inputs: nobody has the state")
    court.uncover(court.replay())
    assert court.found() == ("accept", "units_equal", True)


def test_leaves_behind_the_units_that_are_kept_back_with_the_opening() -> None:
    def short(message: Message) -> Message:
        return _without(message) if isinstance(message, Reveal) else message

    town = open_town(providers=1, auditors=1)
    only(town, bends=short)
    assert first_end(town, start(town, unit_spec())) == ("withheld", "withheld")


def test_an_output_that_nobody_can_fetch_is_missing() -> None:
    court = UnitCourt(unit_job(audit_ppm=0), valid=10**9).begin()
    court.made.blobs.clear()
    assert court.sent(RevealRequest)
    court.wait(30_000_000)
    assert court.found()[:2] == ("missing", "not_revealed")


def test_it_costs_one_to_five_percent_of_the_stake_and_doubles() -> None:
    assert (WITHHELD_PPM, WITHHELD_PPM_MAX) == (PPM // 100, PPM // 20)
    assert [withheld_ppm(times) for times in (1, 2, 9)] == [10_000, 20_000, 50_000]


def test_the_honest_twin_opens_and_is_paid() -> None:
    town: Town = open_town(providers=1, auditors=1)
    record = start(town, unit_spec())
    finish(town, record)
    assert record.state == "settled" and record.chunks[0].epoch == 1
    court = UnitCourt().begin().unfold()
    auditor = court.replay()
    court.show()
    court.hear(ME, Fetched(court.made.output, 1))
    court.uncover(auditor)
    assert court.found() == ("accept", "units_equal", True)


def _without(message: Reveal) -> Reveal:
    """The opening of the claim with its first leaf alone."""
    return Reveal(
        message.escrow, message.chunk, message.epoch, message.output, message.output_bytes, message.salt,
        message.openings[:1],
    )  # fmt: skip
