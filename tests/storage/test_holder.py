"""storage/holder.py: what was acknowledged is kept, and nothing else is promised."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from protocol.completions import Encoded, Fetched, FetchFailed, Proved
from protocol.effects import Compute, Effect, Encode, Fail, Fetch, Forget, Prove, Send, Store
from protocol.errors import Refused, RemoteViolation
from protocol.identity import Identity
from protocol.snapshots import (
    Challenge,
    ChallengeAnswer,
    Keep,
    Kept,
    NotKept,
    Pack,
    Release,
    Renew,
    Spread,
    SpreadDone,
    is_receipt,
)
from protocol.units import DAY, HOUR, MINUTE, Digest, Micros
from storage.holder import NOTHING, PROOFS_MAX, Holder
from storage.leases import GRACE, LEASE_MAX
from storage.pins import Pins

START = Micros(1_000 * DAY)
ME, OWNER, OTHER, THIRD = (Identity(bytes([n]) * 32) for n in range(1, 5))
QUOTA = 10_000


@dataclass
class Shop:
    """A holder and its disk."""

    quota: int = QUOTA
    disk: int = 1 << 40
    blobs: dict[Digest, int] = field(default_factory=dict)
    records: dict[str, bytes] = field(default_factory=dict)
    sent: list[tuple[bytes, object]] = field(default_factory=list)
    fetches: list[Fetch] = field(default_factory=list)
    works: list[object] = field(default_factory=list)
    now: Micros = START

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        pins = Pins(lambda digest: digest in self.blobs)
        self.holder = Holder(ME, "test", pins, self.quota, lambda: self.disk - sum(self.blobs.values()))
        self.perform(self.holder.restore(list(self.records.items()), self.now))

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Store(key, value):
                    self.records.pop(key, None)
                    if value is not None:
                        self.records[key] = value
                case Send(peer, message):
                    self.sent.append((peer, message))
                case Compute(Fetch() as fetch):
                    self.fetches.append(fetch)
                case Compute(Forget(digest)):
                    del self.blobs[digest]
                case Compute(work):
                    self.works.append(work)
                case Fail(error):
                    self.works.append(error)

    def tell(self, sender: Identity, message: object) -> list[object]:
        """What is sent because of a message."""
        self.sent.clear()
        self.perform(self.holder.receive(sender.peer, message, self.now))  # type: ignore[arg-type]
        return [said for _, said in self.sent]

    def come(self, shard: Digest, size: int) -> list[object]:
        self.blobs[shard] = size
        return self.tell(ME, Fetched(shard, size))

    def keep(self, shard: Digest, owner: Identity = OWNER, size: int = 100, span: int = HOUR) -> list[object]:
        return self.tell(owner, Keep(shard, size, self.now + span, "rolling", (OTHER.peer,)))

    def wait(self, span: int) -> None:
        self.now = Micros(self.now + span)
        self.perform(self.holder.tick(self.now))


def name(number: int) -> Digest:
    return Digest(blake3(number.to_bytes(4, "big")).digest())


def code(said: list[object]) -> str:
    assert len(said) == 1
    assert isinstance(said[0], NotKept)
    return said[0].code


def test_a_receipt_comes_when_the_shard_and_its_lease_are_on_disk() -> None:
    shop = Shop()
    assert shop.keep(name(1)) == []
    assert shop.fetches == [Fetch(name(1), 100, (OTHER.peer, OWNER.peer))]
    assert not shop.records
    (said,) = shop.come(name(1), 100)
    assert isinstance(said, Kept)
    assert is_receipt("test", said, Pack(100, 100, "copy", 1, 3, (name(1),)))
    assert list(shop.records) == [f"shard/{name(1).hex()}"]
    shop.start()
    assert shop.holder.holds(name(1))
    assert isinstance(shop.tell(OWNER, Renew((name(1),), shop.now + HOUR))[0], Kept)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"size": QUOTA + 1}, "owner_full"),
        ({"size": 1 << 30}, "too_large"),
        ({"size": QUOTA // 2 + 1}, "owner_full"),
        ({"until": START - 1}, "lease_over"),
        ({"until": START + LEASE_MAX["rolling"] + MINUTE}, "lease_too_long"),
    ],
)
def test_it_refuses_with_numbers(change: dict[str, int], expected: str) -> None:
    keep = Keep(name(1), 100, START + HOUR, "rolling", ())
    said = Shop().tell(OWNER, msgspec.structs.replace(keep, **change))
    assert code(said) == expected
    assert isinstance(said[0], NotKept)
    assert any(character.isdigit() for character in said[0].detail)


def test_full_counts_what_is_on_its_way() -> None:
    shop = Shop()
    for number in range(50):
        assert shop.keep(name(number)) == []
    assert code(shop.keep(name(50))) == "owner_full"
    for number in range(60, 110):
        assert shop.keep(name(number), OTHER) == []
    assert code(shop.keep(name(111), THIRD)) == "full"


def test_a_full_disk_is_said_before_and_during_the_write() -> None:
    shop = Shop(disk=150)
    assert shop.keep(name(1)) == []
    assert code(shop.keep(name(2))) == "disk_full"
    said = shop.tell(ME, FetchFailed(name(1), "the disk is full: 100 bytes could not be written"))
    assert code(said) == "fetch_failed"
    assert not shop.records
    assert shop.holder.usage.used == 0


def test_a_shard_of_another_size_is_not_kept_and_its_owner_is_named() -> None:
    shop = Shop()
    shop.keep(name(1))
    said = shop.come(name(1), 99)
    assert code(said) == "wrong_size"
    assert isinstance(shop.works[-1], RemoteViolation)
    assert name(1) not in shop.blobs


def test_two_owners_each_have_their_lease() -> None:
    shop = Shop()
    shop.keep(name(1), OWNER)
    shop.keep(name(1), OTHER)
    assert len(shop.fetches) == 1
    assert len(shop.come(name(1), 100)) == 2
    shop.tell(OWNER, Release((name(1),)))
    assert name(1) in shop.blobs
    shop.tell(OTHER, Release((name(1),)))
    assert name(1) not in shop.blobs
    assert not shop.records


def test_release_and_renewal_by_a_stranger() -> None:
    shop = Shop()
    shop.keep(name(1))
    shop.come(name(1), 100)
    with pytest.raises(Refused, match="only who asked"):
        shop.tell(OTHER, Release((name(1),)))
    assert code(shop.tell(OTHER, Renew((name(1),), shop.now + HOUR))) == "gone"
    assert shop.holder.holds(name(1))


def test_a_release_while_it_is_on_its_way_leaves_nothing() -> None:
    shop = Shop()
    shop.keep(name(1))
    shop.tell(OWNER, Release((name(1),)))
    assert shop.come(name(1), 100) == []
    assert name(1) not in shop.blobs


def test_a_blob_that_was_here_before_is_never_deleted() -> None:
    """Else a stranger could have this node delete a job's input."""
    shop = Shop()
    shop.blobs[name(1)] = 100
    shop.keep(name(1))
    shop.come(name(1), 100)
    shop.start()
    shop.tell(OWNER, Release((name(1),)))
    assert name(1) in shop.blobs
    assert not shop.holder.holds(name(1))


def test_leases_end_after_their_grace_rolling_ones_long_before_anchors() -> None:
    shop = Shop()
    shop.keep(name(1))
    shop.come(name(1), 100)
    shop.tell(OWNER, Keep(name(2), 100, shop.now + HOUR, "anchor", ()))
    shop.come(name(2), 100)
    shop.wait(HOUR + 2 * MINUTE)
    assert set(shop.blobs) == {name(1), name(2)}  # Somebody may be bringing it back.
    shop.wait(GRACE["rolling"])
    assert set(shop.blobs) == {name(2)}
    shop.wait(GRACE["anchor"] - GRACE["rolling"] - MINUTE * 10)
    assert set(shop.blobs) == {name(2)}
    shop.wait(HOUR)
    assert not shop.blobs
    assert not shop.records


def test_a_lease_is_never_shortened() -> None:
    shop = Shop()
    shop.keep(name(1), span=2 * HOUR)
    shop.come(name(1), 100)
    (said,) = shop.keep(name(1), span=HOUR)
    assert isinstance(said, Kept)
    assert said.until == START + 2 * HOUR


def test_only_an_owner_has_a_shard_proved() -> None:
    shop = Shop()
    shop.keep(name(1))
    shop.come(name(1), 100)
    asked = Challenge(name(1), bytes(range(32)), (5, 9), 10)
    assert shop.tell(OTHER, asked) == [ChallengeAnswer(name(1), asked.nonce, NOTHING)]
    assert shop.tell(OWNER, asked) == []
    assert shop.works[-1] == Prove(OWNER.peer, asked)
    assert shop.tell(ME, Proved(OWNER.peer, name(1), asked.nonce, bytes([7]) * 32)) == [
        ChallengeAnswer(name(1), asked.nonce, bytes([7]) * 32)
    ]
    with pytest.raises(RemoteViolation):
        shop.tell(OWNER, msgspec.structs.replace(asked, offsets=(100,)))
    for _ in range(PROOFS_MAX):
        shop.tell(OWNER, asked)
    with pytest.raises(Refused, match="being answered"):
        shop.tell(OWNER, asked)


def test_a_lost_blob_is_not_pretended_after_a_restart() -> None:
    shop = Shop()
    shop.keep(name(1))
    shop.come(name(1), 100)
    shop.blobs.clear()
    assert shop.tell(OWNER, Challenge(name(1), bytes(32), (0,), 1)) == [ChallengeAnswer(name(1), bytes(32), NOTHING)]
    shop.start()
    assert not shop.records
    assert code(shop.tell(OWNER, Renew((name(1),), shop.now + HOUR))) == "gone"


def a_pack(k: int = 2, n: int = 4) -> Pack:
    return Pack(150, 100, "rs", k, n, tuple(name(100 + number) for number in range(n)))


def test_a_standby_fetches_the_data_makes_the_parity_and_holds_all() -> None:
    shop = Shop()
    pack = a_pack()
    spread = Spread(bytes(32), 0, 1, pack, shop.now + HOUR)
    assert shop.tell(OWNER, spread) == []
    assert [fetch.digest for fetch in shop.fetches] == [name(100), name(101)]
    assert all(fetch.sources == (OWNER.peer,) for fetch in shop.fetches)
    shop.come(name(100), 100)
    assert shop.come(name(101), 100) == []
    assert shop.works == [Encode(pack)]
    shop.blobs.update({name(102): 100, name(103): 100})
    assert shop.tell(ME, Encoded(name(100), "")) == [SpreadDone(name(100), "")]
    assert shop.holder.usage.shards == 4
    assert shop.tell(OWNER, Release(pack.shards)) == []
    assert not shop.blobs


@pytest.mark.parametrize("end", ["fetch", "encode"])
def test_a_standby_that_cannot_says_so_and_keeps_nothing(end: str) -> None:
    shop = Shop()
    shop.tell(OWNER, Spread(bytes(32), 0, 1, a_pack(), shop.now + HOUR))
    shop.come(name(100), 100)
    if end == "fetch":
        assert shop.tell(ME, FetchFailed(name(101), "no source")) == [SpreadDone(name(100), "fetch_failed")]
    else:
        shop.come(name(101), 100)
        assert shop.tell(ME, Encoded(name(100), "shards_disagree")) == [SpreadDone(name(100), "shards_disagree")]
    assert not shop.blobs
    assert not shop.records


def test_a_pack_beyond_the_quota_or_malformed() -> None:
    shop = Shop()
    large = msgspec.structs.replace(a_pack(), size=4_000, shard_size=2_000)
    assert shop.tell(OWNER, Spread(bytes(32), 0, 1, large, shop.now + HOUR)) == [SpreadDone(name(100), "owner_full")]
    with pytest.raises(RemoteViolation):
        shop.tell(OWNER, Spread(bytes(32), 0, 1, msgspec.structs.replace(a_pack(), k=3, size=301), shop.now + HOUR))


class Everybody(RuleBasedStateMachine):
    """Owners do anything in any order; disks fail; the process is killed at any point."""

    kept = Bundle("kept")

    @initialize()
    def open(self) -> None:
        self.shop = Shop(quota=2_000)
        self.promised: dict[tuple[bytes, Digest], int] = {}

    def _note(self, owner: Identity, said: list[object]) -> None:
        for one in said:
            if isinstance(one, Kept):
                known = self.promised.get((owner.peer, Digest(one.shard)), 0)
                self.promised[owner.peer, Digest(one.shard)] = max(known, one.until)

    @rule(target=kept, number=st.integers(0, 9), owner=st.sampled_from([OWNER, OTHER]), span=st.integers(1, 7 * HOUR))
    def keep(self, number: int, owner: Identity, span: int) -> tuple[int, Identity]:
        self._note(owner, self.shop.keep(name(number), owner, 100 + number, span))
        return number, owner

    @rule(works=st.booleans())
    def delivered(self, works: bool) -> None:
        for fetch in self.shop.fetches[:1]:
            self.shop.fetches.pop(0)
            if works:
                self.shop.blobs[fetch.digest] = fetch.size_max
            done = Fetched(fetch.digest, fetch.size_max) if works else FetchFailed(fetch.digest, "gone")
            self.shop.tell(ME, done)
            for peer, said in list(self.shop.sent):
                self._note(OWNER if peer == OWNER.peer else OTHER, [said])

    @rule(held=consumes(kept))
    def release(self, held: tuple[int, Identity]) -> None:
        number, owner = held
        self.promised.pop((owner.peer, name(number)), None)
        try:
            self.shop.tell(owner, Release((name(number),)))
        except Refused as refusal:
            assert refusal.code == "not_owner"

    @rule(held=kept, span=st.integers(1, 5 * HOUR))
    def renew(self, held: tuple[int, Identity], span: int) -> None:
        number, owner = held
        self._note(owner, self.shop.tell(owner, Renew((name(number),), self.shop.now + span)))

    @rule(span=st.integers(1, 2 * HOUR))
    def wait(self, span: int) -> None:
        self.shop.wait(span)

    @rule()
    def killed(self) -> None:
        self.shop.fetches.clear()
        self.shop.start()

    @invariant()
    def nothing_acknowledged_is_lost(self) -> None:
        if not hasattr(self, "shop"):
            return
        for (_, shard), until in self.promised.items():
            if until > self.shop.now:
                assert shard in self.shop.blobs
        assert self.shop.holder.usage.used <= 2_000


Everybody.TestCase.settings = settings(max_examples=40, stateful_step_count=40)
TestEverybody = Everybody.TestCase


@given(st.integers(0, 2**62), st.integers(1, 2**40))
def test_receipts_are_bound_to_everything_in_them(until: int, size: int) -> None:
    shop = Shop()
    shop.keep(name(1))
    (said,) = shop.come(name(1), 100)
    assert isinstance(said, Kept)
    pack = Pack(100, 100, "copy", 1, 3, (name(1),))
    changed = msgspec.structs.replace(said, until=until, size=size)
    assert is_receipt("test", changed, pack) == (changed == said)
    assert not is_receipt("other", said, pack)
    assert said.until - START == HOUR
