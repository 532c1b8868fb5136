"""A knock at a door: connect, let the other side prove its key by a Noise handshake, hang up. Nothing else is said.

Used by witnesses, who were asked to, and by `shoal doctor`, to tell a dead bootstrap from one that lies.
"""

from __future__ import annotations

from typing import Final

import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import X25519PrivateKey
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.security.noise.exceptions import PeerIDMismatchesPubkey
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.security.security_multistream import SecurityMultistream
from libp2p.transport.upgrader import TransportUpgrader

from node import entropy
from node.libp2p_rim import libp2p_id, rim
from protocol.errors import Unavailable
from protocol.overlay.verdicts import Outcome
from protocol.units import PeerId

CONNECT_S: Final = 4.0
"""Deadline of the TCP connection: one lost SYN is repeated after a second, two after three."""

PROOF_S: Final = 4.0
"""Deadline of the handshake: three round trips of the worst link that is still useful."""


async def knock(ip: str, port: int, peer: PeerId, connect_s: float = CONNECT_S, proof_s: float = PROOF_S) -> Outcome:
    """Whether `peer` itself answers at an address. The port it is done from is any, the key is thrown away."""
    family = trio.socket.AF_INET6 if ":" in ip else trio.socket.AF_INET
    sock = trio.socket.socket(family, trio.socket.SOCK_STREAM)
    try:
        with trio.move_on_after(connect_s) as deadline:
            await sock.connect((ip, port))
        if deadline.cancelled_caught:
            sock.close()
            return "silent"
    except ConnectionRefusedError:
        sock.close()
        return "refused"
    except OSError:
        sock.close()
        return "silent"
    stream = trio.SocketStream(sock)
    try:
        return await _prove(stream, peer, proof_s)
    finally:
        await trio.aclose_forcefully(stream)


async def _prove(stream: trio.SocketStream, peer: PeerId, proof_s: float) -> Outcome:
    outcome: Outcome = "no_handshake"
    with trio.move_on_after(proof_s):
        try:
            with rim("handshake"):
                try:
                    await _security().secure_outbound(RawConnection(TrioTCPStream(stream), True), libp2p_id(peer))
                    outcome = "reachable"
                except PeerIDMismatchesPubkey:
                    outcome = "other_key"
        except Unavailable:
            outcome = "no_handshake"
    return outcome


def _security() -> SecurityMultistream:
    """Noise under a key of its own: whom we knock at learns nothing, and takes nobody for connected."""
    keys = create_new_key_pair(entropy.seed())
    noise = NoiseTransport(keys, noise_privkey=X25519PrivateKey.from_bytes(entropy.seed()))
    return TransportUpgrader({NOISE: noise}, {}).security_multistream
