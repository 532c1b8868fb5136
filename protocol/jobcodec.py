"""A job specification as plain values (JSON), for the control socket and HTTP. Spec: specs/05-job.md.

Digests are 64 hexadecimal digits; money and spans stay integers; tuples are lists. Errors carry the JSON pointer of the
place that is wrong, in `numbers["pointer"]`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Final, TypeGuard

import msgspec

from protocol import jobrules
from protocol.errors import Refused
from protocol.jobrules import broken
from protocol.jobspec import FILES_MAX, TREES_MAX, Chunk, FileRef, GpuNeed, JobSpec, Placement, Resources, TreeRef
from protocol.proof import Hardware, Proof, Tolerance

PLAIN_DEPTH_MAX: Final = 16
"""Nesting of plain values: a specification needs 5; a bomb has more."""

_HEX_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_MSGSPEC_PATH: Final = re.compile(r" - at `(?:key in )?\$([^`]*)`$")
_UNKNOWN_FIELD: Final = re.compile(r"unknown field `([^`]*)`")
_KINDS: Final = (JobSpec, FileRef, TreeRef, Chunk, GpuNeed, Resources, Placement, Proof, Tolerance, Hardware)
_FIELDS: Final = sorted({field for kind in _KINDS for field in kind.__struct_fields__})
_FILES_FIX: Final = "Send files as a list of {path, digest, size}, trees as one of {mount, digest, list_bytes, size}."
_HEX_IMAGE: Final = re.compile(r"[0-9a-f]{96}")
_IMAGE_FIX: Final = "A measured image is 96 lower-case hexadecimal digits (SHA-384)."
_DIGEST_FIX: Final = "A digest is 64 lower-case hexadecimal digits (BLAKE3)."
_KIND_NAMES: Final[dict[type, str]] = {
    dict: "an object",
    list: "a list",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
}


def spec_to_plain(spec: JobSpec) -> dict[str, object]:
    """The specification as dicts, lists, strings and integers; every field that is set is there, defaults included."""
    builtins = msgspec.to_builtins(spec, builtin_types=(bytes,))
    return {field: _hexed(value) for field, value in builtins.items()}


def spec_from_plain(plain: Mapping[str, object]) -> JobSpec:
    """The specification in plain values; `Refused` (`bad_spec`, `bad_path`) where it breaks a type, bound or rule."""
    if not _is_mapping(plain):
        raise broken("", f"expected an object, found {_kind(plain)}", "Send the specification as a JSON object.")
    if _depth_over(plain, PLAIN_DEPTH_MAX):
        raise broken("", f"nested deeper than {PLAIN_DEPTH_MAX}", "Send the specification as documented.")
    values = dict(plain)
    for field, limit in (("files", FILES_MAX), ("trees", TREES_MAX)):
        if field in values:
            values[field] = _with_bytes(values[field], field, limit)
    if _is_mapping(proof := values.get("proof")) and isinstance(kinds := proof.get("hardware"), list | tuple):
        found = [_kind_with_bytes(kind, f"/proof/hardware/{index}") for index, kind in enumerate(kinds)]
        values["proof"] = {**proof, "hardware": found}
    try:
        spec = msgspec.convert(values, JobSpec, strict=True)
    except msgspec.ValidationError as error:
        raise _explained(str(error)) from error
    jobrules.check(spec)
    return spec


def _with_bytes(items: object, field: str, limit: int) -> list[object]:
    """A list of files or trees with their digests as bytes."""
    if not isinstance(items, list | tuple):
        raise broken(f"/{field}", f"expected a list, found {_kind(items)}", _FILES_FIX)
    if len(items) > limit:
        raise broken(f"/{field}", f"{len(items)} {field}, at most {limit} are allowed", "Pack small files into one.")
    return [_file_with_bytes(item, f"/{field}/{index}") for index, item in enumerate(items)]


def _file_with_bytes(file: object, pointer: str) -> object:
    if not _is_mapping(file):
        raise broken(pointer, f"expected an object, found {_kind(file)}", _FILES_FIX)
    text = file.get("digest")
    if text is None:
        return dict(file)
    if not isinstance(text, str) or not _HEX_DIGEST.fullmatch(text):
        raise broken(f"{pointer}/digest", f"{text!r:.80} is no digest", _DIGEST_FIX)
    return {**file, "digest": bytes.fromhex(text)}


def _kind_with_bytes(kind: object, pointer: str) -> object:
    """What is said of one kind of trusted hardware, its images as bytes."""
    if not _is_mapping(kind) or not isinstance(images := kind.get("images"), list | tuple):
        return kind
    for index, text in enumerate(images):
        if not isinstance(text, str) or not _HEX_IMAGE.fullmatch(text):
            raise broken(f"{pointer}/images/{index}", f"{text!r:.110} is no measurement", _IMAGE_FIX)
    return {**kind, "images": [bytes.fromhex(text) for text in images]}


def _explained(message: str) -> Refused:
    found = _MSGSPEC_PATH.search(message)
    pointer = _pointer(found.group(1)) if found else ""
    detail = message[: found.start()] if found else message
    fix = "Compare with specs/05-job.md."
    unknown = _UNKNOWN_FIELD.search(detail)
    if unknown:
        pointer = f"{pointer}/{_escaped(unknown.group(1))}"
        close = difflib.get_close_matches(unknown.group(1), _FIELDS, n=1)
        fix = f"Did you mean `{close[0]}`?" if close else fix
    return broken(pointer, detail, fix)


def _pointer(path: str) -> str:
    """msgspec's `.files[0].digest` as the JSON pointer `/files/0/digest` (RFC 6901)."""
    parts = re.findall(r"\.([^.\[\]]+)|\[([^\]]+)\]", path)
    return "".join(f"/{_escaped(name or index)}" for name, index in parts)


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")


def _hexed(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | tuple):
        return [_hexed(item) for item in value]
    if _is_mapping(value):
        return {key: _hexed(item) for key, item in value.items()}
    return value


def _is_mapping(value: object) -> TypeGuard[Mapping[str, object]]:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def _depth_over(value: object, allowed: int) -> bool:
    children = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return allowed < 0 or any(_depth_over(child, allowed - 1) for child in children)


def _kind(value: object) -> str:
    return _KIND_NAMES.get(type(value), type(value).__name__)
