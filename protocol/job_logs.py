"""The lines that a job's chunks write, put into one order as they arrive at the steward. Spec: specs/14-steward.md."""

from __future__ import annotations

from protocol import wire
from protocol.effects import Effect, Emit, Store
from protocol.job_record import JobRecord
from protocol.messages import LogLines
from protocol.units import Micros


class JobLogs:
    """Numbers the lines of one job; a line that arrives twice is kept once."""

    def __init__(self, record: JobRecord) -> None:
        self._record = record
        self._next: dict[tuple[int, int], int] = {}

    def add(self, message: LogLines, now: Micros) -> list[Effect]:
        """The new lines of a message, each stored under its number in the job."""
        lease, record = (message.chunk, message.epoch), self._record
        expected = self._next.get(lease, 0)
        fresh = message.lines[max(0, expected - message.sequence) :]
        self._next[lease] = max(expected, message.sequence + len(message.lines))
        effects: list[Effect] = []
        for line in fresh:
            number = record.log_lines
            entry = (number, now, message.chunk, line)
            effects.append(Store(f"log/{record.job.hex()}/{number:012d}", wire.encode(entry)))
            effects.append(Emit("log", {"job": record.job.hex(), "chunk": message.chunk, "sequence": number}))
            record.log_lines += 1
        return effects
