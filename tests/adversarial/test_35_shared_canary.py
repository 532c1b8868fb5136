"""Attack 35: a pool of executors shares the canaries that its members have met.

Each is issued once, no operator meets one source twice, and another recoding of a source has another digest: a list of
known digests and answers matches nothing. Honest twin: who computes gives the right answer to every recoding.
"""

from __future__ import annotations

import hashlib
from random import Random

from protocol import wire
from protocol.escrow_state import ChunkLease, Escrow
from protocol.jobspec import Chunk, JobSpec
from protocol.units import Digest, PeerId
from verifier import canary_book
from verifier.canaries import Recoding, commit, convicts, recode_job

SOURCE = JobSpec("job", "wasm", ("true",), tuple(Chunk((("N", str(n)),)) for n in range(8)), numeric="D0")
POOL = [PeerId(bytes([n]) * 32) for n in range(40)]


def computed(spec: JobSpec, chunk: int) -> bytes:
    """What honest work gives: a function of the chunk's own variables."""
    return hashlib.sha256(repr(spec.chunks[chunk].env).encode()).digest()


def issue() -> tuple[list[tuple[JobSpec, int]], list[bytes]]:
    """Forty recodings of one source, each with the chunk that is asked."""
    dice = Random(35)
    jobs = [
        (recode_job(SOURCE, Recoding.drawn(8, dice), f"render-{dice.randrange(10**6)}"), dice.randrange(8))
        for _ in POOL
    ]
    return jobs, [computed(spec, chunk) for spec, chunk in jobs]


def test_the_second_sight_has_a_new_hash() -> None:
    jobs, answers = issue()
    work = [(wire.digest(wire.encode(spec)), chunk, b"o" * 32, "D0", bytes(32)) for spec, chunk in jobs]
    epoch = commit(work, answers, [bytes([n]) * 32 for n in range(len(jobs))])  # type: ignore[arg-type]
    known: dict[tuple[bytes, int], bytes] = {}
    hits = 0
    for index, (digest, chunk, *_) in enumerate(work):
        hits += (digest, chunk) in known
        known[digest, chunk] = answers[index]
    assert hits == 0, "what one member met, no other meets again"
    by_place: dict[int, bytes] = {}
    wrong = 0
    for index, (spec, chunk) in enumerate(jobs):  # The lazy way: answer a chunk's number with what was right before.
        guess = by_place.setdefault(chunk, computed(spec, chunk))
        wrong += (
            convicts(epoch.root, epoch.opened(index, answers[index]), work[index][0], chunk, guess) == "wrong_canary"
        )
    assert wrong > len(jobs) // 2


def test_one_operator_meets_one_source_once() -> None:
    jobs, answers = issue()
    work = [(wire.digest(wire.encode(spec)), chunk, b"o" * 32, "D0", bytes(32)) for spec, chunk in jobs]
    epoch = commit(work, answers, [bytes([n]) * 32 for n in range(len(jobs))])  # type: ignore[arg-type]
    dice = Random(1)
    farm = [epoch.issue(peer, frozenset({"203.0.113.0/24"}), bytes(32), dice) for peer in POOL[:10]]
    assert [index for index in farm if index is not None] == farm[:1]
    homes = [epoch.issue(peer, frozenset({f"home {n}"}), bytes(32), dice) for n, peer in enumerate(POOL[10:])]
    assert None not in homes
    assert len({*homes, farm[0]}) == 31


def test_the_issuer_uses_a_source_once_and_knows_who_met_it() -> None:
    """Who computed or audited the source gets no lease of its canary (tests/node/test_canaries.py)."""
    escrow = Escrow(b"e" * 32, b"", b"", b"", 0, wire.digest(wire.encode(SOURCE)), 0, is_closed=True)
    for chunk, peer in enumerate(POOL[:8]):
        out = computed(SOURCE, chunk)
        escrow.chunks[chunk] = ChunkLease(
            chunk, 1, "paid", peer, output=out, is_audited=True, code="hash_equal", auditor=POOL[9]
        )
    assert canary_book.met(escrow) == {*POOL[:8], POOL[9]}
    spec, recoding = canary_book.recoded(SOURCE, Random(35))
    known = {new: (old, Digest(computed(SOURCE, old))) for new, old in enumerate(recoding.order)}
    book, salts = canary_book.Book(), {chunk: bytes([chunk]) * 32 for chunk in known}
    assert book.sources({escrow.id: escrow}) == [escrow.id]
    book.add(canary_book.listed(escrow.id, spec, known, bytes(32), salts))
    assert book.sources({escrow.id: escrow}) == []


def test_honest_twin_answers_every_recoding() -> None:
    jobs, answers = issue()
    work = [(wire.digest(wire.encode(spec)), chunk, b"o" * 32, "D0", bytes(32)) for spec, chunk in jobs]
    epoch = commit(work, answers, [bytes([n]) * 32 for n in range(len(jobs))])  # type: ignore[arg-type]
    assert {epoch.judge(index, computed(*job)) for index, job in enumerate(jobs)} == {"right"}
