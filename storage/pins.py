"""Which blobs of the node are in use by custody, and by whom: the last one out turns off the light.

A blob that was here before custody touched it belongs to somebody else and is never deleted from here; else a stranger
could have this node delete a job's input by asking it to keep the same bytes for a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from protocol.effects import Compute, Effect, Forget
from protocol.units import Digest


class Pins:
    """Counts users of blobs, by name. Shared by the machines of one vault."""

    def __init__(self, has: Callable[[Digest], bool]) -> None:
        self.has = has
        """Whether a whole blob is here."""
        self._users: dict[Digest, set[str]] = {}
        self._foreign: set[Digest] = set()

    def pin(self, digest: Digest, user: str, is_ours: bool = False) -> None:
        """`user` needs the blob, which may still have to come. `is_ours`: it was made for custody."""
        users = self._users.get(digest)
        if users is None:
            users = self._users[digest] = set()
            if not is_ours and self.has(digest):
                self._foreign.add(digest)
        users.add(user)

    def unpin(self, digests: Iterable[Digest], user: str) -> list[Effect]:
        """`user` needs them no more; what nobody needs is deleted."""
        effects: list[Effect] = []
        for digest in digests:
            users = self._users.get(digest)
            if users is None or user not in users:
                continue
            users.discard(user)
            if users:
                continue
            del self._users[digest]
            if digest in self._foreign:
                self._foreign.discard(digest)
            elif self.has(digest):
                effects.append(Compute(Forget(digest)))
        return effects

    def is_foreign(self, digest: Digest) -> bool:
        """Whether a pinned blob was here before."""
        return digest in self._foreign

    def is_pinned(self, digest: Digest) -> bool:
        """Whether anybody here needs it."""
        return digest in self._users

    def foreign(self, digest: Digest) -> None:
        """After a restart: this one belongs to somebody else."""
        self._foreign.add(digest)
