"""Writes bulk.json: one handshake, some records and one chunk list, from fixed secrets. Spec: specs/19-bulk.md.

python tests/vectors/make_bulk_vectors.py     # after a change of protocol/bulk; review the difference
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from blake3 import blake3

from protocol import wire
from protocol.bulk.chunks import CHUNK_BYTES, Bye, ChunkList, Describe, Description, Sorry, Wait, Want, WantList
from protocol.bulk.handshake import Fetcher, Holder, Say, met_of, offers
from protocol.bulk.records import CONTROL, DATA, HEADER_BYTES, REKEY_BYTES, TAG_BYTES, Kind, Sealer
from protocol.bulk.tickets import ABSENT, TicketOffice, TicketReply, TicketRequest, ticket_id
from protocol.identity import Identity
from protocol.units import Digest, Micros

FILE = Path(__file__).with_name("bulk.json")
FETCHER, HOLDER = Identity(b"a" * 32), Identity(b"b" * 32)
SECRET, FETCHER_EPHEMERAL, HOLDER_EPHEMERAL = b"\x01" * 32, b"\x0a" * 32, b"\x14" * 32


def handshake() -> dict[str, str]:
    """Every secret and every message of one handshake."""
    office = TicketOffice()
    office.issue(FETCHER.peer, [Digest(b"d" * 32)], SECRET, Micros(0))
    fetcher = Fetcher("reef", FETCHER, HOLDER.peer, SECRET, FETCHER_EPHEMERAL, offers(True))
    holder = Holder("reef", HOLDER, office, HOLDER_EPHEMERAL, True)
    opening = fetcher.open().message
    answer = next(one.message for one in holder.receive(opening, Micros(0)) if isinstance(one, Say))
    effects = fetcher.receive(answer)
    met = met_of(effects)
    return {
        "network": "reef", "fetcher_seed": FETCHER.seed.hex(), "holder_seed": HOLDER.seed.hex(),
        "ticket_secret": SECRET.hex(), "fetcher_ephemeral": FETCHER_EPHEMERAL.hex(),
        "holder_ephemeral": HOLDER_EPHEMERAL.hex(), "open": opening.hex(), "accept": answer.hex(),
        "finish": next(one.message for one in effects if isinstance(one, Say)).hex(), "cipher": met.cipher,
        "key_to_holder": met.key_out.hex(), "key_to_fetcher": met.key_in.hex(),
    }  # fmt: skip


def records() -> list[dict[str, object]]:
    """The first records of both ciphers under one key, and the first ones after the key was replaced."""
    found: list[dict[str, object]] = []
    steps: tuple[tuple[Kind, bytes, bool], ...] = (
        (CONTROL, b"hello", False),
        (DATA, b"x" * 40, False),
        (DATA, b"end", True),
    )
    for cipher in offers(True):
        for rekey in (REKEY_BYTES, 40):
            sealer = Sealer(cipher, bytes(range(32)), rekey)
            for kind, body, is_last in steps:
                buffer = memoryview(bytearray(HEADER_BYTES + len(body) + TAG_BYTES))
                buffer[HEADER_BYTES : HEADER_BYTES + len(body)] = body
                sealer.seal(buffer, len(body), kind, is_last)
                found.append({"cipher": cipher, "rekey_bytes": rekey, "kind": kind, "is_last": is_last,
                              "body": body.hex(), "record": bytes(buffer).hex()})  # fmt: skip
    return found


def chunk_list() -> dict[str, object]:
    """A blob of zeros, one and a half chunks long."""
    total = CHUNK_BYTES * 3 // 2
    parts = (bytes(CHUNK_BYTES), bytes(total - CHUNK_BYTES))
    chunks = ChunkList(total, b"".join(blake3(part).digest() for part in parts))
    return {"total": total, "chunks": chunks.flat.hex(), "commitment": chunks.commitment.hex()}


def messages() -> dict[str, str]:
    """One of every message that is not in the handshake."""
    digest = b"d" * 32
    every = (
        TicketRequest((digest,)), TicketReply((5, ABSENT), SECRET, ("/ip4/192.0.2.1/tcp/4002",)), Describe(digest),
        Description(5, digest), WantList(digest), Want(digest, 7), Wait(), Sorry("gone"), Bye(),
    )  # fmt: skip
    return {type(one).__name__: wire.encode(one).hex() for one in every}


def vectors() -> dict[str, object]:
    """All of them."""
    ticket = {"secret": SECRET.hex(), "id": ticket_id(SECRET).hex()}
    return {
        "ticket": ticket,
        "handshake": handshake(),
        "records": records(),
        "messages": messages(),
        "list": chunk_list(),
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(vectors(), indent=1) + "\n")
