"""Tunnels: a renter's bytes to a port, or to a shell, inside the sandbox of a running chunk. Spec: specs/24-tunnels.md.

`Access` decides who is let in, `Tunnel` is one open tunnel at one of its two nodes: both know no socket and no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from protocol import wire
from protocol.errors import LocalError, Refused, RemoteViolation
from protocol.jobspec import Bytes32, JobSpec, NonNegative
from protocol.messages import ChunkIndex, JobKey
from protocol.overlay.tunnel_frames import SIDE_MAX, Fault, Frame, Kind, credit
from protocol.units import HOUR, KIB, MINUTE, Micros, PeerId
from protocol.wire import Signed

TICKET_SPAN_MAX: Final = HOUR
"""Microseconds that a ticket holds at most: whoever lost one has lost it for an hour."""

IDLE_MAX: Final = Micros(10 * MINUTE)
"""Microseconds without a byte in either direction after which a tunnel is closed."""

WINDOW_BYTES: Final = 192 * KIB
"""Bytes on their way in one direction that nobody has taken yet: below one yamux window of 256 KiB, so that the muxer
never has to stop a link for a tunnel whose reader rests."""

COMMAND_CHARS_MAX: Final = 4 * KIB
"""The command line of `shoal ssh JOB -- command`; escaped it still fits the first line of an HTTP request."""

REQUEST_BYTES_MAX: Final = 24 * KIB
"""An encoded request: command, in four bytes per character, and ticket fit."""

TERM: Final = r"^[A-Za-z0-9._+-]{1,64}$"
"""What a terminal may call itself."""

Port = Annotated[int, Meta(ge=1, le=65_535)]
Side = Annotated[int, Meta(ge=1, le=SIDE_MAX)]


# ── messages ─────────────────────────────────────────────────────────────────────────────────────────────────────────
class Ticket(Struct, frozen=True, forbid_unknown_fields=True, tag="ticket"):
    """The renter lets `bearer` reach one port of one chunk. Signed by the renter as kind `tunnel`."""

    job: JobKey
    chunk: ChunkIndex
    port: Annotated[int, Meta(ge=0, le=65_535)]
    """0 = the shell."""
    bearer: Bytes32
    expires: NonNegative


class OpenPort(Struct, frozen=True, forbid_unknown_fields=True, tag="open_port"):
    """Connect me to a port that the chunk serves on its own loopback."""

    job: JobKey
    chunk: ChunkIndex
    port: Port
    ticket: Signed | None = None


class OpenShell(Struct, frozen=True, forbid_unknown_fields=True, tag="open_shell"):
    """Start a shell, or one command, beside the chunk's own processes."""

    job: JobKey
    chunk: ChunkIndex
    command: Annotated[str, Meta(max_length=COMMAND_CHARS_MAX)] = ""
    """'' = an interactive shell."""
    has_terminal: bool = True
    rows: Side = 24
    columns: Side = 80
    term: Annotated[str, Meta(pattern=TERM)] = "xterm-256color"
    ticket: Signed | None = None

    @property
    def port(self) -> int:
        """The number that stands for the shell in tickets and refusals."""
        return 0


class Opened(Struct, frozen=True, forbid_unknown_fields=True, tag="opened"):
    """It is open; frames follow in both directions."""

    epoch: Annotated[int, Meta(ge=1, le=1_000)]
    """Of the lease: a chunk that moved has a higher one."""


Request = OpenPort | OpenShell
answer_decoder: Final[msgspec.msgpack.Decoder[Opened | Fault]] = msgspec.msgpack.Decoder(Opened | Fault)
request_decoder: Final[msgspec.msgpack.Decoder[Request]] = msgspec.msgpack.Decoder(Request)
ticket_decoder: Final = wire.decoder(Ticket)


# ── who may ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Held:
    """What a provider knows of a lease that it holds now."""

    task: str
    job: bytes
    chunk: int
    epoch: int
    steward: PeerId
    renter: PeerId
    spec: JobSpec
    is_running: bool


@dataclass(frozen=True, slots=True)
class Access:
    """The rules at a provider's door. Refused tells cause and fix; nothing is changed."""

    network: str

    def admit(self, peer: PeerId, request: Request, lease: Held | None, now: Micros) -> Held:
        """The lease that `peer` may reach by this request."""
        if lease is None or not self._is_entitled(peer, request, lease, now):
            raise Refused(
                f"chunk {request.chunk} of this job is not here, or not yours to reach",
                code="no_such_chunk",
                fix="Ask through the gateway or node that carries the job, or with a ticket of its renter.",
            )
        require_declared(lease.spec, request)
        if not lease.is_running:
            raise Refused(
                f"chunk {request.chunk} does not run here now",
                code="chunk_not_running",
                fix="Wait until `shoal job status` shows it running.",
            )
        return lease

    def _is_entitled(self, peer: PeerId, request: Request, lease: Held, now: Micros) -> bool:
        """The steward that carries the job, or whom the renter signed for. A ticket out of date says so."""
        if request.ticket is None:
            return peer == lease.steward
        if request.ticket.signer != lease.renter:
            return False
        ticket = wire.open_signed(request.ticket, self.network, "tunnel", ticket_decoder, peer)
        named = (ticket.job, ticket.chunk, ticket.port, ticket.bearer)
        if named != (request.job, request.chunk, request.port, peer):
            return False
        if not now < ticket.expires <= now + TICKET_SPAN_MAX:
            raise Refused(
                "the ticket has expired, or is for longer than an hour",
                code="ticket_expired",
                fix="Get a new one from the renter; look at both clocks if it is new.",
                numbers={"expires": ticket.expires, "now": now},
            )
        return True


def require_declared(spec: JobSpec, request: Request) -> None:
    """Refused for what the job file does not mention. A reduce step serves what the chunks do."""
    if isinstance(request, OpenShell):
        if not spec.shell:
            fix = "Write `shell: true` into the job file and submit the job again."
            raise Refused("the job file allows no shell", code="no_shell", fix=fix)
    elif request.port not in spec.ports:
        declared = ", ".join(map(str, spec.ports)) or "none"
        raise Refused(
            f"the job declares no port {request.port}; declared: {declared}",
            code="port_not_declared",
            fix=f"Write `ports: [{request.port}]` into the job file and submit the job again.",
            numbers={"port": request.port},
        )


# ── an open tunnel ───────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Counts:
    """Payload bytes that went through a tunnel so far."""

    sent: int
    received: int


ASKER_SENDS: Final = {
    False: frozenset({Kind.DATA, Kind.END, Kind.CREDIT, Kind.FAULT}),
    True: frozenset({Kind.DATA, Kind.END, Kind.CREDIT, Kind.FAULT, Kind.RESIZE}),
}
"""What the renter's side may say, to a port and to a shell."""

SERVER_SENDS: Final = {
    False: frozenset({Kind.DATA, Kind.END, Kind.CREDIT, Kind.FAULT}),
    True: frozenset({Kind.DATA, Kind.END, Kind.CREDIT, Kind.FAULT, Kind.STDERR, Kind.EXIT}),
}
"""What the provider's side may say."""

_BYTES: Final = (Kind.DATA, Kind.STDERR)
_LAST: Final = (Kind.EXIT, Kind.FAULT)


class Tunnel:
    """One tunnel at the node of the renter (`asker`) or at the provider (`server`), over the link between the two."""

    def __init__(self, side: Literal["asker", "server"], other: PeerId, is_shell: bool, now: Micros) -> None:
        mine, theirs = (ASKER_SENDS, SERVER_SENDS) if side == "asker" else (SERVER_SENDS, ASKER_SENDS)
        self._says, self._hears = mine[is_shell], theirs[is_shell]
        self._other = other
        self._is_shell = is_shell
        self._moved = now
        self._sent = self._received = 0
        self._room = self._allowed = WINDOW_BYTES
        self._owed = 0
        self._has_said_end = self._has_heard_end = False
        self._has_said_last = self._has_heard_last = False

    @property
    def counts(self) -> Counts:
        """For the bill and the log."""
        return Counts(self._sent, self._received)

    @property
    def room(self) -> int:
        """Payload bytes that may be sent now."""
        return self._room

    @property
    def is_over(self) -> bool:
        """One side has said how or why it ends, or, but for a shell, both directions have ended."""
        have_both_ended = self._has_said_end and self._has_heard_end and not self._is_shell
        return self._has_said_last or self._has_heard_last or have_both_ended

    @property
    def next_wake(self) -> Micros:
        """When `is_idle` can become true."""
        return Micros(self._moved + IDLE_MAX)

    def is_idle(self, now: Micros) -> bool:
        """Whether nothing moved for `IDLE_MAX`."""
        return now >= self.next_wake

    def send(self, frame: Frame, now: Micros) -> bytes:
        """A frame of ours as it travels. LocalError for what we may not say now."""
        kind, size = frame.kind, len(frame.payload)
        is_late = self._has_said_last or self._has_heard_last or (self._has_said_end and kind in (*_BYTES, Kind.END))
        if kind not in self._says or is_late or (kind in _BYTES and size > self._room):
            raise LocalError(f"{kind.name} of {size} bytes cannot be sent now", code="tunnel_order")
        if kind in _BYTES:
            self._room -= size
            self._sent += size
            self._moved = now
        self._has_said_end |= kind is Kind.END
        self._has_said_last |= kind in _LAST
        return frame.pack()

    def receive(self, frame: Frame, now: Micros) -> Frame | None:
        """A frame of theirs for our end of the tunnel; None when it was for us. RemoteViolation against the order."""
        kind, size = frame.kind, len(frame.payload)
        is_late = self._has_heard_last or (self._has_heard_end and kind in (*_BYTES, Kind.END))
        if kind not in self._hears or is_late:
            raise RemoteViolation(self._other, f"a tunnel frame {kind.name} out of place", code="tunnel_order")
        if self._has_said_last:
            return None  # It was on its way when we ended the tunnel.
        if kind is Kind.CREDIT:
            self._room += frame.number
            if self._room > WINDOW_BYTES:
                raise RemoteViolation(self._other, "more credit than was used up", code="tunnel_window")
            return None
        if kind in _BYTES:
            self._allowed -= size
            if self._allowed < 0:
                raise RemoteViolation(self._other, "more bytes than there was room for", code="tunnel_window")
            self._received += size
            self._moved = now
        self._has_heard_end |= kind is Kind.END
        self._has_heard_last |= kind in _LAST
        return frame

    def taken(self, count: int, now: Micros) -> bytes:
        """Our end took `count` bytes: what to send for it, b'' while it is not worth a frame."""
        self._owed += count
        self._moved = now
        if self._owed < WINDOW_BYTES // 4 or self._has_heard_end or self.is_over:
            return b""
        granted, self._owed = self._owed, 0
        self._allowed += granted
        return credit(granted).pack()
