"""specs/19-bulk.md against protocol/bulk and node/bulk, and the vectors against both."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

import specs
from node.bulk import channel, download, listener, meeting, plane, routes
from protocol import wire
from protocol.bulk import chunks, handshake, plan, records, shares, tickets
from protocol.bulk.records import CipherName
from protocol.identity import Identity, is_signed_by
from protocol.units import PeerId

SPEC = specs.load("19-bulk")
MODULES = (
    channel, chunks, download, handshake, listener, meeting, plan, plane, records, routes, shares, tickets,
)  # fmt: skip
VECTORS = Path(__file__).parents[1] / "vectors" / "bulk.json"
CIPHERS: tuple[CipherName, ...] = ("aes-128-gcm", "chacha20-poly1305")


def test_constants_are_the_code_s() -> None:
    for name, value in SPEC.constants.items():
        owners = [module for module in MODULES if name in vars(module)]
        assert owners, f"{name} is not in the code"
        assert all(vars(module)[name] == value for module in owners), name


def test_messages_are_the_code_s() -> None:
    listed = [row["message"] for row in SPEC.table("handshake")]
    assert listed == [kind.__name__ for kind in (handshake.Open, handshake.Accept, handshake.Finish)]
    asked = [row["question"] for row in SPEC.table("questions")]
    assert asked == [kind.__name__ for kind in (chunks.Describe, chunks.WantList, chunks.Want, chunks.Bye)]


@given(st.integers(0, 2**40), st.binary(max_size=96))
def test_chunks_are_cut_and_committed_to_as_it_says(total: int, flat: bytes) -> None:
    assert SPEC.functions["chunk_bytes"](total) == chunks.chunk_bytes(total)
    assert SPEC.functions["commitment"](total, flat) == chunks.ChunkList(total, flat).commitment


@given(st.permutations(CIPHERS), st.integers(1, 2), st.booleans())
def test_the_cipher_is_chosen_as_it_says(order: list[CipherName], count: int, has_aes: bool) -> None:
    offered = tuple(order[:count])
    assert SPEC.functions["choose"](offered, has_aes) == handshake.choose(offered, has_aes)


def test_the_document_alone_is_enough_to_redo_the_handshake_of_the_vectors() -> None:
    vector = json.loads(VECTORS.read_text())["handshake"]
    raw = {name: bytes.fromhex(text) for name, text in vector.items() if name not in ("network", "cipher")}
    fetcher, holder = Identity(raw["fetcher_seed"]).peer, Identity(raw["holder_seed"]).peer
    nobody = PeerId(bytes(32))
    opening = wire.decode(raw["open"], wire.decoder(handshake.Open), nobody)
    answer = wire.decode(raw["accept"], wire.decoder(handshake.Accept), nobody)
    finish = wire.decode(raw["finish"], wire.decoder(handshake.Finish), nobody)
    assert opening.ticket == SPEC.functions["ticket_id"](raw["ticket_secret"])
    said = SPEC.functions["transcript"](
        vector["network"], fetcher, holder, raw["open"], answer.ephemeral, vector["cipher"]
    )
    own = X25519PrivateKey.from_private_bytes(raw["holder_ephemeral"])
    shared = own.exchange(X25519PublicKey.from_public_bytes(opening.ephemeral))
    derived = SPEC.functions["keys"](shared, raw["ticket_secret"], said)
    assert isinstance(said, bytes)
    assert isinstance(derived, list)
    assert derived[:2] == [raw["key_to_holder"], raw["key_to_fetcher"]]
    assert answer.proof == SPEC.functions["proof"](derived[2], said)
    assert is_signed_by(holder, wire.signing_bytes(vector["network"], "bulk-accept", said), answer.signature)
    sealed = SPEC.functions["sealed"](said, answer.signature, answer.proof)
    assert isinstance(sealed, bytes)
    assert finish.proof == SPEC.functions["proof"](derived[3], sealed)
    assert is_signed_by(fetcher, wire.signing_bytes(vector["network"], "bulk-finish", sealed), finish.signature)


def test_the_published_vectors_are_what_the_code_makes() -> None:
    path = VECTORS.with_name("make_bulk_vectors.py")
    found = importlib.util.spec_from_file_location("make_bulk_vectors", path)
    assert found is not None
    assert found.loader is not None
    maker = importlib.util.module_from_spec(found)
    found.loader.exec_module(maker)
    assert json.loads(VECTORS.read_text()) == maker.vectors()


@given(st.integers(0, 400), st.integers(0, 2**20))
def test_keys_are_replaced_when_it_says(used: int, size: int) -> None:
    limit = records.REKEY_BYTES
    due = SPEC.functions["is_new_key_due"](limit - used, 0, size)
    assert due == (size > used)
    assert SPEC.functions["is_new_key_due"](0, records.REKEY_RECORDS, 0)


def test_blame_falls_on_lists_that_are_not_the_blob_s() -> None:
    truth, lie = blake3(b"t").digest(), blake3(b"l").digest()
    stated = {"a": truth, "b": lie, "c": truth}
    assert SPEC.functions["liars"](stated, truth, True) == {"b"}
    assert SPEC.functions["liars"](stated, lie, False) == {"b"}
