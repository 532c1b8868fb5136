"""specs/21-reach.md against the machines and drivers of reach."""

from __future__ import annotations

import random
import typing

from hypothesis import given
from hypothesis import strategies as st

import specs
from node.reach import knock
from protocol import units
from protocol.identity import Identity
from protocol.overlay import (
    dial_budget,
    endpoint,
    nat_kind,
    observed,
    pcp,
    port_mapping,
    reachability,
    verdicts,
)
from protocol.overlay.endpoint import Endpoint
from protocol.units import SECOND, Micros

SPEC = specs.load("21-reach")
MODULES = (units, endpoint, observed, port_mapping, reachability, verdicts, knock)
NOW = Micros(1_800_000_000 * SECOND)
ME = Identity(b"m" * 32)
PEERS = [Identity(bytes([number]) * 32) for number in range(1, 4)]
HOME = "/ip4/44.1.2.3/tcp/4301"


def test_constants_are_the_code_s() -> None:
    for name, value in SPEC.constants.items():
        owners = [module for module in MODULES if name in vars(module)]
        assert owners, f"{name} is not in the code"
        assert all(vars(module)[name] == value for module in owners), name


def test_kinds_and_outcomes_are_the_code_s() -> None:
    assert tuple(row["kind"] for row in SPEC.table("how others see us")) == typing.get_args(nat_kind.NatKind)
    fields = {row["field of a verdict"]: row[""] for row in SPEC.table("reachability, signed")}
    assert tuple(fields) == verdicts.Verdict.__struct_fields__
    assert tuple(fields["outcome"].split(", ")) == typing.get_args(verdicts.Outcome)


def test_budgets_are_the_code_s() -> None:
    tables = [rows for title, rows in SPEC.tables if title == "reachability, signed"]
    rows = {row["who"]: row for row in tables[1]}
    rates = {
        "one asker": dial_budget.PER_ASKER,
        "one address": dial_budget.PER_ADDRESS,
        "one subnet": dial_budget.PER_SUBNET,
        "all": dial_budget.IN_ALL,
    }
    scale = {"s": SECOND, "ms": SECOND // 1000}
    for who, rate in rates.items():
        assert int(rows[who]["may have dialled"]) == rate.burst
        number, unit = rows[who]["then"].removeprefix("one per ").split()
        assert int(number) * scale[unit] == rate.interval


ips = st.sampled_from(["44.1.2.3", "44.5.6.7", "192.168.1.9"])
seen = st.lists(st.tuples(st.sampled_from(["11.1.0.1", "11.2.0.1", "11.3.0.1"]), ips, st.sampled_from([4301, 5000])))


@given(seen, st.lists(ips))
def test_kind_is_the_code_s(pairs: list[tuple[str, str, int]], own: list[str]) -> None:
    told = SPEC.functions["kind"]([(looked, f"{ip}:{port}") for looked, ip, port in pairs], own)
    assert nat_kind.kind_of([(Endpoint(looked, 4001), Endpoint(ip, port)) for looked, ip, port in pairs], own) == told


times = st.integers(0, 20_000)


@given(times, times, times, times)
def test_restarts_are_the_code_s(before: int, at_before: int, epoch: int, passed: int) -> None:
    arguments = (before, at_before, epoch, at_before + passed)
    assert pcp.has_rebooted(*arguments) == SPEC.functions["has_rebooted"](*arguments)


@given(st.lists(st.sampled_from(typing.get_args(verdicts.Outcome)), max_size=reachability.WITNESSES))
def test_decisions_are_the_code_s(voices: list[verdicts.Outcome]) -> None:
    machine = reachability.Reachability(ME.peer, "reef", random.Random(1))
    pool = [reachability.Witness(one.peer, f"11.{number}.0.1") for number, one in enumerate(PEERS[: len(voices)], 1)]
    for effect in machine.begin(b"n" * 16, (HOME,), pool, NOW):
        if isinstance(effect, reachability.Ask):
            number = [one.peer for one in PEERS].index(effect.peer)
            verdict = verdicts.Verdict(ME.peer, HOME, voices[number], b"n" * 16, NOW)
            statement = verdicts.sign_verdict(PEERS[number], "reef", verdict)
            machine.answered(effect.peer, verdicts.DialledBack((statement,), HOME), NOW)
    yes = voices.count("reachable")
    told = SPEC.functions["decide"](yes, len(voices) - yes)
    assert machine.state == ("unknown" if told == "undecided" else told)
