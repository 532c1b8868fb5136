"""Whom `shoal volume` speaks to: the own node's control socket, or a gateway that passes the same words on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Protocol

from protocol.errors import Refused
from shoal.session import ServerFault

if TYPE_CHECKING:
    from node.control_client import ControlClient
    from shoal.client import Client

Plain = dict[str, object]

OPEN_S: Final = 3_600.0
"""Seconds that a gateway may take to bring a version back from its shards."""


class VolumeLine(Protocol):
    """Somebody who keeps volumes."""

    def ask(self, verb: str, **params: object) -> Plain:
        """One `volume.*` method for the own renter. Raises Refused, Unavailable or a fault."""
        ...

    def opened(self, name: str, version: str) -> Iterator[Plain]:
        """`volume.open`: how far it is, then the version."""
        ...

    def put(self, data: bytes) -> str:
        """Upload a blob; its digest."""
        ...

    def get(self, digest: str) -> bytes:
        """A blob."""
        ...


class NodeLine:
    """The own node. `renter`: a name that this node derives a key from, or a renter's peer id."""

    def __init__(self, node: ControlClient, renter: str) -> None:
        self._node = node
        self.renter = (
            renter if renter.startswith("12D3") else str(node.call("renter.create", {"name": renter})["renter"])
        )

    def ask(self, verb: str, **params: object) -> Plain:
        needs_renter = verb not in ("missing", "recover")
        return self._node.call(f"volume.{verb}", {**params, **({"renter": self.renter} if needs_renter else {})})

    def opened(self, name: str, version: str) -> Iterator[Plain]:
        return self._node.iter_stream("volume.open", {"renter": self.renter, "name": name, "version": version})

    def put(self, data: bytes) -> str:
        return self._node.upload(data)

    def get(self, digest: str) -> bytes:
        return b"".join(self._node.download(digest))


class GatewayLine:
    """A gateway, for the account of its token."""

    def __init__(self, gateway: Client) -> None:
        self._gateway = gateway

    def ask(self, verb: str, **params: object) -> Plain:
        return self._gateway.ask(dict[str, object], "POST", f"/v1/volumes/{verb}", body=params)

    def opened(self, name: str, version: str) -> Iterator[Plain]:
        yield self.ask("open", name=name, version=version)

    def put(self, data: bytes) -> str:
        return str(self._gateway.put_blob(dict[str, object], data)["digest"])

    def get(self, digest: str) -> bytes:
        with self._gateway.opened(f"/v1/volumes/blobs/{digest}", headers={"Accept": "*/*"}) as response:
            return response.read()


def text_of(plain: Plain, name: str) -> str:
    """A text in an answer. ServerFault when it is something else."""
    value = plain.get(name)
    if not isinstance(value, str):
        raise ServerFault(f"the answer has no {name}", code="bad_answer", fix="Use the same version on both sides.")
    return value


def number_of(plain: Plain, name: str) -> int:
    """A number in an answer. ServerFault when it is something else."""
    value = plain.get(name)
    if not isinstance(value, int):
        raise ServerFault(f"the answer has no {name}", code="bad_answer", fix="Use the same version on both sides.")
    return value


def version_of(plain: Plain) -> Plain:
    """The version in an answer. Refused when there is none."""
    value = plain.get("version")
    if not isinstance(value, dict):
        raise Refused("the answer names no version", code="bad_answer")
    return value
