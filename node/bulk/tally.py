"""What the data plane has moved: counters for the node's statistics, and one line for each transfer that ended."""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass
from typing import Final

from node.bulk.channel import Way
from protocol.units import Digest, PeerId

TRANSFERS_KEPT: Final = 64
"""Transfers that `transfers` remembers."""


@dataclass(frozen=True, slots=True)
class Moved:
    """One transfer that ended well."""

    digest: Digest
    size: int
    seconds: float
    by_source: dict[tuple[PeerId, Way], int]
    """Bytes that came from each source, by the way they took."""

    @property
    def rate(self) -> float:
        """Bytes per second."""
        return self.size / max(self.seconds, 1e-6)


class Tally:
    """Adds to the transport's counters. Safe to use from several threads."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self._lock = threading.Lock()
        self.transfers: deque[Moved] = deque(maxlen=TRANSFERS_KEPT)

    def add(self, name: str, number: int = 1) -> None:
        """Count."""
        with self._lock:
            self._counts[name] += number

    def received(self, way: Way, size: int) -> None:
        """Verified bytes of a blob came."""
        with self._lock:
            self._counts["blob_bytes_received"] += size
            self._counts[f"bulk_bytes_received_{way}"] += size

    def sent(self, way: Way, size: int) -> None:
        """Bytes of a blob went out."""
        with self._lock:
            self._counts["blob_bytes_sent"] += size
            self._counts[f"bulk_bytes_sent_{way}"] += size

    def ended(self, moved: Moved) -> None:
        """A blob is here."""
        with self._lock:
            self.transfers.append(moved)
            self._counts["blobs_fetched"] += 1
            self._counts["bulk_rate_last"] = int(moved.rate)
