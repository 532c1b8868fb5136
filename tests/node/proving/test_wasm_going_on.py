"""Modules that are killed between two units and go on elsewhere: same memories and fuel, and nothing believed that is
not signed for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
import pytest
import trio

from node.executors import wasm_units
from node.executors.wasm import WasmExecutor
from node.runtimes import Runtime
from protocol import jobrules
from protocol.completions import FirstUnits, Recovering, Sealed
from protocol.errors import Refused
from protocol.jobspec import Checkpoint, JobSpec
from protocol.prefix import begins, root_of
from protocol.proof import Proof
from protocol.units import Digest
from tests.node.protection.stand import Host, Stand
from tests.node.proving.modules import binary, halting
from tests.node.proving.ways import done, leased, resuming, trace
from tests.node.waiting import happens
from verifier.tensors import decode

UNITS: Final = 8
HALT: Final = 5
FUEL: Final = 10**14
"""Days of it: the unit that never ends is stopped by its test."""


@pytest.fixture
def stand(tmp_path: Path, numpy_runtimes: Mapping[str, Runtime]) -> Stand:
    return Stand(tmp_path, WasmExecutor(), numpy_runtimes)


def spec_of(stand: Stand, host: Host, text: str) -> JobSpec:
    """Of one chunk, protected; every host has its module."""
    spec = stand.spec(host, "m.wasm", files={"m.wasm": binary(text)}, runtime="wasm")
    proof = Proof("deterministic", units=UNITS)
    return msgspec.structs.replace(spec, fuel=FUEL, numeric="D0", proof=proof, checkpoint=Checkpoint())


async def lost(stand: Stand, host: Host, text: str) -> Sealed:
    """A snapshot of a module that came as far as the unit that it never ends; then the host is gone."""
    work = leased(spec_of(stand, host, text), 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.run, work)
        await happens(lambda: max(done(host, work), default=0) >= HALT)
        sealed = await host.sealed(work.task)
        host.runner.stop(work.task)
    return sealed


async def test_a_module_goes_on_elsewhere_to_the_last_bit_and_the_last_unit_of_fuel(stand: Stand) -> None:
    one, two = await stand.host(), await stand.host()
    spec = spec_of(stand, one, halting(-1))
    whole = trace(one, await one.run(leased(spec, 1)))
    sealed = await lost(stand, one, halting(HALT))
    assert (sealed.tier, sealed.step, sealed.first) == ("application", HALT, FirstUnits(HALT, root_of(whole, HALT), 0))
    resume = resuming(sealed, 1)
    work = leased(spec, 2, resume)
    ended = await two.run(work)
    assert two.lines == [f"shoal: goes on from snapshot 1 at unit {HALT}"]
    assert (ended.begun, trace(two, ended)) == (HALT, whole)
    assert begins(whole, resume.manifest.inherited or ())
    memory = decode(two.output(ended)["state.shoal"])["bytes"].tobytes()
    aux = decode(two.blobs.read(Digest(whole.leaves[-2].aux), 1 << 20))
    assert aux["pages"].tobytes() == wasm_units.page_root(memory)
    assert not list((two.folder / "tasks").iterdir())


async def test_changed_memories_are_not_gone_on_from(stand: Stand) -> None:
    """Signed for are those of the module, in the snapshot lie others."""
    one, two = await stand.host(), await stand.host()
    spec = spec_of(stand, one, halting(-1))
    whole = trace(one, await one.run(leased(spec, 1)))
    false = await lost(stand, one, halting(HALT, first=2))
    assert false.first is not None and false.first.root != root_of(whole, HALT)
    signed = replace(false, first=replace(false.first, root=root_of(whole, HALT)))
    ended = await two.run(leased(spec, 2, resuming(signed, 1)))
    assert (ended.begun, trace(two, ended)) == (0, whole)
    assert "signed for" in two.lines[0] and two.lines[0].endswith("starting from the beginning")
    assert [item.phase for item in two.said if isinstance(item, Recovering)] == ["began_again"]


async def test_a_memory_of_another_size_costs_a_start_and_is_not_the_fault_of_the_job(stand: Stand) -> None:
    """Well formed and signed for, by somebody who wants others to look like failures."""
    one, two = await stand.host(), await stand.host()
    spec = spec_of(stand, one, halting(-1))
    sealed = await lost(stand, one, halting(HALT, pages=3))
    ended = await two.run(leased(spec, 2, resuming(sealed, 1)))
    assert (ended.reason, ended.begun) == ("ok", 0), two.lines
    assert two.lines[1] == "shoal: the program failed on the states of the snapshot; starting from the beginning"


async def test_snapshots_are_wanted_of_modules_in_units_and_of_no_others(stand: Stand) -> None:
    spec = spec_of(stand, await stand.host(), halting(-1))
    jobrules.check(spec)
    assert spec.is_protected and spec.can_be_saved(0)
    assert not spec.can_be_saved(1), "the reduce step has no units"
    whole = msgspec.structs.replace(spec, proof=msgspec.UNSET)
    assert not whole.is_protected
    with pytest.raises(Refused, match="without units"):
        jobrules.check(whole)
