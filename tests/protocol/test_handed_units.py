"""A chunk in units is handed over: its share is for units that its worker signed for, and that somebody can go on
from: the steward has opened the snapshot before it signs."""

from __future__ import annotations

import msgspec
import pytest

from protocol import examination, wire
from protocol.effects import Effect
from protocol.handover import HandoverAnswer, HandoverProposal, shown_share
from protocol.job_record import JobRecord
from protocol.messages import Grant, Message
from protocol.operations import Handover, Surrender, commission, handed_share, signed_op
from protocol.snapshots import Manifest, is_receipt
from protocol.succession import job_secret
from protocol.units import PPM, SECOND
from tests.protocol.test_inherited_units import DONE, PACK, begun, notice, saved
from tests.protocol.test_steward import MakeTown, finish
from tests.protocol.test_unit_jobs import UNITS
from tests.protocol.town import CHAIN, Citizen, Town, seen

HONEST = DONE * PPM // UNITS


class Leaving:
    """Five seconds into a chunk that is estimated at three; the worker says that nine tenths are done, and leaves."""

    def __init__(self, town: Town, record: JobRecord, worker: str) -> None:
        self.town, self.record, self.name = town, record, worker
        since = town.now
        self.manifest = msgspec.structs.replace(saved(town, record, worker), progress_ppm=900_000)
        self.told(self.manifest)
        town.run(lambda: record.chunks[0].snapshot_epoch == 1 and town.now > since + 5 * SECOND, 10)
        self.said: list[HandoverAnswer] = []
        """What the worker has heard."""
        self.granted: list[Grant] = []
        self.steward.bends = self._hear

    def _hear(self, message: Message) -> Message:
        if isinstance(message, HandoverAnswer):
            self.said.append(message)
        if isinstance(message, Grant):
            self.granted.append(message)
        return message

    def told(self, manifest: Manifest) -> None:
        """A snapshot, as its notice tells of it."""
        town, worker = self.town, self.worker.identity
        town.give("steward", worker.peer, notice(worker, manifest, town.citizens["validator"].identity))

    @property
    def worker(self) -> Citizen:
        return self.town.citizens[self.name]

    @property
    def steward(self) -> Citizen:
        return self.town.citizens["steward"]

    @property
    def is_handed(self) -> bool:
        """Whether the ledger knows of a share that waits."""
        return bool(self.town.ledger.escrows[self.record.escrow].chunks[0].carried)

    def propose(self, done_ppm: int = HONEST, manifest: Manifest | None = None) -> list[str]:
        """What the steward says in the second after a proposal."""
        of, before, until = manifest or self.manifest, len(self.said), self.town.now + SECOND
        lease = (of.escrow, of.chunk, of.epoch)
        operation = Handover(*lease, done_ppm, of.step, wire.digest(wire.encode(of)))
        proposal = HandoverProposal(signed_op(CHAIN, operation, self.worker.identity))
        self.act(self.steward.steward.receive(self.worker.identity.peer, proposal, self.town.now))
        self.town.run(lambda: self.town.now > until, 5)
        return [answer.code for answer in self.said[before:]]

    def act(self, effects: list[Effect]) -> None:
        """Let the steward do what its machine asks for."""
        self.town.command("steward", self.steward.steward, lambda now: effects)


@pytest.fixture
def leaving(make_town: MakeTown) -> Leaving:
    return Leaving(*begun(make_town))


def test_who_says_that_more_is_done_than_it_signed_for_gets_no_signature(leaving: Leaving) -> None:
    for asked in (900_000, HONEST + 1):
        assert leaving.propose(asked) == ["bad_share"]
    assert not leaving.is_handed and not leaving.steward.looks


def test_who_says_what_is_done_is_paid_for_it_when_another_has_finished(leaving: Leaving) -> None:
    town, record = leaving.town, leaving.record
    price = town.ledger.escrows[record.escrow].chunks[0].price
    before = town.ledger.available("U", leaving.worker.identity.peer)
    assert leaving.propose() == ["examining", ""]
    (look,) = leaving.steward.looks
    assert (look.resume.manifest, look.spec, look.lease[1:]) == (leaving.manifest, record.spec, (0, 1))
    assert look.secret == job_secret(leaving.steward.identity, record.job)
    leaving.worker.is_dead = True
    finish(town, record)
    known = town.ledger.escrows[record.escrow].chunks[0]
    share = handed_share(price, 0, HONEST)
    assert [(item.amount, item.outcome) for item in known.carried] == [(share, "paid")]
    assert town.ledger.available("U", leaving.worker.identity.peer) == before + share - commission(share)
    assert [(item.epoch, item.units) for item in known.prefixes] == [(1, DONE)]


def test_what_opens_for_nobody_is_not_signed_for_and_its_worker_gets_nothing(leaving: Leaving) -> None:
    leaving.steward.sees = "snapshot_bad"
    town, record = leaving.town, leaving.record
    before = town.ledger.available("U", leaving.worker.identity.peer)
    assert leaving.propose() == ["examining", "snapshot_bad"]
    assert leaving.propose() == ["snapshot_bad"]
    assert not leaving.is_handed and len(leaving.steward.looks) == 1
    town.order(Surrender(record.escrow, 0, 1, "the notice is over"), leaving.name)
    leaving.worker.is_dead = True
    finish(town, record)
    assert town.ledger.escrows[record.escrow].chunks[0].carried == []
    assert town.ledger.available("U", leaving.worker.identity.peer) == before


def test_what_was_opened_is_kept_for_whoever_goes_on_and_no_longer(leaving: Leaving) -> None:
    """Its holders may be one with its worker, and silent from the signature on."""
    town, record = leaving.town, leaving.record
    leaving.propose()
    assert record.chunks[0].opened == [PACK.shards[0]]
    stored = wire.decode(
        leaving.steward.records[f"job/{record.job.hex()}"],
        wire.decoder(JobRecord),
        leaving.steward.identity.peer,
        1 << 30,
    )
    assert stored.chunks[0].opened == [PACK.shards[0]]
    leaving.worker.is_dead = True
    town.run(lambda: any(grant.resume for grant in leaving.granted), 60)
    (told,) = leaving.granted[-1].resume
    signers = {kept.signature.signer for _, kept in told.holders[0].receipts}
    assert signers == {leaving.steward.identity.peer, town.citizens["validator"].identity.peer}
    assert all(is_receipt(CHAIN, kept, PACK) for _, kept in told.holders[0].receipts)
    assert not leaving.steward.let_go
    finish(town, record)
    town.run(lambda: bool(leaving.steward.let_go), 5)
    assert leaving.steward.let_go == [PACK.shards[0]] and record.chunks[0].opened == []


def test_a_restarted_steward_looks_again(leaving: Leaving) -> None:
    town, record = leaving.town, leaving.record
    leaving.steward.sees = None
    assert leaving.propose() == ["examining"]
    body = leaving.steward.records[f"job/{record.job.hex()}"]
    stored = wire.decode(body, wire.decoder(JobRecord), leaving.steward.identity.peer, 1 << 30)
    fresh = town.replace_steward()
    fresh.bends = leaving._hear
    town.command("steward", fresh.steward, lambda now: fresh.steward.restore([stored], now))
    town.run(lambda: town.ledger.height == fresh.replica.ledger.height, 30)
    assert leaving.propose()[-1:] == [""]
    assert len(fresh.looks) == 1
    town.run(lambda: leaving.is_handed, 10)


def test_while_it_looks_it_says_so_and_looks_once(leaving: Leaving) -> None:
    leaving.steward.sees = None
    for _ in range(5):
        assert leaving.propose() == ["examining"]
    (look,) = leaving.steward.looks
    leaving.town.give("steward", leaving.steward.identity.peer, seen(look, ""))
    leaving.town.run(lambda: leaving.is_handed, 5)
    assert [answer.code for answer in leaving.said][-1] == ""


def test_shards_that_are_not_to_be_had_are_asked_for_so_often_and_no_oftener(leaving: Leaving) -> None:
    leaving.steward.sees = "snapshot_missing"
    heard = [leaving.propose() for _ in range(6)]
    assert len(leaving.steward.looks) == examination.EXAMINED_MAX
    assert heard[-1] == ["snapshot_missing"] and not leaving.is_handed


def test_one_that_could_be_had_the_second_time_is_signed_for(leaving: Leaving) -> None:
    leaving.steward.sees = "snapshot_missing"
    assert leaving.propose() == ["examining", "snapshot_missing"]
    leaving.steward.sees = ""
    assert leaving.propose() == ["examining", ""]
    leaving.town.run(lambda: leaving.is_handed, 10)
    first, second = (look.resume.holders for look in leaving.steward.looks)
    validator, worker = leaving.town.citizens["validator"].identity.peer, leaving.worker.identity.peer
    assert (first, second) == ((((0, validator),),), (((0, validator), (0, worker)),))


def test_nobody_looks_on_for_a_lease_that_is_over(leaving: Leaving) -> None:
    town, record = leaving.town, leaving.record
    leaving.steward.sees = None
    leaving.propose()
    (look,) = leaving.steward.looks
    town.order(Surrender(record.escrow, 0, 1, "the notice is over"), leaving.name)
    town.run(lambda: look.task in leaving.steward.stopped, 10)
    heard = len(leaving.said)
    town.give("steward", leaving.steward.identity.peer, seen(look, ""))
    town.run(lambda: bool(leaving.steward.let_go), 5)
    assert leaving.steward.let_go == [PACK.shards[0]] and len(leaving.said) == heard
    assert not record.chunks[0].opened


def test_a_newer_snapshot_is_looked_at_in_the_place_of_the_older(leaving: Leaving) -> None:
    leaving.steward.sees = None
    leaving.propose()
    newer = msgspec.structs.replace(leaving.manifest, number=2)
    leaving.told(newer)
    leaving.town.run(lambda: leaving.record.chunks[0].snapshot_number == 2, 5)
    leaving.steward.sees = ""
    assert leaving.propose(manifest=newer) == ["examining", ""]
    first, _ = leaving.steward.looks
    assert first.task in leaving.steward.stopped


@pytest.mark.parametrize(
    ("step", "units", "shown"), [(0, 8, 0), (3, 8, 375_000), (8, 8, PPM), (9, 8, PPM), (2**62, 8, PPM), (3, 0, PPM)]
)
def test_a_snapshot_shows_the_units_in_it(step: int, units: int, shown: int) -> None:
    assert shown_share(step, units) == shown
