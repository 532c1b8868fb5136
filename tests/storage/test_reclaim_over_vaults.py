"""A host is given back while its peers keep its snapshots: the real protector, holders, ledger and steward's rules."""

from __future__ import annotations

from typing import Literal

import pytest

from protocol import handover, wire
from protocol.completions import Completion
from protocol.effects import Effect, Emit, LeaseKey, Send
from protocol.genesis import Genesis
from protocol.handover import HandoverAnswer, HandoverProposal
from protocol.identity import Identity
from protocol.ledger import Ledger, operation_decoder
from protocol.ledger_client import LedgerClient, Ordered
from protocol.messages import Header, Message
from protocol.operations import Assign, EscrowOpen, SignedOp, signed_op
from protocol.peer import Peer
from protocol.provider_lease import Lease
from protocol.reclaim import Reclaim
from protocol.units import CREDIT, HOUR, SECOND, Digest, Micros, PeerId
from tests.protocol.town import job_spec
from tests.storage.vault_town import NETWORK, START, Town

VALIDATOR, RENTER = Identity(b"v" * 32), Identity(b"r" * 32)
PRICE = CREDIT
BLOCK = Micros(SECOND // 5)
"""Until an operation is ordered and its receipt is there."""


class Office:
    """The steward's side: signs what `protocol.handover` lets it sign, and orders it."""

    accepts: tuple[type, ...] = (HandoverProposal,)

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.codes: list[str] = []

    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        assert isinstance(message, HandoverProposal)
        scene = self._scene
        operation = handover.opened(NETWORK, sender, message)
        newest = scene.town.newest(scene.steward, scene.worker)
        snapshot = (wire.encode(newest), newest) if newest is not None else None
        known = scene.ledger.escrows[operation.escrow].chunks[operation.chunk]
        code = handover.review(operation, known, snapshot, scene.lease.spec.estimate, now)
        self.codes.append(code)
        if not code:
            both = handover.countersigned(scene.steward.identity, NETWORK, sender, message)
            scene.town.at(BLOCK, lambda: scene.order(both))
        return [Send(sender, HandoverAnswer(operation.escrow, operation.chunk, operation.epoch, code))]

    def tick(self, now: Micros) -> list[Effect]:
        return []


class Scene:
    """A worker with a protected lease on a real ledger, a standby, a steward, and others that keep its shards."""

    def __init__(self, peers: int = 20, state_bytes: int = 4_000) -> None:
        self.town = Town(peers, state_bytes=state_bytes)
        self.worker, self.standby, self.steward = self.town.all[:3]
        balances: tuple[tuple[Literal["U", "S"], bytes, int], ...] = (
            ("U", RENTER.peer, 10 * CREDIT),
            ("S", self.worker.id, 10 * CREDIT),
        )
        self.ledger = Ledger(Genesis(NETWORK, START, ((VALIDATOR.peer, 1),), balances))
        self.gave_back: list[LeaseKey] = []
        client = LedgerClient(self.ledger.validators)
        self.reclaim = Reclaim(self.worker.identity, NETWORK, client, lambda: self.ledger, self)
        self.office = Office(self)
        self.worker.peer = Peer([*self.worker.vault.listed, self.reclaim])
        self.steward.peer = Peer([*self.steward.vault.listed, self.office])
        self.worker.vault.protector.listeners.append(self.reclaim)
        self.lease = self._lease()

    def _lease(self) -> Lease:
        worker, steward = self.worker, self.steward
        opening = EscrowOpen(RENTER.peer, 0, 0, bytes(16), PRICE, bytes(32), steward.id, START + 10 * HOUR)
        escrow = self.apply(signed_op(NETWORK, opening, RENTER))
        times = (START + HOUR, START + 2 * HOUR)
        assign = Assign(escrow, 0, 1, worker.id, PRICE, PRICE, *times, (steward.id,))
        op = self.apply(signed_op(NETWORK, assign, worker.identity, steward.identity))
        lease = Lease(
            Digest(op), assign, bytes(16), steward.id, RENTER.peer, job_spec(), (), (), "running", START,
            standby=self.standby.id, secret=bytes(32), is_started=True,
        )  # fmt: skip
        self.town.command(worker, lambda now: worker.vault.protector.began(lease, now))
        return lease

    def apply(self, signed: SignedOp) -> bytes:
        outcome = self.ledger.apply(signed, self.town.now)
        assert outcome.status == "applied", outcome
        self.ledger.check()
        return outcome.op

    def order(self, signed: SignedOp) -> None:
        """The ledger decides, and the worker hears of it."""
        outcome = self.ledger.apply(signed, self.town.now)
        zero = bytes(32)
        header = Header(NETWORK, 1, self.town.now, zero, zero, zero, zero, zero, 1)
        operation = wire.decode(signed.body, operation_decoder, self.worker.id)
        event = Ordered(operation, signed, outcome, header)
        self.town.command(self.worker, lambda now: self.reclaim.ordered(event, now), 3)
        if outcome.status == "applied":
            self.town.command(self.worker, lambda now: self.worker.vault.protector.ended(self.lease, now))

    # ── hands ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def give_back(self, key: LeaseKey, why: str, now: Micros) -> list[Effect]:
        self.gave_back.append(key)
        return self.worker.vault.protector.ended(self.lease, now)

    def cut(self, task: str, now: Micros) -> list[Effect]:
        return self.worker.vault.protector.cut_now(task, True, now)

    # ── acts ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def leave(self, notice: int = 10 * SECOND) -> str:
        """Give the host back; the phase in which its lease ended."""
        self.town.command(self.worker, lambda now: self.reclaim.begin([self.lease], Micros(notice), now), 3)
        self.town.run(notice + 2 * SECOND, lambda: self.reclaim.is_over)
        return self.reclaim.leaving[self.lease.key].phase

    def emitted(self) -> Emit:
        return self.worker.emitted("handover")[-1]


@pytest.mark.parametrize("after", [0, 3 * SECOND, 35 * SECOND, 70_200_000, 70_300_000])
def test_a_host_leaves_with_nothing_lost_whatever_was_under_way(after: int) -> None:
    """Before the first snapshot, between two, while one is cut, while one is on its way."""
    scene = Scene()
    scene.town.run(after)
    began = scene.town.now
    assert scene.leave() == "handed"
    assert scene.town.now - began < 3 * SECOND, "seconds of the notice, not all of it"
    (share,) = scene.ledger.escrows[scene.lease.assign.escrow].chunks[0].carried
    manifest = scene.town.newest(scene.steward, scene.worker)
    assert manifest is not None
    assert share.snapshot == wire.digest(wire.encode(manifest))
    assert share.step == manifest.step == scene.worker.step, "the last cut of all: no step behind it"
    assert scene.gave_back == []
    assert scene.worker.errors == scene.steward.errors == []
    scene.worker.is_up = False
    for pack in manifest.packs:
        assert scene.town.reachable(pack) >= pack.k, "the owner may switch the machine off now"


def test_hours_worked_are_the_share_where_the_job_does_not_tell() -> None:
    scene = Scene()
    scene.town.run(7 * SECOND)
    assert scene.leave() == "handed"
    (share,) = scene.ledger.escrows[scene.lease.assign.escrow].chunks[0].carried
    elapsed = 7 * SECOND
    assert share.done_ppm == pytest.approx(min(500_000, elapsed * 1_000_000 / scene.lease.spec.estimate), rel=0.3)
    assert scene.emitted().fields["pay"] == share.amount * 9 // 10
    assert scene.ledger.available("S", scene.worker.id) == 10 * CREDIT


def test_a_state_that_cannot_leave_in_time_is_given_back() -> None:
    scene = Scene(state_bytes=300_000)
    for member in scene.town.members.values():
        member.rate = 1_000
    assert scene.leave() == "given_back"
    assert scene.gave_back == [scene.lease.key]
    assert scene.office.codes == []


def test_alone_in_the_network_nothing_can_be_handed_over() -> None:
    scene = Scene(peers=3)
    scene.standby.is_up = scene.steward.is_up = False
    assert scene.leave() == "given_back"


def test_a_job_that_cannot_be_cut_is_given_back_at_once() -> None:
    scene = Scene()
    scene.worker.cut_fails = "the hook is disabled"
    began = scene.town.now
    assert scene.leave() == "given_back"
    assert scene.town.now - began < 2 * SECOND
    assert "the hook is disabled" in str(scene.emitted().fields["reason"])


def test_a_steward_that_is_away_for_a_while_still_gets_the_proposal() -> None:
    scene = Scene()
    scene.town.run(3 * SECOND)
    scene.steward.is_hung = True
    scene.town.at(4 * SECOND, lambda: setattr(scene.steward, "is_hung", False))
    assert scene.leave() == "given_back", "its notice of the snapshot was lost with it"
    assert set(scene.office.codes) == {"unknown_snapshot"}


def test_a_standby_that_is_gone_is_not_needed() -> None:
    scene = Scene()
    scene.town.run(3 * SECOND)
    scene.standby.is_up = False
    assert scene.leave(60 * SECOND) == "handed"
