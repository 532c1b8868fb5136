"""A real js-libp2p peer for the tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.interop.js_peer import JsPeer, install, js_peer


@pytest.fixture(scope="session")
def node_modules() -> None:
    """Its packages, from the lock."""
    install()


@pytest.fixture
async def js(node_modules: None) -> AsyncIterator[JsPeer]:
    """A js peer on loopback, with StrictNoSign gossip and the network's message ids."""
    async with js_peer() as peer:
        yield peer
