"""What a provider makes of the units that others have done before it: it goes on from no snapshot for whose units
nobody answers, and its claim names who does. Spec: specs/31-units.md.
"""

from __future__ import annotations

from protocol.completions import RunDone
from protocol.effects import Effect, Emit
from protocol.ledger import Ledger
from protocol.operations import Inherited
from protocol.prefix import fault_in
from protocol.provider_lease import Lease


def check(lease: Lease, network: str, ledger: Ledger) -> list[Effect]:
    """Before a lease of a chunk with units begins: without those who answer for what it would inherit it begins at its
    beginning. The states themselves are checked where they arrive. A ledger that has come to this very lease knows all
    before it: what it does not know the claim would be refused for, after the work."""
    resume = lease.resume
    if resume is None or not lease.units:
        return []
    escrow = ledger.escrows.get(lease.assign.escrow)
    known = escrow.chunks.get(lease.assign.chunk) if escrow is not None else None
    former = known.former if known is not None else {}
    is_whole = known is not None and known.epoch == lease.assign.epoch
    fault = fault_in(network, lease.assign.escrow, lease.assign.chunk, resume.manifest.inherited, former, is_whole)
    if not fault:
        return []
    lease.resume = None
    where: dict[str, str | int] = {
        "job": lease.job.hex(), "chunk": lease.assign.chunk, "epoch": lease.assign.epoch, "why": fault,
    }  # fmt: skip
    return [Emit("began_again", where)]


def of(lease: Lease, done: RunDone) -> tuple[Inherited, ...]:
    """Who answers for the units before the one at which a run went on; nobody where it began at the beginning."""
    if lease.resume is None or not done.begun:
        return ()
    return lease.resume.manifest.inherited or ()
