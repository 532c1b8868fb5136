"""The parts of a running node that its control socket speaks for, on one screen; filled in by `node.run`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from node.blobs import BlobStore
from node.config import Config
from node.driver import Driver
from node.events import EventLog
from node.outcomes import Outcomes
from node.store import RecordStore
from node.transport import Transport
from protocol.identity import Identity
from protocol.ledger import Ledger
from protocol.ledger_client import LedgerClient
from protocol.matching import Plan
from protocol.offers import OfferBook, OfferMaker, Terms
from protocol.provider import Provider
from protocol.steward import Steward
from protocol.units import Micros


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
    transport: Transport
    blobs: BlobStore
    records: RecordStore
    events: EventLog
    outcomes: Outcomes
    ledger: Callable[[], Ledger]
    plan: Callable[..., Plan]
    stop: Callable[[], None]
