"""Writes shards.json: one small snapshot with all its keys, from fixed secrets. Spec: specs/26-shards.md.

python tests/vectors/make_shard_vectors.py     # after a change of storage/; review the difference
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from blake3 import blake3

from storage import ids
from storage.cutting import Part
from storage.erasure import NUMPY, Code
from storage.ids import Place
from storage.pipeline import seal

FILE = Path(__file__).with_name("shards.json")
PLACE, SECRET = Place(b"e" * 32, 7, 2, 40), bytes(range(32))
NOISE = blake3(b"noise").digest(5_000)
PARTS = (
    Part("state", 1, memoryview(b"step 12345 " * 50)),
    Part("tensors/weight", 4, memoryview(NOISE)),
    Part("tensors/zeros", 4, memoryview(bytes(2_000))),
)


def vectors() -> dict[str, object]:
    """Inputs, keys, the pack's ciphertext and its shards' digests."""
    job = seal(PARTS, PLACE, SECRET, Code(3, 5), NUMPY)
    (done,) = job
    pack = b"".join(done.shards[: done.pack.k])[: done.pack.size]
    return {
        "place": PLACE.encoded.hex(), "secret": SECRET.hex(), "id_key": ids.id_key(SECRET).hex(),
        "snapshot_key": ids.snapshot_key(SECRET, PLACE).hex(), "k": 3, "n": 5,
        "pack": pack.hex(), "index_bytes": job.sealed.index_bytes,
        "shards": [digest.hex() for digest in done.pack.shards],
        "parts": {part.name: [part.itemsize, bytes(part.data).hex()] for part in PARTS},
    }  # fmt: skip


if __name__ == "__main__":
    FILE.write_text(json.dumps(vectors(), indent=1) + "\n", encoding="utf-8")
