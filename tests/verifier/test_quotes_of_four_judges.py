"""Four judges with real orderers, and evidence that reaches some of them: they come to one verdict all the same."""

from __future__ import annotations

from typing import Final

import msgspec
import pytest

from protocol import wire
from protocol.completions import Completion
from protocol.effects import Effect, Emit, Send
from protocol.messages import Message, RevealRequest
from protocol.proof import Hardware, Proof
from protocol.quote_messages import Quote, QuoteRequest, binding
from protocol.units import Micros, PeerId
from tests.verifier.appeals import GOOD
from tests.verifier.attestation.foundry import TDX_IMAGE, Foundry
from tests.verifier.quorum import KEYS
from tests.verifier.test_justice import JOB, PROVIDER, Opener, Town
from verifier.deadlines import ASK_AGAIN, QUOTE_TIMEOUT
from verifier.quoting import ALONE_AFTER

FOUNDRY: Final = Foundry()
OURS: Final = msgspec.structs.replace(JOB, proof=Proof("deterministic", hardware=(Hardware("tdx", (TDX_IMAGE,)),)))


class Shown(Opener):
    """A provider with trusted hardware that shows its quote to some judges only."""

    accepts: tuple[type, ...] = (RevealRequest, QuoteRequest)

    def __init__(self, town: Square, judges: int) -> None:
        super().__init__(GOOD)
        self.town, self.judges = town, judges

    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        if not isinstance(message, QuoteRequest):
            return super().receive(sender, message, now)
        if sender not in [key.peer for key in KEYS[: self.judges]]:
            return []
        place = (message.escrow, message.chunk, message.epoch)
        lease = self.town.orderers[sender].ledger.escrows[message.escrow].chunks[message.chunk]
        bound = binding(PROVIDER.peer, *place, lease.sealed, lease.beacon)
        return [Send(sender, Quote(*place, FOUNDRY.evidence(bound)))]


class Square(Town):
    """The town, with a maker of hardware that its judges believe."""

    fresh = b"1"
    """The draw lies in the band where evidence decides."""
    makers = FOUNDRY.makers

    def __init__(self, judges: int, is_torn: bool) -> None:
        super().__init__(GOOD, GOOD)
        self.blobs.clear()
        self.blobs[wire.digest(wire.encode(OURS))] = wire.encode(OURS)
        self.outside[PROVIDER.peer] = Shown(self, judges)
        self.is_torn = is_torn
        """Whether copies between judges are lost."""

    def deliver(self, sender: PeerId, to: PeerId, message: Message) -> None:
        if not (self.is_torn and isinstance(message, Quote) and sender != PROVIDER.peer):
            super().deliver(sender, to, message)

    def quotes(self) -> list[object]:
        return [said.fields["code"] for _, said in self.said if said.name == "quote" and isinstance(said, Emit)]


PATIENCE: Final = ALONE_AFTER * ASK_AGAIN / 1e6
"""Seconds until a judge that stays alone with its evidence gives in."""


@pytest.mark.parametrize(
    ("judges", "is_torn", "seconds", "code", "said"),
    [
        (4, False, 25, "attested", {"attested"}),
        (1, False, 25, "attested", {"attested"}),
        (3, True, 25, "attested", {"attested"}),
        (1, True, 15 + QUOTE_TIMEOUT / 1e6, "hash_equal", {"attested", "late"}),
        (2, True, 15 + PATIENCE, "hash_equal", {"attested", "late", "alone"}),
    ],
    ids=["to all", "to one that hands it on", "to a quorum", "to one alone", "to half of them"],
)
def test_one_verdict(judges: int, is_torn: bool, seconds: float, code: str, said: set[str]) -> None:
    town = Square(judges, is_torn)
    place = town.claim(GOOD)
    town.run(seconds)
    held = town.held(place)
    assert (held.finding, held.code, held.is_audited) == ("accept", code, code == "hash_equal")
    assert set(town.quotes()) == said
    assert len({orderer.ledger.root for orderer in town.orderers.values()}) == 1
