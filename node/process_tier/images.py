"""What makes a folder of process images ours: a table of every file in it, and a signed statement about the table.

CRIU believes what it reads, with root's rights. So nothing of a folder is shown to it before the signature is that of
the node we expect, and every byte is the one that was signed. Spec: specs/30-process-tier.md.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path, PurePosixPath
from typing import Annotated, Final, Literal

from blake3 import blake3
from msgspec import Meta, Struct

from node.outputs import ENTRIES_MAX
from node.process_tier import folders
from node.process_tier.folders import Entry
from protocol import wire
from protocol.errors import Refused, RemoteViolation
from protocol.identity import Identity
from protocol.units import MIB, PeerId
from storage.cutting import Part

KIND: Final = "process_image"
"""What the signature says that it signs."""

STATEMENT: Final = "statement"
TABLE: Final = "table"
IMAGES: Final = "images"
WORK: Final = "work"
"""Names in the folder of a snapshot; the job's own folders lie beside `images`. `work` holds logs, and is
removed before the snapshot is signed."""

TABLE_BYTES_MAX: Final = 16 * MIB
"""ENTRIES_MAX entries with paths of 200 characters."""

FDS_MAX: Final = 16
"""Descriptors that lead out of a sandbox: its output and its empty input, of a few processes at most."""

Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Descriptor = Annotated[str, Meta(max_length=64, pattern=r"^(pipe:\[[0-9]+\]|file\[[0-9a-f]+:[0-9a-f]+\])$")]


class ProcessImage(Struct, frozen=True, forbid_unknown_fields=True, tag=KIND):
    """The statement: what was dumped, and what a host must be to take it."""

    task: Annotated[str, Meta(max_length=256)]
    tier: Literal["runc", "bwrap"]
    criu: Annotated[str, Meta(max_length=32)]
    machine: Annotated[str, Meta(max_length=32)]
    runtime: Bytes32
    uid: Annotated[int, Meta(ge=1, le=2**32 - 2)]
    outer: Annotated[tuple[Descriptor, ...], Meta(max_length=FDS_MAX)]
    """What leads out of the sandbox: its output pipe, and /dev/null of the host that dumped it."""
    table: Bytes32
    size: Annotated[int, Meta(ge=0, le=2**50)]


@dataclass(frozen=True, slots=True)
class Verified:
    """A folder that may be restored from."""

    folder: Path
    image: ProcessImage
    entries: tuple[Entry, ...]


_statements: Final = wire.decoder(wire.Signed)
_bodies: Final = wire.decoder(ProcessImage)
_tables: Final = wire.decoder(tuple[Entry, ...])


def image_entries(folder: Path) -> tuple[Entry, ...]:
    """CRIU's own files, flat."""
    paths = sorted((folder / IMAGES).iterdir())
    files = (
        Entry(f"{IMAGES}/{path.name}", "file", 0o600, 0, path.stat().st_size, folders.digest_of(path)) for path in paths
    )
    return (Entry(IMAGES, "folder", 0o700), *files)


def write(folder: Path, image: ProcessImage, entries: tuple[Entry, ...], identity: Identity, network: str) -> None:
    """Write table and statement; `image.table` and `image.size` are set here. Blocks."""
    table = wire.encode(entries)
    size = sum(entry.size for entry in entries)
    fields = {name: getattr(image, name) for name in image.__struct_fields__} | {"table": b"", "size": size}
    stated = ProcessImage(**{**fields, "table": blake3(table).digest()})
    (folder / TABLE).write_bytes(table)
    (folder / STATEMENT).write_bytes(wire.encode(wire.sign(identity, network, KIND, stated)))


def stated(folder: Path) -> tuple[PeerId, ProcessImage]:
    """Who is said to have signed, and what: nothing of it is checked. Refused or RemoteViolation when it is not
    readable. Blocks."""
    nobody = PeerId(bytes(32))
    statement = wire.decode(_read(folder / STATEMENT, wire.MESSAGE_BYTES_MAX * 2), _statements, nobody, 2**17)
    return PeerId(statement.signer), wire.decode(statement.body, _bodies, nobody)


def verify(folder: Path, signer: PeerId, network: str) -> Verified:
    """Check the signature, the table and every byte. RemoteViolation or Refused (`bad_image`). Blocks.

    The folder must be the node's own, where no job can write."""
    statement = wire.decode(_read(folder / STATEMENT, wire.MESSAGE_BYTES_MAX * 2), _statements, signer, 2**17)
    if statement.signer != signer:
        raise RemoteViolation(signer, "process images signed by another peer", code="wrong_signer")
    image = wire.open_signed(statement, network, KIND, _bodies, signer)
    table = _read(folder / TABLE, TABLE_BYTES_MAX)
    if blake3(table).digest() != image.table:
        raise RemoteViolation(signer, "the table of a process image is not the signed one", code="snapshot_damaged")
    entries = wire.decode(table, _tables, signer, TABLE_BYTES_MAX)
    if len(entries) > ENTRIES_MAX or sum(entry.size for entry in entries) != image.size:
        raise RemoteViolation(signer, "the table of a process image does not add up", code="snapshot_damaged")
    named = {STATEMENT, TABLE, *(entry.path for entry in entries)}
    for entry in entries:
        folders.check_path(entry.path)
        named.update(str(parent) for parent in PurePosixPath(entry.path).parents)
        _check(folder, entry)
    present = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    if extra := present - named:
        raise Refused(f"{min(extra)[:80]!r} is in no table", code="bad_image")
    return Verified(folder, image, entries)


def fits(image: ProcessImage, criu: str, runtime: bytes) -> str:
    """Why a host cannot take an image; empty when nothing speaks against it."""
    if image.machine != platform.machine():
        return f"the image is of a {image.machine} machine, this is {platform.machine()}"
    if image.criu != criu:
        return f"the image was written by CRIU {image.criu}, here is {criu}"
    if image.runtime != runtime:
        return "the job's runtime has other files here"
    return ""


@contextmanager
def opened(folder: Path) -> Iterator[list[Part]]:
    """Every file of a snapshot, mapped, as parts for the storage pipeline. Use them inside only."""
    with ExitStack() as stack:
        found: list[Part] = []
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or not path.is_file():
                continue
            name = str(path.relative_to(folder))
            if not path.stat().st_size:
                found.append(Part(name, 1, memoryview(b"")))
                continue
            file = stack.enter_context(path.open("rb"))
            view = memoryview(stack.enter_context(mmap(file.fileno(), 0, access=ACCESS_READ)))
            stack.callback(view.release)
            found.append(Part(name, 1, view))
        yield found


def accept(folder: Path, name: str, content: memoryview | bytes) -> None:
    """Write one part back. Refused (`bad_image`) for a name that leads elsewhere. Blocks."""
    folders.check_path(name)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)


def complete(folder: Path) -> None:
    """Make the empty folders and the links that parts do not carry; `verify` then checks them like the rest. Blocks."""
    for entry in wire.decode(_read(folder / TABLE, TABLE_BYTES_MAX), _tables, PeerId(bytes(32)), TABLE_BYTES_MAX):
        folders.check_path(entry.path)
        if entry.kind == "folder":
            (folder / entry.path).mkdir(parents=True, exist_ok=True)


def _check(folder: Path, entry: Entry) -> None:
    """A file is what the table says. Links live in the table alone."""
    path = folder / entry.path
    if any(parent.is_symlink() for parent in (path, *path.parents) if parent.is_relative_to(folder)):
        raise Refused(f"{entry.path[:80]!r} is a link", code="bad_image")
    if entry.kind == "folder" and not path.is_dir():
        raise Refused(f"{entry.path[:80]!r} is missing", code="snapshot_damaged")
    if entry.kind == "file" and (
        not path.is_file() or path.stat().st_size != entry.size or folders.digest_of(path) != entry.digest
    ):
        raise Refused(f"{entry.path[:80]!r} is not what was dumped", code="snapshot_damaged")


def _read(path: Path, bytes_max: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(bytes_max + 1)
    except OSError as error:
        raise Refused(f"{path.name} is missing", code="bad_image") from error
