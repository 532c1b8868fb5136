"""The bytes of PCP and NAT-PMP, written out by hand after the figures of their RFCs; any bytes are read or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.overlay import nat_pmp, pcp

NONCE = bytes(range(12))
MAPPED_CLIENT = "00000000000000000000ffffc0a8014d"  # ::ffff:192.168.1.77


def test_a_map_request() -> None:
    """RFC 6887 figures 2 and 9."""
    expected = (
        "0201000000001c20" + MAPPED_CLIENT  # version, MAP, reserved, 7200 s, client
        + "000102030405060708090a0b0600000010cd10cd00000000000000000000ffff00000000"
    )  # fmt: skip
    assert pcp.map_request("192.168.1.77", NONCE, 4301, 4301, "", 7200).hex() == expected


def test_an_announce_request() -> None:
    """RFC 6887 §14.1: a header and nothing else."""
    assert pcp.announce_request("192.168.1.77").hex() == "0200000000000000" + MAPPED_CLIENT


def map_reply(result: int = 0, lifetime: int = 3600, epoch: int = 77, external: int = 40_000) -> bytes:
    """RFC 6887 figures 3 and 10."""
    return bytes.fromhex(
        f"028100{result:02x}{lifetime:08x}{epoch:08x}" + "00" * 12 + NONCE.hex() + "0600000010cd"
        + f"{external:04x}00000000000000000000ffff2c010203"
    )  # fmt: skip


def test_a_map_reply() -> None:
    assert pcp.read_reply(map_reply()) == pcp.Reply(0, 3600, 77, pcp.Mapped(NONCE, 4301, "44.1.2.3", 40_000))
    refused = pcp.read_reply(map_reply(result=2, lifetime=1800))
    assert isinstance(refused, pcp.Reply)
    assert (refused.result, refused.lifetime, pcp.result_text(refused.result)) == (2, 1800, "not authorised")


def test_options_behind_a_reply_are_allowed() -> None:
    assert pcp.read_reply(map_reply() + bytes(8)) == pcp.read_reply(map_reply())


def test_an_announcement() -> None:
    assert pcp.read_reply(bytes.fromhex("028000000000000000000005" + "00" * 12)) == pcp.Reply(0, 0, 5)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\2", map_reply()[:23], map_reply()[:59], map_reply() + b"\0", map_reply() + bytes(1100),
        b"\2\1" + map_reply()[2:], b"\2\x82" + map_reply()[2:], map_reply()[:36] + b"\x11" + map_reply()[37:],
    ],
)  # fmt: skip
def test_what_is_no_pcp_reply(data: bytes) -> None:
    assert pcp.read_reply(data) is None


def test_another_version_is_told() -> None:
    assert pcp.read_reply(bytes.fromhex("0081000100000005")) == pcp.OtherVersion(0)


def test_nat_pmp_requests() -> None:
    """RFC 6886 §3.2 and §3.3."""
    assert nat_pmp.external_request().hex() == "0000"
    assert nat_pmp.map_request(4301, 4302, 7200).hex() == "0002000010cd10ce00001c20"


def test_nat_pmp_replies() -> None:
    assert nat_pmp.read_reply(bytes.fromhex("00800000000000092c010203")) == nat_pmp.Reply(
        0, 0, 9, nat_pmp.External("44.1.2.3")
    )
    assert nat_pmp.read_reply(bytes.fromhex("008200000000000910cd10ce00000e10")) == nat_pmp.Reply(
        2, 0, 9, nat_pmp.Mapped(4301, 4302, 3600)
    )
    refused = nat_pmp.read_reply(bytes.fromhex("008200020000000910cd000000000000"))
    assert refused == nat_pmp.Reply(2, 2, 9, None)
    assert nat_pmp.result_text(2) == "not authorised"


@pytest.mark.parametrize(
    "text", ["", "0080", "0080000000000009", "0082000000000009", "0002000000000009", "0281000000000000"]
)
def test_what_is_no_nat_pmp_reply(text: str) -> None:
    assert nat_pmp.read_reply(bytes.fromhex(text)) is None


@given(st.binary(max_size=1200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    pcp.read_reply(data)
    nat_pmp.read_reply(data)
    pcp.read_reply(b"\2\x81" + data)
    nat_pmp.read_reply(b"\0\x82" + data)


@given(st.integers(0, 2**31), st.integers(0, 10**6), st.integers(-2, 2))
def test_a_steady_router_is_no_restart(epoch: int, passed: int, slack: int) -> None:
    """RFC 6887 §8.5: two seconds and a sixteenth of difference are nothing."""
    assert not pcp.has_rebooted(epoch, 1000, epoch + max(0, passed + slack // 2), 1000 + passed)


@pytest.mark.parametrize(
    ("before", "epoch", "passed"), [(5000, 3, 60), (5000, 4998, 0), (5000, 5001, 60), (5000, 9000, 60)]
)
def test_a_restart(before: int, epoch: int, passed: int) -> None:
    assert pcp.has_rebooted(before, 100, epoch, 100 + passed)
