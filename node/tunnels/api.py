"""`tunnel.*` of the control socket: into the chunks of this node's jobs. Spec: specs/24-tunnels.md."""

from __future__ import annotations

from typing import Final

from node.control_methods import TicketParams, TunnelParams
from node.parts import Parts
from node.tunnels.client import OpenTunnel, TunnelClient
from node.views import Plain, job_text
from protocol import wire
from protocol.errors import Refused, RemoteViolation, Unavailable
from protocol.identity import peer_from_text, peer_text
from protocol.job_record import ChunkRecord, JobRecord
from protocol.overlay.tunnel import OpenPort, OpenShell, Request, Ticket, require_declared, ticket_decoder
from protocol.units import SECOND, JobId, PeerId
from protocol.wire import Signed

TICKET_BYTES_MAX: Final = 1_024
"""An encoded ticket with its signature."""

_signed: Final = wire.decoder(Signed)


class TunnelApi:
    """`tunnel.*`: tunnels into chunks, and tickets for others."""

    def __init__(self, parts: Parts, client: TunnelClient | None) -> None:
        self._parts = parts
        self._client = client

    async def open(self, params: TunnelParams) -> tuple[Plain, OpenTunnel]:
        """Reach a port or a shell; the connection then carries frames until the tunnel is over."""
        if self._client is None:
            raise Unavailable("this node has no tunnels", code="no_tunnels", fix="Start it with a newer version.")
        request, provider = self._with_ticket(params) if params.ticket else self._own(params)
        tunnel = await self._client.open(provider, request)
        return {"provider": peer_text(provider), "epoch": tunnel.epoch}, tunnel

    async def ticket(self, params: TicketParams) -> Plain:
        """Let another node reach one port of one chunk for a while, in the renter's name."""
        record, chunk = self._chunk(params.job, params.chunk)
        identity = self._parts.steward.renters.get(PeerId(record.renter))
        if identity is None:
            raise Refused("this node keeps no key for the job's renter", code="unknown_renter")
        expires = self._parts.now() + params.seconds * SECOND
        ticket = Ticket(record.job, chunk.index, params.port, peer_from_text(params.bearer), expires)
        signed = wire.sign(identity, self._parts.config.network, "tunnel", ticket)
        return {"ticket": wire.encode(signed), "provider": peer_text(PeerId(chunk.provider)), "expires": expires}

    def _own(self, params: TunnelParams) -> tuple[Request, PeerId]:
        """For a chunk of a job that this node carries."""
        record, chunk = self._chunk(params.job, params.chunk)
        request = _request(params, JobId(record.job), params.chunk, params.port, None)
        require_declared(record.spec, request)
        return request, PeerId(chunk.provider)

    def _with_ticket(self, params: TunnelParams) -> tuple[Request, PeerId]:
        """For a chunk of somebody's job, who signed for it."""
        me = self._parts.identity.peer
        try:
            signed = wire.decode(params.ticket, _signed, me, TICKET_BYTES_MAX)
            ticket = wire.open_signed(signed, self._parts.config.network, "tunnel", ticket_decoder, me)
        except RemoteViolation as error:
            raise Refused(f"this is no ticket: {error.rule}", code="bad_ticket", fix="Copy it again, whole.") from error
        request = _request(params, JobId(ticket.job), ticket.chunk, ticket.port, signed)
        return request, peer_from_text(params.provider)

    def _chunk(self, job: str, index: int) -> tuple[JobRecord, ChunkRecord]:
        """A chunk that a provider holds now. Refused: there will never be one; Unavailable: not yet, or between two."""
        record = self._parts.steward.job(JobId(wire.raw_id("job", job, 16))).record
        if index >= len(record.chunks):
            raise Refused(
                f"the job has {len(record.chunks)} chunks, no number {index}",
                code="no_such_chunk",
                fix="`shoal job status` lists them.",
                numbers={"chunks": len(record.chunks), "chunk": index},
            )
        chunk = record.chunks[index]
        if record.is_final or chunk.state in ("claimed", "revealed", "accepted"):
            raise Refused(
                f"chunk {index} of {job_text(record.job)} is over",
                code="chunk_over",
                fix="Its result is what it left; submit the job again to reach into it.",
            )
        if chunk.state not in ("leased", "running"):
            raise Unavailable(
                f"chunk {index} has no provider now: it is {chunk.state}",
                code="chunk_not_running",
                fix="Wait until `shoal job status` shows it running.",
            )
        return record, chunk


def _request(params: TunnelParams, job: JobId, chunk: int, port: int, ticket: Signed | None) -> Request:
    if port:
        return OpenPort(job, chunk, port, ticket)
    return OpenShell(job, chunk, params.command, params.has_terminal, params.rows, params.columns, params.term, ticket)
