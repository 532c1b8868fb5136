"""Every event of a run as lines of JSON, compressed while it is written: events.jsonl.zst.

    {"at": ns, "kind": "took", "peer": 3, "what": "Grant(...)", "sum": 4196, "does": ["send Accept(...) to 4fDc21"]}
    {"at": ns, "kind": "sent", "peer": 3, "to": 0, "what": "Accept(...)", "sum": 1, "arrives": ns, -1: lost}
    {"at": ns, "kind": "moved", "peer": 3, "up": false}         started or killed
    {"at": ns, "kind": "crashed", "peer": 3, "what": "..."}     a machine broke its own contract
    {"at": ns, "kind": "fault", "what": "partition of ..."}

Times are ns since the start; `sum` is a CRC-32 of the content, so that equal lines are equal events.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import is_dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zlib import crc32

import msgspec
import zstandard

from protocol import wire
from protocol.effects import Effect
from protocol.errors import Refused
from simulations.landing import Landing
from simulations.observer import Observer
from simulations.recent import describe, effect_text, fault_text
from simulations.scenario import Injection

if TYPE_CHECKING:
    from simulations.subject import Subject
    from simulations.world import World

NAME: Final = "events.jsonl.zst"

LEVEL: Final = 3
"""zstd's own default: more costs time that the simulation needs, and gains a tenth."""

Line = dict[str, object]


class EventLog(Observer):
    """Writes as the run goes; memory does not grow with it. The file appears when the run is over (`close`)."""

    def __init__(self, path: Path) -> None:
        """Raises `Refused` (`disk_full`, `unwritable`), as every hook may."""
        self._landing = Landing(path)
        self._press = zstandard.ZstdCompressor(level=LEVEL).compressobj()
        self._names: list[str] = []
        self._encode = msgspec.json.Encoder().encode
        self.lines = 0
        """Events written."""

    def started(self, world: World) -> None:
        self._names = [peer.name for peer in world.peers]

    def handled(self, peer: Subject, cause: object, effects: list[Effect], now: int) -> None:
        line: Line = {"at": now, "kind": "tick" if cause is None else "took", "peer": peer.index}
        if cause is not None:
            line |= {"what": describe(cause) if not callable(cause) else "command", "sum": checksum(cause)}
        does = [text for effect in effects if (text := effect_text(effect))]
        if does:
            line["does"] = does
        elif cause is None:
            return
        self._put(line)

    def sent(self, source: int, target: int, message: object, now: int, arrives: int) -> None:
        line = {"at": now, "kind": "sent", "peer": source, "to": target, "what": describe(message)}
        self._put({**line, "sum": checksum(message), "arrives": arrives})

    def crashed(self, peer: Subject, error: Exception, now: int) -> None:
        self._put({"at": now, "kind": "crashed", "peer": peer.index, "what": f"{type(error).__name__}: {error}"})

    def injected(self, injection: Injection, now: int) -> None:
        self._put({"at": now, "kind": "fault", "what": fault_text(injection, self._names)})

    def moved(self, peer: Subject, is_up: bool, now: int) -> None:
        self._put({"at": now, "kind": "moved", "peer": peer.index, "up": is_up})

    def finished(self, now: int) -> None:
        self._put({"at": now, "kind": "end"})
        self.close()

    def close(self) -> None:
        """Complete the file. Call it also when the run ended with a violation: its log is wanted most of all."""
        if not self._landing.is_open:
            return
        self._landing.write(self._press.flush())
        self._landing.commit()

    def abandon(self) -> None:
        """Leave no file behind."""
        self._landing.abandon()

    def _put(self, line: Line) -> None:
        self.lines += 1
        data = self._press.compress(self._encode(line) + b"\n")
        if data:
            self._landing.write(data)


def checksum(content: object) -> int:
    """CRC-32 of a message or completion; 0 for what has no bytes of its own, such as a command."""
    if isinstance(content, msgspec.Struct) or (is_dataclass(content) and not isinstance(content, type)):
        return crc32(wire.encode(content))
    return 0


def read(path: Path) -> Iterator[Line]:
    """The events of a log, one by one. Raises `Refused`: `no_events` without one, `bad_run` for a damaged one."""
    decode = msgspec.json.Decoder(dict[str, object]).decode
    try:
        with path.open("rb") as stream, zstandard.ZstdDecompressor().stream_reader(stream) as plain:
            for text in TextIOWrapper(plain, encoding="utf-8"):
                yield decode(text)
    except FileNotFoundError as error:
        raise Refused(
            f"{path} does not exist", code="no_events", fix="Set `events: true` under `outputs`, and run again."
        ) from error
    except (OSError, zstandard.ZstdError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(f"{path} is damaged: {error}", code="bad_run", fix="Run the scenario again.") from error
