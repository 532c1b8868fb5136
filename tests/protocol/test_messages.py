"""Every message: round trip, hostile bytes, and vectors that an independent MessagePack reader understands."""

from __future__ import annotations

import json
import typing
from pathlib import Path

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

from protocol import wire
from protocol.errors import RemoteViolation
from protocol.messages import STATEMENT_KINDS, Message, message_decoder
from protocol.units import PeerId

SENDER = PeerId(b"s" * 32)
KINDS: tuple[type[msgspec.Struct], ...] = typing.get_args(Message)
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "messages.json").read_text())
BY_NAME = {kind.__name__: kind for kind in KINDS}


def values(kind: inspect.Type) -> st.SearchStrategy[object]:
    """Any value of a message field's type, within its bounds."""
    match kind:
        case inspect.StructType(cls=cls, fields=fields):
            return st.builds(cls, **{field.name: values(field.type) for field in fields})
        case inspect.IntType(ge=low, le=high):
            return st.integers(min_value=low, max_value=high)
        case inspect.BytesType(min_length=least, max_length=most):
            return st.binary(min_size=least or 0, max_size=min(most or 64, 64))
        case inspect.StrType(pattern=str(pattern)):
            return st.from_regex(pattern.replace("$", r"\Z"), fullmatch=True).filter(lambda text: len(text) <= 64)
        case inspect.StrType(min_length=least, max_length=most):
            return st.text(min_size=least or 0, max_size=min(most or 32, 32))
        case inspect.BoolType():
            return st.booleans()
        case inspect.LiteralType(values=options):
            return st.sampled_from(options)
        case inspect.VarTupleType(item_type=item, min_length=least, max_length=most):
            return st.lists(values(item), min_size=least or 0, max_size=min(most or 3, 3)).map(tuple)
        case inspect.TupleType(item_types=items):
            return st.tuples(*map(values, items))
    raise TypeError(f"no strategy for {kind}")


MESSAGES = st.one_of([values(inspect.type_info(kind)) for kind in KINDS])


@given(MESSAGES)
def test_round_trip(message: object) -> None:
    data = wire.encode(message)
    assert wire.decode(data, message_decoder, SENDER) == message


@given(MESSAGES, st.data())
def test_changed_bytes_are_another_message_or_a_violation(message: object, data: st.DataObject) -> None:
    encoded = bytearray(wire.encode(message))
    for _ in range(data.draw(st.integers(min_value=1, max_value=3))):
        encoded[data.draw(st.integers(min_value=0, max_value=len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        other = wire.decode(bytes(encoded), message_decoder, SENDER)
    except RemoteViolation:
        return
    assert wire.encode(other) == encoded


@given(st.binary(max_size=300))
def test_bytes_never_crash(data: bytes) -> None:
    with pytest.raises(RemoteViolation):
        wire.decode(data, message_decoder, SENDER)


def test_tags_are_distinct_and_statements_are_messages() -> None:
    tags = [kind.__struct_config__.tag for kind in KINDS]
    assert len(set(tags)) == len(tags)
    assert set(STATEMENT_KINDS) <= set(KINDS)


def test_every_message_has_a_vector() -> None:
    assert set(BY_NAME) <= {vector["name"] for vector in VECTORS}


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_an_independent_reader_sees_the_same(vector: dict[str, str]) -> None:
    plain = msgpack.unpackb(bytes.fromhex(vector["bytes"]), raw=False)
    assert json.loads(json.dumps(plain, default=bytes.hex)) == vector["value"]


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["name"] in BY_NAME], ids=lambda vector: str(vector["name"]))
def test_vectors_are_what_this_code_reads_and_writes(vector: dict[str, str]) -> None:
    data = bytes.fromhex(vector["bytes"])
    message = wire.decode(data, message_decoder, SENDER)
    assert type(message).__name__ == vector["name"]
    assert wire.encode(message) == data
