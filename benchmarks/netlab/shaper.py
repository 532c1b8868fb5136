"""A link with delay, jitter, loss, a rate and a queue, in user space: one process between two TUN devices.

The kernels of many machines come without `netem`. This process holds both ends of a link as file descriptors; every
packet that the kernel routes into one leaves through the other when the link's time has come, or never. What befalls
the n-th packet of a direction depends on the seed and n alone. Arguments: the descriptors of the inner and the outer
device. Every line of standard input is a `Link` and is answered by `Passed`; the end of the input ends it.
"""

from __future__ import annotations

import os
import random
import select
import sys
import time
from collections import deque
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

PACKET_BYTES_MAX: Final = 9_216
"""Larger than any MTU in use here."""

BATCH_MAX: Final = 128
"""Packets read from one side before the other gets its turn."""

NS: Final = 1_000_000_000


class Flow(Struct, frozen=True, forbid_unknown_fields=True):
    """One direction of a link. Packets never overtake each other."""

    delay_ms: Annotated[float, Meta(ge=0, le=60_000)] = 0.0
    jitter_ms: Annotated[float, Meta(ge=0, le=60_000)] = 0.0
    """Added to the delay, evenly drawn between nothing and this."""
    loss: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Share of packets that vanish."""
    rate_kbit: Annotated[float, Meta(ge=0)] = 0.0
    """Kilobits (1000) a second, 0: as fast as it goes."""
    queue_bytes: Annotated[int, Meta(ge=1_500)] = 65_536
    """What waits for its turn at that rate; more is dropped. Half a second at 1 Mbit/s: a usual home router."""
    size_max: Annotated[int, Meta(ge=68)] = PACKET_BYTES_MAX
    """Larger packets vanish without a word, as behind a tunnel that nobody configured."""


class Link(Struct, frozen=True, forbid_unknown_fields=True):
    """Both directions: `up` leaves the house."""

    up: Flow = Flow()
    down: Flow = Flow()
    seed: int = 0


def both(flow: Flow, seed: int = 0) -> Link:
    """The same in both directions."""
    return Link(flow, flow, seed)


class Passed(Struct, frozen=True):
    """What became of the packets since the start: (up, down) each."""

    passed: tuple[int, int]
    lost: tuple[int, int]
    overflowed: tuple[int, int]
    bytes: tuple[int, int]


class Pipe:
    """One direction: packets in at `source`, out at `target`."""

    def __init__(self, source: int, target: int) -> None:
        self.source = source
        self._target = target
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._free = 0
        """When the last bit that was accepted has left, in ns."""
        self.set(Flow(), 0)
        self.passed = self.lost = self.overflowed = self.bytes = 0

    def set(self, flow: Flow, seed: int) -> None:
        """Other properties from the next packet on; what waits keeps its time."""
        self._flow = flow
        self._dice = random.Random(seed)
        self._delay = int(flow.delay_ms * 1e6)
        self._jitter = flow.jitter_ms * 1e6
        self._ns_per_byte = 8e6 / flow.rate_kbit if flow.rate_kbit else 0.0
        self._queue_ns = int(flow.queue_bytes * self._ns_per_byte)

    def read(self, now: int) -> None:
        """Take what has come."""
        for _ in range(BATCH_MAX):
            try:
                packet = os.read(self.source, PACKET_BYTES_MAX)
            except BlockingIOError:
                return
            self._admit(packet, now)

    def _admit(self, packet: bytes, now: int) -> None:
        flow = self._flow
        if (flow.loss and self._dice.random() < flow.loss) or len(packet) > flow.size_max:
            self.lost += 1
            return
        due = now
        if self._ns_per_byte:
            starts = max(now, self._free)
            if starts - now > self._queue_ns:
                self.overflowed += 1
                return
            due = self._free = starts + int(len(packet) * self._ns_per_byte)
        due += self._delay
        if self._jitter:
            due += int(self._dice.random() * self._jitter)
        if self._waiting:
            due = max(due, self._waiting[-1][0])
        self._waiting.append((due, packet))

    def write(self, now: int) -> int | None:
        """Send what is due; when the next one is, None when nothing waits."""
        waiting = self._waiting
        while waiting and waiting[0][0] <= now:
            packet = waiting.popleft()[1]
            try:
                os.write(self._target, packet)
            except OSError:
                self.lost += 1  # The device is down.
                continue
            self.passed += 1
            self.bytes += len(packet)
        return waiting[0][0] if waiting else None


def serve(up: Pipe, down: Pipe) -> None:
    """Until standard input ends."""
    commands = sys.stdin.fileno()
    while True:
        now = time.monotonic_ns()
        dues = [due for due in (up.write(now), down.write(now)) if due is not None]
        wait = max(0, min(dues) - time.monotonic_ns()) / NS if dues else None
        ready = select.select([up.source, down.source, commands], [], [], wait)[0]
        now = time.monotonic_ns()
        for pipe in (up, down):
            if pipe.source in ready:
                pipe.read(now)
        if commands in ready and not _obey(up, down):
            return


def _obey(up: Pipe, down: Pipe) -> bool:
    """Read one command and answer it; False at the end."""
    line = sys.stdin.readline()
    if not line:
        return False
    link = msgspec.json.decode(line, type=Link)
    up.set(link.up, 2 * link.seed)
    down.set(link.down, 2 * link.seed + 1)
    pipes = (up, down)
    passed = Passed(
        (up.passed, down.passed),
        (up.lost, down.lost),
        (up.overflowed, down.overflowed),
        (pipes[0].bytes, pipes[1].bytes),
    )
    print(msgspec.json.encode(passed).decode(), flush=True)
    return True


if __name__ == "__main__":
    inner, outer = int(sys.argv[1]), int(sys.argv[2])
    os.set_blocking(inner, False)
    os.set_blocking(outer, False)
    serve(Pipe(inner, outer), Pipe(outer, inner))
