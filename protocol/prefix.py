"""The word of a provider for the first units of a chunk: signed into a snapshot, carried by a later claim.

Who resumes the snapshot claims all units; who signed answers for those before it. Spec: specs/11-verification.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from protocol import wire
from protocol.completions import FirstUnits
from protocol.errors import Refused
from protocol.identity import Identity, is_signed_by
from protocol.jobspec import ZERO_DIGEST
from protocol.operations import INHERITED_MAX, Inherited
from protocol.proof import Trace
from protocol.trace import TraceTree
from protocol.units import Digest, PeerId

_KIND: Final = "prefix"

FULL: Final = "inherited_full"
"""The code of a refusal to append to a list that names as many leases as one may."""


def _signed_bytes(network: str, escrow: bytes, chunk: int, said: Inherited, before: tuple[Inherited, ...]) -> bytes:
    earlier = wire.digest(wire.encode(before))
    return wire.signing_bytes(network, _KIND, wire.encode((escrow, chunk, said.epoch, said.units, said.root, earlier)))


def sign_prefix(
    identity: Identity,
    network: str,
    escrow: bytes,
    chunk: int,
    epoch: int,
    units: int,
    root: bytes,
    before: tuple[Inherited, ...] = (),
) -> Inherited:
    """What the provider of lease `epoch` says about units 0..`units` − 1: the root of the trace over them alone, and
    who did the first of them. Nobody can leave those out later, and so lay their units on this provider."""
    said = Inherited(epoch, units, root, bytes(64))
    signature = identity.sign(_signed_bytes(network, escrow, chunk, said, before))
    return msgspec.structs.replace(said, signature=signature)


def is_prefix_of(
    network: str, provider: PeerId, escrow: bytes, chunk: int, inherited: Inherited, before: tuple[Inherited, ...] = ()
) -> bool:
    """Whether these are the words of that provider about that chunk, behind exactly these others."""
    return is_signed_by(provider, _signed_bytes(network, escrow, chunk, inherited, before), inherited.signature)


def first_units(trace: Trace, units: int) -> Trace:
    """The trace as it was when so many units were done: there leaf `units` is the last one, with zeros for input and
    aux. Raises IndexError outside 1..n."""
    if not 1 <= units <= trace.units:
        raise IndexError(f"the first {units} units of a trace of {trace.units}")
    last = msgspec.structs.replace(trace.leaves[units], input=ZERO_DIGEST, aux=ZERO_DIGEST, aux_bytes=0)
    return Trace((*trace.leaves[:units], last), trace.effects[: 2 * units])


def root_of(trace: Trace, units: int) -> Digest:
    """The root over the first units of a trace: what `sign_prefix` signs."""
    return TraceTree(first_units(trace, units)).root


def begins(trace: Trace, inherited: Iterable[Inherited]) -> bool:
    """Whether a trace begins with everything that earlier leases committed to."""
    return all(item.units < trace.units and root_of(trace, item.units) == item.root for item in inherited)


def signed(
    identity: Identity, network: str, lease: tuple[bytes, int, int], first: FirstUnits, before: tuple[Inherited, ...]
) -> tuple[Inherited, ...]:
    """The list of a snapshot of a lease (escrow, chunk, epoch) that went on with the list `before`. Refused
    (`inherited_full`) when that names INHERITED_MAX leases already: who goes on takes the last one's snapshot, as this
    lease did."""
    if len(before) >= INHERITED_MAX:
        raise Refused(f"{len(before)} earlier leases did units of this chunk, and no more are listed", code=FULL)
    return (*before, sign_prefix(identity, network, *lease, first.units, first.root, before))


def fault_in(
    network: str,
    escrow: bytes,
    chunk: int,
    inherited: tuple[Inherited, ...] | UnsetType,
    former: Mapping[int, bytes],
    is_whole: bool = False,
) -> str:
    """What is wrong with a list, empty when nothing is. `former`: who had which lease, by epoch; of a lease that is not
    among them nothing can be said here, unless `is_whole`: then no claim may name it."""
    if inherited is UNSET or not inherited:
        return "nobody answers for the units of the snapshot"
    places = [(item.epoch, item.units) for item in inherited]
    if any(not (one[0] < two[0] and one[1] < two[1]) for one, two in pairwise(places)):
        return "epochs or units of those who answer for earlier units do not grow"
    for at, item in enumerate(inherited):
        provider = former.get(item.epoch)
        if provider is None and is_whole:
            return f"lease {item.epoch} did not end without a verdict, so that no claim may rest on it"
        if provider is not None and not is_prefix_of(network, PeerId(provider), escrow, chunk, item, inherited[:at]):
            return f"the provider of lease {item.epoch} did not sign for its units"
    return ""
