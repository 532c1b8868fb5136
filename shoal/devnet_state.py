"""What runs in a local network: `devnet.json`, for `down`, `status` and commands that need a gateway."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from protocol.errors import Refused

STATE_FILE: Final = "devnet.json"


class NodeEntry(Struct, frozen=True):
    """One node process."""

    name: str
    roles: tuple[str, ...]
    data: str
    pid: int
    peer: str = ""


class GatewayEntry(Struct, frozen=True):
    """The gateway process, and the token of the renter that was made for it."""

    url: str
    token: str
    data: str
    pid: int


class DevnetState(Struct, frozen=True):
    """A whole local network."""

    network: str
    genesis: str
    gateway: GatewayEntry
    nodes: tuple[NodeEntry, ...]

    def node(self, name: str) -> NodeEntry:
        """The node of that name."""
        return next(node for node in self.nodes if node.name == name)


def read_state(folder: Path) -> DevnetState | None:
    """The network of this folder if its gateway process runs; None otherwise. `Refused` when the file is damaged."""
    state = stored_state(folder)
    return state if state is not None and is_running(state.gateway.pid, state.gateway.data) else None


def stored_state(folder: Path) -> DevnetState | None:
    """What the file says, running or not."""
    path = folder / STATE_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=DevnetState)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, msgspec.ValidationError, OSError) as error:
        raise Refused(
            f"{path} is damaged: {error}", code="bad_state_file", fix=f"End what runs, and remove {folder}."
        ) from error


def write_state(folder: Path, state: DevnetState) -> None:
    """Complete or not at all, readable by us alone: it holds a token."""
    beside = folder / (STATE_FILE + ".new")
    beside.unlink(missing_ok=True)
    file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "wb") as stream:
        stream.write(msgspec.json.format(msgspec.json.encode(state)) + b"\n")
    beside.rename(folder / STATE_FILE)


def is_running(pid: int, data: str) -> bool:
    """Whether this process is still ours: alive, no zombie, and working on that data directory. Pids are used again."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    return state != "Z" and data.encode() in command
