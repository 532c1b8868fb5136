"""A validator's part in beacons: seals a secret when the ledger wants one, and opens it when a quorum has sealed.

The secret is made of a signature over the beacon's number, which nobody else can make, and of whatever fresh public
randomness is at hand. With some it is on disk before its seal leaves, so that a restart opens what was sealed; without,
it can be made again, and two durable writes for each beacon are saved.
Spec: specs/37-verification-game.md, rules of the ledger in specs/32-economics.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from protocol import operations, wire
from protocol.beacon import seal_part
from protocol.completions import Completion
from protocol.effects import Effect, Emit, Send, Store, Wake
from protocol.errors import LocalError
from protocol.identity import Identity
from protocol.messages import Message, Receipts, Submit
from protocol.operations import BeaconCommit, BeaconReveal, Operation
from protocol.units import SECOND, Micros, PeerId
from protocol.validators import ValidatorSet

ASK_AGAIN: Final = Micros(2 * SECOND)
"""Microseconds until a part that the ledger does not show is handed in again."""

STRAGGLERS: Final = Micros(1 * SECOND)
"""Microseconds that a quorum of seals waits for the rest before parts are opened: then no more are taken."""

KEPT: Final = 8
"""Secrets of earlier beacons that stay on disk: one that failed may still be asked for."""

KEY: Final = "beacon/"
"""Under `beacon/<number>`: the secret."""


class PartView(Protocol):
    """One beacon (`protocol.beacon.Beacon`)."""

    @property
    def sealed(self) -> Mapping[bytes, bytes]: ...
    @property
    def secrets(self) -> Mapping[bytes, bytes]: ...
    @property
    def opened_in(self) -> bytes: ...


class BeaconView(Protocol):
    """What the ledger shows of beacons."""

    @property
    def beacons(self) -> Mapping[int, PartView]: ...
    @property
    def beacon_wanted(self) -> int | None: ...


@dataclass(slots=True)
class _Sent:
    """What was handed in last, and when."""

    number: int
    is_open: bool
    at: Micros


class BeaconKeeper:
    """Seals and opens. One beacon is wanted at a time."""

    accepts: tuple[type, ...] = (Receipts,)

    def __init__(
        self,
        identity: Identity,
        validators: ValidatorSet,
        ledger: Callable[[], BeaconView],
        fresh: Callable[[], bytes] = bytes,
    ) -> None:
        """`fresh`: public randomness of others (drand) where it could be had, else nothing; never waited for."""
        self._identity = identity
        self._validators = validators
        self._ledger = ledger
        self._fresh = fresh
        self._secrets: dict[int, bytes] = {}
        self._sent: _Sent | None = None
        self._quorum: tuple[int, Micros] | None = None
        """Beacon and time at which its quorum of seals was first seen."""

    def restore(self, records: Iterable[tuple[str, bytes]], now: Micros) -> list[Effect]:
        """After a restart: the secrets that were sealed before it."""
        for key, value in records:
            if key.startswith(KEY) and key[len(KEY) :].isdecimal():
                self._secrets[int(key[len(KEY) :])] = value
        return self.tick(now)

    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        """A block was executed here: look at the ledger."""
        if not isinstance(message, Receipts):
            raise LocalError(f"{type(message).__name__} is not for the beacon's keeper", code="not_accepted")
        return self.tick(now) if sender == self._identity.peer else []

    def tick(self, now: Micros) -> list[Effect]:
        """Do what the wanted beacon lacks of this validator."""
        number = self._ledger().beacon_wanted
        if number is None:
            return []
        me, beacon = self._identity.peer, self._ledger().beacons.get(number)
        wake: list[Effect] = [Wake(Micros(now + STRAGGLERS))]
        if beacon is None or (me not in beacon.sealed and not beacon.secrets):
            return [*self._seal(number, now), *wake]
        if me in beacon.sealed and me not in beacon.secrets and self._may_open(number, beacon, now):
            return [*self._open(number, now), *wake]
        return wake

    def _may_open(self, number: int, beacon: PartView, now: Micros) -> bool:
        """A quorum has sealed in earlier blocks, and everybody has, or the rest had their time, or one is open."""
        if not beacon.opened_in or not self._validators.is_quorum(beacon.sealed):
            return False
        if self._quorum is None or self._quorum[0] != number:
            self._quorum = (number, now)
        is_whole = len(beacon.sealed) == len(self._validators.peers)
        return is_whole or bool(beacon.secrets) or now >= self._quorum[1] + STRAGGLERS

    def _seal(self, number: int, now: Micros) -> list[Effect]:
        if self._is_sent(number, False, now):
            return []
        stored: list[Effect] = []
        if number not in self._secrets and (fresh := self._fresh()):
            self._secrets[number] = self._secret(number, fresh)
            stored.append(Store(f"{KEY}{number}", self._secrets[number]))
            for old in [item for item in self._secrets if item <= number - KEPT]:
                del self._secrets[old]
                stored.append(Store(f"{KEY}{old}", None))
        secret = self._secrets.get(number) or self._secret(number, b"")
        sealed = seal_part(self._identity.peer, number, secret)
        return [*stored, *self._submit(BeaconCommit(number, self._identity.peer, sealed))]

    def _open(self, number: int, now: Micros) -> list[Effect]:
        me, sealed = self._identity.peer, self._ledger().beacons[number].sealed[self._identity.peer]
        able = (self._secrets.get(number), self._secret(number, b""))
        secret = next((one for one in able if one and seal_part(me, number, one) == sealed), None)
        if secret is None or self._is_sent(number, True, now):
            return []
        said = Emit("beacon_opened", {"number": number})
        return [*self._submit(BeaconReveal(number, self._identity.peer, secret)), said]

    def _secret(self, number: int, fresh: bytes) -> bytes:
        data = wire.signing_bytes(self._validators.chain, "beacon-secret", number.to_bytes(8, "big"))
        own = hashlib.sha256(self._identity.sign(data)).digest()
        return hashlib.sha256(own + fresh).digest()

    def _is_sent(self, number: int, is_open: bool, now: Micros) -> bool:
        """Whether this was handed in a moment ago; notes it otherwise."""
        sent = self._sent
        if sent is not None and (sent.number, sent.is_open) == (number, is_open) and now < sent.at + ASK_AGAIN:
            return True
        self._sent = _Sent(number, is_open, now)
        return False

    def _submit(self, operation: Operation) -> list[Effect]:
        signed = operations.signed_op(self._validators.chain, operation, self._identity)
        return [Send(self._identity.peer, Submit((signed,)))]
