"""A decided claim, four validators with courts, and auditors who execute honestly or as they are told."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from msgspec import UNSET, UnsetType

from protocol import wire
from protocol.completions import Fetched, FetchFailed, RunDone, Scored
from protocol.effects import Compute, Emit, Fetch, Machine, Run, Score
from protocol.errors import ShoalError
from protocol.held import Held, held_id
from protocol.identity import Identity
from protocol.jobspec import ZERO_DIGEST, Chunk, JobSpec
from protocol.operations import (
    Appeal,
    Claim,
    EscrowOpen,
    Inherited,
    SignedOp,
    Surrender,
    Verdict,
    seal,
    signed_op,
)
from protocol.policy import Policy
from protocol.prefix import root_of, sign_prefix
from protocol.proof import Leaf, Proof, Results, Tolerance, Trace, UnitResult
from protocol.trace import TraceTree
from protocol.units import CREDIT, MINUTE, PPM, Digest, Micros, PeerId
from tests.protocol.ledger_world import CHAIN, DEADLINE, FUNDS, PROVIDERS, RENTER, STAKE, STEWARD, assign
from tests.verifier.quorum import KEYS, Quorum, quorum_genesis
from verifier.advocate import Advocate
from verifier.auditor import Auditor
from verifier.bailiff import Bailiff
from verifier.court import Court
from verifier.orderer import Orderer
from verifier.summons import Fitness

GOOD, BAD, ODD = (Digest(bytes([letter]) * 32) for letter in b"gbo")
AUDITORS: Final = tuple(Identity(bytes([70 + n]) * 32) for n in range(14))
PROVIDER: Final = PROVIDERS[0]
FORMER: Final = PROVIDERS[1]
"""Had the chunk before, where a claim goes on from a snapshot."""
CHALLENGER: Final = Identity(b"c" * 32)
UNITS: Final = 40
SALT: Final = bytes(32)

GENESIS: Final = quorum_genesis(
    Policy(dispute_window=Micros(10 * MINUTE), rule_time=Micros(30 * MINUTE)),
    (
        *(("U", item.peer, FUNDS) for item in (RENTER, PROVIDER, FORMER, CHALLENGER)),
        *(("S", item.peer, STAKE) for item in (*PROVIDERS, *AUDITORS)),
        ("S", CHALLENGER.peer, 10 * STAKE),
    ),
)


def execution(change: int | None = None, aux_only: bool = False) -> Trace:
    """What a job of UNITS units does; from unit `change` on it is done wrong."""
    leaves, state = [], hashlib.sha256(b"first").digest()
    for index in range(UNITS + 1):
        if index == change and not aux_only:
            state = hashlib.sha256(b"wrong" + state).digest()
        is_last = index == UNITS
        given = ZERO_DIGEST if is_last else hashlib.sha256(b"input %d" % index).digest()
        aux = ZERO_DIGEST if is_last else hashlib.sha256(b"aux" + state).digest()
        if aux_only and index == change:
            aux = bytes(31) + b"x"
        leaves.append(Leaf(index, state, 100, given, aux, 0 if is_last else 10))
        state = hashlib.sha256(b"step" + state).digest()
    return Trace(tuple(leaves), bytes(2 * UNITS))


TRUTH: Final = execution()


class Appeals:
    """`claimed`: what the provider's claim is; `lying`: auditors who answer `lie` instead of what they got."""

    def __init__(
        self,
        claimed: Digest = GOOD,
        numeric: str = "D0",
        trace: Trace | None = None,
        lying: frozenset[PeerId] = frozenset(),
        lie: Digest = BAD,
        silent: frozenset[PeerId] = frozenset(),
        networks: Callable[[PeerId], frozenset[str]] = lambda peer: frozenset(),
        seats: int = len(AUDITORS),
        job: JobSpec | None = None,
    ) -> None:
        self.claimed, self.trace, self.lying, self.lie = claimed, trace, lying, lie
        proof: Proof | UnsetType = UNSET
        if trace is not None and numeric == "D3":
            proof = Proof("training", UNITS, tolerance=Tolerance(1000, 10_000))
        elif trace is not None:
            proof = Proof("deterministic", UNITS)
        self.job = job or JobSpec("job", "wasm", ("true",), (Chunk(),), numeric=numeric, proof=proof)  # type: ignore[arg-type]
        self.blobs: dict[bytes, bytes] = {}
        self.spec = self.keep(wire.encode(self.job))
        self.candidates = {item.peer: STAKE for item in AUDITORS[:seats]}
        self.networks = networks
        self.finished = GOOD
        """What an honest machine makes of the claim's last state; zeros: that fails for the reason `unfinished`."""
        self.unfinished = "exit"
        self.books: dict[PeerId, dict[PeerId, Fitness]] = {}
        """By judge: what it has heard of whom; everybody else is known to be fit."""
        self.missing: set[bytes] = set()
        validators = tuple(key.peer for key in KEYS)
        outside: dict[PeerId, Machine] = {
            item.peer: Auditor(item, CHAIN, lambda: validators, self.read)
            for item in AUDITORS
            if item.peer not in silent
        }
        self.advocates = {item.peer: Advocate(lambda: validators) for item in (PROVIDER, CHALLENGER)}
        self.runs: list[tuple[PeerId, Run]] = []
        self.quorum = Quorum(GENESIS, self._machines, outside | self.advocates)
        self.quorum.work = self._work
        self.place: tuple[bytes, int, int] = (b"", 0, 1)

    def keep(self, data: bytes) -> Digest:
        self.blobs[wire.digest(data)] = data
        return wire.digest(data)

    def read(self, digest: Digest) -> bytes:
        return self.blobs[digest]

    def _machines(self, key: Identity, orderer: Orderer) -> list[Machine]:
        validators = tuple(item.peer for item in KEYS)
        bailiff = Bailiff(
            key,
            CHAIN,
            lambda: orderer.ledger,
            lambda: validators,
            lambda: self.candidates,
            lambda facts, provider, peer: self.books.get(key.peer, {}).get(peer, "fit"),
            self.read,
            self.networks,
        )
        return [Court(bailiff), Auditor(key, CHAIN, lambda: validators, self.read)]

    def _work(self, peer: PeerId, effect: Compute) -> None:
        match effect.work:
            case Fetch(digest=digest):
                try:
                    size = len(self.read(digest)) if digest not in self.missing else 0
                except (KeyError, ShoalError):
                    size = 0
                self.quorum.give(peer, Fetched(digest, size) if size else FetchFailed(digest, "gone"))
            case Score(task=task, items=items) as score:
                wrong = sum(item.claimed != TRUTH.leaves[item.index + 1].state for item in items)
                is_lie = score.auditor in self.lying
                value = PPM if (wrong == 0) != is_lie else 0
                self.quorum.give(peer, Scored(task, value, "e_g", ZERO_DIGEST))
            case Run() as run:
                self.runs.append((peer, run))
                self.quorum.give(peer, self._run(peer, run))
            case _:
                raise AssertionError(effect)

    def _run(self, peer: PeerId, run: Run) -> RunDone:
        if run.last is not None:
            assert self.trace is not None and run.last.state == self.trace.leaves[UNITS].state
            made = self.claimed if peer in self.lying else self.finished
            return RunDone(run.task, "ok" if any(made) else self.unfinished, 0, made, 1, 1.0, "")
        if run.units:
            results = []
            for leaf in run.units:
                behind, own = TRUTH.leaves[leaf.index + 1], TRUTH.leaves[leaf.index]
                state = behind.state if self.job.numeric != "D3" else hashlib.sha256(peer + behind.state).digest()
                results.append(UnitResult(leaf.index, own.input, state, behind.state_bytes, own.aux, own.aux_bytes))
            return RunDone(run.task, "ok", 0, self.keep(wire.encode(Results(tuple(results), ZERO_DIGEST))), 1, 1.0, "")
        return RunDone(run.task, "ok", 0, self.lie if peer in self.lying else GOOD, 1, 1.0, "")

    # ── what happens ─────────────────────────────────────────────────────────────────────────────────────────────────
    def decided(self, outcome: str, inherited: int = 0, is_blamed: bool = False) -> None:
        """The judges' first word about the claim. `inherited`: so many units are those of FORMER's lease."""
        opened = signed_op(
            CHAIN, EscrowOpen(RENTER.peer, 0, 0, bytes(16), 100 * CREDIT, self.spec, STEWARD.peer, DEADLINE), RENTER
        )
        self.place = (opened.op_id, 0, 2 if inherited else 1)
        before: list[SignedOp] = [opened]
        if inherited:
            given_up = Surrender(opened.op_id, 0, 1, "stopped")
            leased = signed_op(CHAIN, assign(opened.op_id, provider=FORMER), STEWARD, FORMER)
            before += [leased, signed_op(CHAIN, given_up, FORMER)]
        before.append(signed_op(CHAIN, assign(opened.op_id, epoch=self.place[2]), STEWARD, PROVIDER))
        root = TraceTree(self.trace).root if self.trace is not None else UNSET
        claim = Claim(
            *self.place,
            sealed=seal(PROVIDER.peer, SALT, self.claimed),
            trace=root,
            units=self.job.units or UNSET,
            inherited=self._words(inherited) if inherited else UNSET,
        )
        verdict = Verdict(
            *self.place,
            outcome=outcome,  # type: ignore[arg-type]
            is_audited=True,
            auditor=KEYS[0].peer,
            output=self.claimed,
            evidence=self.claimed,
            code="hash_equal",
            blamed=1 if is_blamed else UNSET,
        )
        if self.trace is not None:
            self.advocates[PROVIDER.peer].find = lambda wanted: self.trace if wanted == root else None
        self.quorum.submit(*before, signed_op(CHAIN, claim, PROVIDER), signed_op(CHAIN, verdict, *KEYS))
        self.quorum.run(1)
        assert self.held.finding == outcome

    def _words(self, units: int) -> tuple[Inherited, ...]:
        """What FORMER signed for the first units of the claim."""
        assert self.trace is not None
        escrow, chunk, _ = self.place
        return (sign_prefix(FORMER, CHAIN, escrow, chunk, 1, units, root_of(self.trace, units)),)

    def appeal(
        self, who: Identity, rival: Trace | None = None, bond: int = 50 * CREDIT, speaker: PeerId | UnsetType = UNSET
    ) -> None:
        root, before = TraceTree(rival).root if rival is not None else bytes(32), self.held.round
        if rival is not None and who is CHALLENGER:
            self.advocates[who.peer].find = lambda wanted: rival if wanted == root else None
        self.quorum.submit(
            signed_op(CHAIN, Appeal(*self.place, who.peer, bond, rival=root, round=before + 1, speaker=speaker), who)
        )
        self.quorum.run(0.5)
        assert self.held.appeal or self.held.round > before, "the appeal is open, or ruled upon already"

    def run(self, seconds: float = 20) -> Held:
        self.quorum.run(seconds)
        return self.held

    @property
    def held(self) -> Held:
        return self.quorum.orderers[KEYS[0].peer].ledger.held[held_id(*self.place)]

    @property
    def rulings(self) -> list[tuple[str, str]]:
        """(finding, code) as the courts said, each once."""
        said: list[Emit] = [emit for _, emit in self.quorum.said if emit.name == "ruling"]
        return list(dict.fromkeys((str(item.fields["finding"]), str(item.fields["code"])) for item in said))
