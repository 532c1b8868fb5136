"""A shaped link from the laboratory's side: two TUN devices, and the process that holds them."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.netlab.ground import Namespace
from benchmarks.netlab.shaper import Link, Passed
from protocol.errors import Unavailable

TUNSETIFF: Final = 0x400454CA
"""ioctl: give an open /dev/net/tun its device."""

TUN_WITHOUT_HEADER: Final = 0x1001
"""IFF_TUN | IFF_NO_PI: bare IP packets."""

END_S: Final = 5.0
"""The process ends when its input does; it has nothing to write down."""


class ShapedLink:
    """The devices exist while the process runs; both go with `close`, or with us, however we end."""

    def __init__(self, inner: Namespace, inner_device: str, outer: Namespace, outer_device: str, link: Link) -> None:
        ends = (_tun(inner, inner_device), _tun(outer, outer_device))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(Path(__file__).with_name("shaper.py")), str(ends[0]), str(ends[1])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                pass_fds=ends,
            )
        finally:
            for end in ends:
                os.close(end)
        self.link = link
        self.set(link)

    def set(self, link: Link) -> Passed:
        """Other properties from the next packet on; what became of the packets so far."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(msgspec.json.encode(link).decode() + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Unavailable("the shaper of a link has ended", code="laboratory") from None
        line = self._process.stdout.readline()
        if not line:
            raise Unavailable("the shaper of a link has ended", code="laboratory")
        self.link = link
        return msgspec.json.decode(line, type=Passed)

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _tun(namespace: Namespace, device: str) -> int:
    """A new TUN device in a namespace; it lives as long as somebody holds the descriptor."""
    with namespace.entered():
        file = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH22x", device.encode(), TUN_WITHOUT_HEADER))
    return file
