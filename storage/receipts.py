"""Who has promised which shard of a pack, and in how many failure domains: the owner's side of custody.

Counting shares is not enough: ten shares on one server are one share (Tahoe-LAFS, "servers of happiness"). What counts
is the largest matching of shards to domains in which nobody appears twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from protocol.errors import RemoteViolation
from protocol.snapshots import Kept, Pack, PackHolders, is_receipt, required, shard_of
from protocol.units import Digest, Micros, PeerId
from storage.erasure import Code

DomainOf = Callable[[PeerId], str]
"""The failure domain of a peer."""


@dataclass(slots=True)
class Custody:
    """One pack and the receipts for it. Several snapshots may share one."""

    pack: Pack
    receipts: dict[int, dict[PeerId, Kept]] = field(default_factory=dict)
    """By shard index; of a copy every holder has an index of its own."""
    hot: set[PeerId] = field(default_factory=set)
    """Peers that have all of it, because they stand by; no receipt says so."""

    @property
    def name(self) -> Digest:
        """The first shard's digest names the pack."""
        return Digest(self.pack.shards[0])

    @property
    def code(self) -> Code:
        return Code(self.pack.k, self.pack.n)

    @property
    def required(self) -> int:
        """Distinct failure domains that make it durable."""
        return required(self.pack.k, self.pack.n)

    @property
    def missing(self) -> list[int]:
        """Shards that nobody gave a receipt for."""
        return [index for index in range(self.pack.n) if not self.receipts.get(index)]

    @property
    def holders(self) -> set[PeerId]:
        """Everybody who gave a receipt."""
        return {peer for known in self.receipts.values() for peer in known}

    def shard(self, index: int) -> Digest:
        """The digest of a shard."""
        return Digest(shard_of(self.pack, index))

    def index_of(self, shard: bytes, holder: PeerId) -> int:
        """Which index a holder's receipt is for: of a copy, the holder's own, or the first free one."""
        if self.pack.code == "rs":
            return self.pack.shards.index(shard)
        mine = next((index for index, known in self.receipts.items() if holder in known), None)
        free = next((index for index in range(self.pack.n) if not self.receipts.get(index)), 0)
        return free if mine is None else mine

    def add(self, network: str, sender: PeerId, kept: Kept, now: Micros, at: int | None = None) -> int:
        """Take a receipt in; its index, which only for a copy may be chosen (`at`).

        RemoteViolation when it is forged, somebody else's, or over already."""
        self.check(network, sender, kept)
        if kept.until <= now:
            raise RemoteViolation(sender, f"a promise that ended {now - kept.until} µs ago", code="stale_receipt")
        index = at if at is not None and self.shard(at) == kept.shard else self.index_of(kept.shard, sender)
        known = self.receipts.setdefault(index, {})
        if sender not in known or known[sender].until < kept.until:
            known[sender] = kept
        return index

    def check(self, network: str, sender: PeerId, kept: Kept) -> None:
        """RemoteViolation for a receipt that is forged or somebody else's."""
        if kept.signature.signer != sender or not is_receipt(network, kept, self.pack):
            raise RemoteViolation(sender, "a receipt that its holder did not sign for this shard", code="bad_receipt")

    def drop(self, peer: PeerId, index: int | None = None) -> None:
        """A holder's receipt counts no more; of all shards when no index is given."""
        for at, known in self.receipts.items():
            if index is None or index == at:
                known.pop(peer, None)

    def kept_by(self, peer: PeerId) -> list[int]:
        """The shards that a peer holds."""
        return [index for index, known in self.receipts.items() if peer in known]

    def lapse(self, now: Micros) -> None:
        """Forget promises that are over."""
        for index, known in self.receipts.items():
            self.receipts[index] = {peer: kept for peer, kept in known.items() if kept.until > now}

    def spread(self, domain: DomainOf, without: Collection[PeerId] = ()) -> int:
        """Distinct shards in distinct domains, leaving out some peers: what durability is measured by."""
        return happiness(self.receipts, domain, without)

    def is_durable(self, domain: DomainOf) -> bool:
        """Receipts from enough distinct failure domains."""
        return self.spread(domain) >= self.required

    def told(self, receipts_max: int) -> PackHolders:
        """For the notice: one receipt of every shard first, then the others, at most `receipts_max`."""
        ranked = [
            (place, index, kept)
            for index, known in sorted(self.receipts.items())
            for place, kept in enumerate(sorted(known.values(), key=lambda kept: (-kept.until, kept.signature.signer)))
        ]
        ranked.sort(key=lambda item: (item[0], item[1]))
        return PackHolders(tuple((index, kept) for _, index, kept in ranked[:receipts_max]))


def custody(pack: Pack, holders: PackHolders | None = None) -> Custody:
    """A pack with the receipts of a notice, which was checked before."""
    made = Custody(pack)
    for index, kept in holders.receipts if holders else ():
        made.receipts.setdefault(index, {})[PeerId(kept.signature.signer)] = kept
    return made


def happiness(receipts: Mapping[int, Iterable[PeerId]], domain: DomainOf, without: Collection[PeerId] = ()) -> int:
    """How many distinct shards are in distinct failure domains.

    >>> happiness({0: [PeerId(b"a")], 1: [PeerId(b"a")], 2: [PeerId(b"b")]}, lambda peer: peer.hex())
    2
    """
    return len(matched(receipts, domain, without))


def matched(
    receipts: Mapping[int, Iterable[PeerId]], domain: DomainOf, without: Collection[PeerId] = ()
) -> dict[int, str]:
    """A largest matching of shards to failure domains (augmenting paths; at most 64 of each)."""
    edges = {
        index: {domain(peer) for peer in peers if peer not in without} for index, peers in sorted(receipts.items())
    }
    taken: dict[str, int] = {}

    def place(index: int, tried: set[str]) -> bool:
        for where in sorted(edges[index] - tried):
            tried.add(where)
            if where not in taken or place(taken[where], tried):
                taken[where] = index
                return True
        return False

    for index in edges:
        place(index, set())
    return {index: where for where, index in taken.items()}
