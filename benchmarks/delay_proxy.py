"""Links with a known delay, in user space: one process relays TCP connections and holds every byte for its link's time.

The kernels of many machines come without `netem`; this needs nothing. Noise authenticates the peers behind a relay,
so a node dials the relay's port as if it were its neighbour's. Reads one line of JSON (`Links`) from standard input,
answers with the ports (`Ports`), and to the next line (`Stop`) with how late it was (`Lateness`).
"""

from __future__ import annotations

import asyncio
import resource
import select
import selectors
import sys
from array import array
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct

LATE_MAX: Final = 1_000_000
"""Passages whose lateness is kept: eight megabytes, minutes of a busy network."""


class Links(Struct, frozen=True):
    """For each link where it leads and what it holds back, in each direction."""

    links: tuple[tuple[int, int], ...]
    """(port of the target on 127.0.0.1, delay in ns)."""


class Ports(Struct, frozen=True):
    """Where to dial, in the order of the links."""

    ports: tuple[int, ...]


class Stop(Struct, frozen=True):
    """The end."""


class Lateness(Struct, frozen=True):
    """What the relay added to the delays: the time from when bytes were due until they were handed to the kernel."""

    passages: int
    mean_ms: float
    p99_ms: float
    cpu_s: float
    connections: int


class FineSelector(selectors.EpollSelector):
    """epoll rounds its timeout up to whole milliseconds; select() on the epoll descriptor takes microseconds."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0:
            select.select([self.fileno()], [], [], timeout)
            timeout = 0
        return super().select(timeout)


class Side(asyncio.Protocol):
    """One end of a relayed connection. What it reads, `other` writes when the delay has passed, in the same order."""

    def __init__(self, relay: Relay, delay_s: float, target: int | None) -> None:
        self._relay = relay
        self._delay_s = delay_s
        self._target = target
        self._held: deque[tuple[float, bytes | None]] = deque()
        self._connecting: asyncio.Task[None] | None = None
        self.transport: asyncio.Transport | None = None
        self.other: Side | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self._target is not None:
            transport.pause_reading()
            self._connecting = asyncio.get_running_loop().create_task(self._connect(self._target))

    def data_received(self, data: bytes) -> None:
        self._hold(data)

    def eof_received(self) -> bool:
        self._hold(None)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._hold(None)

    async def _connect(self, port: int) -> None:
        assert self.transport is not None
        loop = asyncio.get_running_loop()
        try:
            _, far = await loop.create_connection(lambda: Side(self._relay, self._delay_s, None), "127.0.0.1", port)
        except OSError:
            self.transport.abort()
            return
        self.other, far.other = far, self
        self._relay.connections += 1
        self.transport.resume_reading()

    def _hold(self, data: bytes | None) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._delay_s
        self._held.append((due, data))
        loop.call_at(due, self._pass)

    def _pass(self) -> None:
        """The oldest goes, whichever timer this is: timers of one side fire as often as it holds something."""
        due, data = self._held.popleft()
        far = self.other.transport if self.other is not None else None
        if far is None or far.is_closing():
            return
        if data is None:
            far.close()
            return
        far.write(data)
        if len(self._relay.late) < LATE_MAX:
            self._relay.late.append(asyncio.get_running_loop().time() - due)


class Relay:
    """All links of one network."""

    def __init__(self) -> None:
        self.late = array("d")
        self.connections = 0

    async def open(self, links: Links) -> Ports:
        """A port for each link, accepting from now on."""
        loop = asyncio.get_running_loop()
        ports = []
        for target, delay in links.links:
            server = await loop.create_server(self._maker(delay / 1e9, target), "127.0.0.1", 0)
            ports.append(server.sockets[0].getsockname()[1])
        return Ports(tuple(ports))

    def lateness(self) -> Lateness:
        """How well the delays were kept until now."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        late = sorted(self.late) or [0.0]
        mean, p99 = sum(late) / len(late), late[int(0.99 * (len(late) - 1))]
        return Lateness(len(self.late), mean * 1e3, p99 * 1e3, usage.ru_utime + usage.ru_stime, self.connections)

    def _maker(self, delay_s: float, target: int) -> Callable[[], Side]:
        return lambda: Side(self, delay_s, target)


async def main() -> None:
    """Serve until told to stop."""
    loop = asyncio.get_running_loop()
    links = msgspec.json.decode(await loop.run_in_executor(None, sys.stdin.readline), type=Links)
    relay = Relay()
    print(msgspec.json.encode(await relay.open(links)).decode(), flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    print(msgspec.json.encode(relay.lateness()).decode(), flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(FineSelector())) as runner:
        runner.run(main())
