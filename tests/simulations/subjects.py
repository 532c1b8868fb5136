"""Peers for tests of checkers: the real machines of one peer, without a world around them."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Final

from protocol.genesis import Genesis
from protocol.identity import Identity
from protocol.messages import Capability
from protocol.units import GIB
from simulations.clock import Clock
from simulations.scenario import Role
from simulations.strategy import HONEST, Strategy
from tests.protocol.ledger_world import GENESIS, PROVIDERS, START, STEWARD, VALIDATOR
from verifier.wiring import Machines, Outside, wire_machines

IDENTITIES: Final = (VALIDATOR, STEWARD, *PROVIDERS)
ROLES: Final[tuple[Role, ...]] = ("validator", "steward", "provider", "provider", "provider")


@dataclass
class Actor:
    """What observers see of a peer."""

    index: int
    name: str
    role: Role
    identity: Identity
    machines: Machines
    boots: int = 1
    is_up: bool = True
    strategy: Strategy = HONEST
    clock: Clock = field(default_factory=Clock)


def machines(identity: Identity, blocks: tuple[bytes, ...] = (), genesis: Genesis = GENESIS) -> Machines:
    """A peer's machines, as a node wires them."""
    outside = Outside(
        read=lambda digest: b"",
        executor=lambda spec, renter: "bwrap",
        capability=Capability(8_000, GIB, GIB, 1, 1),
        audits_at_once=1,
        now=lambda: START,
        dice=lambda: Random(1),
    )
    return wire_machines(identity, genesis, outside, blocks)


def actor(index: int) -> Actor:
    """Peer 0 is the validator, 1 the steward, the others are providers."""
    identity, role = IDENTITIES[index], ROLES[index]
    return Actor(index, f"{role}-{index}", role, identity, machines(identity))
