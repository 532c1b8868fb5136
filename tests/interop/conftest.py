"""A real js-libp2p peer for the tests of this folder, and a whole node of ours for it to meet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from protocol.identity import peer_from_text
from tests.interop.js_peer import JsPeer, install, js_peer
from tests.node.bulk.conftest import Node
from tests.node.waiting import happens

NETWORK: Final = "reef"
"""The network of `Node`."""


@pytest.fixture(scope="session")
def node_modules() -> None:
    """Its packages, from the lock."""
    install()


@pytest.fixture
async def js(node_modules: None) -> AsyncIterator[JsPeer]:
    """A js peer on loopback, with StrictNoSign gossip and the network's message ids."""
    async with js_peer() as peer:
        yield peer


@pytest.fixture
async def ours(node_modules: None, tmp_path: Path) -> AsyncIterator[Node]:
    """A whole node, serving."""
    node = Node("ours", tmp_path)
    async with node.transport.serving():
        yield node


async def join(js: JsPeer, ours: Node, *, silent: bool = False) -> str:
    """The js peer greets ours, and is greeted; our address. A silent one acknowledges nothing."""
    address = ours.transport.addresses()[0]
    await js.do("join", network=NETWORK, peer=address, silent=silent)
    await js.event("hello")
    await happens(lambda: peer_from_text(js.peer) in ours.transport.connected())
    return address
