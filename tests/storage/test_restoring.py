"""storage/restoring.py: the k fastest of n, whoever hangs, breaks or lies. The first list is Tahoe-LAFS's."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Refused
from protocol.snapshots import Pack
from protocol.units import SECOND, Micros, PeerId
from storage.restoring import HEDGE, SLOW_MIN, Restoring

GOOD, BROKEN, HUNG = "good", "broken", "hung"


def pack(k: int = 3, n: int = 10) -> Pack:
    return Pack(1_000 * k, 1_000, "rs", k, n, tuple(blake3(bytes([index])).digest() for index in range(n)))


def peer(number: int) -> PeerId:
    return PeerId(number.to_bytes(32, "big"))


@dataclass
class Servers:
    """One shard each; a good one takes a second, a hung one for ever."""

    kinds: list[str]
    recovers: dict[int, int] = field(default_factory=dict)
    """Hung servers and the second at which they answer after all."""
    asked: int = 0

    def restore(self, restoring: Restoring, seconds: int = 60) -> int:
        """Seconds until it is done. Refused when it cannot be."""
        under_way: dict[int, int] = {}
        for second in range(seconds):
            now = Micros(second * SECOND)
            restoring.look(now)
            for ask in restoring.asks(now):
                self.asked += 1
                under_way[ask.index] = second
            for index, since in sorted(under_way.items()):
                kind = self.kinds[index]
                recovered = kind == HUNG and self.recovers.get(index, seconds) <= second
                if kind == BROKEN:
                    restoring.failed(index, peer(index))
                    del under_way[index]
                elif recovered or (kind == GOOD and second > since):
                    restoring.arrived(index)
                    del under_way[index]
            if restoring.is_done:
                return second
        raise AssertionError("it hangs")


def restoring(k: int = 3, n: int = 10, local: tuple[int, ...] = ()) -> Restoring:
    return Restoring(pack(k, n), [(index, peer(index)) for index in range(n)], local, lambda _peer: 1.0)


def test_ten_good() -> None:
    servers = Servers([GOOD] * 10)
    assert servers.restore(restoring()) == 1
    assert servers.asked == 3 + HEDGE


def test_three_good_seven_hung() -> None:
    assert Servers([HUNG] * 7 + [GOOD] * 3).restore(restoring()) < 20


def test_two_good_eight_broken() -> None:
    with pytest.raises(Refused, match="2 of 10 shards answer, 3 are needed") as refused:
        Servers([BROKEN] * 8 + [GOOD] * 2).restore(restoring())
    assert refused.value.numbers == {"reachable": 2, "shards": 10, "needed": 3}


def test_two_good_eight_hung_then_one_recovers() -> None:
    assert Servers([HUNG] * 8 + [GOOD] * 2, {4: 30}).restore(restoring()) == 30


def test_what_is_here_is_not_fetched() -> None:
    servers = Servers([GOOD] * 10)
    local = restoring(local=(0, 1, 2))
    assert local.is_done
    assert local.asks(Micros(0)) == []
    assert servers.restore(restoring(local=(8, 9))) == 1
    assert servers.asked == 1 + HEDGE


def test_data_shards_and_fast_holders_come_first() -> None:
    fast = {peer(7): 10.0}
    made = Restoring(
        pack(), [(index, peer(index)) for index in range(10)], (), lambda holder: fast.get(holder, 1.0)
    ).asks(Micros(0))
    assert [ask.index for ask in made] == [7, 0, 1, 2, 3]


def test_another_holder_of_the_same_shard_is_asked_when_one_fails() -> None:
    copy = Pack(500, 500, "copy", 1, 3, (bytes(32),))
    made = Restoring(copy, [(0, peer(0)), (1, peer(1)), (2, peer(2))], (), lambda _peer: 1.0)
    first = made.asks(Micros(0))
    assert len(first) == 2
    for ask in first:
        made.failed(ask.index)
    (last,) = made.asks(Micros(0))
    made.failed(last.index)
    with pytest.raises(Refused, match="0 of 3 shards answer, 1 are needed"):
        made.asks(Micros(0))


def test_a_late_shard_still_counts() -> None:
    made = restoring()
    first = made.asks(Micros(0))
    made.look(SLOW_MIN)
    assert len(made.asks(SLOW_MIN)) == 5
    for ask in first[:2]:
        assert made.arrived(ask.index) == []
    assert first[2].index not in made.arrived(first[2].index)
    assert made.is_done


@given(
    kinds=st.lists(st.sampled_from([GOOD, BROKEN, HUNG]), min_size=14, max_size=14),
    local=st.sets(st.integers(0, 13), max_size=8),
)
def test_it_comes_back_exactly_when_k_can_be_had(kinds: list[str], local: set[int]) -> None:
    good = {index for index, kind in enumerate(kinds) if kind == GOOD} | local
    able = good | {index for index, kind in enumerate(kinds) if kind == HUNG}
    made = restoring(8, 14, tuple(local))
    if len(good) >= 8:
        assert Servers(kinds).restore(made) < 60
        assert len(made.have) >= 8
    elif len(able) < 8:
        with pytest.raises(Refused):
            Servers(kinds).restore(made)
