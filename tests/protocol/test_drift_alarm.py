"""A provider that pushes at every unit by nine tenths of what is tolerated: an alarm, and no penalty."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import structs

from simulations.units import Conduct
from tests.protocol.test_steward import finish, start
from tests.protocol.test_unit_jobs import TOLERANCE, UNITS, only, unit_spec
from tests.protocol.town import Town

MakeTown = Callable[..., Town]

MOST = TOLERANCE.t_ok * 9 // 10
CHUNKS = 10


def drifting(town: Town) -> list[dict[str, str | int]]:
    """What its validator said of a provider that does a job of many chunks; all of them stand and are paid."""
    record = start(town, unit_spec("D3", chunks=CHUNKS, samples=UNITS))
    finish(town, record, 600)
    leases = town.ledger.escrows[record.escrow].chunks.values()
    assert record.state == "settled" and {lease.code for lease in leases} == {"within_tolerance"}
    return [emit.fields for emit in town.citizens["validator"].events if emit.name == "drift"]


def biased(town: Town, err: Callable[[int], int]) -> None:
    """Auditors compute exactly."""
    only(town, units=Conduct(err=err))


def test_a_push_at_every_unit_is_an_alarm_and_never_money(make_town: MakeTown) -> None:
    town = make_town(providers=1, auditors=2)
    biased(town, lambda index: MOST)
    (said,) = drifting(town)
    assert int(said["units"]) > 25 and "z " in str(said["detail"])
    standing = town.ledger.standings[town.citizens["p0"].identity.peer]
    assert (standing.wrong, standing.rejected, standing.probation) == (0, 0, 0)


def test_after_the_alarm_every_claim_of_that_profile_is_audited(make_town: MakeTown) -> None:
    """Ten results in a row would bring the share of audits down to a tenth; who drifts stays at all of them."""

    def audited(err: Callable[[int], int]) -> int:
        town = make_town(providers=1, auditors=2)
        biased(town, err)
        drifting(town)
        rarely = structs.replace(unit_spec("D3", chunks=CHUNKS, samples=UNITS), audit_ppm=1)
        record = start(town, rarely, "b")
        finish(town, record, 600)
        return sum(lease.is_audited for lease in town.ledger.escrows[record.escrow].chunks.values())

    assert audited(lambda index: MOST) == CHUNKS
    assert audited(lambda index: MOST if index * 2654435761 % 7 < 3 else -MOST) < CHUNKS


def test_honest_twin_errs_to_both_sides(make_town: MakeTown) -> None:
    town = make_town(providers=1, auditors=2)
    biased(town, lambda index: MOST if index * 2654435761 % 7 < 3 else -MOST)
    assert drifting(town) == []
