"""How `proof.hardware` of a job file is read: whose quotes spare a result half of its audits.

Guide: docs/verification.md; rules: specs/40-attestation.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, get_args

from protocol import yaml_values
from protocol.proof import IMAGES_MAX, VERSIONS_MAX, Hardware, HardwareKind
from protocol.yaml_nodes import Items, Node, wrong

KINDS: Final[Mapping[str, HardwareKind]] = MappingProxyType({kind: kind for kind in get_args(HardwareKind)})

KIND_KEYS: Final = frozenset(["images", "versions"])

VERSION_MAX: Final = 255
"""A security version is one byte."""

_IMAGE: Final = re.compile(r"[0-9a-fA-F]{96}")
_IMAGE_FORM: Final = "a measurement: 96 hexadecimal digits"
_IMAGE_FIX: Final = "`shoal doctor` on a machine of yours that runs the image shows it."
_IMAGES_FORM: Final = "a list of measured images"
_VERSIONS_FORM: Final = "a list of security versions, such as [5, 0, 6]"
_LOOKALIKES: Final = {
    "snp": "The key is called `sev-snp`.",
    "sev": "The key is called `sev-snp`: plain SEV signs nothing.",
    "amd": "The key is called `sev-snp`.",
    "intel": "The key is called `tdx`.",
    "sgx": "Enclaves are not read: the key for Intel's virtual machines is `tdx`.",
    "gpu": "The key is called `nvidia`.",
}


def read_hardware(node: Node, key: str) -> tuple[Hardware, ...]:
    """`{tdx: {images: […], versions: […]}, nvidia: {images: […]}}`; `images` must be there."""
    said = yaml_values.pairs(node, key, KINDS, _LOOKALIKES)
    if not said:
        raise yaml_values.mismatch(
            node, key, f"at least one of {', '.join(KINDS)}", "Leave `hardware` out, or name one."
        )
    return tuple(_read_kind(KINDS[kind], value, f"{key}.{kind}") for kind, value in said.items())


def _read_kind(kind: HardwareKind, node: Node, key: str) -> Hardware:
    said = yaml_values.pairs(node, key, KIND_KEYS, {"measurements": "The key is called `images`."})
    if "images" not in said:
        raise wrong(node.place, f"{key}.images", f"expected {_IMAGES_FORM}, found nothing", _IMAGE_FIX,
                                code="missing_key")  # fmt: skip
    return Hardware(kind, _images(said["images"], f"{key}.images"), _versions(said, key))


def _images(node: Node, key: str) -> tuple[bytes, ...]:
    items = node.values if isinstance(node, Items) else (node,)
    if not 1 <= len(items) <= IMAGES_MAX:
        raise yaml_values.mismatch(node, key, f"1 to {IMAGES_MAX} measured images")
    return tuple(_image(item, f"{key}[{index}]") for index, item in enumerate(items))


def _image(node: Node, key: str) -> bytes:
    text = yaml_values.scalar(node, key, _IMAGE_FORM)
    if not _IMAGE.fullmatch(text):
        raise yaml_values.mismatch(node, key, _IMAGE_FORM, _IMAGE_FIX)
    return bytes.fromhex(text)


def _versions(said: Mapping[str, Node], key: str) -> tuple[int, ...]:
    if "versions" not in said:
        return ()
    node, key = said["versions"], f"{key}.versions"
    items = yaml_values.items(node, key, _VERSIONS_FORM)
    if len(items) > VERSIONS_MAX:
        raise yaml_values.mismatch(node, key, f"at most {VERSIONS_MAX} security versions")
    return tuple(yaml_values.integer(item, f"{key}[{index}]", 0, VERSION_MAX) for index, item in enumerate(items))
