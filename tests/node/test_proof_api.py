"""node.proof_api and node.proof_views on a real ledger: why a claim was judged so, who may contest it, what is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from node.control_methods import JobAppealParams, JobEvidenceParams, JobReplayParams
from node.parts import Parts
from node.proof_api import ProofApi
from node.proof_views import earning_view, plan_trust, proof_view, quoted_trust
from node.quality_views import quality_view
from node.store import RecordStore
from node.views import Plain, job_text
from protocol import wire
from protocol.completions import Fetched, RunDone
from protocol.effects import Compute, Effect, Run
from protocol.errors import Refused, Unavailable
from protocol.granting import chunk_cost
from protocol.identity import Identity, peer_text
from protocol.job_record import ChunkRecord
from protocol.jobspec import Chunk, JobSpec
from protocol.matching import Plan
from protocol.messages import Header, Outcome, Receipt, Receipts
from protocol.operations import Operation, SignedOp, signed_op
from protocol.proof import Proof
from protocol.units import CREDIT, SECOND, Credits, Digest, Micros, PeerId
from tests.protocol.ledger_world import (
    CHAIN,
    OTHER,
    PRICE,
    PROVIDERS,
    RENTER,
    STEWARD,
    VALIDATOR,
    OutcomeName,
    World,
    ruling,
    verdict,
    with_policy,
)
from verifier.witness import Witness

ZERO = bytes(32)
NOW = Micros(0)
JOB = job_text(bytes(16))
SPEC = JobSpec("x", "python", ("a",), tuple(Chunk() for _ in range(12)), trust="high")


BLOBS: dict[bytes, bytes] = {}
"""What every node of these tests can read."""


class Line:
    """A ledger line: what is submitted is ordered at once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.outcomes: dict[Digest, Outcome] = {}

    def submit(self, operation: SignedOp, now: Micros) -> list[Effect]:
        self.outcomes[operation.op_id] = self._world.ledger.apply(operation, self._world.time)
        return []

    async def applied(self, op: Digest, timeout_s: float) -> None:
        if self.outcomes[op].status != "applied":
            raise Refused(self.outcomes[op].detail, code=self.outcomes[op].code)


def api(world: World, identity: Identity, tmp_path: Path, *renters: Identity) -> ProofApi:
    """The API of a node with this identity, which keeps the keys of these renters."""
    line = Line(world)

    def command(machine: object, act: Callable[[Micros], list[Effect]]) -> None:
        act(Micros(world.time))

    parts = SimpleNamespace(
        identity=identity, now=lambda: Micros(world.time),
        config=SimpleNamespace(network=CHAIN), ledger=lambda: world.ledger, client=line,
        outcomes=line, driver=SimpleNamespace(command=command),
        records=RecordStore(tmp_path / f"{identity.peer.hex()}.db"),
        steward=SimpleNamespace(renters={one.peer: one for one in renters}),
        witness=Witness(identity.peer, lambda: world.ledger, BLOBS.__getitem__),
    )  # fmt: skip
    return ProofApi(cast("Parts", parts))


@pytest.fixture
def world() -> World:
    return World(with_policy())


def judged(world: World, outcome: OutcomeName) -> bytes:
    escrow = world.claimed()
    world.ok(verdict(escrow, outcome), VALIDATOR)
    return escrow


async def test_the_renter_contests_what_was_accepted(world: World, tmp_path: Path) -> None:
    escrow = judged(world, "accept")
    renter = api(world, STEWARD, tmp_path, RENTER)
    claim = await renter.appeal(JobAppealParams(JOB, 0))
    assert claim["appellant"] == peer_text(RENTER.peer) and claim["bond"] == PRICE * 3 * 3 // 2
    assert claim["rule_by"] == world.held(escrow).rule_by > 0
    assert world.held(escrow).appeal


async def test_the_provider_contests_a_fault_at_its_own_node(world: World, tmp_path: Path) -> None:
    escrow = judged(world, "rejected")
    await api(world, PROVIDERS[0], tmp_path).appeal(JobAppealParams(JOB, 0))
    assert world.held(escrow).appellant == PROVIDERS[0].peer
    world.ok(ruling(escrow, "accept", is_upheld=False), VALIDATOR)
    found = await api(world, PROVIDERS[0], tmp_path).evidence(JobEvidenceParams(JOB))
    claims = cast("list[Plain]", found["claims"])
    assert [(one["finding"], one["round"]) for one in claims] == [("accept", 1)]


async def test_appealing_twice_is_appealing_once(world: World, tmp_path: Path) -> None:
    judged(world, "accept")
    renter = api(world, STEWARD, tmp_path, RENTER)
    first = await renter.appeal(JobAppealParams(JOB, 0))
    assert await renter.appeal(JobAppealParams(JOB, 0)) == first


@pytest.mark.parametrize(
    ("outcome", "identity", "params", "code"),
    [
        ("accept", OTHER, JobAppealParams(JOB, 0), "not_a_party"),
        ("rejected", STEWARD, JobAppealParams(JOB, 0), "not_a_party"),
        ("accept", STEWARD, JobAppealParams(JOB, 1), "not_held"),
        ("accept", STEWARD, JobAppealParams(JOB, 0, epoch=2), "not_held"),
        ("accept", STEWARD, JobAppealParams(JOB, 0, bond=1), "bond_too_small"),
        ("accept", STEWARD, JobAppealParams(JOB, 0, bond=10**9 * CREDIT), "insufficient_user"),
        ("accept", STEWARD, JobAppealParams(job_text(b"x" * 16), 0), "unknown_job"),
    ],
)
async def test_refusals(
    outcome: OutcomeName, identity: Identity, params: JobAppealParams, code: str, world: World, tmp_path: Path
) -> None:
    judged(world, outcome)
    renters = (RENTER,) if identity is STEWARD else ()
    with pytest.raises(Refused) as caught:
        await api(world, identity, tmp_path, *renters).appeal(params)
    assert caught.value.code == code


async def test_what_is_final_cannot_be_contested(world: World, tmp_path: Path) -> None:
    judged(world, "accept")
    world.mature()
    with pytest.raises(Refused) as caught:
        await api(world, STEWARD, tmp_path, RENTER).appeal(JobAppealParams(JOB, 0))
    assert caught.value.code == "not_held" and caught.value.fix


async def test_a_network_without_a_window_says_so(tmp_path: Path) -> None:
    world = World()
    judged(world, "accept")
    with pytest.raises(Refused) as caught:
        await api(world, STEWARD, tmp_path, RENTER).appeal(JobAppealParams(JOB, 0))
    assert caught.value.code == "no_window"


def executed(node: ProofApi, escrow: bytes, world: World, output: Digest) -> None:
    """The node's own run of the chunk ends, with this output."""
    BLOBS[world.ledger.escrows[escrow].spec] = wire.encode(JobSpec("x", "python", ("a",), (Chunk(),)))
    witness = node._parts.witness
    [started] = witness.receive(node._parts.identity.peer, Fetched(Digest(world.ledger.escrows[escrow].spec), 9), NOW)
    assert isinstance(started, Compute) and isinstance(started.work, Run)
    reason = "ok" if any(output) else "timeout"
    witness.receive(node._parts.identity.peer, RunDone(started.work.task, reason, 0, output, 1, 1.0, ""), NOW)


async def test_a_renter_has_the_chunk_executed_before_it_stakes_anything(world: World, tmp_path: Path) -> None:
    escrow = judged(world, "accept")
    renter = api(world, STEWARD, tmp_path, RENTER)
    wanted = JobAppealParams(JOB, 0, replay=True)
    assert (await renter.appeal(wanted))["replay"] == "running"
    assert not world.held(escrow).appeal, "nothing is staked while it runs"
    executed(renter, escrow, world, Digest(ZERO))
    with pytest.raises(Unavailable) as failed:
        await renter.appeal(wanted)
    assert failed.value.code == "not_replayed" and "timeout" in failed.value.detail
    executed(renter, escrow, world, Digest(world.held(escrow).output))
    with pytest.raises(Refused) as caught:
        await renter.appeal(wanted)
    assert caught.value.code == "replay_agrees" and not world.held(escrow).appeal


async def test_it_appeals_with_what_it_got_where_that_differs(world: World, tmp_path: Path) -> None:
    escrow = judged(world, "accept")
    renter = api(world, STEWARD, tmp_path, RENTER)
    wanted = JobAppealParams(JOB, 0, replay=True)
    await renter.appeal(wanted)
    executed(renter, escrow, world, Digest(b"d" * 32))
    claim = await renter.appeal(wanted)
    assert claim["replay"] == "" and world.held(escrow).appeal
    assert (claim["rival"], claim["speaker"]) == ("", ""), "a job without units has no trace to speak for"


async def test_another_node_s_run_is_named_by_its_root_and_its_peer(world: World, tmp_path: Path) -> None:
    escrow = judged(world, "accept")
    own = api(world, OTHER, tmp_path)
    told = await own.replay(JobReplayParams(JOB, 0))
    assert told["replay"] == "running"
    executed(own, escrow, world, Digest(b"d" * 32))
    told = await own.replay(JobReplayParams(JOB, 0))
    assert (told["replay"], told["speaker"]) == ("differs", peer_text(OTHER.peer))
    renter = api(world, STEWARD, tmp_path, RENTER)
    named = JobAppealParams(JOB, 0, rival="ab" * 32, speaker=str(told["speaker"]))
    claim = await renter.appeal(named)
    assert (claim["rival"], claim["speaker"]) == ("ab" * 32, peer_text(OTHER.peer))
    held = world.held(escrow)
    assert (held.rival, held.speaker) == (b"\xab" * 32, OTHER.peer)


async def test_a_run_that_fails_or_agrees_is_told(world: World, tmp_path: Path) -> None:
    escrow = judged(world, "accept")
    own = api(world, OTHER, tmp_path)
    await own.replay(JobReplayParams(JOB, 0))
    executed(own, escrow, world, Digest(ZERO))
    told = await own.replay(JobReplayParams(JOB, 0))
    assert (told["replay"], told["why"]) == ("failed", "timeout: ")
    executed(own, escrow, world, Digest(world.held(escrow).output))
    assert (await own.replay(JobReplayParams(JOB, 0)))["replay"] == "agrees"


async def test_a_fault_is_not_contested_by_a_replay(world: World, tmp_path: Path) -> None:
    judged(world, "rejected")
    with pytest.raises(Refused) as caught:
        await api(world, PROVIDERS[0], tmp_path).appeal(JobAppealParams(JOB, 0, replay=True))
    assert caught.value.code == "not_a_party"


async def test_evidence_shows_signed_decisions_in_order(world: World, tmp_path: Path) -> None:
    escrow = judged(world, "rejected")
    node = api(world, STEWARD, tmp_path, RENTER)
    decisions: tuple[Operation, ...] = (
        verdict(escrow, "rejected"),
        ruling(escrow, "accept", is_upheld=False),
    )
    for height, operation in enumerate(decisions):
        keep(node, escrow, height, operation)
    found = cast("list[Plain]", (await node.evidence(JobEvidenceParams(JOB, 0)))["decisions"])
    assert [(one["what"], one["finding"]) for one in found] == [("verdict", "rejected"), ("overturned", "accept")]
    assert found[0]["sentence"] and found[0]["evidence"] == (b"e" * 32).hex()
    assert (await node.evidence(JobEvidenceParams(JOB, 1)))["decisions"] == []


def keep(node: ProofApi, escrow: bytes, height: int, operation: Operation) -> None:
    """Store a receipt as the ledger client does."""
    signed = signed_op(CHAIN, operation, VALIDATOR)
    header = Header(CHAIN, height + 1, 0, ZERO, ZERO, ZERO, ZERO, ZERO, 1)
    one = Receipts(header, signed.signatures, (signed,), (Receipt(Outcome(signed.op_id, "applied", "", ""), 0, ()),))
    node._parts.records.put(f"receipt/{escrow.hex()}/{height:012d}/000000", wire.encode(one))


def test_a_chunk_s_status_says_why_until_when_and_with_which_score(world: World) -> None:
    escrow = judged(world, "rejected")
    chunk = ChunkRecord(0, epoch=1, outcome="rejected", code="update_differs", score=410_000, evidence=b"e" * 32)
    view = proof_view(chunk, escrow, world.ledger, world.time)
    assert view["fault"] == "provider" and view["fix"] and view["score"] == 0.41
    assert view["held_until"] == world.held(escrow).until and view["appeal"] == ""
    world.mature()
    assert proof_view(chunk, escrow, world.ledger, world.time)["held_until"] == 0


def test_deadlines_are_told_on_this_machine_s_clock(world: World) -> None:
    """The ledger's clock stood still for an hour: the window ends as much later."""
    escrow, late = judged(world, "accept"), 3_600 * SECOND
    chunk = ChunkRecord(0, epoch=1, outcome="accept", code="hash_equal")
    view = proof_view(chunk, escrow, world.ledger, world.time + late)
    assert view["held_until"] == world.held(escrow).until + late


def test_a_chunk_that_nobody_judged_has_no_words(world: World) -> None:
    view = proof_view(ChunkRecord(0), b"", world.ledger, 0)
    assert (view["sentence"], view["score"], view["evidence"]) == ("", None, "")


def test_an_earnings_line_is_explained(world: World) -> None:
    escrow = judged(world, "accept")
    line: Plain = {"escrow": escrow.hex(), "chunk": 0, "epoch": 1, "price": PRICE, "outcome": "accept",
                   "code": "hash_equal", "expected": 10**9}  # fmt: skip
    view = earning_view(line, world.ledger, 1_000_000, world.time)
    reward = cast("list[Plain]", view["reward"])
    assert [one["force"] for one in reward] == ["ledger", "shown", "shown"]
    assert view["held_until"] == world.held(escrow).until and view["sentence"]


def test_a_refused_line_has_no_reward(world: World) -> None:
    escrow = judged(world, "wrong")
    line: Plain = {"escrow": escrow.hex(), "chunk": 0, "epoch": 1, "price": PRICE, "outcome": "wrong",
                   "code": "hash_differs"}  # fmt: skip
    view = earning_view(line, world.ledger, 0, world.time)
    assert "reward" not in view and view["fault"] == "provider"


def test_a_certificate_has_no_odds() -> None:
    spec = replace(SPEC, proof=Proof("certificate", check=("true",)), trust=UNSET)
    view = quoted_trust(spec, 1_000)
    assert (view["kind"], view["audited"], view["caught"]) == ("certificate", 1.0, [])


def test_the_price_of_trust_is_in_the_quote() -> None:
    total = chunk_cost(6_000, SPEC)
    view = quoted_trust(SPEC, total)
    assert view["set_aside_per_chunk"] == total - 6_000 == 11_640
    assert view["surcharge_per_chunk"] == 3_492


def test_a_plan_counts_candidates_whose_stake_deters() -> None:
    empty = Plan((), (), Credits(0), Credits(0), Micros(0), None, "cpu")
    assert plan_trust(SPEC, empty)["deterred"] == 0


def test_quality_counts_what_is_known(world: World) -> None:
    judged(world, "accept")
    view = quality_view(PeerId(PROVIDERS[0].peer), world.ledger, 100, [50, 100, 150])
    assert view["tier"] == "none" and cast("dict[str, float]", view["parts"])["cost"] == 1.0
    assert cast("dict[str, float]", view["parts"])["accuracy"] == 1.0
