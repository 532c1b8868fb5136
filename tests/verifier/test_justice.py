"""All machines of four validators, wired: a claim waits for its beacon, gets its verdict, and is appealed."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Final, cast

import pytest

from protocol import wire
from protocol.completions import Completion, Fetched, RunDone
from protocol.court_messages import PointsOpened, PointsRequest
from protocol.effects import Compute, Effect, Fetch, Machine, Publish, Run, Send
from protocol.errors import Refused, Unavailable
from protocol.held import Held, held_id
from protocol.identity import Identity
from protocol.jobspec import Chunk, JobSpec
from protocol.ledger import Ledger
from protocol.messages import Capability, Message, Offer, Reveal, RevealRequest, Runtime
from protocol.offers import Terms
from protocol.operations import Appeal, Claim, EscrowOpen, seal, signed_op
from protocol.policy import Policy
from protocol.trace import TraceTree
from protocol.units import CREDIT, GIB, MINUTE, Credits, Digest, Micros, PeerId
from tests.protocol.ledger_world import CHAIN, DEADLINE, FUNDS, PROVIDERS, RENTER, STAKE, START, STEWARD, assign
from tests.verifier.appeals import BAD, GOOD, TRUTH
from tests.verifier.quorum import KEYS, Make, Quorum, quorum_genesis
from verifier.attestation.makers import BUILT_IN
from verifier.justice import advocate
from verifier.orderer import Orderer
from verifier.wiring import Machines, Outside, wire_machines

PROVIDER: Final = PROVIDERS[0]
SALT: Final = bytes(32)
GENESIS: Final = quorum_genesis(
    Policy(has_beacon=True, dispute_window=Micros(10 * MINUTE)),
    (("U", RENTER.peer, FUNDS), *(("S", item.peer, STAKE) for item in (PROVIDER, *KEYS))),
)
JOB: Final = JobSpec("job", "python", ("true",), (Chunk(),), numeric="D0")
TERMS: Final = Terms(
    roles=("provider", "validator"),
    capability=Capability(8_000, 16 * GIB, 64 * GIB, 1, 1),
    executors=("bwrap",),
    runtimes=(Runtime("python", wire.digest(b"python")),),
    slots=1,
    slots_free=1,
    price_per_hour=Credits(CREDIT),
)


_offer: Final = wire.decoder(Offer)


class Opener:
    """A provider that opens its claim when asked, and speaks for it."""

    accepts: tuple[type, ...] = (RevealRequest,)

    def __init__(self, output: Digest) -> None:
        self.output = output

    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        assert isinstance(message, RevealRequest)
        return [Send(sender, Reveal(message.escrow, message.chunk, message.epoch, self.output, 10, SALT))]

    def tick(self, now: Micros) -> list[Effect]:
        return []


class Town(Quorum):
    """Four validators with every machine that they have; what they execute gives `computed`."""

    fresh = b"fresh"
    """Mixed into every part of a beacon: another value is another draw."""
    makers = BUILT_IN
    """Whose trusted hardware they believe."""
    claim_within = 200_000_000
    verdict_within = 500_000_000
    """µs from the start that a lease leaves its provider, and its judges."""

    def __init__(self, claimed: Digest, computed: Digest) -> None:
        self.blobs = {wire.digest(wire.encode(JOB)): wire.encode(JOB)}
        self.computed = computed
        self.wired: dict[PeerId, Machines] = {}
        nothing: Make = lambda key, orderer: []  # noqa: E731
        super().__init__(GENESIS, nothing, {PROVIDER.peer: Opener(claimed)})
        self.work = self._compute

    def start(self, key: Identity) -> None:
        outside = Outside(
            read=self.blobs.__getitem__,
            executor=lambda spec, renter: "bwrap",
            capability=TERMS.capability,
            audits_at_once=1,
            now=lambda: self.now,
            dice=lambda: Random(1),
            fresh=lambda: self.fresh,
            makers=self.makers,
        )
        machines = self.wired[key.peer] = wire_machines(key, GENESIS, outside)
        assert isinstance(machines.replica, Orderer)
        self.orderers[key.peer] = machines.replica
        self.beside[key.peer] = [machine for machine in machines.listed if machine is not machines.replica]
        self.put(key.peer, machines.maker.change(TERMS, self.now))

    def put(self, sender: PeerId, effects: list[Effect]) -> None:
        """Offers reach everybody at once."""
        for effect in effects:
            if isinstance(effect, Publish) and effect.topic == "offers":
                offer = wire.open_signed(effect.statement, CHAIN, "offer", _offer, sender)
                for key in KEYS:
                    self.line.append((self.now, 0, sender, key.peer, offer))
        super().put(sender, effects)

    def _compute(self, peer: PeerId, effect: Compute) -> None:
        match effect.work:
            case Fetch(digest=digest):
                self.give(peer, Fetched(digest, len(self.blobs.get(digest, b"output"))))
            case Run(task=task):
                self.give(peer, RunDone(task, "ok", 0, self.computed, 1, 1.0, ""))
            case _:
                raise AssertionError(effect)

    def claim(self, output: Digest) -> tuple[bytes, int, int]:
        spec = next(iter(self.blobs))
        opened = signed_op(
            CHAIN, EscrowOpen(RENTER.peer, 0, 0, bytes(16), 100 * CREDIT, spec, STEWARD.peer, DEADLINE), RENTER
        )
        place = (opened.op_id, 0, 1)
        lease = assign(opened.op_id, claim_by=START + self.claim_within, verdict_by=START + self.verdict_within)
        leased = signed_op(CHAIN, lease, STEWARD, PROVIDER)
        claimed = signed_op(CHAIN, Claim(*place, sealed=seal(PROVIDER.peer, SALT, output)), PROVIDER)
        self.submit(opened, leased, claimed)
        return place

    def held(self, place: tuple[bytes, int, int]) -> Held:
        return self.orderers[KEYS[0].peer].ledger.held[held_id(*place)]


@pytest.mark.parametrize(
    ("claimed", "finding", "code"), [(GOOD, "accept", "hash_equal"), (BAD, "wrong", "hash_differs")]
)
def test_a_claim_waits_for_its_beacon_and_gets_its_verdict(claimed: Digest, finding: str, code: str) -> None:
    town = Town(claimed, GOOD)
    place = town.claim(claimed)
    town.run(40)
    held = town.held(place)
    assert (held.finding, held.code, held.is_audited, held.output) == (finding, code, True, claimed)
    beacons = [orderer.ledger.beacons[1] for orderer in town.orderers.values()]
    assert {beacon.state for beacon in beacons} == {"done"}
    assert len({beacon.value for beacon in beacons}) == 1
    assert len({orderer.ledger.root for orderer in town.orderers.values()}) == 1


def test_an_appeal_is_ruled_upon_by_the_wired_courts() -> None:
    town = Town(GOOD, BAD)
    place = town.claim(GOOD)
    town.run(40)
    assert town.held(place).finding == "wrong", "the judges' machines all computed something else"
    town.computed = GOOD
    appeal = Appeal(*place, appellant=PROVIDER.peer, bond=20 * CREDIT, rival=bytes(32), round=1)
    town.submit(signed_op(CHAIN, appeal, PROVIDER))
    town.run(40)
    held = town.held(place)
    assert (held.finding, held.code, held.round) == ("accept", "hash_equal", 1)


def test_traces_are_shown_to_validators_while_an_appeal_is_open() -> None:
    tree = TraceTree(TRUTH)
    blob = wire.encode(TRUTH)
    holding = SimpleNamespace(trace=tree.root, rival=bytes(32))
    ledger = SimpleNamespace(appealed=[])
    speaker = advocate(
        PROVIDER.peer,
        (KEYS[0].peer,),
        lambda: cast("Ledger", ledger),
        {tree.root: wire.digest(blob)},
        {wire.digest(blob): blob}.__getitem__,
    )
    ask = PointsRequest(b"g" * 32, tree.root, (3,))
    for sender, code in ((RENTER.peer, "not_a_validator"), (KEYS[0].peer, "not_at_issue")):
        with pytest.raises(Refused) as caught:
            speaker.receive(sender, ask, Micros(0))
        assert caught.value.code == code
    ledger.appealed.append(holding)
    [sent] = speaker.receive(KEYS[0].peer, ask, Micros(0))
    assert isinstance(sent, Send)
    assert isinstance(sent.message, PointsOpened)
    assert speaker.held, "the tree is kept for the next question"
    ledger.appealed.clear()
    with pytest.raises(Refused):
        speaker.receive(KEYS[0].peer, ask, Micros(0))
    assert not speaker.held


def test_who_is_no_validator_holds_no_court() -> None:
    town = Town(GOOD, GOOD)
    justice = town.wired[KEYS[0].peer].justice
    assert len(justice.listed) == 4
    assert [machine for machine, _ in justice.restored([])] == [justice.witness, justice.court, justice.beacon]
    machine: Machine
    for machine, begin in justice.restored([]):
        assert begin(town.now) == [], machine


def test_a_trace_that_is_gone_cannot_be_spoken_for() -> None:
    ledger = SimpleNamespace(appealed=[SimpleNamespace(trace=b"t" * 32, rival=bytes(32))])

    def gone(digest: Digest) -> bytes:
        raise Unavailable("not here", code="no_blob")

    speaker = advocate(PROVIDER.peer, (KEYS[0].peer,), lambda: cast("Ledger", ledger), {b"t" * 32: GOOD}, gone)
    with pytest.raises(Refused) as caught:
        speaker.receive(KEYS[0].peer, PointsRequest(b"g" * 32, b"t" * 32, (3,)), Micros(0))
    assert caught.value.code == "no_trace"
