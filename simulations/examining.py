"""Stewards that look at a snapshot of units before they sign a handover, on virtual time. Its twin is
`node/proving/examining.py`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from protocol.completions import Examined
from protocol.effects import Examine
from protocol.units import Digest
from simulations.fetching import Fetching
from simulations.library import Library
from simulations.queue import Queue
from simulations.returning import Returning
from simulations.scenario import NS
from simulations.simpeer import SimPeer
from simulations.worker import OPEN_RATE

if TYPE_CHECKING:
    from simulations.driver import Driver

Code = Literal["", "snapshot_missing", "snapshot_bad"]


class Examining:
    """Performs `Examine` and `LetGo` for all peers."""

    def __init__(self, queue: Queue, library: Library, fetching: Fetching, driver: Driver) -> None:
        self._queue = queue
        self._library = library
        self._fetching = fetching
        self._driver = driver
        self._open: dict[tuple[int, str], int] = {}
        """(peer, task) -> the boot in which it was begun, until it is answered or stopped."""

    def examine(self, peer: SimPeer, work: Examine) -> None:
        """Bring it here, open it, say what it is worth."""
        key, manifest = (peer.index, work.task), work.resume.manifest
        self._open[key] = peer.boots

        def then(why: str, brought: list[Digest]) -> None:
            late = (peer, work, why, brought)
            self._queue.at(self._queue.now + (0 if why else manifest.size * NS // OPEN_RATE), self._opened, late)

        Returning(
            peer, work.resume, self._fetching, self._library, self._queue, then, patience=work.patience * (NS // 10**6)
        )

    def _opened(self, late: tuple[SimPeer, Examine, str, list[Digest]]) -> None:
        peer, work, why, brought = late
        boot = self._open.pop((peer.index, work.task), None)
        is_whole = self._driver.worker.proving.inherited(work.resume.manifest) is not None
        code: Code = "snapshot_missing" if why else "" if is_whole else "snapshot_bad"
        if boot is None or code:
            self.drop(peer, brought)
        if boot is not None:
            self._driver.give(peer, boot, Examined(work.task, work.lease, code, why, () if code else tuple(brought)))

    def stop(self, peer: SimPeer, task: str) -> bool:
        """Nobody needs to know any more; False where nothing of that name is looked at."""
        return self._open.pop((peer.index, task), None) is not None

    def drop(self, peer: SimPeer, shards: Iterable[Digest]) -> None:
        """What came to be opened goes, but for what custody needs by now."""
        for digest in shards:
            if peer.vault is None or not peer.vault.pins.is_pinned(digest):
                self._library.drop(peer.index, digest)
