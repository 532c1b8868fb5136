"""A host is given back: every way in which a running lease leaves, on the real ledger."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import handover, wire
from protocol.completions import RunDone, Sealed
from protocol.effects import Effect, Emit, LeaseKey, Send
from protocol.handover import HandoverAnswer, HandoverProposal
from protocol.jobspec import Chunk, JobSpec
from protocol.ledger import operation_decoder
from protocol.ledger_client import LedgerClient, Ordered
from protocol.messages import Header
from protocol.operations import SignedOp, Surrender, commission, signed_op
from protocol.proof import Proof
from protocol.provider_lease import Lease, Phase
from protocol.reclaim import NOTICE, PROPOSE_AGAIN, Reclaim
from protocol.units import SECOND, Digest, Micros
from tests.protocol.ledger_world import (
    CHAIN,
    GENESIS,
    PRICE,
    PROVIDERS,
    RENTER,
    STANDBY,
    STEWARD,
    World,
    assign,
    open_escrow,
)
from tests.protocol.test_handover import manifest

P = PROVIDERS[0]
SPEC = JobSpec("sum", "python", ("true",), (Chunk(),), estimate=Micros(60 * SECOND))


class Story:
    """One provider with leases on a real ledger; what the machine asks for is kept."""

    def __init__(self, leases: int = 1) -> None:
        self.world = World()
        self.client = LedgerClient(GENESIS.validator_set)
        self.gave_back: list[tuple[LeaseKey, str]] = []
        self.cuts: list[str] = []
        self.reclaim = Reclaim(P, CHAIN, self.client, lambda: self.world.ledger, self)
        self.leases = [self._lease(number) for number in range(leases)]
        self.now = Micros(self.world.pass_time(self.world.time + 30 * SECOND))

    def _lease(self, number: int, phase: Phase = "running") -> Lease:
        escrow = self.world.ok(open_escrow(sequence=number, job=bytes([number]) * 16), RENTER)
        op = assign(escrow)
        opened = self.world.ok(op, STEWARD, P)
        return Lease(
            Digest(opened), op, bytes([number]) * 16, STEWARD.peer, RENTER.peer, SPEC, (), (), phase,
            Micros(0), standby=STANDBY.peer, secret=bytes(32), is_started=True,
        )  # fmt: skip

    # ── hands ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def give_back(self, key: LeaseKey, why: str, now: Micros) -> list[Effect]:
        self.gave_back.append((key, why))
        return []

    def cut(self, task: str, now: Micros) -> list[Effect]:
        self.cuts.append(task)
        return []

    # ── acts ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def begin(self, notice: Micros = NOTICE) -> list[Effect]:
        return self.reclaim.begin(self.leases, notice, self.now)

    def sealed(self, lease: Lease) -> list[Effect]:
        done = Sealed(lease.task, 3, 7, 400_000, "framework", 1_000, 900, 100, ())
        return self.reclaim.receive(P.peer, done, self.now)

    def durable(self, lease: Lease, is_held: bool = True, progress_ppm: int = 400_000) -> list[Effect]:
        content = manifest(lease.assign.escrow, progress_ppm=progress_ppm)
        return self.reclaim.durable(lease, content, is_held, self.now)

    def failed(self, lease: Lease) -> list[Effect]:
        return self.reclaim.failed(lease, "the hook is disabled", self.now)

    def steward(self, lease: Lease, effects: list[Effect]) -> SignedOp:
        """The steward checks the proposal among these effects and signs it."""
        (proposal,) = proposals(effects)
        content = manifest(lease.assign.escrow)
        known = self.world.lease(lease.assign.escrow)
        operation = handover.opened(CHAIN, P.peer, proposal)
        assert handover.review(operation, known, (wire.encode(content), content), SPEC.estimate, self.now) == ""
        return handover.countersigned(STEWARD, CHAIN, P.peer, proposal)

    def order(self, signed: SignedOp) -> list[Effect]:
        """The ledger applies it, or not; the receipt comes."""
        outcome = self.world.ledger.apply(signed, self.now)
        self.world.ledger.check()
        operation = wire.decode(signed.body, operation_decoder, P.peer)
        zero = bytes(32)
        header = Header(CHAIN, 1, self.now, zero, zero, zero, zero, zero, 1)
        return self.reclaim.ordered(Ordered(operation, signed, outcome, header), self.now)

    def phase(self, number: int = 0) -> str:
        return self.reclaim.leaving[self.leases[number].key].phase

    def later(self, span: int) -> list[Effect]:
        self.now = Micros(self.world.pass_time(self.now + span))
        return self.reclaim.tick(self.now)


def proposals(effects: list[Effect]) -> list[HandoverProposal]:
    return [item.message for item in effects if isinstance(item, Send) and isinstance(item.message, HandoverProposal)]


def test_a_chunk_leaves_without_a_lost_step_and_is_paid_pro_rata() -> None:
    story = Story()
    (lease,) = story.leases
    story.begin()
    assert story.cuts == [lease.task]
    assert proposals(story.sealed(lease)) == []
    proposed = story.durable(lease)
    assert story.phase() == "proposed"
    told = story.order(story.steward(lease, proposed))
    assert story.phase() == "handed"
    assert story.reclaim.is_over
    assert story.gave_back == []
    (emit,) = [item for item in told if isinstance(item, Emit)]
    share = PRICE * 400_000 // 10_000_000 * 10
    assert emit.fields["pay"] == share - commission(share)
    assert (emit.fields["step"], emit.fields["done_ppm"], emit.fields["commission"]) == (7, 400_000, share // 10)
    assert story.world.lease(lease.assign.escrow).carried[0].amount == share
    assert story.later(NOTICE) == []


def test_a_snapshot_after_which_the_task_went_on_is_not_handed_over() -> None:
    """It was under way when the owner came."""
    story = Story()
    (lease,) = story.leases
    story.begin()
    assert proposals(story.durable(lease, is_held=False)) == []
    assert proposals(story.later(PROPOSE_AGAIN)) == []
    assert len(proposals(story.durable(lease))) == 1


def test_what_is_not_durable_in_time_is_given_back() -> None:
    story = Story()
    (lease,) = story.leases
    story.begin()
    story.sealed(lease)
    story.later(NOTICE - 1)
    assert story.phase() == "spreading"
    story.later(1)
    assert story.gave_back == [(lease.key, "owner: the notice ended while spreading")]
    assert (story.phase(), story.reclaim.is_over) == ("given_back", True)


def test_a_cut_that_fails_is_tried_once_more_and_then_given_back() -> None:
    story = Story()
    (lease,) = story.leases
    story.begin()
    story.failed(lease)
    assert (story.cuts, story.phase()) == ([lease.task] * 2, "cutting")
    story.failed(lease)
    assert story.gave_back == [(lease.key, "owner: no snapshot: the hook is disabled")]
    story.failed(lease)
    assert len(story.gave_back) == 1


def test_a_second_try_that_succeeds_counts() -> None:
    story = Story()
    (lease,) = story.leases
    story.begin()
    story.failed(lease)
    story.order(story.steward(lease, story.durable(lease)))
    assert (story.phase(), story.reclaim.leaving[lease.key].reason) == ("handed", "")


def test_a_chunk_without_snapshots_may_finish_within_the_notice() -> None:
    story = Story(leases=2)
    for lease in story.leases:
        lease.secret = b""
    story.begin()
    assert story.cuts == []
    done = RunDone(story.leases[0].task, "ok", 0, Digest(bytes(32)), 1, 0.1, "")
    story.reclaim.receive(P.peer, done, story.now)
    story.later(NOTICE)
    assert [story.phase(0), story.phase(1)] == ["finished", "given_back"]
    assert [key for key, _ in story.gave_back] == [story.leases[1].key]


def test_a_node_that_ends_does_not_wait_for_what_it_cannot_hand_over() -> None:
    story = Story(leases=2)
    story.leases[0].secret = b""
    story.reclaim.begin(story.leases, NOTICE, story.now, may_finish=False)
    assert [story.phase(0), story.phase(1)] == ["given_back", "cutting"]


def test_what_has_not_begun_is_given_back_at_once() -> None:
    story = Story()
    story.leases[0].phase = "waiting"
    story.begin()
    assert story.phase() == "given_back"


def test_a_proposal_is_repeated_until_the_steward_knows_the_snapshot() -> None:
    story = Story()
    (lease,) = story.leases
    story.begin()
    story.sealed(lease)
    first = proposals(story.durable(lease))
    assert proposals(story.later(PROPOSE_AGAIN - 1)) == []
    no = HandoverAnswer(*lease.key, "unknown_snapshot")
    assert story.reclaim.receive(STANDBY.peer, no, story.now) == [], "only the steward answers"
    story.reclaim.receive(STEWARD.peer, no, story.now)
    assert story.reclaim.leaving[lease.key].reason == "unknown_snapshot"
    again = story.later(1)
    assert proposals(again) == first, "the same bytes: the ledger takes it once"
    story.reclaim.receive(STEWARD.peer, HandoverAnswer(*lease.key, "", (STANDBY.peer,)), story.now)
    assert story.reclaim.leaving[lease.key].to == STANDBY.peer
    story.order(story.steward(lease, again))
    assert story.phase() == "handed"


def test_a_handover_that_comes_after_the_notice_still_counts() -> None:
    """Given back and proposed cross on the way to the ledger, which has the last word."""
    story = Story()
    (lease,) = story.leases
    story.begin()
    story.sealed(lease)
    both = story.steward(lease, story.durable(lease))
    story.later(NOTICE)
    assert story.phase() == "given_back"
    story.order(both)
    assert story.phase() == "handed"
    back = signed_op(CHAIN, Surrender(*lease.key, "owner"), P)
    story.order(back)
    assert story.phase() == "handed"
    assert story.world.ledger.standings[P.peer].surrendered == 0


def test_a_shorter_notice_counts_and_a_longer_one_does_not() -> None:
    story = Story()
    story.begin()
    story.begin(Micros(2 * SECOND))
    assert len(story.cuts) == 1
    story.begin(Micros(60 * SECOND))
    story.later(2 * SECOND)
    assert story.phase() == "given_back"


Acts = st.lists(st.sampled_from(["sealed", "durable", "failed", "order", "tick", "done", "again"]), max_size=14)


@settings(max_examples=200)
@given(acts=Acts)
def test_whatever_happens_every_lease_is_out_when_the_notice_is_over(acts: list[str]) -> None:
    """Any order of events: handed over, given back or finished; and what is called handed is what the ledger says."""
    story = Story()
    (lease,) = story.leases
    effects = story.begin()
    asked: list[HandoverProposal] = []
    for act in acts:
        match act:
            case "sealed":
                effects = story.sealed(lease)
            case "durable":
                effects = story.durable(lease)
            case "failed":
                effects = story.failed(lease)
            case "order" if asked:
                both = handover.countersigned(STEWARD, CHAIN, P.peer, asked[-1])
                effects = story.order(both)
            case "tick":
                effects = story.later(SECOND)
            case "done":
                gone = RunDone(lease.task, "exit", 1, Digest(bytes(32)), 0, 0.1, "")
                effects = story.reclaim.receive(P.peer, gone, story.now)
            case "again" if not story.reclaim.is_over:  # Else the provider has dropped the lease.
                effects = story.begin()
            case _:
                effects = []
        asked += proposals(effects)
        assert (story.phase() == "handed") == (story.world.lease(lease.assign.escrow).outcome == "handed")
    story.later(NOTICE)
    assert story.reclaim.is_over
    assert story.later(SECOND) == []


@pytest.mark.parametrize("progress", [0, 400_000])
def test_hours_are_paid_where_the_loops_do_not_tell(progress: int) -> None:
    story = Story()
    (lease,) = story.leases
    story.begin()
    story.sealed(lease)
    story.durable(lease, progress_ppm=progress)
    assert story.reclaim.leaving[lease.key].done_ppm == (progress or 500_000), "30 of the 60 s that it should take"


def test_of_a_chunk_in_units_as_much_is_claimed_as_was_signed_for() -> None:
    """More than the seven units in the snapshot the steward would not sign."""
    story = Story()
    (lease,) = story.leases
    lease.spec = msgspec.structs.replace(SPEC, proof=Proof("training", 20))
    story.begin()
    story.sealed(lease)
    story.durable(lease)
    assert story.reclaim.leaving[lease.key].done_ppm == 350_000
