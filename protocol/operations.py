"""The operations of the escrow ledger as they are signed. Validity and effect: `protocol.escrow`, specs/07-escrow.md.

Operations that move free money carry (owner, lane, sequence), where sequence must be the lane's next. Operations on a
chunk need none: (escrow, chunk, epoch) and the chunk's state let each happen once.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from protocol import wire
from protocol.identity import Identity
from protocol.proof import UNITS_MAX
from protocol.units import PPM, Credits, Digest, PeerId

Key = Annotated[bytes, Meta(min_length=32, max_length=32)]
Hash = Annotated[bytes, Meta(min_length=32, max_length=32)]
Amount = Annotated[int, Meta(ge=1, le=2**62)]
AmountOrNone = Annotated[int, Meta(ge=0, le=2**62)]
Lane = Annotated[int, Meta(ge=0, le=65_535)]
Counter = Annotated[int, Meta(ge=0, le=2**62)]
Time = Annotated[int, Meta(ge=0, le=2**62)]
Reason = Annotated[str, Meta(max_length=128)]

Found = Literal["accept", "wrong", "fraud", "severe", "rejected", "withheld", "missing"]
"""What judges, panels and games find about a claim."""

COMMISSION_PPM: Final = 100_000
"""Share of each paid price that is commission: 10 % (features L1)."""

WRONG_SLASH_PPM: Final = 100_000
"""Share of the price taken from the collateral for a wrong result: 10 % of the reward (features L2)."""


INHERITED_MAX: Final = 8
"""Earlier leases that a claim names: with more of them a chunk begins again, or its provider answers for all of it."""

PRICE_STEP: Final = 10
"""Prices are multiples of so many smallest units, so that the commission of 10 % is exact."""

HANDED_PPM_MAX: Final = 990_000
"""Share of a chunk that may have been handed over, in ppm: who restores, finishes and answers for the result gets 1 %
of the price at least."""


def handed_share(price: int, before_ppm: int, done_ppm: int) -> int:
    """What a lease at `price` has earned that took a chunk from `before_ppm` to `done_ppm`: its part of the rest that
    the price was for, rounded down to a whole `PRICE_STEP`.

    >>> handed_share(1_000, 0, 250_000), handed_share(750, 250_000, 500_000)
    (250, 250)
    """
    return price * (done_ppm - before_ppm) // ((PPM - before_ppm) * PRICE_STEP) * PRICE_STEP


def remaining_price(full: int, done_ppm: int) -> Credits:
    """The price of what is left of a chunk that costs `full`, rounded down to a whole `PRICE_STEP`. With it, all shares
    of a chunk and its last lease together never exceed its full price at the dearest of its providers.

    >>> remaining_price(1_000, 250_000)
    750
    """
    return Credits(full * (PPM - done_ppm) // (PPM * PRICE_STEP) * PRICE_STEP)


def commission(price: int) -> int:
    """The network's part of a price, rounded down; the provider gets the rest, so the two always add up.

    >>> commission(8_334)
    833
    """
    return price * COMMISSION_PPM // PPM


def slash(price: int, collateral: int, outcome: str) -> int:
    """What a verdict takes from a provider's collateral where no policy reaches for its stake."""
    match outcome:
        case "wrong":
            return min(collateral, price * WRONG_SLASH_PPM // PPM)
        case "fraud":
            return collateral
        case "severe":
            return collateral // 2
        case _:
            return 0


class Mint(Struct, frozen=True, forbid_unknown_fields=True, tag="mint"):
    """Money that came in from outside, attested by a quorum of validators. `reference` is used once."""

    reference: Hash
    to: Key
    amount: Amount


class WithdrawExt(Struct, frozen=True, forbid_unknown_fields=True, tag="withdraw"):
    """The owner wants money out; pended until a quorum says that it left (`WithdrawEnd`)."""

    owner: Key
    lane: Lane
    sequence: Counter
    to_external: Reason
    amount: Amount


class WithdrawEnd(Struct, frozen=True, forbid_unknown_fields=True, tag="withdraw_end"):
    """A quorum of validators saw the withdrawal `withdrawal` (its op id) leave, or fail."""

    withdrawal: Hash
    is_paid: bool


class Transfer(Struct, frozen=True, forbid_unknown_fields=True, tag="transfer"):
    """Move free money from the owner to another user."""

    owner: Key
    lane: Lane
    sequence: Counter
    to: Key
    amount: Amount


class Bond(Struct, frozen=True, forbid_unknown_fields=True, tag="bond"):
    """Free money becomes stake."""

    owner: Key
    lane: Lane
    sequence: Counter
    amount: Amount


class Unbond(Struct, frozen=True, forbid_unknown_fields=True, tag="unbond"):
    """Stake becomes free money after the unbonding time."""

    owner: Key
    lane: Lane
    sequence: Counter
    amount: Amount


class EscrowOpen(Struct, frozen=True, forbid_unknown_fields=True, tag="open"):
    """The renter sets money aside for a job. The escrow's id is this operation's id."""

    owner: Key
    lane: Lane
    sequence: Counter
    job: Annotated[bytes, Meta(min_length=16, max_length=16)]
    cap: Amount
    spec: Hash
    steward: Key
    """The peer that may sign `Assign` and `EscrowClose` for the renter."""
    deadline: Time


class EscrowExtend(Struct, frozen=True, forbid_unknown_fields=True, tag="extend"):
    """The renter puts more money into an open escrow, gives it a later deadline, or both."""

    owner: Key
    lane: Lane
    sequence: Counter
    escrow: Hash
    amount: AmountOrNone
    """On top of the cap."""
    deadline: Time


class Assign(Struct, frozen=True, forbid_unknown_fields=True, tag="assign"):
    """A lease: signed by the steward and countersigned by the provider, one operation, both or neither."""

    escrow: Hash
    chunk: Annotated[int, Meta(ge=0, le=4096)]
    epoch: Annotated[int, Meta(ge=1, le=1_000)]
    provider: Key
    price: AmountOrNone
    collateral: AmountOrNone
    claim_by: Time
    verdict_by: Time
    watchers: Annotated[tuple[Key, ...], Meta(min_length=1, max_length=3)]
    """The peers whose majority may fence this lease; the steward is one of them."""
    evidence: AmountOrNone | UnsetType = UNSET
    """Set aside on top of the price for whoever audits the result, whatever the audit finds."""


class Inherited(Struct, frozen=True, forbid_unknown_fields=True):
    """The word of an earlier lease's provider for the first units of a chunk, from the snapshot that was resumed."""

    epoch: Annotated[int, Meta(ge=1, le=1_000)]
    """Of the lease whose provider signed."""
    units: Annotated[int, Meta(ge=1, le=UNITS_MAX)]
    """Units 0..units-1 were done when the snapshot was cut, by this provider and those before it."""
    root: Hash
    """Of the trace of those units alone (`protocol.trace`)."""
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]
    """Ed25519 by that provider (kind `prefix`) over the canonical encoding of (escrow, chunk, epoch, units, root,
    digest of the encoded entries before this one)."""


class Claim(Struct, frozen=True, forbid_unknown_fields=True, tag="claim"):
    """The provider is done. `sealed` = H(provider, salt, output): nothing that another could copy."""

    escrow: Hash
    chunk: Annotated[int, Meta(ge=0, le=4096)]
    epoch: Annotated[int, Meta(ge=1, le=1_000)]
    sealed: Hash
    trace: Hash | UnsetType = UNSET
    """Root of the trace, for jobs with units. Unset is not encoded: other claims stay the bytes that they were."""
    units: Annotated[int, Meta(ge=1, le=UNITS_MAX)] | UnsetType = UNSET
    inherited: Annotated[tuple[Inherited, ...], Meta(min_length=1, max_length=INHERITED_MAX)] | UnsetType = UNSET
    """Who answers for the units before the one at which this lease went on: epochs and units both grow."""


class Surrender(Struct, frozen=True, forbid_unknown_fields=True, tag="surrender"):
    """The provider gives a lease back before claiming: nobody pays, the chunk is free again."""

    escrow: Hash
    chunk: Annotated[int, Meta(ge=0, le=4096)]
    epoch: Annotated[int, Meta(ge=1, le=1_000)]
    reason: Reason


class Handover(Struct, frozen=True, forbid_unknown_fields=True, tag="handover"):
    """The lease ends because its provider leaves, with a snapshot from which the next one goes on. Signed by the
    provider and the steward. What was earned is set aside until the chunk's end."""

    escrow: Hash
    chunk: Annotated[int, Meta(ge=0, le=4096)]
    epoch: Annotated[int, Meta(ge=1, le=1_000)]
    done_ppm: Annotated[int, Meta(ge=0, le=PPM)]
    """Share of the whole chunk that is done, by this provider and those before it."""
    step: Counter
    """Of the job, at the cut; for people."""
    snapshot: Hash
    """BLAKE3 digest of the encoded manifest of the snapshot that was handed over."""


class Fence(Struct, frozen=True, forbid_unknown_fields=True, tag="fence"):
    """A majority of a lease's watchers say that its provider is dead: the lease ends, the chunk is free again."""

    escrow: Hash
    chunk: Annotated[int, Meta(ge=0, le=4096)]
    epoch: Annotated[int, Meta(ge=1, le=1_000)]


class Settle(Struct, frozen=True, forbid_unknown_fields=True, tag="settle"):
    """Pay `cumulative` of the price without a verdict: the provider's signature and the renter's voucher."""

    escrow: Hash
    chunk: Annotated[int, Meta(ge=0, le=4096)]
    epoch: Annotated[int, Meta(ge=1, le=1_000)]
    cumulative: AmountOrNone


class Verdict(Struct, frozen=True, forbid_unknown_fields=True, tag="verdict"):
    """What a quorum of the judges found. `evidence` = digest of the output, or of what was missing."""

    escrow: Hash
    chunk: Annotated[int, Meta(ge=0, le=4096)]
    epoch: Annotated[int, Meta(ge=1, le=1_000)]
    outcome: Found
    is_audited: bool
    auditor: Key
    """Who executed it again; the validator itself when nobody did."""
    output: Hash
    evidence: Hash
    code: Reason
    """A stable reason code: `hash_equal`, `hash_differs`, `not_sampled`, `not_revealed` …"""
    score: Annotated[int, Meta(ge=0, le=PPM)] | UnsetType = UNSET
    """Of a D3 comparison, ppm."""
    faulted: Annotated[tuple[Key, ...], Meta(min_length=1, max_length=8)] | UnsetType = UNSET
    """Auditors whose sealed result two others refuted."""
    agreed: Annotated[tuple[Key, ...], Meta(min_length=1, max_length=8)] | UnsetType = UNSET
    """Auditors beside `auditor` whose sealed evidence says the same: they share what auditors get."""
    blamed: Annotated[int, Meta(ge=1, le=1_000)] | UnsetType = UNSET
    """The earlier lease, by its epoch, whose provider signed for the units that were found bad. The claim itself is
    void then, and its own provider not at fault."""


class Appeal(Struct, frozen=True, forbid_unknown_fields=True, tag="appeal"):
    """Somebody stakes a bond on it that the newest decision about a claim is wrong."""

    escrow: Hash
    chunk: Annotated[int, Meta(ge=0, le=4096)]
    epoch: Annotated[int, Meta(ge=1, le=1_000)]
    appellant: Key
    bond: Amount
    rival: Hash
    """The trace root that the appellant stands for, for the third round; zeros where it has none."""
    round: Annotated[int, Meta(ge=1, le=3)] | UnsetType = UNSET
    """The round that is asked for: the same words in a later round would be the same operation."""
    speaker: Key | UnsetType = UNSET
    """The peer that opens the rival's leaves; unless said, the appellant itself."""


class Ruling(Struct, frozen=True, forbid_unknown_fields=True, tag="ruling"):
    """What a panel, or the game, found about an appealed decision; signed by a quorum of the judges."""

    escrow: Hash
    chunk: Annotated[int, Meta(ge=0, le=4096)]
    epoch: Annotated[int, Meta(ge=1, le=1_000)]
    round: Annotated[int, Meta(ge=1, le=3)]
    outcome: Literal["upheld", "overturned"]
    finding: Found
    """What holds from now on."""
    panel: Annotated[tuple[Key, ...], Meta(max_length=15)]
    evidence: Hash
    code: Reason


class BeaconCommit(Struct, frozen=True, forbid_unknown_fields=True, tag="beacon_commit"):
    """A validator seals its part of a beacon: SHA-256("shoal/1\0beacon\0" ‖ validator ‖ number ‖ secret)."""

    number: Counter
    validator: Key
    sealed: Hash


class BeaconReveal(Struct, frozen=True, forbid_unknown_fields=True, tag="beacon_reveal"):
    """A validator opens its part of a beacon, once enough are sealed."""

    number: Counter
    validator: Key
    secret: Hash


class Absence(Struct, frozen=True, forbid_unknown_fields=True, tag="absence"):
    """A quorum has not heard of a staked peer for more than seven days; `day` counts days since the Unix epoch."""

    peer: Key
    day: Counter


class EscrowClose(Struct, frozen=True, forbid_unknown_fields=True, tag="close"):
    """The steward is done: what is left goes back to the renter."""

    escrow: Hash


Operation = (
    Mint | WithdrawExt | WithdrawEnd | Transfer | Bond | Unbond | EscrowOpen | EscrowExtend
    | Assign | Claim | Surrender | Handover | Fence | Settle | Verdict | Appeal | Ruling | BeaconCommit | BeaconReveal
    | Absence | EscrowClose
)  # fmt: skip


class Signature(Struct, frozen=True, forbid_unknown_fields=True):
    """Who signed, and the 64 bytes."""

    signer: Key
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]


class SignedOp(Struct, frozen=True, forbid_unknown_fields=True):
    """An operation's bytes and the signatures over them (kind `op`); which are needed depends on the operation."""

    body: Annotated[bytes, Meta(max_length=8192)]
    signatures: Annotated[tuple[Signature, ...], Meta(max_length=64)]

    @property
    def op_id(self) -> Digest:
        """SHA-256 of the unsigned bytes: more signatures do not make another operation."""
        return op_id(self.body)


def op_id(body: bytes) -> Digest:
    """The id of an operation from its encoded bytes."""
    return Digest(hashlib.sha256(body).digest())


def sign_op(identity: Identity, chain: str, body: bytes) -> Signature:
    """One signature over an encoded operation."""
    return Signature(identity.peer, identity.sign(wire.signing_bytes(chain, "op", body)))


def signed_op(chain: str, operation: Operation, *signers: Identity) -> SignedOp:
    """Encode an operation and sign it with every identity given."""
    body = wire.encode(operation)
    return SignedOp(body, tuple(sign_op(signer, chain, body) for signer in signers))


def seal(provider: PeerId, salt: bytes, output: Digest) -> Digest:
    """`Claim.sealed`: binds an output to its provider without showing it."""
    return Digest(hashlib.sha256(b"shoal/1\0seal\0" + provider + salt + output).digest())


def escrow_text(escrow: bytes) -> str:
    """`esc_…`, as people see it."""
    return wire.text_id("esc", escrow)
