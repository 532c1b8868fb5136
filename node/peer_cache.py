"""Last known addresses on disk: what a node dials after a restart when no bootstrap answers.

One JSON file `{"version": 1, "peers": {"12D3KooW…": ["/ip4/…"]}}`, replaced by one rename. A file that cannot be read
costs the memory of old peers and nothing else.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from protocol.errors import Refused
from protocol.identity import peer_from_text, peer_text
from protocol.units import PeerId

PEERS_MAX: Final = 256
"""Enough to find the network again; the newest are kept."""

log: Final = logging.getLogger("shoal.peer_cache")


class _File(msgspec.Struct, frozen=True):
    version: int
    peers: dict[str, list[str]]


class PeerCache:
    """Addresses by peer, in a file. Loading never fails, saving is atomic."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved: dict[PeerId, tuple[str, ...]] = {}

    def load(self) -> dict[PeerId, tuple[str, ...]]:
        """What the last run knew, newest last; empty when the file is missing or damaged."""
        try:
            content = msgspec.json.decode(self._path.read_bytes(), type=_File)
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("peer cache %s is unreadable and starts empty: %s", self._path, error)
            return {}
        peers: dict[PeerId, tuple[str, ...]] = {}
        for text, addresses in content.peers.items():
            try:
                peers[peer_from_text(text)] = tuple(addresses)
            except Refused as error:
                log.warning("peer cache %s: %s", self._path, error.detail)
        self._saved = peers
        return dict(peers)

    def save(self, peers: Mapping[PeerId, tuple[str, ...]]) -> None:
        """Replace the file by the newest `PEERS_MAX` peers; the last in the mapping is the newest."""
        newest = dict(list(peers.items())[-PEERS_MAX:])
        if newest == self._saved:
            return
        content = {"version": 1, "peers": {peer_text(peer): list(known) for peer, known in newest.items()}}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".new")
        with temporary.open("w") as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        self._saved = newest
