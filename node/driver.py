"""The live driver: the only loop that performs effects and feeds messages and time to a peer's machines.

Everything that waits (dialling, fetching, executing) happens in tasks of the nursery and comes back as a completion.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from node.clock import Clock
from node.events import EventLog
from node.journal import Journal
from node.store import RecordStore
from node.transport import PeerDown, PeerUp, Received, Statement, Transport
from node.work import Works
from protocol.completions import Completion, Neighbour, Overheard
from protocol.effects import Compute, Effect, Emit, Fail, Hear, Machine, Publish, Send, Store, Wake
from protocol.errors import Refused, RemoteViolation, ShoalError
from protocol.messages import Head, JobNotice, Message, Offer
from protocol.peer import Peer
from protocol.units import Micros, PeerId
from protocol.wire import Signed

log = logging.getLogger("shoal.driver")

VIOLATORS_MAX: Final = 4_096
"""Peers whose broken rules are counted; the one that broke none for longest is forgotten first."""

BLOCK: Final = "block/"
"""Prefix of what goes to the journal."""

TURN_MAX: Final = 64
"""Rounds of wake-ups in one turn."""


@dataclass(slots=True)
class World:
    """Everything of the outside that the driver acts on; opened by `node.run`."""

    identity_peer: PeerId
    network: str
    clock: Clock
    transport: Transport
    works: Works
    records: RecordStore
    journal: Journal | None
    events: EventLog


class Driver:
    """Performs effects in order; one instance per node process."""

    def __init__(self, peer: Peer, world: World) -> None:
        self._peer = peer
        self._world = world
        self._first: list[tuple[Machine, Callable[[Micros], list[Effect]]]] = []
        self._local: deque[Message | Completion] = deque()
        self._nursery: trio.Nursery | None = None
        self._woken = trio.Event()
        world.works.give = self.give
        self.violations: dict[PeerId, int] = {}
        """Broken rules per peer, for the status page."""

    async def run(self) -> None:
        """Feed the machines until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for machine, act in self._first:
                self.command(machine, act)
            nursery.start_soon(self._listen)
            while True:
                self._turn()
                await self._wait()

    # ── in ───────────────────────────────────────────────────────────────────────────────────────────────────────────
    def command(self, machine: Machine, act: Callable[[Micros], list[Effect]]) -> None:
        """Run a method of a machine for the node's owner and perform what it asks for. Errors go to the caller."""
        now = self._world.clock.now()
        self.perform(self._peer.absorb(self._peer.index(machine), act(now)))
        self._turn()

    def later(self, machine: Machine, act: Callable[[Micros], list[Effect]]) -> None:
        """A command for as soon as the loop runs."""
        self._first.append((machine, act))

    def give(self, completion: Completion) -> None:
        """A completion from a task of ours."""
        self._local.append(completion)
        self._woken.set()

    async def _listen(self) -> None:
        async for item in self._world.transport.inbox:
            now = self._world.clock.now()
            match item:
                case Received(sender, message):
                    self.perform(self._peer.receive(sender, message, now))
                case Statement():
                    self._hear(item.signed, item.body, now)
                    self.perform(self._peer.receive(self._world.identity_peer, Overheard(item.signed, item.body), now))
                case PeerUp(peer) | PeerDown(peer):
                    name = "peer_up" if isinstance(item, PeerUp) else "peer_down"
                    self._world.events.emit(name, {"peer": peer.hex()}, now)
                    if isinstance(item, PeerUp):
                        self.perform(self._peer.receive(self._world.identity_peer, Neighbour(peer), now))
            self._turn()

    def _hear(self, statement: Signed, body: Offer | JobNotice | Head, now: Micros) -> None:
        """It has been opened: signature, kind and encoding are right."""
        signer = PeerId(statement.signer)
        if isinstance(body, Offer):
            self._world.transport.learn(signer, list(body.addresses))
        self.perform(self._peer.receive(signer, body, now))

    def _turn(self) -> None:
        """Local messages and due wake-ups until both are done; bounded, so that the network is heard in between."""
        for _ in range(TURN_MAX):
            now = self._world.clock.now()
            while self._local:
                self.perform(self._peer.receive(self._world.identity_peer, self._local.popleft(), now))
            due = self._peer.next_wake
            if due is None or due > now:
                break
            self.perform(self._peer.tick(now))
        self._woken.set()

    async def _wait(self) -> None:
        self._woken = trio.Event()
        due = self._peer.next_wake
        delay = max(0.001, (due - self._world.clock.now()) / 1e6) if due is not None else 3600.0
        if not self._local:
            with trio.move_on_after(delay):
                await self._woken.wait()
        else:
            await trio.lowlevel.checkpoint()

    # ── out ──────────────────────────────────────────────────────────────────────────────────────────────────────────
    def perform(self, effects: list[Effect]) -> None:
        """Act, in order. A `Store` is on disk before the next effect happens."""
        assert self._nursery is not None or not effects
        records: list[tuple[str, bytes | None]] = []
        """Of stores in a row: they reach the disk together."""
        for effect in effects:
            if isinstance(effect, Store) and not effect.key.startswith(BLOCK):
                records.append((effect.key, effect.value))
                continue
            if records:
                self._world.records.put_all(records)
                records = []
            match effect:
                case Send(peer, message) if peer == self._world.identity_peer:
                    self._local.append(message)
                case Send(peer, message):
                    self._world.transport.send_nowait(peer, message)
                case Publish(topic, statement):
                    self._spawn(self._publish, topic, statement)
                case Hear(statement, body):
                    self._hear(statement, body, self._world.clock.now())
                case Store(_, value):
                    assert self._world.journal is not None and value is not None
                    self._world.journal.append([value])
                case Compute(work):
                    self._world.works.begin(work, self._spawn)
                case Emit(name, fields):
                    self._world.events.emit(name, fields, self._world.clock.now())
                case Fail(error):
                    self._failed(error)
                case Wake():
                    raise AssertionError("wake-ups stay with the peer")
        if records:
            self._world.records.put_all(records)

    def _spawn(self, task: Callable[..., object], *args: object) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(task, *args)  # type: ignore[arg-type]

    async def _publish(self, topic: str, statement: Signed) -> None:
        try:
            await self._world.transport.publish(topic, statement)
        except Refused as error:
            self._failed(error)

    def _failed(self, error: ShoalError) -> None:
        fields: dict[str, str | int] = {"code": error.code, "detail": error.detail}
        if isinstance(error, RemoteViolation):
            self.violations[error.peer] = self.violations.pop(error.peer, 0) + 1
            while len(self.violations) > VIOLATORS_MAX:
                del self.violations[next(iter(self.violations))]
            fields["peer"] = error.peer.hex()
        log.warning("%s: %s", error.code, error.detail)
        self._world.events.emit("fault", fields, self._world.clock.now())
