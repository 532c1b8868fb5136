"""Endpoints as text and values: one canonical form, and nonsense is None, never an error."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.overlay.endpoint import Endpoint, canonical_ip, endpoint, is_carrier, is_global, subnet

ips = st.ip_addresses().map(str).filter(lambda text: not text.startswith("::ffff:"))


@given(ips, st.integers(1, 65_535))
def test_text_and_back(ip: str, port: int) -> None:
    made = Endpoint(ip, port)
    assert endpoint(made.text) == made
    assert endpoint(made.text + "/p2p/12D3KooWx") == made


@given(st.text(max_size=100))
def test_any_text_is_an_endpoint_or_none(text: str) -> None:
    found = endpoint(text)
    assert found is None or endpoint(found.text) == found


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "/ip4/192.0.2.1/udp/1", "/ip4/192.0.2.1/tcp/0", "/ip4/192.0.2.1/tcp/65536", "/ip4/192.0.2.1/tcp/+1",
        "/ip6/192.0.2.1/tcp/1", "/ip4/::1/tcp/1", "/ip6/fe80::1%eth0/tcp/1", "/dns4/example.org/tcp/1",
        "/ip4/192.0.2.1/tcp/1/p2p/12D3/p2p-circuit", "/ip4/192.0.2.01/tcp/1", "x/ip4/192.0.2.1/tcp/1", "/ip4/1/tcp/٣",
    ],
)  # fmt: skip
def test_nonsense(text: str) -> None:
    assert endpoint(text) is None


def test_wrapped_ipv4_is_ipv4() -> None:
    assert canonical_ip("::ffff:192.0.2.1") == "192.0.2.1"
    assert endpoint("/ip6/::ffff:192.0.2.1/tcp/5") == Endpoint("192.0.2.1", 5)


@given(ips)
def test_a_subnet_holds_its_address(ip: str) -> None:
    assert ipaddress.ip_address(ip) in ipaddress.ip_network(subnet(ip))


def test_carrier_space() -> None:
    assert is_carrier("100.64.0.1")
    assert is_carrier("100.127.255.255")
    assert not is_carrier("100.128.0.1")
    assert not is_carrier("2001:db8::1")
    assert not is_global("100.64.0.1")
    assert is_global("11.22.33.44")
