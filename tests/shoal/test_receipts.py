"""Receipts checked offline: true ones add up to zero, and every lie is found."""

from __future__ import annotations

from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import block, wire
from protocol.errors import Refused
from protocol.genesis import Genesis
from protocol.identity import Identity
from protocol.jobspec import Manifest, OutputFile
from protocol.messages import Block, Header, Outcome
from protocol.operations import (
    Assign,
    Claim,
    EscrowClose,
    EscrowExtend,
    EscrowOpen,
    Handover,
    Operation,
    Ruling,
    Settle,
    Surrender,
    Verdict,
    op_id,
    signed_op,
)
from shoal import receipts
from shoal.receipt_account import wire_peer
from shoal.receipts import JobReceipt, verify, verify_outputs

CHAIN = "test"
VALIDATOR, RENTER, STEWARD, GOOD, BAD = (Identity(bytes([number] * 32)) for number in range(1, 6))
GENESIS = Genesis(CHAIN, 0, ((VALIDATOR.peer, 1),), (("U", RENTER.peer, 10_000),))
FILES = ((0, "0/tile.png", "11" * 32, 5), (1, "1/tile.png", "22" * 32, 6))
JOB = bytes(16)


def manifest_digest(path: str, digest: str, size: int) -> bytes:
    return wire.digest(wire.encode(Manifest((OutputFile(path, bytes.fromhex(digest), size),))))


OPEN = EscrowOpen(RENTER.peer, 0, 0, JOB, 5_000, bytes(32), STEWARD.peer, 10)
ESCROW = op_id(wire.encode(OPEN))


def assign(chunk: int, epoch: int, provider: Identity) -> Assign:
    return Assign(ESCROW, chunk, epoch, provider.peer, 1_000, 150, 5, 9, (STEWARD.peer,))


def verdict(chunk: int, epoch: int, outcome: str, output: bytes) -> Verdict:
    assert outcome in ("accept", "wrong")
    said = "accept" if outcome == "accept" else "wrong"
    return Verdict(ESCROW, chunk, epoch, said, True, VALIDATOR.peer, output, output, "code")  # type: ignore[arg-type]


STORY: tuple[Operation, ...] = (
    OPEN,
    assign(0, 1, GOOD),
    assign(1, 1, BAD),
    Claim(ESCROW, 0, 1, bytes(32)),
    verdict(0, 1, "accept", manifest_digest("tile.png", "11" * 32, 5)),
    verdict(1, 1, "wrong", bytes(32)),
    assign(1, 2, GOOD),
    verdict(1, 2, "accept", manifest_digest("tile.png", "22" * 32, 6)),
    EscrowClose(ESCROW),
)


def receipt_of(story: tuple[Operation, ...], signer: Identity = VALIDATOR, status: str = "applied") -> JobReceipt:
    """Blocks of three operations, certified, and one proof per operation."""
    items: list[bytes] = []
    for height, start in enumerate(range(0, len(story), 3), start=1):
        signed = [signed_op(CHAIN, operation, RENTER) for operation in story[start : start + 3]]
        outcomes = [Outcome(one.op_id, "applied" if status == "applied" else "refused", "ok", "") for one in signed]
        tree = block.receipt_tree(outcomes)
        header = Header(
            CHAIN,
            height,
            height,
            bytes(32),
            block.ops_root(signed),
            tree.root,
            bytes(32),
            GENESIS.validator_set.digest,
            len(signed),
        )
        whole = Block(header, (block.certify(signer, header),), tuple(signed))
        items += [wire.encode(block.make_receipts(whole, outcomes, [index], tree)[0]) for index in range(len(signed))]
    return JobReceipt(CHAIN, JOB, ESCROW, tuple(items))


def test_a_true_receipt_adds_up_to_zero() -> None:
    account = verify(wire.encode(receipt_of(STORY)), GENESIS)
    assert (account.paid, account.commission, account.slashed, account.refunded) == (1_800, 200, 100, 3_000)
    assert account.movements() == {
        "renter": -2_000, "commission": 200, "slashed": 100, wire_peer(GOOD.peer): 1_800, wire_peer(BAD.peer): -100,
    }  # fmt: skip
    assert sum(account.movements().values()) == 0
    assert (account.is_closed, account.operations, account.blocks) == (True, 9, 3)


def handed(epoch: int, done_ppm: int) -> Handover:
    return Handover(ESCROW, 0, epoch, done_ppm, 5, bytes(32))


HANDED: tuple[Operation, ...] = (OPEN, assign(0, 1, GOOD), handed(1, 250_000), assign(0, 2, BAD))
ACCEPTED = verdict(0, 2, "accept", bytes(32))


def test_a_lease_that_was_handed_over_is_paid_with_the_chunk() -> None:
    account = verify(wire.encode(receipt_of((*HANDED, ACCEPTED, EscrowClose(ESCROW)))), GENESIS)
    assert (account.paid, account.commission, account.refunded, account.waiting) == (1_125, 125, 3_750, 0)
    assert account.movements() == {
        "renter": -1_250, "commission": 125, "slashed": 0, wire_peer(GOOD.peer): 225, wire_peer(BAD.peer): 900,
    }  # fmt: skip
    assert account.leases[0, 1].done_ppm == 250_000


def test_a_share_waits_and_is_the_renters_again_without_a_result() -> None:
    account = verify(wire.encode(receipt_of(HANDED)), GENESIS)
    assert (account.waiting, account.paid, account.leases[0, 1].waits) == (250, 0, 250)
    lost = (*HANDED, Surrender(ESCROW, 0, 2, "tired"), assign(0, 3, GOOD), handed(3, 500_000))
    account = verify(wire.encode(receipt_of(lost)), GENESIS)
    assert account.waiting == 250 + 330, "a third of the second lease's price: from 25 to 50 of 100"
    for end in ((EscrowClose(ESCROW),), (verdict(0, 2, "wrong", bytes(32)), EscrowClose(ESCROW))):
        account = verify(wire.encode(receipt_of((*HANDED, *end))), GENESIS)
        assert (account.waiting, account.paid, account.refunded) == (0, 0, 5_000)
        assert sum(account.movements().values()) == 0


def test_a_voucher_pays_the_shares_too_and_a_wrong_result_begins_at_nothing() -> None:
    account = verify(wire.encode(receipt_of((*HANDED, Settle(ESCROW, 0, 2, 0)))), GENESIS)
    assert (account.paid, account.commission) == (225, 25)
    again = (*HANDED, verdict(0, 2, "wrong", bytes(32)), assign(0, 3, GOOD), handed(3, 100_000))
    assert verify(wire.encode(receipt_of(again)), GENESIS).waiting == 100


def test_a_handover_that_cannot_be_is_found() -> None:
    back = (*HANDED, handed(2, 249_999))
    with pytest.raises(Refused, match="249999 ppm after 250000"):
        verify(wire.encode(receipt_of(back)), GENESIS)
    with pytest.raises(Refused, match="never leased"):
        verify(wire.encode(receipt_of((OPEN, handed(1, 1)))), GENESIS)
    with pytest.raises(Refused, match="ends twice"):
        verify(wire.encode(receipt_of((*HANDED[:3], handed(1, 300_000)))), GENESIS)
    foreign = Handover(bytes(32), 0, 1, 1, 1, bytes(32))
    with pytest.raises(Refused, match="another job"):
        verify(wire.encode(receipt_of((OPEN, assign(0, 1, GOOD), foreign))), GENESIS)


def test_an_extension_counts_into_what_the_renter_put_in() -> None:
    extension = EscrowExtend(RENTER.peer, 0, 1, ESCROW, 700, 20)
    account = verify(wire.encode(receipt_of((*STORY[:4], extension, *STORY[4:]))), GENESIS)
    assert (account.cap, account.refunded) == (5_700, 3_700)
    assert account.movements()["renter"] == -2_000
    assert sum(account.movements().values()) == 0
    with pytest.raises(Refused, match="opened the escrow"):
        verify(wire.encode(receipt_of((extension, OPEN))), GENESIS)
    foreign = EscrowExtend(RENTER.peer, 0, 1, bytes(32), 700, 20)
    with pytest.raises(Refused, match="another job"):
        verify(wire.encode(receipt_of((OPEN, foreign))), GENESIS)


def test_an_extension_that_is_left_out_is_missed_when_its_money_was_paid() -> None:
    dear = (assign(2, 1, GOOD), verdict(2, 1, "accept", bytes(32)))
    opening = EscrowOpen(RENTER.peer, 0, 0, JOB, 500, bytes(32), STEWARD.peer, 10)
    escrow = op_id(wire.encode(opening))
    work = tuple(msgspec.structs.replace(operation, escrow=escrow) for operation in dear)
    extension = EscrowExtend(RENTER.peer, 0, 1, escrow, 500, 20)
    whole = msgspec.structs.replace(receipt_of((opening, extension, *work)), escrow=escrow)
    assert verify(wire.encode(whole), GENESIS).cap == 1_000
    cut = msgspec.structs.replace(whole, receipts=(whole.receipts[0], *whole.receipts[2:]))
    with pytest.raises(Refused, match="1000 units were paid, its operations put 500 in"):
        verify(wire.encode(cut), GENESIS)


def test_files_are_those_that_were_judged() -> None:
    account = verify(wire.encode(receipt_of(STORY)), GENESIS)
    assert verify_outputs(account, FILES, has_reduce=False) == 2
    with pytest.raises(Refused, match="not those that were judged"):
        verify_outputs(account, [(0, "0/tile.png", "12" * 32, 5)], has_reduce=False)


@pytest.mark.parametrize("left_out", [0, 1, 2, 6])
def test_a_lease_or_the_opening_that_is_left_out_is_missed(left_out: int) -> None:
    whole = receipt_of(STORY)
    cut = JobReceipt(CHAIN, JOB, ESCROW, whole.receipts[:left_out] + whole.receipts[left_out + 1 :])
    with pytest.raises(Refused, match=r"receipt (has a gap|is false)"):
        verify(wire.encode(cut), GENESIS)


def test_a_stranger_certifies_nothing() -> None:
    with pytest.raises(Refused, match="false"):
        verify(wire.encode(receipt_of(STORY, signer=BAD)), GENESIS)


def test_an_operation_twice_pays_nobody_twice() -> None:
    """It may be ordered again, by anybody who has its bytes, and does nothing then."""
    whole = receipt_of(STORY)
    once = verify(wire.encode(whole), GENESIS)
    for at in range(len(whole.receipts)):
        again = JobReceipt(CHAIN, JOB, ESCROW, (*whole.receipts, whole.receipts[at]))
        assert verify(wire.encode(again), GENESIS) == once


def test_what_was_refused_may_be_ordered_again() -> None:
    early = receipt_of(STORY[-1:], status="refused")  # The steward closes before the last lease has ended.
    whole = receipt_of(STORY)
    story = JobReceipt(CHAIN, JOB, ESCROW, (*whole.receipts[:-1], *early.receipts, whole.receipts[-1]))
    account = verify(wire.encode(story), GENESIS)
    assert account.is_closed and account.operations == len(STORY) + 1
    late = JobReceipt(CHAIN, JOB, ESCROW, (*whole.receipts, *early.receipts))
    assert verify(wire.encode(late), GENESIS) == verify(wire.encode(whole), GENESIS)


def test_refused_operations_move_nothing() -> None:
    with pytest.raises(Refused, match="opened the escrow"):
        verify(wire.encode(receipt_of(STORY, status="refused")), GENESIS)


def test_a_receipt_of_another_network_or_job_is_told_so() -> None:
    whole = receipt_of(STORY)
    with pytest.raises(Refused, match="of network"):
        verify(wire.encode(JobReceipt("other", JOB, ESCROW, whole.receipts)), GENESIS)
    with pytest.raises(Refused, match="another"):
        verify(wire.encode(JobReceipt(CHAIN, JOB, bytes(32), whole.receipts)), GENESIS)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_and_never_crash(data: bytes) -> None:
    with pytest.raises(Refused):
        receipts.verify(data, GENESIS)


@given(st.integers(0, 8), st.integers(0, 10**6), st.integers(1, 255))
def test_a_flipped_byte_never_changes_the_money(item: int, place: int, flip: int) -> None:
    whole = receipt_of(STORY)
    data = bytearray(whole.receipts[item])
    data[place % len(data)] ^= flip
    changed = JobReceipt(CHAIN, JOB, ESCROW, (*whole.receipts[:item], bytes(data), *whole.receipts[item + 1 :]))
    try:
        account = verify(wire.encode(changed), GENESIS)
    except Refused:
        return
    assert account.movements() == verify(wire.encode(whole), GENESIS).movements()


def encoded_receipt(story: tuple[Operation, ...]) -> bytes:
    return wire.encode(receipt_of(story))


def story_with(ruling: Ruling | None = None, is_audited: bool = True, evidence: int = 300) -> tuple[Operation, ...]:
    """One chunk with money set aside for its auditor, accepted, perhaps ruled on, closed."""
    judged = Verdict(ESCROW, 0, 1, "accept", is_audited, BAD.peer, bytes(32), bytes(32), "hash_equal")
    leased = msgspec.structs.replace(assign(0, 1, GOOD), evidence=evidence)
    ruled = () if ruling is None else (ruling,)
    return (OPEN, leased, judged, EscrowClose(ESCROW), *ruled)


def ruled(outcome: Literal["upheld", "overturned"], finding: Literal["accept", "fraud"]) -> Ruling:
    return Ruling(ESCROW, 0, 1, 1, outcome, finding, (VALIDATOR.peer,), bytes(32), "unit_differs")


@pytest.mark.parametrize(("is_audited", "paid"), [(True, 300), (False, 0)])
def test_money_for_evidence_goes_to_the_auditor_or_back(is_audited: bool, paid: int) -> None:
    account = verify(encoded_receipt(story_with(is_audited=is_audited)), GENESIS)
    moved = account.movements()
    assert moved.get(wire_peer(BAD.peer), 0) == paid == account.audits
    assert moved["renter"] == -1_000 - paid
    assert sum(moved.values()) == 0


def test_an_overturned_verdict_pays_nobody() -> None:
    account = verify(encoded_receipt(story_with(ruled("overturned", "fraud"))), GENESIS)
    assert (account.paid, account.commission, account.audits, account.slashed) == (0, 0, 0, 150)
    assert account.refunded == account.cap and sum(account.movements().values()) == 0
    assert account.leases[0, 1].code == "unit_differs"


def test_an_upheld_verdict_stands() -> None:
    account = verify(encoded_receipt(story_with(ruled("upheld", "accept"))), GENESIS)
    assert (account.paid, account.audits) == (900, 300)


def test_a_ruling_on_what_was_never_judged_is_a_gap() -> None:
    with pytest.raises(Refused) as caught:
        verify(encoded_receipt((OPEN, assign(0, 1, GOOD), ruled("upheld", "accept"))), GENESIS)
    assert caught.value.code == "receipt_gap"
