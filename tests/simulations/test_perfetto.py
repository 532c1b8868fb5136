"""trace.json: valid in the format's terms, one process per sampled peer, slices that begin and end."""

from __future__ import annotations

import json
from pathlib import Path

from protocol.completions import RunDone
from protocol.effects import Compute, Effect, Emit, Run, Send
from protocol.jobspec import Chunk, JobSpec
from protocol.messages import Accept, Beat, CancelChunk, Grant
from protocol.operations import Assign, Signature, SignedOp
from protocol.units import Credits, Digest, Micros, PeerId
from protocol.wire import encode
from simulations.perfetto import Perfetto, lease_key
from simulations.scenario import Injection
from tests.simulations.subjects import actor

SPEC = JobSpec(
    name="x", runtime="python", commands=("work",), chunks=(Chunk(),), timeout=Micros(10**6), estimate=Micros(10**6),
    price_per_hour_max=Credits(1), spend_cap=Credits(1),
)  # fmt: skip
NAMES = ["validator-0", "steward-1", "provider-2", "provider-3", "provider-4"]
ROLES = ["validator", "steward", "provider", "provider", "provider"]
JOB = bytes(16)


def grant(chunk: int) -> Grant:
    body = encode({"type": "assign", "chunk": chunk, "epoch": 1})
    return Grant(JOB, SignedOp(body, ()))


def accepted(chunk: int) -> list[Effect]:
    return [Send(PeerId(bytes(32)), Accept(bytes([chunk]) * 32, Signature(bytes(32), bytes(64))))]


def traced(path: Path, share: float = 1.0) -> list[dict[str, object]]:
    trace = Perfetto(path, share)
    trace.watch(NAMES, ROLES, 7)
    provider = actor(2)
    trace.sent(1, 2, grant(3), 1_000, 31_000)
    trace.handled(provider, grant(3), accepted(3), 31_000)
    trace.handled(provider, grant(4), accepted(4), 32_000)
    run = Run("task", SPEC, 3, (), (), PeerId(bytes(32)))
    trace.handled(provider, None, [Compute(run)], 40_000)
    trace.sent(2, 0, Beat(bytes(32), 3, 1, 9, "running"), 41_000, 51_000)
    trace.sent(1, 2, CancelChunk(JOB, 3, 1, "late"), 50_000, -1)
    trace.injected(Injection(number=0, at=60_000, until=90_000, kind="clog", peers=(2,), amount=1.0), 60_000)
    ended: list[Effect] = [Emit("lease_ended", {"job": JOB.hex(), "chunk": 3, "epoch": 1, "why": "accept"})]
    trace.handled(provider, RunDone("task", "ok", 0, Digest(bytes(32)), 1, 0.1, ""), ended, 90_000)
    trace.moved(provider, False, 95_000)
    trace.finished(100_000)
    read = json.loads(path.read_text())
    assert isinstance(read["traceEvents"], list)
    return list(read["traceEvents"])


def test_slices_of_leases_and_runs(tmp_path: Path) -> None:
    events = traced(tmp_path / "trace.json")
    slices = {str(one["name"]): one for one in events if one["ph"] == "X" and one["pid"] == 3}
    assert (slices["chunk 3"]["ts"], slices["chunk 3"]["dur"]) == (40, 50)
    assert (slices["lease 030303"]["ts"], slices["lease 030303"]["dur"]) == (31, 59)
    # The other lease was still held when the peer was killed.
    assert (slices["lease 040404"]["ts"], slices["lease 040404"]["dur"]) == (32, 63)
    assert slices["lease 040404"]["args"] == {"why": "killed"}
    assert slices["lease 030303"]["tid"] != slices["lease 040404"]["tid"]


def test_messages_are_joined_by_arrows_inside_slices(tmp_path: Path) -> None:
    events = traced(tmp_path / "trace.json")
    [start] = [one for one in events if one["ph"] == "s"]
    [end] = [one for one in events if one["ph"] == "f"]
    assert start["id"] == end["id"]
    assert (start["ts"], start["pid"], end["ts"], end["pid"]) == (1, 2, 31, 3)
    for arrow in (start, end):
        assert any(one["ph"] == "X" and (one["ts"], one["pid"]) == (arrow["ts"], arrow["pid"]) for one in events)
    assert any(one["name"] == "CancelChunk → lost" for one in events)
    assert not any("Beat" in str(one["name"]) for one in events)


def test_faults_and_kills_are_instants(tmp_path: Path) -> None:
    events = traced(tmp_path / "trace.json")
    assert [one["name"] for one in events if one["ph"] == "i"] == ["clog", "killed", "end"]
    assert all({"ph", "name", "pid", "tid"} <= one.keys() for one in events)


def test_the_sample_has_every_role_and_follows_the_seed(tmp_path: Path) -> None:
    def drawn(share: float, seed: int) -> list[int]:
        trace = Perfetto(tmp_path / "trace.json", share)
        trace.watch(["p"] * 103, ["validator", "steward", "steward"] + ["provider"] * 100, seed)
        trace.abandon()
        return trace.sampled

    some = drawn(0.1, 1)
    assert len(some) == 12
    assert some == drawn(0.1, 1) != drawn(0.1, 2)
    assert drawn(1.0, 1) == list(range(103))
    assert drawn(0.0, 1) == []


def test_a_full_trace_says_so(tmp_path: Path) -> None:
    trace = Perfetto(tmp_path / "trace.json", 1.0, events_max=3)
    trace.watch(NAMES, ROLES, 7)
    trace.close()
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert len(events) == 4
    assert events[-1]["name"] == "trace is full"


def test_lease_keys_read_real_assignments() -> None:
    key32 = bytes(32)
    assign = Assign(key32, 5, 2, key32, 1, 1, 1, 2, (key32,))
    key = lease_key(Grant(JOB, SignedOp(encode(assign), ())))
    assert key == f"{JOB.hex()}/5/2"
