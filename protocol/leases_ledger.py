"""What operations on a chunk do to leases and money. Each is checked wholly before anything changes.

A lease's promises are named after its Assign: price less commission, commission, collateral. Spec: specs/07-escrow.md.
"""

from __future__ import annotations

from protocol import carried, exposure, inheritance
from protocol.accounts import FEES, TREASURY, AccountKey, Move, Pend, PostPend, VoidPend
from protocol.errors import Refused
from protocol.escrow_state import EXPIRE, Carried, ChunkLease, Escrow, LedgerState, Line
from protocol.held import COLLATERAL, COMMISSION, EVIDENCE, PRICE
from protocol.operations import (
    HANDED_PPM_MAX,
    Assign,
    Claim,
    Fence,
    Handover,
    Settle,
    Surrender,
    Verdict,
    commission,
    handed_share,
    slash,
)

Signers = frozenset[bytes]
Where = Claim | Surrender | Handover | Fence | Settle | Verdict


def not_signed(who: str) -> Refused:
    """An operation lacks a signature that its rule needs."""
    return Refused(f"needs the signature of {who}", code="not_signed", fix="Collect it and submit again.")


def find(state: LedgerState, op: Where) -> tuple[Escrow, ChunkLease]:
    """The open escrow and the chunk at exactly the operation's epoch; `Refused` for any other."""
    escrow = state.open_escrow(op.escrow)
    lease = escrow.chunks.get(op.chunk)
    epoch = 0 if lease is None else lease.epoch
    if lease is None or op.epoch > epoch:
        raise Refused(
            f"chunk {op.chunk} is at epoch {epoch}, not yet at {op.epoch}",
            code="future_epoch",
            fix="Wait until the lease of that epoch is on the ledger.",
        )
    if op.epoch < epoch:
        raise Refused(
            f"chunk {op.chunk} is at epoch {epoch}; {op.epoch} is over",
            code="stale_epoch",
            fix="Stop working on it: the lease has gone to somebody else.",
            numbers={"epoch": epoch, "given": op.epoch},
        )
    return escrow, lease


def require_state(lease: ChunkLease, *allowed: str) -> None:
    """Refuse unless the lease is in one of these states."""
    if lease.state not in allowed:
        raise Refused(
            f"chunk {lease.chunk} is {lease.state}, not {' or '.join(allowed)}",
            code="wrong_state",
            fix="Read the chunk's state from the newest block: somebody was faster, or it was done before.",
        )


def promises(lease: ChunkLease) -> list[tuple[bytes, int, str]]:
    """(id, amount, kind of line when it is taken back) of what a running lease has pended; empty ones left out."""
    fee = commission(lease.price)
    listed = (
        (lease.assign + PRICE, lease.price - fee, "release"),
        (lease.assign + COMMISSION, fee, "release"),
        (lease.assign + COLLATERAL, lease.collateral, "return"),
        (lease.assign + EVIDENCE, lease.evidence, "release"),
    )
    return [item for item in listed if item[1] > 0]


def assign(state: LedgerState, op: Assign, op_id: bytes, signers: Signers) -> None:
    """Lease a chunk: price and collateral are pended together or not at all."""
    escrow = state.open_escrow(op.escrow)
    if op.provider not in signers:
        raise not_signed("the provider")
    if escrow.steward not in signers and escrow.owner not in signers:
        raise not_signed("the steward or the renter")
    lease = escrow.chunks.get(op.chunk)
    _check_assign(state, escrow, lease, op)
    exposure.check(state, op)
    fee = commission(op.price)
    payee, stake = ("U", op.provider), ("S", op.provider)
    listed = (
        (Pend(op_id + PRICE, escrow.account, payee, op.price - fee), "reserve"),
        (Pend(op_id + COMMISSION, escrow.account, FEES, fee), "reserve"),
        (Pend(op_id + COLLATERAL, stake, TREASURY, op.collateral), "collateral"),
        (Pend(op_id + EVIDENCE, escrow.account, FEES, op.evidence or 0), "reserve"),
    )
    moves = [item for item in listed if item[0].amount > 0]
    state.accounts.apply([move for move, _ in moves])
    if lease is None:
        lease = escrow.chunks[op.chunk] = ChunkLease(op.chunk)
    lease.epoch, lease.state, lease.provider, lease.assign = op.epoch, "assigned", op.provider, op_id
    lease.price, lease.collateral, lease.watchers = op.price, op.collateral, op.watchers
    lease.claim_by, lease.verdict_by, lease.assigned_at, lease.claimed_at = op.claim_by, op.verdict_by, state.time, 0
    lease.claimed_in = lease.sealed = lease.output = lease.auditor = b""
    lease.beacon = lease.trace = b""
    lease.units = lease.held_until = 0
    lease.evidence = op.evidence or 0
    lease.outcome = lease.code = ""
    lease.is_audited = False
    lease.inherited, lease.prefixes, lease.tainted = {}, (), {}
    escrow.leased += 1
    state.fly(op.provider, op.price)
    note = f"chunk {op.chunk} epoch {op.epoch}"
    escrow.lines += [Line(state.time, move.debit, move.credit, move.amount, kind, note) for move, kind in moves]
    state.schedule(op.claim_by + 1, EXPIRE, escrow.id, op.chunk, op.epoch)
    touch(state, escrow, lease)


def _check_assign(state: LedgerState, escrow: Escrow, lease: ChunkLease | None, op: Assign) -> None:
    epoch = 0 if lease is None else lease.epoch
    if lease is not None:
        require_state(lease, "free")
    if op.epoch != epoch + 1:
        raise Refused(
            f"chunk {op.chunk} was last leased at epoch {epoch}; the next is {epoch + 1}, not {op.epoch}",
            code="stale_epoch" if op.epoch <= epoch else "future_epoch",
            fix=f"Make the lease again at epoch {epoch + 1}.",
            numbers={"epoch": epoch, "given": op.epoch},
        )
    if not state.time <= op.claim_by < op.verdict_by <= escrow.deadline:
        raise Refused(
            "now <= claim_by < verdict_by <= deadline does not hold",
            code="bad_times",
            fix="Take the times from the ledger clock and keep within the escrow's deadline.",
            numbers={
                "now": state.time,
                "claim_by": op.claim_by,
                "verdict_by": op.verdict_by,
                "deadline": escrow.deadline,
            },
        )
    if len(set(op.watchers)) != len(op.watchers) or escrow.steward not in op.watchers:
        raise Refused(
            "watchers are distinct and the steward is one of them",
            code="bad_watchers",
            fix="Name every watcher once, the steward among them.",
        )


def claim(state: LedgerState, op: Claim, op_id: bytes, signers: Signers) -> None:
    """The provider is done."""
    escrow, lease = find(state, op)
    if lease.provider not in signers:
        raise not_signed("the provider")
    require_state(lease, "assigned")
    lease.inherited, lease.prefixes = inheritance.heirloom(state, escrow, lease, op), op.inherited or ()
    lease.state, lease.sealed, lease.claimed_at = "claimed", op.sealed, state.time
    lease.trace, lease.units = op.trace or b"", op.units or 0
    state.claimed.append((lease, lease.epoch))
    if state.policy is not None and state.policy.has_beacon:
        state.uncovered.append((escrow.id, lease.chunk, lease.epoch))
    state.schedule(lease.verdict_by + 1, EXPIRE, escrow.id, lease.chunk, lease.epoch)
    touch(state, escrow, lease)


def surrender(state: LedgerState, op: Surrender, op_id: bytes, signers: Signers) -> None:
    """The provider gives the lease back: nobody pays."""
    escrow, lease = find(state, op)
    if lease.provider not in signers:
        raise not_signed("the provider")
    require_state(lease, "assigned")
    state.standing(lease.provider).surrendered += 1
    free(state, escrow, lease, "surrendered", op.reason)


def handover(state: LedgerState, op: Handover, op_id: bytes, signers: Signers) -> None:
    """The provider leaves with notice: its share waits for the chunk's end, everything else is free again."""
    escrow, lease = find(state, op)
    if lease.provider not in signers:
        raise not_signed("the provider")
    if escrow.steward not in signers and escrow.owner not in signers:
        raise not_signed("the steward or the renter")
    require_state(lease, "assigned")
    before = lease.done_ppm
    if not before <= op.done_ppm <= HANDED_PPM_MAX:
        raise Refused(
            f"a share of {op.done_ppm} ppm is not between {before} and {HANDED_PPM_MAX}",
            code="bad_share",
            fix="Name the share of the whole chunk, no less than was handed over before.",
            numbers={"before": before, "given": op.done_ppm, "most": HANDED_PPM_MAX},
        )
    share = handed_share(lease.price, before, op.done_ppm)
    state.standing(lease.provider).handed += 1
    lease.state, lease.outcome, lease.code = "free", "handed", f"at {op.done_ppm / 10_000:g} %"
    inheritance.remember(lease, lease.outcome)
    fee = commission(share)
    kept = {PRICE: share - fee, COMMISSION: fee, COLLATERAL: 0, EVIDENCE: 0}
    held = promises(lease)
    lines = [(pend_id, amount - kept[pend_id[-1:]], kind) for pend_id, amount, kind in held]
    end(state, escrow, lease, [VoidPend(pend_id) for pend_id, _, _ in held], [line for line in lines if line[1]])
    item = Carried(lease.epoch, lease.provider, share, op.done_ppm, op.step, op.snapshot, op_id)
    carried.pend(state, escrow, lease, item)


def fence(state: LedgerState, op: Fence, op_id: bytes, signers: Signers) -> None:
    """A majority of the watchers says that the provider is dead."""
    escrow, lease = find(state, op)
    seen, needed = len(signers.intersection(lease.watchers)), len(lease.watchers) // 2 + 1
    if seen < needed:
        raise not_signed(f"{needed} watchers, has {seen}")
    require_state(lease, "assigned")
    state.standing(lease.provider).fenced += 1
    free(state, escrow, lease, "fenced", f"{seen} of {len(lease.watchers)} watchers")


def settle(state: LedgerState, op: Settle, op_id: bytes, signers: Signers) -> None:
    """Pay `cumulative` without a verdict: the renter's voucher, handed in by the provider."""
    escrow, lease = find(state, op)
    if lease.provider not in signers:
        raise not_signed("the provider")
    if escrow.steward not in signers and escrow.owner not in signers:
        raise not_signed("the steward or the renter")
    require_state(lease, "assigned", "claimed")
    if op.cumulative > lease.price:
        raise Refused(
            f"voucher over {op.cumulative}, the price is {lease.price}",
            code="over_price",
            fix="Sign a voucher of at most the price.",
            numbers={"cumulative": op.cumulative, "price": lease.price},
        )
    state.standing(lease.provider).settled += 1
    lease.state, lease.outcome = "paid", "settled"
    pay(state, escrow, lease, op.cumulative)
    carried.pay(state, escrow, lease)


def free(state: LedgerState, escrow: Escrow, lease: ChunkLease, outcome: str, why: str) -> None:
    """End a lease without paying for it: promises are taken back, the collateral slashed where `outcome` says so."""
    fine = slash(lease.price, lease.collateral, outcome)
    moves: list[Move] = []
    lines: list[tuple[bytes, int, str]] = []
    for pend_id, amount, kind in promises(lease):
        if kind == "return" and fine:
            moves.append(PostPend(pend_id, fine))
            lines.append((pend_id, fine, "slash"))
            amount -= fine
        else:
            moves.append(VoidPend(pend_id))
        if amount:
            lines.append((pend_id, amount, kind))
    lease.state, lease.outcome, lease.code = "free", outcome, why
    inheritance.remember(lease, outcome)
    escrow.slashed += fine
    end(state, escrow, lease, moves, lines)


def pay(state: LedgerState, escrow: Escrow, lease: ChunkLease, amount: int) -> None:
    """Pay `amount` of the price, commission included; the rest and the collateral are free again."""
    fee = commission(amount)
    parts = {PRICE: amount - fee, COMMISSION: fee, COLLATERAL: 0, EVIDENCE: 0}
    kinds = {PRICE: "pay", COMMISSION: "commission"}
    moves: list[Move] = []
    lines: list[tuple[bytes, int, str]] = []
    for pend_id, pended, kind in promises(lease):
        part = parts[pend_id[-1:]]
        if part:
            moves.append(PostPend(pend_id, part))
            lines.append((pend_id, part, kinds[pend_id[-1:]]))
        else:
            moves.append(VoidPend(pend_id))
        if pended > part:
            lines.append((pend_id, pended - part, kind))
    escrow.paid += amount - fee
    escrow.commission += fee
    end(state, escrow, lease, moves, lines)


def end(
    state: LedgerState, escrow: Escrow, lease: ChunkLease, moves: list[Move], lines: list[tuple[bytes, int, str]]
) -> None:
    """Resolve a lease's promises and write them on the statement; taken back, money flows the other way round."""
    note = f"chunk {lease.chunk} epoch {lease.epoch} {lease.outcome}"
    for pend_id, amount, kind in lines:
        pend = state.accounts.pending[pend_id]
        ends: tuple[AccountKey, AccountKey] = (pend.debit, pend.credit)
        if kind in ("release", "return"):
            ends = (pend.credit, pend.debit)
        escrow.lines.append(Line(state.time, *ends, amount, kind, note))
    state.accounts.apply(moves)
    lease.evidence = 0
    escrow.leased -= 1
    state.fly(lease.provider, -lease.price)
    touch(state, escrow, lease)


def touch(state: LedgerState, escrow: Escrow, lease: ChunkLease) -> None:
    state.touched.add(("chunk", escrow.id, lease.chunk))
    state.touched.add(("escrow", escrow.id, 0))
