"""The log of every event: complete lines, equal for equal runs, whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.completions import RunDone
from protocol.effects import Effect, Emit, Store
from protocol.errors import Refused
from protocol.messages import CancelChunk
from protocol.units import Digest
from simulations import event_log
from simulations.event_log import EventLog
from simulations.scenario import Injection
from tests.simulations.subjects import actor

FAULT = Injection(number=0, at=5, until=9, kind="kill", peers=(2,))


def logged(path: Path, why: str = "enough") -> EventLog:
    log = EventLog(path)
    log.injected(FAULT, 5)
    log.sent(1, 2, CancelChunk(bytes(16), 3, 1, why), 6, 36)
    effects: list[Effect] = [Store("lease/1", None), Emit("lease_ended", {"chunk": 3})]
    log.handled(actor(2), CancelChunk(bytes(16), 3, 1, why), effects, 36)
    log.handled(actor(2), None, [], 37)
    log.handled(actor(2), RunDone("t", "ok", 0, Digest(bytes(32)), 1, 0.5, ""), [], 38)
    log.moved(actor(2), False, 40)
    log.crashed(actor(3), ValueError("broken"), 41)
    return log


def test_every_event_is_a_line(tmp_path: Path) -> None:
    log = logged(tmp_path / "events.jsonl.zst")
    log.finished(50)
    lines = list(event_log.read(tmp_path / "events.jsonl.zst"))
    assert [line["kind"] for line in lines] == ["fault", "sent", "took", "took", "moved", "crashed", "end"]
    assert lines[1] == {"at": 6, "kind": "sent", "peer": 1, "to": 2, "arrives": 36} | {
        "what": "CancelChunk(chunk 3, epoch 1)", "sum": lines[1]["sum"],
    }  # fmt: skip
    assert lines[2]["sum"] == lines[1]["sum"] != 0
    assert lines[2]["does"] == ["forget lease/1", "lease_ended 3"]
    assert lines[5]["what"] == "ValueError: broken"
    assert log.lines == len(lines)


def test_contents_differ_by_their_sum(tmp_path: Path) -> None:
    for name, why in (("a", "enough"), ("b", "enough"), ("c", "other")):
        logged(tmp_path / name, why).finished(50)
    first, same, other = (list(event_log.read(tmp_path / name)) for name in "abc")
    assert first == same != other
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_file_is_there_when_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl.zst"
    log = logged(path)
    assert not path.exists()
    log.close()
    log.close()
    log.abandon()
    assert len(list(event_log.read(path))) == 6
    logged(tmp_path / "other").abandon()
    assert [item.name for item in tmp_path.iterdir()] == ["events.jsonl.zst"]


def test_missing_and_damaged_logs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl.zst"
    with pytest.raises(Refused) as refused:
        list(event_log.read(path))
    assert refused.value.code == "no_events"
    path.write_bytes(b"no zstd at all")
    with pytest.raises(Refused) as refused:
        list(event_log.read(path))
    assert refused.value.code == "bad_run"


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    (tmp_path / ".events.part").symlink_to("/dev/full")
    log = EventLog(tmp_path / "events")
    with pytest.raises(Refused) as refused:
        log.close()
    assert refused.value.code == "disk_full"
