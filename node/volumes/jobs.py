"""Volumes and jobs: which version a job sees, and what becomes of what it wrote. Spec: specs/29-volumes.md."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Final

from msgspec import structs

from node.blobs import BlobStore
from node.events import EventLog
from node.store import RecordStore
from node.volumes.keeper import VolumeKeeper
from node.volumes.recovery import Recovery
from node.volumes.shelf import PACKED
from protocol import wire
from protocol.errors import Refused, ShoalError
from protocol.job_record import JobRecord
from protocol.jobrules import broken
from protocol.jobspec import ZERO_DIGEST, JobSpec, Manifest, TreeRef
from protocol.units import MIB, Digest, PeerId
from storage import trees, volumes

MANIFEST_BYTES_MAX: Final = 4 * MIB
"""Of an output's manifest."""

TAKEN_PREFIX: Final = "volume-job/"
"""Jobs whose volumes have been taken over."""

log: Final = logging.getLogger("shoal.volumes")

_manifest: Final = wire.decoder(Manifest)


class JobVolumes:
    """Fills in versions when a job is submitted, and makes new ones when it has settled."""

    def __init__(self, keeper: VolumeKeeper, recovery: Recovery, blobs: BlobStore, records: RecordStore) -> None:
        self._keeper = keeper
        self._recovery = recovery
        self._blobs = blobs
        self._records = records

    async def resolved(self, spec: JobSpec, renter: PeerId) -> JobSpec:
        """The specification with digests and sizes for the volumes that it names; their content is here afterwards.

        Refused: `no_such_volume`, `no_such_version`, `missing_blobs`, `bad_spec` (with a pointer)."""
        if not spec.mounts:
            return spec
        return structs.replace(
            spec, trees=tuple([await self._ref(ref, index, renter) for index, ref in enumerate(spec.mounts)])
        )

    async def _ref(self, ref: TreeRef, index: int, renter: PeerId) -> TreeRef:
        if not ref.volume or ref.digest != ZERO_DIGEST:
            lists = (Digest(ref.digest),)
            if self._keeper.missing(lists):
                detail = f"the list of the tree at {ref.mount} is not uploaded"
                raise Refused(detail, code="missing_blobs", fix="Upload the list and its pieces first.")
            return ref
        name, _, which = ref.volume.partition("@")
        state = self._keeper.states.get((renter, name))
        if ref.is_writable and volumes.newest(state.catalogue) is None:
            data = trees.encode(trees.EMPTY)
            return structs.replace(ref, digest=self._blobs.put(data), list_bytes=len(data), size=0, volume=name)
        try:
            version = await self._recovery.open(state, which, lambda done, total: None)
        except Refused as error:
            raise broken(f"/trees/{index}/volume", error.detail, error.fix, error.code) from error
        return structs.replace(ref, digest=version.tree, list_bytes=version.tree_bytes, size=version.size, volume=name)

    def in_use(self, jobs: Iterable[JobRecord]) -> set[Digest]:
        """Blobs that jobs which are not over still need."""
        used: set[Digest] = set()
        for record in jobs:
            if not record.is_final:
                used |= {Digest(file.digest) for file in record.spec.files}
                for ref in record.spec.mounts:
                    used.add(Digest(ref.digest))
                    if self._blobs.has(Digest(ref.digest)):
                        tree = trees.decode(self._blobs.read(Digest(ref.digest), trees.TREE_BYTES_MAX))
                        used |= set(trees.piece_digests(tree))
        return used

    async def follow(self, events: EventLog, jobs: Callable[[], Iterable[JobRecord]]) -> None:
        """Take over what settled jobs wrote: those that settled before, then each as it does. Never returns."""
        start = events.next_sequence
        for record in tuple(jobs()):
            await self.take(record)
        async for event in events.follow(start):
            if event.name == "job" and event.fields.get("state") == "settled":
                for record in tuple(jobs()):
                    if record.job.hex() == event.fields.get("job"):
                        await self.take(record)

    async def take(self, record: JobRecord) -> None:
        """Make what a settled job left in its volumes their next versions, once."""
        written = [ref for ref in record.spec.mounts if ref.is_writable]
        key = TAKEN_PREFIX + record.job.hex()
        if not written or record.state != "settled" or self._records.get(key) is not None:
            return
        for ref in written:
            try:
                digest = self._written(record, ref)
                version = await self._keeper.commit(PeerId(record.renter), ref.volume, digest)
            except ShoalError as error:
                log.warning("volume %s has no version from job %s: %s", ref.volume, record.job.hex(), error.detail)
            else:
                log.info("volume %s: version %d from job %s", ref.volume, version.number, record.job.hex())
        self._records.put(key, b"taken")

    def _written(self, record: JobRecord, ref: TreeRef) -> Digest:
        """The tree that the job's only chunk left in a volume."""
        data = self._blobs.read(Digest(record.chunks[0].output), MANIFEST_BYTES_MAX)
        manifest = wire.decode(data, _manifest, PeerId(record.chunks[0].provider), MANIFEST_BYTES_MAX)
        wanted = f"{PACKED}/{ref.volume}/tree"
        found = next((file for file in manifest.files if file.path == wanted), None)
        if found is None:
            raise Refused(f"the output has no {wanted}", code="bad_output")
        return Digest(found.digest)
