"""What a steward signs of a handover, and what it does not."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import handover, wire
from protocol.errors import RemoteViolation
from protocol.escrow_state import ChunkLease
from protocol.handover import PACE_MAX, TIMED_PPM_MAX, HandoverAnswer, HandoverProposal, done_share
from protocol.operations import HANDED_PPM_MAX, Handover, Operation, SignedOp, signed_op
from protocol.snapshots import Manifest, Pack
from protocol.units import PPM, SECOND, Micros, PeerId
from tests.protocol.ledger_world import CHAIN, OTHER, PROVIDERS, STEWARD, World, surrender
from tests.protocol.ledger_world import assign as assigned
from tests.protocol.ledger_world import claim as claimed

P = PROVIDERS[0]
ESTIMATE = Micros(60 * SECOND)
PACK = Pack(1_000, 500, "rs", 2, 3, (b"1" * 32, b"2" * 32, b"3" * 32))
shares = st.integers(0, PPM)
spans = st.integers(0, 100_000 * SECOND).map(Micros)


def manifest(escrow: bytes, number: int = 3, progress_ppm: int = 400_000, epoch: int = 1, step: int = 7) -> Manifest:
    return Manifest(bytes(16), escrow, 0, epoch, number, step, progress_ppm, "framework", 0, 1_000, 100, (PACK,))


def proposal_of(operation: Operation) -> HandoverProposal:
    return HandoverProposal(signed_op(CHAIN, operation, P))


class Leaving:
    """A lease that has run for 30 of the estimated 60 s, with a durable snapshot."""

    def __init__(self) -> None:
        self.world = World()
        self.escrow = self.world.leased()
        self.now = Micros(self.world.pass_time(self.world.time + 30 * SECOND))
        self.manifest = manifest(self.escrow)
        self.body = wire.encode(self.manifest)

    @property
    def lease(self) -> ChunkLease:
        return self.world.lease(self.escrow)

    def operation(self, **changes: object) -> Handover:
        right = Handover(self.escrow, 0, 1, 400_000, 7, wire.digest(self.body))
        return msgspec.structs.replace(right, **changes)

    def review(self, operation: Handover, estimate: Micros = ESTIMATE) -> str:
        return handover.review(operation, self.lease, (self.body, self.manifest), estimate, self.now)


def test_what_the_snapshot_shows_is_signed_by_both_and_applied() -> None:
    story = Leaving()
    proposal = proposal_of(story.operation())
    operation = handover.opened(CHAIN, P.peer, proposal)
    assert story.review(operation) == ""
    both = handover.countersigned(STEWARD, CHAIN, P.peer, proposal)
    assert story.world.ledger.apply(both, story.now).status == "applied"
    assert story.lease.outcome == "handed"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"done_ppm": 400_001}, "bad_share"),
        ({"epoch": 2}, "future_epoch"),
        ({"snapshot": bytes(32)}, "unknown_snapshot"),
        ({"step": 8}, "other_snapshot"),
        ({"done_ppm": 0}, ""),
    ],
)
def test_the_steward_signs_no_more_than_it_knows(changes: dict[str, object], code: str) -> None:
    story = Leaving()
    assert story.review(story.operation(**changes)) == code


def test_a_chunk_is_not_believed_to_run_ten_times_faster_than_estimated() -> None:
    story = Leaving()
    assert story.review(story.operation(), Micros(750 * SECOND)) == ""
    assert story.review(story.operation(), Micros(751 * SECOND)) == "bad_share"


@pytest.mark.parametrize("progress", [0, 400_000, 900_000])
def test_of_a_chunk_in_units_no_more_is_signed_than_the_worker_signed_for(progress: int) -> None:
    """Seven units, whatever its loops tell, and where they tell nothing the clock."""
    story = Leaving()
    story.manifest = manifest(story.escrow, progress_ppm=progress)
    story.body = wire.encode(story.manifest)
    snapshot = (story.body, story.manifest)
    for units, most in ((100, 70_000), (20, 350_000), (7, min(progress or TIMED_PPM_MAX, HANDED_PPM_MAX))):
        for asked, code in ((most, ""), (most + 1, "bad_share")):
            operation = story.operation(done_ppm=asked)
            assert handover.review(operation, story.lease, snapshot, ESTIMATE, story.now, units) == code


def test_nothing_is_signed_without_a_snapshot_or_after_the_end() -> None:
    story = Leaving()
    assert handover.review(story.operation(), story.lease, None, ESTIMATE, story.now) == "unknown_snapshot"
    story.world.ok(claimed(story.escrow), P)
    assert story.review(story.operation()) == "wrong_state"
    lost = Leaving()
    lost.world.ok(surrender(lost.escrow), P)
    lost.world.ok(assigned(lost.escrow, epoch=2), STEWARD, P)
    assert lost.review(lost.operation()) == "stale_epoch"


def test_only_a_handover_signed_by_its_sender_is_a_proposal() -> None:
    story = Leaving()
    proposal = proposal_of(story.operation())
    for sender, message in (
        (OTHER.peer, proposal),
        (P.peer, proposal_of(surrender(story.escrow))),
        (P.peer, HandoverProposal(SignedOp(proposal.operation.body, ()))),
    ):
        with pytest.raises(RemoteViolation, match="signed by its sender"):
            handover.opened(CHAIN, sender, message)


@given(body=st.binary(max_size=100))
def test_any_bytes_in_a_proposal_are_a_violation(body: bytes) -> None:
    with pytest.raises(RemoteViolation):
        handover.opened(CHAIN, PeerId(P.peer), HandoverProposal(SignedOp(body, ())))


@given(progress=shares, before=st.integers(0, HANDED_PPM_MAX), elapsed=spans, more=spans, shown=shares)
def test_shares_are_bounded_and_time_never_lowers_them(
    progress: int, before: int, elapsed: Micros, more: Micros, shown: int
) -> None:
    share = done_share(progress, before, elapsed, ESTIMATE, shown)
    assert before <= share <= HANDED_PPM_MAX
    assert share <= max(before, shown)
    assert share <= done_share(progress, before, Micros(elapsed + more), ESTIMATE, shown)
    if progress:
        assert share <= max(before, progress)
        assert share <= before + elapsed * PPM // ESTIMATE * PACE_MAX
    else:
        assert share <= max(before, TIMED_PPM_MAX)


@given(code=st.text(max_size=128), to=st.booleans())
def test_answers_come_back_as_they_were_sent(code: str, to: bool) -> None:
    answer = HandoverAnswer(bytes(32), 3, 2, code, (OTHER.peer,) if to else ())
    assert wire.decode(wire.encode(answer), wire.decoder(HandoverAnswer), P.peer) == answer
    proposal = proposal_of(Handover(bytes(32), 3, 2, 5, 6, bytes(32)))
    assert wire.decode(wire.encode(proposal), wire.decoder(HandoverProposal), P.peer) == proposal
