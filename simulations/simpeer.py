"""One simulated peer: the node's own machines on a simulated host that can be killed and started again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from protocol.effects import Machine
from protocol.errors import Refused
from protocol.follower import Follower
from protocol.genesis import Genesis
from protocol.identity import Identity, peer_text
from protocol.jobspec import JobSpec
from protocol.offers import Terms
from protocol.peer import Peer
from protocol.units import Digest, Micros, PeerId
from simulations import chance
from simulations.clock import Clock
from simulations.compute import Computer
from simulations.custody import Stay, wire_custody
from simulations.disk import Disk
from simulations.library import Library
from simulations.queue import Queue
from simulations.scenario import Role
from simulations.strategy import HONEST, Strategy
from storage.wiring import Vault
from verifier.wiring import Command, Machines, Outside, wire_machines

EXECUTOR = "bwrap"
"""The tier on which simulated hosts run: the one that needs nothing installed."""


@dataclass(eq=False, slots=True)
class SimPeer:
    """A host, what it keeps on disk, and the machines that run on it while it is up."""

    index: int
    name: str
    role: Role
    identity: Identity
    seed: int
    terms: Terms
    clock: Clock
    disk: Disk
    computer: Computer
    library: Library
    queue: Queue
    offer_interval: Micros
    offer_life_max: Micros
    keeps_book: bool
    """Whether it remembers everybody's offers. Who carries no job and judges nothing has no use for them."""
    is_custodian: bool = False
    """Whether the machines of custody run behind its door: in worlds whose jobs are protected."""
    is_carrying: bool = True
    """False for a peer of the simulator's own that no renter knows."""
    neighbours: Callable[[], list[PeerId]] = list
    """Connected peers that keep a book too."""
    strategy: Strategy = HONEST
    shared: Follower | None = None
    machines: Machines = field(init=False)
    peer: Peer = field(init=False)
    boots: int = 0
    """Starts so far; work of an earlier boot is void."""
    is_up: bool = False
    wake_at: int = -1
    """Time (ns) of the tick that is scheduled; -1: none."""
    stopped: set[str] = field(default_factory=set)
    """Tasks of this boot that were told to stop."""
    fetching: set[tuple[Digest, bool]] = field(default_factory=set)
    vault: Vault | None = None
    stay: Stay = field(default_factory=Stay)
    parked: dict[str, bool] = field(default_factory=dict)
    """Scripts of other leases that were brought to their first loop (True), or are on the way there."""
    starved_until: int = 0
    """The process gets no processor time before this, ns."""

    @property
    def id(self) -> PeerId:
        """What the protocol calls it."""
        return self.identity.peer

    def boot(self, genesis: Genesis, now: int) -> None:
        """Start the program: machines from what the disk holds. Raises `LocalError` when the disk is unusable."""
        self.boots += 1
        self.clock.restart(now)
        self.disk.blocks()  # opens and checks the journal
        blocks, voted = self.disk.journal, self.disk.get("vote")
        self.machines = wire_machines(self.identity, genesis, self._outside(), blocks, voted, self.shared)
        self.stay.come(self.clock.read(now))
        self.vault = wire_custody(self, genesis.chain) if self.is_custodian else None
        self.peer = Peer(self.strategy.machines(self, self._listed()))
        self.is_up, self.wake_at, self.starved_until = True, -1, 0
        self.stopped, self.fetching, self.parked = set(), set(), {}

    def kill(self) -> None:
        """The process is gone; its disk stays."""
        if self.is_up:
            self.stay.go(self.clock.read(self.queue.now))
        self.is_up, self.wake_at = False, -1

    def has(self, machine: Machine) -> bool:
        """Whether a machine runs here, in this boot."""
        custody = self.vault.listed if self.vault is not None else []
        return any(machine is known for known in (*self.machines.listed, *custody))

    def restored(self) -> list[Command]:
        """What to do first so that it goes on from what its disk holds."""
        records = self.disk.records()
        first = self.machines.restored(records, self.id)
        return first if self.vault is None else [*self.vault.restored(records), *first]

    def _listed(self) -> list[Machine]:
        left_out: list[Machine] = []
        if self.shared is not None:
            left_out.append(self.machines.replica)
        if not self.keeps_book:
            left_out += [self.machines.offers, self.machines.catchup]
        listed = [machine for machine in self.machines.listed if not any(machine is other for other in left_out)]
        return listed if self.vault is None else [*listed, *self.vault.listed]

    def _outside(self) -> Outside:
        dice = iter(range(1 << 30))
        clock, library, index, boots = self.clock, self.library, self.index, self.boots
        queue = self.queue

        def dealt() -> Random:
            return chance.stream(self.seed, self.name, "boot", boots, next(dice))

        return Outside(
            read=lambda digest: library.read(index, digest),
            executor=self._executor,
            capability=self.terms.capability,
            audits_at_once=max(1, self.terms.capability.cpus_milli // 2000),
            now=lambda: clock.read(queue.now),
            dice=dealt,
            offer_interval=self.offer_interval,
            offer_life_max=self.offer_life_max,
            neighbours=self.neighbours,
        )

    def _executor(self, spec: JobSpec, renter: PeerId) -> str:
        if spec.runtime not in {runtime.name for runtime in self.terms.runtimes}:
            raise Refused(f"{peer_text(self.id)} has no runtime {spec.runtime}", code="no_runtime")
        return EXECUTOR
