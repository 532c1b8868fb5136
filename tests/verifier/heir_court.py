"""A judge over claims whose first units were made by the providers of earlier leases."""

from __future__ import annotations

from msgspec import UNSET

from protocol.identity import Identity
from protocol.jobspec import JobSpec
from protocol.messages import PrefixOpened, PrefixRequest
from protocol.operations import Inherited
from protocol.prefix import root_of
from protocol.proof import Trace
from protocol.provider_trace import committed
from protocol.trace import decode_trace
from simulations.units import EXACT, Conduct
from tests.protocol.words import chain
from tests.verifier.court import CHAIN, ESCROW, ME, PROVIDER
from tests.verifier.unit_court import AUDITORS, UnitCourt
from verifier.case import Auditing, Opening, Revealing

OLDER, OLD = Identity(bytes([21]) * 32), Identity(bytes([22]) * 32)
SIGNERS = (OLDER, OLD)
EPOCHS = (7, 8)
"""Of their leases."""


class HeirCourt(UnitCourt):
    """`signed`: how many units were done when each of the signers signed, oldest first.

    One execution makes all units; `conduct` says which of them are bad, and `signed` whose they are."""

    def __init__(
        self,
        signed: tuple[int, ...],
        spec: JobSpec | None = None,
        conduct: Conduct = EXACT,
        auditors: tuple[Identity, ...] = AUDITORS,
        key: Identity = ME,
    ) -> None:
        super().__init__(spec, conduct, auditors, key=key)
        self.prefixes = words(self.trace, signed)
        read = self.provided.read
        self.provided.trace = committed(self.made.trace, self.job.units, PROVIDER.peer, read, self.prefixes)

    @property
    def trace(self) -> Trace:
        return decode_trace(self.made.blobs[self.made.trace], PROVIDER.peer)

    def order(self) -> None:
        signers = SIGNERS[: len(self.prefixes)]
        root = self.provided.trace.root
        self.claim(
            output=self.made.output, trace=root, units=self.job.units, prefixes=self.prefixes, signers=signers
        )  # fmt: skip

    def heard(self, beacon: int = 0) -> HeirCourt:
        """To the end of the executions of the work, all of them exact."""
        self.begin(beacon).unfold()
        while isinstance(self.case.state, Auditing | Revealing | Opening):
            asked = self.requests()
            for auditor, request in asked:
                self.seal(auditor, request)
            if isinstance(self.case.state, Revealing):
                self.show()
            elif isinstance(self.case.state, Opening):
                self.uncover(self.by_peer[self.case.state.auditor])
        return self

    def wanted(self) -> PrefixRequest:
        """What the judge asks the provider about earlier leases."""
        ((peer, request),) = self.sent(PrefixRequest)
        assert peer == PROVIDER.peer
        assert isinstance(request, PrefixRequest)
        return request

    def shown(self) -> PrefixOpened:
        """What the provider's own code answers."""
        return self.provided.trace.prefix(self.key.peer, self.wanted(), self.provided.read)

    @property
    def blamed(self) -> int:
        """Epoch of the lease that the verdict blames; 0: the claim's own provider."""
        verdict = self.verdict()
        return 0 if verdict.blamed is UNSET else verdict.blamed


def words(trace: Trace, signed: tuple[int, ...]) -> tuple[Inherited, ...]:
    """What the signers said about the first units of this trace, each knowing those before it."""
    entries = zip(SIGNERS, EPOCHS, signed, strict=False)
    return chain(CHAIN, ESCROW, 0, [(signer, epoch, units, root_of(trace, units)) for signer, epoch, units in entries])
