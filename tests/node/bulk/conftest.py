"""Nodes with a data plane over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from node.blobs import BlobStore
from node.bulk import routes
from node.bulk.plane import BulkPlane
from node.transport import Transport, TransportConfig
from protocol.identity import Identity
from protocol.units import GIB, Digest, PeerId
from tests.node.waiting import SECONDS


class Node:
    """A transport, its store and its identity."""

    def __init__(self, name: str, folder: Path, blob_bytes_max: int = GIB) -> None:
        self.identity = Identity(name.encode().ljust(32, b"."))
        self.peer = self.identity.peer
        self.blobs = BlobStore(folder / name, blob_bytes_max)
        config = TransportConfig(listen=("/ip4/127.0.0.1/tcp/0",), neighbours_min=0)
        self.transport = Transport(self.identity, "reef", config, self.blobs)

    @property
    def plane(self) -> BulkPlane:
        """The data plane, while it serves."""
        return self.transport._serving.blobs

    def count(self, name: str) -> int:
        """A counter of the transport."""
        return self.transport.statistics().get(name, 0)

    @property
    def blamed(self) -> set[PeerId]:
        """Peers that broke a rule."""
        return set(self.transport._serving.sessions._faults)

    async def fetch(self, digest: Digest, *sources: Node, size_max: int = GIB) -> int:
        """Bytes of a blob that is here afterwards."""
        with trio.fail_after(SECONDS):
            return (await self.transport.fetch(digest, size_max, [source.peer for source in sources])).size

    def lie_about_bytes(self, digest: Digest, at: int) -> None:
        """From now on this node sends one wrong byte, and does not know it."""
        self.plane._lists.of(digest, lambda: None)
        path = self.blobs.path(digest)
        path.chmod(0o600)
        with path.open("r+b") as file:
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 255]))


Serving = Callable[..., AbstractAsyncContextManager[None]]


@pytest.fixture
def node(tmp_path: Path) -> Callable[..., Node]:
    """Makes nodes by name."""
    return lambda name, **more: Node(name, tmp_path, **more)


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Serving:
    """All nodes serve; each learns the addresses of the others. No way to a holder is given up, and no connection that
    waits is closed, because this machine is slow."""
    monkeypatch.setattr(routes, "DIRECT_S", SECONDS)
    monkeypatch.setattr(routes, "IDLE_S", SECONDS)

    @asynccontextmanager
    async def serve(*nodes: Node) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for one in nodes:
                await stack.enter_async_context(one.transport.serving())
            for one in nodes:
                for other in nodes:
                    one.transport.learn(other.peer, other.transport.addresses())
            yield

    return serve
