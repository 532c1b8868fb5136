"""From a `Score` to a `Scored`: both sides' blobs come here, the child compares them, the report stays."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, Literal

from node.blobs import BlobStore
from node.proving.judgement import judge
from protocol import wire
from protocol.completions import Scored
from protocol.effects import Fetch, Score
from protocol.errors import ShoalError
from protocol.jobspec import ZERO_DIGEST
from protocol.proof import STATE_BYTES_MAX
from protocol.units import Digest

log = logging.getLogger("shoal.proving")

WITHHELD: Final = "withheld"
"""The code of a comparison that has nothing to compare: who owes a blob does not give it."""

Bring = Callable[[Fetch], Awaitable[None]]
Who = Literal["provider", "auditor"]


async def scored(work: Score, blobs: BlobStore, bring: Bring) -> Scored:
    """Fetch, compare, and put down the report. What was fetched for it goes again."""
    brought: list[Digest] = []
    try:
        for whose, digest in _owed(work):
            if blobs.has(digest):
                continue
            peer = work.provider if whose == "provider" else work.auditor
            try:
                await bring(Fetch(digest, STATE_BYTES_MAX, (peer,)))
            except ShoalError as error:
                if error.code == "disk_full":  # Ours: nobody's fault, and another turn may find room.
                    return Scored(work.task, 0, error.code, ZERO_DIGEST, "auditor")
                log.info("%s: the %s does not give %s: %s", work.task, whose, digest.hex(), error.detail)
                return Scored(work.task, 0, WITHHELD, ZERO_DIGEST, whose)
            brought.append(digest)
        found = await judge(work, blobs)
    finally:
        for digest in brought:
            blobs.remove(digest)
    if found.report is None:
        log.info("%s: the %s's numbers cannot be compared: %s", work.task, found.fault, found.detail)
        return Scored(work.task, 0, found.code, ZERO_DIGEST, found.fault)
    return Scored(work.task, found.report.score, found.code, blobs.put(wire.encode(found.report)))


def _owed(work: Score) -> Iterator[tuple[Who, Digest]]:
    """Who has to give what; each blob once."""
    seen = {ZERO_DIGEST}
    for item in work.items:
        for digest in (item.start, item.claimed, item.claimed_aux):
            if digest not in seen:
                seen.add(digest)
                yield "provider", digest
        for digest in (item.replayed, item.replayed_aux):
            if digest not in seen:
                seen.add(digest)
                yield "auditor", digest
