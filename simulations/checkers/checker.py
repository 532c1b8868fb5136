"""What checkers share: whom they look at, and how they say that a rule is broken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, NoReturn

from simulations.observer import Observer
from simulations.scenario import Check
from simulations.subject import Subject
from simulations.violation import Violation

if TYPE_CHECKING:
    from simulations.world import World


class Checker(Observer):
    """An observer that raises `Violation`. It judges only what honest peers did."""

    name: ClassVar[Check]

    def __init__(self) -> None:
        self.peers: Sequence[Subject] = ()
        """Everybody, by index."""

    def started(self, world: World) -> None:
        self.peers = world.peers

    def fail(self, detail: str, peer: int, now: int, about: bytes = b"") -> NoReturn:
        """Raise the violation."""
        raise Violation(self.name, detail, peer, now, about)
