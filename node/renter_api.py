"""`renter.*` of the control socket: keys and credits of the renters of this node. Spec: specs/16-control.md."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from node.control_methods import RenterCreateParams, RenterDepositParams, RenterParams
from node.parts import Parts
from node.views import Plain, job_text
from protocol import operations, wire
from protocol.errors import Refused
from protocol.identity import Identity, peer_from_text, peer_text
from protocol.operations import SignedOp, Transfer
from protocol.units import PeerId

DEPOSIT_TIMEOUT_S: Final = 20.0
"""Seconds that a deposit waits for the ledger before it is `unavailable`; asking again with its reference is safe."""


class RenterApi:
    """`renter.*`: keys and free credits of the renters that this node serves."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def create(self, params: RenterCreateParams) -> Plain:
        """A renter's key, derived from the node's seed and the name: the same name is the same renter."""
        renter = renter_identity(self._parts.identity, params.name)
        self._parts.steward.renters[renter.peer] = renter
        self._parts.records.put(f"renter/{params.name}", renter.peer)
        return {"renter": peer_text(renter.peer)}

    async def balance(self, params: RenterParams) -> Plain:
        """Free and escrowed credits, and every move of them; one line for each job that ended long ago."""
        peer, ledger = peer_from_text(params.renter), self._parts.ledger()
        escrows = [escrow for escrow in ledger.escrows.values() if escrow.owner == peer]
        held = sum(ledger.available("E", escrow.id) for escrow in escrows) + sum(
            chunk.price
            for escrow in escrows
            for chunk in escrow.chunks.values()
            if chunk.state in ("assigned", "claimed")
        )
        lines = [
            {"time": 0, "kind": "deposit", **self._deposit(value)}
            for _, value in self._parts.records.scan(f"deposit/{peer.hex()}/")
        ]
        lines += [
            {"time": past.closed, "kind": "spent", "amount": past.refunded - past.cap, "note": job_text(past.job)}
            for past in ledger.bygone.values()
            if past.owner == peer
        ]
        lines += [
            {
                "time": line.time,
                "kind": line.kind,
                "amount": line.amount if line.credit == ("U", peer) else -line.amount,
                "note": line.note,
            }
            for escrow in escrows
            for line in escrow.lines
            if ("U", peer) in (line.debit, line.credit)
        ]
        return {"available": ledger.available("U", peer), "escrowed": held, "lines": lines}

    @staticmethod
    def _deposit(value: bytes) -> Plain:
        deposit = _deposit_decoder.decode(value)
        return {"amount": deposit.amount, "note": deposit.reference}

    async def deposit(self, params: RenterDepositParams) -> Plain:
        """Credits from this node's own account to the renter's; the same reference moves them once."""
        parts, peer = self._parts, peer_from_text(params.renter)
        if peer not in parts.steward.renters:
            raise Refused(
                "this node keeps no key for that renter", code="unknown_renter", fix="Create the renter first."
            )
        key = f"deposit/{peer.hex()}/{params.reference}"
        known = parts.records.get(key)
        if known is None:
            deposit = self._new_deposit(peer, params)
            parts.records.put(key, msgspec.msgpack.encode(deposit))
        else:
            deposit = _deposit_decoder.decode(known)
            if deposit.amount != params.amount:
                raise Refused(
                    f"reference {params.reference!r} moved {deposit.amount} before, not {params.amount}",
                    code="reference_reused",
                    fix="Use a new reference for another deposit.",
                    numbers={"before": deposit.amount, "now": params.amount},
                )
        if parts.ledger().next_sequence(parts.identity.peer, 0) <= deposit.sequence:
            parts.driver.command(parts.client, lambda now: parts.client.submit(deposit.operation, now))
            try:
                await parts.outcomes.applied(deposit.operation.op_id, DEPOSIT_TIMEOUT_S)
            except Refused:
                parts.records.put(key, None)
                raise
        return {"available": parts.ledger().available("U", peer)}

    def _new_deposit(self, renter: PeerId, params: RenterDepositParams) -> Deposit:
        parts = self._parts
        have = parts.ledger().available("U", parts.identity.peer)
        if have < params.amount:
            raise Refused(
                f"this node has {have} free, {params.amount} are asked for",
                code="insufficient_funds",
                fix="Give the gateway's node more credits.",
                numbers={"needed": params.amount, "available": have},
            )
        sequence = parts.steward.sequence(parts.identity.peer)
        operation = Transfer(parts.identity.peer, 0, sequence, renter, params.amount)
        signed = operations.signed_op(parts.config.network, operation, parts.identity)
        return Deposit(params.amount, params.reference, sequence, signed)


class Deposit(Struct, frozen=True):
    """A transfer to a renter, kept so that asking again sends the very same operation."""

    amount: int
    reference: str
    sequence: int
    operation: SignedOp


_deposit_decoder: Final = msgspec.msgpack.Decoder(Deposit)


def renter_identity(node: Identity, name: str) -> Identity:
    """The renter's key pair of that name at this node."""
    return Identity(bytes(wire.digest(b"shoal/1\0renter\0" + node.seed + name.encode())))
