"""specs/22-gossip.md against the router, its driver and pull on gap."""

from __future__ import annotations

import dataclasses
import math
from random import Random

from hypothesis import given
from hypothesis import strategies as st

import specs
from node import gossip, gossip_bodies, gossip_streams
from protocol import catchup, wire
from protocol.gossip import announcement, neighbours, params, router, rpc
from protocol.gossip.buckets import Buckets
from protocol.gossip.scores import Scores, Weights
from protocol.messages import STATEMENT_KINDS
from protocol.units import SECOND, Micros, PeerId
from simulations.gossip_params import GossipParams

SPEC = specs.load("22-gossip")
MODULES = (announcement, catchup, gossip, gossip_bodies, gossip_streams, neighbours, params, router, rpc)


def test_constants_are_the_code_s() -> None:
    for name, value in SPEC.constants.items():
        owners = [module for module in MODULES if name in vars(module)]
        assert owners, f"{name} is not in the code"
        assert all(vars(module)[name] == value for module in owners), name


def test_topics_are_the_code_s() -> None:
    listed = {row["topic"].strip("`"): (row["kind"].strip("`"), row["body"]) for row in SPEC.table("topics")}
    kinds = {kind: body.__name__ for body, kind in STATEMENT_KINDS.items()}
    assert listed == {topic: (kind, kinds[kind]) for topic, kind in gossip.TOPICS.items()}
    assert SPEC.functions["topic"]("reef", "offers") == "/shoal/reef/offers"


def test_weights_are_the_code_s_and_the_simulator_s() -> None:
    listed = {row["weight"]: float(row["value"]) for row in SPEC.table("scores")}
    live = dataclasses.asdict(Weights())
    assert {name: live[name] for name in listed} == listed
    simulated = dataclasses.asdict(GossipParams.live().weights)
    shared = set(listed) & set(simulated)
    assert {name: simulated[name] for name in shared} == {name: listed[name] for name in shared}
    assert simulated["graft_median"] == live["opportunity"]


def test_the_simulated_router_is_set_like_the_live_one() -> None:
    live = GossipParams.live()
    assert (live.degree, live.low, live.high) == (params.DEGREE, params.DEGREE_LOW, params.DEGREE_HIGH)
    assert (live.kept_by_score, live.outbound) == (params.DEGREE_SCORE, params.DEGREE_OUT)
    assert (live.lazy, live.lazy_share) == (params.LAZY, params.LAZY_SHARE)
    assert (live.history, live.window, live.ihave_limit) == (params.HISTORY, params.WINDOW, params.IHAVES_MAX)
    spans = (live.heartbeat, live.backoff, live.flood, live.seen, live.follow_up)
    ours = (params.HEARTBEAT, params.BACKOFF, params.GRAFT_FLOOD, params.SEEN, params.FOLLOW_UP)
    assert spans == tuple(span * 1_000 for span in ours)
    assert live.floods and live.ids_agree and live.upkeep == "spec" and not live.replays


@given(st.text(max_size=20), st.binary(max_size=50))
def test_names_are_the_code_s(topic: str, data: bytes) -> None:
    assert SPEC.functions["message_id"](topic, data) == router.message_id(topic, data)


@given(st.integers(0, 4_000))
def test_what_is_announced(size: int) -> None:
    signed = wire.Signed(bytes(32), bytes(size), bytes(64))
    assert SPEC.functions["is_announced"](len(wire.encode(signed))) == (announcement.envelope(signed)[1] is not None)


@given(st.lists(st.integers(0, 40), max_size=150))
def test_buckets_are_the_code_s(steps: list[int]) -> None:
    """Steps of 50 ms, so that both count exactly."""
    buckets = Buckets(params.AUTHOR_RATE, params.AUTHOR_BURST, 10)
    tokens, now = float(params.AUTHOR_BURST), 0
    for step in steps:
        now += step * 50_000
        result = SPEC.functions["takes"](tokens, step * 0.05)
        assert isinstance(result, tuple)
        passes, tokens = result[0], round(result[1], 6)
        assert buckets.take("author", Micros(now)) == passes


@given(st.integers(0, 40), st.integers(0, 300), st.integers(0, 12), st.integers(0, 10), st.integers(1, 14))
def test_scores_are_the_code_s(first: int, seconds: int, invalid: int, behaviour: int, crowd: int) -> None:
    scores, peer = Scores(Weights()), PeerId(bytes(32))
    scores.connected(peer, "11.0.0.1")
    for other in range(1, crowd):
        scores.connected(PeerId(other.to_bytes(32, "big")), "11.0.0.1")
    scores.entered_mesh(peer, "t", Micros(0))
    for _ in range(first):
        scores.delivered(peer, "t", is_first=True)
    for _ in range(invalid):
        scores.brought_invalid(peer, "t")
    scores.misbehaved(peer, behaviour)
    expected = SPEC.functions["score"](first, seconds, invalid, behaviour, crowd, 0.0)
    assert isinstance(expected, float)
    assert math.isclose(scores.value(peer, Micros(seconds * SECOND)), expected, abs_tol=1e-6)


@given(st.integers(0, 1 << 40), st.one_of(st.none(), st.integers(0, 1 << 40)))
def test_what_is_news(sequence: int, held: int | None) -> None:
    machine = catchup.Catchup(PeerId(bytes(32)), "reef", tuple, Random(1), Micros(60 * SECOND))
    if held is not None:
        signed = wire.Signed(bytes(32), b"", bytes(64))
        machine._held[b"k" * 8] = catchup.Held(held, held >> 24, signed, Micros(1))
    assert machine._is_news(b"k" * 8, sequence) == SPEC.functions["is_newer"](sequence, held)
