"""The machines of custody and who talks to whom, on one screen: the same for a node and for the simulator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from protocol.effects import Effect, Machine
from protocol.identity import Identity
from protocol.provider_lease import Lease
from protocol.units import Digest, Micros
from storage.custodian import Custodian
from storage.holder import Holder
from storage.neighbourhood import Around, Neighbourhood, Seen
from storage.pins import Pins
from storage.protected import Pace
from storage.protector import Protector
from storage.standing import Standings

Command = tuple[Machine, Callable[[Micros], list[Effect]]]
"""A method of a machine, called by its owner and not by a message."""


@dataclass(frozen=True, slots=True)
class StorageOutside:
    """What custody must know of the world around it; each driver fills it in."""

    peers: Callable[[], Sequence[Seen]]
    """Everybody with a live offer."""
    dice: Callable[[], Random]
    """Chance for one machine."""
    has: Callable[[Digest], bool]
    """Whether a whole blob is here."""
    free_bytes: Callable[[], int]
    """What the disk has left."""
    quota: int
    """Bytes that shards of others may take here; 0 = this node keeps nothing."""
    pace: Callable[[Lease, Micros], Pace]
    """When a new lease's snapshots are due (`storage.interval.Cadence`)."""


@dataclass(frozen=True, slots=True)
class Vault:
    """The machines of one peer."""

    protector: Protector
    holder: Holder
    custodian: Custodian
    standings: Standings = field(repr=False)
    """What this peer has learnt of holders."""
    neighbourhood: Neighbourhood = field(repr=False)
    pins: Pins = field(repr=False)
    """Which blobs custody uses: whoever deletes blobs asks `is_pinned` first."""

    @property
    def listed(self) -> list[Machine]:
        """All of them, in the order in which messages reach them."""
        return [self.holder, self.protector, self.custodian]

    def restored(self, records: Iterable[tuple[str, bytes]]) -> list[Command]:
        """What to do first so that this peer goes on where an earlier run of it ended. `records`: key, value."""
        kinds: dict[str, list[tuple[str, bytes]]] = {"shard": [], "guard": [], "snapshot": []}
        for key, value in records:
            kinds.get(key.partition("/")[0], []).append((key, value))
        return [
            (self.holder, lambda now: self.holder.restore(kinds["shard"], now)),
            (self.custodian, lambda now: self.custodian.restore(kinds["guard"], now)),
            (self.protector, lambda _now: self.protector.restore(kinds["snapshot"])),
        ]


def wire_storage(identity: Identity, network: str, outside: StorageOutside) -> Vault:
    """Every machine of custody. The provider's `guards` list gets `vault.protector`."""
    standings, pins = Standings(), Pins(outside.has)
    neighbourhood = Neighbourhood(identity.peer, standings, outside.peers)
    custodian = Custodian(Around(identity, network, neighbourhood, pins, outside.dice()))
    protector = Protector(Around(identity, network, neighbourhood, pins, outside.dice()), outside.pace, custodian)
    holder = Holder(identity, network, pins, outside.quota, outside.free_bytes)
    return Vault(protector, holder, custodian, standings, neighbourhood, pins)
