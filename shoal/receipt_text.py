"""What a checked receipt says: the money of one job, as a table for people and as plain values for programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shoal.output import money, pairs, table, time_text
from shoal.receipt_account import Account

if TYPE_CHECKING:
    from shoal.units_file import UnitsAccount


def account_data(account: Account, path: Path) -> dict[str, object]:
    """For programs."""
    return {
        "path": str(path), "operations": account.operations, "blocks": account.blocks, "cap": account.cap,
        "paid": account.paid, "commission": account.commission, "refunded": account.refunded,
        "slashed": account.slashed, "waiting": account.waiting, "is_closed": account.is_closed,
        "held": account.held, "held_until": account.held_until, "evidence": account.audits, "unknown": account.unknown,
        "movements": account.movements(),
        "handed_over": [
            {"chunk": lease.chunk, "epoch": lease.epoch, "done_ppm": lease.done_ppm, "paid": lease.paid}
            for lease in account.leases.values() if lease.outcome == "handed"
        ],
    }  # fmt: skip


def account_text(account: Account, path: Path, more: Sequence[tuple[str, object]] = ()) -> str:
    """For people; `more` lines stand below the head."""
    moved = account.movements()
    rows = [(name, money(amount)) for name, amount in sorted(moved.items(), key=lambda item: item[1])]
    head = pairs(
        [
            ("receipt", path),
            ("verified", f"{account.operations} operations in {account.blocks} certified blocks"),
            ("escrow", "closed" if account.is_closed else "still open: more may follow"),
            *_held(account),
            *_handed(account),
            *more,
            *(("not shown here", line) for line in account.unknown),
        ]
    )
    return f"{head}\n\n{table(('who', 'credits'), rows, right=(1,))}\nsum {money(sum(moved.values()))}"


def units_data(opened: UnitsAccount) -> dict[str, int]:
    """What opened units prove, for programs."""
    return {
        "claims": opened.claims, "judged": opened.judged, "units": opened.units,
        "executions": opened.executions, "scored": opened.scored,
    }  # fmt: skip


def units_line(opened: UnitsAccount, path: Path) -> str:
    """The same for people."""
    scored = f", {opened.scored} of them within a tolerance, by the judges' word" if opened.scored else ""
    return (
        f"{path}: {opened.claims} of {opened.judged} claims as they were opened; "
        f"{opened.units} units that the beacon drew, under their roots; "
        f"{opened.executions} executions by auditors that say what was found{scored}"
    )


def _held(account: Account) -> list[tuple[str, object]]:
    """Lines where the network has a policy: what waits for disputes, and what no receipt of this job can say."""
    if account.books is None:
        return []
    elsewhere = "while pay is held, a provider's proven fraud in another job takes it back: that is in its receipts"
    slashed = [("slashed", f"at least {money(account.slashed)}, half of it or more burnt")] if account.slashed else []
    if not account.held:
        return list(slashed)
    return [*slashed, ("held", f"{money(account.held)} until {time_text(account.held_until)} UTC; {elsewhere}")]


def _handed(account: Account) -> list[tuple[str, object]]:
    """A line when chunks were handed over: how many leases, and what still waits for the end of its chunk."""
    handed = [lease for lease in account.leases.values() if lease.outcome == "handed"]
    if not handed:
        return []
    paid = sum(lease.paid + lease.commission for lease in handed)
    return [("handed over", f"{len(handed)} leases: {money(paid)} paid, {money(account.waiting)} waiting")]
