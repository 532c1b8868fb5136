"""What a node finds out about its host at start: process snapshots never stand in its way."""

from __future__ import annotations

import platform
from pathlib import Path

import msgspec
import pytest
import trio

from node import host
from node.config import Config
from node.process_tier import criu, probe
from node.process_tier.criu import Criu
from node.process_tier.probe import CACHE, Probe
from node.process_tier.tier import ProcessTier
from protocol.identity import Identity, peer_text
from tests.node.waiting import SECONDS

ME, OTHER = Identity(b"\1" * 32), Identity(b"\2" * 32)


def with_program(monkeypatch: pytest.MonkeyPatch, program: Criu | None) -> None:
    monkeypatch.setattr(criu, "find", lambda: program)


async def test_without_criu_nothing_is_tried_or_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_program(monkeypatch, None)
    assert await host.process_tier(Config(data=tmp_path), ME, "test") is None
    assert not (tmp_path / CACHE).exists()


async def test_a_trial_that_hangs_does_not_hold_up_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr(probe, "why_not_try", lambda program: "")
    silent = tmp_path / "criu"
    silent.write_text("#!/bin/sh\nexec sleep 3600\n")
    silent.chmod(0o755)
    with_program(monkeypatch, Criu(silent, "4.2"))
    with trio.fail_after(SECONDS):
        assert await host.process_tier(Config(data=tmp_path), ME, "test") is None
    assert not (tmp_path / CACHE).exists(), "the next start tries again"


async def test_a_program_that_fails_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "why_not_try", lambda program: "")
    with_program(monkeypatch, Criu(Path("/nowhere/criu"), "4.2"))
    assert await host.process_tier(Config(data=tmp_path), ME, "test") is None


async def test_a_kept_answer_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = Criu(tmp_path / "criu", "4.2")
    with_program(monkeypatch, program)
    monkeypatch.setattr(probe, "why_not_try", lambda program: "")
    monkeypatch.setattr(ProcessTier, "why_not", lambda tier: "")
    kept = Probe(platform.release(), program.version, str(program.path), "")
    (tmp_path / CACHE).write_bytes(msgspec.json.encode(kept))
    alone = await host.process_tier(Config(data=tmp_path, trusted_nodes=(peer_text(ME.peer),)), ME, "test")
    paired = await host.process_tier(Config(data=tmp_path, trusted_nodes=(peer_text(OTHER.peer),)), ME, "test")
    assert alone is not None and not alone.hands_over
    assert paired is not None and paired.hands_over
