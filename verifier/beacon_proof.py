"""A beacon made again of the operations that made it, out of certified blocks. Pure. Spec: specs/32-economics.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from protocol.beacon import seal_part, value_of
from protocol.block import header_hash, verify_receipts
from protocol.errors import Refused, RemoteViolation
from protocol.messages import Header, Receipts
from protocol.operations import BeaconCommit, BeaconReveal
from protocol.units import Digest, PeerId
from protocol.validators import ValidatorSet

FALSE_BEACON: Final = "beacon_false"
"""The code of everything that is no beacon of this claim."""

_NOBODY: Final = PeerId(bytes(32))


class Parts:
    """The parts of one beacon, as they were found."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.sealed: dict[bytes, bytes] = {}
        self.secrets: dict[bytes, bytes] = {}
        self.first: Header | None = None
        """Header of the block of the first part."""

    def add(self, operation: object, header: Header) -> None:
        """One operation that was applied. Raises `Refused`."""
        match operation:
            case BeaconCommit(number=number, validator=validator, sealed=sealed):
                taken, said = self.sealed, sealed
                if self.first is None or header.height < self.first.height:
                    self.first = header
            case BeaconReveal(number=number, validator=validator, secret=secret):
                taken, said = self.secrets, secret
            case _:
                raise _false(f"{type(operation).__name__} is no part of a beacon")
        if self.number not in (None, number):
            raise _false(f"parts of beacon {self.number} and of beacon {number}")
        if taken.setdefault(validator, said) != said:
            raise _false(f"{validator.hex()[:16]} has two parts in beacon {number}")
        self.number = number


def beacon_of(parts: Sequence[Receipts], claimed_in: Header, validators: ValidatorSet) -> Digest:
    """The beacon from which the audit of a claim in that block is drawn. Raises `Refused` (`beacon_false`): an
    operation that no block has, parts that were not sealed, too few of them, or a beacon begun before the claim."""
    found = Parts()
    for receipts in parts:
        try:
            proved = verify_receipts(receipts, validators, _NOBODY)
        except RemoteViolation as error:
            raise _false(error.rule) from error
        for operation, signed, outcome in proved:
            if signed.signatures:
                raise _false("signatures that nobody looks at: the block vouches for its operations")
            if outcome.status != "applied":
                raise _false(f"a part that the ledger refused: {outcome.code}")
            found.add(operation, receipts.header)
    if found.number is None or found.first is None:
        raise _false("there is no beacon in it that anybody sealed a part of")
    number = found.number
    if found.first.height < claimed_in.height:
        raise _false(f"beacon {number} was begun in block {found.first.height}, the claim is in {claimed_in.height}")
    for validator, secret in found.secrets.items():
        if found.sealed.get(validator) != seal_part(validator, number, secret):
            raise _false(f"{validator.hex()[:16]} opened what it had not sealed")
    if not validators.is_quorum(found.secrets):
        power = validators.power(found.secrets)
        raise _false(f"beacon {number} was opened with power {power}, the quorum is {validators.quorum}")
    return value_of(number, header_hash(found.first), found.secrets)


def _false(what: str) -> Refused:
    return Refused(what, code=FALSE_BEACON, fix="Get the file again, from the gateway that carried the job.")
