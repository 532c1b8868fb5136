"""A chunk in units is handed over: its share is for the units that its worker signed for, whatever else it says."""

from __future__ import annotations

import msgspec
import pytest

from protocol import wire
from protocol.effects import Send
from protocol.handover import HandoverAnswer, HandoverProposal, shown_share
from protocol.job_record import JobRecord
from protocol.operations import Handover, commission, handed_share, signed_op
from protocol.snapshots import Manifest
from protocol.units import PPM, SECOND
from tests.protocol.test_inherited_units import DONE, begun, notice, saved
from tests.protocol.test_steward import MakeTown, finish
from tests.protocol.test_unit_jobs import UNITS
from tests.protocol.town import CHAIN, Town

HONEST = DONE * PPM // UNITS


@pytest.fixture
def leaving(make_town: MakeTown) -> tuple[Town, JobRecord, str, Manifest]:
    """Five seconds into a chunk that is estimated at three; the worker says that nine tenths are done."""
    town, record, worker = begun(make_town)
    since = town.now
    manifest = msgspec.structs.replace(saved(town, record, worker), progress_ppm=900_000)
    told = notice(town.citizens[worker].identity, manifest, town.citizens["validator"].identity)
    town.give("steward", town.citizens[worker].identity.peer, told)
    town.run(lambda: record.chunks[0].snapshot_epoch == 1 and town.now > since + 5 * SECOND, 10)
    return town, record, worker, manifest


def propose(town: Town, worker: str, manifest: Manifest, done_ppm: int) -> str:
    """What the steward says to it; it acts on what it says."""
    identity, steward = town.citizens[worker].identity, town.citizens["steward"].steward
    lease = (manifest.escrow, manifest.chunk, manifest.epoch)
    operation = Handover(*lease, done_ppm, manifest.step, wire.digest(wire.encode(manifest)))
    proposal = HandoverProposal(signed_op(CHAIN, operation, identity))
    effects = steward.receive(identity.peer, proposal, town.now)
    town.command("steward", steward, lambda now: effects)
    answers = [effect.message for effect in effects if isinstance(effect, Send)]
    return next(answer.code for answer in answers if isinstance(answer, HandoverAnswer))


def test_who_says_that_more_is_done_than_it_signed_for_gets_no_signature(
    leaving: tuple[Town, JobRecord, str, Manifest],
) -> None:
    town, record, worker, manifest = leaving
    for asked in (900_000, HONEST + 1):
        assert propose(town, worker, manifest, asked) == "bad_share"
    assert town.ledger.escrows[record.escrow].chunks[0].state == "assigned"


def test_who_says_what_is_done_is_paid_for_it_when_another_has_finished(
    leaving: tuple[Town, JobRecord, str, Manifest],
) -> None:
    town, record, worker, manifest = leaving
    price = town.ledger.escrows[record.escrow].chunks[0].price
    before = town.ledger.available("U", town.citizens[worker].identity.peer)
    assert propose(town, worker, manifest, HONEST) == ""
    town.citizens[worker].is_dead = True
    finish(town, record)
    known = town.ledger.escrows[record.escrow].chunks[0]
    share = handed_share(price, 0, HONEST)
    assert [(item.amount, item.outcome) for item in known.carried] == [(share, "paid")]
    assert town.ledger.available("U", town.citizens[worker].identity.peer) == before + share - commission(share)
    assert [(item.epoch, item.units) for item in known.prefixes] == [(1, DONE)]


@pytest.mark.parametrize(
    ("step", "units", "shown"), [(0, 8, 0), (3, 8, 375_000), (8, 8, PPM), (9, 8, PPM), (2**62, 8, PPM), (3, 0, PPM)]
)
def test_a_snapshot_shows_the_units_in_it(step: int, units: int, shown: int) -> None:
    assert shown_share(step, units) == shown
