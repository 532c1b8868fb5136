"""What the beacon said of every claim of a network, by its blocks alone: the same numbers that its judges drew from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final, Literal

from node.journal import Journal
from protocol.block import decode_block
from protocol.chain import Chain
from protocol.genesis import Genesis
from protocol.identity import Identity
from protocol.offers import OfferBook, OfferMaker
from protocol.units import PPM, Micros, PeerId
from verifier import sampling
from verifier.acquaintance import Acquaintance
from verifier.attestation.policy import attested_ppm
from verifier.case import Place

Draw = Literal["accept", "ask", "audit"]
"""Not drawn; drawn unless there is evidence; drawn in any case."""

READER: Final = Identity(bytes(32))


def draws(journal: Path, genesis: Genesis, floor_ppm: int, scratch: Path) -> dict[Place, Draw]:
    """Of every claim. `journal`: a validator's, which may still run; `floor_ppm`: the jobs' own floor."""
    shutil.copyfile(journal, scratch)
    blocks = Journal(scratch)
    chain = Chain(genesis)
    known = Acquaintance(
        READER.peer, (), OfferBook(), lambda: Micros(0), OfferMaker(READER, genesis.chain), lambda: chain.ledger
    )
    rates: dict[Place, tuple[int, int]] = {}
    found: dict[Place, Draw] = {}
    for data in blocks:
        chain.follow(decode_block(data, READER.peer), READER.peer)
        for escrow, state in chain.ledger.escrows.items():
            for chunk, lease in state.chunks.items():
                place = (escrow, chunk, lease.epoch)
                if lease.state == "claimed" and place not in rates:
                    provider = PeerId(lease.provider)
                    standing = chain.ledger.standings.get(lease.provider)
                    floor = min(PPM, known.floor(place, provider)(floor_ppm))
                    rate = sampling.audit_ppm(floor, standing.consecutive_valid if standing is not None else 0)
                    rates[place] = (rate, attested_ppm(rate, floor))
                if lease.beacon and place in rates:
                    found[place] = _draw(lease.beacon, place, *rates[place])
    blocks.close()
    return found


def _draw(beacon: bytes, place: Place, rate: int, attested: int) -> Draw:
    if not sampling.is_drawn(beacon, *place, rate):
        return "accept"
    return "audit" if sampling.is_drawn(beacon, *place, attested) else "ask"
