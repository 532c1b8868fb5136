"""The simulator's driver: performs the effects of all peers on virtual time. Its twin is node/driver.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from zlib import crc32

from protocol import wire
from protocol.completions import Completion, Overheard
from protocol.effects import (
    Compute,
    Cut,
    Effect,
    Emit,
    Encode,
    Examine,
    Fail,
    Fetch,
    Forget,
    Hear,
    LetGo,
    Machine,
    Park,
    Prove,
    Publish,
    Run,
    Score,
    Send,
    Stop,
    Store,
    Unpark,
)
from protocol.errors import ShoalError
from protocol.jobspec import ZERO_DIGEST
from protocol.messages import Head, JobNotice, Message, Offer, message_decoder
from protocol.units import Digest, Micros, PeerId
from simulations.auditor import Auditor
from simulations.examining import Examining
from simulations.fetching import Fetching
from simulations.library import Library
from simulations.network import Network
from simulations.observer import Observer
from simulations.protecting import parked_name
from simulations.queue import Queue
from simulations.recorder import Recorder
from simulations.returning import Returning
from simulations.scenario import NS
from simulations.simpeer import SimPeer
from simulations.tasks import Task
from simulations.worker import BOOT_NS, OPEN_RATE, PARKED_NS, START_NS, Worker

ENVELOPE_BYTES = 64
"""Bytes that Noise, yamux and TCP/IP add to a small message."""

TICK_GAP_NS = 1_000_000
"""Between two ticks of a peer, ns: the live driver never sleeps shorter either."""

TICK = 0x71C4
"""The auditor's code of a tick: a tick has no content."""

Parcel = tuple[SimPeer, PeerId, Message | Completion, int]
"""To whom, from whom, what, and a checksum of it."""


class Driver:
    """Feeds messages, completions and time to the machines, and performs what they ask for."""

    def __init__(
        self,
        queue: Queue,
        network: Network,
        library: Library,
        peers: list[SimPeer],
        recorder: Recorder,
        observers: Sequence[Observer],
        replay: Callable[[], bool],
        acted: Callable[[SimPeer], None],
    ) -> None:
        """`replay`: whether this direct message comes twice. `acted`: a peer's machines have just acted."""
        self._queue = queue
        self._network = network
        self._peers = peers
        self._index: dict[bytes, int] = {peer.id: peer.index for peer in peers}
        self._recorder = recorder
        self._replay = replay
        self._acted = acted
        self._handled = [item.handled for item in observers if type(item).handled is not Observer.handled]
        self._sent = [item.sent for item in observers if type(item).sent is not Observer.sent]
        self._observers = observers
        self._library = library
        self._fetching = Fetching(queue, network, library, peers, self._index, self.give)
        self._fetching.came = self._came
        self._examining = Examining(queue, library, self._fetching, self)
        self.auditor = Auditor()
        self.worker: Worker
        self.end: Callable[[SimPeer], None]
        """Kill a peer whose machine broke."""
        self.unwritten: Callable[[SimPeer, ShoalError], None]
        """The disk took no more: full, or the power went away."""
        self.restoring: Callable[[SimPeer], None] = lambda peer: None
        """A peer begins to bring a snapshot back."""
        self.publish: Callable[[SimPeer, Publish], None]
        self.is_checked = False
        """Encode and decode every message on its way."""

    # ── in ───────────────────────────────────────────────────────────────────────────────────────────────────────────
    def command(self, peer: SimPeer, machine: Machine, act: Callable[..., list[Effect]]) -> None:
        """Call a method of a machine for the peer's owner. `Refused` goes to the caller."""
        if not peer.has(machine):
            raise ValueError("a machine of an earlier boot")
        effects = act(peer.clock.read(self._queue.now))
        self._after(
            peer, f"command to {type(machine).__name__}", peer.peer.absorb(peer.peer.index(machine), effects), 1
        )

    def hear(self, peer: SimPeer, statement: wire.Signed, body: Message, code: int) -> None:
        """A gossiped statement has arrived. Who keeps a book keeps it as it was signed too, for those who missed it."""
        self._receive((peer, PeerId(statement.signer), body, code))
        if peer.keeps_book and peer.is_up and isinstance(body, Offer | JobNotice | Head):
            now, node, heard = peer.clock.read(self._queue.now), peer.peer, Overheard(statement, body)
            effects = self._guarded(peer, lambda: node.receive(peer.id, heard, now))
            if effects:
                self.perform(peer, effects)
            self.wake(peer)

    def give(self, peer: SimPeer, boot: int, completion: Completion) -> None:
        """A completion of work that was started in this boot of the peer."""
        if peer.is_up and peer.boots == boot:
            self._receive((peer, peer.id, completion, crc32(type(completion).__name__.encode())))

    def _receive(self, parcel: Parcel) -> None:
        peer, sender, message, code = parcel
        if not peer.is_up:
            return
        now = self._queue.now
        if now < peer.starved_until:
            self._queue.at(peer.starved_until, self._receive, parcel)
            return
        if now >= peer.strategy.at and not peer.strategy.hears(peer, sender, message, now):
            return
        self._turn(peer, sender, message, code)

    def tick(self, peer: SimPeer) -> None:
        """A wake-up is due."""
        if peer.is_up and peer.wake_at == self._queue.now:
            if peer.wake_at < peer.starved_until:
                peer.wake_at = peer.starved_until
                self._queue.at(peer.wake_at, self.tick, peer)
                return
            peer.wake_at = -1
            self._turn(peer, peer.id, None, TICK)

    def begin(self, peer: SimPeer, machine: Machine, act: Callable[[Micros], list[Effect]]) -> bool:
        """A command at the start of a peer: a machine that cannot go on from what its disk holds ends the node.

        False: the peer is down again."""
        now = peer.clock.read(self._queue.now)
        effects = self._guarded(peer, lambda: act(now))
        if effects is not None:
            self._after(peer, "start", peer.peer.absorb(peer.peer.index(machine), effects), 1)
        return peer.is_up

    def _turn(self, peer: SimPeer, sender: PeerId, message: Message | Completion | None, code: int) -> None:
        """Let a peer's machines take a message, or time (None)."""
        now, node = peer.clock.read(self._queue.now), peer.peer
        effects = self._guarded(peer, lambda: node.tick(now) if message is None else node.receive(sender, message, now))
        if effects is not None:
            self._after(peer, message, effects, code)

    def _guarded(self, peer: SimPeer, act: Callable[[], list[Effect]]) -> list[Effect] | None:
        """What a machine asks for, or None when it broke: that is what the simulator looks for."""
        try:
            return act()
        except Exception as error:  # noqa: BLE001  Whatever it breaks with.
            self.crash(peer, error)
            return None

    def _after(self, peer: SimPeer, cause: object, effects: list[Effect], code: int) -> None:
        now = self._queue.now
        self.auditor.note(now, peer.index, code)
        if now >= peer.strategy.at:
            effects = peer.strategy.acts(peer, effects, now)
        for see in self._handled:
            see(peer, cause, effects, now)
        if effects:
            self.perform(peer, effects)
            self._acted(peer)
        self.wake(peer, 0 if cause is not None else TICK_GAP_NS)

    def wake(self, peer: SimPeer, least: int = 0) -> None:
        """Schedule the peer's next tick, once, in `least` ns or later."""
        due = peer.peer.next_wake
        if due is None or not peer.is_up:
            return
        at = max(peer.clock.when(due), self._queue.now + least)
        if peer.wake_at < 0 or at < peer.wake_at:
            peer.wake_at = at
            self._queue.at(at, self.tick, peer)

    def crash(self, peer: SimPeer, error: Exception) -> None:
        """A machine broke its contract: the node ends, and whoever watches hears why."""
        self.end(peer)
        self._recorder.count("peers/crashed")
        for observer in self._observers:
            observer.crashed(peer, error, self._queue.now)

    # ── out ──────────────────────────────────────────────────────────────────────────────────────────────────────────
    def perform(self, peer: SimPeer, effects: list[Effect]) -> None:
        """Act, in order, as long as the peer lives. A `Store` is on disk before the next effect happens."""
        for effect in effects:
            if not peer.is_up:
                return
            match effect:
                case Send(target, message):
                    self._send(peer, target, message)
                case Publish():
                    self.publish(peer, effect)
                case Hear(statement, body):
                    parcel = (peer, PeerId(statement.signer), body, crc32(statement.signature))
                    self._queue.at(self._queue.now, self._receive, parcel)
                case Store(key, value):
                    try:
                        peer.disk.put(key, value)
                    except ShoalError as error:
                        self.unwritten(peer, error)
                case Compute(Fetch() as fetch):
                    self._fetching.fetch(peer, fetch)
                case Compute(Run() as run):
                    self._start(peer, run)
                case Compute(Examine() as examine):
                    self._examining.examine(peer, examine)
                case Compute(LetGo(shards)):
                    self._examining.drop(peer, shards)
                case Compute(Stop(task)):
                    if not self._examining.stop(peer, task):
                        self.worker.stop(peer, task)
                case Compute(Score() as score):
                    self._score(peer, score)
                case Compute(Park() | Unpark() | Cut() | Encode() | Prove() | Forget() as work):
                    self._protect(peer, work)
                case Emit(name):
                    self._recorder.count(f"emit/{name}")
                case Fail(error):
                    self._recorder.count(f"fault/{error.code}")

    def _send(self, peer: SimPeer, target: PeerId, message: Message) -> None:
        queue, index = self._queue, self._index.get(target)
        if index is None:
            self._recorder.count("messages/unknown_peer")
            return
        data = wire.encode(message)
        if len(data) > wire.MESSAGE_BYTES_MAX:
            kind = type(message).__name__
            self.crash(peer, ValueError(f"{kind} of {len(data)} bytes, {wire.MESSAGE_BYTES_MAX} allowed"))
            return
        if self.is_checked:
            message = wire.decode(data, message_decoder, peer.id)
        parcel = (self._peers[index], peer.id, message, crc32(data))
        if index == peer.index:
            queue.at(queue.now, self._receive, parcel)
            return
        at = self._network.arrival(peer.index, index, len(data) + ENVELOPE_BYTES, queue.now)
        for see in self._sent:
            see(peer.index, index, message, queue.now, at)
        self._recorder.count("messages/sent")
        if at < 0:
            self._recorder.count("messages/lost")
            return
        queue.at(at, self._receive, parcel)
        if self._replay():
            again = self._network.arrival(peer.index, index, len(data) + ENVELOPE_BYTES, at)
            if again >= 0:
                self._recorder.count("messages/replayed")
                queue.at(again, self._receive, parcel)

    # ── work ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _start(self, peer: SimPeer, run: Run) -> None:
        """Inputs first, all of them; then the snapshot, if there is one; then the sandbox."""
        is_parked = peer.parked.pop(parked_name(run.task), False)
        boot_ns = self._boot_ns(run)
        if is_parked:
            boot_ns = PARKED_NS

        def then(why: str) -> None:
            if why:
                self.worker.failed(peer, boot, run, why)
            elif run.resume is not None:
                self._resume(peer, run, boot_ns)
            else:
                task = self.worker.run(peer, run, 0, boot_ns)
                self._resumed(task, "none", 0, 0)

        boot = peer.boots
        self._fetching.bring(peer, self._inputs(run), run.sources, then)

    def _inputs(self, run: Run) -> list[tuple[Digest, bool]]:
        files = [(Digest(file.digest), False) for file in run.spec.files] + [(output, True) for output in run.outputs]
        opened = [(Digest(leaf.state), False) for leaf in run.units if leaf.state != ZERO_DIGEST]
        return [*files, *opened, *([(run.result, True)] if run.result != ZERO_DIGEST else [])]

    def _score(self, peer: SimPeer, score: Score) -> None:
        """What was claimed from its provider, what was replayed from its auditor; then they are compared."""
        boot = peer.boots
        claimed = [(digest, False) for item in score.items for digest in (item.claimed, item.claimed_aux)]
        replayed = [(digest, False) for item in score.items for digest in (item.replayed, item.replayed_aux)]

        def compared(why: str) -> None:
            self.give(peer, boot, self.worker.proving.compare(peer, score))

        def and_replayed(why: str) -> None:
            self._fetching.bring(peer, _there(replayed), (score.auditor,), compared)

        self._fetching.bring(peer, _there(claimed), (score.provider,), and_replayed)

    def _boot_ns(self, run: Run) -> int:
        return BOOT_NS if self.worker.state_of(run) else START_NS

    def _resume(self, peer: SimPeer, run: Run, boot_ns: int) -> None:
        """Bring the snapshot here while the sandbox starts; without it the job runs from the beginning."""
        assert run.resume is not None
        manifest, began = run.resume.manifest, self._queue.now

        def then(why: str, brought: list[Digest]) -> None:
            if run.task in peer.stopped:
                return
            waited = self._queue.now - began
            rest = max(0, boot_ns - waited) + (0 if why else manifest.size * NS // OPEN_RATE)
            self._examining.drop(peer, brought)
            task = self.worker.run(peer, run, 0 if why else manifest.step, rest)
            if not why and task.first != manifest.step:
                why = "snapshot_bad"
            self._resumed(task, why, waited + rest, len(brought))

        self.restoring(peer)
        if peer.is_up:
            Returning(peer, run.resume, self._fetching, self._library, self._queue, then)

    def _came(self, digest: Digest, size: int) -> None:
        kind = "shards" if digest in self.worker.protecting.shards else "blobs"
        self._recorder.count(f"bytes/{kind}", size)

    def _resumed(self, task: Task, why: str, waited: int, brought: int) -> None:
        if task.run.lease is not None:
            for observer in self._observers:
                observer.resumed(task, why, waited, brought, self._queue.now)

    def _protect(self, peer: SimPeer, work: Park | Unpark | Cut | Encode | Prove | Forget) -> None:
        protecting = self.worker.protecting
        match work:
            case Cut():
                protecting.cut(peer, work)
            case Encode():
                protecting.encode(peer, work)
            case Prove():
                protecting.prove(peer, work)
            case Forget():
                protecting.forget(peer, work)
            case Unpark():
                protecting.unpark(peer, work)
            case Park(run):
                peer.parked[run.task] = False
                boot = peer.boots

                def then(why: str) -> None:
                    if why:
                        self.worker.failed(peer, boot, run, why)
                    else:
                        protecting.park(peer, work, self._boot_ns(run))

                self._fetching.bring(peer, self._inputs(run), run.sources, then)


def _there(blobs: list[tuple[Digest, bool]]) -> list[tuple[Digest, bool]]:
    """Without those that stand for nothing."""
    return [blob for blob in blobs if blob[0] != ZERO_DIGEST]
