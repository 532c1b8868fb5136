"""A decision whose money waits: pay, slash and bond of one claim until nobody can appeal. Spec: specs/32-economics.md.

Plain records; `protocol.holding`, `protocol.disputes` and `protocol.penalties` change them.
"""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct, field

from protocol.accounts import AccountKey
from protocol.operations import commission

PRICE, COMMISSION, COLLATERAL, EVIDENCE = b"p", b"c", b"s", b"e"
"""Suffixes of the ids of a lease's promises. 33 bytes, so that no operation id (32) can name one."""

FINE, FAULT, BOND = b"f", b"a", b"b"
"""First byte of the suffixes of promised stake of the provider, of auditors, and of an appellant's bond."""

SPOILS: Final = frozenset({"wrong", "fraud", "severe", "rejected"})
"""Findings after which a chunk begins at 0: nobody knows whose part of the work was bad."""

End = Literal["", "paid", "slashed", "unpaid", "forfeited"]


class Fine(Struct):
    """A promise of somebody's stake to the treasury."""

    id: bytes
    account: AccountKey
    amount: int


class Held(Struct, omit_defaults=True):
    """One decided claim. It opens with the verdict and ends once: paid, slashed, unpaid or forfeited.

    `provider` is whose fault it is if there is one, `price` and the rest are the claim's. A state root has what says
    something: most fields are empty in most of them."""

    escrow: bytes
    chunk: int
    epoch: int
    provider: bytes
    assign: bytes
    price: int
    collateral: int
    trace: bytes
    """Root of the claim's trace; empty where the claim has none, and then no third round."""
    verdict: str
    """What the judges found first."""
    finding: str
    """What holds now."""
    code: str
    output: bytes
    """Digest of the output that was claimed, whatever the judges made of it."""
    until: int
    """Ledger time until which somebody may appeal, µs."""
    is_audited: bool
    auditor: bytes
    response: int
    """µs between Assign and Claim."""
    evidence: int = 0
    """Promised by the escrow to the auditor, on top of the price."""
    cover: int = 0
    """Owed to the auditor out of the slash instead."""
    agreed: tuple[bytes, ...] = ()
    """Auditors beside `auditor` who found the same: they share with it."""
    blamed: int = 0
    """Epoch of the earlier lease whose provider stands accused in the place of the claim's; 0 where none does."""
    claimant: bytes = b""
    """The claim's own provider then: it is paid if the units turn out good, and loses nothing if not."""
    round: int = 0
    """Rulings so far."""
    appeal: bytes = b""
    """Id of the open Appeal; empty while there is none."""
    appellant: bytes = b""
    bond: int = 0
    rival: bytes = b""
    speaker: bytes = b""
    """Who opens the leaves of the rival trace; empty: the appellant."""
    heard: tuple[bytes, ...] = ()
    """Who was drawn for panels about it: nobody sits twice."""
    rule_by: int = 0
    """Ledger time until which a ruling counts; afterwards the finding stands."""
    winner: bytes = b""
    """Who proved an accepted result bad, and gets part of the slash."""
    due: int = 0
    """Of the collateral, once the finding is final."""
    fines: list[Fine] = field(default_factory=list)
    """Promised stake of the provider, beside the collateral."""
    faults: list[Fine] = field(default_factory=list)
    """Promised stake of auditors whose word was refuted."""
    faulted: tuple[bytes, ...] = ()
    """Those auditors, with stake or without."""
    spoilt: list[tuple[bytes, int]] = field(default_factory=list)
    """(provider, amount) of shares that the verdict took back; paid after all when it turns out to be mistaken."""
    counted: int = 0
    """Serial of its entry in the provider's standing."""
    streak: int = 0
    """What it adds to, or took from, the provider's consecutive valid results."""
    is_barred: bool = False
    """Whether a fault that stands came after it: correcting it no longer changes the present run."""
    probation: int = 0
    """Results on probation that the provider had left when this one was rejected."""
    is_eased: bool = False
    """Whether it took one result off the provider's probation."""
    is_postponed: bool = False
    """Whether it put one result on it: its own audit was due, and nobody answered."""
    end: End = ""

    @property
    def is_pay(self) -> bool:
        """Whether the price is still promised: the judges accepted it."""
        return self.verdict == "accept"

    @property
    def payee(self) -> bytes:
        """Whose work the claim is."""
        return self.claimant or self.provider

    @property
    def auditors(self) -> tuple[bytes, ...]:
        """Everybody who is paid for the audit, the one that the verdict names first."""
        return (self.auditor, *self.agreed)

    @property
    def is_appealed(self) -> bool:
        """Whether an appeal is open."""
        return bool(self.appeal)

    @property
    def last_round(self) -> int:
        """The round after which nobody can appeal: the game needs a trace that is the accused's own."""
        return 3 if self.trace and not self.blamed else 2


def held_id(escrow: bytes, chunk: int, epoch: int) -> bytes:
    """Its name: the claim's place in 36 bytes."""
    return escrow + chunk.to_bytes(2, "big") + epoch.to_bytes(2, "big")


def name(held: Held) -> bytes:
    """`held_id` of a record."""
    return held_id(held.escrow, held.chunk, held.epoch)


def promises(held: Held) -> dict[bytes, int]:
    """Id -> amount of everything that an open item has pended; empty parts left out."""
    fee = commission(held.price)
    listed = {held.assign + COLLATERAL: held.collateral, held.assign + EVIDENCE: held.evidence}
    if held.is_pay:
        listed |= {held.assign + PRICE: held.price - fee, held.assign + COMMISSION: fee}
    if held.is_appealed:
        listed[held.appeal + BOND] = held.bond
    listed |= {fine.id: fine.amount for fine in (*held.fines, *held.faults)}
    return {key: amount for key, amount in listed.items() if amount}
