"""Records: only their signer makes them, and readers refuse what is forged, old, of the future, or too large."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import wire
from protocol.errors import Refused, RemoteViolation
from protocol.identity import Identity
from protocol.overlay.peer_record import (
    RECORD_BYTES_MAX,
    RECORD_KIND,
    RECORD_LIFE,
    RECORD_LIFE_MAX,
    RECORD_SKEW_MAX,
    PeerRecord,
    key_of,
    open_record,
    position,
    sign_record,
    topic_key,
)
from protocol.overlay.subnets import is_crowded, is_global_address, subnet_of, subnets_of, usable
from protocol.units import SECOND, Micros, PeerId
from protocol.wire import Signed

NOW = Micros(1_700_000_000 * SECOND)
ME = Identity(b"m" * 32)
SENDER = Identity(b"s" * 32).peer
RECORD = PeerRecord(NOW, NOW, NOW + RECORD_LIFE, ("/ip4/11.22.33.44/tcp/4301",))


def but(**changes: object) -> Signed:
    return wire.sign(ME, "reef", RECORD_KIND, msgspec.structs.replace(RECORD, **changes))


def test_a_record_says_who_and_where() -> None:
    contact = open_record(sign_record(ME, "reef", RECORD), "reef", NOW, SENDER)
    assert (contact.peer, contact.record, contact.addresses) == (ME.peer, RECORD, RECORD.addresses)
    assert contact.position == position(ME.peer) == int.from_bytes(key_of(ME.peer), "big")
    assert contact.subnets == {"11.22.33.0/24"}


@pytest.mark.parametrize(
    ("signed", "code"),
    [
        (but(expires=NOW + RECORD_LIFE_MAX + 1), "bad_life"),
        (but(expires=NOW - 1), "bad_life"),
        (msgspec.structs.replace(but(), signer=SENDER), "bad_signature"),
        (msgspec.structs.replace(but(), signature=bytes(64)), "bad_signature"),
        (msgspec.structs.replace(but(), body=but(sequence=NOW + 1).body), "bad_signature"),
        (Signed(ME.peer, bytes(RECORD_BYTES_MAX + 1), bytes(64)), "over_limit"),
        (wire.sign(ME, "reef", RECORD_KIND, 7), "malformed"),
        (wire.sign(ME, "lake", RECORD_KIND, RECORD), "bad_signature"),
        (wire.sign(ME, "reef", "offer", RECORD), "bad_signature"),
    ],
)
def test_who_passes_on_what_it_could_have_checked_is_to_blame(signed: Signed, code: str) -> None:
    for _ in range(2):  # The second time it comes from a cache.
        with pytest.raises(RemoteViolation) as caught:
            open_record(signed, "reef", NOW, SENDER)
        assert (caught.value.code, caught.value.peer) == (code, SENDER)


@pytest.mark.parametrize(
    ("signed", "code"),
    [
        (but(issued=NOW - RECORD_LIFE, expires=NOW), "expired"),
        (but(issued=NOW + RECORD_SKEW_MAX + 1, expires=NOW + RECORD_LIFE), "clock_skew"),
    ],
)
def test_clocks_are_nobody_s_fault(signed: Signed, code: str) -> None:
    with pytest.raises(Refused) as caught:
        open_record(signed, "reef", NOW, SENDER)
    assert caught.value.code == code


def test_nobody_signs_what_nobody_takes() -> None:
    with pytest.raises(Refused, match="at most 2048"):
        sign_record(ME, "reef", msgspec.structs.replace(RECORD, addresses=("/dns4/" + "a" * 240 + "/tcp/1",) * 8))


@given(st.binary(max_size=300), st.binary(min_size=64, max_size=64))
def test_bytes_never_crash(body: bytes, signature: bytes) -> None:
    with pytest.raises(RemoteViolation):
        open_record(Signed(ME.peer, body, signature), "reef", NOW, SENDER)


def test_topics_differ_by_network_and_name() -> None:
    keys = {topic_key(network, topic) for network in ("reef", "lake") for topic in ("members", "relay/1")}
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("address", "subnet"),
    [
        ("/ip4/11.22.33.44/tcp/1", "11.22.33.0/24"),
        ("/ip4/11.22.33.44/tcp/1/p2p/12D3KooW/p2p-circuit", "11.22.33.0/24"),
        ("/ip6/2a01:4f8:1:2::3/tcp/1", "2a01:4f8:1::/48"),
        ("/dns4/Example.org/tcp/1", "example.org"),
        ("/ip4/127.0.0.1/tcp/1", ""),
        ("/ip4/192.168.1.1/tcp/1", ""),
        ("/ip4/100.64.1.1/tcp/1", ""),
        ("/ip6/fe80::1/tcp/1", ""),
        ("rubbish", "rubbish"),
    ],
)
def test_subnets(address: str, subnet: str) -> None:
    assert subnet_of(address) == subnet


@given(st.text(max_size=64))
def test_no_address_crashes_the_subnet(text: str) -> None:
    assert isinstance(subnet_of(text), str)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/ip4/11.22.33.1/tcp/1", True),
        ("/ip4/192.168.1.2/tcp/1", False),
        ("/ip4/100.64.0.1/tcp/1", False),
        ("/ip6/::1/tcp/1", False),
        ("/dns/example.org/tcp/1", True),
    ],
)
def test_what_leads_out_of_the_local_network(text: str, expected: bool) -> None:
    assert is_global_address(text) is expected


def test_a_third_of_one_network_is_a_crowd() -> None:
    one = subnets_of(["/ip4/11.22.33.1/tcp/1"])
    assert [is_crowded(one, [one] * count) for count in range(4)] == [False, False, True, True]
    assert not is_crowded(frozenset(), [frozenset()] * 9)
    assert is_crowded(one | {"else"}, [one, one])


def test_private_addresses_of_a_public_peer_are_left_out() -> None:
    private, public = "/ip4/192.168.1.2/tcp/1", "/ip4/11.22.33.44/tcp/1"
    assert usable((private, public)) == (public,)
    assert usable((private, "/ip4/127.0.0.1/tcp/1")) == (private, "/ip4/127.0.0.1/tcp/1")


def test_a_sender_of_a_good_record_may_be_anybody() -> None:
    assert open_record(but(), "reef", NOW, PeerId(bytes(32))).peer == ME.peer
