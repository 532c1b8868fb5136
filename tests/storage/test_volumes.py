"""Volumes: catalogues that only their owner opens, versions that come and go, heads that never go back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec import structs

from protocol import wire
from protocol.errors import Refused, RemoteViolation
from protocol.identity import Identity
from protocol.snapshots import Pack
from protocol.units import Digest, Micros, PeerId
from protocol.wire import Signed
from storage import volumes
from storage.volumes import Catalogue, Crate, Head, HeadBook, Version

OWNER, OTHER = Identity(b"o" * 32), Identity(b"x" * 32)
PEER = PeerId(b"p" * 32)
NET = "reef"
VOLUME = volumes.volume_id(OWNER.peer, "data")
SECRET = volumes.volume_secret(OWNER, VOLUME)
EMPTY = Catalogue(VOLUME, "data", 1)


def version(number: int, crates: tuple[int, ...] = ()) -> Version:
    return Version(number, number, bytes([number % 256]) * 32, 10, 100, 1, crates)


def crate(number: int) -> Crate:
    shards = tuple(bytes([number % 256, shard]) * 16 for shard in range(3))
    return Crate(number, bytes(32), (Pack(2, 1, "rs", 2, 3, shards),), 1)


def head(sequence: int, catalogue: bytes = b"c" * 32, owner: Identity = OWNER, volume: bytes = VOLUME) -> Signed:
    return wire.sign(owner, NET, "volume", Head(volume, sequence, 5, catalogue, 100))


def test_a_catalogue_opens_for_its_owner_only() -> None:
    catalogue = volumes.with_version(EMPTY, version(1))
    sealed = volumes.seal_catalogue(catalogue, SECRET)
    assert b"data" not in sealed
    assert volumes.open_catalogue(sealed, SECRET, VOLUME) == catalogue
    assert volumes.seal_catalogue(catalogue, SECRET) == sealed, "the same again, so that a holder fetches it once"
    for wrong in (volumes.volume_secret(OTHER, VOLUME), volumes.volume_secret(OWNER, bytes(16))):
        with pytest.raises(Refused, match="cannot be opened"):
            volumes.open_catalogue(sealed, wrong, VOLUME)


@given(st.data())
def test_a_damaged_catalogue_is_refused(data: st.DataObject) -> None:
    sealed = bytearray(volumes.seal_catalogue(volumes.with_version(EMPTY, version(1)), SECRET))
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Refused) as refusal:
        volumes.open_catalogue(bytes(sealed[: data.draw(st.integers(0, len(sealed)))]), SECRET, VOLUME)
    assert refusal.value.code == "volume_damaged"


def test_keys_depend_on_content() -> None:
    a = volumes.crate_place(VOLUME, 1, (Digest(b"a" * 32),))
    b = volumes.crate_place(VOLUME, 1, (Digest(b"b" * 32),))
    assert a != b, "a number that is used again after a crash gives other keys"
    one, two = (volumes.seal_catalogue(volumes.with_version(EMPTY, version(n)), SECRET) for n in (1, 2))
    assert one[:32] != two[:32]


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_versions_and_crates_are_kept_as_long_as_somebody_names_them(named: list[bool]) -> None:
    catalogue = EMPTY
    for number, is_named in enumerate(named):
        one = version(catalogue.next_version)
        catalogue = volumes.with_version(catalogue, one)
        catalogue = volumes.with_crates(catalogue, one.number, (), (crate(catalogue.next_crate),))
        if is_named:
            catalogue = volumes.with_snapshot(catalogue, f"s{number}", one.number)
        newest = volumes.newest(catalogue)
        assert newest is not None and newest.number == one.number and newest.crates
        numbers = {known.number for known in catalogue.versions}
        assert {number for _, number in catalogue.snapshots} <= numbers
        assert {known.number for known in catalogue.crates} == {n for known in catalogue.versions for n in known.crates}
        assert len(catalogue.versions) <= volumes.KEPT_VERSIONS + len(catalogue.snapshots)
    for name, _ in catalogue.snapshots:
        catalogue = volumes.without_snapshot(catalogue, name)
    assert len(catalogue.versions) == min(len(named), volumes.KEPT_VERSIONS)
    assert len(volumes.shards(catalogue)) == 3 * len(catalogue.crates)


def test_names_of_snapshots() -> None:
    catalogue = volumes.with_version(volumes.with_version(EMPTY, version(1)), version(2))
    catalogue = volumes.with_snapshot(catalogue, "first", 1)
    assert volumes.version_of(catalogue, "first") == volumes.version_of(catalogue, "1") == version(1)
    assert volumes.version_of(catalogue, "") == version(2)
    for call, code in (
        (lambda: volumes.with_snapshot(catalogue, "first", 2), "snapshot_exists"),
        (lambda: volumes.with_snapshot(catalogue, "12", 2), "bad_name"),
        (lambda: volumes.without_snapshot(catalogue, "second"), "no_such_snapshot"),
        (lambda: volumes.version_of(catalogue, "9"), "no_such_version"),
        (lambda: volumes.version_of(EMPTY, ""), "no_such_version"),
    ):
        with pytest.raises(Refused) as refusal:
            call()
        assert refusal.value.code == code and refusal.value.detail


def test_a_head_never_goes_back() -> None:
    book = HeadBook(NET)
    assert book.offer(PEER, head(2), Micros(0)) is not None
    assert book.offer(PEER, head(2), Micros(5)) is None
    for statement, code in ((head(1), "stale_head"), (head(2, b"d" * 32), "head_forked")):
        with pytest.raises(Refused) as refusal:
            book.offer(PEER, statement, Micros(6))
        assert refusal.value.code == code and refusal.value.numbers["known"] == 2
    assert book.of(OWNER.peer) == (head(2),) and book.of(OTHER.peer) == ()
    assert book.catalogue_of(OWNER.peer, VOLUME) == b"c" * 32
    with pytest.raises(RemoteViolation):
        book.offer(PEER, structs.replace(head(3), signer=OTHER.peer), Micros(7))
    with pytest.raises(RemoteViolation):
        book.offer(PEER, structs.replace(head(3), signature=bytes(64)), Micros(7))
    assert book.of(OWNER.peer) == (head(2),)


def test_a_stranger_cannot_take_the_name_of_a_volume() -> None:
    book = HeadBook(NET)
    book.offer(PEER, head(2), Micros(0))
    book.offer(PEER, head(9, owner=OTHER), Micros(0))
    assert book.of(OWNER.peer) == (head(2),)


def test_heads_are_bounded_and_end() -> None:
    book = HeadBook(NET)
    for number in range(volumes.HEADS_PER_OWNER):
        book.offer(PEER, head(1, volume=number.to_bytes(16, "big")), Micros(number))
    with pytest.raises(Refused, match="64 heads"):
        book.offer(PEER, head(1), Micros(0))
    assert book.offer(PEER, head(1, owner=OTHER), Micros(volumes.HEAD_LIFE))
    gone = book.expired(Micros(volumes.HEAD_LIFE + 1))
    assert len(gone) == 2 and len(book) == volumes.HEADS_PER_OWNER - 1


class Heads(RuleBasedStateMachine):
    """Whatever order heads come in, what is kept is the newest that was seen of each volume."""

    def __init__(self) -> None:
        super().__init__()
        self.book = HeadBook(NET)
        self.best: dict[bytes, tuple[int, bytes]] = {}
        self.now = 0

    @rule(
        volume=st.sampled_from([b"1" * 16, b"2" * 16]),
        sequence=st.integers(1, 9),
        content=st.sampled_from([b"c", b"d"]),
    )
    def offered(self, volume: bytes, sequence: int, content: bytes) -> None:
        self.now += 1
        known = self.best.get(volume)
        try:
            self.book.offer(PEER, head(sequence, content * 32, volume=volume), Micros(self.now))
        except Refused:
            assert known is not None and (sequence, content) != known and sequence <= known[0]
        else:
            assert known is None or sequence > known[0] or (sequence, content) == known
            self.best[volume] = (sequence, content)

    @invariant()
    def the_newest_is_kept(self) -> None:
        kept = {volume: self.book.catalogue_of(OWNER.peer, volume) for volume in self.best}
        assert kept == {volume: content * 32 for volume, (_, content) in self.best.items()}


TestHeads = Heads.TestCase
