"""What a finding costs, in stake: how much, from where, and what becomes of it. Spec: specs/32-economics.md.

A slash is promised to the treasury while it may be appealed. Once it is final at least half of it leaves the world.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from protocol import inheritance
from protocol.accounts import FEES, RESERVE, TREASURY, AccountKey, Pend, Post
from protocol.escrow_state import Escrow, LedgerState
from protocol.held import EVIDENCE, FAULT, FINE, SPOILS, Fine, Held
from protocol.operations import commission, slash
from protocol.policy import BURN_MIN, Policy
from protocol.promises import Part, move, promise, resolve
from protocol.units import PPM

SEVERE_PPM: Final = 500_000
"""Share of the stake for a severe fault: half (features L2)."""

WITHHELD_PPM: Final = 10_000
"""Share of the stake for the first claim whose data was not shown; it doubles with each (research note, 3.4)."""

WITHHELD_PPM_MAX: Final = 50_000
"""Where the doubling ends: data may be lost without intent."""

OFFLINE_PPM: Final = 10_000
"""Share of the stake per day of absence after the seventh (features L2), and for a part of a beacon kept shut."""


def stake(state: LedgerState, peer: bytes) -> int:
    """All that a peer can lose, smallest units: bound, promised as collateral, or on its way out."""
    return state.accounts.balance(("S", peer)) + state.accounts.balance(("B", peer))


def withheld_ppm(times: int) -> int:
    """Share of the stake for the `times`-th claim whose data was not shown, parts per million.

    >>> [withheld_ppm(times) for times in (1, 2, 3, 4, 100)]
    [10000, 20000, 40000, 50000, 50000]
    """
    return min(WITHHELD_PPM_MAX, WITHHELD_PPM << min(max(0, times - 1), 8))


def amount(state: LedgerState, held: Held, taken: int = 0) -> int:
    """What the finding costs the provider, collateral included, smallest units. `taken`: what it has lost already by
    other findings about the same units."""
    whole = stake(state, held.provider) + taken
    match held.finding:
        case "wrong":
            return slash(held.price, held.price if held.blamed else held.collateral, "wrong")
        case "fraud":
            return whole
        case "severe":
            return whole * SEVERE_PPM // PPM
        case "withheld":
            return whole * withheld_ppm(state.standing(held.provider).withheld) // PPM
        case _:
            return 0


def pend(state: LedgerState, escrow: Escrow, held: Held) -> None:
    """Promise what the finding costs: the lease's collateral first, then stake, then stake on its way out."""
    others = inheritance.siblings(state, held)
    if others:
        pending = [item for item in others if not item.end]
        _pend_one(state, escrow, [held, *pending], [item for item in others if item.end])
    else:
        _pend(state, escrow, held, amount(state, held))


def _pend(state: LedgerState, escrow: Escrow, held: Held, due: int) -> None:
    held.due = min(held.collateral, due)
    held.fines = _fines(state, escrow, held, held.provider, due - held.due, held.assign + FINE + bytes([held.round]))


def _take_back(state: LedgerState, escrow: Escrow, items: Iterable[Held]) -> None:
    for item in items:
        note = note_of(item, "found more than once")
        resolve(state, escrow, note, [Part(fine.id, 0, "slash", "return") for fine in item.fines])
        item.fines = []


def _pend_one(state: LedgerState, escrow: Escrow, items: Sequence[Held], final: Sequence[Held]) -> None:
    """Nobody pays twice for one unit: of several findings about the same ones that may be appealed, the costliest alone
    promises something, as much as it costs beyond what final ones have taken; nothing after fraud, which takes all."""
    _take_back(state, escrow, items)
    if any(item.finding == "fraud" for item in final):
        return
    notes = {note_of(item, item.finding) for item in final}
    taken = sum(line.amount for line in escrow.lines if line.kind == "slash" and line.note in notes)
    payer = max(items, key=lambda item: (amount(state, item, taken), -item.epoch))
    _pend(state, escrow, payer, max(0, amount(state, payer, taken) - taken))


def pend_faults(state: LedgerState, escrow: Escrow, held: Held, policy: Policy) -> None:
    """Promise stake of auditors whose word was refuted."""
    for index, auditor in enumerate(held.faulted):
        due = stake(state, auditor) * policy.auditor_slash // PPM
        held.faults += _fines(state, escrow, held, auditor, due, held.assign + FAULT + bytes([index]))


def void(state: LedgerState, escrow: Escrow, held: Held) -> None:
    """The finding is overturned: every promise for it is taken back."""
    note = note_of(held, "overturned")
    resolve(state, escrow, note, [Part(fine.id, 0, "slash", "return") for fine in (*held.fines, *held.faults)])
    held.due, held.fines, held.faults = 0, [], []


def collect(state: LedgerState, escrow: Escrow, held: Held) -> int:
    """The finding is final: take the slash, burn, reward who proved it, pay who audited it. The amount taken."""
    note, others = note_of(held, held.finding), inheritance.siblings(state, held)
    final, pending = ([item for item in others if bool(item.end) == is_over] for is_over in (True, False))
    if pending:  # What is final pays first, whatever the others come to.
        _take_back(state, escrow, pending)
        _pend_one(state, escrow, [held], final)
    parts = [Part(fine.id, fine.amount, "slash", "return") for fine in held.fines]
    resolve(state, escrow, note, [Part(held.assign + b"s", held.due, "slash", "return"), *parts])
    taken = held.due + sum(fine.amount for fine in held.fines)
    if held.finding == "fraud" and all(item.finding != "fraud" for item in final):
        taken += _sweep(state, escrow, held, note)
    if pending:
        _pend_one(state, escrow, pending, [*final, held])
    escrow.slashed += taken
    rest = burn(state, escrow, note, taken)
    if held.winner:
        move(state, escrow, note, TREASURY, ("U", held.winner), rest, "reward")
    elif held.is_audited:
        owed = audit_fee(state, held) + (held.cover if held.finding == held.verdict else 0)
        pay_auditors(state, escrow, note, TREASURY, held.auditors, min(rest, owed))
    return taken


def collect_faults(state: LedgerState, escrow: Escrow, held: Held) -> None:
    """Take what auditors lose whose word was refuted."""
    note = note_of(held, "refuted audit")
    resolve(state, escrow, note, [Part(fine.id, fine.amount, "slash", "return") for fine in held.faults])
    taken = sum(fine.amount for fine in held.faults)
    escrow.slashed += taken
    burn(state, escrow, note, taken)


def burn(state: LedgerState, escrow: Escrow, note: str, taken: int) -> int:
    """Let the policy's share of what the treasury has just got leave the world; what is left of it."""
    burnt = burnt_of(state, taken)
    move(state, escrow, note, TREASURY, RESERVE, burnt, "burn")
    return taken - burnt


def burnt_of(state: LedgerState, taken: int) -> int:
    """The share of a slash that is burnt, rounded up."""
    return -(-taken * (state.policy.burn if state.policy is not None else BURN_MIN) // PPM)


def charge(state: LedgerState, peer: bytes, ppm: int) -> int:
    """Take a share of a peer's stake at once, of what is neither promised nor on its way out; the amount taken."""
    due = max(1, stake(state, peer) * ppm // PPM)
    taken = min(due, state.accounts.available(("S", peer)))
    if taken:
        state.accounts.apply([Post(("S", peer), TREASURY, taken)])
        state.accounts.apply([Post(TREASURY, RESERVE, burnt_of(state, taken))])
    return taken


def cover_evidence(state: LedgerState, escrow: Escrow, held: Held, evidence: int) -> None:
    """The audit of a result that is slashed is paid by the slash as far as that goes: the escrow has the chunk's next
    lease to pay. Without an audit nobody is."""
    taken = held.due + sum(fine.amount for fine in held.fines)
    held.cover = min(evidence, taken - burnt_of(state, taken)) if held.is_audited else 0
    held.evidence = evidence - held.cover if held.is_audited else 0
    if held.evidence == evidence:
        return
    note = note_of(held, "evidence")
    resolve(state, escrow, note, [Part(held.assign + EVIDENCE, 0, "evidence", "release")])
    if held.evidence:
        key = held.assign + EVIDENCE
        promise(state, escrow, note, Pend(key, escrow.account, FEES, held.evidence), "reserve")


def pay_evidence(
    state: LedgerState, escrow: Escrow, note: str, assign: bytes, auditors: Sequence[bytes], amount: int
) -> None:
    """So much of what the escrow set aside for an audit to its auditors; the rest is the renter's again."""
    resolve(state, escrow, note, [Part(assign + EVIDENCE, amount, "evidence", "release")])
    pay_auditors(state, escrow, note, FEES, auditors, amount)
    escrow.evidence += amount


def pay_auditors(
    state: LedgerState, escrow: Escrow, note: str, debit: AccountKey, auditors: Sequence[bytes], amount: int
) -> None:
    """To each its part."""
    for auditor, part in divided(amount, auditors):
        move(state, escrow, note, debit, ("U", auditor), part, "fee")


def divided(amount: int, auditors: Sequence[bytes]) -> list[tuple[bytes, int]]:
    """Equal whole parts for everybody who said the same; what is left over is the first one's.

    >>> divided(1_000, (b"a", b"b", b"c")), divided(0, (b"a",))
    ([(b'a', 334), (b'b', 333), (b'c', 333)], [])
    """
    part = amount // len(auditors)
    parts = [(auditors[0], amount - part * (len(auditors) - 1)), *((auditor, part) for auditor in auditors[1:])]
    return [item for item in parts if item[1]]


def audit_fee(state: LedgerState, held: Held) -> int:
    """What the auditors of a result get together: a share of its commission."""
    return commission(held.price) * (state.policy.audit_fee if state.policy is not None else 0) // PPM


def is_spoilt(finding: str) -> bool:
    """Whether the chunk begins at 0 after it."""
    return finding in SPOILS


def note_of(held: Held, what: str) -> str:
    """What a line of the statement says about a held decision."""
    return f"chunk {held.chunk} epoch {held.epoch} {what}"


def _fines(state: LedgerState, escrow: Escrow, held: Held, peer: bytes, due: int, prefix: bytes) -> list[Fine]:
    fines = []
    for cls in ("S", "B"):
        part = min(due, state.accounts.available((cls, peer)))
        if part:
            fine = Fine(prefix + cls.encode(), (cls, peer), part)
            promise(state, escrow, note_of(held, "at risk"), Pend(fine.id, fine.account, TREASURY, part), "collateral")
            fines.append(fine)
            due -= part
    return fines


def _sweep(state: LedgerState, escrow: Escrow, held: Held, note: str) -> int:
    """Proven fraud takes what has come free since the verdict, too."""
    taken = 0
    for cls in ("S", "B"):
        left = state.accounts.available((cls, held.provider))
        move(state, escrow, note, (cls, held.provider), TREASURY, left, "slash")
        taken += left
    return taken
