"""The blow of the demo: a provider is killed while it trains, and another one goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.schemas import ChunkStatus, JobStatus
from node.clock import Clock
from node.control_client import ControlClient
from protocol.errors import ShoalError
from protocol.units import SECOND
from shoal.devnet import Devnet
from shoal.devnet_layout import CHEAT
from shoal.devnet_state import DevnetState
from shoal.output import size_text

SAVED_MIN: Final = 4
"""Looks at which the job had another durable snapshot: the first one is there, and protection has settled."""

STEP_MAX: Final = 500
"""A durable step at which the blow falls in any case: a third of the example, so that it does not end before, on a
machine that takes few snapshots meanwhile or looks rarely."""


@dataclass(slots=True)
class Kill:
    """The provider that was killed, what it was computing, and who went on."""

    node: str
    name: str
    """Of the job."""
    chunk: int
    epoch: int
    at: int
    """Microseconds, of our own clock."""
    saved: int
    """The step of the newest durable snapshot as the blow fell."""
    received: dict[str, int]
    """Bytes of blobs that every other node had received by then."""
    reached: int = 0
    """The last step that the killed provider told of."""
    resumed: int = -1
    """The step from which the next one went on; -1: nobody has yet."""
    heir: str = ""
    seconds: float = 0.0
    moved: int = 0
    """Bytes that the next one fetched for it."""
    state: int = 0
    """Bytes of state."""

    @property
    def is_over(self) -> bool:
        """Whether somebody goes on."""
        return self.resumed >= 0

    def told(self) -> str:
        """The takeover in one line."""
        began = f"goes on from step {self.resumed}" if self.resumed else "begins again"
        return (
            f"{self.heir} {began}, {self.seconds:.1f} s after {self.node} was killed at step {self.reached}; "
            f"{size_text(self.state)} of state, {size_text(self.moved)} of them moved after the blow"
        )


class Striker:
    """Waits for the right moment, strikes once, and watches who goes on."""

    def __init__(self, network: Devnet, state: DevnetState) -> None:
        self._network = network
        self._names = {node.peer: node.name for node in state.nodes}
        self._clock = Clock()
        self._snapshots: set[int] = set()
        self.kill: Kill | None = None

    def strike(self, look: JobStatus, *, is_trained: bool) -> str:
        """Kill the provider of a running chunk, once; what happened, or nothing. Never the provider that cheats.

        `is_trained`: wait for snapshots, else for accepted chunks."""
        if self.kill is not None:
            return ""
        for chunk in look.chunks:
            name = self._names.get(chunk.provider or "", "")
            if chunk.state != "running" or not name or self._is_cheat(name):
                continue
            self._snapshots.add(chunk.step)
            is_protected = len(self._snapshots - {0}) >= SAVED_MIN or chunk.step >= STEP_MAX
            if is_protected if is_trained else look.accepted >= 2:
                return self._kill(look, chunk, name)
        return ""

    def watch(self, look: JobStatus) -> str:
        """Whether another provider goes on by now; then what there is to tell, once."""
        kill = self.kill
        if kill is None or kill.is_over or look.name != kill.name:
            return ""
        chunk = look.chunks[kill.chunk]
        before = next((one for one in chunk.attempts if one.epoch == kill.epoch), None)
        after = chunk.attempts[-1] if chunk.attempts else None
        if before is None or after is None or after.epoch == kill.epoch:
            return ""
        is_running = after.reached > after.step if kill.saved else chunk.state in ("running", "claimed", "accepted")
        if not is_running and chunk.state not in ("claimed", "revealed", "accepted"):
            return ""
        kill.seconds = (self._clock.now() - kill.at) / SECOND
        kill.reached, kill.resumed, kill.state = max(before.reached, kill.saved), after.step, chunk.snapshot_bytes
        kill.heir = self._names.get(after.provider or "", "another")
        kill.moved = max(0, self._received(kill.heir) - kill.received.get(kill.heir, 0))
        return kill.told()

    def _kill(self, look: JobStatus, chunk: ChunkStatus, name: str) -> str:
        received = {other: self._received(other) for other in self._names.values() if other != name}
        pid = self._network.kill(name)
        at, saved = self._clock.now(), chunk.step
        self.kill = Kill(name, look.name, chunk.index, chunk.epoch, at, saved, received)
        of = f", its snapshot of step {saved} is kept by others" if saved else ""
        return f"kill -9 {pid}: {name} is gone while it computes chunk {chunk.index} of {look.name}{of}"

    def _received(self, name: str) -> int:
        """Bytes of blobs that a node has received so far; 0 when it does not answer."""
        try:
            with ControlClient(self._network.folder / name / "control.sock") as node:
                counts = node.call("network.status").get("counts", {})
        except ShoalError:
            return 0
        found = counts.get("blob_bytes_received", 0) if isinstance(counts, dict) else 0
        return found if isinstance(found, int) else 0

    def _is_cheat(self, name: str) -> bool:
        return CHEAT in (self._network.folder / name / "config.toml").read_text(encoding="utf-8")
