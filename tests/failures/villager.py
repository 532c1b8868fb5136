"""One peer of a village: every machine of a node behind one door, its disk, its jobs, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from protocol import matching, wire
from protocol.completions import RunDone, Sealed
from protocol.effects import Emit, Run
from protocol.errors import ShoalError
from protocol.genesis import Genesis
from protocol.identity import Identity
from protocol.messages import Capability, Runtime
from protocol.offers import Terms
from protocol.peer import Peer
from protocol.provider_lease import Lease
from protocol.units import CREDIT, GIB, SECOND, Credits, Digest, Micros, PeerId
from storage.hazard import Hazard
from storage.interval import Cadence
from storage.neighbourhood import Seen
from storage.wiring import StorageOutside, Vault, wire_storage
from verifier.wiring import Machines, Outside, wire_machines

CAPABILITY: Final = Capability(8000, 8 * GIB, 8 * GIB, 1, 1)
RUNTIME: Final = Runtime("python", wire.digest(b"python 3"))
DISK: Final = 1 << 40
STEP: Final = Micros(SECOND)
"""One step of every job here takes a second."""


@dataclass
class Execution:
    """A chunk that runs: one step a second from `first` on."""

    run: Run
    first: int
    steps: int
    since: Micros
    at: int = 0
    """The step at which it last stood still."""
    number: int = 0
    turn: int = 0
    is_held: bool = False
    is_over: bool = False

    def step(self, now: int) -> int:
        """Steps done by now."""
        return self.at if self.is_held else min(self.steps, self.at + max(0, now - self.since) // STEP)


@dataclass
class Villager:
    """One peer. Its machines are gone when it is restarted; `records` and `blobs` stay."""

    name: str
    identity: Identity
    address: str
    slots: int
    machines: Machines = field(init=False)
    vault: Vault = field(init=False)
    peer: Peer = field(init=False)
    records: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    events: list[Emit] = field(default_factory=list)
    errors: list[ShoalError] = field(default_factory=list)
    executions: dict[str, Execution] = field(default_factory=dict)
    begun: list[tuple[str, int]] = field(default_factory=list)
    """(task, step at which it began), of every protected run."""
    done: list[RunDone] = field(default_factory=list)
    sealed: list[Sealed] = field(default_factory=list)
    parked: set[str] = field(default_factory=set)
    boots: int = 0
    is_up: bool = False
    skew: int = 0
    """Microseconds by which its clock is ahead of true time."""
    starved_until: Micros = Micros(0)
    dark_until: Micros = Micros(0)
    """Nothing goes in or out before; connections live on and send again."""
    asleep_until: Micros = Micros(0)
    """Its processes stand still, and what is sent to it is lost."""
    rate: int = 100_000_000
    """Bytes per second that it sends."""
    serves: bool = True
    """False: it proves what it holds, and hands nothing out."""
    restores: Callable[[int], bool] = lambda _step: True
    """Whether a restore comes out; a test may kill the peer in it."""

    @property
    def id(self) -> PeerId:
        return self.identity.peer

    def emitted(self, name: str) -> list[Emit]:
        return [one for one in self.events if one.name == name]

    def running(self) -> list[Execution]:
        return [one for one in self.executions.values() if not one.is_over]

    def boot(self, genesis: Genesis, now: Callable[[], Micros], dice: Random) -> None:
        """Wire all machines as a node does (node/run.py, node/custody.py)."""
        self.boots += 1
        self.executions, self.parked = {}, set()

        def clock() -> Micros:
            return Micros(now() + self.skew)

        def deal() -> Random:
            return Random(dice.randrange(1 << 30))

        outside = Outside(self.blobs.__getitem__, lambda *_: "bwrap", CAPABILITY, 2, clock, deal)
        numbered = {int(key[6:]): value for key, value in self.records.items() if key.startswith("block/")}
        blocks = [numbered[height] for height in sorted(numbered)]
        machines = self.machines = wire_machines(self.identity, genesis, outside, blocks, self.records.get("vote"))

        def pace(lease: Lease, at: Micros) -> Cadence:
            wanted = lease.spec.protection
            return Cadence(wanted.profile, wanted.every, Hazard(), at, at)

        def seen() -> list[Seen]:
            offers = machines.offers.offers(clock())
            return [Seen(who, one.addresses, matching.place_of(one).region) for who, one in offers.items()]

        def free() -> int:
            return DISK - sum(map(len, self.blobs.values()))

        storage = StorageOutside(seen, deal, self.blobs.__contains__, free, DISK if self.slots else 0, pace)
        self.vault = wire_storage(self.identity, genesis.chain, storage)
        machines.provider.guards.append(self.vault.protector)
        self.vault.protector.listeners.append(machines.reclaim)
        machines.hands.cut_now = self.vault.protector.cut_now
        self.peer = machines.peer(self.vault.listed)
        self.is_up = True

    @property
    def terms(self) -> Terms:
        """What it offers."""
        return Terms(
            ("provider",) if self.slots else (),
            CAPABILITY,
            (self.address,),
            ("bwrap",),
            (RUNTIME,),
            self.slots,
            self.slots,
            Credits(CREDIT),
        )
