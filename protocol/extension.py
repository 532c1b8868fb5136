"""Raising what a funded job may spend: the renter adds to the escrow, the ledger decides. Spec: specs/14-steward.md.

One extension of a job at a time: the next is a difference to a cap that is known only when this one is decided.
"""

from __future__ import annotations

from typing import Final

from protocol import wire
from protocol.effects import Emit
from protocol.errors import Refused
from protocol.job_record import JobRecord
from protocol.ledger_client import Ordered
from protocol.operations import EscrowExtend, SignedOp
from protocol.units import CREDIT, DAY, PeerId

EXTENSION_TIME: Final = DAY
"""Microseconds that an extension adds to the deadline: work that waited for money gets time as well."""


def operation(record: JobRecord, spend_cap: int, sequence: int) -> EscrowExtend:
    """What the renter signs to raise the cap to a `spend_cap` (smallest units) that `check` passed."""
    amount = spend_cap - record.cap
    return EscrowExtend(record.renter, 0, sequence, record.escrow, amount, record.deadline + EXTENSION_TIME)


def check(record: JobRecord, spend_cap: int | None, available: int) -> int:
    """The new cap. `Refused` when the job is not at work, the cap would not rise, or the free credits are short."""
    if not record.is_open:
        raise Refused(
            f"the job is {record.state}",
            code="not_extendable",
            fix="Extend a quoted, queued or running job; submit what is left as another job.",
        )
    if spend_cap is None or spend_cap <= record.cap:
        given = "none" if spend_cap is None else f"{spend_cap / CREDIT:g}"
        raise Refused(
            f"the escrow's cap is {record.cap / CREDIT:g} credits and can only rise; the spend_cap given is {given}",
            code="not_extendable",
            fix="Give a spend_cap above the present one.",
            numbers={"cap": record.cap, "spend_cap": spend_cap or 0},
        )
    if record.extend_op:
        raise Refused(
            f"an extension to {record.extend_cap / CREDIT:g} credits is on its way to the ledger",
            code="not_extendable",
            fix="Try again in a few seconds.",
            numbers={"cap": record.cap, "under_way": record.extend_cap},
        )
    needed = spend_cap - record.cap
    if available < needed:
        raise Refused(
            f"the extension needs {needed / CREDIT:g} credits, {available / CREDIT:g} are available",
            code="insufficient_funds",
            fix="Deposit more, or give a lower spend_cap.",
            numbers={"needed": needed, "available": available},
        )
    return spend_cap


def begin(record: JobRecord, signed: SignedOp, spend_cap: int) -> None:
    """The operation is on its way; it goes out again after a restart until the ledger has decided."""
    record.extend_op, record.extend_cap = wire.encode(signed), spend_cap


def decided(record: JobRecord, extend: EscrowExtend, event: Ordered) -> bool:
    """Raise the record's cap and deadline when the ledger did. False when the operation is not the awaited one:
    what came from elsewhere, or was counted before a restart, is taken from the ledger itself (`catch_up`)."""
    if not record.extend_op:
        return False
    awaited = wire.decode(record.extend_op, _op_decoder, PeerId(record.renter))
    if awaited.op_id != event.outcome.op:
        return False
    if event.is_applied:
        catch_up(record, record.extend_cap, extend.deadline)
    record.extend_op, record.extend_cap = b"", 0
    return True


def told(record: JobRecord, extend: EscrowExtend, event: Ordered) -> Emit | None:
    """What people hear of an awaited extension that was decided; None when it is not the awaited one."""
    if not decided(record, extend, event):
        return None
    job = record.job.hex()
    if event.is_applied:
        return Emit("extended", {"job": job, "cap": record.cap})
    return Emit("refused", {"job": job, "code": event.outcome.code, "detail": event.outcome.detail})


def catch_up(record: JobRecord, cap: int, deadline: int) -> bool:
    """Caps and deadlines of an escrow only rise, so the larger one is the newer one. True when anything changed."""
    if cap <= record.cap and deadline <= record.deadline:
        return False
    record.cap, record.deadline = max(record.cap, cap), max(record.deadline, deadline)
    return True


_op_decoder: Final = wire.decoder(SignedOp)
