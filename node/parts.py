"""The parts of a running node that its control socket speaks for, on one screen; filled in by `node.run`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from node.blobs import BlobStore
from node.care import Care
from node.config import Config
from node.driver import Driver
from node.events import EventLog
from node.outcomes import Outcomes
from node.store import RecordStore
from node.transport import Transport
from node.volumes.jobs import JobVolumes
from protocol.bench_messages import BenchKind
from protocol.identity import Identity
from protocol.ledger import Ledger
from protocol.ledger_client import LedgerClient
from protocol.matching import Plan
from protocol.offers import OfferBook, OfferMaker, Terms
from protocol.provider import Provider
from protocol.steward import Steward
from protocol.units import Micros, PeerId
from protocol.watcher import Watcher
from verifier.bench_answers import Said
from verifier.bench_orders import Shown
from verifier.drift import Drift
from verifier.drift_watch import Account
from verifier.witness import Witness


@dataclass(slots=True)
class Parts:
    """What the methods act on."""

    config: Config
    identity: Identity
    started: Micros
    now: Callable[[], Micros]
    driver: Driver
    client: LedgerClient
    steward: Steward
    provider: Provider
    offers: OfferBook
    maker: OfferMaker
    terms: Callable[[], Terms]
    watcher: Watcher
    transport: Transport
    blobs: BlobStore
    records: RecordStore
    events: EventLog
    outcomes: Outcomes
    ledger: Callable[[], Ledger]
    plan: Callable[..., Plan]
    stop: Callable[[], None]
    witness: Witness
    """Executes chunks again that somebody wants to contest."""
    drifting: Callable[[], Mapping[Account, Drift]] = dict
    """What a validator's judge finds of small errors with a direction."""
    shown: Callable[[PeerId], Mapping[BenchKind, Shown]] = lambda peer: {}
    """What this node's benchmarks found of a peer's claims."""
    said: Callable[[], Sequence[Said]] = tuple
    """What others found of this node's."""
    care: Care | None = None
    """What is done for the work of others; None until custody is wired."""
    volumes: JobVolumes | None = None
    """Filled in by `node.volumes.wiring`."""

    @property
    def is_held(self) -> bool:
        """Whether this node takes no work."""
        return self.provider.is_draining

    def hold(self, finish_running: bool) -> None:
        """Take no new work; give back what runs unless it may finish."""
        self.driver.command(self.provider, lambda now: self.provider.drain(finish_running, now))
        self._say()

    def release(self) -> None:
        """Take work again."""
        self.provider.resume()
        self._say()

    def _say(self) -> None:
        changed = replace(self.terms(), is_draining=self.provider.is_draining)
        self.driver.command(self.maker, lambda now: self.maker.change(changed, now))
