"""Shards that are not needed any more, at holders that may not have heard it yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from protocol.effects import Effect, Send
from protocol.snapshots import SHARDS_PER_MESSAGE, Release
from protocol.units import MINUTE, Digest, Micros, PeerId

SENDS: Final = 2
"""Times that a holder which is there is told; a word is lost only with its connection."""

SEND_AGAIN: Final = Micros(1 * MINUTE)
"""Microseconds between them."""


@dataclass(slots=True)
class _Due:
    until: Micros
    """From then on the lease is over by itself."""
    left: int
    at: Micros


class Sweep:
    """Releases that are still to be said."""

    def __init__(self) -> None:
        self._due: dict[PeerId, dict[Digest, _Due]] = {}

    def __len__(self) -> int:
        return sum(len(shards) for shards in self._due.values())

    def add(self, peer: PeerId, shards: Iterable[Digest], until: Micros) -> None:
        """Tell a peer, as soon as it is there."""
        self._due.setdefault(peer, {}).update({shard: _Due(until, SENDS, Micros(0)) for shard in shards})

    def forget(self, peer: PeerId, shard: Digest) -> None:
        """It is needed again."""
        self._due.get(peer, {}).pop(shard, None)

    def tick(self, now: Micros, is_here: Callable[[PeerId], bool]) -> list[Effect]:
        """Say what is due to those who are there; forget what is over or was said."""
        effects: list[Effect] = []
        for peer, shards in list(self._due.items()):
            for shard in [shard for shard, due in shards.items() if due.until <= now or not due.left]:
                del shards[shard]
            if not shards:
                del self._due[peer]
            elif is_here(peer):
                ready = [shard for shard, due in shards.items() if due.at <= now]
                for shard in ready:
                    shards[shard].left -= 1
                    shards[shard].at = Micros(now + SEND_AGAIN)
                parts = (ready[at : at + SHARDS_PER_MESSAGE] for at in range(0, len(ready), SHARDS_PER_MESSAGE))
                effects += [Send(peer, Release(tuple(part))) for part in parts]
        return effects
