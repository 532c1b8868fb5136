"""A simulated peer as observers see it: no more than they need, so that tests can hand in less than a whole one."""

from __future__ import annotations

from typing import Protocol

from protocol.identity import Identity
from simulations.clock import Clock
from simulations.scenario import Role
from simulations.strategy import HONEST, Strategy
from verifier.wiring import Machines


class Subject(Protocol):
    """What `simulations.simpeer.SimPeer` has, read only."""

    @property
    def index(self) -> int: ...

    @property
    def name(self) -> str: ...

    @property
    def role(self) -> Role: ...

    @property
    def identity(self) -> Identity: ...

    @property
    def machines(self) -> Machines: ...

    @property
    def boots(self) -> int:
        """Starts of its program so far."""
        ...

    @property
    def clock(self) -> Clock: ...

    @property
    def is_up(self) -> bool: ...

    @property
    def strategy(self) -> Strategy: ...


def is_honest(peer: Subject) -> bool:
    """Whether it follows the protocol for the whole run."""
    return peer.strategy is HONEST
