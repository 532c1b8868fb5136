"""Who answers for the first units of a claim that went on from a snapshot: the providers of earlier leases.

A claim brings their signed words along; a verdict may find the fault in one of them. Spec: specs/32-economics.md.
"""

from __future__ import annotations

from typing import Final

from protocol.errors import Refused
from protocol.escrow_state import ChunkLease, Escrow, LedgerState
from protocol.held import Held, held_id
from protocol.operations import Claim, Verdict
from protocol.prefix import fault_in

UNJUDGED: Final = frozenset({"handed", "fenced", "surrendered", "expired", "undecided"})
"""Ends of a lease without a verdict: nobody has looked at its units, and a snapshot of it may be gone on from."""

BLAMABLE: Final = frozenset({"wrong", "fraud", "rejected"})
"""Findings about single units: what they say of a claim they can say of the units before it."""

VOID: Final = "void"
"""How a lease ended whose claim rests on bad units of an earlier one: no pay, and no fault of its provider."""


def remember(lease: ChunkLease, outcome: str) -> None:
    """The lease ends like this; a later claim may name it."""
    if outcome in UNJUDGED:
        lease.former[lease.epoch] = lease.provider


def heirloom(state: LedgerState, escrow: Escrow, lease: ChunkLease, op: Claim) -> dict[int, bytes]:
    """Epoch -> provider of everybody on whose word the claim rests. `Refused` unless each signed for it."""
    words, former = op.inherited or (), lease.former | lease.tainted
    if not words:
        return {}
    fault = fault_in(state.chain, escrow.id, lease.chunk, words, former, is_whole=True)
    if not fault and words[-1].units >= (op.units or 0):
        fault = "the units that others did are all that the claim has"
    if fault:
        raise Refused(
            fault,
            code="bad_inheritance",
            fix="Go on from a snapshot whose signers' leases ended without a verdict, or begin at unit 0.",
            numbers={"epoch": op.epoch, "units": op.units or 0, "inherited": words[-1].units},
        )
    return {item.epoch: former[item.epoch] for item in words}


def blamed(lease: ChunkLease, op: Verdict) -> bytes:
    """Provider of the earlier lease that the verdict blames; empty where it blames none. `Refused` where it cannot."""
    if not op.blamed:
        return b""
    provider = lease.inherited.get(op.blamed, b"")
    if not provider or op.outcome not in BLAMABLE:
        raise Refused(
            f"a finding of {op.outcome} cannot be laid to epoch {op.blamed} of chunk {lease.chunk}",
            code="bad_blame",
            fix="Blame a lease that the claim inherited from, for units that are wrong, or blame none.",
            numbers={"blamed": op.blamed, "epoch": op.epoch},
        )
    return provider


def correct(state: LedgerState, lease: ChunkLease, held: Held) -> None:
    """A lease that stands blamed is not inherited from; one that does not may be named again. Who has gone on from it
    between two rulings could not know, and is not refused after the work: judges look at all such claims."""
    if held.blamed and held.finding == "accept":
        if any(item.finding != "accept" for item in siblings(state, held)):
            return
        lease.former[held.blamed] = held.provider
    elif held.blamed in lease.former:
        del lease.former[held.blamed]
        if lease.state == "assigned":
            lease.tainted[held.blamed] = held.provider


def siblings(state: LedgerState, held: Held) -> list[Held]:
    """Other decisions that lay bad units to the same lease, oldest first: there are some where somebody went on from it
    between two rulings."""
    if not held.blamed:
        return []
    last = state.escrows[held.escrow].chunks[held.chunk].epoch
    places = (held_id(held.escrow, held.chunk, epoch) for epoch in range(held.blamed + 1, last + 1))
    others = (item for place in places if (item := state.held.get(place)) is not None and item is not held)
    return [item for item in others if item.blamed == held.blamed]
