"""storage/pipeline.py with all it is made of: states come back byte by byte, and nothing that was changed does."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from protocol.errors import LocalError, Refused
from protocol.snapshots import PACKS_MAX, Pack, is_sound
from protocol.units import KIB, MIB
from storage import records
from storage.cutting import SMALL_BYTES
from storage.erasure import ANCHOR, COPIES, NUMPY, ROLLING, Code
from storage.ids import Place
from storage.opening import Opening
from storage.packs import Known
from storage.parity import reassemble
from storage.pipeline import USUAL, Part, open_sealed, seal
from storage.records import Aead, CipherName, sealed_size
from storage.sealing import Options, Sealed

NOISE = random.Random(1).randbytes(13 * MIB)
TEXT = b"loss 0.123 step 45678 " * 100_000
SECRET = bytes(range(32))
SIZES = st.sampled_from([0, 1, 31, 5_000, SMALL_BYTES, 300 * KIB + 3, 5 * MIB])


def place(number: int = 0, epoch: int = 1) -> Place:
    return Place(b"e" * 32, 7, epoch, number)


def noise(name: str, size: int, start: int = 0, itemsize: int = 4) -> Part:
    return Part(name, itemsize, memoryview(NOISE)[start : start + size])


class Store:
    """All shards ever sealed, as holders have them."""

    def __init__(self) -> None:
        self.shards: dict[bytes, bytes] = {}

    def seal(
        self,
        parts: Sequence[Part],
        at: Place,
        code: Code = ROLLING,
        known: Known | None = None,
        options: Options = USUAL,
    ) -> Sealed:
        job = seal(parts, at, SECRET, code, NUMPY, known, options)
        for done in job:
            assert is_sound(done.pack)
            self.shards |= {blake3(view).digest(): bytes(view) for view in done.shards}
        assert len(job.sealed.packs) <= PACKS_MAX
        return job.sealed

    def pack(self, sealed: Sealed, position: int, chance: random.Random | None = None) -> memoryview:
        pack = sealed.packs[position]
        shards = {index: memoryview(self.shards[one]) for index, one in enumerate(pack.shards)}
        present = sorted(shards) if chance is None else chance.sample(sorted(shards), pack.k)
        return reassemble({index: shards[index] for index in present}, pack, NUMPY)

    def open(self, sealed: Sealed, at: Place, chance: random.Random | None = None) -> Iterator[Part]:
        return open_sealed(
            sealed.packs, sealed.index_bytes, at, SECRET, lambda index: self.pack(sealed, index, chance), sealed.size
        )


def contents(parts: Iterator[Part] | Sequence[Part]) -> dict[str, tuple[int, bytes]]:
    return {part.name: (part.itemsize, bytes(part.data)) for part in parts}


@settings(max_examples=40)
@given(
    st.lists(st.tuples(SIZES, st.sampled_from([1, 2, 4, 8]), st.booleans()), max_size=8),
    st.sampled_from([COPIES, ROLLING, ANCHOR, Code(3, 4)]),
    st.sampled_from(["aes-256-gcm", "chacha20-poly1305"]),
    st.randoms(),
)
def test_every_state_comes_back_from_any_k_shards(
    shapes: list[tuple[int, int, bool]], code: Code, cipher: CipherName, chance: random.Random
) -> None:
    source = (memoryview(NOISE), memoryview(TEXT * 4))
    parts = [
        Part(f"p{index}", itemsize, source[is_text][index : index + size])
        for index, (size, itemsize, is_text) in enumerate(shapes)
    ]
    store = Store()
    sealed = store.seal(parts, place(), code, options=Options(cipher=cipher))
    assert sealed.size == sum(len(part.data) for part in parts)
    assert contents(store.open(sealed, place(), chance)) == contents(parts)


def test_the_same_state_needs_an_index_only() -> None:
    store = Store()
    parts = [noise("w", 9 * MIB), Part("state", 1, memoryview(TEXT))]
    first = store.seal(parts, place(0))
    second = store.seal(parts, place(1), known=first.known)
    assert second.found == second.size
    assert second.packs[0] == first.packs[0]
    assert second.packs[1].size == second.index_bytes < 8 * KIB
    assert second.dropped == ()
    assert contents(store.open(second, place(1))) == contents(parts)


def test_a_frozen_model_is_sealed_once_while_its_adapter_changes() -> None:
    store, frozen = Store(), [noise(f"base.{index}", MIB + 400 * KIB, index * MIB) for index in range(8)]
    known, packs = None, []
    for number in range(20):
        adapter = [noise(f"lora.{index}", 20 * KIB, number + 999 * index) for index in range(6)]
        sealed = store.seal([*adapter, *frozen, noise("zz", 300 * KIB, number)], place(number), known=known)
        if known is not None:
            assert sealed.found == sum(len(part.data) for part in frozen)
            assert sealed.packs[0] == packs[-1][0]
            assert len(sealed.packs) == 2
            assert sealed.dropped == (() if number == 1 else (packs[-1][1],))
        packs.append(sealed.packs)
        known = sealed.known
        assert contents(store.open(sealed, place(number))) == contents(
            [*adapter, *frozen, noise("zz", 300 * KIB, number)]
        )


def test_twins_within_a_state_are_stored_once() -> None:
    parts = [Part(f"zero{index}", 4, memoryview(NOISE)[: 5 * MIB]) for index in range(4)]
    store = Store()
    sealed = store.seal(parts, place())
    assert sum(pack.size for pack in sealed.packs) < 5 * MIB + 16 * KIB
    assert contents(store.open(sealed, place())) == contents(parts)


def test_incompressible_bytes_are_stored_as_they_are() -> None:
    sealed = Store().seal([noise("w", 4 * MIB)], place())
    assert sealed.packs[0].size == sealed_size(4 * MIB) + sealed.index_bytes
    text = Store().seal([Part("t", 1, memoryview(TEXT))], place())
    assert text.packs[0].size < len(TEXT) // 10


def test_nobody_looks_after_two_snapshots_without_a_find() -> None:
    store, known, found = Store(), None, []
    for number in range(5):
        size = 2 * MIB
        start = (0, 1, 2, 3, 3)[number] * 3 * MIB
        sealed = store.seal([noise("w", size, start)], place(number), known=known)
        found.append((sealed.found, sealed.known.is_off, bool(sealed.known.chunks), len(sealed.dropped)))
        known = sealed.known
    assert found == [
        (0, False, True, 0),
        (0, False, True, 1),
        (0, True, False, 1),
        (0, True, False, 1),
        (0, True, False, 1),
    ]


def test_a_new_provider_goes_on_with_what_it_opened() -> None:
    store, parts = Store(), [noise("w", 3 * MIB), noise("v", 10)]
    first = store.seal(parts, place(5))
    opened = Opening(first.packs, first.index_bytes, place(5), SECRET, lambda index: store.pack(first, index))
    assert [(entry.name, entry.size) for entry in opened.parts] == [("v", 10), ("w", 3 * MIB)]
    second = store.seal(parts, place(0, epoch=2), known=opened.known)
    assert second.found == second.size
    assert contents(store.open(second, place(0, epoch=2))) == contents(parts)


def test_pieces_are_the_parts_bit_by_bit() -> None:
    store, parts = Store(), [noise("b", 9 * MIB), noise("a", 0), noise("c", 77)]
    sealed = store.seal(parts, place())
    opened = Opening(sealed.packs, sealed.index_bytes, place(), SECRET, lambda index: store.pack(sealed, index))
    found = {part.name: bytearray() for part in parts}
    for piece in opened.pieces():
        assert piece.offset == len(found[piece.part.name])
        assert len(piece.data) <= 4 * MIB
        found[piece.part.name] += piece.data
    assert found == {part.name: part.data for part in parts}


@pytest.mark.parametrize("code", [ROLLING, COPIES])
def test_every_changed_byte_of_a_pack_is_seen(code: Code) -> None:
    store, parts = Store(), [noise("w", 300 * KIB), Part("t", 1, memoryview(TEXT)[:5_000])]
    sealed = store.seal(parts, place(), code)
    whole = bytes(store.pack(sealed, 0))
    for at in (*range(0, len(whole), 4_099), *range(len(whole) - sealed.index_bytes, len(whole), 211), len(whole) - 1):
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        with pytest.raises(Refused) as caught:
            list(open_sealed(sealed.packs, sealed.index_bytes, place(), SECRET, [changed].__getitem__))
        assert caught.value.code == "snapshot_damaged"


def test_a_manifest_that_says_another_thing_is_seen() -> None:
    store, parts = Store(), [noise("w", 300 * KIB)]
    old, new = store.seal(parts, place(1)), store.seal([noise("w", 300 * KIB, 5)], place(2))
    whole = store.pack(new, 0)

    def opens(packs: tuple[Pack, ...], index_bytes: int, at: Place, secret: bytes, pack: memoryview) -> None:
        list(open_sealed(packs, index_bytes, at, secret, lambda _: pack))

    opens(new.packs, new.index_bytes, place(2), SECRET, whole)
    size = new.packs[0].size
    for packs, index_bytes, at, secret, pack in (
        (new.packs, new.index_bytes + 1, place(2), SECRET, whole),
        (new.packs, new.index_bytes - 1, place(2), SECRET, whole),
        (new.packs, 0, place(2), SECRET, whole),
        (new.packs, size + 1, place(2), SECRET, whole),
        (new.packs, new.index_bytes, place(3), SECRET, whole),
        (new.packs, new.index_bytes, place(2, epoch=2), SECRET, whole),
        (new.packs, new.index_bytes, place(2), bytes(32), whole),
        (new.packs, new.index_bytes, place(2), SECRET, whole[:-1]),
        (old.packs, old.index_bytes, place(2), SECRET, store.pack(old, 0)),
        ((), new.index_bytes, place(2), SECRET, whole),
        ((replace(new.packs[0], n=3),), new.index_bytes, place(2), SECRET, whole),
        ((*old.packs, *new.packs), new.index_bytes, place(2), SECRET, whole),
    ):
        with pytest.raises(Refused) as caught:
            opens(packs, index_bytes, at, secret, pack)
        assert caught.value.code in ("snapshot_damaged", "bad_pack")


def test_an_old_pack_in_place_of_a_younger_one_is_seen() -> None:
    store, frozen = Store(), noise("w", 3 * MIB)
    first = store.seal([frozen], place(0))
    twin = store.seal([frozen], place(1))
    second = store.seal([frozen], place(2), known=twin.known)
    assert first.packs[0].size == twin.packs[0].size
    read = {0: store.pack(first, 0), 1: store.pack(second, 1)}
    with pytest.raises(Refused) as caught:
        list(open_sealed(second.packs, second.index_bytes, place(2), SECRET, read.__getitem__))
    assert caught.value.code == "snapshot_damaged"


def test_a_snapshot_larger_than_its_manifest_says_is_refused() -> None:
    store = Store()
    sealed = store.seal([noise("w", 3 * MIB)], place())
    with pytest.raises(Refused) as caught:
        store.open(replace_size(sealed, 3 * MIB - 1), place()).__next__()
    assert caught.value.code == "snapshot_too_large"


def replace_size(sealed: Sealed, size: int) -> Sealed:
    return Sealed(sealed.packs, sealed.index_bytes, sealed.known, sealed.dropped, size, sealed.found)


class Detector:
    """Stands in front of a cipher and remembers what was encrypted under which key and nonce."""

    seen: dict[tuple[bytes, bytes], bytes]

    def __init__(self, aead: Aead, key: bytes) -> None:
        self._aead, self._key = aead, key

    def encrypt_into(self, nonce: bytes, data: memoryview, bound: bytes, into: memoryview) -> int:
        said = blake3(data).digest()
        assert self.seen.setdefault((self._key, nonce), said) == said, "one nonce for two records"
        return self._aead.encrypt_into(nonce, data, bound, into)


def test_no_nonce_is_used_for_two_records(monkeypatch: pytest.MonkeyPatch) -> None:
    Detector.seen = {}
    plain = records.aead
    monkeypatch.setattr(records, "aead", lambda cipher, key: Detector(plain(cipher, key), key))
    store, known = Store(), None
    for epoch, number, start in ((1, 0, 0), (1, 1, 50), (1, 2, 50), (2, 0, 77), (2, 1, 77)):
        parts = [noise("w", 5 * MIB, start), noise("s", 100, start), Part("t", 1, memoryview(TEXT)[start:])]
        known = store.seal(parts, place(number, epoch), known=known if number else None).known
    before = len(Detector.seen)
    assert before > 200
    for uplink in (None, 10**12):  # A worker that crashed takes the same number again, for other bytes.
        parts = [noise("w", 5 * MIB, 123), Part("t", 1, memoryview(TEXT)[123:])]
        store.seal(parts, place(1), options=Options(uplink_bytes_per_s=uplink))
    assert len(Detector.seen) > before + 80
    with pytest.raises(AssertionError):
        for data in (b"a", b"b"):
            into = memoryview(bytearray(17))
            Detector(plain("aes-256-gcm", SECRET), SECRET).encrypt_into(bytes(12), memoryview(data), b"", into)


def small_packs(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    for module in ("storage.sealing", "storage.packs"):
        monkeypatch.setattr(f"{module}.PACK_BYTES_MAX", size)


def test_many_packs_are_one_snapshot_and_too_many_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    small_packs(monkeypatch, 4 * MIB + 64 * KIB)
    store, parts = Store(), [noise(f"w{index}", 4 * MIB, index * 111_111) for index in range(15)]
    sealed = store.seal(parts, place())
    assert len(sealed.packs) == 15
    assert contents(store.open(sealed, place(), random.Random(1))) == contents(parts)
    with pytest.raises(Refused) as caught:
        store.seal([*parts, *(noise(f"v{index}", 4 * MIB, index * 99_999 + 7) for index in range(2))], place(1))
    assert caught.value.code == "snapshot_too_large"


def test_an_index_that_does_not_fit_gets_a_pack(monkeypatch: pytest.MonkeyPatch) -> None:
    small_packs(monkeypatch, sealed_size(4 * MIB) + 100)
    store, parts = Store(), [noise("w", 4 * MIB)]
    sealed = store.seal(parts, place())
    assert [pack.size for pack in sealed.packs] == [sealed_size(4 * MIB), sealed.index_bytes]
    assert contents(store.open(sealed, place())) == contents(parts)


def test_earlier_packs_are_rewritten_before_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    small_packs(monkeypatch, 8 * MIB)
    store, known, counts, shares = Store(), None, [], []
    parts: list[Part] = []
    for number in range(24):
        parts.append(noise(f"w{number:02}", 300 * KIB, number * 5_003))
        sealed = store.seal(parts, place(number), known=known)
        known = sealed.known
        counts.append(len(sealed.packs))
        shares.append(sealed.found / sealed.size)
        assert contents(store.open(sealed, place(number))) == contents(parts)
    assert max(counts) <= PACKS_MAX
    assert counts[:5] == [1, 2, 3, 4, 5]
    assert counts[-1] == PACKS_MAX
    assert min(shares[4:]) > 0.75


def test_memory_stays_that_of_one_pack_and_its_parity(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 16 * MIB
    small_packs(monkeypatch, size)
    parts = [noise(f"w{index}", 4 * MIB, index * 200_003, itemsize=2 + index % 2 * 2) for index in range(24)]
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        packs = sum(1 for _ in seal(parts, place(), SECRET, ROLLING, NUMPY))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert packs >= 6
    assert peak - before < 3 * size, f"{(peak - before) / size:.2f} packs"


def test_threads_seal_the_same_bytes() -> None:
    parts = [noise("w", 9 * MIB), Part("t", 1, memoryview(TEXT)), *(noise(f"s{index}", 40_000) for index in range(9))]
    with ThreadPoolExecutor(4) as pool:
        made = [Store() for _ in range(2)]
        alone = made[0].seal(parts, place())
        together = made[1].seal(parts, place(), options=Options(apply=pool.map))
    assert alone.packs == together.packs
    assert made[0].shards == made[1].shards


def test_a_worker_that_lies_about_an_id_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    with monkeypatch.context() as patch:
        patch.setattr("storage.sealing.chunk_id", lambda pieces, key: b"i" * 32)
        sealed = store.seal([noise("w", 300 * KIB)], place())
    with pytest.raises(Refused) as caught:
        list(store.open(sealed, place()))
    assert caught.value.code == "snapshot_damaged"
    assert "id" in caught.value.detail


def test_a_worker_that_packs_a_bomb_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    store, bomb = Store(), zstandard.ZstdCompressor(level=1).compress(bytes(256 * MIB))
    assert len(bomb) < 300 * KIB
    with monkeypatch.context() as patch:
        patch.setattr("storage.compress.shrink", lambda content, itemsize, uplink: bomb)
        sealed = store.seal([noise("w", 300 * KIB)], place())
    tracemalloc.start()
    try:
        with pytest.raises(Refused) as caught:
            list(store.open(sealed, place()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.code == "snapshot_damaged"
    assert peak < 16 * MIB


@pytest.mark.parametrize("ends_well", [True, False])
def test_lent_memory_is_given_back(monkeypatch: pytest.MonkeyPatch, ends_well: bool) -> None:
    small_packs(monkeypatch, 5 * MIB)
    lent = [
        bytearray(NOISE[start : start + 300 * KIB]) for start in range(0, (20 if ends_well else 300) * 5_003, 5_003)
    ]
    lent[0:0] = [bytearray(b"small"), bytearray(b"also small")]
    parts = [Part(f"p{index}", 4, memoryview(data)) for index, data in enumerate(lent)]
    job = seal(parts, place(), SECRET, COPIES, NUMPY)
    try:
        count = sum(1 for _ in job)
    except Refused as error:
        assert error.code == "snapshot_too_large"
        assert not ends_well
        give_back(parts, lent)
    else:
        assert ends_well
        assert count == 2
        give_back(parts, lent)
        assert job.sealed.packs


def give_back(parts: list[Part], lent: list[bytearray]) -> None:
    for part, data in zip(parts, lent, strict=True):
        part.data.release()
        data.append(0)  # BufferError while anybody still looks at it.


def test_every_pack_is_read_once() -> None:
    store, frozen = Store(), [noise(f"w{index}", MIB, index * MIB) for index in range(0, 12, 2)]
    first = store.seal(frozen, place(0))
    mixed = [*frozen, *(noise(f"w{index}", MIB, index * MIB) for index in range(1, 12, 2))]
    second = store.seal(mixed, place(1), known=first.known)
    asked: list[int] = []

    def read(position: int) -> memoryview:
        asked.append(position)
        return store.pack(second, position)

    assert contents(open_sealed(second.packs, second.index_bytes, place(1), SECRET, read)) == contents(mixed)
    assert asked == [1, 0]


def test_a_sealing_is_used_once_and_to_its_end() -> None:
    job = seal([noise("w", 100)], place(), SECRET, ROLLING, NUMPY)
    with pytest.raises(LocalError):
        _ = job.sealed
    assert len(list(job)) == 1
    assert job.sealed.size == 100
    with pytest.raises(LocalError):
        list(job)
