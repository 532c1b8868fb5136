"""The parent of the comparing child: asks it, outlives it, and says whose fault it is when it does not answer."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import DEVNULL
from typing import Final, Literal

import msgspec
import trio

from node.blobs import BlobStore
from node.executors.process import kill_group
from node.proving.scoring import ANSWER_BYTES_MAX, Done, Fault, Item, Request, Turn, Word
from protocol.completions import UnitError
from protocol.effects import Score, ScoreItem
from protocol.jobspec import ZERO_DIGEST
from protocol.units import Digest
from verifier.comparing import Report, report
from verifier.tensors import MALFORMED

SCORE_SECONDS: Final = 180.0
"""Wall time for each unit; the child's own CPU limit is shorter, but a busy host may need longer."""

CHILD: Final = "_score"
"""The hidden word by which the frozen program is the child; shoal/__main__.py knows it."""

ENVIRONMENT: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Each thread of a linear algebra library reserves address space, which is limited."""

Who = Literal["provider", "auditor"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """The report; or nobody's, and whose file is to blame."""

    report: Report | None
    fault: Literal["", "provider", "auditor"]
    code: str
    detail: str
    errors: tuple[UnitError, ...] = ()
    """Of units within the tolerance, where the `Score` had a secret."""


async def judge(score: Score, blobs: BlobStore) -> Judgement:
    """Compare in a child. Every blob is here. Whatever is in the blobs, this returns."""
    word = await _ask(score, [_item(item, blobs) for item in score.items])
    if isinstance(word, Done):
        found = report(score.kind, score.tolerance, word.units)
        return Judgement(found, "", found.code, "", word.errors)
    who = await _culprit(score, word, blobs) if word.side == "compare" else word.side
    detail = word.detail if isinstance(word, Fault) else "reading it took the comparing process down"
    return Judgement(None, who, MALFORMED, detail)


async def _culprit(score: Score, word: Turn | Fault, blobs: BlobStore) -> Who:
    """Whose numbers cannot be compared: when the provider's cannot be compared with themselves either, they are the
    provider's."""
    alone = []
    for item in score.items:
        files = _item(item, blobs)
        alone.append(msgspec.structs.replace(files, replayed=files.claimed, replayed_aux=files.claimed_aux))
    answer = await _ask(replace(score, secret=b""), alone)
    return "auditor" if isinstance(answer, Done) else "provider"


async def _ask(score: Score, items: Sequence[Item]) -> Word:
    """The child's last word; its last turn when it died."""
    request = msgspec.json.encode(Request(score.kind, score.tolerance, tuple(items), score.secret))
    # A file and no pipe: what it said before it was killed is still there.
    answer = os.memfd_create("score", os.MFD_CLOEXEC)
    try:
        with trio.move_on_after(SCORE_SECONDS * max(1, len(items))):
            await trio.run_process(
                command(),
                stdin=request,
                stdout=answer,
                stderr=DEVNULL,
                check=False,
                env=_environment(),
                start_new_session=True,
                deliver_cancel=_kill,
            )
        return _last_word(os.pread(answer, ANSWER_BYTES_MAX, 0))
    finally:
        os.close(answer)


def command() -> list[str]:
    """How a node starts the child, in a checkout, a wheel or frozen."""
    if getattr(sys, "frozen", False):
        return [sys.executable, CHILD]
    return [sys.executable, "-P", "-m", "node.proving.scoring"]


def _environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SHOAL_", "PYTHON"))}
    return {**kept, **ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parents[2])}


async def _kill(child: trio.Process) -> None:
    kill_group(child.pid)


def _last_word(text: bytes) -> Word:
    last: Word = Turn("provider", 0)
    for line in text.splitlines():
        try:
            last = msgspec.json.decode(line, type=Word)
        except msgspec.DecodeError:  # Cut off in the middle, when it died.
            break
    return last


def _item(item: ScoreItem, blobs: BlobStore) -> Item:
    def name(digest: Digest) -> str:
        return str(blobs.path(digest)) if digest != ZERO_DIGEST else ""

    return Item(
        item.index,
        name(item.start),
        name(item.claimed),
        name(item.replayed),
        name(item.claimed_aux),
        name(item.replayed_aux),
    )
