"""Blobs to and from a peer that was written from the documents, in JavaScript; and what it cannot lie about."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import trio
from blake3 import blake3

import specs
from protocol.errors import Unavailable
from protocol.identity import peer_from_text
from protocol.units import MIB, Digest
from tests.interop.conftest import NETWORK, join
from tests.interop.js_peer import JsPeer
from tests.node.bulk.conftest import Node
from tests.node.bulk.test_plane import some
from tests.node.waiting import SECONDS

VECTORS = Path(__file__).parents[1] / "vectors"


async def take_blob(ours: Node, js: JsPeer, size: int, **how: object) -> dict[str, object]:
    """The js peer fetches a blob of ours."""
    digest = ours.blobs.put(some(size))
    found = await js.do("blob", peer=ours.transport.addresses()[0], network=NETWORK, digest=digest.hex(), **how)
    assert found["size"] == size and found["digest"] == digest.hex()
    return found


async def hold(js: JsPeer, ours: Node, sizes: list[int], way: str, **how: object) -> list[Digest]:
    """The js peer has blobs for us, and we know where it is."""
    await js.do("join", network=NETWORK)
    ours.transport.learn(peer_from_text(js.peer), js.addresses)
    digests = (await js.do("hold", network=NETWORK, sizes=sizes, way=way, **how))["digests"]
    assert isinstance(digests, list)
    return [Digest(bytes.fromhex(digest)) for digest in digests]


async def bring(ours: Node, js: JsPeer, digest: Digest) -> int:
    """We fetch from the js peer."""
    with trio.fail_after(SECONDS):
        return (await ours.transport.fetch(digest, 64 * MIB, [peer_from_text(js.peer)])).size


async def test_the_published_vectors_come_out_in_javascript(js: JsPeer) -> None:
    found = await js.do("vectors", folder=str(VECTORS), document=str(specs.FOLDER / "03-wire.md"))
    assert (found["bulk"], found["messages"]) == ([], [])


@pytest.mark.parametrize("way", ["direct", "stream"])
async def test_js_fetches_blobs(ours: Node, js: JsPeer, way: str) -> None:
    await join(js, ours)
    sizes = [0, 1, 3 * MIB, 20 * MIB]
    for size in sizes:
        await take_blob(ours, js, size, way=way)
    assert ours.count(f"bulk_bytes_sent_{way}") == sum(sizes)
    assert ours.count("violations") == 0 and ours.count("bulk_handshakes_failed") == 0


async def test_js_fetches_with_either_cipher(ours: Node, js: JsPeer) -> None:
    await join(js, ours)
    for cipher in ("aes-128-gcm", "chacha20-poly1305"):
        found = await take_blob(ours, js, 2 * MIB, way="direct", ciphers=[cipher])
        assert found["cipher"] == cipher


@pytest.mark.parametrize("way", ["direct", "stream"])
async def test_js_holds_blobs_for_us(ours: Node, js: JsPeer, way: str) -> None:
    sizes = [0, 1, 5 * MIB + 7]
    for digest, size in zip(await hold(js, ours, sizes, way), sizes, strict=True):
        assert await bring(ours, js, digest) == size
        assert blake3(ours.blobs.read(digest, 64 * MIB)).digest() == digest
    assert ours.count(f"bulk_bytes_received_{way}") == sum(sizes)
    assert ours.count("violations") == 0
    await js.event("served")


@pytest.mark.parametrize(("lie", "told"), [("chunk", "chunk 2"), ("list", "its list of chunks is not that of blob")])
async def test_wrong_bytes_are_named_and_blamed_on_their_holder(ours: Node, js: JsPeer, lie: str, told: str) -> None:
    (digest,) = await hold(js, ours, [3 * MIB], "direct", lie=lie)
    with pytest.raises(Unavailable, match=told):
        await bring(ours, js, digest)
    assert ours.blamed == {peer_from_text(js.peer)} and ours.count("violations") == 1
    assert not ours.blobs.has(digest)


async def test_js_finds_our_wrong_bytes(ours: Node, js: JsPeer) -> None:
    await join(js, ours)
    ours.lie_about_bytes(ours.blobs.put(some(3 * MIB)), 2 * MIB + 5)
    with pytest.raises(RuntimeError, match="wrong_bytes: chunk 2"):
        await take_blob(ours, js, 3 * MIB, way="direct")


async def test_a_holder_without_its_key_is_nobody(ours: Node, js: JsPeer) -> None:
    (digest,) = await hold(js, ours, [3 * MIB], "direct", lie="identity")
    with pytest.raises(Unavailable, match="signature is not the peer's"):
        await bring(ours, js, digest)
    assert ours.count("violations") == 0, "what does not verify may be anybody's work on the path"
    assert {(await js.event("unserved"))["way"] for _ in range(2)} >= {"direct", "stream"}


@pytest.mark.parametrize("way", ["direct", "stream"])
async def test_a_stolen_ticket_and_one_used_twice_open_nothing(
    ours: Node, js: JsPeer, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    caplog.set_level(logging.DEBUG, "shoal.bulk")
    await join(js, ours)
    with pytest.raises(RuntimeError, match="interrupted"):
        await take_blob(ours, js, 1, way=way, thief=(b"t" * 32).hex())
    assert "the signature is not the peer's over this handshake" in caplog.text
    with pytest.raises(RuntimeError, match="interrupted"):
        await take_blob(ours, js, 1, way=way, again=True)
    assert "the ticket is used up or unknown" in caplog.text
    assert ours.count(f"bulk_bytes_sent_{way}") == 1 and ours.count("violations") == 0
