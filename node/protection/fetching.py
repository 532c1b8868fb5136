"""Bring the packs of a snapshot here: k shards of each, those that come first, from several holders at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from node.blobs import BlobStore
from protocol.effects import Resume
from protocol.errors import Refused, ShoalError
from protocol.snapshots import Manifest, Pack, is_sound, shard_of
from protocol.units import Digest, Micros, PeerId
from storage.restoring import Ask, Restoring

Fetch = Callable[[Digest, int, tuple[PeerId, ...]], Awaitable[None]]
"""Bring a blob of at most so many bytes from one of these peers, the best first. Raises ShoalError when none has it."""

LOOK_SECONDS: Final = 0.5
"""How often a slow holder is noticed."""

FETCH_SECONDS: Final = 1_800.0
"""A snapshot that has not come after half an hour will not: the job begins again instead of waiting."""


def fetched_bytes(manifest: Manifest) -> int:
    """Bytes of k shards of each pack, by what the manifest says of them: what is fetched, and then held in memory."""
    return sum(max(pack.size, pack.k * pack.shard_size) for pack in manifest.packs)


def check(manifest: Manifest, bytes_max: int) -> None:
    """Refused (`snapshot_bad`) for a manifest that cannot be, or is larger than this task's snapshots may be."""
    total = fetched_bytes(manifest)
    if not all(is_sound(pack) for pack in manifest.packs) or manifest.index_bytes > manifest.packs[-1].size:
        raise Refused("the manifest's numbers do not agree with each other", code="snapshot_bad")
    if total > bytes_max or manifest.size > bytes_max:
        raise Refused(
            f"the snapshot has {max(total, manifest.size)} bytes, {bytes_max} are allowed for this job",
            code="snapshot_bad",
            numbers={"bytes": total, "bytes_max": bytes_max},
        )


async def bring(resume: Resume, blobs: BlobStore, fetch: Fetch, brought: list[Digest]) -> None:
    """Fetch until k shards of each pack are here; the digests that were not before are added to `brought` as they
    come. Refused or Unavailable when that cannot be."""
    with trio.move_on_after(FETCH_SECONDS):
        for index, pack in enumerate(resume.manifest.packs):
            holders = resume.holders[index] if index < len(resume.holders) else ()
            await _Bringing(pack, holders, blobs, fetch, brought).run()
        return
    raise Refused(f"the snapshot did not come within {FETCH_SECONDS:g} s", code="too_slow")


class _Bringing:
    """One pack."""

    def __init__(
        self,
        pack: Pack,
        holders: tuple[tuple[int, PeerId], ...],
        blobs: BlobStore,
        fetch: Fetch,
        brought: list[Digest],
    ) -> None:
        here = [index for index in range(pack.n) if blobs.has(Digest(shard_of(pack, index)))]
        self._plan = Restoring(pack, holders, here, lambda peer: 1.0)
        self._blobs = blobs
        self._fetch = fetch
        self._brought = brought
        self._woken = trio.Event()
        self._locks: dict[Digest, trio.Lock] = {}

    async def run(self) -> None:
        why: Refused | None = None
        async with trio.open_nursery() as nursery:
            while not self._plan.is_done and why is None:
                try:
                    asks = self._plan.asks(_now())
                except Refused as refusal:
                    why = refusal
                    break
                for ask in asks:
                    nursery.start_soon(self._one, ask)
                self._woken = trio.Event()
                with trio.move_on_after(LOOK_SECONDS):
                    await self._woken.wait()
                self._plan.look(_now())
            nursery.cancel_scope.cancel()
        if why is not None:
            raise why

    async def _one(self, ask: Ask) -> None:
        async with self._locks.setdefault(ask.shard, trio.Lock()):  # The shards of a copy are one blob.
            try:
                if not self._blobs.has(ask.shard):
                    await self._fetch(ask.shard, ask.size, ask.sources)
                    self._brought.append(ask.shard)
            except ShoalError:
                self._plan.failed(ask.index)
            else:
                self._plan.arrived(ask.index)
        self._woken.set()


def _now() -> Micros:
    return Micros(int(trio.current_time() * 1_000_000))
