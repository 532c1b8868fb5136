"""Four validators with real orderers on one line of messages and one clock, and machines of theirs beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final, Literal

from protocol.effects import Compute, Effect, Emit, Machine, Send, Store
from protocol.errors import Refused, RemoteViolation
from protocol.genesis import Genesis
from protocol.identity import Identity
from protocol.messages import Message, Submit
from protocol.operations import SignedOp
from protocol.policy import Policy
from protocol.units import SECOND, Micros, PeerId
from tests.protocol.ledger_world import CHAIN, FUNDS, PROVIDERS, RENTER, STAKE, START
from verifier.orderer import Orderer

KEYS: Final = tuple(Identity(bytes([40 + n]) * 32) for n in range(4))
NOW: Final = Micros(5_000_000 * SECOND)
TICK: Final = Micros(SECOND // 10)

Make = Callable[[Identity, Orderer], Sequence[Machine]]
Balances = tuple[tuple[Literal["U", "S"], bytes, int], ...]

STAKED: Final[Balances] = (
    ("U", RENTER.peer, FUNDS),
    *(("S", item.peer, STAKE) for item in (*PROVIDERS, *KEYS)),
)
"""A renter with money, and providers and validators with stake."""


def quorum_genesis(policy: Policy, balances: Balances = STAKED) -> Genesis:
    """A ledger of these four with a policy."""
    return Genesis(CHAIN, START, tuple((item.peer, 1) for item in KEYS), balances, policy)


class Quorum:
    """`make` gives each validator its machines beside the orderer; `outside` are other peers."""

    def __init__(self, genesis: Genesis, make: Make, outside: dict[PeerId, Machine] | None = None) -> None:
        self.genesis, self.make = genesis, make
        self.disks: dict[PeerId, dict[str, bytes]] = {key.peer: {} for key in KEYS}
        self.orderers: dict[PeerId, Orderer] = {}
        self.beside: dict[PeerId, list[Machine]] = {}
        self.outside = outside or {}
        self.now = NOW
        self.line: list[tuple[Micros, int, PeerId, PeerId, Message]] = []
        self.sent = 0
        self.loss = 0.0
        self.dice = Random(7)
        self.down: set[PeerId] = set()
        self.said: list[tuple[PeerId, Emit]] = []
        self.work: Callable[[PeerId, Compute], None] = lambda peer, effect: None
        self.errors: list[RemoteViolation | Refused] = []
        for key in KEYS:
            self.start(key)

    def start(self, key: Identity) -> None:
        """A process comes up with what its disk holds."""
        disk = self.disks[key.peer]
        blocks: list[bytes] = []
        while (data := disk.get(f"block/{len(blocks) + 1}")) is not None:
            blocks.append(data)
        self.orderers[key.peer] = Orderer(key, self.genesis, blocks, disk.get("vote"))
        self.beside[key.peer] = list(self.make(key, self.orderers[key.peer]))
        self.down.discard(key.peer)

    def machines(self, peer: PeerId) -> list[Machine]:
        if peer in self.outside:
            return [self.outside[peer]]
        return [] if peer in self.down or peer not in self.orderers else [self.orderers[peer], *self.beside[peer]]

    def submit(self, *operations: SignedOp) -> None:
        """Somebody hands operations to the leader."""
        self.put(KEYS[0].peer, [Send(KEYS[0].peer, Submit(operations))])

    def put(self, sender: PeerId, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(peer, message):
                    if peer != sender and self.dice.random() < self.loss:
                        continue
                    self.sent += 1
                    delay = 0 if peer == sender else self.dice.randrange(1_000, 30_000)
                    self.line.append((Micros(self.now + delay), self.sent, sender, peer, message))
                case Store(key, None):
                    self.disks[sender].pop(key, None)
                case Store(key, bytes() as value):
                    self.disks[sender][key] = value
                case Emit():
                    self.said.append((sender, effect))
                case Compute():
                    self.work(sender, effect)
                case _:
                    pass

    def give(self, peer: PeerId, message: object) -> None:
        """A completion, or a message that is not lost."""
        self.sent += 1
        self.line.append((self.now, self.sent, peer, peer, message))  # type: ignore[arg-type]

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        end = Micros(self.now + int(seconds * SECOND))
        while self.now < end:
            self.now = Micros(self.now + TICK)
            while self.line and min(entry[0] for entry in self.line) <= self.now:
                item = min(self.line, key=lambda entry: entry[:2])
                self.line.remove(item)
                self.deliver(*item[2:])
            for peer in [*self.orderers, *self.outside]:
                for machine in self.machines(peer):
                    self.put(peer, machine.tick(self.now))

    def deliver(self, sender: PeerId, to: PeerId, message: Message) -> None:
        for machine in self.machines(to):
            if isinstance(message, machine.accepts):
                try:
                    self.put(to, machine.receive(sender, message, self.now))
                except (RemoteViolation, Refused) as error:
                    self.errors.append(error)
