"""Peers that lie, flood, hide or crowd: what they cost, and how soon they are out."""

from __future__ import annotations

from random import Random

from protocol.gossip import params
from protocol.gossip.effects import SendRpc
from protocol.gossip.neighbours import ANSWER_BYTES_MAX
from protocol.gossip.router import Router, message_id
from protocol.gossip.rpc import Envelope, Rpc
from protocol.gossip.scores import Scores, Weights
from protocol.units import SECOND, Micros
from tests.protocol.gossip.routers import TOPIC, Town, name

NOW = Micros(10 * SECOND)


def town_with_strangers(honest: int, strangers: int, seed: int = 5) -> Town:
    """Honest routers in a mixed graph, and strangers who dial all of them."""
    town = Town(honest + strangers, seed)
    town.mix(4, range(honest))
    for stranger in range(honest, honest + strangers):
        for one in range(honest):
            town.link(stranger, one)
    return town


def test_a_spammer_is_graylisted_by_everybody_it_talks_to_and_nothing_of_it_goes_on() -> None:
    town = town_with_strangers(12, 1)
    town.run(5)
    for number in range(12):
        for one in range(12):
            town.inject(12, one, b"bad %d to %d" % (number, one))
        town.run(0.1)
    graylist = Weights().graylist_threshold
    assert all(town.score(one, 12) < graylist for one in range(12))
    assert not any(12 in town.mesh(one) for one in range(12))
    assert not any(word.startswith(b"bad") for heard in town.heard for word in heard)
    assert all(not town.score(one, other) < 0 for one in range(12) for other in range(12) if other != one)
    town.say(0, b"honest")
    town.run(2)
    assert not list(town.missing([b"honest"], range(12)))


def test_leaving_and_coming_back_washes_nothing_off() -> None:
    town = town_with_strangers(3, 1)
    town.run(2)
    for number in range(6):
        town.inject(3, 0, b"bad %d" % number)
    town.run(1)
    before = town.score(0, 3)
    town.unlink(3, 0)
    town.run(5)
    town.link(3, 0)
    assert town.score(0, 3) <= before * 0.8 < 0
    town.run(700)
    assert town.score(0, 3) >= 0, "after ten minutes it is forgiven"


def test_covert_flash() -> None:
    """Sybils behave for two minutes, fill meshes, then drop everything at once: statements still reach all the honest,
    because their makers flood them and IHAVE goes around; and the sybils' credit fades."""
    town = town_with_strangers(16, 24, 9)
    for number in range(240):
        town.say(number % 40, b"before %d" % number)
        town.run(0.5)
    sybils = range(16, 40)
    assert any(one in town.mesh(honest) for one in sybils for honest in range(16)), "they are in meshes by now"
    town.mute = lambda source, rpc: rpc._replace(messages=()) if source >= 16 else rpc
    words = [b"after %d" % number for number in range(60)]
    for number, word in enumerate(words):
        town.say(number % 16, word)
        town.run(0.5)
    town.run(4)
    assert not list(town.missing(words, range(16)))
    honest = [town.score(one, other) for one in range(16) for other in town.mesh(one) if other < 16]
    covert = [town.score(one, other) for one in range(16) for other in town.mesh(one) if other >= 16]
    assert not covert or sum(honest) / len(honest) > 2 * sum(covert) / len(covert)


def test_credit_is_capped_so_that_nobody_saves_up_for_an_attack() -> None:
    scores = Scores(Weights())
    scores.connected(name(1), "")
    for topic in ("a", "b", "c"):
        scores.entered_mesh(name(1), topic, Micros(0))
        for _ in range(1_000):
            scores.delivered(name(1), topic, is_first=True)
    assert scores.value(name(1), NOW) <= 20.0
    for _ in range(4):
        scores.brought_invalid(name(1), "a")
    assert scores.value(name(1), NOW) < Weights().graylist_threshold


def test_ihave_spam_is_bounded_and_broken_promises_cost_the_place() -> None:
    router = Router((TOPIC,), Random(1))
    router.connected(name(1), False, "")
    router.receive(name(1), Rpc(subscriptions=((True, TOPIC),)), NOW)
    asked = 0
    now = NOW
    for beat in range(12):
        for number in range(40):
            ids = tuple(message_id(TOPIC, b"%d/%d/%d" % (beat, number, each)) for each in range(600))
            effects = router.receive(name(1), Rpc(ihave=((TOPIC, ids),)), now)
            asked += sum(len(effect.rpc.iwant) for effect in effects if isinstance(effect, SendRpc))
        now = Micros(now + SECOND)
        router.tick(now)
    assert asked <= 12 * params.IDS_MAX
    assert router.scores.value(name(1), now) < Weights().gossip_threshold
    before = router.counts["iwant_sent"]
    router.receive(name(1), Rpc(ihave=((TOPIC, (bytes(20),)),)), now)
    assert router.counts["iwant_sent"] == before, "it is not believed any more"


def test_iwant_spam_gets_a_statement_three_times_and_a_mebibyte() -> None:
    router = Router((TOPIC,), Random(1))
    router.connected(name(1), False, "")
    router.publish(TOPIC, b"x", NOW)
    wanted = Rpc(iwant=(message_id(TOPIC, b"x"),) * 50)
    got = [e for e in router.receive(name(1), wanted, NOW) if isinstance(e, SendRpc)]
    assert sum(len(effect.rpc.messages) for effect in got) == params.REPEATS_MAX
    names = []
    for number in range(60):
        data = bytes([number]) * 40_000
        router.publish(TOPIC, data, NOW)
        names.append(message_id(TOPIC, data))
    got = [e for e in router.receive(name(1), Rpc(iwant=tuple(names)), NOW) if isinstance(e, SendRpc)]
    assert sum(len(each.data) for effect in got for each in effect.rpc.messages) <= ANSWER_BYTES_MAX


def test_a_flood_of_new_statements_waits_in_bounds() -> None:
    """Nobody decides: what is not looked at yet is limited, and so is what is remembered."""
    router = Router((TOPIC,), Random(1))
    for peer in range(1, 10):
        router.connected(name(peer), False, "")
    for number in range(3 * params.PENDING_MAX):
        router.receive(name(1), Rpc(messages=(Envelope(TOPIC, b"%d" % number),)), NOW)
    assert len(router._pending) == params.PENDING_MAX // 2, "one neighbour leaves room for the others"
    for peer in range(2, 10):
        for number in range(params.PENDING_SHARE):
            router.receive(name(peer), Rpc(messages=(Envelope(TOPIC, b"%d by %d" % (number, peer)),)), NOW)
        alone = min(params.PENDING_MAX, params.PENDING_MAX // 2 + params.PENDING_SHARE * (peer - 1))
        assert len(router._pending) == alone
    assert router.counts["messages_dropped"] == 3 * params.PENDING_MAX - 512 + 4 * params.PENDING_SHARE


def test_a_crowd_behind_one_address_fills_no_mesh_but_is_heard() -> None:
    town = Town(60, 4)
    for number in range(1, 11):
        town.link(0, number, "", f"11.0.0.{number}")
    for number in range(11, 60):
        town.link(number, 0, "11.22.33.44", "")
    town.run(5)
    assert all(one <= 10 for one in town.mesh(0))
    town.inject(59, 0, b"a word from the crowd")
    town.run(1)
    assert town.heard[0][b"a word from the crowd"] == 1


def test_private_addresses_are_no_crowd() -> None:
    town = Town(30, 4)
    for number in range(1, 30):
        town.link(number, 0, "192.168.1.7", "127.0.0.1")
    town.run(3)
    assert all(town.score(0, number) >= 0 for number in range(1, 30))


def test_a_mesh_of_mutes_is_improved() -> None:
    """A mesh whose members bring nothing takes in neighbours that announce what it missed (opportunistic grafting)."""
    town = Town(24, 11)
    town.mute = lambda source, rpc: rpc._replace(messages=()) if 1 <= source <= 6 else rpc
    for number in range(1, 7):
        town.link(0, number)
    town.run(3)
    assert set(town.mesh(0)) == set(range(1, 7))
    for number in range(7, 24):
        town.link(number, 0)
    town.mix(5, range(7, 24))
    for number in range(150):
        town.say(7 + number % 17, b"%d" % number)
        town.run(0.5)
    assert any(one > 6 for one in town.mesh(0))
