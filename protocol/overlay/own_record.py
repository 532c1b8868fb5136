"""Our own peer record: what it says, when it is signed again, and whether somebody else signs with our key."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from protocol.errors import LocalError
from protocol.identity import Identity
from protocol.overlay.peer_record import (
    ADDRESSES_MAX,
    RECORD_LIFE,
    TOPICS_MAX,
    Contact,
    PeerRecord,
    open_record,
    sign_record,
    topic_key,
)
from protocol.overlay.place import NOWHERE, Place
from protocol.units import SECOND, Micros

MEMBERS: Final = "members"
"""The topic of everybody in a network."""

ANNOUNCE_GAP: Final = Micros(5 * SECOND)
"""Microseconds between two signatures whatever happens: each is brought to two dozen peers."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a record says, without its times."""

    addresses: tuple[str, ...] = ()
    roles: tuple[Literal["provider", "validator", "steward"], ...] = ()
    capabilities: tuple[str, ...] = ()
    topics: tuple[str, ...] = (MEMBERS,)
    """Names; at most four: who looks for a relay looks under `relay/1`."""
    place: Place = NOWHERE


class OwnRecord:
    """The newest record that this peer signed."""

    def __init__(self, identity: Identity, network: str) -> None:
        self._identity = identity
        self._network = network
        self._contact: Contact | None = None
        self._sequence = 0
        self.profile = Profile()

    @property
    def is_signed(self) -> bool:
        """False before the first `sign`."""
        return self._contact is not None

    @property
    def contact(self) -> Contact:
        """The record; LocalError before the first `sign`."""
        if self._contact is None:
            raise LocalError("the directory was used before `announce`", code="not_announced")
        return self._contact

    def is_due(self, now: Micros) -> bool:
        """True when half of its life is over."""
        return self._contact is not None and now >= self._contact.record.issued + RECORD_LIFE // 2

    def is_news(self, profile: Profile, now: Micros) -> bool:
        """True when this should be said now. A coordinate that moved is remembered for the next signature."""
        known = self.profile
        place = Place(profile.place.region, known.place.coordinate)
        if replace(profile, place=place) == known:
            self.profile = profile
            return False
        return self._contact is None or now >= self._contact.record.issued + ANNOUNCE_GAP

    def sign(self, profile: Profile, now: Micros) -> None:
        """Say this from now on. Refused when it is too long for a record."""
        sequence = max(now, self._sequence + 1)
        record = PeerRecord(
            sequence=sequence,
            issued=now,
            expires=now + RECORD_LIFE,
            addresses=profile.addresses[:ADDRESSES_MAX],
            roles=profile.roles,
            capabilities=profile.capabilities[:16],
            topics=tuple(topic_key(self._network, topic) for topic in profile.topics[:TOPICS_MAX]),
            place=profile.place,
        )
        signed = sign_record(self._identity, self._network, record)
        self._contact = open_record(signed, self._network, now, self._identity.peer)
        self._sequence, self.profile = sequence, profile

    def is_twin(self, contact: Contact) -> bool:
        """True, once, for a record under our key that we did not sign; our next one will be newer than it."""
        if contact.peer != self._identity.peer or contact.record.sequence < self._sequence:
            return False
        if self._contact is not None and contact.signed == self._contact.signed:
            return False
        self._sequence = contact.record.sequence + 1
        return True
