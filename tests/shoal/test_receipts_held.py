"""Receipts of networks with a policy: the account from a job's own operations is the ledger's own, to the unit."""

from __future__ import annotations

from random import Random

import pytest
from msgspec.structs import replace

from protocol import block, wire
from protocol.errors import Refused
from protocol.held import Held
from protocol.identity import Identity
from protocol.messages import Block, Header, Outcome
from protocol.operations import (
    Appeal,
    EscrowClose,
    EscrowOpen,
    Mint,
    Operation,
    SignedOp,
    commission,
    signed_op,
)
from protocol.policy import Policy
from protocol.units import CREDIT, SECOND
from shoal.receipt_account import Account, wire_peer
from shoal.receipt_text import account_text
from shoal.receipts import JobReceipt, verify
from tests.protocol.ledger_world import (
    CHAIN,
    OTHER,
    POLICY,
    PRICE,
    PROVIDERS,
    RENTER,
    STEWARD,
    VALIDATOR,
    World,
    again,
    appeal,
    assign,
    claim,
    extend,
    handover,
    open_escrow,
    ruling,
    settle,
    surrender,
    verdict,
    with_policy,
)

P, Q, R = PROVIDERS
FEE = commission(PRICE)
LAW = with_policy()


class Kept(World):
    """A world that keeps receipts of one job as its node does: of everything ordered on the escrow, applied or not."""

    def __init__(self, policy: Policy = POLICY) -> None:
        super().__init__(with_policy(policy))
        self.law = with_policy(policy)
        self.listed: list[tuple[SignedOp, Outcome, int]] = []
        for number, peer in enumerate((P, Q, STEWARD, OTHER)):
            self.ok(Mint(bytes([number]) * 32, peer.peer, 100 * CREDIT), VALIDATOR)

    def do(self, operation: Operation, *signers: Identity, at: int = 0) -> Outcome:
        outcome = super().do(operation, *signers, at=at)
        is_its = isinstance(operation, EscrowOpen) or hasattr(operation, "escrow")
        if is_its and not any(known == outcome for _, known, _ in self.listed):  # A node hears of each once.
            self.listed.append((signed_op(CHAIN, operation, *signers), outcome, self.time))
        return outcome

    def receipt(self, escrow: bytes) -> bytes:
        """The receipt of the job, as a gateway hands it out."""
        items = []
        for height, (signed, outcome, time) in enumerate(self.listed, start=1):
            tree = block.receipt_tree([outcome])
            set_digest = self.law.validator_set.digest
            fields = (block.ops_root([signed]), tree.root, bytes(32), set_digest, 1)
            header = Header(CHAIN, height, time, bytes(32), *fields)
            whole = Block(header, (block.certify(VALIDATOR, header),), (signed,))
            items.append(wire.encode(block.make_receipts(whole, [outcome], [0], tree)[0]))
        return wire.encode(JobReceipt(CHAIN, bytes(16), escrow, tuple(items)))

    def account(self, escrow: bytes) -> Account:
        """Computed from the receipt alone, and what the ledger says itself."""
        account = verify(self.receipt(escrow), self.law, self.time)
        known = self.ledger.escrows[escrow]
        assert (account.cap, account.is_closed) == (known.cap, known.is_closed)
        assert sum(account.movements().values()) == 0
        return account

    def agrees(self, escrow: bytes) -> Account:
        """To the unit."""
        account = self.account(escrow)
        known = self.ledger.escrows[escrow]
        mine = (account.paid, account.commission, account.audits, account.refunded)
        assert mine == (known.paid, known.commission, known.evidence, known.refunded)
        return account


@pytest.fixture
def world() -> Kept:
    return Kept()


def judged(world: Kept, outcome: str, evidence: int = 0, is_traced: bool = False) -> bytes:
    e = world.ok(open_escrow(), RENTER)
    world.ok(assign(e, evidence=evidence) if evidence else assign(e), STEWARD, P)
    world.ok(claim(e, is_traced=is_traced), P)
    world.ok(verdict(e, outcome, is_audited=True, auditor=OTHER), VALIDATOR)  # type: ignore[arg-type]
    return e


def test_accepted_pay_is_held_and_then_paid(world: Kept) -> None:
    e = judged(world, "accept", evidence=1_000)
    account = world.agrees(e)
    assert (account.paid, account.held, account.held_until) == (0, PRICE + 1_000, world.time + POLICY.dispute_window)
    world.mature()
    account = world.agrees(e)
    assert (account.paid, account.commission, account.audits, account.held) == (PRICE - FEE, FEE, 1_000, 0)
    assert account.leases[0, 1].paid == PRICE - FEE
    assert account.movements()[wire_peer(OTHER.peer)] == 1_000 + FEE * POLICY.audit_fee // 1_000_000
    assert account.unknown == []


def test_the_audit_of_a_fraud_is_paid_by_the_slash(world: Kept) -> None:
    e = judged(world, "fraud", evidence=1_000)
    world.mature()
    account = world.agrees(e)
    assert (account.audits, account.slashed) == (0, PRICE)
    assert world.ledger.escrows[e].slashed > account.slashed, "all stake, of which the job shows the collateral"
    assert account.unknown == ["chunk 0 epoch 1: fraud takes stake beside the collateral, which is not shown here"]
    assert account.movements()["burnt"] == -(-PRICE // 2)


def test_more_evidence_than_the_collateral_covers_is_told_as_not_known(world: Kept) -> None:
    e = judged(world, "fraud", evidence=2 * PRICE)
    world.mature()
    account, known = world.account(e), world.ledger.escrows[e]
    assert known.evidence == 0 < account.audits == 2 * PRICE - PRICE // 2
    assert any(f"paid {account.audits} units for evidence at most" in line for line in account.unknown)
    assert "not shown here" in account_text(account, "x")  # type: ignore[arg-type]


def test_an_overturned_appeal(world: Kept) -> None:
    e = judged(world, "wrong", evidence=1_000)
    world.ok(appeal(e, P), P)
    assert world.agrees(e).held_until == world.time + POLICY.rule_time
    world.ok(ruling(e, "accept"), VALIDATOR)
    world.mature()
    account = world.agrees(e)
    assert (account.paid, account.slashed, account.audits) == (PRICE - FEE, 0, 0)
    assert account.leases[0, 1].outcome == "accept" and account.leases[0, 1].paid == PRICE - FEE


def test_an_upheld_appeal(world: Kept) -> None:
    e = judged(world, "wrong", evidence=1_000)
    world.ok(appeal(e, P), P)
    world.ok(ruling(e, "wrong", is_upheld=True), VALIDATOR)
    world.mature()
    account = world.agrees(e)
    assert (account.paid, account.slashed) == (0, PRICE // 10)
    moved = account.movements()
    assert moved[wire_peer(P.peer)] == -(PRICE // 10) - 40 * CREDIT, "fine and bond"


def test_an_escrow_that_closes_by_itself(world: Kept) -> None:
    e = judged(world, "accept")
    world.ok(EscrowClose(e), STEWARD)
    assert not world.agrees(e).is_closed
    world.mature()
    account = world.agrees(e)
    assert account.is_closed and account.refunded == 100 * CREDIT - PRICE


def test_pay_of_a_proven_cheat_is_forfeited(world: Kept) -> None:
    e = judged(world, "accept")
    world.ok(assign(e, 1), STEWARD, P)
    world.ok(claim(e, 1), P)
    world.ok(verdict(e, "fraud", 1), VALIDATOR)
    world.ok(EscrowClose(e), STEWARD)
    world.mature()
    world.mature()
    account = world.agrees(e)
    assert (account.paid, account.refunded) == (0, 100 * CREDIT)


def test_a_receipt_that_leaves_out_an_appeal_is_found(world: Kept) -> None:
    e = judged(world, "wrong")
    world.ok(appeal(e, P), P)
    world.ok(ruling(e, "accept"), VALIDATOR)
    world.listed = [item for item in world.listed if not isinstance(_said(item[0]), Appeal)]
    with pytest.raises(Refused, match="Ruling of block 5 cannot have been applied"):
        world.account(e)


def _said(signed: SignedOp) -> Operation:
    from protocol.ledger import operation_decoder

    return operation_decoder.decode(signed.body)


def test_a_fraud_in_another_job_is_not_in_this_one_s_receipt(world: Kept) -> None:
    """It is named in the text; the account says what this job's operations say."""
    e = judged(world, "accept")
    mine, world.listed = world.listed, []
    other = world.ok(open_escrow(sequence=1, job=b"j" * 16), RENTER)
    world.ok(assign(other), STEWARD, P)
    world.ok(claim(other), P)
    world.ok(verdict(other, "fraud"), VALIDATOR)
    world.listed = mine
    text = account_text(world.account(e), "x")  # type: ignore[arg-type]
    assert "proven fraud in another job takes it back" in text
    world.mature()
    assert world.ledger.escrows[e].paid == 0 and verify(world.receipt(e), world.law, world.time).paid > 0


FINDINGS = ("accept", "accept", "accept", "wrong", "fraud", "severe", "rejected", "withheld", "missing")


ACTS = ["lease", "lease", "claim", "claim", "verdict", "verdict", "verdict", "appeal", "rule", *"hestwx"]


def step(world: Kept, e: bytes, dice: Random) -> None:
    """Something that may happen to a job; the ledger refuses what may not."""
    chunk, who = dice.randrange(3), dice.choice(PROVIDERS)
    lease = world.ledger.escrows[e].chunks.get(chunk)
    epoch = lease.epoch if lease else 1
    provider = next((one for one in PROVIDERS if lease and one.peer == lease.provider), who)
    held = dice.choice([one for one in world.ledger.held.values() if not one.end] or [None])
    match dice.choice(
        ["lease", "lease", "claim", "claim", "verdict", "verdict", "verdict", "appeal", "rule", *"hestwx"]
    ):
        case "lease" if not lease or lease.state == "free":
            late = again(e, chunk, epoch + 1 if lease else 1, who)
            evidence = dice.choice([0, 0, 10_000])
            world.do(replace(late, price=PRICE, collateral=PRICE, **({"evidence": evidence} if evidence else {})),
                     STEWARD, who)  # fmt: skip
        case "claim":
            world.do(claim(e, chunk, epoch, is_traced=dice.random() < 0.5), provider)
        case "verdict":
            finding = dice.choice(FINDINGS)
            world.do(verdict(e, finding, chunk, epoch, dice.random() < 0.5, OTHER), VALIDATOR)  # type: ignore[arg-type]
        case "appeal" if held:
            _dispute(world, held, dice)
        case "rule" if held:
            finding = dice.choice(FINDINGS[:-1])
            rule = ruling(e, finding, finding == held.finding, held.round + 1, held.chunk, held.epoch)  # type: ignore[arg-type]
            world.do(rule, VALIDATOR)
        case "h":
            world.do(handover(e, dice.randrange(1_000_000), chunk, epoch), STEWARD, provider)
        case "e":
            sequence = world.ledger.next_sequence(RENTER.peer)
            world.do(extend(e, CREDIT, sequence, world.ledger.escrows[e].deadline), RENTER)
        case "s":
            world.do(surrender(e, chunk, epoch), provider)
        case "t":
            world.do(settle(e, PRICE // 2, chunk, epoch), RENTER, provider)
        case "w":
            world.pass_time(world.time + dice.choice([1, 20, 101, 301]) * SECOND)
        case "x" if dice.random() < 0.1:
            world.do(EscrowClose(e), STEWARD)
        case _:
            pass


def _dispute(world: Kept, held: Held, dice: Random) -> None:
    provider = next(one for one in PROVIDERS if one.peer == held.provider)
    who = provider if held.finding != "accept" else dice.choice([RENTER, OTHER, STEWARD])
    rival = held.trace if who is provider and held.trace else b"r" * 32
    world.do(appeal(held.escrow, who, 40 * CREDIT, held.chunk, held.epoch, rival, held.round + 1), who)


@pytest.mark.parametrize("seed", range(120))
def test_random_jobs(seed: int) -> None:
    """After every step, and after the end."""
    dice, world = Random(seed), Kept()
    e = world.ok(open_escrow(cap=dice.choice([10, 100]) * CREDIT, deadline=open_escrow().deadline * 2), RENTER)
    for number in range(40):
        step(world, e, dice)
        if number % 4 == 0:
            world.agrees(e)
    for _ in range(4):
        world.pass_time(world.time + 700 * SECOND)
    account, known = world.agrees(e), world.ledger.escrows[e]
    assert account.slashed <= known.slashed
    assert account.slashed == known.slashed or account.unknown
    assert account.held == 0
