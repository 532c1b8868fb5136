"""The comparing child, real and attacked: it answers, or dies and somebody is to blame. The node goes on."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import trio
from trio.testing import MockClock

from node.blobs import BlobStore
from node.proving import judgement
from node.proving.evidence import scored
from node.proving.judgement import judge
from node.proving.scoring import Done, Item, Request, Turn
from protocol import wire
from protocol.effects import Fetch, Score, ScoreItem
from protocol.errors import Unavailable
from protocol.jobspec import ZERO_DIGEST
from protocol.proof import Tolerance
from protocol.units import MIB, PeerId
from verifier.comparing import Report
from verifier.drift import SKETCH
from verifier.score import ACCEPT
from verifier.tensors import Array, encode

PROVIDER, AUDITOR = PeerId(b"\1" * 32), PeerId(b"\2" * 32)
TOLERANCE = Tolerance(t_ok=10**7, t_bad=4 * 10**9)


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs", 256 * MIB)


def state(step: int, shift: float = 0.0) -> dict[str, Array]:
    return {
        "parameters/w": np.linspace(0, 1, 100, dtype=np.float32) * np.float32(1 + step) + np.float32(shift),
        "step": np.array([step]),
    }


def aux(loss: float = 0.5) -> dict[str, Array]:
    return {"losses": np.array([loss]), "norms": np.array([1.0]), "gradient": np.ones(4)}


class Pieces:
    """The six blobs of one unit; each may be replaced by any bytes."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self.start: bytes | None = encode(state(0))
        self.claimed: bytes | None = encode(state(1))
        self.replayed: bytes | None = encode(state(1))
        self.claimed_aux: bytes | None = encode(aux())
        self.replayed_aux: bytes | None = encode(aux())

    def score(self) -> Score:
        names = ("start", "claimed", "replayed", "claimed_aux", "replayed_aux")
        values: list[bytes | None] = [getattr(self, name) for name in names]
        digests = [ZERO_DIGEST if value is None else self._blobs.put(value) for value in values]
        return Score("audit", "training", TOLERANCE, (ScoreItem(0, *digests),), PROVIDER, AUDITOR)


@pytest.fixture
def pieces(blobs: BlobStore) -> Pieces:
    return Pieces(blobs)


async def test_the_direction_of_a_small_error_is_told_to_who_has_a_secret(pieces: Pieces, blobs: BlobStore) -> None:
    pieces.claimed = encode(state(1, shift=2e-6))
    score = pieces.score()
    assert (await judge(score, blobs)).errors == ()

    async def nothing_is_missing(fetch: Fetch) -> None:
        raise AssertionError(fetch)

    told = await scored(dataclasses.replace(score, secret=b"mine"), blobs, nothing_is_missing)
    other = await scored(dataclasses.replace(score, secret=b"another"), blobs, nothing_is_missing)
    ((error,), (seen,)) = told.errors, other.errors
    assert told.code == "within_tolerance" and 10**6 < error.size < TOLERANCE.t_ok
    assert 0 < error.along <= error.size, "it went too far"
    assert len(error.sketch) == SKETCH and error.sketch != seen.sketch
    assert dataclasses.replace(error, sketch=()) == dataclasses.replace(seen, sketch=())


async def test_large_errors_are_not_for_that_account(pieces: Pieces, blobs: BlobStore) -> None:
    pieces.claimed = encode(state(1, shift=0.5))
    found = await judge(dataclasses.replace(pieces.score(), secret=b"mine"), blobs)
    assert (found.code, found.errors) == ("update_differs", ())


async def test_an_honest_unit_is_within_tolerance(pieces: Pieces, blobs: BlobStore) -> None:
    found = await judge(pieces.score(), blobs)
    assert (found.fault, found.code) == ("", "within_tolerance")
    assert found.report is not None and found.report.score == 1_000_000


async def test_another_update_is_not(pieces: Pieces, blobs: BlobStore) -> None:
    pieces.claimed = encode(state(1, 0.1))
    found = await judge(pieces.score(), blobs)
    assert (found.fault, found.code) == ("", "update_differs")
    assert found.report is not None and found.report.score < ACCEPT


@pytest.mark.parametrize("name", ["start", "claimed", "claimed_aux", "replayed", "replayed_aux"])
@pytest.mark.parametrize("bad", [b"", encode(state(1))[:-4]])
async def test_a_malformed_blob_is_the_fault_of_who_made_it(
    pieces: Pieces, blobs: BlobStore, name: str, bad: bytes
) -> None:
    setattr(pieces, name, bad)
    found = await judge(pieces.score(), blobs)
    assert found.report is None and found.code == "malformed_proof"
    assert found.fault == ("auditor" if name.startswith("replayed") else "provider")


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
async def test_claims_that_are_no_numbers_are_malformed(pieces: Pieces, blobs: BlobStore, number: float) -> None:
    pieces.claimed = encode(state(1, number))
    found = await judge(pieces.score(), blobs)
    assert (found.fault, found.code) == ("provider", "malformed_proof")


async def test_a_replay_that_overflows_is_an_error_and_nobodys_forgery(pieces: Pieces, blobs: BlobStore) -> None:
    pieces.replayed = encode(state(1, np.inf))
    found = await judge(pieces.score(), blobs)
    assert found.fault == "" and found.report is not None and found.report.score == 0


# ── a child that dies ────────────────────────────────────────────────────────────────────────────────────────────────
DYING = """
import sys
sys.path[:0] = {path!r}
from node.proving import scoring
from verifier import comparing
from verifier.score import Comparison

def compare(kind, start, claimed, replayed, claimed_aux, replayed_aux, tolerance):
    if any(tensors and "bomb" in tensors for tensors in (claimed, replayed)):
        {death}
    return Comparison(0.0, "within_tolerance", "")

comparing.compare = compare
sys.exit(scoring.main())
"""

DEATHS = {
    "crash": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "exception": "raise ZeroDivisionError",
    "memory": "x = bytearray(8 << 30)",
    "files": "x = [open('/dev/null') for _ in range(1000)]",
}
FOREVER = "open({mark!r}, 'x').close()\n        while True: pass"


@pytest.fixture(params=sorted(DEATHS))
def dying(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child's comparison dies in this way where a state has a tensor `bomb`."""
    die_by(DEATHS[request.param], monkeypatch)


def die_by(death: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = DYING.format(path=[str(Path(judgement.__file__).parents[2])], death=death)
    monkeypatch.setattr(judgement, "command", lambda: [sys.executable, "-c", source])


BOMBS = pytest.mark.parametrize(("name", "who"), [("claimed", "provider"), ("replayed", "auditor")])


@pytest.mark.usefixtures("dying")
@BOMBS
async def test_a_bomb_takes_the_child_and_is_the_fault_of_who_made_it(
    pieces: Pieces, blobs: BlobStore, name: str, who: str
) -> None:
    setattr(pieces, name, encode({"bomb": np.zeros(1)}))
    found = await judge(pieces.score(), blobs)
    assert (found.report, found.fault, found.code) == (None, who, "malformed_proof")


@BOMBS
async def test_a_comparison_without_end_is_ended_when_its_time_is_up(
    pieces: Pieces, blobs: BlobStore, name: str, who: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    mock_clock: MockClock,
) -> None:  # fmt: skip
    """The clock stands still until the child has come so far, however long that takes."""
    mark = tmp_path / "reached"
    die_by(FOREVER.format(mark=str(mark)), monkeypatch)
    setattr(pieces, name, encode({"bomb": np.zeros(1)}))

    async def let_time_pass() -> None:
        while True:
            while not mark.exists():
                await trio.to_thread.run_sync(time.sleep, 0.01)
            mark.unlink()
            mock_clock.jump(judgement.SCORE_SECONDS)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(let_time_pass)
        found = await judge(pieces.score(), blobs)
        nursery.cancel_scope.cancel()
    assert (found.report, found.fault, found.code) == (None, who, "malformed_proof")


def test_the_child_cannot_take_more_memory_than_its_files_explain(tmp_path: Path) -> None:
    source = DYING.format(path=[str(Path(judgement.__file__).parents[2])], death="x = bytearray(8 << 30)")
    path = tmp_path / "claimed"
    path.write_bytes(encode({"bomb": np.zeros(1)}))
    item = Item(0, "", str(path), "", "", "")
    request = msgspec.json.encode(Request("training", TOLERANCE, (item,)))
    done = subprocess.run([sys.executable, "-c", source], input=request, capture_output=True, timeout=300)
    assert done.returncode == 1 and b"MemoryError" in done.stderr


# ── the node's work ──────────────────────────────────────────────────────────────────────────────────────────────────
async def test_what_is_fetched_is_compared_and_goes_again(tmp_path: Path, blobs: BlobStore) -> None:
    far = BlobStore(tmp_path / "far", 16 * MIB)
    work = Pieces(far).score()
    asked: list[tuple[PeerId, ...]] = []

    async def bring(fetch: Fetch) -> None:
        asked.append(fetch.sources)
        blobs.put(far.read(fetch.digest, fetch.size_max))

    done = await scored(work, blobs, bring)
    assert (done.score, done.code, done.fault) == (1_000_000, "within_tolerance", "")
    report = wire.decode(blobs.read(done.evidence, MIB), wire.decoder(Report), PROVIDER)
    assert report.units[0].index == 0 and report.tolerance == TOLERANCE
    assert asked == [(PROVIDER,)] * 3  # The replay's blobs have the digests of the claim's: they are here by then.
    assert blobs.total_bytes == blobs.size(done.evidence)


async def test_of_many_units_only_one_at_a_time_is_on_the_disk(tmp_path: Path, blobs: BlobStore) -> None:
    far = BlobStore(tmp_path / "far", 16 * MIB)
    told = far.put(encode(aux()))
    states = [far.put(encode(state(step))) for step in range(6)]
    items = tuple(ScoreItem(i, states[i], states[i + 1], states[i + 1], told, told) for i in (0, 1, 2, 4))
    here: list[int] = []

    async def bring(fetch: Fetch) -> None:
        blobs.put(far.read(fetch.digest, fetch.size_max))
        here.append(sum(blobs.has(digest) for digest in states))

    done = await scored(Score("audit", "training", TOLERANCE, items, PROVIDER, AUDITOR), blobs, bring)
    assert (done.score, done.code) == (1_000_000, "within_tolerance")
    found = wire.decode(blobs.read(done.evidence, MIB), wire.decoder(Report), PROVIDER)
    assert [unit.index for unit in found.units] == [0, 1, 2, 4]
    assert max(here) == 2 and len(here) == 7  # Neighbours share a state; what was said is fetched once.
    assert blobs.total_bytes == blobs.size(done.evidence)


@pytest.mark.parametrize(("name", "who"), [("claimed", "provider"), ("replayed", "auditor")])
async def test_who_does_not_give_its_blob_withholds_it(tmp_path: Path, blobs: BlobStore, name: str, who: str) -> None:
    far = BlobStore(tmp_path / "far", 16 * MIB)
    made = Pieces(far)
    setattr(made, name, encode(state(1, 1e-6)))
    work = made.score()
    missing = getattr(work.items[0], name)

    async def bring(fetch: Fetch) -> None:
        if fetch.digest == missing:
            raise Unavailable("nobody has it", code="no_blob")
        blobs.put(far.read(fetch.digest, fetch.size_max))

    done = await scored(work, blobs, bring)
    assert (done.score, done.code, done.fault, done.evidence) == (0, "withheld", who, ZERO_DIGEST)
    assert blobs.total_bytes == 0


async def test_a_judge_without_room_condemns_nobody(tmp_path: Path) -> None:
    far, full = BlobStore(tmp_path / "far", 16 * MIB), BlobStore(tmp_path / "full", 700)

    async def bring(fetch: Fetch) -> None:
        full.put(far.read(fetch.digest, fetch.size_max))

    done = await scored(Pieces(far).score(), full, bring)
    assert (done.score, done.code, done.fault) == (0, "disk_full", "auditor")
    assert full.total_bytes == 0


async def test_the_last_word_of_a_child_is_read_as_far_as_it_came() -> None:
    whole = msgspec.json.encode(Turn("auditor", 3)) + b"\n"
    assert judgement._last_word(whole + msgspec.json.encode(Done(()))[:-2]) == Turn("auditor", 3)
    assert judgement._last_word(b"") == Turn("provider", 0)
    await trio.lowlevel.checkpoint()


def test_the_frozen_program_is_its_own_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert judgement.command() == [sys.executable, judgement.CHILD]
    monkeypatch.undo()
    request = msgspec.json.encode(Request("training", TOLERANCE, ()))
    done = subprocess.run([sys.executable, "-m", "shoal", judgement.CHILD], input=request, capture_output=True)
    assert msgspec.json.decode(done.stdout, type=Done) == Done(())
