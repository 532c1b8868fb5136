"""The issuer's book: what is a source, what is committed to, what convicts; and the judge that is shown it."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from protocol import operations, wire
from protocol.completions import Fetched
from protocol.escrow_state import ChunkLease, Escrow
from protocol.jobspec import Chunk, JobSpec
from protocol.messages import AuditRequest
from protocol.proof import Numeric
from protocol.units import Digest, PeerId
from tests.verifier.court import BAD, ESCROW, GOOD, ME, PROVIDER, RENTER, SALT, SECOND_AUDITOR, STEWARD, STRANGER, Court
from verifier import canary_book, challenge
from verifier.bench import Caution
from verifier.canaries import convicts, is_forced
from verifier.canary_book import Book, Listed
from verifier.case import Place

SOURCE = b"o" * 32
OUTPUTS = [Digest(bytes([n]) * 32) for n in range(3)]
SALTS = {n: bytes([100 + n]) * 32 for n in range(3)}
RUNTIME, OTHER = b"r" * 32, b"q" * 32


def job(numeric: Numeric = "D0") -> JobSpec:
    return JobSpec("sum-12", "python", ("true",), tuple(Chunk((("N", str(n)),)) for n in range(3)), numeric=numeric)


def finished(spec: JobSpec) -> Escrow:
    escrow = Escrow(SOURCE, bytes(16), RENTER.peer, STEWARD.peer, 100, wire.digest(wire.encode(spec)), 10, True)
    for chunk, output in enumerate(OUTPUTS):
        escrow.chunks[chunk] = ChunkLease(
            chunk, 1, "paid", PROVIDER.peer, output=output, is_audited=True, code="hash_equal", auditor=ME.peer
        )
    return escrow


def issued(numeric: Numeric = "D0", seed: int = 1) -> tuple[Book, Listed, JobSpec, dict[bytes, Escrow]]:
    spec = job(numeric)
    other, recoding = canary_book.recoded(spec, Random(seed))
    confirmed = {chunk: (origin, OUTPUTS[origin]) for chunk, origin in enumerate(recoding.order)}
    item = canary_book.listed(SOURCE, other, confirmed, RUNTIME, SALTS)
    book = Book()
    book.add(item)
    return book, item, other, {SOURCE: finished(spec)}


@pytest.mark.parametrize(
    "change",
    [
        {"is_closed": False},
        {"state": "claimed"},
        {"code": "not_sampled", "is_audited": False},
        {"code": "no_auditor"},
        {"count": canary_book.CHUNKS_MAX + 1},
    ],
)
def test_only_final_small_and_audited_work_is_a_source(change: dict[str, object]) -> None:
    escrow = finished(job())
    assert Book().sources({SOURCE: escrow}) == [SOURCE]
    escrow.is_closed = bool(change.pop("is_closed", True))
    for chunk in range(3, int(str(change.pop("count", 3)))):
        escrow.chunks[chunk] = escrow.chunks[0]
    for lease in escrow.chunks.values():
        for name, value in change.items():
            setattr(lease, name, value)
    assert Book().sources({SOURCE: escrow}) == []


def test_a_source_is_used_once_and_a_canary_never() -> None:
    book, item, other, escrows = issued()
    again = finished(other)
    again.spec = item.spec
    assert book.sources({**escrows, b"c" * 32: again}) == []
    book.forget(item)
    assert book.sources(escrows) == [], "somebody may have seen the offer"


@given(seed=st.integers(0, 1000), chunk=st.integers(0, 2), said=st.sampled_from([*OUTPUTS, Digest(b"x" * 32)]))
def test_exactly_the_wrong_answers_convict(seed: int, chunk: int, said: Digest) -> None:
    book, item, other, escrows = issued(seed=seed)
    origin = item.origins[chunk]
    assert other.chunks[chunk] == job().chunks[origin]
    found = book.conviction(escrows, item.spec, chunk, said, frozenset())
    assert (found is None) == (said == OUTPUTS[origin])
    if found is not None:
        assert found.root == item.root
        assert convicts(found.root, found.opened, item.spec, chunk, said) == "wrong_canary"


def test_what_proves_nothing_convicts_nobody() -> None:
    book, item, _, escrows = issued()
    assert book.conviction(escrows, SOURCE, 0, BAD, frozenset()) is None, "not a canary"
    assert book.conviction(escrows, item.spec, 7, BAD, frozenset()) is None
    book.add(structs.replace(item, answers=(b"z" * 32,) * 3))
    assert book.conviction(escrows, item.spec, 0, BAD, frozenset()) is None, "not the answer that was sealed"


def test_what_the_ledger_has_forgotten_convicts_all_the_same() -> None:
    book, item, _, escrows = issued()
    found = book.conviction(escrows, item.spec, 0, BAD, frozenset())
    assert found is not None
    assert book.conviction({}, item.spec, 0, BAD, frozenset()) == found
    assert book.conviction({}, item.spec, 0, OUTPUTS[item.origins[0]], frozenset()) is None
    read = Book()
    read.add(wire.decode(wire.encode(item), wire.decoder(Listed), ME.peer))
    assert read.conviction({}, item.spec, 0, BAD, frozenset()) == found, "after a restart"


def test_a_list_of_an_earlier_version_reads_the_ledger() -> None:
    book, item, _, escrows = issued()
    found = book.conviction(escrows, item.spec, 0, BAD, frozenset())
    fields = {name: getattr(item, name) for name in item.__struct_fields__ if name != "answers"}
    old = wire.decode(msgspec.msgpack.encode(fields), wire.decoder(Listed), ME.peer)
    book.add(old)
    assert old.answers is msgspec.UNSET and book.conviction(escrows, item.spec, 0, BAD, frozenset()) == found
    assert book.conviction({}, item.spec, 0, BAD, frozenset()) is None, "of a forgotten source nothing is known"


def test_a_list_is_kept_as_long_as_the_ledger_knows_either_job() -> None:
    book, item, other, escrows = issued()
    canary = finished(other)
    assert canary.spec == item.spec
    for known, carried in ((escrows, set[bytes]()), ({b"c" * 32: canary}, set[bytes]()), ({}, {bytes(item.spec)})):
        assert book.outlive(known, carried) == []
        assert book.conviction({}, item.spec, 0, BAD, frozenset()) is not None
    assert book.sources({b"c" * 32: canary}) == []
    assert book.outlive({}, set()) == [item]
    assert len(book) == 0 and book.conviction(escrows, item.spec, 0, BAD, frozenset()) is None


def test_an_answer_binds_hosts_of_its_own_runtime_only() -> None:
    book, item, _, escrows = issued("D2")
    assert book.conviction(escrows, item.spec, 0, BAD, frozenset({OTHER})) is None
    assert book.conviction(escrows, item.spec, 0, BAD, frozenset({OTHER, RUNTIME})) is not None


def test_no_answer_is_in_what_was_committed_to() -> None:
    _, item, _, _ = issued()
    kept = wire.encode((item.root, item.canaries))
    assert not any(kept.count(output) for output in OUTPUTS)


@given(name=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True), seed=st.integers(0, 50))
def test_names_keep_their_shape(name: str, seed: int) -> None:
    other = canary_book.renamed(name, Random(seed))
    assert other != name and len(other) <= 64
    JobSpec(other, "python", ("true",), (Chunk(),))
    assert len(other) == len(name) or other.startswith(name[:61])


def test_who_met_the_source_is_known() -> None:
    assert canary_book.met(finished(job())) == {PROVIDER.peer, ME.peer}


# ── before the judge ─────────────────────────────────────────────────────────────────────────────────────────────────
PROOF = Digest(b"p" * 32)


def known(place: Place, provider: PeerId, output: Digest) -> Digest | None:
    """One chunk's answer is GOOD."""
    assert (place, provider) == ((ESCROW, 0, 1), PROVIDER.peer)
    return PROOF if output != GOOD else None


@pytest.mark.parametrize("valid", [0, 10**9])
def test_a_wrong_answer_is_fraud_whether_it_was_drawn_or_not(valid: int) -> None:
    court = Court(valid=valid, caution=Caution(canary=known))
    court.claim(output=BAD)
    court.know_spec()
    if not valid:
        court.commit(BAD)  # Even where an auditor says the same.
    court.reveal(BAD)
    assert court.found() == ("fraud", "wrong_canary", True)
    assert (court.verdict().evidence, court.verdict().output) == (PROOF, BAD)


def test_a_right_answer_goes_the_way_of_all_claims() -> None:
    court = Court(valid=10**9, caution=Caution(canary=known))
    court.claim()
    court.know_spec()
    court.reveal()
    court.hear(ME, Fetched(GOOD, 10))
    assert court.found() == ("accept", "not_sampled", False)


# ── forced audits ────────────────────────────────────────────────────────────────────────────────────────────────────
def drawn(is_more: bool) -> Court:
    """A newcomer's claim whose beacon asks for one auditor more, or does not. Three may audit."""
    court = Court(auditors=(ME, SECOND_AUDITOR, STRANGER))
    sealed = operations.seal(PROVIDER.peer, SALT, GOOD)
    for number in range(1000):
        court.beacon = bytes(30) + number.to_bytes(2, "big")
        if is_forced(challenge.seed((ESCROW, 0, 1), sealed, b"", court.beacon)) == is_more:
            break
    court.claim()
    court.know_spec()
    return court


def test_the_beacon_asks_for_one_more_now_and_then() -> None:
    assert [len(drawn(is_more).sent(AuditRequest)) for is_more in (False, True)] == [1, 2]


def test_the_friend_who_repeats_a_lie_is_named() -> None:
    """The provider tells its friend what it claims; the friend seals that. The other two compute."""
    court = drawn(True)
    asked = [peer for peer, _ in court.sent(AuditRequest)]
    by_peer = {key.peer: key for key in (ME, SECOND_AUDITOR, STRANGER)}
    friend, honest = (by_peer[peer] for peer in asked)
    third = next(key for key in by_peer.values() if key not in (friend, honest))
    court.commit(GOOD, friend)
    court.commit(BAD, honest)  # What the program really gives.
    court.reveal()
    court.hear(ME, Fetched(GOOD, 10))
    court.open(GOOD, friend)
    court.open(BAD, honest)
    court.commit(BAD, third)
    court.open(BAD, third)
    assert court.found() == ("wrong", "hash_differs", True)
    assert court.verdict().faulted == (friend.peer,)
