"""Writes messages.json: one example of every message, built from the types alone, with the bytes that go over the wire.

python tests/vectors/make_vectors.py          # after a change of protocol/messages.py; review the difference
"""

from __future__ import annotations

import json
import sys
import typing
from pathlib import Path

import msgspec
from msgspec import inspect

sys.path.insert(0, str(Path(__file__).parents[2]))

from protocol import wire
from protocol.jobspec import JobSpec, Manifest
from protocol.messages import Message
from protocol.operations import Operation

FILE = Path(__file__).with_name("messages.json")
TEXTS = {
    "^([a-z0-9][a-z0-9-]*)?$": "name-1",
    "^[a-z0-9][a-z0-9._-]*$": "name-1",
    "^[A-Za-z_][A-Za-z0-9_]{0,63}$": "NAME_1",
}


def kinds() -> list[type[msgspec.Struct]]:
    """Everything that has an encoding of its own."""
    return [
        *typing.get_args(Message),
        *typing.get_args(Operation),
        *(wire.Signed, JobSpec, Manifest),
    ]


def sample(kind: inspect.Type, seed: int = 1) -> object:
    """A plain value of a type: small numbers, short texts, two items where there may be many."""
    match kind:
        case inspect.StructType(cls=cls, fields=fields):
            values = {field.name: sample(field.type, seed + index) for index, field in enumerate(fields)}
            return msgspec.convert(values, cls, strict=False) if cls.__struct_config__.tag is None else cls(**values)
        case inspect.IntType(ge=low, le=high):
            return min(max(low or 0, seed), seed if high is None else high)
        case inspect.BytesType(min_length=size):
            return bytes([seed % 256]) * (size or 3)
        case inspect.StrType(pattern=pattern):
            return TEXTS[pattern] if pattern else f"text {seed}"
        case inspect.BoolType():
            return True
        case inspect.LiteralType(values=values):
            return min(map(str, values))
        case inspect.VarTupleType(item_type=item, max_length=most):
            return tuple(sample(item, seed + index) for index in range(min(2, most or 2)))
        case inspect.TupleType(item_types=items):
            return tuple(sample(item, seed) for item in items)
    raise TypeError(f"no sample for {kind}")


def vectors() -> list[dict[str, object]]:
    """Name, plain value (bytes as hexadecimal text) and encoding of every kind."""
    found = []
    for kind in kinds():
        value = sample(inspect.type_info(kind))
        encoded = wire.encode(value)
        plain = msgspec.to_builtins(value, enc_hook=None, builtin_types=(bytes,))
        found.append({"name": kind.__name__, "value": hex_of(plain), "bytes": encoded.hex()})
    return found


def hex_of(plain: object) -> object:
    """Bytes as hexadecimal text, tuples as lists: what JSON can hold."""
    if isinstance(plain, bytes):
        return plain.hex()
    if isinstance(plain, dict):
        return {key: hex_of(value) for key, value in plain.items()}
    if isinstance(plain, list | tuple):
        return [hex_of(value) for value in plain]
    return plain


if __name__ == "__main__":
    FILE.write_text(json.dumps(vectors(), indent=1) + "\n")
