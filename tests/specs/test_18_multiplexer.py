"""specs/18-multiplexer.md against the muxer's modules."""

from __future__ import annotations

import inspect

from hypothesis import given
from hypothesis import strategies as st

import specs
from node.mux import connection
from protocol.overlay import noise_records, yamux, yamux_conduct, yamux_frames, yamux_limits
from protocol.overlay.noise_records import Sealer
from protocol.overlay.yamux_places import Places
from protocol.overlay.yamux_stream import Stream

SPEC = specs.load("18-multiplexer")
MODULES = (connection, noise_records, yamux_frames, yamux_limits)


def test_constants_are_the_code_s() -> None:
    for name, value in SPEC.constants.items():
        owners = [module for module in MODULES if name in vars(module)]
        assert owners, f"{name} is not in the code"
        assert all(vars(module)[name] == value for module in owners), name


def test_frames_are_the_code_s() -> None:
    spec = SPEC.functions["header"]
    rows = [rows for title, rows in SPEC.tables if title == "frames"]
    kinds = {row["kind"].strip("`"): int(row["number"]) for row in rows[0]}
    flags = {row["flag"].strip("`"): int(row["bit"]) for row in rows[1]}
    assert kinds == {kind.name: kind.value for kind in yamux_frames.Kind}
    assert flags == {flag.name: flag.value for flag in yamux_frames.Flag}
    for kind in yamux_frames.Kind:
        assert spec(kind, 5, 7, 2**32 - 1) == yamux_frames.header(kind, 5, 7, 2**32 - 1)


@given(st.integers(0, 300_000))
def test_records_have_the_size_the_spec_says(size: int) -> None:
    assert len(Sealer(bytes(32), 0).seal(bytes(size))) == SPEC.functions["sealed_bytes"](size)


def test_nonces_count() -> None:
    assert SPEC.functions["nonce"](258) == bytes(4) + b"\2\1" + bytes(6)


@given(st.integers(0, 4), st.integers(0, 2**20), st.integers(0, 2**20), st.integers(0, yamux_limits.GROWTH_BYTES_MAX))
def test_credit_is_the_code_s(doubled: int, consumed: int, buffered: int, grown: int) -> None:
    stream, places = Stream(1, is_ours=True), Places(is_initiator=True)
    stream.window = yamux_limits.WINDOW_START_BYTES << doubled
    stream.consumed, stream.buffered, places.grown = consumed, buffered, grown
    given_back = SPEC.functions["given_back"](stream.window, consumed, buffered, grown)
    if 2 * consumed >= stream.window:
        assert given_back == consumed + places.widen(stream)
    else:
        assert given_back == 0


def test_buckets_and_codes_are_the_code_s() -> None:
    tables = [rows for title, rows in SPEC.tables if title == "violations"]
    for row in tables[1]:
        allowance = vars(yamux_limits)[row["bucket"].strip("`")]
        assert (allowance.burst, allowance.per_second) == (int(row["burst"]), int(row["per second"]))
    sources = "".join(inspect.getsource(module) for module in (yamux, yamux_conduct, noise_records))
    for row in tables[0]:
        assert f'"{row["code"].strip("`")}"' in sources, row["code"]
