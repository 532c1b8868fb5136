"""Routers among each other: everybody hears everything once, meshes keep their bounds, back-offs are obeyed."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import Refused
from protocol.gossip import params
from protocol.gossip.effects import Deliver, GossipEffect, Judge, Rank, SendRpc, Suggest, Verdict
from protocol.gossip.router import ID_BYTES, Router, message_id
from protocol.gossip.rpc import RPC_BYTES_MAX, Envelope, Prune, Rpc
from protocol.units import SECOND, Micros, PeerId
from tests.protocol.gossip.routers import TOPIC, Town, name

NOW = Micros(10 * SECOND)
A, B, C = name(1), name(2), name(3)


def alone(*neighbours: PeerId, is_outbound: bool = True) -> Router:
    """A router whose neighbours follow the topic and are in its mesh as far as there is room."""
    router = Router((TOPIC,), Random(1))
    for peer in neighbours:
        router.connected(peer, is_outbound, "")
        router.receive(peer, Rpc(subscriptions=((True, TOPIC),)), NOW)
    return router


def sent(effects: Sequence[GossipEffect]) -> list[SendRpc]:
    return [effect for effect in effects if isinstance(effect, SendRpc)]


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 24), st.integers(0, 10_000))
def test_everybody_hears_everything_once(count: int, seed: int) -> None:
    town = Town(count, seed)
    town.mix(3)
    town.run(3)
    for number in range(5):
        town.say(number % count, b"word %d" % number)
        town.run(0.5)
    town.run(1)
    assert not list(town.missing([b"word %d" % number for number in range(5)], range(count)))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_what_is_lost_on_the_way_comes_by_iwant(seed: int) -> None:
    """A third of all RPCs vanish, which TCP would not allow, and nearly everybody hears nearly everything."""
    town = Town(16, seed)
    town.mix(4)
    town.run(3)
    dice = Random(seed)
    town.lossy = lambda source, target: dice.random() < 0.3
    words = [b"word %d" % number for number in range(6)]
    for number, word in enumerate(words):
        town.say(number, word)
        town.run(1)
    town.run(5)
    missing = list(town.missing(words, range(16)))
    assert len(missing) <= 5, "of 96: who has all neighbours in its mesh hears no IHAVE, and catches up later"


def test_meshes_keep_their_bounds() -> None:
    town = Town(40, 7)
    town.mix(39)
    town.run(30)
    sizes = [len(town.mesh(one)) for one in range(40)]
    assert min(sizes) >= params.DEGREE_LOW and max(sizes) <= params.DEGREE_HIGH
    assert all(one in town.mesh(other) for one in range(40) for other in town.mesh(one)), "membership is mutual"


def test_a_peer_whose_inbound_neighbours_outnumber_all_keeps_some_that_it_dialled() -> None:
    """200 strangers dial one peer and all of them graft at once."""
    town = Town(220, 3)
    for number in range(1, 11):
        town.link(0, number)
    for number in range(11, 211):
        town.link(number, 0)
    town.run(70)
    dialled = [one for one in town.mesh(0) if one <= 10]
    assert len(dialled) >= params.DEGREE_OUT
    assert len(town.mesh(0)) <= params.DEGREE_HIGH


def test_own_statements_go_to_every_neighbour_at_once() -> None:
    peers = [name(number) for number in range(1, 30)]
    router = alone(*peers)
    effects = router.publish(TOPIC, b"x", NOW)
    assert sent(effects) == [SendRpc(tuple(peers), Rpc(messages=(Envelope(TOPIC, b"x"),)), Rank.OWN)]
    assert Deliver(TOPIC, b"x", None) in effects
    assert router.publish(TOPIC, b"x", NOW) == [], "said is said"
    with pytest.raises(Refused, match="fit"):
        router.publish(TOPIC, bytes(RPC_BYTES_MAX), NOW)


def test_a_duplicate_is_neither_judged_nor_sent_again() -> None:
    router = alone(A, B, C)
    rpc = Rpc(messages=(Envelope(TOPIC, b"x"), Envelope(TOPIC, b"x")))
    judges = router.receive(A, rpc, NOW)
    assert [type(effect) for effect in judges] == [Judge]
    assert router.receive(B, rpc, NOW) == []
    accepted = router.decide(message_id(TOPIC, b"x"), Verdict.ACCEPT, NOW)
    assert [effect.peers for effect in sent(accepted)] == [(C,)], "neither to A nor to B, who have it"
    assert router.decide(message_id(TOPIC, b"x"), Verdict.ACCEPT, NOW) == []
    assert router.receive(C, rpc, NOW) == []


@pytest.mark.parametrize("verdict", [Verdict.REJECT, Verdict.IGNORE, Verdict.RETRY])
def test_only_what_is_accepted_goes_on(verdict: Verdict) -> None:
    router = alone(A, B)
    router.receive(A, Rpc(messages=(Envelope(TOPIC, b"x"),)), NOW)
    effects = router.decide(message_id(TOPIC, b"x"), verdict, NOW)
    assert not any(isinstance(effect, Deliver) for effect in effects)
    assert not any(effect.rank is Rank.FORWARD for effect in sent(effects))
    assert not router.holds(message_id(TOPIC, b"x"))
    again = router.receive(B, Rpc(messages=(Envelope(TOPIC, b"x"),)), NOW)
    assert bool(again) == (verdict is Verdict.RETRY), "what nobody could judge may come again"
    assert (router.scores.value(A, NOW) < 0) == (verdict is Verdict.REJECT)
    assert (A in router.mesh(TOPIC)) == (verdict is not Verdict.REJECT), "out at once"


def test_a_graft_in_the_back_off_is_a_fault_and_refused() -> None:
    router = alone(A)
    router.receive(A, Rpc(prune=(Prune(TOPIC, 60),)), NOW)
    assert router.mesh(TOPIC) == ()
    for _ in range(5):
        effects = sent(router.receive(A, Rpc(graft=(TOPIC,)), NOW))
        assert effects[0].rpc.prune == (Prune(TOPIC, 60),)
    assert router.scores.value(A, NOW) < 0
    assert router.mesh(TOPIC) == ()


def test_we_do_not_graft_in_the_back_off_either() -> None:
    router = alone(A)
    router.receive(A, Rpc(prune=(Prune(TOPIC, 30),)), NOW)
    for second in range(1, 31):
        assert not any(effect.rpc.graft for effect in sent(router.tick(Micros(NOW + second * SECOND))))
    effects = sent(router.tick(Micros(NOW + 32 * SECOND)))
    assert [effect.rpc.graft for effect in effects if effect.rpc.graft] == [(TOPIC,)]


def test_a_back_off_of_years_is_ten_minutes() -> None:
    router = alone(A)
    router.receive(A, Rpc(prune=(Prune(TOPIC, 2**60),)), NOW)
    later = Micros(NOW + params.BACKOFF_MAX + 2 * SECOND)
    assert any(effect.rpc.graft for effect in sent(router.tick(later)))


def test_a_full_mesh_refuses_strangers_and_takes_whom_we_dialled() -> None:
    router = alone(*[name(number) for number in range(1, 6)])
    for number in range(6, 20):
        router.connected(name(number), number % 2 == 0, "")
        router.receive(name(number), Rpc(graft=(TOPIC,)), NOW)
    assert len(router.mesh(TOPIC)) > params.DEGREE_HIGH
    inbound = [number for number in range(13, 20) if number % 2]
    assert not any(name(number) in router.mesh(TOPIC) for number in inbound)
    router.tick(Micros(NOW + SECOND))
    assert len(router.mesh(TOPIC)) == params.DEGREE


def test_a_prune_for_space_names_others_and_only_the_good_are_listened_to() -> None:
    router = alone(A)
    prune = Prune(TOPIC, 60, (bytes.fromhex("002408011220") + B, b"rubbish"))
    assert not [e for e in router.receive(A, Rpc(prune=(prune,)), NOW) if isinstance(e, Suggest)]
    for number in range(25):
        data = b"%d" % number
        router.receive(A, Rpc(messages=(Envelope(TOPIC, data),)), NOW)
        router.decide(message_id(TOPIC, data), Verdict.ACCEPT, NOW)
    assert [e for e in router.receive(A, Rpc(prune=(prune,)), NOW) if isinstance(e, Suggest)] == [Suggest((B,))]


def test_a_topic_that_we_do_not_follow_is_published_to_the_same_few() -> None:
    router = Router((TOPIC,), Random(1))
    for number in range(1, 20):
        router.connected(name(number), True, "")
        router.receive(name(number), Rpc(subscriptions=((True, "other"),)), NOW)
    first = sent(router.publish("other", b"x", NOW))[0].peers
    again = sent(router.publish("other", b"y", Micros(NOW + SECOND)))[0].peers
    assert len(first) == params.DEGREE and first == again
    router.tick(Micros(NOW + 2 * params.FANOUT))
    assert sent(router.publish("other", b"z", Micros(NOW + 2 * params.FANOUT)))[0].peers != first


def test_idontwant_spares_a_copy() -> None:
    router = alone(A, B, C)
    router.receive(B, Rpc(idontwant=(message_id(TOPIC, b"x"),)), NOW)
    router.receive(A, Rpc(messages=(Envelope(TOPIC, b"x"),)), NOW)
    effects = router.decide(message_id(TOPIC, b"x"), Verdict.ACCEPT, NOW)
    assert [effect.peers for effect in sent(effects)] == [(C,)]


def test_who_unsubscribes_leaves_the_mesh() -> None:
    router = alone(A, B)
    router.receive(A, Rpc(subscriptions=((False, TOPIC),)), NOW)
    assert router.mesh(TOPIC) == (B,)
    router.disconnected(B, NOW)
    assert router.mesh(TOPIC) == () and router.neighbours == (A,)


def test_topics_of_a_peer_are_bounded() -> None:
    router = Router((TOPIC,), Random(1))
    router.connected(A, True, "")
    router.receive(A, Rpc(subscriptions=tuple((True, f"t{number}") for number in range(5_000))), NOW)
    router.receive(A, Rpc(subscriptions=((True, TOPIC),)), NOW)
    assert router.mesh(TOPIC) == (), "it followed too much to be heard about this one"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_rpc_breaks_a_router(data: st.DataObject) -> None:
    """Any sequence of RPCs, verdicts and heartbeats; members are neighbours, and a mesh ends within its bounds."""
    names = st.sampled_from([message_id(TOPIC, b"%d" % number) for number in range(4)] + [bytes(ID_BYTES), b"", b"x"])
    topics = st.sampled_from([TOPIC, "other", ""])
    envelopes = st.builds(Envelope, topics, st.sampled_from([b"0", b"1", b"2", b"3"]))
    rpc = st.builds(
        Rpc,
        subscriptions=st.lists(st.tuples(st.booleans(), topics), max_size=3).map(tuple),
        messages=st.lists(envelopes, max_size=3).map(tuple),
        ihave=st.lists(st.tuples(topics, st.lists(names, max_size=4).map(tuple)), max_size=3).map(tuple),
        iwant=st.lists(names, max_size=4).map(tuple),
        graft=st.lists(topics, max_size=2).map(tuple),
        prune=st.lists(st.builds(Prune, topics, st.integers(0, 2**64 - 1)), max_size=2).map(tuple),
        idontwant=st.lists(names, max_size=4).map(tuple),
        refused=st.integers(0, 1),
    )
    router, now = Router((TOPIC,), Random(1)), NOW
    peers = [name(number) for number in range(1, 18)]
    for _ in range(data.draw(st.integers(1, 25))):
        now = Micros(now + data.draw(st.integers(0, 5 * SECOND)))
        peer = data.draw(st.sampled_from(peers))
        action = data.draw(st.sampled_from(["connect", "receive", "receive", "receive", "tick", "leave"]))
        if action == "connect":
            router.connected(peer, data.draw(st.booleans()), "")
        elif action == "leave":
            router.disconnected(peer, now)
        elif action == "tick":
            router.tick(now)
        else:
            for effect in router.receive(peer, data.draw(rpc), now):
                if isinstance(effect, Judge):
                    router.decide(effect.name, data.draw(st.sampled_from(list(Verdict))), now)
        assert set(router.mesh(TOPIC)) <= set(router.neighbours)
    router.tick(now)
    assert len(router.mesh(TOPIC)) <= params.DEGREE_HIGH
