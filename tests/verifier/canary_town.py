"""A busy town in which a validator issues finished jobs again: what providers see of both kinds, by the real machines.

Real jobs go through the steward's machine, canaries through the validator's. Everything that a node does beyond the
machines (the trial, the disk) is left out; what is issued, by which key and when, is decided by the same functions.
"""

from __future__ import annotations

from random import Random

from msgspec import structs

from protocol import wire
from protocol.escrow_state import Escrow
from protocol.identity import Identity
from protocol.job_record import JobRecord
from protocol.jobspec import JobSpec
from protocol.operations import Transfer
from protocol.units import SECOND, Digest, JobId, Micros
from tests.protocol.town import Citizen, Town, job_spec, open_town
from verifier import canary_book
from verifier.canary_book import Book
from verifier.indistinguishable import Metadata

GAP = 2 * SECOND
"""Mean time between two jobs of a kind."""

RENTERS = 12

JITTER = SECOND // 10
"""The town's lines are all equally fast, and the validator's to itself is faster by one trip, on every line. Between
homes a trip varies by more than it takes."""


class Traffic:
    """Both kinds of one town. Only what came while both were about is compared."""

    def __init__(self, count: int, seed: int) -> None:
        self.dice = Random(seed)
        self.town: Town = open_town(5, seed)
        self.book = Book()
        self.specs: dict[Digest, JobSpec] = {}
        self.records: dict[str, list[JobRecord]] = {"steward": [], "validator": []}
        self.renters = [Identity(wire.digest(b"renter %d" % n)) for n in range(RENTERS)]
        self.habits = {key.peer: self._habit() for key in self.renters}
        self._warm_up(count // 5)
        self.first = len(self.records["steward"])
        self.left = 2 * count
        self._next()
        self.town.run(lambda: not self.left, 3 * count * GAP)
        unfinished = [record for kind in self.records.values() for record in kind]

        def is_over() -> bool:
            while unfinished and unfinished[-1].is_final:
                unfinished.pop()
            return not unfinished

        self.town.run(is_over, 3600)

    def _habit(self) -> tuple[str, int, int, int]:
        """Name, estimate and limit in seconds, share of numbered runs."""
        word = self.dice.choice(("render", "train", "dock", "sweep", "encode"))
        return word, self.dice.choice((2, 3, 5, 8)), self.dice.choice((30, 60, 120)), self.dice.randrange(2, 5)

    def _warm_up(self, count: int) -> None:
        """Jobs of before: without finished ones there is nothing to issue again."""
        for _ in range(count):
            self._submit_real()
        self.town.run(lambda: all(record.is_final for record in self.records["steward"]), 600)

    def _next(self) -> None:
        """A job of either kind after an exponential time: two processes of which none knows of the other."""

        def come() -> None:
            self.left -= 1
            if self.dice.random() < 0.5:
                self._submit_real()
            else:
                self._submit_canary()
            if self.left:
                self._next()

        self.town.at(self.dice.expovariate(2 / GAP), come)

    def _submit_real(self) -> None:
        renter = self.dice.choice(self.renters)
        word, estimate, limit, digits = self.habits[renter.peer]
        spec = structs.replace(
            job_spec(1, audit_ppm=1_000_000),
            name=f"{word}-{self.dice.randrange(10**digits):0{digits}d}",
            estimate=Micros(estimate * SECOND),
            timeout=Micros(limit * SECOND),
        )
        self._submit("steward", renter, spec, f"job {len(self.records['steward'])}")

    def _submit_canary(self) -> None:
        """As `node.canaries` does: a source that was never used, recoded, under the mirror key of its renter."""
        escrows = self.town.ledger.escrows
        source = self.dice.choice(self.book.sources(escrows))
        escrow = escrows[source]
        spec, recoding = canary_book.recoded(self.specs[Digest(escrow.spec)], self.dice)
        known = canary_book.answers(escrow)
        confirmed = {new: (old, known[old]) for new, old in enumerate(recoding.order)}
        salts = {chunk: self.dice.randbytes(32) for chunk in confirmed}
        item = canary_book.listed(source, spec, confirmed, bytes(32), salts)
        self.book.add(item)
        mirror = Identity(wire.digest(b"mirror" + escrow.owner))
        record = self._submit("validator", mirror, spec, item.root.hex())
        record.barred += sorted(canary_book.met(escrow) & {peer.identity.peer for peer in self._providers()})

    def _providers(self) -> list[Citizen]:
        return [citizen for name, citizen in self.town.citizens.items() if name.startswith("p")]

    def _submit(self, who: str, renter: Identity, spec: JobSpec, key: str) -> JobRecord:
        citizen, body = self.town.citizens[who], wire.encode(spec)
        self.town.blobs[wire.digest(body)] = body
        self.specs[wire.digest(body)] = spec
        citizen.steward.renters[renter.peer] = renter
        record, _, effects = citizen.steward.submit(spec, renter.peer, key, self.town.now)
        self.records[who].append(record)
        self.town.command(who, citizen.steward, lambda now: effects)
        sequence = citizen.steward.sequence(citizen.identity.peer)
        self.town.order(Transfer(citizen.identity.peer, 0, sequence, renter.peer, record.cap), who)
        self._confirm(who, record)
        return record

    def _confirm(self, who: str, record: JobRecord) -> None:
        """As soon as the money is there."""
        citizen = self.town.citizens[who]

        def look() -> None:
            if citizen.replica.ledger.available("U", record.renter) < record.cap:
                self.town.at(SECOND // 10, look)
            else:
                self.town.command(who, citizen.steward, lambda now: citizen.steward.confirm(JobId(record.job), now))

        self.town.at(SECOND // 10, look)

    # ── what is seen of it ───────────────────────────────────────────────────────────────────────────────────────────
    def seen(self, who: str) -> list[Metadata]:
        """Every chunk of a kind as its provider got it, but for who carries it, and for the renter's key: twelve keys
        are twelve random numbers, by which a model would know the rows that it has seen."""
        records = self.records[who][self.first :] if who == "steward" else self.records[who]
        return self._metadata(records)

    def _metadata(self, records: list[JobRecord]) -> list[Metadata]:
        last: dict[bytes, int] = {}
        ours = [self.town.ledger.escrows[record.escrow] for record in records]
        return [self._row(escrow, last) for escrow in sorted(ours, key=lambda one: one.chunks[0].assigned_at)]

    def _row(self, escrow: Escrow, last: dict[bytes, int]) -> Metadata:
        lease, spec = escrow.chunks[0], self.specs[Digest(escrow.spec)]
        gap = lease.assigned_at - last.get(escrow.owner, lease.assigned_at)
        last[escrow.owner] = lease.assigned_at
        deadline = (lease.claim_by - lease.assigned_at) // JITTER * JITTER
        return Metadata(
            b"", escrow.spec, escrow.job, lease.price, len(wire.encode(spec)), len(spec.chunks),
            spec.timeout, deadline, gap, lease.assigned_at // SECOND % 86_400,
        )  # fmt: skip
