"""A violation's report: everything that it takes to see and to replay it, and a diagram that can be read."""

from __future__ import annotations

import pickle
from pathlib import Path
from xml.etree import ElementTree as ET

from protocol.effects import Effect, Emit, Fail
from protocol.errors import RemoteViolation
from protocol.messages import Beat, CancelChunk, RevealRequest
from protocol.units import PeerId
from simulations import lamport
from simulations.recent import KEPT, Event, Injected, Moved, Recent, Sent
from simulations.scenario import NS, Group, Injection, Population, Scenario, Simulation
from simulations.violation import Replayed, Violation, read_report, write_report
from tests.simulations.subjects import actor

ESCROW = bytes([7]) * 32
NAMES = ["validator-0", "steward-0", "provider-0", "provider-1"]
SCENARIO = Scenario(name="small", simulation=Simulation(duration=NS), population=Population(providers=Group(n=2)))
FAULT = Injection(number=0, at=0, until=NS, kind="partition", peers=(2, 3), one_way=True)


def story() -> Recent:
    """A few seconds of a small world."""
    recent = Recent()
    recent.injected(FAULT, 0)
    recent.sent(1, 2, CancelChunk(bytes(16), 3, 1, "enough"), 1_000_000, 31_000_000)
    recent.sent(0, 2, RevealRequest(ESCROW, 3, 1), 2_000_000, 40_000_000)
    recent.sent(0, 3, RevealRequest(ESCROW, 4, 1), 3_000_000, -1)
    recent.sent(2, 0, Beat(ESCROW, 3, 1, 9, "running"), 4_000_000, 44_000_000)
    ended: list[Effect] = [Emit("lease_ended", {"escrow": ESCROW.hex(), "chunk": 3})]
    recent.handled(actor(2), RevealRequest(ESCROW, 3, 1), ended, 40_000_000)
    accused: list[Effect] = [Fail(RemoteViolation(PeerId(bytes(32)), "too <early> & loud", code="too_early"))]
    recent.handled(actor(0), None, accused, 50_000_000)
    recent.moved(actor(2), False, 60_000_000)
    return recent


def test_the_ring_keeps_the_newest() -> None:
    recent = Recent()
    for number in range(KEPT + 5):
        recent.sent(0, 1, RevealRequest(ESCROW, 0, 1), number, number + 1)
    assert len(recent.events) == KEPT
    assert recent.events[0].now == 5


def test_ticks_without_effects_are_no_events() -> None:
    recent = Recent()
    recent.handled(actor(0), None, [], 0)
    assert not recent.events


def test_every_event_is_a_line() -> None:
    lines = list(story().lines(NAMES))
    assert len(lines) == 8
    assert "partition one way of provider-0, provider-1" in lines[0]
    assert "steward-0    sends CancelChunk(chunk 3, epoch 1) to provider-0, arrives 0.031000" in lines[1]
    assert lines[3].endswith("to provider-1, LOST")
    assert "FAIL RemoteViolation too_early: too <early> & loud" in lines[6]
    assert lines[7].endswith("KILLED")


def test_the_diagram_shows_what_touches_the_escrow() -> None:
    diagram = lamport.select(story().events, 2, ESCROW)
    assert diagram.lanes == (0, 2, 3)
    kinds = [(mark.kind, mark.peer, mark.time // 1_000_000) for mark in diagram.marks]
    assert kinds == [
        ("fault", -1, 0),
        ("sent", 0, 2),
        ("lost", 0, 3),
        ("arrived", 2, 40),
        ("done", 2, 40),
        ("fault", 0, 50),
        ("fault", 2, 60),
    ]


def test_without_an_escrow_it_shows_what_touches_the_peer() -> None:
    diagram = lamport.select(story().events, 2, b"")
    assert {mark.text.split("(")[0] for mark in diagram.marks if mark.kind == "sent"} == {
        "CancelChunk",
        "RevealRequest",
    }


def test_the_diagram_never_outgrows_a_screen() -> None:
    recent = Recent()
    for number in range(500):
        recent.sent(number % 40, (number + 1) % 40, RevealRequest(ESCROW, 0, 1), number, number + 1)
    diagram = lamport.select(recent.events, 3, ESCROW)
    assert len(diagram.marks) <= lamport.SHOWN
    assert len(diagram.lanes) <= lamport.LANES
    assert 3 in diagram.lanes


def test_the_picture_is_well_formed_and_has_an_arrow_per_message() -> None:
    diagram = lamport.select(story().events, 2, ESCROW)
    root = ET.fromstring(lamport.svg(diagram, NAMES, "epochs: <two> & more", 2))
    space = "{http://www.w3.org/2000/svg}"
    arrows = [item.get("class") for item in root.iter(f"{space}path") if "arrow" in (item.get("class") or "")]
    assert arrows == ["arrow lost", "arrow"]
    texts = [item.text or "" for item in root.iter(f"{space}text")]
    assert "epochs: <two> & more" in texts
    assert "provider-0" in texts


def test_an_empty_story_has_a_diagram() -> None:
    diagram = lamport.select([], -1, b"")
    ET.fromstring(lamport.svg(diagram, NAMES, "nothing"))
    assert lamport.text(diagram, NAMES, "nothing").startswith("nothing\n")


def test_the_text_says_the_same() -> None:
    text = lamport.text(lamport.select(story().events, 2, ESCROW), NAMES, "title")
    assert "validator-0  provider-0   provider-1" in text
    assert "RevealRequest(070707, chunk 4, epoch 1) to provider-1, lost" in text


def test_reports_are_numbered_and_read_back(tmp_path: Path) -> None:
    violation = Violation("epochs", "two leases", 2, 61_000_000, ESCROW)
    run = Replayed(SCENARIO, 42, (FAULT,))
    first = write_report(tmp_path / "violations", violation, run, story(), NAMES, "abc")
    second = write_report(tmp_path / "violations", violation, run, story(), NAMES)
    assert (first.name, second.name) == ("1", "2")
    assert sorted(path.name for path in first.iterdir()) == [
        "diagram.svg",
        "diagram.txt",
        "events.txt",
        "report.json",
    ]
    report = read_report(first)
    assert (report.seed, report.scenario, report.injections) == (42, SCENARIO, (FAULT,))
    assert (report.checker, report.peer_name, report.about) == ("epochs", "provider-0", ESCROW.hex())
    assert report.replay == f"shoal sim replay {first}"


def test_a_violation_crosses_processes() -> None:
    violation = pickle.loads(pickle.dumps(Violation("ledger", "I1", 3, 5, ESCROW)))  # noqa: S301  Our own bytes.
    assert (violation.checker, violation.detail, violation.peer, violation.now, violation.about) == (
        "ledger",
        "I1",
        3,
        5,
        ESCROW,
    )
    assert str(violation) == "ledger: I1 at peer 3, after 0.000 s"


def test_marks_of_starts_name_themselves() -> None:
    events: list[Event] = [Moved(5, 1, True), Injected(6, FAULT), Sent(7, 1, 2, RevealRequest(ESCROW, 0, 1), 9)]
    texts = [mark.text for mark in lamport.select(events, 1, b"").marks]
    assert texts == [
        "started",
        "partition one way of peer 2, peer 3 until 1.000",
        "RevealRequest(070707, chunk 0, epoch 1)",
    ]
