"""Canaries on a validator: finished jobs, recoded, tried here and issued again through this node's own steward.

One mirror key per renter whose work is issued again, filled by a transfer as any account is. Only where this validator
alone is the quorum: others could not check the opening before they sign. Spec: specs/38-canaries.md.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Final

import trio

from node import entropy
from node.blobs import BlobStore
from node.control_methods import RenterCreateParams, RenterDepositParams
from node.parts import Parts
from node.renter_api import RenterApi
from node.runner import Runner
from node.store import RecordStore
from protocol import wire
from protocol.effects import Run
from protocol.errors import Refused, ShoalError, Unavailable
from protocol.genesis import Genesis
from protocol.identity import peer_from_text, peer_text
from protocol.jobspec import JobSpec
from protocol.ledger import Ledger
from protocol.units import Digest, JobId, PeerId
from verifier import canary_book
from verifier.canary_book import Book, Listed
from verifier.case import Place
from verifier.networks import networks

RECORD: Final = "canary/"
"""Prefix of the lists in the node's records."""

OPENED: Final = "canary-opened/"
"""Prefix of those that have convicted somebody: everybody knows their keys."""

SPEC_BYTES_MAX: Final = 1 << 20
"""Bytes of a source's specification: with sixteen chunks it is small."""

STRANGERS_MIN: Final = 2
"""Hosts that never met the source and could take the canary: with one, it would be known who gets it."""

LIST_BYTES_MAX: Final = 1 << 20

log = logging.getLogger("shoal.canaries")
_listed: Final = wire.decoder(Listed)
_spec: Final = wire.decoder(JobSpec)


def check_alone(genesis: Genesis, me: PeerId) -> None:
    """Raises `Refused` (`canaries_need_quorum`) unless this validator's own signature is a verdict."""
    if not genesis.validator_set.is_quorum([me]):
        raise Refused(
            "canaries are issued only by a validator that alone is the quorum",
            code="canaries_need_quorum",
            fix="Set canaries_per_hour = 0: others could not check an opening before they sign.",
        )


def mirror(owner: bytes, openings: int) -> str:
    """The name of the key that stands for a renter; after every opening all keys are new."""
    return f"mirror/{owner.hex()[:32]}/{openings}"


class Answers:
    """The lists of this node, and what they prove."""

    def __init__(self, records: RecordStore, blobs: BlobStore, me: PeerId) -> None:
        self.book = Book()
        self._records = records
        self._blobs = blobs
        for _, value in records.scan(RECORD):
            self.book.add(wire.decode(value, _listed, me, LIST_BYTES_MAX))

    def add(self, item: Listed) -> None:
        """On disk before the first is issued."""
        self._records.put(f"{RECORD}{item.spec.hex()}", wire.encode(item))
        self.book.add(item)

    def drop(self, item: Listed) -> None:
        """It could not be issued."""
        self._records.put(f"{RECORD}{item.spec.hex()}", None)
        self.book.forget(item)

    def outlive(self, ledger: Ledger, carried: AbstractSet[bytes]) -> None:
        """Forget the lists that nothing is judged by any more."""
        for item in self.book.outlive(ledger.escrows, carried):
            self._records.put(f"{RECORD}{item.spec.hex()}", None)

    def proof(self, ledger: Ledger, place: Place, output: Digest, runtimes: frozenset[bytes]) -> Digest | None:
        """A blob that proves a revealed output wrong; None where nothing does."""
        escrow = ledger.escrows.get(place[0])
        if escrow is None:
            return None
        found = self.book.conviction(ledger.escrows, escrow.spec, place[1], output, runtimes)
        if found is None:
            return None
        self._records.put(f"{OPENED}{escrow.spec.hex()}", b"")
        return self._blobs.put(wire.encode(found))

    @property
    def openings(self) -> int:
        """Lists that were opened so far."""
        return sum(1 for _ in self._records.scan(OPENED))


class Issuer:
    """Issues a canary job now and then."""

    def __init__(self, parts: Parts, runner: Runner, answers: Answers) -> None:
        self._parts = parts
        self._runner = runner
        self._answers = answers
        self._dice = entropy.dice()
        self._useless: set[bytes] = set()
        """Escrows that are no source after all: not recodable, or their results depend on a chunk's number."""

    async def run(self) -> None:
        """For ever; the time between two is exponential, so that none tells of the next."""
        rate = self._parts.config.canaries_per_hour / 3600
        while True:
            await trio.sleep(self._dice.expovariate(rate))
            try:
                await self.issue()
            except (Refused, Unavailable) as error:
                log.info("no canary this time: %s", error.detail)

    async def issue(self) -> JobId | None:
        """Recode, try, commit, fund and start one job; None where there is no source."""
        carried = {job.record.spec_digest for job in self._parts.steward.jobs.values()}
        self._answers.outlive(self._parts.ledger(), carried)
        for key in self._sources():
            made = self._recoded(key)
            if made is None:
                self._useless.add(key)
                continue
            spec, origins = made
            item = await self._tried(key, spec, origins)
            if item is not None:
                return await self._start(item, spec)
            self._useless.add(key)
        return None

    def _sources(self) -> list[bytes]:
        found = self._answers.book.sources(self._parts.ledger().escrows)
        found = [key for key in found if key not in self._useless]
        self._dice.shuffle(found)
        return found

    def _recoded(self, key: bytes) -> tuple[JobSpec, tuple[int, ...]] | None:
        """The new specification, and the chunk of the source that each of its chunks is."""
        parts, source = self._parts, self._parts.ledger().escrows.get(key)
        if source is None:  # Forgotten while another was tried.
            return None
        digest = Digest(source.spec)
        try:
            spec = wire.decode(parts.blobs.read(digest, SPEC_BYTES_MAX), _spec, parts.identity.peer, SPEC_BYTES_MAX)
            if spec.runtime not in self._runtimes() or not all(parts.blobs.has(Digest(f.digest)) for f in spec.files):
                return None
            other, recoding = canary_book.recoded(spec, self._dice)
        except ShoalError:
            return None
        return other, recoding.order

    def _runtimes(self) -> Mapping[str, bytes]:
        terms = self._parts.terms()
        return {item.name: item.digest for item in terms.runtimes}

    async def _tried(self, key: bytes, spec: JobSpec, origins: tuple[int, ...]) -> Listed | None:
        """Execute every chunk under its new number: what gives the accepted result has an answer."""
        known = canary_book.answers(self._parts.ledger().escrows[key])
        confirmed: dict[int, tuple[int, Digest]] = {}
        for chunk, origin in enumerate(origins):
            if origin in known and await self._result(spec, chunk) == known[origin]:
                confirmed[chunk] = (origin, known[origin])
        if not confirmed:
            return None
        salts = {chunk: entropy.salt() for chunk in confirmed}
        return canary_book.listed(key, spec, confirmed, self._runtimes()[spec.runtime], salts)

    async def _result(self, spec: JobSpec, chunk: int) -> Digest:
        task = f"canary-{wire.digest(wire.encode(spec)).hex()[:16]}-{chunk}"
        run = Run(task, spec, chunk, (), (), self._parts.identity.peer)
        done = await self._runner.run(run, lambda lines: None, lambda tier: None)
        return done.output

    # ── on the market ────────────────────────────────────────────────────────────────────────────────────────────────
    async def _start(self, item: Listed, spec: JobSpec) -> JobId:
        """As any job: account, quote, deposit, escrow. The root is the key that names it."""
        parts, source = self._parts, self._parts.ledger().escrows.get(item.source)
        if source is None:
            raise Refused("the ledger has forgotten its source meanwhile", code="no_source")
        earlier = {PeerId(held.provider) for held in parts.ledger().held.values() if held.escrow == item.source}
        barred = self._acquainted(canary_book.met(source) | earlier)
        created = await RenterApi(parts).create(RenterCreateParams(mirror(source.owner, self._answers.openings)))
        renter = peer_from_text(str(created["renter"]))
        strangers = [one for one in parts.plan(spec, renter, parts.now()).candidates if one.peer not in barred]
        if len(strangers) < STRANGERS_MIN:
            raise Refused(f"{len(strangers)} hosts have not met its source", code="no_strangers")
        self._answers.add(item)
        parts.blobs.put(wire.encode(spec))
        try:
            record, _, effects = parts.steward.submit(spec, renter, item.root.hex(), parts.now())
            record.barred += sorted(barred)
            parts.driver.command(parts.steward, lambda now: effects)
            missing = record.cap - parts.ledger().available("U", renter)
            if missing > 0:
                text = peer_text(renter)
                await RenterApi(parts).deposit(RenterDepositParams(text, missing, item.root.hex()[:32]))
            job = JobId(record.job)
            parts.driver.command(parts.steward, lambda now: parts.steward.confirm(job, now))
        except ShoalError:
            self._answers.drop(item)
            raise
        log.info("%d canaries are committed to by %s", len(item.canaries), item.root.hex())
        fields: dict[str, str | int] = {"job": job.hex(), "root": item.root.hex(), "count": len(item.canaries)}
        parts.events.emit("canary", fields, parts.now())
        return job

    def _acquainted(self, known: frozenset[PeerId]) -> frozenset[PeerId]:
        """Who has met the source, and everybody whose addresses lie in a network of theirs."""
        offers = self._parts.offers.offers(self._parts.now())
        theirs = {one for peer in known & offers.keys() for one in networks(offers[peer].addresses)}
        return known | {peer for peer, offer in offers.items() if theirs & networks(offer.addresses)}
