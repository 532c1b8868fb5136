"""A Lamport diagram of the last moments: a lane per peer, time downwards, an arrow per message. SVG and text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from protocol.effects import Compute, Emit, Fail, Run, Stop
from protocol.greetings import Hello
from protocol.messages import Beat, BlocksRequest, LogLines, Offer
from simulations.recent import Event, Handled, Injected, Moved, Sent, describe, effect_text, fault_text, name_of
from simulations.scenario import NS

SHOWN: Final = 60
"""Marks in a diagram: what fits a screen and can still be followed with a finger."""

LANES: Final = 8
"""Peers in a diagram; further ones are left out, those that took part least first."""

NOISE: Final = frozenset((Beat, BlocksRequest, Hello, LogLines, Offer))
"""Messages that nearly always happen and nearly never explain."""

LANE_PX: Final = 150
ROW_PX: Final = 26
LEFT_PX: Final = 110
TOP_PX: Final = 96
LABEL_PX: Final = 490
"""Room for the labels, right of the lanes."""

LABEL_CHARS: Final = 64
"""Characters of a label; the whole text is its tooltip."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One row: something that a peer did, or one end of a message."""

    time: int
    peer: int
    kind: str
    """sent | arrived | lost | done | fault"""
    text: str
    other: int = -1
    """The peer at the other end of the message."""
    message: int = -1
    """Number of the message: its two ends share it."""


@dataclass(frozen=True, slots=True)
class Diagram:
    """What is drawn: lanes from left to right, marks in order of time."""

    lanes: tuple[int, ...]
    marks: tuple[Mark, ...]


def select(events: Iterable[Event], peer: int, about: bytes) -> Diagram:
    """The last marks that touch the peer at fault or the escrow it is about; everything when neither is known."""
    known = list(events)
    end = known[-1].now if known else 0
    marks: list[Mark] = []
    for number, event in enumerate(known):
        marks += _marks(event, number, peer, about, end)
    marks.sort(key=lambda mark: mark.time)
    marks = marks[-SHOWN:]
    count: dict[int, int] = {}
    for mark in marks:
        for one in (mark.peer, mark.other):
            if one >= 0:
                count[one] = count.get(one, 0) + 1
    if peer >= 0:
        count[peer] = len(known) + SHOWN
    lanes = tuple(sorted(sorted(count, key=lambda one: (-count[one], one))[:LANES]))
    shown = [mark for mark in marks if mark.peer in lanes or mark.peer < 0]
    return Diagram(lanes, tuple(shown))


def _marks(event: Event, number: int, peer: int, about: bytes, end: int) -> list[Mark]:
    match event:
        case Sent(now, source, target, message, arrives):
            if type(message) in NOISE or not (_touches(message, about) or (peer in (source, target) and not about)):
                return []
            text = describe(message)
            if arrives < 0:
                return [Mark(now, source, "lost", text, target, number)]
            ends = [Mark(now, source, "sent", text, target, number)]
            return [*ends, Mark(arrives, target, "arrived", text, source, number)] if arrives <= end else ends
        case Handled(now, index, _, effects):
            told = [effect for effect in effects if isinstance(effect, Emit | Fail | Compute)]
            return [
                Mark(now, index, "fault" if isinstance(effect, Fail) else "done", effect_text(effect))
                for effect in told
                if isinstance(effect, Fail) or (index == peer and not about) or _mentions(effect, about)
            ]
        case Moved(now, index, is_up):
            return [Mark(now, index, "fault", "started" if is_up else "killed")]
        case Injected(now, injection):
            return [Mark(now, -1, "fault", fault_text(injection, ()))]


def _touches(message: object, about: bytes) -> bool:
    """Whether a message is about this escrow, itself or by an operation inside."""
    if not about:
        return False
    if getattr(message, "escrow", None) == about:
        return True
    inside = [
        *getattr(message, "operations", ()),
        getattr(message, "assign", None),
        getattr(message, "operation", None),
    ]
    return any(about in getattr(signed, "body", b"") for signed in inside)


def _mentions(effect: Emit | Compute, about: bytes) -> bool:
    if not about:
        return False
    if isinstance(effect, Emit):
        return effect.fields.get("escrow") == about.hex()
    return isinstance(effect.work, Run | Stop) and about.hex()[:16] in effect.work.task


# ── text ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def text(diagram: Diagram, names: Sequence[str], title: str) -> str:
    """The same rows for a terminal: a column per peer, the mark in its own, the label behind."""
    width = max((len(name_of(names, lane)) for lane in diagram.lanes), default=4) + 2
    head = " " * 14 + "".join(name_of(names, lane).ljust(width) for lane in diagram.lanes)
    lines = [title, "", head.rstrip()]
    signs = {"sent": "o", "arrived": ">", "lost": "x", "done": "*", "fault": "!"}
    for mark in diagram.marks:
        cells = [signs[mark.kind] if lane == mark.peer else "|" for lane in diagram.lanes]
        row = "".join(cell.ljust(width) for cell in cells)
        lines.append(f"{mark.time / NS:12.6f}  {row}{_label(mark, names)}")
    lines += ["", "o sent   > arrived   x sent and lost   * done by itself   ! fault"]
    return "\n".join(lines) + "\n"


def _label(mark: Mark, names: Sequence[str]) -> str:
    match mark.kind:
        case "sent":
            return f"{mark.text} to {name_of(names, mark.other)}"
        case "arrived":
            return f"{mark.text} from {name_of(names, mark.other)}"
        case "lost":
            return f"{mark.text} to {name_of(names, mark.other)}, lost"
        case _:
            return mark.text


# ── picture ──────────────────────────────────────────────────────────────────────────────────────────────────────────
STYLE: Final = """
text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:#1f2733}
.title{font-size:15px;font-weight:600}.note,.time{fill:#6a7686}.name{font-weight:600;text-anchor:middle}
.lane{stroke:#c9d1dc;stroke-width:1.5}.culprit{stroke:#d64545;stroke-width:3}
.arrow{stroke:#3569b8;stroke-width:1.5;fill:none;marker-end:url(#tip)}
.lost{stroke:#d64545;stroke-dasharray:4 3;marker-end:url(#cross)}
.sent,.arrived{fill:#3569b8}.done{fill:#3f8f5c}.fault{fill:#d64545}.band{fill:#f6f8fb}
.label{paint-order:stroke;stroke:#fff;stroke-width:4px;stroke-linejoin:round}
"""


TIP: Final = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    '<path d="M0,0 L8,4 L0,8 z" fill="#3569b8"/></marker>'
    '<marker id="cross" viewBox="0 0 8 8" refX="4" refY="4" markerWidth="8" markerHeight="8">'
    '<path d="M1,1 L7,7 M7,1 L1,7" stroke="#d64545" stroke-width="1.5"/></marker></defs>'
)


def svg(diagram: Diagram, names: Sequence[str], title: str, culprit: int = -1) -> str:
    """The picture. Rows are evenly spaced, not to scale: each says its time. `culprit`: the lane drawn red."""
    columns = {lane: LEFT_PX + LANE_PX // 2 + place * LANE_PX for place, lane in enumerate(diagram.lanes)}
    width = LEFT_PX + LANE_PX * max(1, len(columns)) + LABEL_PX
    height = TOP_PX + ROW_PX * (len(diagram.marks) + 1) + 40
    bottom = height - 48
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f"<style>{STYLE}</style>",
        TIP,
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text class="title" x="16" y="28">{escape(_cut(title, width // 9))}</text>',
        '<text class="note" x="16" y="48">time runs downwards, in simulated seconds; rows are not to scale</text>',
    ]
    rows = {place: TOP_PX + ROW_PX * place + 8 for place in range(len(diagram.marks))}
    parts += [
        f'<rect class="band" x="0" y="{y - ROW_PX // 2}" width="{width}" height="{ROW_PX}"/>'
        for place, y in rows.items()
        if place % 2 == 0
    ]
    for lane, x in columns.items():
        kind = "lane culprit" if lane == culprit else "lane"
        parts.append(f'<line class="{kind}" x1="{x}" y1="{TOP_PX - 14}" x2="{x}" y2="{bottom}"/>')
        parts.append(f'<text class="name" x="{x}" y="{TOP_PX - 22}">{escape(name_of(names, lane))}</text>')
    parts += _arrows(diagram, columns, rows)
    for place, mark in enumerate(diagram.marks):
        parts += _row(mark, columns, rows[place], names)
    parts.append(
        f'<text class="note" x="16" y="{height - 16}">blue: messages · red: faults, losses · green: events</text>'
    )
    return "\n".join([*parts, "</svg>", ""])


def _arrows(diagram: Diagram, columns: dict[int, int], rows: dict[int, int]) -> list[str]:
    begun: dict[int, int] = {mark.message: place for place, mark in enumerate(diagram.marks) if mark.kind == "sent"}
    parts = []
    for place, mark in enumerate(diagram.marks):
        x = columns.get(mark.peer, 0)
        far = columns.get(mark.other)
        if mark.kind == "arrived" and far is not None:
            start = rows[begun[mark.message]] if mark.message in begun else TOP_PX - 14
            parts.append(f'<path class="arrow" d="M{far},{start} L{x},{rows[place]}"/>')
        elif mark.kind == "lost":
            to = x + (LANE_PX // 2 if far is None or far > x else -LANE_PX // 2)
            parts.append(f'<path class="arrow lost" d="M{x},{rows[place]} L{to},{rows[place]}"/>')
    return parts


def _row(mark: Mark, columns: dict[int, int], y: int, names: Sequence[str]) -> list[str]:
    x = columns.get(mark.peer, LEFT_PX - 8)
    colour = {"lost": "fault"}.get(mark.kind, mark.kind)
    where = LEFT_PX + LANE_PX * max(1, len(columns))
    label = _label(mark, names)
    shown, whole = escape(_cut(label, LABEL_CHARS)), escape(label)
    return [
        f'<text class="time" x="16" y="{y + 4}">{mark.time / NS:.6f}</text>',
        f'<circle class="{colour}" cx="{x}" cy="{y}" r="4"/>',
        f'<text class="label" x="{where}" y="{y + 4}">{shown}<title>{whole}</title></text>',
    ]


def _cut(label: str, most: int) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"
