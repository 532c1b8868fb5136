"""storage/sweeping.py: a word to those who are there, as often as it takes, and then no more."""

from __future__ import annotations

from protocol.effects import Effect, Send
from protocol.snapshots import SHARDS_PER_MESSAGE, Release
from protocol.units import MINUTE, Digest, Micros, PeerId
from storage.sweeping import SEND_AGAIN, SENDS, Sweep

PEER = PeerId(bytes(32))


def shard(number: int) -> Digest:
    return Digest(number.to_bytes(32, "big"))


def released(effects: list[Effect]) -> int:
    assert all(isinstance(one, Send) and isinstance(one.message, Release) for one in effects)
    return sum(len(one.message.shards) for one in effects if isinstance(one, Send) and isinstance(one.message, Release))


def test_it_waits_for_the_peer_and_tells_it_twice() -> None:
    sweep, now = Sweep(), 0
    sweep.add(PEER, [shard(1), shard(2)], Micros(100 * MINUTE))
    assert sweep.tick(Micros(now), lambda _peer: False) == []
    for _ in range(SENDS):
        assert released(sweep.tick(Micros(now), lambda _peer: True)) == 2
        assert sweep.tick(Micros(now), lambda _peer: True) == []
        now += SEND_AGAIN
    assert sweep.tick(Micros(now), lambda _peer: True) == []
    assert len(sweep) == 0


def test_leases_that_are_over_need_no_word() -> None:
    sweep = Sweep()
    sweep.add(PEER, [shard(1)], Micros(5))
    assert sweep.tick(Micros(5), lambda _peer: True) == []
    assert len(sweep) == 0


def test_what_is_needed_again_is_not_released_and_messages_stay_small() -> None:
    sweep = Sweep()
    sweep.add(PEER, map(shard, range(600)), Micros(MINUTE))
    sweep.forget(PEER, shard(7))
    effects = sweep.tick(Micros(0), lambda _peer: True)
    assert released(effects) == 599
    assert len(effects) == -(-599 // SHARDS_PER_MESSAGE)
