"""Who is taken for one operator's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.networks import networks


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("/ip4/20.1.2.3/tcp/4001", "20.1.2.0/24"),
        ("/ip4/20.1.2.255/udp/4001/quic-v1/p2p/x", "20.1.2.0/24"),
        ("/ip6/2a01:4f8:1:2::3/tcp/1", "2a01:4f8:1::/48"),
    ],
)
def test_public_addresses_have_a_network(address: str, network: str) -> None:
    assert networks((address,)) == {network}


@pytest.mark.parametrize(
    "address",
    [
        "/ip4/10.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1", "/ip4/192.168.1.1/tcp/1", "/ip6/::1/tcp/1", "/ip6/fe80::1/tcp/1",
        "/ip4/20.1.2.3/tcp/1/p2p/x/p2p-circuit", "/dns4/example.org/tcp/1", "/ip4/20.1.2/tcp/1", "/ip4/x", "", "/ip4",
    ],
)  # fmt: skip
def test_all_others_say_nothing(address: str) -> None:
    assert networks((address,)) == frozenset()


@given(st.lists(st.text(max_size=40)))
def test_no_text_breaks_it(addresses: list[str]) -> None:
    networks(addresses)
    networks([f"/ip4/{address}/tcp/1" for address in addresses])
