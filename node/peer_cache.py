"""Last known addresses on disk: what a node dials after a restart when no bootstrap answers.

One JSON file `{"version": 2, "peers": {"12D3KooW…": {"addresses": ["/ip4/…"], "worked": 1700000000}}}`, replaced by one
rename; `worked` is when a connection last stood, in seconds since the epoch, 0 = never. A file that cannot be read
costs the memory of old peers and nothing else. Version 1 had the addresses alone and is still read.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from protocol.errors import Refused
from protocol.identity import peer_from_text, peer_text
from protocol.units import SECOND, Micros, PeerId

PEERS_MAX: Final = 256
"""Enough to find the network again: those that worked last are kept, then those heard of last."""

VERSION: Final = 2

WORKED_STEP_S: Final = 600
"""Seconds by which a time of success must have moved to be worth writing: peers that stay up change no file."""

log: Final = logging.getLogger("shoal.peer_cache")


class _Peer(msgspec.Struct, frozen=True):
    addresses: list[str]
    worked: int = 0


class _File(msgspec.Struct, frozen=True):
    version: int
    peers: dict[str, _Peer | list[str]]


class PeerCache:
    """Addresses by peer, in a file. Loading never fails, saving is atomic."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved: dict[PeerId, tuple[str, ...]] = {}
        self._saved_worked: dict[PeerId, int] = {}
        self._worked: dict[PeerId, int] = {}

    def load(self) -> dict[PeerId, tuple[str, ...]]:
        """What the last run knew, those that worked last at the end; empty when the file is missing or damaged."""
        try:
            content = msgspec.json.decode(self._path.read_bytes(), type=_File)
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            log.warning("peer cache %s is unreadable and starts empty: %s", self._path, error)
            return {}
        peers: dict[PeerId, tuple[str, ...]] = {}
        for text, known in content.peers.items():
            try:
                peer = peer_from_text(text)
            except Refused as error:
                log.warning("peer cache %s: %s", self._path, error.detail)
                continue
            peers[peer] = tuple(known.addresses if isinstance(known, _Peer) else known)
            if isinstance(known, _Peer) and known.worked > 0:
                self._worked[peer] = known.worked
        self._saved, self._saved_worked = peers, dict(self._worked)
        return dict(peers)

    def worked(self, peers: Iterable[PeerId], now: Micros) -> None:
        """A connection to these peers stands now. To be called before `save`."""
        for peer in peers:
            self._worked[peer] = now // SECOND

    def save(self, peers: Mapping[PeerId, tuple[str, ...]]) -> None:
        """Replace the file by the best `PEERS_MAX` peers; the last in the mapping is the newest."""
        ranked = sorted(peers.items(), key=lambda item: self._worked.get(item[0], 0))  # Stable: the newest stay last.
        best = dict(ranked[-PEERS_MAX:])
        self._worked = {peer: at for peer, at in self._worked.items() if peer in best}
        if best == self._saved and not self._is_later():
            return
        content = {
            "version": VERSION,
            "peers": {
                peer_text(peer): {"addresses": list(known), "worked": self._worked.get(peer, 0)}
                for peer, known in best.items()
            },
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".new")
        with temporary.open("w") as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        self._saved, self._saved_worked = best, dict(self._worked)

    def _is_later(self) -> bool:
        """Whether a time of success has moved by more than a little."""
        before = self._saved_worked
        return any(at >= before.get(peer, 0) + WORKED_STEP_S for peer, at in self._worked.items())
