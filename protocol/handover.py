"""Handing a running chunk over: what provider and steward say, and what the steward signs. Spec: specs/28-recovery.md.

The provider signs a `Handover` that names a durable snapshot and the share of the chunk that is done. The steward signs
the same bytes, if they say no more than that snapshot and the clock show, and hands them to the ledger.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from protocol import operations, wire
from protocol.errors import RemoteViolation
from protocol.escrow_state import ChunkLease
from protocol.identity import Identity, is_signed_by
from protocol.operations import HANDED_PPM_MAX, Handover, Hash, Key, Operation, Reason, SignedOp
from protocol.snapshots import Manifest
from protocol.units import PPM, Micros, PeerId

PACE_MAX: Final = 10
"""How many times faster than the job's estimate a chunk is believed to go on; the loops' word counts no further."""

TIMED_PPM_MAX: Final = 500_000
"""Share that time alone can show, ppm: where the loops do not tell how long they are, nobody knows what is left."""

_operations: Final[msgspec.msgpack.Decoder[Operation]] = msgspec.msgpack.Decoder(Operation)


class HandoverProposal(Struct, frozen=True, forbid_unknown_fields=True, tag="handover_proposal"):
    """From a provider that leaves to its steward: the `Handover`, signed by the provider."""

    operation: SignedOp


class HandoverAnswer(Struct, frozen=True, forbid_unknown_fields=True, tag="handover_answer"):
    """From the steward: signed and handed to the ledger (`code` is empty), or why not."""

    escrow: Hash
    chunk: Annotated[int, Meta(ge=0, le=4096)]
    epoch: Annotated[int, Meta(ge=1, le=1_000)]
    code: Reason
    to: Annotated[tuple[Key, ...], Meta(max_length=1)] = ()
    """Who goes on with it, where somebody stands by."""


def shown_share(step: int, units: int) -> int:
    """The share of a chunk, ppm, that a snapshot of so many steps can show: of a chunk with units those that its worker
    signed for, of another (`units` 0) whatever its loops tell.

    >>> shown_share(3, 8), shown_share(3, 0)
    (375000, 1000000)
    """
    return min(PPM, step * PPM // units) if units else PPM


def done_share(progress_ppm: int, before_ppm: int, elapsed: Micros, estimate: Micros, shown_ppm: int = PPM) -> int:
    """The share of the whole chunk, ppm, that a lease brought it to: what its loops tell, but not faster than PACE_MAX;
    where they tell nothing, the hours worked, which is what the price is made of. Never more than the snapshot shows.

    >>> done_share(400_000, 0, Micros(20), Micros(60)), done_share(0, 0, Micros(20), Micros(60))
    (400000, 333333)
    """
    timed = elapsed * PPM // estimate
    if progress_ppm:
        reached = min(progress_ppm, before_ppm + timed * PACE_MAX)
    else:
        reached = min(before_ppm + timed, TIMED_PPM_MAX)
    return max(before_ppm, min(reached, shown_ppm, HANDED_PPM_MAX))


def review(
    operation: Handover,
    lease: ChunkLease,
    snapshot: tuple[bytes, Manifest] | None,
    estimate: Micros,
    ledger_now: Micros,
    units: int = 0,
) -> str:
    """Why the steward would not sign; '' = it signs. `lease`: the ledger's; `snapshot`: body and content of the newest
    durable manifest that the steward has checked; `units`: of the whole chunk."""
    if lease.epoch != operation.epoch:
        return "stale_epoch" if operation.epoch < lease.epoch else "future_epoch"
    if lease.state != "assigned":
        return "wrong_state"
    if snapshot is None or wire.digest(snapshot[0]) != operation.snapshot:
        return "unknown_snapshot"
    manifest = snapshot[1]
    if (manifest.chunk, manifest.epoch, manifest.step) != (operation.chunk, operation.epoch, operation.step):
        return "other_snapshot"
    elapsed, shown = Micros(ledger_now - lease.assigned_at), shown_share(manifest.step, units)
    most = done_share(manifest.progress_ppm, lease.done_ppm, elapsed, estimate, shown)
    return "" if lease.done_ppm <= operation.done_ppm <= most else "bad_share"


def opened(network: str, sender: PeerId, proposal: HandoverProposal) -> Handover:
    """The operation in a proposal, signed by its sender; else RemoteViolation."""
    operation = wire.decode(proposal.operation.body, _operations, sender)
    data = wire.signing_bytes(network, "op", proposal.operation.body)
    is_signed = any(
        item.signer == sender and is_signed_by(sender, data, item.signature) for item in proposal.operation.signatures
    )
    if not isinstance(operation, Handover) or not is_signed:
        raise RemoteViolation(sender, "a proposal holds a handover signed by its sender", code="malformed")
    return operation


def countersigned(steward: Identity, network: str, provider: PeerId, proposal: HandoverProposal) -> SignedOp:
    """The operation with both signatures and no other, ready for the ledger."""
    body = proposal.operation.body
    theirs = tuple(item for item in proposal.operation.signatures if item.signer == provider)
    return SignedOp(body, (*theirs[:1], operations.sign_op(steward, network, body)))
