"""Reads availability traces of the Failure Trace Archive: the table `event_trace`, one event a line.

Columns, separated by tabs or blanks: event_id, component_id, node_id, platform_id, node_name, event_type (1 available,
0 not), event_start_time, event_stop_time (seconds, with fractions), event_end_reason. Lines that begin with # are
comments, mostly the column names. Source: Kondo et al., "The Failure Trace Archive", CCGrid 2010; the order of columns
is that of the archive's own files as its readers (GridSim 5.0, gridsim.fta) take them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

from protocol.errors import Refused
from simulations.scenario import NS

COLUMNS: Final = (
    "event_id",
    "component_id",
    "node_id",
    "platform_id",
    "node_name",
    "event_type",
    "event_start_time",
    "event_stop_time",
    "event_end_reason",
)
NODE: Final = 2
KIND: Final = 5
START: Final = 6
STOP: Final = 7
NEEDED: Final = 8
"""Fields of a line that is read; the reason at its end may be missing."""

SECONDS_MAX: Final = 10**12
"""Latest time of a trace, s: 30,000 years, where a number is rather a typing error or in another unit."""

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Trace:
    """The hosts of a trace, in order of appearance."""

    nodes: tuple[tuple[Span, ...], ...]
    """When each is up, ns since the trace's beginning; sorted, disjoint, not touching."""
    length: int
    """From the first event's start to the last one's end, ns."""

    def sessions(self, peer: int, duration: int) -> list[Span]:
        """Of host `peer`; hosts repeat when there are more peers than hosts, the trace when it is shorter."""
        spans = self.nodes[peer % len(self.nodes)]
        found: list[Span] = []
        for base in range(0, duration, self.length):
            for start, stop in spans:
                if base + start < duration:
                    found.append((base + start, min(base + stop, duration)))
        return _merged(found)


def read(path: Path) -> Trace:
    """The trace in a file. Raises `Refused` naming file, line and field."""
    ups: dict[str, list[Span]] = {}
    downs: dict[str, list[Span]] = {}
    first, last = -1, -1
    for node, is_up, start, stop in _events(path):
        first = start if first < 0 else min(first, start)
        last = max(last, stop)
        ups.setdefault(node, [])
        (ups if is_up else downs).setdefault(node, []).append((start, stop))
    if first == last:
        raise Refused(
            f"{path} holds no event that lasts",
            code="bad_trace",
            fix="Name a file in the Failure Trace Archive's event_trace format.",
        )
    has_ups = any(ups.values())
    nodes = []
    for node, found in ups.items():
        # Traces of failures list only the times without service: the host is up in between.
        spans = found if has_ups else _gaps(_merged(downs[node]), first, last)
        nodes.append(tuple((start - first, stop - first) for start, stop in _merged(spans)))
    return Trace(tuple(nodes), last - first)


def _events(path: Path) -> Iterator[tuple[str, bool, int, int]]:
    """Host, available or not, start and stop in ns."""
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip() or line.startswith("#"):
                    continue
                fields = [field.strip() for field in line.split("\t")] if "\t" in line else line.split()
                if fields[0] == COLUMNS[0]:
                    continue
                yield _event(path, number, fields)
    except OSError as error:
        raise Refused(
            f"cannot read the trace {path}: {error.strerror}",
            code="no_trace",
            fix="Name a file that exists; the path is relative to where the simulator is started.",
        ) from error
    except UnicodeDecodeError as error:
        raise Refused(
            f"{path} is no text: byte {error.start} of a block cannot be decoded",
            code="bad_trace",
            fix="Unpack the archive and name its event_trace.tab.",
        ) from error


def _event(path: Path, number: int, fields: list[str]) -> tuple[str, bool, int, int]:
    if len(fields) < NEEDED:
        raise _bad(path, number, COLUMNS[len(fields)], f"missing: the line has {len(fields)} fields, not {NEEDED}")
    if not fields[NODE]:
        raise _bad(path, number, COLUMNS[NODE], "empty")
    if fields[KIND] not in ("0", "1"):
        raise _bad(path, number, COLUMNS[KIND], f"{fields[KIND][:40]!r}, not 0 (unavailable) or 1 (available)")
    start, stop = (_time(path, number, column, fields[column]) for column in (START, STOP))
    if stop < start:
        raise _bad(path, number, COLUMNS[STOP], f"{fields[STOP]}, before the start at {fields[START]}")
    return fields[NODE], fields[KIND] == "1", start, stop


def _time(path: Path, number: int, column: int, text: str) -> int:
    try:
        seconds = Decimal(text)
    except InvalidOperation:
        raise _bad(path, number, COLUMNS[column], f"{text[:40]!r}, not a number of seconds") from None
    if not seconds.is_finite() or not 0 <= seconds <= SECONDS_MAX:
        raise _bad(path, number, COLUMNS[column], f"{text[:40]}, not between 0 and {SECONDS_MAX} seconds")
    return int(seconds * NS)


def _bad(path: Path, number: int, field: str, what: str) -> Refused:
    return Refused(
        f"{path}, line {number}: {field} is {what}",
        code="bad_trace",
        fix=f"Columns are {', '.join(COLUMNS)}, separated by tabs.",
        numbers={"line": number, "field": field},
    )


def _merged(spans: list[Span]) -> list[Span]:
    """Sorted; what overlaps or touches is one."""
    found: list[Span] = []
    for start, stop in sorted(spans):
        if start == stop:
            continue
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], stop))
        else:
            found.append((start, stop))
    return found


def _gaps(spans: list[Span], first: int, last: int) -> list[Span]:
    edges = [first, *(edge for span in spans for edge in span), last]
    return list(zip(edges[::2], edges[1::2], strict=True))
