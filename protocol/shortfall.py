"""Money that is not there: a job whose escrow pays no chunk that it still needs. Spec: specs/14-steward.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from protocol.granting import Bidder, chunk_price
from protocol.job_record import ChunkRecord, JobRecord
from protocol.ledger import Ledger
from protocol.operations import remaining_price
from protocol.units import CREDIT, SECOND, Micros, PeerId

PATIENCE: Final = Micros(30 * SECOND)
"""Microseconds that a job without money waits: a cheaper provider may bid, or the renter raise what it may spend."""


class Shortfall:
    """Notices that nothing can be leased, and that nothing leased or held could bring money back."""

    def __init__(self, record: JobRecord) -> None:
        self._record = record
        self._since: Micros | None = None

    def reason(self, ledger: Ledger, bidders: Mapping[PeerId, Bidder], now: Micros) -> str:
        """Why the job must end, with its numbers; '' while it may go on."""
        said = self._seen(ledger, bidders)
        if not said:
            self._since = None
            return ""
        self._since = now if self._since is None else self._since
        return said if now >= self._since + PATIENCE else ""

    def _seen(self, ledger: Ledger, bidders: Mapping[PeerId, Bidder]) -> str:
        record = self._record
        escrow = ledger.escrows.get(record.escrow)
        if escrow is None or escrow.leased or escrow.held or any(chunk.is_leased for chunk in record.chunks):
            return ""
        wanted = [*record.open_chunks(), *(chunk for chunk in record.chunks if chunk.state == "granted")]
        left = ledger.available("E", record.escrow)
        prices = {chunk.index: self._least(chunk, ledger, bidders) for chunk in wanted}
        if not prices or min(prices.values()) <= left:
            return ""
        index = min(prices, key=prices.__getitem__)
        return (
            f"the escrow has {left / CREDIT:g} of its {escrow.cap / CREDIT:g} credits left, and chunk {index} costs "
            f"{prices[index] / CREDIT:g} at least: raise spend_cap"
        )

    def _least(self, chunk: ChunkRecord, ledger: Ledger, bidders: Mapping[PeerId, Bidder]) -> int:
        """What the next lease of a chunk costs: with the cheapest bidder, else what it cost before, else at most."""
        record = self._record
        known = ledger.escrows[record.escrow].chunks.get(chunk.index)
        bids = [chunk_price(one.bid.price_per_hour, record.spec.estimate) for one in bidders.values()]
        full = min(bids, default=chunk.price or record.chunk_price_max)
        return remaining_price(full, known.done_ppm) if known is not None else full
