"""Bad words between peers, and bad operations on the ledger."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from protocol import operations, wire
from protocol.escrow import SEQUENCED, admit, apply_operation
from protocol.identity import Identity, peer_from_text
from protocol.ledger import check, operation_decoder
from protocol.messages import Beat
from protocol.operations import EscrowClose, Mint, Operation, Transfer
from protocol.units import CREDIT
from tests.bad_input.ground import Row, raised, raising
from tests.protocol.ledger_world import (
    CHAIN,
    OTHER,
    PRICE,
    PROVIDERS,
    RENTER,
    STANDBY,
    STEWARD,
    VALIDATOR,
    World,
    assign,
    claim,
    fence,
    open_escrow,
    settle,
    surrender,
    verdict,
)

SENDER = RENTER.peer
BEAT = Beat(bytes(32), 0, 1, 5, "running")
BEATS = wire.decoder(Beat)


# ── wire ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def beat(name: str, data: bytes, code: str, says: str) -> Row:
    """Bytes that claim to be a heartbeat."""
    return Row(f"wire: {name}", raising(lambda: wire.decode(data, BEATS, SENDER)), code, says)


def map_of(**changes: object) -> bytes:
    fields = msgspec.msgpack.decode(wire.encode(BEAT))
    return msgspec.msgpack.encode(fields | changes)


def statement(name: str, network: str, kind: str, change: Callable[[wire.Signed], wire.Signed]) -> Row:
    """A signed beat, opened as kind `beat` on the test network."""
    signed = change(wire.sign(PROVIDERS[0], network, kind, BEAT))
    act = raising(lambda: wire.open_signed(signed, CHAIN, "beat", BEATS, SENDER))
    return Row(f"signature: {name}", act, "bad_signature", "bad signature on a beat")


def same(signed: wire.Signed) -> wire.Signed:
    return signed


def operation_signed(
    name: str, chain: str, forge: Callable[[operations.SignedOp], operations.SignedOp], says: str
) -> Row:
    """An operation as it reaches a validator."""
    transfer = Transfer(RENTER.peer, 0, 0, OTHER.peer, 5)
    signed = forge(operations.signed_op(chain, transfer, RENTER))
    return Row(f"signature: {name}", raising(lambda: check(signed, CHAIN, SENDER)), "bad_signature", says)


def with_more_money(signed: operations.SignedOp) -> operations.SignedOp:
    body = wire.encode(Transfer(RENTER.peer, 0, 0, OTHER.peer, 500))
    return operations.SignedOp(body, signed.signatures)


# ── ledger ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def refused_by_ledger(world: World, operation: Operation, signers: tuple[Identity, ...]) -> None:
    """The ledger's own path, with the reason whole: an `Outcome` carries only the start of it."""
    state, names = world.ledger._state, frozenset(item.peer for item in signers)
    before = world.money()
    op_id = operations.op_id(wire.encode(operation))
    try:
        if isinstance(operation, SEQUENCED):
            admit(state, operation, names)
        apply_operation(state, operation, op_id, names)
    finally:
        assert world.money() == before, "money moved"
        world.ledger.check()


def ledger(
    name: str, prepare: Callable[[World], bytes], make: Callable[[bytes], Operation], signers: tuple[Identity, ...],
    code: str, says: str,
) -> Row:  # fmt: skip
    """An operation on an escrow that `prepare` made."""

    def step() -> None:
        world = World()
        escrow = prepare(world)
        refused_by_ledger(world, make(escrow), signers)

    return Row(f"ledger: {name}", lambda ground: raised(step), code, says)


def fresh(world: World) -> bytes:
    return world.ok(open_escrow(), RENTER)


def leased(world: World) -> bytes:
    return world.leased()


def claimed(world: World) -> bytes:
    return world.claimed()


def fenced(world: World) -> bytes:
    escrow = world.leased()
    world.ok(fence(escrow), STEWARD, STANDBY)
    world.ok(assign(escrow, epoch=2, provider=PROVIDERS[1]), STEWARD, PROVIDERS[1])
    return escrow


def paid(world: World) -> bytes:
    escrow = world.claimed()
    world.ok(verdict(escrow), VALIDATOR)
    return escrow


def closed(world: World) -> bytes:
    escrow = fresh(world)
    world.ok(EscrowClose(escrow), STEWARD)
    return escrow


BOTH = (STEWARD, PROVIDERS[0])


# ── offers ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def peer_id(text: str) -> Row:
    return Row(f"peer id: {text or 'empty'}", raising(lambda: peer_from_text(text)), "bad_peer_id", "is no peer id")


ROWS = (
    beat("empty", b"", "malformed", "malformed message"),
    beat("noise", b"\xc1\xff\x00", "malformed", "malformed message"),
    beat("unknown tag", map_of(type="evil"), "malformed", "evil"),
    beat("another message", wire.encode(wire.Signed(bytes(32), b"", bytes(64))), "malformed", "signed"),
    beat("unknown field", map_of(extra=1), "malformed", "extra"),
    beat("missing field", msgspec.msgpack.encode({"type": "beat"}), "malformed", "missing required field"),
    beat("wrong type", map_of(chunk="0"), "malformed", "chunk"),
    beat("out of bounds", map_of(epoch=0), "malformed", ">= 1"),
    beat("unknown phase", map_of(phase="sleeping"), "malformed", "sleeping"),
    beat("trailing bytes", wire.encode(BEAT) + b"\x00", "malformed", "malformed message"),
    beat(
        "wide integer",
        wire.encode(BEAT).replace(b"\xa8sequence\x05", b"\xa8sequence\xce\x00\x00\x00\x05"),
        "not_canonical",
        "canonical",
    ),
    beat("too large", bytes(wire.MESSAGE_BYTES_MAX + 1), "over_limit", f"at most {wire.MESSAGE_BYTES_MAX}"),
    beat("bomb", b"\x91" * 60_000, "malformed", "malformed message"),
    statement("of another network", "other-net", "beat", same),
    statement("of another kind", CHAIN, "offer", same),
    statement("somebody else's name on it", CHAIN, "beat", lambda s: msgspec.structs.replace(s, signer=OTHER.peer)),
    statement("changed body", CHAIN, "beat", lambda s: msgspec.structs.replace(s, body=map_of(sequence=6))),
    statement("zeros", CHAIN, "beat", lambda s: msgspec.structs.replace(s, signature=bytes(64))),
    operation_signed("operation of another chain", "other-net", lambda s: s, "bad signature of"),
    operation_signed("operation with another amount", CHAIN, with_more_money, "bad signature of"),
    operation_signed(
        "operation signed twice",
        CHAIN,
        lambda s: msgspec.structs.replace(s, signatures=s.signatures * 2),
        "signs an operation twice",
    ),
    Row(
        "wire: operation of no kind",
        raising(lambda: wire.decode(map_of(), operation_decoder, SENDER)),
        "malformed",
        "beat",
    ),
    peer_id(""),
    peer_id("12D3KooW"),
    peer_id("QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG"),
    ledger("escrow nobody opened", lambda w: bytes(32), claim, PROVIDERS[:1], "no_escrow", "escrow"),
    ledger(
        "escrow twice",
        fresh,
        lambda e: open_escrow(sequence=0),
        (RENTER,),
        "sequence_used",
        "expects sequence 1, not 0",
    ),
    ledger(
        "sequence left out",
        fresh,
        lambda e: open_escrow(sequence=7),
        (RENTER,),
        "sequence_gap",
        "expects sequence 1, not 7",
    ),
    ledger("somebody else's money", fresh, lambda e: open_escrow(sequence=1), (OTHER,), "not_signed", "the owner"),
    ledger(
        "more than there is",
        fresh,
        lambda e: open_escrow(cap=10**6 * CREDIT, sequence=1),
        (RENTER,),
        "insufficient_user",
        "user holds 900000000 free",
    ),
    ledger(
        "deadline in the past",
        fresh,
        lambda e: open_escrow(sequence=1, deadline=5),
        (RENTER,),
        "bad_times",
        "is not after now",
    ),
    ledger(
        "money to oneself",
        fresh,
        lambda e: Transfer(RENTER.peer, 0, 1, RENTER.peer, 5),
        (RENTER,),
        "same_account",
        "are the same",
    ),
    ledger(
        "money out of nothing", fresh, lambda e: Mint(bytes(32), RENTER.peer, 5), (RENTER,), "not_signed", "validators"
    ),
    ledger("lease without the provider", fresh, assign, (STEWARD,), "not_signed", "the provider"),
    ledger("lease without the steward", fresh, assign, (PROVIDERS[0],), "not_signed", "the steward or the renter"),
    ledger(
        "lease of a leased chunk",
        leased,
        lambda e: assign(e, epoch=2),
        BOTH,
        "wrong_state",
        "chunk 0 is assigned, not free",
    ),
    ledger(
        "lease of a paid chunk", paid, lambda e: assign(e, epoch=2), BOTH, "wrong_state", "chunk 0 is paid, not free"
    ),
    ledger("lease from the future", fresh, lambda e: assign(e, epoch=9), BOTH, "future_epoch", "the next is 1, not 9"),
    ledger(
        "lease dearer than the escrow",
        fresh,
        lambda e: assign(e, price=10**4 * CREDIT),
        BOTH,
        "insufficient_escrow",
        "escrow holds 100000000 free",
    ),
    ledger(
        "lease beyond the deadline", fresh, lambda e: assign(e, verdict_by=2**60), BOTH, "bad_times", "does not hold"
    ),
    ledger(
        "lease without watchers",
        fresh,
        lambda e: assign(e, watchers=(OTHER.peer,) * 3),
        BOTH,
        "bad_watchers",
        "watchers are distinct",
    ),
    ledger("claim twice", claimed, claim, PROVIDERS[:1], "wrong_state", "chunk 0 is claimed, not assigned"),
    ledger("claim of a lost lease", fenced, claim, PROVIDERS[:1], "stale_epoch", "is at epoch 2; 1 is over"),
    ledger(
        "claim of tomorrow's lease", leased, lambda e: claim(e, epoch=2), PROVIDERS[:1], "future_epoch", "not yet at 2"
    ),
    ledger("claim by somebody else", leased, claim, PROVIDERS[1:2], "not_signed", "the provider"),
    ledger("claim after payment", paid, claim, PROVIDERS[:1], "wrong_state", "chunk 0 is paid"),
    ledger(
        "verdict of no validator", claimed, verdict, (PROVIDERS[0],), "not_signed", "validators with power 1, has 0"
    ),
    ledger(
        "verdict before the claim", leased, verdict, (VALIDATOR,), "wrong_state", "chunk 0 is assigned, not claimed"
    ),
    ledger("verdict twice", paid, verdict, (VALIDATOR,), "wrong_state", "chunk 0 is paid, not claimed"),
    ledger("fence by one watcher", leased, fence, (STEWARD,), "not_signed", "2 watchers, has 1"),
    ledger("fence by strangers", leased, fence, (RENTER, VALIDATOR), "not_signed", "2 watchers, has 0"),
    ledger("fence of a lost lease", fenced, fence, (STEWARD, STANDBY), "stale_epoch", "is at epoch 2"),
    ledger("surrender by somebody else", leased, surrender, (OTHER,), "not_signed", "the provider"),
    ledger(
        "voucher over the price", leased, lambda e: settle(e, PRICE + 1), BOTH, "over_price", f"the price is {PRICE}"
    ),
    ledger(
        "voucher without the renter",
        leased,
        lambda e: settle(e, 1),
        PROVIDERS[:1],
        "not_signed",
        "the steward or the renter",
    ),
    ledger("close while leased", leased, EscrowClose, (STEWARD,), "leases_open", "1 chunks are still leased"),
    ledger("close twice", closed, EscrowClose, (STEWARD,), "escrow_closed", "is closed"),
    ledger("close by a stranger", fresh, EscrowClose, (OTHER,), "not_signed", "the steward or the renter"),
)
