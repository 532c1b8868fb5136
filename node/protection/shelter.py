"""What a node gives its runner so that tasks are protected: how blobs come and go, who hears of parked tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from node.blobs import BlobStore
from node.process_tier.tier import ProcessTier
from node.protection.fetching import Fetch
from node.protection.phases import OnPhase, unnoticed
from protocol.units import Digest
from storage.erasure import NUMPY, ErasureCode


def _nothing(task: str) -> None:
    """Nobody wants to hear of evicted tasks."""


@dataclass(frozen=True, slots=True)
class Shelter:
    """Settings of protection; one per node."""

    fetch: Fetch
    """Brings a shard of a snapshot here."""
    slots: int = 1
    """Tasks that may run at once; a parked one gives way to a real one."""
    erasure: ErasureCode = NUMPY
    discard: Callable[[Digest], None] | None = None
    """What is done with shards that were fetched only to be opened; None: they are deleted."""
    evicted: Callable[[str], None] = _nothing
    """Told the name of a parked task that had to give way."""
    rehearses: bool = True
    """Whether the first snapshot of a task is restored in a shadow process."""

    process: ProcessTier | None = None
    """Takes and restores images of processes, on hosts that have proved that they can."""

    on_phase: OnPhase = unnoticed
    """Told of every step of taking and restoring a snapshot."""

    def drop(self, blobs: BlobStore, digest: Digest) -> None:
        """A shard that is not needed any more."""
        (self.discard or blobs.remove)(digest)
