"""The real miniupnpd on a laboratory's router opens a port when a host asks, and forgets it with a reboot."""

from __future__ import annotations

import socket
import struct

import pytest
import trio

from benchmarks.netlab import faults, port_mapper
from benchmarks.netlab.laboratory import Host, Laboratory
from benchmarks.netlab.punch import tcp, udp
from tests.node.waiting import SECONDS

SILENCE_S = 0.5

ASK_TCP = 2
"""NAT-PMP (RFC 6886): the operation that maps a TCP port."""


async def ask(host: Host, inside: int, outside: int, seconds: int = 600) -> tuple[int, int]:
    """(result code, outside port) of a NAT-PMP request, repeated until the router answers."""
    line = udp(host)
    request = struct.pack("!BBHHHI", 0, ASK_TCP, 0, inside, outside, seconds)
    try:
        with trio.fail_after(SECONDS):
            while True:
                await line.sendto(request, ("192.168.1.1", 5_351))
                with trio.move_on_after(0.25):
                    answer, _ = await line.recvfrom(64)
                    _, operation, code, _, _, mapped, _ = struct.unpack("!BBHIHHI", answer)
                    assert operation == 128 + ASK_TCP
                    return code, mapped
    finally:
        line.close()


async def answers(caller: Host, address: str, port: int, seconds: float) -> bool:
    one = tcp(caller, 0)
    try:
        with trio.move_on_after(seconds):
            await one.connect((address, port))
            return True
        return False
    finally:
        one.close()


async def test_a_port_is_opened_on_request_and_closed_by_a_reboot(lab: Laboratory) -> None:
    if why := port_mapper.missing():
        pytest.skip(why)
    shop = lab.house("shop", "public").host
    home = lab.house("home", "port-restricted", hosts=2, maps_ports=True)
    host = home.hosts[1]
    listener = tcp(host, 4_301)
    listener.listen(4)
    try:
        assert not await answers(shop, home.address, 4_301, SILENCE_S)
        assert await ask(host, 4_301, 4_301) == (0, 4_301)
        assert await answers(shop, home.address, 4_301, SECONDS)
        faults.reboot(home)
        assert not await answers(shop, home.address, 4_301, SILENCE_S)
    finally:
        listener.close()


async def test_upnp_tells_where_it_is(lab: Laboratory) -> None:
    if why := port_mapper.missing():
        pytest.skip(why)
    host = lab.house("home", "full-cone", maps_ports=True).host
    line = udp(host)
    search = (
        'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\n'
        "ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\r\n"
    )  # fmt: skip
    line.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(host.address))
    try:
        with trio.fail_after(SECONDS):
            while True:
                await line.sendto(search.encode(), ("239.255.255.250", 1_900))
                with trio.move_on_after(0.5):
                    answer, source = await line.recvfrom(2_048)
                    break
        assert source[0] == "192.168.1.1"
        assert b"LOCATION: http://192.168.1.1:5000/" in answer.replace(b"Location", b"LOCATION")
    finally:
        line.close()
