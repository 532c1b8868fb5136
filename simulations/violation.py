"""A violation: what a checker found, and the folder that shows and replays it. Spec: specs/17-simulator.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from simulations import lamport
from simulations.recent import Recent
from simulations.scenario import NS, Injection, Scenario

REPLAY: Final = "shoal sim replay {folder}"
"""The one command that runs a violation again, event by event."""


class Violation(Exception):
    """A rule of the protocol was broken in the simulation. Ends the run unless the scenario says to go on."""

    def __init__(self, checker: str, detail: str, peer: int = -1, now: int = 0, about: bytes = b"") -> None:
        """`peer`: index of the peer at fault or where it showed, -1 for none. `about`: the escrow that it is about."""
        super().__init__(checker, detail, peer, now, about)
        self.checker = checker
        self.detail = detail
        self.peer = peer
        self.now = now
        """Simulated nanoseconds since the start."""
        self.about = about

    def __str__(self) -> str:
        where = f" at peer {self.peer}" if self.peer >= 0 else ""
        return f"{self.checker}: {self.detail}{where}, after {self.now / NS:.3f} s"


@dataclass(frozen=True, slots=True)
class Replayed:
    """What makes a run: the same three give the same events."""

    scenario: Scenario
    seed: int
    injections: tuple[Injection, ...]


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`report.json`."""

    version: int = 1
    seed: int
    scenario: Scenario
    injections: tuple[Injection, ...]
    checker: str
    detail: str
    peer: int
    peer_name: str
    at: int
    """Simulated nanoseconds."""
    about: str
    """The escrow that it is about, in hex; empty when none."""
    commit: str = ""
    replay: str = ""


def write_report(
    root: Path, violation: Violation, run: Replayed, recent: Recent, names: Sequence[str], commit: str = ""
) -> Path:
    """A new folder `<root>/<n>` with report.json, events.txt, diagram.svg and diagram.txt. Returns it.

    `names[i]` is what peer i is called."""
    number = 1
    while (root / str(number)).exists():
        number += 1
    folder = root / str(number)
    folder.mkdir(parents=True)
    report = Report(
        seed=run.seed,
        scenario=run.scenario,
        injections=run.injections,
        checker=violation.checker,
        detail=violation.detail,
        peer=violation.peer,
        peer_name=names[violation.peer] if 0 <= violation.peer < len(names) else "",
        at=violation.now,
        about=violation.about.hex(),
        commit=commit,
        replay=REPLAY.format(folder=folder),
    )
    (folder / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    (folder / "events.txt").write_text("\n".join(recent.lines(names)) + "\n", encoding="utf-8")
    diagram = lamport.select(recent.events, violation.peer, violation.about)
    title = str(violation)
    (folder / "diagram.svg").write_text(lamport.svg(diagram, names, title, violation.peer), encoding="utf-8")
    (folder / "diagram.txt").write_text(lamport.text(diagram, names, title), encoding="utf-8")
    return folder


def read_report(folder: Path) -> Report:
    """What `write_report` wrote. Raises `msgspec.DecodeError` or `OSError` when it is not whole."""
    return msgspec.json.decode((folder / "report.json").read_bytes(), type=Report)
