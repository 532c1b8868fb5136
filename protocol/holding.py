"""Holds what a verdict moves until nobody can appeal, and then moves it. Spec: specs/32-economics.md.

Accepted: price, commission and collateral stay promised. Otherwise the price is the renter's at once, the chunk free,
and the slash stays promised. Either way the result counts in the provider's standing from the verdict on.
"""

from __future__ import annotations

from protocol import carried, closing, inheritance, penalties, tallies
from protocol.accounts import FEES, AccountKey
from protocol.escrow_state import HOLD, ChunkLease, Escrow, LedgerState, Line
from protocol.held import BOND, COLLATERAL, COMMISSION, PRICE, End, Held, name
from protocol.leases_ledger import touch
from protocol.operations import Verdict, commission
from protocol.policy import Policy
from protocol.promises import Part, move, resolve


def hold(state: LedgerState, policy: Policy, escrow: Escrow, lease: ChunkLease, op: Verdict) -> None:
    """Open an item for a verdict other than `missing`; in a network without a window it ends at once."""
    held = _item(state, escrow, lease, op)
    state.hold(held)
    escrow.leased -= 1
    escrow.held += 1
    state.fly(lease.provider, -lease.price)
    lease.outcome = inheritance.VOID if held.blamed else op.outcome
    tallies.count(state, held)
    if held.is_pay:
        _keep_pay(state, escrow, lease, held)
    else:
        _free(state, escrow, lease, held)
        penalties.pend(state, escrow, held)
    penalties.cover_evidence(state, escrow, held, lease.evidence)
    lease.evidence = 0
    penalties.pend_faults(state, escrow, held, policy)
    if policy.dispute_window:
        open_window(state, policy, held)
    else:
        settle(state, held)


def _item(state: LedgerState, escrow: Escrow, lease: ChunkLease, op: Verdict) -> Held:
    """What the verdict says, against whom. The claim's collateral answers for the claim's own provider only."""
    accused = inheritance.blamed(lease, op)
    return Held(
        escrow=escrow.id,
        chunk=lease.chunk,
        epoch=lease.epoch,
        provider=accused or lease.provider,
        assign=lease.assign,
        price=lease.price,
        collateral=0 if accused else lease.collateral,
        trace=lease.trace,
        verdict=op.outcome,
        finding=op.outcome,
        code=op.code,
        output=op.output,
        until=state.time,
        is_audited=op.is_audited,
        auditor=op.auditor,
        response=lease.claimed_at - lease.assigned_at,
        faulted=tuple(dict.fromkeys(op.faulted or ())),
        agreed=op.agreed or (),
        blamed=op.blamed or 0,
        claimant=lease.provider if accused else b"",
    )


def open_window(state: LedgerState, policy: Policy, held: Held) -> None:
    """From now on somebody may appeal, until the window ends."""
    held.until = state.time + policy.dispute_window
    lease = _lease(state, held)
    if lease is not None:
        lease.held_until = held.until
    state.schedule(held.until + 1, HOLD, name(held))
    mark(state, held)


def ripen(state: LedgerState, key: bytes) -> None:
    """A window may have ended. Pay of a provider that stands accused of fraud waits for that to be decided."""
    held = state.held.get(key)
    if held is None or held.end or held.is_appealed or state.time <= held.until:
        return
    if held.finding == "accept":
        standing = state.standings.get(held.payee)  # It counts what is only found, too.
        is_suspect = standing is not None and standing.fraud > 0
        accused = [item for item in state.held_of.get(held.payee, ()) if item.finding == "fraud"] if is_suspect else []
        if accused:
            last = max(item.rule_by if item.is_appealed else item.until for item in accused)
            state.schedule(max(state.time, last) + 1, HOLD, key)
            return
    settle(state, held)


def settle(state: LedgerState, held: Held) -> None:
    """The finding is final."""
    escrow = state.escrows[held.escrow]
    standing = state.standing(held.payee)
    end: End = "unpaid"
    if held.finding != "accept":
        tallies.make_final(state, held)
        end = _punish(state, escrow, held)
    elif standing.fraud and state.policy is not None:
        end = forfeit(state, escrow, held)
    elif held.is_pay:
        end = _pay(state, escrow, held)
    else:
        end = _compensate(state, escrow, held)
    penalties.collect_faults(state, escrow, held)
    finish(state, escrow, held, end)
    if held.finding == "fraud":
        for item in list(state.held_of.get(held.provider, ())):
            if item.finding == "accept" and item.payee == held.provider and not item.end:
                other = state.escrows[item.escrow]
                penalties.collect_faults(state, other, item)
                finish(state, other, item, forfeit(state, other, item))


def forfeit(state: LedgerState, escrow: Escrow, held: Held) -> End:
    """Nobody can trust a proven cheat's other results: what they would have brought goes back to their renters."""
    note = penalties.note_of(held, "forfeited")
    parts = [Part(held.assign + suffix, 0, "", "release") for suffix in (PRICE, COMMISSION)]
    parts += [Part(held.assign + COLLATERAL, 0, "", "return"), Part(held.appeal + BOND, 0, "", "return")]
    resolve(state, escrow, note, parts)
    lease = _lease(state, held)
    if lease is not None:
        carried.pay(state, escrow, lease)
    held.appeal = held.appellant = b""
    return "forfeited"


def finish(state: LedgerState, escrow: Escrow, held: Held, end: End) -> None:
    """Close the item, and its escrow if that waited for it."""
    is_upheld = held.finding == held.verdict
    note = penalties.note_of(held, "audit" if is_upheld else "mistaken audit")
    penalties.pay_evidence(state, escrow, note, held.assign, held.auditors, held.evidence if is_upheld else 0)
    held.end, held.evidence = end, 0
    held.fines, held.faults = [], []
    state.end_held(held)
    lease = _lease(state, held)
    if lease is not None:
        lease.held_until = 0
    mark(state, held)
    escrow.held -= 1
    if escrow.is_closing and not escrow.held:
        closing.close(state, escrow, "closed when nothing was held any more")


def restate(state: LedgerState, held: Held, code: str) -> None:
    """A refused result is found to be something else: a chunk that nobody has leased since then shows it."""
    lease = _lease(state, held)
    if lease is not None and lease.state == "free" and not held.is_pay:
        is_void = held.blamed and held.finding != "accept"
        lease.outcome, lease.code = inheritance.VOID if is_void else held.finding, code


def mark(state: LedgerState, held: Held) -> None:
    """What a held item shows has changed."""
    state.touched.add(("held", name(held), 0))
    touch(state, state.escrows[held.escrow], state.escrows[held.escrow].chunks[held.chunk])


def _lease(state: LedgerState, held: Held) -> ChunkLease | None:
    """The chunk's lease while it is still the one that was judged."""
    lease = state.escrows[held.escrow].chunks[held.chunk]
    return lease if lease.epoch == held.epoch else None


def _keep_pay(state: LedgerState, escrow: Escrow, lease: ChunkLease, held: Held) -> None:
    lease.state = "paid"
    share = held.price - commission(held.price)
    if share:
        ends: tuple[AccountKey, AccountKey] = (escrow.account, ("U", held.provider))
        escrow.lines.append(Line(state.time, *ends, share, "hold", penalties.note_of(held, "accept, held")))


def _free(state: LedgerState, escrow: Escrow, lease: ChunkLease, held: Held) -> None:
    lease.state, lease.code = "free", held.code
    parts = [Part(held.assign + suffix, 0, "", "release") for suffix in (PRICE, COMMISSION)]
    if held.blamed:
        parts.append(Part(held.assign + COLLATERAL, 0, "", "return"))
        inheritance.correct(state, lease, held)
    resolve(state, escrow, penalties.note_of(held, held.finding), parts)
    if penalties.is_spoilt(held.finding):
        held.spoilt = [(item.provider, item.amount) for item in carried.waiting(lease)]
        carried.void(state, escrow, lease)


def _pay(state: LedgerState, escrow: Escrow, held: Held) -> End:
    fee = commission(held.price)
    share = held.price - fee
    note = penalties.note_of(held, "paid")
    parts = [Part(held.assign + PRICE, share, "pay", ""), Part(held.assign + COMMISSION, fee, "commission", "")]
    resolve(state, escrow, note, [*parts, Part(held.assign + COLLATERAL, 0, "", "return")])
    escrow.paid += share
    escrow.commission += fee
    lease = _lease(state, held)
    if lease is not None:
        carried.pay(state, escrow, lease)
    if held.is_audited:
        penalties.pay_auditors(state, escrow, note, FEES, held.auditors, penalties.audit_fee(state, held))
    return "paid"


def _compensate(state: LedgerState, escrow: Escrow, held: Held) -> End:
    """The judges were mistaken: the result is paid from what the escrow has free, as are the shares it took back."""
    note = penalties.note_of(held, "accept after all")
    resolve(state, escrow, note, [Part(held.assign + COLLATERAL, 0, "", "return")])
    for provider, price in ((held.payee, held.price), *held.spoilt):
        owed = min(price, state.accounts.available(escrow.account))
        fee = commission(owed)
        move(state, escrow, note, escrow.account, ("U", provider), owed - fee, "pay")
        move(state, escrow, note, escrow.account, FEES, fee, "commission")
        escrow.paid += owed - fee
        escrow.commission += fee
    return "paid"


def _punish(state: LedgerState, escrow: Escrow, held: Held) -> End:
    """The provider is not paid, and slashed for what was found. An accepted result that turned out bad is free again
    for another lease."""
    if held.is_pay:
        parts = [Part(held.assign + suffix, 0, "", "release") for suffix in (PRICE, COMMISSION)]
        resolve(state, escrow, penalties.note_of(held, held.finding), parts)
        lease = _lease(state, held)
        if lease is not None:
            lease.state, lease.outcome, lease.code = "free", held.finding, held.code
            if penalties.is_spoilt(held.finding):
                carried.void(state, escrow, lease)
    return "slashed" if penalties.collect(state, escrow, held) else "unpaid"
