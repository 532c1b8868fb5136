"""trace.json for ui.perfetto.dev: what sampled peers did, as a time line that can be zoomed.

Chrome's Trace Event Format (Google, 2016 revision), written as the run goes. One process per sampled peer, with a track
of messages, one per slot for running chunks and one per lease that is held at the same time; arrows join the sending
and the receipt of messages between sampled peers; faults, kills and starts are instants.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

import msgspec

from protocol.completions import RunDone
from protocol.effects import Compute, Effect, Emit, Run, Send
from protocol.messages import Accept, Beat, Grant
from simulations import chance
from simulations.landing import Landing
from simulations.observer import Observer
from simulations.recent import describe, fault_text
from simulations.scenario import Injection

if TYPE_CHECKING:
    from simulations.subject import Subject
    from simulations.world import World

NAME: Final = "trace.json"

EVENTS_MAX: Final = 2_000_000
"""About 300 MB, as much as the viewer opens in a browser. What comes later is left out, and the last event says so."""

MESSAGE_NS: Final = 1_000
"""Drawn length of a message: sending takes no simulated time, but arrows begin and end at slices."""

MESSAGES: Final = 0
RUNS: Final = 100
LEASES: Final = 1_000
"""Track numbers: messages; slots from 100 on; leases from 1,000 on. The viewer sorts by them."""

Fields = dict[str, object]


class _Lanes:
    """Slices that overlap, on the least number of tracks."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._held: list[str] = []
        self._since: dict[str, tuple[int, int, str]] = {}

    def begin(self, key: str, now: int, name: str) -> None:
        if key in self._since:
            return
        if "" not in self._held:
            self._held.append("")
        lane = self._held.index("")
        self._held[lane] = key
        self._since[key] = (self._first + lane, now, name)

    def end(self, key: str) -> tuple[int, int, str] | None:
        """(track, when it began, name); None when it never did."""
        found = self._since.pop(key, None)
        if found is not None:
            self._held[found[0] - self._first] = ""
        return found

    def open(self) -> list[str]:
        return list(self._since)


class Perfetto(Observer):
    """Writes the trace of a share of the peers. The file appears when the run is over (`close`)."""

    def __init__(self, path: Path, share: float, events_max: int = EVENTS_MAX) -> None:
        """`share` of the peers, 0..1; of every role at least one peer is taken."""
        self._landing = Landing(path)
        self._share = share
        self._left = events_max
        self._flow = 0
        self._runs: dict[int, _Lanes] = {}
        self._leases: dict[int, _Lanes] = {}
        self._names: list[str] = []
        self._now = 0
        self._encode = msgspec.json.Encoder().encode
        self._landing.write(b'{"displayTimeUnit":"ms","traceEvents":[\n')
        self._put({"ph": "M", "name": "process_name", "pid": 0, "tid": 0, "args": {"name": "faults"}})

    # ── who ──────────────────────────────────────────────────────────────────────────────────────────────────────────
    def started(self, world: World) -> None:
        self.watch([peer.name for peer in world.peers], [peer.role for peer in world.peers], world.seed)

    def watch(self, names: Sequence[str], roles: Sequence[str], seed: int) -> None:
        """Draw the sampled peers from the seed, and name their tracks. Peer i is process i + 1."""
        self._names = list(names)
        for role in sorted(set(roles)):
            random = chance.stream(seed, "trace", role)
            for index in _drawn([i for i, one in enumerate(roles) if one == role], self._share, random):
                self._runs[index], self._leases[index] = _Lanes(RUNS), _Lanes(LEASES)
                for tid, fields in ((0, {"name": names[index]}), (0, {"sort_index": index})):
                    name = "process_name" if "name" in fields else "process_sort_index"
                    self._put({"ph": "M", "name": name, "pid": index + 1, "tid": tid, "args": fields})
                self._put(_thread(index, MESSAGES, "messages"))

    @property
    def sampled(self) -> list[int]:
        """Indices of the peers that are traced."""
        return sorted(self._runs)

    # ── what ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def handled(self, peer: Subject, cause: object, effects: list[Effect], now: int) -> None:
        index = peer.index
        if index not in self._runs:
            return
        self._now = now
        runs, leases = self._runs[index], self._leases[index]
        if isinstance(cause, RunDone):
            self._slice(index, runs.end(cause.task), now, {"reason": cause.reason})
        for effect in effects:
            match effect:
                case Send(_, Accept() as accept) if isinstance(cause, Grant):
                    leases.begin(lease_key(cause), now, f"lease {accept.op.hex()[:6]}")
                case Emit("lease_ended", fields):
                    key = f"{fields['job']}/{fields['chunk']}/{fields['epoch']}"
                    self._slice(index, leases.end(key), now, dict(fields))
                case Compute(Run(task=task, chunk=chunk)):
                    runs.begin(task, now, f"chunk {chunk}")

    def sent(self, source: int, target: int, message: object, now: int, arrives: int) -> None:
        here, there = source in self._runs, target in self._runs
        if isinstance(message, Beat) or not (here or there):
            return
        what = describe(message)
        kind = type(message).__name__
        self._flow += 1
        if here:
            to = self._names[target] if target < len(self._names) else str(target)
            self._message(source, now, f"{kind} →" if arrives >= 0 else f"{kind} → lost", {"to": to, "what": what})
        if there and arrives >= 0:
            of = self._names[source] if source < len(self._names) else str(source)
            self._message(target, arrives, f"→ {kind}", {"from": of, "what": what})
        if here and there and arrives >= 0 and source != target:
            arrow = {"cat": "message", "name": kind, "id": self._flow, "tid": MESSAGES}
            self._put({**arrow, "ph": "s", "ts": now / 1_000, "pid": source + 1})
            self._put({**arrow, "ph": "f", "bp": "e", "ts": arrives / 1_000, "pid": target + 1})

    def injected(self, injection: Injection, now: int) -> None:
        name, text = injection.kind, fault_text(injection, self._names)
        last = max(injection.until - now, MESSAGE_NS)
        # A fault has its own process, where it lasts, and a line through everything, where it begins.
        self._put({"ph": "i", "s": "g", "name": name, "ts": now / 1_000, "pid": 0, "tid": 0, "args": {"what": text}})
        self._put(_complete(0, 1 + injection.number, now, last, name, {"what": text}))

    def moved(self, peer: Subject, is_up: bool, now: int) -> None:
        if peer.index not in self._runs:
            return
        if not is_up:
            for lanes in (self._runs[peer.index], self._leases[peer.index]):
                for key in lanes.open():
                    self._slice(peer.index, lanes.end(key), now, {"why": "killed"})
        name = "started" if is_up else "killed"
        self._put({"ph": "i", "s": "p", "name": name, "ts": now / 1_000, "pid": peer.index + 1, "tid": MESSAGES})

    def crashed(self, peer: Subject, error: Exception, now: int) -> None:
        if peer.index in self._runs:
            crash = {"ph": "i", "s": "p", "name": f"crashed: {error}", "ts": now / 1_000}
            self._put({**crash, "pid": peer.index + 1, "tid": MESSAGES})

    def finished(self, now: int) -> None:
        self._now = now
        self.close()

    def close(self) -> None:
        """End what is open and complete the file. Call it also when the run ended with a violation."""
        if not self._landing.is_open:
            return
        for index in self.sampled:
            for lanes in (self._runs[index], self._leases[index]):
                for key in lanes.open():
                    self._slice(index, lanes.end(key), self._now, {"why": "end of the run"})
        end: Fields = {"ph": "i", "s": "g", "name": "end" if self._left > 0 else "trace is full", "pid": 0, "tid": 0}
        self._landing.write(self._encode({**end, "ts": self._now / 1_000}) + b"\n]}\n")
        self._landing.commit()

    def abandon(self) -> None:
        """Leave no file behind."""
        self._landing.abandon()

    # ── how ──────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _message(self, index: int, at: int, name: str, fields: Fields) -> None:
        self._put(_complete(index + 1, MESSAGES, at, MESSAGE_NS, name, fields))

    def _slice(self, index: int, found: tuple[int, int, str] | None, now: int, fields: Fields) -> None:
        if found is None:
            return
        track, since, name = found
        self._put(_complete(index + 1, track, since, max(now - since, 1), name, fields))

    def _put(self, event: Fields) -> None:
        if self._left > 0:
            self._left -= 1
            self._landing.write(self._encode(event) + b",\n")


def lease_key(grant: Grant) -> str:
    """How `lease_ended` will name the lease: job, chunk, epoch. Chunk and epoch stand in the signed assignment."""
    assign = msgspec.msgpack.decode(grant.assign.body, type=_Place)
    return f"{grant.job.hex()}/{assign.chunk}/{assign.epoch}"


class _Place(msgspec.Struct):
    """What is needed of an `Assign`."""

    chunk: int
    epoch: int


def _drawn(of: list[int], share: float, random: Random) -> list[int]:
    """A share of some peers, at least one, in their order."""
    if share <= 0.0 or not of:
        return []
    wanted = min(len(of), max(1, round(share * len(of))))
    for place in range(wanted):
        other = place + int(random.random() * (len(of) - place))
        of[place], of[other] = of[other], of[place]
    return sorted(of[:wanted])


def _thread(index: int, tid: int, name: str) -> Fields:
    return {"ph": "M", "name": "thread_name", "pid": index + 1, "tid": tid, "args": {"name": name}}


def _complete(pid: int, tid: int, at: int, last: int, name: str, fields: Fields) -> Fields:
    """A slice; the format counts in microseconds."""
    return {"ph": "X", "name": name, "ts": at / 1_000, "dur": last / 1_000, "pid": pid, "tid": tid, "args": fields}
