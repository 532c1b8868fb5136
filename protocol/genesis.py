"""The state that everybody starts from: chain name, time, validators, first balances. One JSON file per network."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from protocol import wire
from protocol.errors import Refused
from protocol.identity import peer_from_text, peer_text
from protocol.operations import Amount, Key, Time
from protocol.policy import UNBOND_TIME, Policy, longest_dispute
from protocol.units import Digest, PeerId
from protocol.validators import VALIDATORS_MAX, ValidatorSet

SUPPLY_MAX: Final = 2**62
"""All money there may ever be, in smallest units: every balance then fits a signed 64-bit integer."""

BALANCES_MAX: Final = 100_000


class Genesis(Struct, frozen=True, forbid_unknown_fields=True):
    """The first state. Its digest is the `previous` of block 1."""

    chain: Annotated[str, Meta(min_length=1, max_length=64)]
    time: Time
    """Ledger time 0 in microseconds since the Unix epoch."""
    validators: Annotated[tuple[tuple[Key, Amount], ...], Meta(min_length=1, max_length=VALIDATORS_MAX)]
    balances: Annotated[tuple[tuple[Literal["U", "S"], Key, Amount], ...], Meta(max_length=BALANCES_MAX)]
    """Class (user or stake), key, smallest units."""
    policy: Policy | UnsetType = UNSET
    """The economics in force. Unset is not encoded: networks without it keep the digest that they have."""

    @property
    def digest(self) -> Digest:
        """SHA-256 of the encoded genesis."""
        return Digest(hashlib.sha256(b"shoal/1\0genesis\0" + wire.encode(self)).digest())

    @property
    def validator_set(self) -> ValidatorSet:
        """The validators, ready to check certificates."""
        return ValidatorSet(self.chain, self.validators)

    def to_json(self) -> str:
        """The file people keep: keys in text form."""
        plain: dict[str, object] = {
            "chain": self.chain,
            "time": self.time,
            "validators": [[peer_text(PeerId(key)), power] for key, power in self.validators],
            "balances": [[cls, peer_text(PeerId(key)), amount] for cls, key, amount in self.balances],
        }
        if self.policy is not UNSET:
            plain["policy"] = msgspec.to_builtins(self.policy)
        return json.dumps(plain, indent=1) + "\n"


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    chain: str
    time: int
    validators: list[tuple[str, int]]
    balances: list[tuple[Literal["U", "S"], str, int]]
    policy: Policy | UnsetType = UNSET


def from_json(text: str | bytes) -> Genesis:
    """The inverse of `Genesis.to_json`. Raises `Refused` (`bad_genesis`) saying what is wrong with the file."""
    try:
        file = msgspec.json.decode(text, type=_File)
        plain = {
            "chain": file.chain,
            "time": file.time,
            "validators": [(peer_from_text(key), power) for key, power in file.validators],
            "balances": [(cls, peer_from_text(key), amount) for cls, key, amount in file.balances],
        }
        genesis = msgspec.convert(plain, type=Genesis)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise Refused(
            f"genesis file: {error}", code="bad_genesis", fix="Copy it again from the network's founder."
        ) from error
    genesis = msgspec.structs.replace(genesis, policy=file.policy)
    _check(genesis)
    return genesis


def _check(genesis: Genesis) -> None:
    supply = sum(amount for _, _, amount in genesis.balances)
    keys = [key for key, _ in genesis.validators]
    if supply > SUPPLY_MAX or len(set(keys)) != len(keys):
        raise Refused(
            f"genesis file: {supply} units (at most {SUPPLY_MAX}), {len(keys) - len(set(keys))} validators named twice",
            code="bad_genesis",
            fix="Copy it again from the network's founder.",
            numbers={"supply": supply, "supply_max": SUPPLY_MAX},
        )
    if genesis.policy is not UNSET and longest_dispute(genesis.policy) >= UNBOND_TIME:
        raise Refused(
            "genesis file: a dispute may last longer than stake takes to leave",
            code="bad_genesis",
            fix="Shorten dispute_window or rule_time.",
            numbers={"dispute": longest_dispute(genesis.policy), "unbonding": UNBOND_TIME},
        )
