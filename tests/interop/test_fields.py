"""The tables of fields in the documents are those of the types: a peer of another language has nothing else."""

from __future__ import annotations

import typing
from typing import Final

import msgspec
import pytest
from msgspec import inspect

import specs
from node.requests import Declined
from protocol import wire
from protocol.bulk import chunks, handshake, tickets
from protocol.gossip import announcement
from protocol.jobspec import JobSpec, Manifest
from protocol.messages import Message
from protocol.operations import Operation

Kind = type[msgspec.Struct]

KINDS: Final[dict[str, dict[str, tuple[Kind, ...]]]] = {
    "03-wire": {
        "fields": (wire.Signed, *typing.get_args(Message)),
        "fields of operations": typing.get_args(Operation),
        "fields of blobs": (JobSpec, Manifest),
    },
    "12-transport": {"fields": (Declined,)},
    "19-bulk": {
        "fields": (
            tickets.TicketRequest, tickets.TicketReply, handshake.Open, handshake.Accept, handshake.Finish,
            *typing.get_args(chunks.Question), chunks.Description, chunks.Wait, chunks.Sorry,
        ),
    },
    "22-gossip": {"fields": (announcement.Announcement, announcement.BodyRequest, announcement.Body)},
}  # fmt: skip
"""Document and heading -> what stands there, and behind it in the order of appearance the values within."""


def tables(document: str) -> dict[str, dict[str, str]]:
    """Heading -> type (or the name of a value that only stands inside others) -> fields, as the document writes it."""
    listed: set[Kind] = set()
    return {heading: table(kinds, listed) for heading, kinds in KINDS[document].items()}


def table(kinds: tuple[Kind, ...], listed: set[Kind]) -> dict[str, str]:
    """One of them. Each type is listed once in a document."""
    found: dict[str, str] = {}
    waiting = list(kinds)
    while waiting:
        kind = waiting.pop(0)
        if kind in listed:
            continue
        listed.add(kind)
        info = inspect.type_info(kind)
        assert isinstance(info, inspect.StructType)
        found[f"`{info.tag}`" if info.tag is not None else kind.__name__] = ", ".join(
            f"{field.encode_name} {written(field.type, waiting)}{'?' * may_be_absent(field)}" for field in info.fields
        )
    return found


def may_be_absent(field: inspect.Field) -> bool:
    """Its default is not to be there."""
    return not field.required and field.default is field.default_factory is msgspec.NODEFAULT


def number(value: int) -> str:
    """Powers of two are recognised."""
    return f"2^{value.bit_length() - 1}" if value >= 2**20 and value & (value - 1) == 0 else str(value)


def between(low: int | None, high: int | None) -> str:
    """` 16`, ` 1..16`, ` ..16` of a length."""
    if low == high and low is not None:
        return f" {number(low)}"
    return "" if high is None else f" {low or ''}..{number(high)}"


def written(kind: inspect.Type, inner: list[Kind]) -> str:
    """One type as the documents write it; values that have fields of their own go to `inner`."""
    match kind:
        case inspect.IntType(ge=low, gt=above, le=high, lt=below):
            lowest = low if low is not None else above + 1 if above is not None else None
            highest = high if high is not None else below - 1 if below is not None else None
            assert lowest is not None and highest is not None, "every number has bounds"
            return f"int {'-' if lowest < 0 else ''}{number(abs(int(lowest)))}..{number(int(highest))}"
        case inspect.BytesType(min_length=low, max_length=high):
            return f"bytes{between(low, high)}"
        case inspect.StrType(min_length=low, max_length=high, pattern=pattern):
            return f"text{between(low, high)}" + (f" `{pattern}`".replace("|", "\\|") if pattern else "")
        case inspect.BoolType():
            return "flag"
        case inspect.LiteralType(values=values):
            return " or ".join(f'"{value}"' for value in values)
        case inspect.VarTupleType(item_type=item, min_length=low, max_length=high):
            return f"list{between(low, high)} of ({written(item, inner)})"
        case inspect.TupleType(item_types=items):
            return "list of " + " and ".join(f"({written(item, inner)})" for item in items)
        case inspect.StructType(cls=cls, tag=tag):
            inner.append(cls)
            return cls.__name__ if tag is None else f"`{tag}`"
    raise TypeError(f"no way to write {kind}")


@pytest.mark.parametrize("document", KINDS)
def test_the_fields_are_the_code_s(document: str) -> None:
    spec = specs.load(document)
    for heading, rows in tables(document).items():
        listed = {row["type"]: row["fields"] for row in spec.table(heading)}
        assert listed == {name: fields.replace("\\|", "|") for name, fields in rows.items()}


if __name__ == "__main__":
    for document in KINDS:
        for heading, rows in tables(document).items():
            print(f"{document}: {heading}\n\n| type | fields |\n| --- | --- |")
            print("\n".join(f"| {name} | {fields} |" for name, fields in rows.items()))
