"""The watcher: who may ask, when it gives its word, and what it does not take for silence."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from protocol import operations, wire
from protocol.effects import Effect, Emit, Send, Wake
from protocol.errors import LocalError, Refused, RemoteViolation
from protocol.greetings import Goodbye, Hello
from protocol.identity import Identity, is_signed_by
from protocol.ledger import operation_decoder
from protocol.liveness import SILENCE_DEAD, Alive, Unknown
from protocol.messages import Attestation, Beat, Unwatch, Watch
from protocol.operations import Assign, Claim, Fence, SignedOp
from protocol.units import SECOND, Micros
from protocol.watcher import ATTEST_AGAIN, LOOK_INTERVAL, WATCHES_PER_STEWARD_MAX, Watcher

CHAIN = "test"
NOW = Micros(1_000_000 * SECOND)
ME, STEWARD, PROVIDER, OTHER = (Identity(bytes([n]) * 32) for n in range(1, 5))
ESCROW = b"e" * 32


def assign(chunk: int = 0, epoch: int = 1, watchers: tuple[Identity, ...] = (STEWARD, ME)) -> Assign:
    peers = tuple(watcher.peer for watcher in watchers)
    return Assign(ESCROW, chunk, epoch, PROVIDER.peer, 10, 10, NOW + 60 * SECOND, NOW + 600 * SECOND, peers)


def watch(lease: Assign, signer: Identity = STEWARD) -> Watch:
    return Watch(operations.signed_op(CHAIN, lease, signer, PROVIDER))


def beat(chunk: int = 0, epoch: int = 1, sequence: int = 0, health: int = 1) -> Beat:
    return Beat(ESCROW, chunk, epoch, sequence, "running", health)


def watching() -> Watcher:
    watcher = Watcher(ME, CHAIN)
    assert watcher.receive(STEWARD.peer, watch(assign()), NOW) == [Wake(Micros(NOW + LOOK_INTERVAL))]
    return watcher


def run(watcher: Watcher, start: Micros, end: Micros) -> list[tuple[Micros, Effect]]:
    """Look at the pace the watcher asks for; everything but wake-ups, with its time."""
    said: list[tuple[Micros, Effect]] = []
    now = start
    while now < end:
        now = Micros(now + LOOK_INTERVAL)
        said += [(now, effect) for effect in watcher.tick(now) if not isinstance(effect, Wake)]
    return said


def attestations(said: list[tuple[Micros, Effect]]) -> list[tuple[Micros, SignedOp]]:
    found = []
    for at, effect in said:
        if isinstance(effect, Send) and isinstance(effect.message, Attestation):
            assert effect.peer == STEWARD.peer
            found.append((at, effect.message.operation))
    return found


def test_a_silent_provider_is_unknown_then_dead_and_the_word_is_a_signed_fence() -> None:
    watcher = watching()
    said = run(watcher, NOW, Micros(NOW + 9 * SECOND))
    states = [(at - NOW, effect.fields["state"]) for at, effect in said if isinstance(effect, Emit)]
    assert states == [(1_750_000, "unknown"), (5_000_000, "dead")]
    words = attestations(said)
    assert [at - NOW for at, _ in words] == [5 * SECOND, 5 * SECOND + ATTEST_AGAIN]
    operation = words[0][1]
    assert wire.decode(operation.body, operation_decoder, STEWARD.peer) == Fence(ESCROW, 0, 1)
    assert operation.signatures[0].signer == ME.peer
    assert is_signed_by(ME.peer, wire.signing_bytes(CHAIN, "op", operation.body), operation.signatures[0].signature)


def test_a_provider_that_comes_back_in_time_has_lost_nothing() -> None:
    watcher = watching()
    first = run(watcher, NOW, Micros(NOW + 4 * SECOND))
    back = watcher.receive(PROVIDER.peer, beat(), Micros(NOW + 4 * SECOND))
    assert [effect.fields["state"] for effect in back if isinstance(effect, Emit)] == ["alive"]
    assert attestations(first) == []
    assert isinstance(watcher.states(Micros(NOW + 4 * SECOND))[PROVIDER.peer], Alive)


def test_a_goodbye_is_suspect_at_once_and_dead_after_two_seconds() -> None:
    watcher = watching()
    left = watcher.receive(PROVIDER.peer, Goodbye("bye"), NOW)
    assert [effect.fields["state"] for effect in left if isinstance(effect, Emit)] == ["unknown"]
    words = attestations(run(watcher, NOW, Micros(NOW + 3 * SECOND)))
    assert [at - NOW for at, _ in words] == [2 * SECOND]


def test_beats_after_a_goodbye_take_it_back() -> None:
    watcher = watching()
    watcher.receive(PROVIDER.peer, Goodbye("bye"), NOW)
    watcher.receive(PROVIDER.peer, beat(), Micros(NOW + SECOND))
    assert attestations(run(watcher, NOW, Micros(NOW + 4 * SECOND))) == []


def test_only_the_providers_own_beats_for_this_epoch_count() -> None:
    watcher = watching()
    for number in range(24):
        watcher.receive(OTHER.peer, beat(), Micros(NOW + number * LOOK_INTERVAL))
        watcher.receive(PROVIDER.peer, beat(epoch=2), Micros(NOW + number * LOOK_INTERVAL))
        watcher.receive(OTHER.peer, Goodbye("bye"), NOW)
    assert len(attestations(run(watcher, NOW, Micros(NOW + 6 * SECOND)))) == 1


def test_a_watcher_that_slept_blames_itself() -> None:
    watcher = watching()
    run(watcher, NOW, Micros(NOW + SECOND))
    woken = Micros(NOW + 61 * SECOND)
    said = watcher.tick(woken)
    assert not any(isinstance(effect, Send) for effect in said)
    assert watcher.health == 8
    watcher.receive(PROVIDER.peer, beat(), woken)
    assert attestations(run(watcher, woken, Micros(woken + 4 * SECOND))) == []
    assert watcher.health == 1


def test_a_providers_own_word_about_its_health_buys_little() -> None:
    watcher = watching()
    watcher.receive(PROVIDER.peer, beat(health=8), NOW)
    words = attestations(run(watcher, NOW, Micros(NOW + 11 * SECOND)))
    assert [at - NOW for at, _ in words] == [2 * SILENCE_DEAD]


def test_unwatch_and_a_newer_epoch_end_a_watch() -> None:
    watcher = watching()
    watcher.receive(STEWARD.peer, watch(assign(epoch=2)), NOW)
    assert len(watcher) == 1
    with pytest.raises(Refused, match="epoch 1") as caught:
        watcher.receive(STEWARD.peer, watch(assign(epoch=1)), NOW)
    assert caught.value.code == "stale_epoch"
    watcher.receive(OTHER.peer, Unwatch(ESCROW, 0, 2), NOW)
    assert len(watcher) == 1
    watcher.receive(STEWARD.peer, Unwatch(ESCROW, 0, 2), NOW)
    assert len(watcher) == 0
    assert watcher.tick(Micros(NOW + 10 * SECOND)) == []


def test_the_same_watch_twice_keeps_what_was_heard() -> None:
    watcher = watching()
    later = Micros(NOW + 3 * SECOND)
    assert watcher.receive(STEWARD.peer, watch(assign()), later) == []
    assert isinstance(watcher.states(later)[PROVIDER.peer], Unknown)


def _unsigned(lease: Assign) -> Watch:
    return Watch(SignedOp(wire.encode(lease), ()))


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (watch(assign(), OTHER), "bad_signature"),
        (_unsigned(assign()), "bad_signature"),
        (Watch(operations.signed_op("elsewhere", assign(), STEWARD)), "bad_signature"),
        (watch(assign(watchers=(STEWARD, OTHER))), "not_a_watcher"),
        (watch(assign(watchers=(ME, OTHER))), "not_a_watcher"),
        (Watch(operations.signed_op(CHAIN, Claim(ESCROW, 0, 1, bytes(32)), STEWARD)), "malformed"),
        (Watch(SignedOp(b"\xc1", ())), "malformed"),
    ],
)
def test_a_watch_that_proves_nothing_is_a_violation(message: Watch, code: str) -> None:
    watcher = Watcher(ME, CHAIN)
    with pytest.raises(RemoteViolation) as caught:
        watcher.receive(STEWARD.peer, message, NOW)
    assert (caught.value.code, caught.value.peer) == (code, STEWARD.peer)
    assert len(watcher) == 0


def test_two_leases_for_one_epoch_are_equivocation() -> None:
    watcher = watching()
    with pytest.raises(RemoteViolation) as caught:
        watcher.receive(STEWARD.peer, watch(assign(watchers=(STEWARD, ME, OTHER))), NOW)
    assert caught.value.code == "equivocation"
    with pytest.raises(LocalError):
        watcher.receive(STEWARD.peer, Hello("n", 1, "s", ()), NOW)


def test_one_steward_cannot_use_up_the_room_of_all() -> None:
    watcher = Watcher(ME, CHAIN)
    for chunk in range(WATCHES_PER_STEWARD_MAX):
        watcher.receive(STEWARD.peer, watch(assign(chunk)), NOW)
    with pytest.raises(Refused) as caught:
        watcher.receive(STEWARD.peer, watch(assign(4096)), NOW)
    assert caught.value.code == "watches_full"
    watcher.receive(OTHER.peer, watch(assign(4096, watchers=(OTHER, ME)), OTHER), NOW)
    assert len(watcher) == WATCHES_PER_STEWARD_MAX + 1


class WatcherMachine(RuleBasedStateMachine):
    """However beats, sleeps and goodbyes fall: no word within five seconds of a beat that came in while we looked."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.watcher = Watcher(ME, CHAIN)
        self.heard: dict[int, Micros] = {}
        self.left: Micros | None = None
        self.words: set[int] = set()

    def note(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, Attestation):
                fence = wire.decode(effect.message.operation.body, operation_decoder, ME.peer)
                assert isinstance(fence, Fence)
                if fence.chunk in self.words:
                    continue
                self.words.add(fence.chunk)
                silence = self.now - self.heard[fence.chunk]
                assert silence >= SILENCE_DEAD or (self.left is not None and self.now - self.left >= 2 * SECOND)

    @rule(chunk=st.integers(0, 2))
    def watch(self, chunk: int) -> None:
        if chunk not in self.heard:
            self.note(self.watcher.receive(STEWARD.peer, watch(assign(chunk)), self.now))
            self.heard[chunk] = self.now

    @rule(chunk=st.integers(0, 2), health=st.integers(1, 8))
    def beat(self, chunk: int, health: int) -> None:
        if chunk in self.heard:
            self.heard[chunk] = self.now
            self.note(self.watcher.receive(PROVIDER.peer, beat(chunk, health=health), self.now))

    @rule()
    def goodbye(self) -> None:
        self.note(self.watcher.receive(PROVIDER.peer, Goodbye("bye"), self.now))
        self.left = self.now if self.left is None else self.left

    @rule(looks=st.integers(1, 30))
    def look(self, looks: int) -> None:
        for _ in range(looks):
            self.now = Micros(self.now + LOOK_INTERVAL)
            self.note(self.watcher.tick(self.now))

    @rule(span=st.integers(SECOND, 10**9))
    def sleep(self, span: int) -> None:
        before = set(self.words)
        silent = {chunk for chunk, last in self.heard.items() if self.now - last >= SECOND}
        self.now = Micros(self.now + span)
        self.note(self.watcher.tick(self.now))
        assert self.words - before <= silent or self.left is not None

    @rule(chunk=st.integers(0, 2))
    def unwatch(self, chunk: int) -> None:
        self.watcher.receive(STEWARD.peer, Unwatch(ESCROW, chunk, 1), self.now)
        self.heard.pop(chunk, None)
        self.words.discard(chunk)

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.watcher) == len(self.heard)


TestWatcherMachine = WatcherMachine.TestCase
