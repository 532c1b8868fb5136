"""A judge over claims with units: real traces, the provider's own answers, and auditors that replay."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

from msgspec import UNSET

from protocol import wire
from protocol.completions import Fetched, FetchFailed
from protocol.effects import Compute, Fetch, Run, Score
from protocol.identity import Identity
from protocol.jobspec import Chunk, JobSpec, Manifest, OutputFile, Resources
from protocol.messages import AuditRequest, Reveal, RevealRequest, UnitsOpened, UnitsRequest
from protocol.proof import Kind, Numeric, Proof, Tolerance
from protocol.provider_trace import LeaseTrace, committed
from protocol.units import PPM, Digest, PeerId
from simulations import units
from simulations.units import EXACT, Conduct, Execution
from tests.verifier.court import ESCROW, ME, PROVIDER, SALT, SECOND_AUDITOR, STRANGER, Court
from verifier.bench import CARELESS, Caution
from verifier.case import Decided, Unfolding
from verifier.course import LAST_STATE

THIRD = Identity(bytes([9]) * 32)
AUDITORS = (ME, SECOND_AUDITOR, THIRD)
TOLERANCE = Tolerance(t_ok=1_000_000, t_bad=1_000_000_000)
"""Parts per trillion: an error of 1e-6 is fine, one of 1e-3 is a cheat."""
NOISE = 200_000
"""Parts per trillion by which honest machines of class D3 differ."""
CHEAPER = 2_000_000_000
"""Parts per trillion by which lower precision differs."""
UNITS = 12


def unit_job(
    numeric: Numeric = "D1",
    kind: Kind = "training",
    count: int = UNITS,
    samples: int = 4,
    auditors: int = 1,
    check: tuple[str, ...] = (),
    audit_ppm: int = PPM,
) -> JobSpec:
    """A job whose chunks are cut into units."""
    tolerance = TOLERANCE if numeric == "D3" else UNSET
    return JobSpec(
        name="job",
        runtime="torch",
        commands=("work",),
        chunks=(Chunk(),) * 2,
        resources=Resources(disk_bytes=1 << 20),
        audit_ppm=audit_ppm,
        numeric=numeric,
        proof=Proof(kind=kind, units=count, samples=samples, auditors=auditors, check=check, tolerance=tolerance),
    )


@dataclass
class Provided:
    """What the provider of the claim has on its disk."""

    made: Execution
    trace: LeaseTrace
    blobs: dict[Digest, bytes] = field(default_factory=dict)

    def read(self, digest: Digest) -> bytes:
        return self.blobs[digest]


class UnitCourt(Court):
    """One claim with units in judgement."""

    def __init__(
        self,
        spec: JobSpec | None = None,
        conduct: Conduct = EXACT,
        auditors: tuple[Identity, ...] = AUDITORS,
        valid: int = 0,
        caution: Caution = CARELESS,
        key: Identity = ME,
    ) -> None:
        self.job = spec or unit_job()
        super().__init__(valid=valid, auditors=auditors, spec=self.job, caution=caution, key=key)
        self.by_peer = {identity.peer: identity for identity in (*auditors, ME, STRANGER)}
        self.made = units.execute(self.run(), conduct)
        trace = committed(self.made.trace, self.job.units, PROVIDER.peer, self.made.blobs.__getitem__)
        self.provided = Provided(self.made, trace, dict(self.made.blobs))
        self.results: dict[PeerId, Execution] = {}

    def run(self, request: AuditRequest | None = None) -> Run:
        """The chunk, or what an auditor is asked for."""
        leaves, seed = (request.units, request.seed) if request is not None else ((), b"")
        return Run("task", self.job, 0, (), (), PeerId(bytes(32)), units=leaves, seed=seed)

    # ── the provider ─────────────────────────────────────────────────────────────────────────────────────────────────
    def begin(self, beacon: int = 0) -> UnitCourt:
        """The claim is ordered and the specification known. `beacon`: number of another than the block's hash."""
        self.beacon = hashlib.sha256(b"beacon %d" % beacon).digest() if beacon else b""
        self.order()
        self.know_spec()
        return self

    def order(self) -> None:
        """The claim is ordered."""
        self.claim(output=self.made.output, trace=self.provided.trace.root, units=self.job.units)

    def asked(self) -> UnitsRequest:
        """The judge's last question about units."""
        ((peer, request),) = self.sent(UnitsRequest)
        assert peer == PROVIDER.peer
        assert isinstance(request, UnitsRequest)
        return request

    def answer(self) -> UnitsOpened:
        """What the provider's own code answers."""
        return self.provided.trace.answer(ME.peer, self.asked(), self.provided.read)

    def unfold(self) -> UnitCourt:
        """Both rounds, as an honest provider opens."""
        while isinstance(self.case.state, Unfolding):
            self.hear(PROVIDER, self.answer())
        return self

    def show(self) -> None:
        """The provider opens its claim, and the judge gets the output."""
        assert self.sent(RevealRequest) == [(PROVIDER.peer, RevealRequest(ESCROW, 0, 1))]
        openings = self.provided.trace.behind(ME.peer, self.provided.read)
        self.hear(PROVIDER, Reveal(ESCROW, 0, 1, self.made.output, self.made.size, SALT, openings))
        if not isinstance(self.case.state, Decided):
            self.deliver()

    def deliver(self) -> None:
        """The output is here."""
        self.blobs |= self.made.blobs
        self.hear(ME, Fetched(self.made.output, self.made.size))

    # ── the auditors ─────────────────────────────────────────────────────────────────────────────────────────────────
    def requests(self) -> list[tuple[Identity, AuditRequest]]:
        """Whom the judge asks for an execution now."""
        found = []
        for peer, request in self.sent(AuditRequest):
            assert isinstance(request, AuditRequest)
            found.append((self.by_peer[peer], request))
        return found

    @property
    def waits_for(self) -> str:
        """The name of the state that the case is in."""
        return type(self.case.state).__name__

    def replay(self, conduct: Conduct = EXACT) -> Identity:
        """The one auditor that is asked replays and seals."""
        ((auditor, request),) = self.requests()
        self.seal(auditor, request, conduct)
        return auditor

    def seal(self, auditor: Identity, request: AuditRequest, conduct: Conduct = EXACT) -> None:
        made = units.replay(self.run(request), self.provided.read, conduct)
        self.results[auditor.peer] = made
        self.commit(made.output, auditor)

    def uncover(self, auditor: Identity) -> None:
        """The auditor opens, its results are fetched and compared, within a tolerance by the model of a node."""
        made = self.results[auditor.peer]
        self.open(made.output, auditor)
        for fetch in self.fetches():
            self.blobs |= made.blobs
            assert fetch.sources == (auditor.peer,)
            self.hear(ME, Fetched(fetch.digest, made.size) if made.size else FetchFailed(fetch.digest, "gone"))
        self.score()

    def score(self) -> None:
        """Comparisons that the judge wants."""
        for effect in list(self.effects):
            if isinstance(effect, Compute) and isinstance(effect.work, Score):
                self.hear(ME, units.compare(effect.work, {**self.provided.blobs, **self.blobs}.__getitem__))

    def fetches(self) -> list[Fetch]:
        return [fetch for fetch in super().fetches() if not fetch.is_output and fetch.digest != self.spec]

    def judged(self, *conducts: Conduct, beacon: int = 0) -> tuple[str, str, bool]:
        """The whole way, with one auditor after the other behaving like this."""
        self.begin(beacon).unfold()
        for number, conduct in enumerate(conducts):
            auditor = self.replay(conduct)
            if number == 0:
                self.show()
            self.uncover(auditor)
        if self.waits_for == "Checking":
            self.make_again()
        return self.found()

    def make_again(self) -> Identity:
        """The one auditor that is asked makes the output files of the last state once more, seals and opens."""
        ((auditor, request),) = self.requests()
        assert request.last is not UNSET and request.units == ()
        made = self.finished()
        self.commit(made.output, auditor)
        self.open(made.output, auditor)
        return auditor

    def finished(self) -> Execution:
        """What an honest host makes of the revealed last state."""
        return units.finish(replace(self.run(), last=self.case.last), self.provided.read)


def forging(court: UnitCourt) -> UnitCourt:
    """Honest units, the right last state, and beside it a file that does not follow from it."""
    body = court.made.blobs[court.made.output]
    manifest = wire.decode(body, wire.decoder(Manifest), PROVIDER.peer)
    other = b"what the renter opens"
    files = tuple(
        file if file.path == LAST_STATE else OutputFile(file.path, wire.digest(other), len(other))
        for file in manifest.files
    )
    forged = wire.encode(Manifest(files))
    court.made.output = wire.digest(forged)
    court.made.blobs |= {court.made.output: forged, wire.digest(other): other}
    return court


def skipping(*indices: int) -> Conduct:
    """Leaves these units out."""
    return Conduct(skips=lambda index: index in indices)


def noisy(err: int, *indices: int) -> Conduct:
    """Off by so much everywhere, or in these units."""
    return Conduct(err=lambda index: err if not indices or index in indices else 0)
