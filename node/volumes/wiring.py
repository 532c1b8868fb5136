"""Puts volumes on a node: one call where the node is wired, one task in its nursery."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import trio

from node.blobs import BlobStore
from node.control import Handler
from node.events import EventLog
from node.parts import Parts
from node.store import RecordStore
from node.volumes.api import VolumeApi
from node.volumes.crates import CrateCustody, Shards
from node.volumes.guarding import Guardian
from node.volumes.heads import HeadKeeper, Way
from node.volumes.jobs import JobVolumes
from node.volumes.keeper import VolumeKeeper
from node.volumes.recovery import Recovery
from node.volumes.shards import CustodianShards
from node.volumes.states import States
from protocol.identity import Identity
from protocol.job_record import JobRecord
from protocol.units import Micros, PeerId
from storage.erasure import ErasureCode
from storage.wiring import Vault


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What volumes need of a node."""

    network: str
    me: PeerId
    way: Way
    blobs: BlobStore
    records: RecordStore
    events: EventLog
    now: Callable[[], Micros]
    renter: Callable[[PeerId], Identity | None]
    jobs: Callable[[], Iterable[JobRecord]]
    """Of this node's steward."""


@dataclass(frozen=True, slots=True)
class Volumes:
    """What the node gets."""

    jobs: JobVolumes
    methods: dict[str, Handler]
    run: Callable[[], Awaitable[None]]
    """An async function: looks after all volumes until cancelled."""


def wire_node(parts: Parts, vault: Vault, erasure: ErasureCode) -> Volumes:
    """The same for a whole node."""
    steward = parts.steward
    around = Surroundings(
        network=parts.config.network,
        me=parts.identity.peer,
        way=parts.transport,
        blobs=parts.blobs,
        records=parts.records,
        events=parts.events,
        now=parts.now,
        renter=steward.renters.get,
        jobs=lambda: [job.record for job in steward.jobs.values()],
    )
    shards = CustodianShards(parts.driver, vault.custodian, vault.neighbourhood, parts.now)
    return wire_volumes(around, shards, erasure)


def wire_volumes(around: Surroundings, shards: Shards, erasure: ErasureCode) -> Volumes:
    """Serve heads from now on; `run` belongs into the node's nursery."""
    states = States(around.records, around.renter)
    custody = CrateCustody(around.blobs, erasure, shards, around.way)
    heads = HeadKeeper(around.network, around.way, around.blobs, around.records, around.now, around.me)
    guardian = Guardian(around.network, states, around.blobs, custody, heads, around.way.connected, around.now)
    keeper = VolumeKeeper(states, around.blobs, around.now, guardian.changed, lambda: jobs.in_use(around.jobs()))
    recovery = Recovery(around.network, keeper, around.blobs, custody, heads, around.way, guardian.changed)
    jobs = JobVolumes(keeper, recovery, around.blobs, around.records)
    heads.serve()

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guardian.run, keeper)
            nursery.start_soon(jobs.follow, around.events, around.jobs)

    return Volumes(jobs, VolumeApi(keeper, recovery).methods(), run)
