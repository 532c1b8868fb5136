"""Puts tunnels on a node: the provider's side answers streams, the asking side serves the control socket."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

import trio

from node.runner import Runner
from node.tunnels.client import TunnelClient
from node.tunnels.server import TunnelServer
from protocol.errors import RemoteViolation
from protocol.overlay.tunnel import Held
from protocol.provider import Provider
from protocol.provider_lease import Lease
from protocol.units import Micros, PeerId

if TYPE_CHECKING:
    from libp2p.abc import INetStream


class Way(Protocol):
    """What tunnels need of the transport."""

    async def open_stream(self, peer: PeerId, protocol: str) -> INetStream: ...

    def serve_streams(self, protocol: str, handle: Callable[[INetStream], Awaitable[None]]) -> None: ...

    async def punish(self, violation: RemoteViolation) -> None: ...


def wire_tunnels(
    network: str, way: Way, nursery: trio.Nursery, provider: Provider, runner: Runner, now: Callable[[], Micros]
) -> TunnelClient:
    """Serve tunnels into what `runner` runs for the leases of `provider`; what is returned opens tunnels elsewhere."""
    counts: Counter[str] = Counter()
    server = TunnelServer(network, nursery, lambda *where: held(provider, *where), runner.door, now, way.punish, counts)
    way.serve_streams(server.protocol, server.serve)
    return TunnelClient(network, way.open_stream, now, way.punish, counts)


def held(provider: Provider, job: bytes, chunk: int) -> Held | None:
    """The newest lease of a chunk that this provider holds."""
    found = [lease for lease in provider.leases.values() if (lease.job, lease.assign.chunk) == (job, chunk)]
    if not found:
        return None
    lease: Lease = max(found, key=lambda lease: lease.assign.epoch)
    return Held(
        task=lease.task,
        job=lease.job,
        chunk=chunk,
        epoch=lease.assign.epoch,
        steward=lease.steward,
        renter=lease.renter,
        spec=lease.spec,
        is_running=lease.phase == "running",
    )
