"""What a job's results have to have cost, whatever became of them: paid at once, held, forfeited, or found late."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from protocol.escrow_state import Escrow
from protocol.held import Held
from protocol.ledger import Ledger


def mistakes(ledger: Ledger) -> Iterator[tuple[str, bytes]]:
    """(what is wrong, escrow) wherever more or less was paid than results are worth, or money is missing at the end."""
    items: defaultdict[bytes, list[Held]] = defaultdict(list)
    for held in ledger.held.values():
        items[held.escrow].append(held)
    for escrow in ledger.escrows.values():
        mine = items[escrow.id]
        spent = escrow.paid + escrow.commission
        least, most = worth(escrow, mine, ledger.policy is not None)
        gone = spent + escrow.evidence + escrow.refunded
        if not least <= spent <= most or (escrow.is_closed and gone != escrow.cap):
            wanted = str(least) if least == most else f"{least} to {most}"
            detail = f"{spent} were paid for what is worth {wanted}, {escrow.evidence} for evidence"
            yield f"{detail}, {escrow.refunded} of {escrow.cap} went back", escrow.id
        count = sum(not held.end for held in mine)
        if count != escrow.held or (escrow.is_closed and count):
            yield f"{count} decisions are held, the escrow says {escrow.held}", escrow.id


def worth(escrow: Escrow, items: list[Held], has_policy: bool) -> tuple[int, int]:
    """Between what the job's results must have cost until now, commission included. Held and forfeited pay is none.
    The two differ where judges were mistaken: the provider gets what the escrow has left then, at most its price."""
    chunks = escrow.chunks.values()
    shares = sum(one.amount for chunk in chunks for one in chunk.carried if one.outcome == "paid")
    shares += sum(chunk.price for chunk in chunks if chunk.outcome == "settled")
    if not has_policy:
        whole = shares + sum(chunk.price for chunk in chunks if chunk.outcome == "accept")
        return whole, whole
    final = [held for held in items if held.end == "paid"]
    least = shares + sum(held.price for held in final if held.is_pay)
    late = [held for held in final if not held.is_pay]
    return least, least + sum(held.price + sum(amount for _, amount in held.spoilt) for held in late)
