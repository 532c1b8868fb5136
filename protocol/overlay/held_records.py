"""The records that a peer keeps for others, by key: bounded, expiring, one per signer and key.

Only its signer brings a record, so a flood of records needs as many connections under as many identities; when there
are too many, the keys farthest from ourselves go first, as others are nearer to them. Spec: specs/23-discovery.md.
"""

from __future__ import annotations

from random import Random
from typing import Final

from protocol.overlay.peer_record import Contact, position
from protocol.overlay.subnets import is_crowded
from protocol.units import Digest, Micros, PeerId

HELD_MAX: Final = 4_096
"""Records of all keys: 9 MB."""

TOPIC_MAX: Final = 256
"""Records under one key: a sample of a large network is as good as all of it."""

TOPIC_CROWD: Final = 128
"""Records under one key from which on two per network are enough."""


class HeldRecords:
    """Records under keys."""

    def __init__(self, me: PeerId) -> None:
        self._position = position(me)
        self._held: dict[Digest, dict[PeerId, Contact]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, key: Digest, contact: Contact) -> bool:
        """Keep a record. False: it is not newer than what is here, or there is no room."""
        under = self._held.get(key, {})
        known = under.get(contact.peer)
        if known is not None:
            if contact.record.sequence <= known.record.sequence:
                return known.signed == contact.signed
            under[contact.peer] = contact
            return True
        is_full = len(under) >= TOPIC_MAX
        is_crowd = len(under) >= TOPIC_CROWD and is_crowded(contact.subnets, (one.subnets for one in under.values()))
        if is_full or is_crowd or (self._count >= HELD_MAX and not self._make_room(key)):
            return False
        self._held.setdefault(key, {})[contact.peer] = contact
        self._count += 1
        return True

    def sample(self, key: Digest, count: int, now: Micros, dice: Random) -> list[Contact]:
        """Live records under a key, drawn when there are more than `count`."""
        alive = [contact for contact in self._held.get(key, {}).values() if contact.record.expires > now]
        return alive if len(alive) <= count else dice.sample(alive, count)

    def expire(self, now: Micros) -> None:
        """Forget what is over."""
        for key in list(self._held):
            under = self._held[key]
            for peer in [peer for peer, contact in under.items() if contact.record.expires <= now]:
                del under[peer]
                self._count -= 1
            if not under:
                del self._held[key]

    def _make_room(self, wanted: Digest) -> bool:
        """Drop one record of the farthest key; False when the wanted key is the farthest itself."""

        def far(key: Digest) -> int:
            return int.from_bytes(key, "big") ^ self._position

        farthest = max(self._held, key=far)
        if far(farthest) <= far(wanted):
            return False
        under = self._held[farthest]
        del under[next(iter(under))]
        self._count -= 1
        if not under:
            del self._held[farthest]
        return True
