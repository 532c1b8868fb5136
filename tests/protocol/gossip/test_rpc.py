"""RPCs: every one survives its bytes, libp2p's own reader agrees, and no bytes break ours."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.pubsub.pb import rpc_pb2

from protocol.gossip.protobuf import Malformed, field, fields, number_field, read_varint, varint
from protocol.gossip.rpc import RPC_BYTES_MAX, Envelope, FrameCutter, Prune, Rpc, decode, encode, frame

topics = st.text(max_size=20)
blobs = st.binary(max_size=40)
RPCS = st.builds(
    Rpc,
    subscriptions=st.lists(st.tuples(st.booleans(), topics), max_size=3).map(tuple),
    messages=st.lists(st.builds(Envelope, topics, blobs), max_size=3).map(tuple),
    ihave=st.lists(st.tuples(topics, st.lists(blobs, max_size=3).map(tuple)), max_size=3).map(tuple),
    iwant=st.lists(blobs, max_size=3).map(tuple),
    graft=st.lists(topics, max_size=3).map(tuple),
    prune=st.lists(
        st.builds(Prune, topics, st.integers(0, 2**64 - 1), st.lists(blobs, max_size=2).map(tuple)), max_size=3
    ).map(tuple),
    idontwant=st.lists(blobs, max_size=3).map(tuple),
    refused=st.just(0),
)


@given(RPCS)
def test_round_trip(rpc: Rpc) -> None:
    assert decode(encode(rpc)) == rpc


@given(RPCS)
def test_libp2p_reads_what_we_write(rpc: Rpc) -> None:
    theirs = rpc_pb2.RPC.FromString(encode(rpc))
    assert [(one.subscribe, one.topicid) for one in theirs.subscriptions] == list(rpc.subscriptions)
    assert [(list(one.topicIDs), one.data) for one in theirs.publish] == [([t], data) for t, data in rpc.messages]
    assert [one.topicID for one in theirs.control.graft] == list(rpc.graft)
    assert [(one.topicID, one.backoff) for one in theirs.control.prune] == [(p.topic, p.backoff_s) for p in rpc.prune]


@given(st.lists(st.tuples(topics.filter(bool), blobs), max_size=3), st.lists(topics.filter(bool), max_size=2))
def test_we_read_what_libp2p_writes(messages: list[tuple[str, bytes]], grafts: list[str]) -> None:
    theirs = rpc_pb2.RPC(
        publish=[rpc_pb2.Message(data=data, topicIDs=[topic]) for topic, data in messages],
        control=rpc_pb2.ControlMessage(graft=[rpc_pb2.ControlGraft(topicID=topic) for topic in grafts]),
        senderRecord=b"a field that we do not know",
    )
    ours = decode(theirs.SerializeToString())
    assert ours.messages == tuple(Envelope(*one) for one in messages)
    assert ours.graft == tuple(grafts)


@pytest.mark.parametrize("extra", [{"from_id": b"a"}, {"seqno": b"1"}, {"signature": b"s"}, {"key": b"k"}])
def test_a_signed_envelope_is_refused_and_the_rest_is_read(extra: dict[str, bytes]) -> None:
    theirs = rpc_pb2.RPC(
        publish=[
            rpc_pb2.Message(data=b"x", topicIDs=["t"], **extra),
            rpc_pb2.Message(data=b"y", topicIDs=["t"]),
        ]
    )
    ours = decode(theirs.SerializeToString())
    assert ours.messages == (Envelope("t", b"y"),) and ours.refused == 1


@given(st.binary(max_size=200))
def test_bytes_never_crash(data: bytes) -> None:
    try:
        rpc = decode(data)
    except Malformed:
        return
    assert decode(encode(rpc))._replace(refused=0) == rpc._replace(refused=0)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x0a\x05ab", "beyond the end"),
        (b"\x0a", "beyond the end"),
        (b"\xff" * 11, "64 bits"),
        (b"\x0b", "wire type 3"),
        (b"\x02\x00", "field number 0"),
        (b"\x08\x01", "where bytes belong"),
        (field(2, field(4, b"\xff")), "no UTF-8"),
        (field(1, field(1, b"x")), "where a number belongs"),
        (bytes(RPC_BYTES_MAX + 1), "are allowed"),
        (field(3, field(2, field(1, b"") * 5_001)), "entries"),
    ],
)
def test_what_is_no_rpc_is_told(data: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        decode(data)


@given(st.integers(0, 2**64 - 1))
def test_varints(value: int) -> None:
    assert read_varint(varint(value), 0) == (value, len(varint(value)))


def test_unknown_fields_of_every_type_are_passed_over() -> None:
    data = number_field(90, 7) + varint(91 << 3 | 1) + bytes(8) + varint(92 << 3 | 5) + bytes(4) + field(93, b"x")
    assert [number for number, *_ in fields(data)] == [90, 91, 92, 93]
    assert decode(data) == Rpc()


@given(st.lists(RPCS, max_size=5), st.lists(st.integers(0, 400), max_size=8))
def test_frames_survive_any_cutting(rpcs: list[Rpc], cuts: list[int]) -> None:
    data = b"".join(frame(rpc) for rpc in rpcs)
    cutter, bodies = FrameCutter(), list[bytes]()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        bodies += cutter.feed(data[start:end])
    assert [decode(body) for body in bodies] == rpcs


def test_a_giant_frame_is_refused_before_it_comes() -> None:
    with pytest.raises(Malformed, match="a frame of"):
        FrameCutter().feed(varint(RPC_BYTES_MAX + 1))
