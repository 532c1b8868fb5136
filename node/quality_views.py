"""What an owner is told of its own quality of service: the score part by part, the tier, and what the tier promises."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from node.views import Plain
from protocol import qos
from protocol.ledger import Ledger
from protocol.qos import Measured
from protocol.ranking import standing_record
from protocol.sla import SLA
from protocol.units import PPM, PeerId


def quality_view(provider: PeerId, ledger: Ledger, price: int, prices: Iterable[int]) -> Plain:
    """From the ledger and the market (`prices` of all offers); what only others can measure counts half."""
    record, known = standing_record(ledger, provider), sorted(prices)
    median = int(statistics.median(known)) if known else None
    found = qos.parts(Measured(record, price=price, median_price=median))
    tier = qos.tier(found.score, record.results)
    promised = SLA[tier]
    return {
        "score": found.score / PPM,
        "tier": tier,
        "results": record.results,
        "results_min": qos.RESULTS_MIN,
        "parts": {
            "latency": found.latency / PPM,
            "accuracy": found.accuracy / PPM,
            "uptime": found.uptime / PPM,
            "power": found.power / PPM,
            "cost": found.cost / PPM,
        },
        "promises": {
            "uptime": promised.uptime / PPM,
            "delivered": promised.delivered / PPM,
            "correct": promised.correct / PPM,
            "start_s": promised.start / PPM,
        }
        if tier != "none"
        else {},
    }
