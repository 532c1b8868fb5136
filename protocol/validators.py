"""Who certifies blocks and judges: keys with voting power, and how much power is enough. Spec: specs/08-blocks.md."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from protocol import wire
from protocol.errors import LocalError
from protocol.units import Digest, PeerId

VALIDATORS_MAX: Final = 50
"""The design point of the ordered log: with more, votes cost more than operations (research note, decision 1)."""


class ValidatorSet:
    """The validators of one chain, in genesis order; the first is the leader. Immutable."""

    __slots__ = ("_power", "chain", "digest", "peers", "quorum", "total")

    def __init__(self, chain: str, members: Iterable[tuple[bytes, int]]) -> None:
        listed = tuple((PeerId(key), power) for key, power in members)
        self._power = dict(listed)
        if not 1 <= len(listed) <= VALIDATORS_MAX or len(self._power) != len(listed) or min(self._power.values()) < 1:
            raise LocalError(
                f"{len(listed)} validators: 1 to {VALIDATORS_MAX} distinct keys with power > 0", code="bad_validators"
            )
        self.chain = chain
        self.peers: tuple[PeerId, ...] = tuple(self._power)
        self.total = sum(self._power.values())
        self.quorum = 2 * self.total // 3 + 1
        """Power that certifies: any two such groups share more than a third of it."""
        self.digest = Digest(hashlib.sha256(wire.encode((chain, listed))).digest())

    @property
    def leader(self) -> PeerId:
        """Who proposes blocks."""
        return self.peers[0]

    def __contains__(self, key: object) -> bool:
        return key in self._power

    def power(self, signers: Iterable[bytes]) -> int:
        """Power of the distinct validators among these keys; strangers have none."""
        return sum(self._power.get(PeerId(key), 0) for key in frozenset(signers))

    def is_quorum(self, signers: Iterable[bytes]) -> bool:
        """Whether these keys together certify."""
        return self.power(signers) >= self.quorum
