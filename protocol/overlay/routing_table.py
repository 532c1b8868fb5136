"""Whom a peer knows in the directory: buckets by distance, old friends first, few of one network in each.

After Kademlia (Maymounkov, Mazières 2002): a peer that has answered for long is likelier to answer tomorrow, and an
attacker cannot replace it by talking. Spec: specs/23-discovery.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from protocol.overlay.peer_record import Contact, position
from protocol.overlay.subnets import is_crowded
from protocol.units import Micros, PeerId

BUCKET_MAX: Final = 16
"""Peers per distance class: two fifths may be down at a time and a lookup still passes."""

FAILURES_MAX: Final = 2
"""Unanswered questions in a row after which a peer gives up its place."""

KEY_BITS: Final = 256


@dataclass(slots=True)
class Entry:
    """A peer in the table."""

    contact: Contact
    since: Micros
    heard: Micros
    is_checked: bool
    """True when it has answered a question of ours: only such peers are named to others."""
    failures: int = 0


class RoutingTable:
    """Contacts by distance from one's own position."""

    def __init__(self, me: PeerId) -> None:
        self._me = me
        self._position = position(me)
        self._buckets: dict[int, dict[PeerId, Entry]] = {}

    def __len__(self) -> int:
        return sum(len(bucket) for bucket in self._buckets.values())

    def __iter__(self) -> Iterator[Entry]:
        return (entry for bucket in self._buckets.values() for entry in bucket.values())

    def get(self, peer: PeerId) -> Entry | None:
        """One peer's entry."""
        return self._buckets.get(self._bucket(position(peer)), {}).get(peer)

    def put(self, contact: Contact, now: Micros, is_checked: bool) -> bool:
        """Take a contact in, or bring its record up to date. False: there is no room for it, or it is ourselves."""
        if contact.peer == self._me:
            return False
        bucket = self._buckets.setdefault(self._bucket(contact.position), {})
        known = bucket.get(contact.peer)
        others = [entry.contact.subnets for peer, entry in bucket.items() if peer != contact.peer]
        if known is not None:
            if is_checked:
                known.heard, known.failures, known.is_checked = now, 0, True
            newer = contact.record.sequence > known.contact.record.sequence
            if newer and not is_crowded(contact.subnets - known.contact.subnets, others):
                known.contact = contact
            return True
        if is_crowded(contact.subnets, others) or (
            len(bucket) >= BUCKET_MAX and not self._make_room(bucket, is_checked)
        ):
            return False
        bucket[contact.peer] = Entry(contact, now, now, is_checked)
        return True

    def failed(self, peer: PeerId) -> None:
        """It did not answer. At the second time its place is free."""
        entry = self.get(peer)
        if entry is None:
            return
        entry.failures += 1
        if entry.failures >= FAILURES_MAX:
            del self._buckets[self._bucket(entry.contact.position)][peer]

    def remove(self, peer: PeerId) -> None:
        """It lied."""
        self._buckets.get(self._bucket(position(peer)), {}).pop(peer, None)

    def closest(self, target: int, count: int, is_checked: bool = False) -> list[Contact]:
        """The nearest contacts to a position, nearest first; `is_checked`: only those that have answered us."""
        found = [entry.contact for entry in self if entry.is_checked or not is_checked]
        found.sort(key=lambda contact: contact.position ^ target)
        return found[:count]

    def oldest(self, before: Micros, count: int) -> list[Contact]:
        """Those unheard since `before`, the longest first."""
        waiting = sorted((entry for entry in self if entry.heard < before), key=lambda entry: entry.heard)
        return [entry.contact for entry in waiting[:count]]

    def _make_room(self, bucket: dict[PeerId, Entry], is_checked: bool) -> bool:
        """Only who failed, or was never checked while the newcomer is, makes way: old live peers stay."""
        for peer, entry in bucket.items():
            if entry.failures or (is_checked and not entry.is_checked):
                del bucket[peer]
                return True
        return False

    def _bucket(self, at: int) -> int:
        """Number of leading bits shared with us."""
        return KEY_BITS - (at ^ self._position).bit_length()
