"""What the cheats of this library share: options with defaults, accomplices, and a book of what each of them did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

from protocol import operations, wire
from protocol.effects import Effect, Run, Send
from protocol.errors import Refused
from protocol.ledger import operation_decoder
from protocol.messages import Block, Blocks, Message, Outcome, Receipts, Submit
from protocol.operations import Operation, SignedOp
from protocol.provider_lease import Lease
from simulations.strategy import Options, Strategy

if TYPE_CHECKING:
    from simulations.simpeer import SimPeer
    from simulations.world import World

Place = tuple[bytes, int, int]
"""Escrow, chunk, epoch: one lease."""


class Cheat(Strategy):
    """A strategy with options and a memory. Peers of one class are one owner's: they know each other at no cost."""

    options_known: ClassVar[Mapping[str, float]] = {}
    """Every option and its default."""

    def __init__(self, at: int, options: Options) -> None:
        """Raises `Refused` for an option that the strategy does not have, or that is no number."""
        super().__init__(at, options)
        for key, value in options.items():
            if key not in self.options_known or isinstance(value, str):
                known = ", ".join(self.options_known) or "none"
                raise Refused(
                    f"{type(self).__name__} has no option {key}: {value!r}",
                    code="unknown_option",
                    fix=f"Its options, all numbers, are: {known}.",
                )
        self.deeds: dict[str, int] = {}
        """How often it did what."""
        self.spoils: dict[Place, str] = {}
        """Leases whose pay it did not earn, and why."""
        self.spared = 0
        """Computing that it should have done and did not, ns."""
        self._world: World | None = None

    def enter(self, world: World, peer: SimPeer) -> None:
        self._world = world

    @property
    def world(self) -> World:
        """Where it lives. An attacker's own peers only; of the others it uses what anybody can see or ask."""
        assert self._world is not None
        return self._world

    def option(self, name: str) -> float:
        """The scenario's value, or the default."""
        value = self.options.get(name, self.options_known[name])
        assert not isinstance(value, str)
        return value

    def accomplices(self) -> list[SimPeer]:
        """All peers that follow this strategy, itself among them, by index."""
        return [peer for peer in self.world.peers if type(peer.strategy) is type(self)]

    def did(self, deed: str, amount: int = 1) -> None:
        """Write it down."""
        self.deeds[deed] = self.deeds.get(deed, 0) + amount

    def took(self, lease: Lease, why: str, spared: int) -> None:
        """A lease for which it did not work: `spared` ns of computing."""
        self.did(why)
        self.spoils[place_of(lease)] = why
        self.spared += spared

    def submissions(self, signed: SignedOp) -> list[Effect]:
        """An operation on its way to every validator."""
        return [Send(peer, Submit((signed,))) for peer in self.world.genesis.validator_set.peers]


def place_of(lease: Lease) -> Place:
    """The lease's name on the ledger."""
    return lease.assign.escrow, lease.assign.chunk, lease.assign.epoch


def lease_of(peer: SimPeer, run: Run) -> Lease | None:
    """The lease behind an execution; None when it is an audit."""
    return next((lease for lease in peer.machines.provider.leases.values() if lease.task == run.task), None)


def consecutive_valid(peer: SimPeer) -> int:
    """What decides how often this peer is audited, as its own copy of the ledger has it."""
    standing = peer.machines.ledger.standings.get(peer.id)
    return standing.consecutive_valid if standing is not None else 0


def decided(message: object) -> Iterator[tuple[Operation, SignedOp, Outcome | None]]:
    """The operations that a peer hears of: with outcome from receipts, without from blocks that it follows."""
    match message:
        case Receipts():
            for signed, receipt in zip(message.operations, message.receipts, strict=True):
                yield operation_of(signed), signed, receipt.outcome
        case Blocks(blocks=blocks):
            for block in blocks:
                yield from _ordered(block)


def _ordered(block: Block) -> Iterator[tuple[Operation, SignedOp, None]]:
    for signed in block.operations:
        yield operation_of(signed), signed, None


def operation_of(signed: SignedOp) -> Operation:
    """What a signed operation says."""
    return operation_decoder.decode(signed.body)


def submitted(effect: Effect) -> Iterator[tuple[Operation, SignedOp]]:
    """The operations that an effect hands in."""
    message: Message | None = effect.message if isinstance(effect, Send) else None
    if isinstance(message, Submit):
        for signed in message.operations:
            yield operation_of(signed), signed


def signed_by(world: World, operation: Operation, *signers: SimPeer) -> SignedOp:
    """An operation with the signatures of these peers."""
    return operations.signed_op(world.genesis.chain, operation, *(peer.identity for peer in signers))


def countersigned(world: World, signed: SignedOp, *signers: SimPeer) -> SignedOp:
    """The same operation with more signatures."""
    more = tuple(operations.sign_op(peer.identity, world.genesis.chain, signed.body) for peer in signers)
    return SignedOp(signed.body, (*signed.signatures, *more))


def spec_digest(run: Run) -> bytes:
    """The digest of what is to be computed."""
    return wire.digest(wire.encode(run.spec))
