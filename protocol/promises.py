"""Keeps promises or takes them back, and writes both on the statement of the escrow that they belong to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from protocol.accounts import AccountKey, Move, Pend, Post, PostPend, VoidPend
from protocol.escrow_state import Escrow, LedgerState, Line


class Part(NamedTuple):
    """What becomes of one promise. A promise of nothing was never made, and is passed over."""

    id: bytes
    kept: int
    """Smallest units that move; the rest is free again."""
    kind: str
    """Of the line for what moves."""
    back: str
    """Of the line for the rest."""


def resolve(state: LedgerState, escrow: Escrow, note: str, parts: Iterable[Part]) -> None:
    """Resolve promises in one group."""
    moves: list[Move] = []
    for part in parts:
        pend = state.accounts.pending.get(part.id)
        if pend is None:
            continue
        moves.append(PostPend(part.id, part.kept) if part.kept else VoidPend(part.id))
        if part.kept:
            escrow.lines.append(Line(state.time, pend.debit, pend.credit, part.kept, part.kind, note))
        if part.kept < pend.amount:
            rest = pend.amount - part.kept
            escrow.lines.append(Line(state.time, pend.credit, pend.debit, rest, part.back, note))
    state.accounts.apply(moves)


def promise(state: LedgerState, escrow: Escrow, note: str, pend: Pend, kind: str) -> None:
    """Make one promise of more than nothing."""
    state.accounts.apply([pend])
    escrow.lines.append(Line(state.time, pend.debit, pend.credit, pend.amount, kind, note))


def move(
    state: LedgerState, escrow: Escrow, note: str, debit: AccountKey, credit: AccountKey, amount: int, kind: str
) -> None:
    """Move money now; nothing is no move."""
    if amount:
        state.accounts.apply([Post(debit, credit, amount)])
        escrow.lines.append(Line(state.time, debit, credit, amount, kind, note))
