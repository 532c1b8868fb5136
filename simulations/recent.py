"""The last thousand events of a run, kept as they are and described only when somebody asks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from protocol.completions import FetchFailed, RunDone
from protocol.effects import Compute, Effect, Emit, Fail, Fetch, Publish, Run, Send, Stop, Store
from protocol.identity import peer_text
from simulations.observer import Observer
from simulations.scenario import NS, Injection
from simulations.subject import Subject

KEPT: Final = 1_000
"""Events in a report: enough for the last seconds of a small world, and a file that people can still read."""


class Handled(NamedTuple):
    """A peer's machines took something in, or time."""

    now: int
    peer: int
    cause: object
    effects: list[Effect]


class Sent(NamedTuple):
    """A message left a peer."""

    now: int
    source: int
    target: int
    message: object
    arrives: int
    """Simulated nanoseconds; -1: lost."""


class Moved(NamedTuple):
    """A peer was started or killed."""

    now: int
    peer: int
    is_up: bool


class Injected(NamedTuple):
    """A fault began."""

    now: int
    injection: Injection


Event = Handled | Sent | Moved | Injected


class Recent(Observer):
    """An observer that remembers. Ticks without any effect are left out."""

    def __init__(self, kept: int = KEPT) -> None:
        self.events: deque[Event] = deque(maxlen=kept)

    def handled(self, peer: Subject, cause: object, effects: list[Effect], now: int) -> None:
        if effects or cause is not None:
            self.events.append(Handled(now, peer.index, cause, effects))

    def sent(self, source: int, target: int, message: object, now: int, arrives: int) -> None:
        self.events.append(Sent(now, source, target, message, arrives))

    def moved(self, peer: Subject, is_up: bool, now: int) -> None:
        self.events.append(Moved(now, peer.index, is_up))

    def injected(self, injection: Injection, now: int) -> None:
        self.events.append(Injected(now, injection))

    def lines(self, names: Sequence[str]) -> Iterator[str]:
        """One line per event, oldest first: time in seconds, who, what."""
        for event in self.events:
            if isinstance(event, Sent):
                how = f"arrives {event.arrives / NS:.6f}" if event.arrives >= 0 else "LOST"
                yield (
                    f"{event.now / NS:12.6f}  {name_of(names, event.source):<12} sends {describe(event.message)}"
                    f" to {name_of(names, event.target)}, {how}"
                )
                continue
            if isinstance(event, Moved):
                how = "STARTED" if event.is_up else "KILLED"
                yield f"{event.now / NS:12.6f}  {name_of(names, event.peer):<12} {how}"
                continue
            if isinstance(event, Injected):
                yield f"{event.now / NS:12.6f}  {'fault':<12} {fault_text(event.injection, names)}"
                continue
            why = "tick" if event.cause is None else f"takes {describe(event.cause)}"
            does = "; ".join(done for effect in event.effects if (done := effect_text(effect)))
            yield f"{event.now / NS:12.6f}  {name_of(names, event.peer):<12} {why}{f' -> {does}' if does else ''}"


def name_of(names: Sequence[str], peer: int) -> str:
    """What a peer is called; its number when it has no name."""
    return names[peer] if 0 <= peer < len(names) else f"peer {peer}"


def fault_text(injection: Injection, names: Sequence[str]) -> str:
    """A fault in a few words."""
    who = ", ".join(name_of(names, peer) for peer in injection.peers) or "everybody"
    way = " one way" if injection.one_way else ""
    disk = f" {injection.disk}" if injection.kind == "disk" else ""
    amount = f" {injection.amount:g}" if injection.amount else ""
    return f"{injection.kind}{way}{disk}{amount} of {who} until {injection.until / NS:.3f}"


def describe(message: object) -> str:
    """A message in a few words: its kind, and what it is about."""
    if isinstance(message, str):
        return message
    kind = type(message).__name__
    parts: list[str] = []
    escrow = getattr(message, "escrow", None)
    if isinstance(escrow, bytes):
        parts.append(escrow.hex()[:6])
    for name in ("chunk", "epoch", "height", "code"):
        value = getattr(message, name, None)
        if value is not None:
            parts.append(f"{name} {value}")
    header = getattr(message, "header", None)
    if getattr(header, "height", None) is not None:
        parts.append(f"block {header.height}")  # type: ignore[union-attr]  # Only a header has a height.
    operations = getattr(message, "operations", None)
    if isinstance(operations, tuple):
        parts.append(f"{len(operations)} op{'s' if len(operations) != 1 else ''}")
    if isinstance(message, RunDone):
        parts += [message.task, message.reason]
    elif isinstance(message, FetchFailed):
        parts.append(message.reason)
    return f"{kind}({', '.join(parts)})" if parts else kind


def effect_text(effect: Effect) -> str:
    """An effect in a few words; '' for those that have lines of their own."""
    match effect:
        case Send(peer, message):
            return f"send {describe(message)} to {peer_text(peer)[-6:]}"
        case Publish(topic, _):
            return f"publish on {topic}"
        case Store(key, value):
            return f"{'forget' if value is None else 'store'} {key[:40]}"
        case Compute(Run(task=task)):
            return f"run {task}"
        case Compute(Stop(task)):
            return f"stop {task}"
        case Compute(Fetch(digest=digest)):
            return f"fetch {digest.hex()[:8]}"
        case Emit(name, fields):
            return f"{name} {' '.join(str(value)[:24] for value in fields.values())}"
        case Fail(error):
            return f"FAIL {type(error).__name__} {error.code}: {error.detail}"
        case _:
            return ""
