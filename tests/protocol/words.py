"""Lists of who answers for the first units of a chunk, each word about those before it."""

from __future__ import annotations

from collections.abc import Iterable

from protocol.identity import Identity
from protocol.operations import Inherited
from protocol.prefix import sign_prefix

Entry = tuple[Identity, int, int, bytes]
"""Who signs, epoch, units, root."""


def chain(network: str, escrow: bytes, chunk: int, entries: Iterable[Entry]) -> tuple[Inherited, ...]:
    """As honest providers sign it one after the other."""
    said: tuple[Inherited, ...] = ()
    for signer, epoch, units, root in entries:
        said = (*said, sign_prefix(signer, network, escrow, chunk, epoch, units, root, said))
    return said
