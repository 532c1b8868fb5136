"""Which results are executed again, and by whom: decided by a beacon that nobody knew when the result was sealed.

The beacon is the hash of the block that holds the claim. Spec: specs/11-verification.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from protocol.messages import Offer
from protocol.units import CREDIT, PPM, Credits, Digest, PeerId

AUDITOR_STAKE_CAP: Final = Credits(1_000 * CREDIT)
"""Smallest units of stake that count in the draw: beyond it, more stake does not bring more audits."""


def audit_ppm(floor: int, consecutive_valid: int) -> int:
    """Share of a provider's results to execute again, parts per million: all of a newcomer's, then ever fewer.

    >>> [audit_ppm(100_000, count) for count in (0, 1, 4, 1000)]
    [1000000, 500000, 200000, 100000]
    """
    return min(PPM, max(floor, PPM // (1 + max(0, consecutive_valid))))


def is_drawn(beacon: bytes, escrow: bytes, chunk: int, epoch: int, ppm: int) -> bool:
    """Whether this result is executed again."""
    return _number(b"audit", beacon, escrow, chunk, epoch) * PPM >> 64 < ppm


def draw_auditor(
    beacon: bytes,
    place: tuple[bytes, int, int],
    turn: int,
    candidates: Mapping[PeerId, int],
    excluded: frozenset[PeerId],
) -> PeerId | None:
    """The auditor of `place` (escrow, chunk, epoch) in this turn, weighted by stake up to AUDITOR_STAKE_CAP.

    Without any stake among the candidates each weighs the same. None when nobody is left."""
    able = sorted(peer for peer in candidates if peer not in excluded)
    weights = [min(AUDITOR_STAKE_CAP, max(0, candidates[peer])) for peer in able]
    if not any(weights):
        weights = [1] * len(able)
    ticket = _number(b"auditor/%d" % turn, beacon, *place) * sum(weights) >> 64
    for peer, weight in zip(able, weights, strict=True):
        if ticket < weight:
            return peer
        ticket -= weight
    return None


def is_comparable(numeric: str, runtime: str, executor: Offer, auditor: Offer) -> bool:
    """Whether results of two hosts can be compared: for D2 with the same runtime digest, for other classes always."""
    if numeric != "D2" or runtime.startswith("image:"):
        return True
    mine = {item.digest for item in executor.runtimes if item.name == runtime}
    return bool(mine & {item.digest for item in auditor.runtimes if item.name == runtime})


def _number(purpose: bytes, beacon: bytes, escrow: bytes, chunk: int, epoch: int) -> int:
    """64 unpredictable bits; every part has a fixed length or an end mark."""
    data = b"shoal/1\0%s\0%s%s%d/%d" % (purpose, Digest(beacon), escrow, chunk, epoch)
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")
