"""A router that opens ports when it is asked (UPnP, NAT-PMP, PCP): the real miniupnpd on a laboratory's router."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.netlab.ground import Namespace
from protocol.errors import Unavailable
from shoal.processes import until

END_S: Final = 5.0
START_S: Final = 60.0
NAT_PMP: Final = f":{5_351:04X} "
"""Its port as the kernel lists it."""

PORT: Final = 5_000
"""Of its UPnP descriptions."""

HOOKS: Final = """\
add table inet mapper
add chain inet mapper pre { type nat hook prerouting priority -110 ; }
add chain inet mapper post { type nat hook postrouting priority 90 ; }
add chain inet mapper through { type filter hook forward priority -10 ; }
add chain inet mapper opened
add chain inet mapper redirected
add chain inet mapper returned
add rule inet mapper pre jump redirected
add rule inet mapper post jump returned
add rule inet mapper through jump opened
"""
"""The chains that miniupnpd fills."""


def missing() -> str:
    """Why no router of this laboratory can map ports; empty when they can."""
    return "" if shutil.which("miniupnpd") else "there is no miniupnpd: install miniupnpd-nftables"


class PortMapper:
    """miniupnpd between `wan` and `lan` of a router."""

    def __init__(self, router: Namespace, address: str) -> None:
        if why := missing():
            raise Unavailable(why, code="no_port_mapper")
        self._router = router
        self._folder = tempfile.TemporaryDirectory(prefix="shoal-lab-mapper-")
        self.hook()
        settings = Path(self._folder.name) / "miniupnpd.conf"
        settings.write_text(self._settings(address), encoding="ascii")
        router.ip("route add 239.0.0.0/8 dev lan")
        command = [str(shutil.which("miniupnpd")), "-d", "-f", str(settings), "-P", f"{self._folder.name}/pid"]
        with router.entered(), (Path(self._folder.name) / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)
        until("miniupnpd listens", self._listens, [], START_S)

    def hook(self) -> None:
        """Make its chains, empty: after a reboot the mappings are gone."""
        self._router.nft("add table inet mapper\ndelete table inet mapper\n" + HOOKS)

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def _listens(self) -> bool | None:
        with self._router.entered():
            return True if NAT_PMP in Path("/proc/thread-self/net/udp").read_text(encoding="ascii") else None

    def log(self) -> str:
        """What it said."""
        return (Path(self._folder.name) / "log").read_text(encoding="utf-8", errors="replace")

    def _settings(self, address: str) -> str:
        pairs = {
            "ext_ifname": "wan",
            "ext_ip": address,
            "listening_ip": "lan",
            "http_port": PORT,
            "enable_natpmp": "yes",
            "enable_upnp": "yes",
            "secure_mode": "yes",
            "upnp_table_name": "mapper",
            "upnp_nat_table_name": "mapper",
            "upnp_forward_chain": "opened",
            "upnp_nat_chain": "redirected",
            "upnp_nat_postrouting_chain": "returned",
            "min_lifetime": 1,
            "lease_file": f"{self._folder.name}/leases",
            "uuid": "6a1b1c7e-0f39-4b02-9c0a-2f6f1b2d9d10",
        }
        rules = ["allow 1024-65535 192.168.1.0/24 1024-65535", "deny 0-65535 0.0.0.0/0 0-65535"]
        return "\n".join([*(f"{key}={value}" for key, value in pairs.items()), *rules]) + "\n"
