"""One pack on its way to its holders: who was asked for which shard, who is late, who refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from protocol.units import Digest, Micros, PeerId
from storage.receipts import Custody

Phase = Literal["standby", "encoding", "keeping", "settled", "failed"]


@dataclass(slots=True)
class Parcel:
    """The state of one pack within a `Spreading`."""

    custody: Custody
    since: Micros
    phase: Phase = "keeping"
    is_by_standby: bool = False
    """Holders fetch from the standby."""
    asked: dict[int, dict[PeerId, Micros]] = field(default_factory=dict)
    late: dict[int, set[PeerId]] = field(default_factory=dict)
    """Asked long ago; welcome until somebody else has the shard."""
    refused: set[PeerId] = field(default_factory=set)
    doubts: set[PeerId] = field(default_factory=set)
    """Holders that could not fetch from the standby."""
    took: list[Micros] = field(default_factory=list)
    """How long receipts took."""

    @property
    def name(self) -> Digest:
        """The pack's name."""
        return self.custody.name

    @property
    def data_bytes(self) -> int:
        """What leaves the worker when a standby makes the parity."""
        return self.custody.pack.k * self.custody.pack.shard_size

    @property
    def parity(self) -> list[Digest]:
        """Shards that only exist once somebody has encoded the pack; none of a copy."""
        return [Digest(shard) for shard in self.custody.pack.shards[self.custody.pack.k :]]

    @property
    def parity_user(self) -> str:
        """For whom parity that was made here is pinned."""
        return f"parity/{self.name.hex()}"

    @property
    def waiting(self) -> set[PeerId]:
        """Everybody of whom a receipt may still come."""
        return {peer for peers in (*self.asked.values(), *self.late.values()) for peer in peers}

    def index(self, sender: PeerId, shard: bytes) -> int | None:
        """The index for which a peer was asked to keep this shard; None when it was not."""
        for index in {*self.asked, *self.late}:
            is_asked = sender in self.asked.get(index, ()) or sender in self.late.get(index, ())
            if is_asked and self.custody.shard(index) == shard:
                return index
        return None

    def waits_for(self, index: int) -> set[PeerId]:
        """Who was asked for a shard and has not answered."""
        return {*self.asked.get(index, ())} | self.late.get(index, set())

    def answered(self, index: int, sender: PeerId, now: Micros) -> set[PeerId]:
        """Somebody has the shard; the others, who need not keep it any more."""
        others = self.waits_for(index) - {sender}
        since = self.asked.pop(index, {}).get(sender)
        self.late.pop(index, None)
        if since is not None:
            self.took.append(Micros(now - since))
        return others

    def forget(self, peer: PeerId) -> None:
        """Nothing will come of what this peer was asked."""
        for asked in self.asked.values():
            asked.pop(peer, None)
        for late in self.late.values():
            late.discard(peer)

    def note_late(self, patience: int, now: Micros) -> list[PeerId]:
        """Who has been asked for longer than that and becomes late now."""
        found: list[PeerId] = []
        for index, peers in self.asked.items():
            for peer in [peer for peer, since in peers.items() if now - since >= patience]:
                del peers[peer]
                self.late.setdefault(index, set()).add(peer)
                found.append(peer)
        return found
