"""How often each peer may ask: a bucket of tokens per peer, in bounded memory. Spec: specs/23-discovery.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from protocol.units import SECOND, Micros, PeerId

PEERS_MAX: Final = 1_024
"""Buckets kept; the peer unheard for longest gets a fresh one, which costs an attacker 1024 connections a time."""


@dataclass(slots=True)
class _Bucket:
    millitokens: int
    at: Micros


class Allowances:
    """`take` says whether a peer may ask once more now."""

    def __init__(self, burst: int, per_second: int) -> None:
        self._burst = burst * 1_000
        self._rate = per_second * 1_000
        self._buckets: dict[PeerId, _Bucket] = {}

    def take(self, peer: PeerId, now: Micros) -> bool:
        """Use up one token; False when there is none."""
        bucket = self._buckets.pop(peer, None) or _Bucket(self._burst, now)
        self._buckets[peer] = bucket
        if len(self._buckets) > PEERS_MAX:
            del self._buckets[next(iter(self._buckets))]
        gained = max(0, now - bucket.at) * self._rate // SECOND
        if gained:
            bucket.millitokens, bucket.at = min(self._burst, bucket.millitokens + gained), now
        if bucket.millitokens < 1_000:
            return False
        bucket.millitokens -= 1_000
        return True
