"""specs/08-blocks.md against protocol.block, merkle, chain and follower, verifier.orderer, node.journal."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import specs
from node.journal import FRAME_MARK, Journal
from protocol import block, follower, merkle
from protocol.chain import clock_step
from protocol.validators import ValidatorSet
from verifier import block_log, head_gossip, orderer, pool

SPEC = specs.load("08-blocks")


def test_constants_are_those_of_the_code() -> None:
    found = {}
    for module in (block, follower, orderer, pool, head_gossip, block_log):
        found.update({name: getattr(module, name) for name in SPEC.constants if hasattr(module, name)})
    assert found == SPEC.constants


def test_an_idle_clock_keeps_pace() -> None:
    heartbeat, step = SPEC.constants["HEARTBEAT"], SPEC.constants["CLOCK_STEP_MAX"]
    assert isinstance(heartbeat, int)
    assert isinstance(step, int)
    assert heartbeat < step


@given(powers=st.lists(st.integers(1, 2**40), min_size=1, max_size=50))
def test_quorum_rule(powers: list[int]) -> None:
    known = ValidatorSet("c", [(number.to_bytes(32, "big"), power) for number, power in enumerate(powers)])
    assert SPEC.functions["quorum"](known.total) == known.quorum


@given(time=st.integers(0, 2**60), elapsed=st.integers(-(2**60), 2**60))
def test_clock_rule(time: int, elapsed: int) -> None:
    assert SPEC.functions["next_time"](time, elapsed) == time + clock_step(elapsed)


@given(leaves=st.lists(st.binary(max_size=6), max_size=70))
def test_merkle_rule(leaves: list[bytes]) -> None:
    assert SPEC.functions["merkle_root"](leaves) == merkle.root(leaves)


def test_messages_exist_and_the_orderer_takes_its_own() -> None:
    named = {row["message"] for row in SPEC.table("messages")}
    assert {kind.__name__ for kind in orderer.Orderer.accepts} <= named | {"BlocksRequest"}
    assert {kind.__name__ for kind in follower.Follower.accepts} <= named


def test_the_journal_is_laid_out_as_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.append([b"first", b"second"])
    journal.close()
    data = (tmp_path / "journal").read_bytes()
    assert data.startswith(b"shoal-journal/1\n")
    place, fields = 32, {}
    payload = b"\0\0\0\x05first\0\0\0\x06second"
    for row in SPEC.table("journal"):
        size = len(payload) if row["bytes"] == "length" else int(row["bytes"])
        fields[row["field"]] = data[place : place + size]
        place += size
    assert place == len(data)
    assert fields["mark"] == FRAME_MARK == bytes.fromhex(SPEC.table("journal")[0]["content"])
    assert [int.from_bytes(fields[name], "big") for name in ("offset", "length", "blocks")] == [32, len(payload), 2]
    assert fields["payload"] == payload
