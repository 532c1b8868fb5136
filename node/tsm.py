"""Linux' one door to trusted CPUs: configfs-tsm, where a virtual machine has its report signed by reading a file.

Write up to 64 bytes to `inblob`, read `outblob`: TDX and SEV-SNP alike; `provider` says which. `generation` counts
writes, so that two programs which share an entry notice each other. Source: Linux 6.7, Documentation/ABI/testing/
configfs-tsm.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from cryptography.hazmat.primitives.serialization import Encoding

from protocol.errors import Refused, Unavailable
from protocol.quote_messages import PART_BYTES_MAX, CpuQuote
from verifier.attestation.chains import read_der, read_pem

FOLDER: Final = Path("/sys/kernel/config/tsm/report")
"""Where the kernel has it, once a driver of trusted hardware is loaded."""

ENTRY: Final = "shoal"
"""The node's own entry. Only root may make one; an owner may make it beforehand and give it to the node's user."""

INBLOB_BYTES: Final = 64
"""What is signed along; shorter is padded with zeros."""

TRIES: Final = 3
"""Until somebody else's use of the entry counts as a fault."""

KINDS: Final[Mapping[str, Literal["tdx", "sev-snp"]]] = MappingProxyType({"tdx_guest": "tdx", "sev_guest": "sev-snp"})
"""What `provider` says, by driver."""

TABLE_MAX: Final = 16
"""Certificates in a host's table: AMD names five kinds."""

WANTED: Final = frozenset(
    (
        "63da758d-e664-4564-adc5-f4b93be8accd",  # VCEK: the chip's
        "a8074bc2-a25a-483e-aae6-39c045a0b8a1",  # VLEK: the cloud's
        "4ab7b379-bbac-4fe4-a02f-05aef327c782",  # ASK
        "c0b406a4-a803-4952-9743-3fb6014cd0ae",  # ARK
    )
)
"""Entries of the table that are certificates of the chain. Source: AMD, guest-host communication block, 56421."""

_FIX: Final = "See docs/owner.md: the node needs an entry of its own below /sys/kernel/config/tsm/report."


@dataclass(frozen=True, slots=True)
class Door:
    """One configfs-tsm, and where the owner keeps certificates that the host does not hand out."""

    folder: Path = FOLDER
    certificates: Path | None = None
    """A folder of *.pem and *.der: for SEV-SNP the chip's certificate and its issuers."""

    @property
    def is_there(self) -> bool:
        """Whether the kernel offers it."""
        return self.folder.is_dir()

    def sign(self, bound: bytes) -> CpuQuote:
        """The CPU's quote over these bytes; blocks until the hardware has signed, for up to seconds. `Unavailable`."""
        entry = self.folder / ENTRY
        try:
            with contextlib.suppress(FileExistsError):
                entry.mkdir()
            kind = _kind(_read(entry / "provider").decode("ascii", "replace").strip())
            report, table = _signed(entry, bound.ljust(INBLOB_BYTES, b"\0"))
        except (OSError, ValueError) as error:
            raise Unavailable(f"configfs-tsm: {error}", code="no_quote", fix=_FIX) from error
        chain = b"" if kind == "tdx" else certificates_of(table) or self._kept()
        return CpuQuote(kind, report, chain)

    def _kept(self) -> bytes:
        """The owner's certificates as PEM; what is none is left out."""
        found = b""
        folder = self.certificates
        names = sorted(folder.iterdir()) if folder is not None and folder.is_dir() else []
        for path in names[:TABLE_MAX]:
            with contextlib.suppress(Refused, OSError):
                data = _read(path)
                read = [read_der(data)] if path.suffix == ".der" else read_pem(data) if path.suffix == ".pem" else []
                found += b"".join(item.public_bytes(Encoding.PEM) for item in read)
        return found


def certificates_of(table: bytes) -> bytes:
    """The chain of a SEV-SNP host's table in PEM. A table is untrusted: what does not fit is left out."""
    found = b""
    for at in range(0, min(len(table), TABLE_MAX * 24) - 23, 24):
        name = str(uuid.UUID(bytes=table[at : at + 16]))
        start, size = (int.from_bytes(table[at + place : at + place + 4], "little") for place in (16, 20))
        if name == str(uuid.UUID(int=0)):
            break
        if name in WANTED:
            with contextlib.suppress(Refused):
                found += read_der(table[start : start + size]).public_bytes(Encoding.PEM)
    return found


def _kind(provider: str) -> Literal["tdx", "sev-snp"]:
    if provider not in KINDS:
        raise Unavailable(f"quotes of {provider[:32]!r} are not known here", code="no_quote", fix=_FIX)
    return KINDS[provider]


def _signed(entry: Path, inblob: bytes) -> tuple[bytes, bytes]:
    """Report and table, with nobody else's write in between."""
    for _ in range(TRIES):
        before = int(_read(entry / "generation"))
        (entry / "inblob").write_bytes(inblob)
        report, table = _read(entry / "outblob"), b""
        with contextlib.suppress(FileNotFoundError):
            table = _read(entry / "auxblob")
        if int(_read(entry / "generation")) == before + 1:
            return report, table
    raise Unavailable("another program uses the same entry of configfs-tsm", code="no_quote", fix=_FIX)


def _read(path: Path) -> bytes:
    """A whole file that is no longer than a message may carry."""
    with path.open("rb") as stream:
        data = stream.read(PART_BYTES_MAX + 1)
    if len(data) > PART_BYTES_MAX:
        raise ValueError(f"{path.name} has more than {PART_BYTES_MAX} bytes")
    return data
