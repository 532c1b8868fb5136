"""From a `Score` to a `Scored`: both sides' blobs come here, the child compares them, the report stays."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final, Literal

from node.blobs import BlobStore
from node.proving.judgement import judge
from protocol import wire
from protocol.completions import Scored, UnitError
from protocol.effects import Fetch, Score, ScoreItem
from protocol.errors import Refused, ShoalError
from protocol.jobspec import ZERO_DIGEST
from protocol.proof import STATE_BYTES_MAX
from protocol.units import Digest
from verifier.comparing import UnitScore, report
from verifier.score import SECOND

log = logging.getLogger("shoal.proving")

WITHHELD: Final = "withheld"
"""The code of a comparison that has nothing to compare: who owes a blob does not give it."""

Bring = Callable[[Fetch], Awaitable[None]]
Who = Literal["provider", "auditor"]


async def scored(work: Score, blobs: BlobStore, bring: Bring) -> Scored:
    """Fetch, compare, and put down the report. What was fetched for it goes again; unit by unit, so that the states of
    one unit are all that has to fit on the disk."""
    units: list[UnitScore] = []
    errors: list[UnitError] = []
    brought: set[Digest] = set()
    try:
        for number, item in enumerate(work.items):
            one = replace(work, items=(item,))
            if lack := await _fetch(one, blobs, bring, brought):
                return lack
            found = await judge(one, blobs)
            if found.report is None:
                log.info("%s: the %s's numbers cannot be compared: %s", work.task, found.fault, found.detail)
                return Scored(work.task, 0, found.code, ZERO_DIGEST, found.fault, units=(item.index,))
            units += found.report.units
            errors += found.errors
            following = {digest for _, digest in _owed(work.items[number + 1 : number + 2])}
            _drop(brought - following, blobs, brought)
    finally:
        _drop(set(brought), blobs, brought)
    whole = report(work.kind, work.tolerance, units)
    try:
        evidence = blobs.put(wire.encode(whole))
        beyond = tuple(unit.index for unit in whole.units if unit.score < SECOND)
        return Scored(work.task, whole.score, whole.code, evidence, errors=tuple(errors), units=beyond)
    except Refused as error:
        return Scored(work.task, 0, error.code, ZERO_DIGEST, "auditor")


async def _fetch(work: Score, blobs: BlobStore, bring: Bring, brought: set[Digest]) -> Scored | None:
    """Have everything here; the answer when somebody does not give what it owes."""
    for whose, digest in _owed(work.items):
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
        brought.add(digest)
    return None


def _drop(digests: set[Digest], blobs: BlobStore, brought: set[Digest]) -> None:
    for digest in digests:
        blobs.remove(digest)
    brought -= digests


def _owed(items: Sequence[ScoreItem]) -> Iterator[tuple[Who, Digest]]:
    """Who has to give what; each blob once."""
    seen = {ZERO_DIGEST}
    for item in items:
        for digest in (item.start, item.claimed, item.claimed_aux):
            if digest not in seen:
                seen.add(digest)
                yield "provider", digest
        for digest in (item.replayed, item.replayed_aux):
            if digest not in seen:
                seen.add(digest)
                yield "auditor", digest
