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


def _signed_bytes(network: str, escrow: bytes, chunk: int, epoch: int, units: int, root: bytes) -> bytes:
    return wire.signing_bytes(network, _KIND, wire.encode((escrow, chunk, epoch, units, root)))


def sign_prefix(
    identity: Identity, network: str, escrow: bytes, chunk: int, epoch: int, units: int, root: bytes
) -> Inherited:
    """What the provider of lease `epoch` says about units 0..`units` − 1: the root of the trace over them alone."""
    body = _signed_bytes(network, escrow, chunk, epoch, units, root)
    return Inherited(epoch, units, root, identity.sign(body))


def is_prefix_of(network: str, provider: PeerId, escrow: bytes, chunk: int, inherited: Inherited) -> bool:
    """Whether these are the words of that provider about that chunk."""
    body = _signed_bytes(network, escrow, chunk, inherited.epoch, inherited.units, inherited.root)
    return is_signed_by(provider, body, inherited.signature)


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


def appended(before: tuple[Inherited, ...] | UnsetType, own: Inherited) -> tuple[Inherited, ...]:
    """The list of a snapshot of a lease that went on with the list `before`. Refused (`inherited_full`) when it names
    INHERITED_MAX leases already: who goes on takes the last one's snapshot, as this lease did."""
    known = before or ()
    if len(known) >= INHERITED_MAX:
        raise Refused(f"{len(known)} earlier leases did units of this chunk, and no more are listed", code=FULL)
    return (*known, own)


def fault_in(
    network: str,
    escrow: bytes,
    chunk: int,
    inherited: tuple[Inherited, ...] | UnsetType,
    former: Mapping[int, bytes],
) -> str:
    """What is wrong with a list, empty when nothing is. `former`: who had which lease, by epoch; of a lease that is not
    among them nothing can be said here."""
    if inherited is UNSET or not inherited:
        return "nobody answers for the units of the snapshot"
    places = [(item.epoch, item.units) for item in inherited]
    if any(not (one[0] < two[0] and one[1] < two[1]) for one, two in pairwise(places)):
        return "epochs or units of those who answer for earlier units do not grow"
    for item in inherited:
        provider = former.get(item.epoch)
        if provider is not None and not is_prefix_of(network, PeerId(provider), escrow, chunk, item):
            return f"the provider of lease {item.epoch} did not sign for its units"
    return ""
