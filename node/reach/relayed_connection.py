"""A circuit as libp2p sees it: a raw connection, on which Noise and the muxer run from end to end.

The relay between the two ends sees encrypted bytes and can only delay, drop or end them. Spec: specs/20-relays.md.
"""

from __future__ import annotations

import trio
from libp2p.abc import ConnectionType, INetConn, INetStream, IRawConnection
from libp2p.host.basic_host import BasicHost
from libp2p.io.exceptions import IOException
from libp2p.network.connection.exceptions import RawConnError
from libp2p.network.swarm import Swarm
from multiaddr import Multiaddr

from node import libp2p_patches
from node.libp2p_rim import HANDSHAKE_S, libp2p_id, peer_of, rim
from node.streams import READ_BYTES, reset
from protocol.errors import LocalError, RemoteViolation
from protocol.identity import peer_text
from protocol.units import PeerId
