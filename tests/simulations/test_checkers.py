"""Each checker is silent about what is right, and speaks when one thing is wrong. Events are made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pytest

from protocol.block import decode_block
from protocol.completions import RunDone
from protocol.effects import Compute, Effect, Fail, Run, Send, Stop, Store
from protocol.errors import LocalError, Refused, RemoteViolation, Unavailable
from protocol.identity import Identity
from protocol.job import Job
from protocol.job_record import ChunkRecord, JobRecord
from protocol.jobspec import ZERO_DIGEST, Chunk, JobSpec
from protocol.messages import Blocks, Header, Outcome, Receipt, Receipts, RevealRequest, Submit
from protocol.operations import Operation, Signature, SignedOp, Transfer, op_id, signed_op
from protocol.units import SECOND, Credits, JobId, Micros, PeerId
from simulations.checkers.acknowledged import Acknowledged
from simulations.checkers.agreement import Agreement
from simulations.checkers.checker import Checker
from simulations.checkers.epochs import AFTER_END, Epochs
from simulations.checkers.faultless import DISK, INNOCENT, Faultless
from simulations.checkers.ledger import Ledgers
from simulations.checkers.liveness import LAG_MAX, Liveness
from simulations.checkers.registry import CHECKERS, checkers
from simulations.clock import Clock
from simulations.scenario import NS
from simulations.strategy import Strategy
from simulations.violation import Violation
from tests.protocol.ledger_world import (
    CHAIN,
    CLAIM_BY,
    OTHER,
    PROVIDERS,
    RENTER,
    START,
    STEWARD,
    VALIDATOR,
    VERDICT_BY,
    assign,
    claim,
    fence,
    open_escrow,
    surrender,
    verdict,
)
from tests.simulations.subjects import Actor, actor, machines
from verifier.orderer import GATHER

ESCROW: Final = bytes([9]) * 32
SPEC: Final = JobSpec(
    name="work",
    runtime="python",
    commands=("work",),
    chunks=(Chunk(), Chunk()),
    estimate=Micros(SECOND),
    price_per_hour_max=Credits(1),
)


class Stage:
    """A validator (0), a steward (1) and two providers (2, 3), and one checker that watches them."""

    def __init__(self, checker: Checker) -> None:
        self.actors = [actor(index) for index in range(4)]
        checker.peers = self.actors


class Chain(Stage):
    """A stage whose validator orders operations under the eyes of the epochs checker."""

    def __init__(self) -> None:
        self.checker = Epochs()
        super().__init__(self.checker)
        self.height = 0

    def order(self, operation: Operation, *signers: Identity, time: int = START, status: str = "applied") -> Receipts:
        """The validator orders an operation and tells itself."""
        signed = signed_op(CHAIN, operation, *signers)
        self.height += 1
        receipts = receipts_of(self.height, time, [signed], status)
        told: list[Effect] = [Send(VALIDATOR.peer, receipts)]
        self.checker.handled(self.actors[0], None, told, self.height)
        self.checker.sent(0, 1, receipts, self.height, -1)
        return receipts

    def run(self, index: int, chunk: int = 0, epoch: int = 1) -> str:
        """A provider starts a task."""
        task = f"{ESCROW.hex()[:16]}-{chunk}-{epoch}"
        effects: list[Effect] = [Compute(Run(task, SPEC, chunk, (), (), RENTER.peer))]
        self.checker.handled(self.actors[index], None, effects, 0)
        return task


def receipts_of(height: int, time: int, signed: Sequence[SignedOp], status: str = "applied") -> Receipts:
    """A block's receipts, as far as observers read them; nothing here verifies signatures."""
    zero = bytes(32)
    header = Header(CHAIN, height, time, zero, zero, zero, zero, zero, len(signed))
    code = "ok" if status == "applied" else "no"
    receipts = tuple(
        Receipt(Outcome(op_id(item.body), "applied" if status == "applied" else "refused", code, ""), index, ())
        for index, item in enumerate(signed)
    )
    return Receipts(header, (Signature(VALIDATOR.peer, bytes(64)),), tuple(signed), receipts)


def broken(match: str) -> pytest.RaisesExc[Violation]:
    return pytest.raises(Violation, match=match)


def test_every_check_of_a_scenario_has_a_checker() -> None:
    found = checkers(("liveness", "ledger"))
    assert [type(item) for item in found] == [Liveness, Ledgers]
    names = {"ledger", "epochs", "acknowledged", "agreement", "faultless", "custody", "liveness", "heirs"}
    assert set(CHECKERS) == names


# ── epochs ───────────────────────────────────────────────────────────────────────────────────────────────────────────
LEASED: Final = (STEWARD, PROVIDERS[0])


def leased() -> tuple[Chain, Epochs]:
    chain = Chain()
    chain.order(assign(ESCROW), *LEASED)
    return chain, chain.checker


def test_a_chunk_from_lease_to_verdict() -> None:
    stage, checker = leased()
    task = stage.run(2)
    checker.handled(stage.actors[2], RunDone(task, "ok", 0, ZERO_DIGEST, 0, 1.0, ""), [], 0)
    stage.order(claim(ESCROW), PROVIDERS[0])
    told = stage.order(verdict(ESCROW), VALIDATOR)
    checker.handled(stage.actors[2], told, [], 9)
    checker.second(9)
    assert (checker.verdicts, checker.fences) == (1, 0)


def test_lost_leases_make_room_for_the_next_epoch() -> None:
    stage, checker = leased()
    stage.order(fence(ESCROW), STEWARD, OTHER)
    stage.order(assign(ESCROW, epoch=2), *LEASED)
    stage.order(surrender(ESCROW, epoch=2), PROVIDERS[0])
    stage.order(assign(ESCROW, epoch=3), *LEASED)
    stage.order(assign(ESCROW, epoch=4, claim_by=CLAIM_BY + 1), *LEASED, time=CLAIM_BY + 1)  # the third has expired
    stage.order(claim(ESCROW, epoch=4), PROVIDERS[0], time=CLAIM_BY + 1)
    stage.order(assign(ESCROW, epoch=5), *LEASED, time=VERDICT_BY + 1)  # the fourth was never judged
    assert checker.fences == 1


def test_two_live_leases() -> None:
    stage, _ = leased()
    with broken("leased at epoch 2 while epoch 1 lives"):
        stage.order(assign(ESCROW, epoch=2), *LEASED)


def test_an_epoch_again() -> None:
    stage, _ = leased()
    stage.order(surrender(ESCROW), PROVIDERS[0])
    with broken("leased at epoch 1 after epoch 1"):
        stage.order(assign(ESCROW, provider=PROVIDERS[1]), STEWARD, PROVIDERS[1])


def test_a_committed_chunk_leased_again() -> None:
    stage, _ = leased()
    stage.order(claim(ESCROW), PROVIDERS[0])
    stage.order(verdict(ESCROW), VALIDATOR)
    with broken("leased again at epoch 2, committed at 1"):
        stage.order(assign(ESCROW, epoch=2), *LEASED)


def test_a_claim_of_an_old_epoch() -> None:
    stage, _ = leased()
    stage.order(fence(ESCROW), STEWARD, OTHER)
    stage.order(assign(ESCROW, epoch=2, provider=PROVIDERS[1]), STEWARD, PROVIDERS[1])
    with broken("Claim of epoch 1 applied, but the newest lease is epoch 2"):
        stage.order(claim(ESCROW), PROVIDERS[0])


def test_a_claim_after_the_end() -> None:
    stage, _ = leased()
    with broken(r"Claim of epoch 1 after its end \(expired\)"):
        stage.order(claim(ESCROW), PROVIDERS[0], time=CLAIM_BY + 1)


def test_a_second_verdict() -> None:
    stage, _ = leased()
    stage.order(claim(ESCROW), PROVIDERS[0])
    stage.order(verdict(ESCROW), VALIDATOR)
    stage.order(verdict(ESCROW), VALIDATOR)  # the same again: its first outcome, no effect
    with broken(r"after its end \(verdict\)"):
        stage.order(verdict(ESCROW, "wrong"), VALIDATOR)


def test_a_verdict_about_nothing() -> None:
    stage, _ = leased()
    with broken("which nobody claimed"):
        stage.order(verdict(ESCROW), VALIDATOR)


def test_a_fence_by_one_watcher() -> None:
    stage, _ = leased()
    with broken("fenced by 1 of 3 watchers"):
        stage.order(fence(ESCROW), STEWARD)


def test_a_claim_by_another() -> None:
    stage, _ = leased()
    with broken("without its provider's signature"):
        stage.order(claim(ESCROW), PROVIDERS[1])


def test_operations_that_were_refused_or_seen_before_say_nothing() -> None:
    stage, checker = leased()
    stage.order(assign(ESCROW, epoch=2), *LEASED, status="refused")
    told = stage.order(claim(ESCROW), PROVIDERS[0])
    checker.handled(stage.actors[0], None, [Send(VALIDATOR.peer, told)], 9)


def test_computing_without_a_lease() -> None:
    stage, _ = leased()
    with broken("whose lease another holds"):
        stage.run(3)
    with broken("whose lease nobody holds"):
        stage.run(2, chunk=1)


def test_computing_on_after_the_end_was_seen() -> None:
    stage, checker = leased()
    task = stage.run(2)
    told = stage.order(fence(ESCROW), STEWARD, OTHER)
    checker.handled(stage.actors[2], told, [Compute(Stop(task))], 9)
    stage.order(assign(ESCROW, epoch=2), *LEASED)
    stage.run(2, epoch=2)
    told = stage.order(fence(ESCROW, epoch=2), STEWARD, OTHER)
    with broken("having seen its end"):
        checker.handled(stage.actors[2], told, [], 9)


def test_computing_on_after_the_own_ledger_showed_the_end() -> None:
    stage, checker = leased()
    ledger = stage.actors[2].machines.ledger
    escrow = ledger.apply(signed_op(CHAIN, open_escrow(), RENTER), START).op
    stage.order(assign(escrow), *LEASED)
    ledger.apply(signed_op(CHAIN, assign(escrow), *LEASED), START)
    task = f"{escrow.hex()[:16]}-0-1"
    checker.handled(stage.actors[2], None, [Compute(Run(task, SPEC, 0, (), (), RENTER.peer))], 0)
    checker.second(0)
    ledger.advance(CLAIM_BY + 1)
    checker.second(1)
    checker.second(AFTER_END)
    with broken("after its own copy of the ledger showed the end"):
        checker.second(AFTER_END + 2)
    checker.moved(stage.actors[2], False, AFTER_END + 2)
    checker.second(AFTER_END + 3)


# ── faultless ────────────────────────────────────────────────────────────────────────────────────────────────────────
def judged(index: int, error: RemoteViolation | LocalError | Refused | Unavailable) -> Faultless:
    checker = Faultless()
    stage = Stage(checker)
    checker.handled(stage.actors[index], None, [Fail(error)], 0)
    return checker


def test_an_honest_peer_accused() -> None:
    with broken("accuses honest peer 2 over a tick: bad_vote"):
        judged(0, RemoteViolation(PROVIDERS[0].peer, "a rule", code="bad_vote"))
    with broken("accuses itself"):
        judged(0, RemoteViolation(VALIDATOR.peer, "a rule", code="bad_vote"))


def test_what_is_nobodys_fault() -> None:
    assert judged(0, RemoteViolation(PeerId(bytes(32)), "a stranger", code="bad_vote")).accusations == 1
    for code, reason in INNOCENT.items():
        assert reason
        assert judged(0, RemoteViolation(PROVIDERS[0].peer, "a rule", code=code)).accusations == 1
    judged(0, Refused("no"))
    judged(0, Unavailable("later"))


def test_a_cheat_may_be_accused_and_may_accuse() -> None:
    checker = Faultless()
    stage = Stage(checker)
    stage.actors[2].strategy = Strategy(0, {})
    accused: list[Effect] = [Fail(RemoteViolation(PROVIDERS[0].peer, "a rule"))]
    checker.handled(stage.actors[0], None, accused, 0)
    checker.handled(stage.actors[2], None, [Fail(RemoteViolation(VALIDATOR.peer, "a rule"))], 0)
    assert checker.accusations == 1


def test_a_machine_that_breaks_its_own_contract() -> None:
    with broken("LocalError bad_state"):
        judged(1, LocalError("impossible", code="bad_state"))


def test_a_node_that_ends() -> None:
    checker = Faultless()
    stage = Stage(checker)
    for code in DISK:
        checker.crashed(stage.actors[1], Unavailable("disk", code=code), 0)
    with broken("the node ended with KeyError"):
        checker.crashed(stage.actors[1], KeyError("job"), 0)


# ── ledger, agreement, acknowledged ──────────────────────────────────────────────────────────────────────────────────
def blocks_of(validator: Actor, count: int) -> list[bytes]:
    """The validator orders so many transfers; its blocks, as it stored them."""
    stored: list[bytes] = []
    now = Micros(START)
    for sequence in range(count):
        operation = signed_op(CHAIN, Transfer(RENTER.peer, 0, sequence, PROVIDERS[0].peer, 5), RENTER)
        effects = validator.machines.replica.receive(RENTER.peer, Submit((operation,)), now)
        now = Micros(now + GATHER)
        effects += validator.machines.replica.tick(now)
        stored += [
            effect.value
            for effect in effects
            if isinstance(effect, Store) and effect.value is not None and effect.key.startswith("block/")
        ]
    assert len(stored) == count
    return stored


def test_a_ledger_that_loses_money() -> None:
    stage = Stage(checker := Ledgers())
    validator = stage.actors[0]
    checker.handled(validator, None, [], 0)
    blocks_of(validator, 1)
    checker.handled(validator, None, [], 1)
    blocks_of(stage.actors[0], 0)
    accounts = validator.machines.ledger._state.accounts
    accounts["U", RENTER.peer].debits_posted += 1
    checker.handled(validator, None, [], 2)  # the same height is not looked at twice
    accounts["U", RENTER.peer].debits_posted -= 1
    operation = signed_op(CHAIN, Transfer(RENTER.peer, 0, 1, PROVIDERS[0].peer, 5), RENTER)
    validator.machines.replica.receive(RENTER.peer, Submit((operation,)), Micros(START + SECOND))
    validator.machines.replica.tick(Micros(START + SECOND + GATHER))
    accounts["U", RENTER.peer].debits_posted += 1
    with broken("I1"):
        checker.handled(validator, None, [], 3)


def test_money_that_comes_from_nowhere() -> None:
    stage = Stage(checker := Ledgers())
    validator = stage.actors[0]
    checker.handled(validator, None, [], 0)
    blocks_of(validator, 1)
    accounts = validator.machines.ledger._state.accounts
    accounts["R", b""].debits_posted += 7
    accounts["U", RENTER.peer].credits_posted += 7
    with broken("the reserve owes"):
        checker.handled(validator, None, [], 1)


def test_replicas_that_agree_and_one_that_does_not() -> None:
    stage = Stage(checker := Agreement())
    validator, follower = stage.actors[0], stage.actors[2]
    blocks = blocks_of(validator, 2)
    other = actor(0)
    operation = signed_op(CHAIN, Transfer(RENTER.peer, 0, 0, PROVIDERS[1].peer, 9), RENTER)
    other.machines.replica.receive(RENTER.peer, Submit((operation,)), START)
    other.machines.replica.tick(Micros(START + GATHER))
    checker.handled(validator, None, [], 0)
    follower.machines = machines(follower.identity)
    decoded = Blocks(tuple(decode_block(block, VALIDATOR.peer) for block in blocks), 2)
    follower.machines.replica.receive(VALIDATOR.peer, decoded, START)
    checker.handled(follower, decoded, [], 0)
    checker.finished(0)
    stage.actors[0] = other
    third = stage.actors[3]
    for block in decoded.blocks:
        third.machines.replica.receive(VALIDATOR.peer, Blocks((block,), 2), START)
        checker.handled(third, decoded, [], 0)
    checker.handled(other, None, [], 0)  # It may die before its block is on the disk …
    other.boots += 1
    checker.handled(other, None, [], 0)
    other.machines.replica.tick(Micros(START + 10 * SECOND))
    with broken("block 1 left root"):  # … but here it goes on with it.
        checker.handled(other, None, [], 0)


def test_two_certified_blocks_of_one_height() -> None:
    stage = Stage(checker := Agreement())
    signed = signed_op(CHAIN, Transfer(RENTER.peer, 0, 0, PROVIDERS[0].peer, 5), RENTER)
    checker.sent(0, 2, receipts_of(4, START, [signed]), 0, 1)
    checker.sent(0, 3, receipts_of(4, START, [signed]), 0, 1)
    stage.actors[3].strategy = Strategy(0, {})
    checker.sent(3, 2, receipts_of(4, START + 1, [signed]), 0, 1)
    with broken("two certified blocks 4: time differ"):
        checker.sent(0, 3, receipts_of(4, START + 1, [signed]), 0, 1)


def acknowledged(lost: int) -> tuple[Stage, Acknowledged]:
    """A validator that acknowledged three transfers and is started again without the last `lost` blocks."""
    stage = Stage(checker := Acknowledged())
    validator = stage.actors[0]
    blocks = blocks_of(validator, 3)
    for height, data in enumerate(blocks, 1):
        block = decode_block(data, VALIDATOR.peer)
        checker.sent(0, 1, receipts_of(height, START, block.operations), 0, -1)
    checker.finished(0)
    validator.machines = machines(VALIDATOR, tuple(blocks[: 3 - lost]))
    return stage, checker


def test_a_restart_that_keeps_everything() -> None:
    stage, checker = acknowledged(0)
    checker.moved(stage.actors[0], True, 0)
    assert checker.receipts == 3


def test_a_restart_that_loses_a_block() -> None:
    stage, checker = acknowledged(1)
    with broken("after its restart it holds 2 blocks; it had sent a receipt from block 3"):
        checker.moved(stage.actors[0], True, 0)
    stage.actors[0].is_up = False
    checker.finished(0)  # who is down answers later


def test_an_operation_that_is_somewhere_else_now() -> None:
    stage, checker = acknowledged(0)
    outcomes = stage.actors[0].machines.ledger.outcomes
    first = next(iter(outcomes))
    outcomes[first] = (2, outcomes[first][1])
    with broken("at the end it says applied in block 2"):
        checker.finished(0)
    del outcomes[first]
    with broken("at the end it does not know it"):
        checker.finished(0)


# ── liveness ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_quiet_world() -> None:
    stage = Stage(checker := Liveness())
    checker.finished(0)
    for item in stage.actors:
        item.is_up = False
    assert checker.unfinished() is None


def test_a_replica_that_never_catches_up() -> None:
    stage = Stage(checker := Liveness())
    blocks_of(stage.actors[0], LAG_MAX)
    checker.finished(0)
    blocks = actor(0)
    stage.actors[0] = blocks
    blocks_of(blocks, LAG_MAX + 1)
    with broken(f"steward-1 holds 0 blocks of {LAG_MAX + 1}"):
        checker.finished(0)
    for item in stage.actors[1:]:
        item.is_up = False
    checker.finished(0)


def test_a_job_that_waits_for_somebody_and_one_that_nobody_can_do() -> None:
    stage = Stage(checker := Liveness())
    steward = stage.actors[1].machines.steward
    record = JobRecord(
        bytes(16), STEWARD.peer, "a", SPEC, bytes(32), 1, START, START, 1, 1, [ChunkRecord(0)], state="queued"
    )
    steward.jobs[JobId(bytes(16))] = Job(record, steward._desk)
    with broken(r"job 00000000 of steward-1 is queued \(0 waiting\)"):
        checker.finished(0)
    record.barred.append(PROVIDERS[0].peer)
    with broken("is queued"):
        checker.finished(0)
    stage.actors[3].clock = Clock(offset_ns=100 * NS)  # too far ahead to hear of any job
    checker.finished(0)
    record.chunks[0].state = "leased"
    with broken("is queued"):
        checker.finished(0)


def test_an_escrow_that_stays_open_and_a_receipt_that_never_comes() -> None:
    stage = Stage(checker := Liveness())
    ledger = stage.actors[0].machines.ledger
    ledger.apply(signed_op(CHAIN, open_escrow(), RENTER), START)
    with broken("of steward-1 is open, nothing is leased"):
        checker.finished(0)
    stage.actors[1].is_up = False
    checker.finished(0)
    stage.actors[2].machines.client.submit(signed_op(CHAIN, claim(ESCROW), PROVIDERS[0]), START)
    with broken("provider-2 waits for 1 receipts"):
        checker.finished(0)


def test_causes_that_cannot_matter_are_not_looked_at() -> None:
    stage = Stage(checker := Ledgers())
    accounts = stage.actors[0].machines.ledger._state.accounts
    accounts["U", RENTER.peer].debits_posted += 1
    checker.handled(stage.actors[0], RevealRequest(ESCROW, 0, 1), [], 0)
    checker.handled(stage.actors[1], None, [], 0)
    with broken("I1"):
        checker.handled(stage.actors[0], None, [], 0)
