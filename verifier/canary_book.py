"""What the issuer of canaries knows: which finished jobs may be issued once more, and what proves a wrong answer.

A source is a finished job whose results were executed again and found equal. Its recoding is executed once more here
before it is issued; only chunks that give the accepted result under their new number are canaries. The root of their
list is the key that names the new job, so that the ledger holds the commitment before anybody has a lease. The issuer
keeps the answers beside the name of the source: the ledger may have forgotten that one when a wrong answer is to be
proven, and while it has not, they can be read there anyway. Spec: specs/38-canaries.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from random import Random
from typing import Annotated, Final, Protocol

from msgspec import UNSET, Meta, Struct, UnsetType

from protocol import wire
from protocol.jobspec import JobSpec
from protocol.operations import Hash
from protocol.proof import Numeric
from protocol.units import Digest, PeerId
from verifier.canaries import WRONG, Canary, Epoch, Opened, Recoding, commit, convicts, recode_job

CHUNKS_MAX: Final = 16
"""Of a source: the issuer executes every chunk itself, and pays for every one."""

NAME_CHARS_MAX: Final = 64
"""Of a job's name (`protocol.jobspec.Name`)."""


# ── the ledger, as far as it is read ─────────────────────────────────────────────────────────────────────────────────
class PaidView(Protocol):
    """The newest lease of a chunk."""

    @property
    def state(self) -> str: ...
    @property
    def is_audited(self) -> bool: ...
    @property
    def code(self) -> str: ...
    @property
    def output(self) -> bytes: ...
    @property
    def provider(self) -> bytes: ...
    @property
    def auditor(self) -> bytes: ...


class SourceView(Protocol):
    """A job's money, and its chunks."""

    @property
    def is_closed(self) -> bool: ...
    @property
    def spec(self) -> bytes: ...
    @property
    def chunks(self) -> Mapping[int, PaidView]: ...


# ── one job ──────────────────────────────────────────────────────────────────────────────────────────────────────────
class Listed(Struct, frozen=True, forbid_unknown_fields=True):
    """The canaries of one job as their issuer keeps them."""

    source: Hash
    """Escrow of the job that it was made from."""
    canaries: Annotated[tuple[Canary, ...], Meta(min_length=1, max_length=CHUNKS_MAX)]
    salts: Annotated[tuple[Hash, ...], Meta(max_length=CHUNKS_MAX)]
    origins: Annotated[tuple[int, ...], Meta(max_length=CHUNKS_MAX)]
    """Of each: the chunk of the source that it is."""
    answers: Annotated[tuple[Hash, ...], Meta(max_length=CHUNKS_MAX)] | UnsetType = UNSET
    """Of each: the right result. Lists of earlier versions have none; the ledger knows it, for as long as it does."""

    @property
    def spec(self) -> Digest:
        """Digest of the recoded specification."""
        return Digest(self.canaries[0].spec)

    @property
    def epoch(self) -> Epoch:
        """The list that was committed to."""
        return Epoch(self.canaries, self.salts)

    @property
    def root(self) -> Digest:
        """The commitment."""
        return self.epoch.root


class Conviction(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that a third party needs beside the ledger; the evidence of a verdict is the digest of its encoding.

    The job of the escrow is `protocol.steward.job_id(owner, root.hex())`: the list is older than the first lease."""

    root: Hash
    opened: Opened


def is_source(escrow: SourceView) -> bool:
    """Whether a job is final, small, and somebody else got the same result for a chunk of it."""
    leases = escrow.chunks
    is_whole = escrow.is_closed and 0 < len(leases) <= CHUNKS_MAX
    return is_whole and all(lease.state == "paid" for lease in leases.values()) and bool(answers(escrow))


def answers(escrow: SourceView) -> dict[int, Digest]:
    """Chunk to result, of those that were executed by two who agree."""
    return {
        chunk: Digest(lease.output)
        for chunk, lease in escrow.chunks.items()
        if lease.state == "paid" and lease.is_audited and lease.code == "hash_equal"
    }


def met(escrow: SourceView) -> frozenset[PeerId]:
    """Who has computed a part of it, and would know it again. Not in it: who held an earlier lease of a chunk."""
    leases = escrow.chunks.values()
    return frozenset(PeerId(peer) for lease in leases for peer in (lease.provider, lease.auditor) if peer)


def recoded(spec: JobSpec, dice: Random) -> tuple[JobSpec, Recoding]:
    """The same work in another order under another name. Raises `Refused` (`not_recodable`)."""
    recoding = Recoding.drawn(len(spec.chunks), dice)
    return recode_job(spec, recoding, renamed(spec.name, dice)), recoding


def renamed(name: str, dice: Random) -> str:
    """A name of the same shape: other digits; one without any is numbered, as people do who run a job again.

    >>> renamed("render-07", Random(1))
    'render-29'
    """
    other = "".join(str(dice.randrange(10)) if letter.isdigit() else letter for letter in name)
    if other != name:
        return other
    return f"{name[: NAME_CHARS_MAX - 3]}-{dice.randrange(2, 100)}"


def listed(
    source: bytes,
    spec: JobSpec,
    confirmed: Mapping[int, tuple[int, Digest]],
    runtime: bytes,
    salts: Mapping[int, bytes],
) -> Listed:
    """Commit to chunks that were tried. `confirmed`: chunk of the recoded job to (chunk of the source, result)."""
    digest = wire.digest(wire.encode(spec))
    name = wire.digest(b"shoal/1\0canary source\0" + source)
    chunks = sorted(confirmed)
    work: list[tuple[bytes, int, bytes, Numeric, bytes]] = [
        (bytes(digest), chunk, bytes(name), spec.numeric, runtime) for chunk in chunks
    ]
    epoch = commit(work, [confirmed[chunk][1] for chunk in chunks], [salts[chunk] for chunk in chunks])
    origins, answers = zip(*(confirmed[chunk] for chunk in chunks), strict=True)
    return Listed(source, epoch.canaries, epoch.salts, origins, answers)


# ── all of them ──────────────────────────────────────────────────────────────────────────────────────────────────────
class Book:
    """Every list of one issuer."""

    def __init__(self) -> None:
        self._lists: dict[Digest, Listed] = {}
        self._sources: set[bytes] = set()

    def add(self, item: Listed) -> None:
        """Remember a list."""
        self._lists[item.spec] = item
        self._sources.add(item.source)

    def forget(self, item: Listed) -> None:
        """It was never issued. Its source stays used: somebody may have seen the offer."""
        self._lists.pop(item.spec, None)

    def outlive(self, escrows: Mapping[bytes, SourceView], carried: AbstractSet[bytes]) -> list[Listed]:
        """Forget lists of jobs that the ledger has forgotten as it has their sources: nothing is judged by them any
        more, and neither can be issued again. `carried`: specifications of jobs whose escrow may still be opened."""
        in_use = {bytes(escrow.spec) for escrow in escrows.values()} | carried
        over = [item for item in self._lists.values() if item.source not in escrows and item.spec not in in_use]
        for item in over:
            del self._lists[item.spec]
        self._sources &= escrows.keys()
        return over

    def __len__(self) -> int:
        return len(self._lists)

    def sources(self, escrows: Mapping[bytes, SourceView]) -> list[bytes]:
        """Jobs that may be issued once more, each once, and no canary again."""
        return [
            key
            for key, escrow in escrows.items()
            if key not in self._sources and Digest(escrow.spec) not in self._lists and is_source(escrow)
        ]

    def conviction(
        self,
        escrows: Mapping[bytes, SourceView],
        spec: bytes,
        chunk: int,
        output: bytes,
        runtimes: frozenset[bytes],
    ) -> Conviction | None:
        """What proves an output wrong; None where it is right, or nothing is known. `runtimes`: digests of what the
        provider runs; in D2 an answer binds only hosts of its own runtime."""
        item = self._lists.get(Digest(spec))
        index = next((n for n, one in enumerate(item.canaries) if one.chunk == chunk), None) if item else None
        if item is None or index is None:
            return None
        canary, answer = item.canaries[index], _answer(item, index, escrows)
        if answer is None or (canary.numeric not in ("D0", "D1") and canary.runtime not in runtimes):
            return None
        opened = item.epoch.opened(index, answer)
        if convicts(item.root, opened, spec, chunk, output) != WRONG:
            return None
        return Conviction(item.root, opened)


def _answer(item: Listed, index: int, escrows: Mapping[bytes, SourceView]) -> bytes | None:
    """The right result of one canary, as far as it is known."""
    if item.answers is not UNSET:
        return item.answers[index]
    source = escrows.get(item.source)
    lease = source.chunks.get(item.origins[index]) if source is not None else None
    return lease.output if lease is not None else None
