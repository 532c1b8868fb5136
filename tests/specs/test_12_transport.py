"""specs/12-transport.md against the transport's modules."""

from __future__ import annotations

import random

import specs
from node import (
    addresses,
    dialer,
    door,
    libp2p_rim,
    links,
    requests,
    sessions,
    streams,
    transport,
)
from protocol.overlay import admission, resume
from protocol.overlay.resume import Heard, resumed

SPEC = specs.load("12-transport")
MODULES = (
    addresses,
    admission,
    dialer,
    door,
    libp2p_rim,
    links,
    requests,
    resume,
    sessions,
    streams,
    transport,
)


def test_constants_are_the_code_s() -> None:
    for name, value in SPEC.constants.items():
        owners = [module for module in MODULES if name in vars(module)]
        assert owners, f"{name} is not in the code"
        assert all(vars(module)[name] == value for module in owners), name


def test_sessions_go_on_as_the_code_does() -> None:
    names = (b"a" * 16, b"b" * 16)
    for session in names:
        for count in (0, 3, 9):
            for first in (1, 4, 12):
                for known in (None, Heard(names[0], count, 0)):
                    before = None if known is None else (known.session, known.count)
                    heard, _ = resumed(known, session, first)
                    assert heard.count == SPEC.functions["goes_on"](before, session, first)
                    for number in (1, 5, 13):
                        assert Heard(session, 4, 0).take(number) is SPEC.functions["is_new"](4, number)


def test_waits_are_the_code_s() -> None:
    backoff = addresses.Backoff(random.Random(7))
    longest = SPEC.functions["waits"](12)
    assert isinstance(longest, list)
    for limit in longest:
        assert limit / 2 <= backoff.next() <= limit
    backoff.reset()
    assert backoff.next() <= addresses.BACKOFF_MIN_S
