"""`network.status` of the control socket: paths to every peer, the view from outside, relays, distances, counters."""

from __future__ import annotations

from dataclasses import asdict

from node.control_methods import NoParams
from node.dialer import PeerPath
from node.parts import Parts
from node.views import Plain
from protocol.errors import Unavailable
from protocol.identity import peer_text
from protocol.units import PeerId


class NetworkApi:
    """`network.*`: how this node is connected, and how others reach it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def status(self, params: NoParams) -> Plain:
        """Everything that `shoal doctor` says about a running node."""
        transport = self._parts.transport
        overlay = transport.overlay
        if overlay is None:
            raise Unavailable("the network is not open yet, or not any more", code="not_serving")
        relaying = overlay.relay_server.status
        return {
            **overlay.outlook.status(),
            "addresses": transport.addresses(),
            "is_public": overlay.is_public,
            "relays": [
                {"peer": peer_text(relay), "rtt_us": overlay.pings.rtt_us(relay)} for relay in overlay.relays.chosen()
            ],
            "relaying": {
                "reservations": relaying.reservations,
                "circuits": relaying.circuits,
                "bytes_passed": relaying.bytes_passed,
            },
            "skew_us": overlay.pings.skew_us(),
            "peers": [self._peer(peer) for peer in sorted(transport.connected())],
            "counts": transport.statistics(),
            "benchmarks": [{**asdict(said), "peer": peer_text(said.peer)} for said in self._parts.said()],
            "care": self._parts.care.status(self._parts.now()) if self._parts.care is not None else None,
        }

    def _peer(self, peer: PeerId) -> Plain:
        transport = self._parts.transport
        overlay = transport.overlay
        place = overlay.pings.place_of(peer) if overlay else None
        return {
            "peer": peer_text(peer),
            "paths": [_path(path) for path in transport.paths(peer)],
            "rtt_us": overlay.pings.rtt_us(peer) if overlay else None,
            "region": place.region if place else "",
        }


def _path(path: PeerPath) -> Plain:
    return {"kind": path.kind, "address": path.address, "relay": peer_text(path.relay) if path.relay else None}
