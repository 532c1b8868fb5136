"""Answers of the node, decoded before anything of them leaves the gateway: they are input like any other."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from gateway.problems import HttpProblem

T = TypeVar("T")


def node_value(plain: object, kind: type[T]) -> T:
    """A node's answer as the struct that may leave the gateway; unknown fields stay behind."""
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        raise HttpProblem("node_protocol", f"unexpected answer of the node: {error}") from error
