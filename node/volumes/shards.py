"""The shards of volumes in the hands of this node's custodian, which places, renews, audits and repairs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from node.volumes.custody import Guarded
from protocol.effects import Effect, Machine
from protocol.errors import Unavailable
from protocol.snapshots import Pack
from protocol.units import Digest, Micros, PeerId
from storage import durability
from storage.custodian import Custodian
from storage.erasure import Code
from storage.neighbourhood import Neighbourhood
from storage.receipts import Custody

WAITING = "its shards wait for holders"


class Commander(Protocol):
    """What is needed of the driver."""

    def command(self, machine: Machine, act: Callable[[Micros], list[Effect]]) -> None:
        """Run a method of a machine and perform what it asks for."""
        ...


class CustodianShards:
    """See `node.volumes.crates.Shards`."""

    def __init__(
        self, driver: Commander, custodian: Custodian, neighbourhood: Neighbourhood, now: Callable[[], Micros]
    ) -> None:
        self._driver = driver
        self._custodian = custodian
        self._neighbourhood = neighbourhood
        self._now = now

    def code(self) -> Code:
        """How a new pack is cut, by how many holders there are now. Unavailable when there are none: what is sealed for
        one holder would stay with one."""
        hood = self._neighbourhood
        candidates = hood.candidates()
        domains = len({hood.domain(candidate.peer) for candidate in candidates})
        if not domains:
            fix = "Connect with others; until then your node alone has it."
            raise Unavailable("no other peer is here that could keep it", code="no_holders", fix=fix)
        gone = hood.standings.gone_at_most({candidate.peer for candidate in candidates})
        chosen = durability.choose(domains, gone, "volume", is_large=True)
        return Code(chosen.k, chosen.n)

    def is_guarded(self, packs: Sequence[Pack]) -> bool:
        """Whether the custodian looks after all of them."""
        return all(self._custodian.custody(_name(pack)) is not None for pack in packs)

    def guard(self, crate: bytes, packs: Sequence[Pack]) -> None:
        """Have the packs kept from now on."""
        for pack in packs:
            if self._custodian.custody(_name(pack)) is None:
                custody = Custody(pack)
                self._driver.command(
                    self._custodian,
                    lambda now, custody=custody: self._custodian.guard(custody, "volume", _user(crate), now),  # type: ignore[misc]
                )

    def standing(self, packs: Sequence[Pack]) -> Guarded:
        """How they stand."""
        holders: set[PeerId] = set()
        is_placed, is_durable, detail = True, True, ""
        for pack in packs:
            status = self._custodian.status(_name(pack), self._now())
            custody = self._custodian.custody(_name(pack))
            if status is None or custody is None or not custody.holders:
                return Guarded((), False, False, WAITING)
            holders |= custody.holders
            is_placed = is_placed and not custody.missing
            is_durable = is_durable and status.verdict.is_durable
            detail = detail if status.verdict.is_durable else status.verdict.text
        return Guarded(tuple(sorted(holders)), is_placed, is_durable, detail)

    def release(self, crate: bytes, packs: Sequence[Pack]) -> None:
        """Nobody needs them any more."""
        for pack in packs:
            name = _name(pack)
            self._driver.command(
                self._custodian,
                lambda now, name=name: self._custodian.drop(name, _user(crate), False, now),  # type: ignore[misc]
            )


def _name(pack: Pack) -> Digest:
    return Digest(pack.shards[0])


def _user(crate: bytes) -> str:
    return f"volume/{crate.hex()}"
