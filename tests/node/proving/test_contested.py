"""A renter against a cheat who has bought both panels: an own run's trace convicts it. Every unit really runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from protocol import wire
from protocol.completions import Completion
from protocol.effects import Compute, Effect, Forget, Machine, Run
from protocol.identity import Identity
from protocol.jobspec import ZERO_DIGEST, JobSpec
from protocol.messages import Message
from protocol.proof import Leaf, Results, Trace
from protocol.trace import TraceTree
from protocol.units import Digest, Micros, PeerId
from tests.node.proving.bench import OWNER, Bench
from tests.node.proving.programs import WALK
from tests.protocol.ledger_world import RENTER
from tests.verifier.appeals import AUDITORS, BAD, PROVIDER, Appeals
from tests.verifier.quorum import KEYS
from verifier.justice import advocate
from verifier.tensors import decode, encode
from verifier.witness import Witness

GATEWAY: Final = Identity(b"w" * 32)
"""The node that the renter submits through."""

UNITS: Final = 6
CHEATED: Final = 3
"""The unit that the cheat does not compute."""


class Node:
    """Several machines behind one door."""

    def __init__(self, machines: Sequence[Machine]) -> None:
        self.machines = machines
        self.accepts = tuple(kind for machine in machines for kind in machine.accepts)

    def receive(self, sender: PeerId, message: Message | Completion, now: Micros) -> list[Effect]:
        taking = [machine for machine in self.machines if isinstance(message, machine.accepts)]
        return [effect for machine in taking for effect in machine.receive(sender, message, now)]

    def tick(self, now: Micros) -> list[Effect]:
        return [effect for machine in self.machines for effect in machine.tick(now)]


class Contested(Appeals):
    """Appeals about a job that really runs; panels say what they are paid for, judges and the gateway compute."""

    def __init__(self, bench: Bench, spec: JobSpec, claimed: Trace) -> None:
        self.bench = bench
        self.waiting: list[tuple[PeerId, Run]] = []
        self.forgotten: list[Digest] = []
        bought = frozenset(item.peer for item in AUDITORS)
        super().__init__(BAD, trace=claimed, lying=bought, lie=BAD, job=spec)
        judges = tuple(key.peer for key in KEYS)
        ledger = lambda: self.quorum.orderers[KEYS[0].peer].ledger  # noqa: E731
        self.witness = Witness(GATEWAY.peer, ledger, self.read)
        speaker = advocate(GATEWAY.peer, judges, ledger, self.witness.by_root, self.read)
        self.quorum.disks[GATEWAY.peer] = {}
        self.quorum.outside[GATEWAY.peer] = Node((self.witness, speaker))

    def keep(self, data: bytes) -> Digest:
        return self.bench.blobs.put(data)

    def read(self, digest: Digest) -> bytes:
        return self.bench.content(digest)

    def _work(self, peer: PeerId, effect: Compute) -> None:
        if isinstance(effect.work, Run) and peer not in self.lying:
            self.waiting.append((peer, effect.work))
        elif isinstance(effect.work, Forget):
            self.forgotten.append(effect.work.digest)
        else:
            super()._work(peer, effect)

    async def go_on(self, seconds: float) -> None:
        """Let time pass, and whatever is ordered run."""
        for _ in range(int(seconds)):
            self.run(1)
            while self.waiting:
                peer, run = self.waiting.pop()
                self.runs.append((peer, run))
                self.quorum.give(peer, await self.bench.run(served(run)))


def served(run: Run) -> Run:
    """The same run for a renter whom the bench serves."""
    return Run(run.task, run.spec, run.chunk, run.outputs, (), OWNER, units=run.units, seed=run.seed)


async def cheat(bench: Bench, spec: JobSpec, honest: Trace) -> Trace:
    """A history that goes on from a state nobody computed: unit CHEATED is left out, the rest is worked on that."""
    before = decode(bench.content(honest.leaves[CHEATED].state))
    invented = {**before, "step": np.asarray(before["step"].astype(np.int64) + 1)}
    data = encode(invented)
    state, size = bench.blobs.put(data), len(data)
    shown = [Leaf(CHEATED + 1, state, size, ZERO_DIGEST, ZERO_DIGEST, 0)]
    shown += [Leaf(n, ZERO_DIGEST, 0, ZERO_DIGEST, ZERO_DIGEST, 0) for n in range(CHEATED + 2, UNITS)]
    done = await bench.replay(spec, tuple(shown))
    units = wire.decode(bench.content(done.output), wire.decoder(Results), OWNER).units
    leaves = list(honest.leaves[: CHEATED + 1])
    for unit in units:
        leaves.append(Leaf(unit.index, state, size, unit.input, unit.aux, unit.aux_bytes))
        state, size = Digest(unit.state), unit.state_bytes
    leaves.append(Leaf(UNITS, state, size, ZERO_DIGEST, ZERO_DIGEST, 0))
    return Trace(tuple(leaves), honest.effects)


async def test_a_cheat_with_bought_panels_is_convicted_by_a_renter_s_own_run(bench: Bench) -> None:
    spec = bench.spec(WALK, UNITS)
    honest = bench.trace(await bench.execute(spec))
    bad = await cheat(bench, spec, honest)
    assert bad.leaves[: CHEATED + 1] == honest.leaves[: CHEATED + 1] and bad.leaves[-1] != honest.leaves[-1]
    appeals = Contested(bench, spec, bad)
    appeals.decided("accept")
    for number in (1, 2):
        appeals.appeal(RENTER)
        appeals.run()
        assert (appeals.held.finding, appeals.held.round) == ("accept", number), "the panels were bought"
    appeals.quorum.put(GATEWAY.peer, appeals.witness.replay(appeals.place, appeals.quorum.now))
    await appeals.go_on(5)
    own = appeals.witness.find(appeals.place)
    assert own is not None and own.phase == "done"
    assert own.root == TraceTree(honest).root and not own.agrees(appeals.held)
    ledger = appeals.quorum.orderers[KEYS[0].peer].ledger
    before = ledger.available("U", RENTER.peer)
    appeals.appeal(RENTER, honest, speaker=GATEWAY.peer)
    await appeals.go_on(30)
    held = appeals.held
    assert (held.round, held.finding, held.code) == (3, "fraud", "wrong_step")
    assert held.end == "slashed" and ledger.stakes[PROVIDER.peer] == 0
    assert ledger.available("U", RENTER.peer) > before, "the bond came back, and a share of the slash with it"
    judges = {key.peer for key in KEYS}
    replayed = [(run.units[0].index, run.units[0].state) for peer, run in appeals.runs if peer in judges]
    assert replayed == [(CHEATED, honest.leaves[CHEATED].state)] * len(KEYS), "each judge replays the one unit at issue"
    await appeals.go_on(2)
    assert appeals.witness.find(appeals.place) is None and own.trace in appeals.forgotten, "it is final"


async def test_a_right_claim_is_agreed_with_before_anything_is_staked(bench: Bench) -> None:
    spec = bench.spec(WALK, UNITS)
    done = await bench.execute(spec)
    appeals = Contested(bench, spec, bench.trace(done))
    appeals.claimed = done.output
    appeals.decided("accept")
    appeals.quorum.put(GATEWAY.peer, appeals.witness.replay(appeals.place, appeals.quorum.now))
    await appeals.go_on(5)
    own = appeals.witness.find(appeals.place)
    assert own is not None and own.agrees(appeals.held)


async def test_what_a_witness_computed_outlives_a_restart(bench: Bench) -> None:
    spec = bench.spec(WALK, UNITS)
    appeals = Contested(bench, spec, bench.trace(await bench.execute(spec)))
    appeals.decided("accept")
    appeals.quorum.put(GATEWAY.peer, appeals.witness.replay(appeals.place, appeals.quorum.now))
    await appeals.go_on(5)
    ledger = appeals.quorum.orderers[KEYS[0].peer].ledger
    again = Witness(GATEWAY.peer, lambda: ledger, appeals.read)
    assert again.restore(appeals.quorum.disks[GATEWAY.peer].items(), appeals.quorum.now) == []
    assert again.by_root == appeals.witness.by_root and again.by_root
