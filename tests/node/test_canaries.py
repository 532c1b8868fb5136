"""Canaries at a node: the real runner tries them, the real steward carries them, the disk remembers them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from msgspec import structs

from node.blobs import BlobStore
from node.canaries import Answers, Issuer, check_alone, mirror
from node.events import EventLog
from node.executors.child import ChildExecutor
from node.executors.wasm import engine_digest
from node.parts import Parts
from node.runner import Runner
from node.runtimes import discover
from node.store import RecordStore
from protocol import wire
from protocol.effects import Run
from protocol.errors import Refused
from protocol.genesis import Genesis
from protocol.identity import Identity
from protocol.job_record import JobRecord
from protocol.jobspec import Chunk, JobSpec
from protocol.offers import OfferBook
from protocol.steward import job_id
from protocol.units import MIB, SECOND, Digest, JobId, PeerId
from tests.protocol.town import CHAIN, START, Town, job_spec, open_town
from verifier import canary_book

OWN = "echo $N > $SHOAL_OUT/n"
NUMBERED = "echo $SHOAL_CHUNK > $SHOAL_OUT/n"
RUNTIMES = discover({}, engine_digest())


def source_spec(command: str) -> JobSpec:
    chunks = tuple(Chunk((("N", str(n)),)) for n in range(3))
    return structs.replace(job_spec(audit_ppm=1_000_000), name="echo-7", commands=(command,), chunks=chunks)


class Stand:
    """A validator's node around the machines of a town; a finished job of a renter is on the ledger."""

    def __init__(self, folder: Path, providers: int = 6) -> None:
        self.town: Town = open_town(providers)
        self.me = self.town.citizens["validator"]
        self.blobs = BlobStore(folder / "blobs", 64 * MIB)
        self.records = RecordStore(folder / "node.sqlite")
        self.runner = Runner(
            self.blobs, folder / "tasks", [ChildExecutor(f"canaries-{os.getpid()}")], RUNTIMES, [self.peer]
        )
        self.answers = Answers(self.records, self.blobs, self.peer)

    @property
    def peer(self) -> PeerId:
        return self.me.identity.peer

    async def finish(self, spec: JobSpec) -> bytes:
        """The town runs it and the ledger gets the outputs that the program really gives. The escrow."""
        body, steward = wire.encode(spec), self.town.citizens["steward"]
        self.town.blobs[wire.digest(body)] = body
        self.blobs.put(body)
        record, _, effects = steward.steward.submit(spec, steward.identity.peer, "source", self.town.now)
        self.town.command("steward", steward.steward, lambda now: effects)
        self.town.command("steward", steward.steward, lambda now: steward.steward.confirm(JobId(record.job), now))
        self.town.run(lambda: bool(record.escrow) and self.closed(record.escrow))
        await self.runner.clean()
        for chunk, lease in self.town.ledger.escrows[record.escrow].chunks.items():
            done = await self.runner.run(Run(f"t{chunk}", spec, chunk, (), (), self.peer), nothing, nothing)
            assert done.reason == "ok", done
            lease.output = done.output
        return record.escrow

    def closed(self, escrow: bytes) -> bool:
        found = self.town.ledger.escrows.get(escrow)
        return found is not None and found.is_closed

    async def issued(self) -> JobRecord:
        """A canary job, run by the town to its end."""
        job = await self.issuer().issue()
        assert job is not None
        record = self.me.steward.job(job).record
        self.town.blobs[Digest(record.spec_digest)] = self.blobs.read(Digest(record.spec_digest), MIB)
        self.town.run(lambda: record.is_final)
        return record

    def issuer(self) -> Issuer:
        town, me = self.town, self.me

        def command(machine: object, act: Callable[..., object]) -> None:
            town.command("validator", machine, act)  # type: ignore[arg-type]

        async def applied(op: Digest, timeout_s: float) -> None:
            end = town.now + SECOND
            town.run(lambda: town.now > end, 5)

        book = next(machine for machine in me.peer._machines if isinstance(machine, OfferBook))
        parts = SimpleNamespace(
            identity=me.identity, now=lambda: town.now, config=SimpleNamespace(network=CHAIN),
            ledger=lambda: town.ledger, client=me.client, steward=me.steward, offers=book,
            driver=SimpleNamespace(command=command), outcomes=SimpleNamespace(applied=applied),
            records=self.records, blobs=self.blobs, events=EventLog(), plan=me.steward.plan,
            terms=lambda: me.maker.terms,
        )  # fmt: skip
        return Issuer(cast("Parts", parts), self.runner, self.answers)


def nothing(_: object) -> None:
    return None


async def test_a_finished_job_comes_back_in_another_order_and_its_list_is_older_than_its_leases(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    source = await stand.finish(source_spec(OWN))
    record = await stand.issued()
    (item,) = [wire.decode(value, wire.decoder(canary_book.Listed), stand.peer, MIB)
               for _, value in stand.records.scan("canary/")]  # fmt: skip
    assert record.spec.name != "echo-7" and set(record.spec.chunks) == set(source_spec(OWN).chunks)
    assert item.source == source and len(item.canaries) == 3
    assert record.state == "settled"
    escrow = stand.town.ledger.escrows[record.escrow]
    assert escrow.job == job_id(PeerId(record.renter), item.root.hex()), "the ledger holds the commitment"
    assert not {lease.provider for lease in escrow.chunks.values()} & canary_book.met(stand.town.ledger.escrows[source])
    assert record.renter not in (stand.peer, stand.town.ledger.escrows[source].owner)


async def test_what_was_kept_convicts_after_a_restart_and_the_keys_change(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    source = await stand.finish(source_spec(OWN))
    record = await stand.issued()
    again = Answers(stand.records, stand.blobs, stand.peer)
    right = {lease.output for lease in stand.town.ledger.escrows[source].chunks.values()}
    place = (record.escrow, 0, 1)
    proofs = [again.proof(stand.town.ledger, place, Digest(out), runtimes(stand)) for out in sorted(right)]
    assert sum(proof is None for proof in proofs) == 1, "each chunk has one right answer"
    assert again.openings == 1
    evidence = next(proof for proof in proofs if proof is not None)
    opened = wire.decode(stand.blobs.read(evidence, MIB), wire.decoder(canary_book.Conviction), stand.peer, MIB)
    assert opened.opened.right in right
    assert mirror(b"r" * 32, 0) != mirror(b"r" * 32, again.openings)
    assert await stand.issuer().issue() is None, "a source is used once"
    stand.town.ledger.escrows.pop(source)  # As it does with what was closed long ago.
    assert [again.proof(stand.town.ledger, place, Digest(out), runtimes(stand)) for out in sorted(right)] == proofs
    again.outlive(stand.town.ledger, set())
    assert len(list(stand.records.scan("canary/"))) == 1, "the canary's own escrow is still there"
    stand.town.ledger.escrows.pop(record.escrow)
    again.outlive(stand.town.ledger, set())
    assert not list(stand.records.scan("canary/")) and len(again.book) == 0


def runtimes(stand: Stand) -> frozenset[bytes]:
    assert stand.me.maker.terms is not None
    return frozenset(item.digest for item in stand.me.maker.terms.runtimes)


async def test_results_that_depend_on_the_number_of_a_chunk_are_found_by_the_trial(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    await stand.finish(source_spec(NUMBERED))
    issuer = stand.issuer()
    for _ in range(4):  # An order that leaves a chunk in its place may come; that one has an answer.
        job = await issuer.issue()
        if job is None:
            break
        (item,) = stand.answers.book._lists.values()
        assert all(canary.chunk == origin for canary, origin in zip(item.canaries, item.origins, strict=True))


async def test_where_everybody_met_the_source_nothing_is_issued(tmp_path: Path) -> None:
    stand = Stand(tmp_path, providers=2)
    await stand.finish(source_spec(OWN))
    with pytest.raises(Refused) as caught:
        await stand.issuer().issue()
    assert caught.value.code == "no_strangers"
    assert not list(stand.records.scan("canary/"))


def test_only_who_is_the_quorum_issues() -> None:
    one, two = (Identity(bytes([n]) * 32).peer for n in (1, 2))
    check_alone(Genesis(CHAIN, START, ((one, 1),), (("S", one, 1),)), one)
    for key in (one, two):
        with pytest.raises(Refused) as caught:
            check_alone(Genesis(CHAIN, START, ((one, 1), (two, 1)), (("S", one, 1),)), key)
        assert caught.value.code == "canaries_need_quorum"
