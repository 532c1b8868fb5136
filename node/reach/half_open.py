"""Dials from the listening port that nobody has answered yet: given up by their caller, kept open for the next one.

    stream = await open_from("11.3.0.2", 21965, ("0.0.0.0", 4301))

A router remembers the first packet of a dial for two minutes. When the socket behind it is closed meanwhile, and then
the other end dials us, its packet passes the router and reaches our listener, whose answer has other numbers than the
router remembers: Linux drops it as invalid, like everything else between the two ports from then on, until the two
minutes are over (nf_conntrack, state SYN_SENT2). With the socket still open the two dials merge instead. So a cancelled
dial stays open until another one between the same two ports begins, or until routers have forgotten it.
Spec: specs/20-relays.md.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from errno import EINPROGRESS
from typing import Final

import trio

from node.reach.sockets import reset_at_end

KEPT_S: Final = 120.0
"""Seconds for which a dial is kept: `nf_conntrack_tcp_timeout_syn_sent` of Linux; hardly any router waits longer."""

ANSWERED_S: Final = 1.0
"""Seconds for which a dial that was answered meanwhile waits for somebody to go on with it."""

KEPT_MAX: Final = 64
"""Dials kept; the oldest are ended first. Four addresses of sixteen punches."""

_ANSWERED: Final = (1, 3)
"""States of TCP: ESTABLISHED, and SYN_RECV of two dials that are about to merge. TCP_INFO begins with the state."""

_Ends = tuple[str, int, str, int]
"""Own address and port, the other's address and port."""


@dataclass(slots=True)
class _Kept:
    sock: socket.socket
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    is_taken: bool = False


_kept: Final[trio.lowlevel.RunVar[dict[_Ends, _Kept]]] = trio.lowlevel.RunVar("half_open")


async def open_from(host: str, port: int, source: tuple[str, int]) -> trio.SocketStream:
    """A connection from the local (ip, port) `source` to an IP address. OSError: refused, unreachable, port taken."""
    ends = (*source, host, port)
    sock = _taken(ends) or _begun(ends)
    try:
        await _answered(sock)
    except trio.Cancelled:
        _keep(ends, sock)
        raise
    except OSError:
        sock.close()
        raise
    return trio.SocketStream(trio.socket.from_stdlib_socket(sock))


def kept() -> int:
    """How many dials are kept."""
    return len(_all())


def end_all(port: int) -> None:
    """End all that left from a port, without a word to the other ends."""
    for ends, one in list(_all().items()):
        if ends[1] == port:
            one.scope.cancel()


def _all() -> dict[_Ends, _Kept]:
    try:
        return _kept.get()
    except LookupError:
        _kept.set({})
        return _kept.get()


def _taken(ends: _Ends) -> socket.socket | None:
    """The socket of an earlier dial that was answered meanwhile; any other makes room for a fresh first packet."""
    one = _all().pop(ends, None)
    if one is None:
        return None
    one.is_taken = True
    one.scope.cancel()
    if one.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in _ANSWERED:
        return one.sock
    reset_at_end(one.sock)  # Answered and ended by the other side: these two ports are free again at once.
    one.sock.close()
    return None


def _begun(ends: _Ends) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in ends[2] else socket.AF_INET)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(ends[:2])
        code = sock.connect_ex(ends[2:])
        if code not in (0, EINPROGRESS):
            raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    return sock


async def _answered(sock: socket.socket) -> None:
    await trio.lowlevel.wait_writable(sock)
    if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(code, os.strerror(code))


def _keep(ends: _Ends, sock: socket.socket) -> None:
    every = _all()
    while len(every) >= KEPT_MAX:
        every.pop(next(iter(every))).scope.cancel()
    every[ends] = one = _Kept(sock)
    trio.lowlevel.spawn_system_task(_watch, ends, one, name="half-open dial")


async def _watch(ends: _Ends, one: _Kept) -> None:
    """Until somebody takes it, or it is of no use any more: then the other end, if there is one, hears a reset."""
    try:
        with one.scope, trio.move_on_after(KEPT_S):
            await trio.lowlevel.checkpoint_if_cancelled()  # Taken before this task began: the socket may be closed.
            await _answered(one.sock)
            await trio.sleep(ANSWERED_S)
    except OSError:
        pass
    finally:
        if not one.is_taken:
            if _all().get(ends) is one:
                del _all()[ends]
            reset_at_end(one.sock)
            one.sock.close()
